# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
#
# bench.sh - a bench as a test runs it; to be sourced, behind tap.sh
#
#	bench_program=bench	which one of tests/bench/
#
# All that it starts is known by an environment variable that it inherits, and ended with the test.

bench_program=${bench_program:?which bench}
bench_dir=$(realpath "$(dirname "${BASH_SOURCE[0]}")/../bench")
dir=$(mktemp -d)
mark=BENCH_RUN=$$.$RANDOM
trap 'kill $(processes .) 2>/dev/null; rm -rf "$dir"' EXIT
trap 'exit 130' INT TERM

bench() { env "$mark" "$bench_dir/$bench_program" --quick "$@"; }
# what it has started, and whose command line matches
processes() {
	ps -o pid=,args= -p "$(grep -lszxF "$mark" /proc/[0-9]*/environ | cut -d/ -f3 | paste -sd,)" 2>/dev/null |
		grep -e "$1" | awk '{ print $1 }'
}
some() { [ -n "$(processes "$1")" ]; }
none() { ! some .; }

# Every measure of so many candidates gives a figure for ours: in how many rows at least.
gives_figures() { # ROWS CANDIDATES
	bench --candidates "$2" --csv "$dir/all.csv" || return 1
	awk -F, -v rows="$1" 'NR > 1 { all[$1]; if ($3 == "ours") found[$1] = $4 }
		END { for (key in all) if (!(found[key] > 0)) { print "no " key; bad = 1 }
			exit bad || length(all) < rows }' "$dir/all.csv"
}

# Where PATH has only what the bench itself needs, so many candidates are not installed.
without() { # NUMBER CANDIDATES MEASURE
	mkdir "$dir/bin"
	for program in python3 env unshare setpriv nsenter ip sh mount mkdir cat sysctl; do
		ln -s "$(command -v $program)" "$dir/bin/"
	done
	PATH=$dir/bin "$bench_dir/$bench_program" --quick --candidates "$2" --only "$3" | grep -c 'not installed' | grep -x "$1"
}

# the bench itself, rather than the shell that waits for it
the_bench() { processes "$bench_dir/$bench_program --quick" | head -n 1; }

# In the background, until a process like this is there; then place is its directory.
start() { # PATTERN ARG...
	bench --rounds 1000 "${@:2}" >"$dir/out" 2>&1 &
	pid=$!
	if ! wait_for 60 some "$1"; then
		cat "$dir/out"
		kill "$(the_bench)"
		wait $pid
		return 1
	fi
	# shellcheck disable=SC2034 # the test's
	place=$(tr '\0' '\n' <"/proc/$(processes /var/tmp/pair | head -n 1)/cmdline" | grep -om1 '/var/tmp/pair[^/]*')
}
ended() { # SIGNAL STATUS PATTERN ARG...
	start "${@:3}" || return 1
	kill -"$1" "$(the_bench)"
	wait $pid
	[ $? = "$2" ] && wait_for 20 none
}
