#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# bench-tells-and-leaves-nothing.sh - the bench says what it could measure, and cleans up however it ends
set -uo pipefail
here=$(realpath "$(dirname "$0")")
# shellcheck source=tests/lib/tap.sh
. "$here/../lib/tap.sh"
dir=$(mktemp -d)
mark=BENCH_RUN=$$.$RANDOM
place=
trap 'kill $(processes .) 2>/dev/null; rm -rf "$dir"' EXIT
trap 'exit 130' INT TERM

bench() { env "$mark" "$here/../bench/bench" --quick "$@"; }
# what it has started, and whose command line matches
processes() {
	local pid
	grep -lszxF "$mark" /proc/[0-9]*/environ | cut -d/ -f3 | while read -r pid; do
		tr '\0' ' ' <"/proc/$pid/cmdline" | grep -q "$1" && echo "$pid"
	done 2>/dev/null
}
some() { [ -n "$(processes "$1")" ]; }
none() { ! some .; }

everything() {
	bench --candidates direct,bare,ours --csv "$dir/all.csv" || return 1
	awk -F, 'NR > 1 { all[$1]; if ($3 == "ours") found[$1] = $4 }
		END { for (key in all) if (!(found[key] > 0)) { print "no " key; bad = 1 }
			exit bad || length(all) < 35 }' "$dir/all.csv"
}
it "every measure gives a figure" everything
it "and no process is left" wait_for 5 none

without() {
	mkdir "$dir/bin"
	for program in python3 env unshare setpriv nsenter ip sh mount mkdir cat sysctl; do
		ln -s "$(command -v $program)" "$dir/bin/"
	done
	PATH=$dir/bin "$here/../bench/bench" --quick --candidates socat,haproxy,ssh,direct --only rtt-1 |
		grep -c 'not installed' | grep -x 3
}
it "what is not installed is said to be so, and is no failure" without

start() { # in the background, until it measures
	bench --rounds 1000 --only rtt-64 --candidates bare,ours,socat >"$dir/out" 2>&1 &
	pid=$!
	wait_for 10 some 'measure.* rtt'
	place=$(tr '\0' '\n' <"/proc/$(processes 'measure.* rtt' | head -n 1)/cmdline" | grep -om1 '/var/tmp/pair[^/]*')
}
ended() { # SIGNAL STATUS
	start && kill -"$1" "$(processes bench/bench | head -n 1)"
	wait $pid
	[ $? = "$2" ] && wait_for 5 none
}
it "ended by SIGTERM, it leaves no process" ended TERM 130
it "and no directory" test -n "$place" -a ! -e "$place"
it "killed, it leaves no process" ended KILL 137
rm -rf "$place"

dies() {
	bench --rounds 3 --only rtt-64 --candidates bare,ours >"$dir/out" 2>&1 &
	pid=$!
	wait_for 10 some 'measure.* rtt' && kill -KILL "$(processes 'udsproxyd.* 1 10' | head -n 1)"
	wait $pid
	[ $? = 1 ] && grep -E '^ours: rtt-64' "$dir/out" && grep -E '^round trip, 64 B, p50, us +[0-9]' "$dir/out"
}
it "a daemon that dies is told, and the others are measured" dies
it "and no process is left then" wait_for 5 none

tap_done
