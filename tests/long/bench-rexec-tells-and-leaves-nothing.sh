#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# bench-rexec-tells-and-leaves-nothing.sh - make bench-rexec says what it could measure, and cleans up however it ends
set -uo pipefail
here=$(realpath "$(dirname "$0")")
# shellcheck source=tests/lib/tap.sh
. "$here/../lib/tap.sh"
bench_program=bench-rexec
# shellcheck source=tests/lib/bench.sh
. "$here/../lib/bench.sh"
everybody=local,ours,ssh,cold-ssh,dropbear

it "every measure gives a figure" gives_figures 18 $everybody,bare
it "and no process is left" wait_for 20 none
it "what is not installed is said to be so, and is no failure" without 4 ssh,cold-ssh,dropbear,local starts-1
it "ended by SIGTERM, it leaves no process" ended TERM 130 'launch starts' --only starts --candidates $everybody
it "and no directory" test -n "$place" -a ! -e "$place"
it "killed, it leaves no process" ended KILL 137 'launch starts' --only starts --candidates $everybody
rm -rf "$place"
it "killed while programs run, neither" ended KILL 137 'rexec .*sleep' --only idle,starts --candidates ours
rm -rf "$place"

dies() {
	bench --rounds 3 --only starts-1 --candidates local,ours >"$dir/out" 2>&1 &
	pid=$!
	wait_for 60 some 'launch starts' && kill -KILL "$(processes 'rexec_server' | head -n 1)"
	wait $pid
	[ $? = 1 ] && grep -E '^rexec: starts-1' "$dir/out" && grep -E '^/usr/bin/true, .*, p50, ms +[0-9]' "$dir/out"
}
it "a rexec_server that dies is told, and the others are measured" dies
it "and no process is left then" wait_for 20 none

tap_done
