#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# bench-tells-and-leaves-nothing.sh - the bench says what it could measure, and cleans up however it ends
set -uo pipefail
here=$(realpath "$(dirname "$0")")
# shellcheck source=tests/lib/tap.sh
. "$here/../lib/tap.sh"
bench_program=bench
# shellcheck source=tests/lib/bench.sh
. "$here/../lib/bench.sh"

it "every measure gives a figure" gives_figures 35 direct,bare,ours
it "and no process is left" wait_for 20 none
it "what is not installed is said to be so, and is no failure" without 3 socat,haproxy,ssh,direct rtt-1
it "ended by SIGTERM, it leaves no process" ended TERM 130 'measure.* rtt' --only rtt-64 --candidates bare,ours,socat
it "and no directory" test -n "$place" -a ! -e "$place"
it "killed, it leaves no process" ended KILL 137 'measure.* rtt' --only rtt-64 --candidates bare,ours,socat
rm -rf "$place"

dies() {
	bench --rounds 3 --only rtt-64 --candidates bare,ours >"$dir/out" 2>&1 &
	pid=$!
	wait_for 60 some 'measure.* rtt' && kill -KILL "$(processes 'udsproxyd.* 1 10' | head -n 1)"
	wait $pid
	[ $? = 1 ] && grep -E '^ours: rtt-64' "$dir/out" && grep -E '^round trip, 64 B, p50, us +[0-9]' "$dir/out"
}
it "a daemon that dies is told, and the others are measured" dies
it "and no process is left then" wait_for 20 none

tap_done
