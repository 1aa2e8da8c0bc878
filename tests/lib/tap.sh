# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
#
# tap.sh - what a test script needs to speak TAP (testanything.org). Source it.
#
#	it NAME CMD...      run CMD (in this shell); ok when it succeeds, else not ok with its output
#	ok|not_ok NAME      say so yourself; not_ok shows its stdin when that is no terminal
#	skip NAME WHY
#	wait_for SEC CMD... run CMD until it succeeds; fail after SEC
#	bail_out WHY        end here
#	tap_done            the plan, and the exit status of the script
#
# Names are behaviours. The time that a test took is shown behind its name, as a comment.
# TAP_SKIP, a pattern, names tests to skip.

tap_count=0
tap_failed=0
tap_since=$EPOCHREALTIME

# seconds SINCE - the time that has passed, as 1.23
seconds() {
	local us=$((${EPOCHREALTIME/[.,]/} - ${1/[.,]/}))
	printf '%d.%02d' $((us / 1000000)) $((us % 1000000 / 10000))
}

tap_line() { # STATUS NAME [DIRECTIVE]
	tap_count=$((tap_count + 1))
	printf '%s %d - %s # %s\n' "$1" "$tap_count" "$2" "${3:-$(seconds "$tap_since") s}"
	tap_since=$EPOCHREALTIME
}

ok() { tap_line ok "$1"; }
skip() { tap_line ok "$1" "SKIP $2"; }
not_ok() {
	tap_failed=$((tap_failed + 1))
	tap_line 'not ok' "$1"
	[ -t 0 ] || sed 's/^/#   /'
}

it() { # NAME CMD...
	local tap_name=$1 tap_out tap_status=0 # CMD sees these: shell functions' scope is dynamic
	shift
	if [[ -n ${TAP_SKIP:-} && $tap_name =~ $TAP_SKIP ]]; then
		skip "$tap_name" "as TAP_SKIP says"
		return 0
	fi
	tap_since=$EPOCHREALTIME
	tap_out=$(mktemp)
	"$@" >"$tap_out" 2>&1 </dev/null || tap_status=$?
	if [ "$tap_status" -eq 0 ]; then
		ok "$tap_name"
	else
		not_ok "$tap_name" < <(
			echo "\$ $*"
			awk '!seen[$0]++' "$tap_out" | tail -n 40 # who polls, repeats
		)
	fi
	rm -f "$tap_out"
	return "$tap_status"
}

wait_for() { # SEC CMD...
	local end=$((SECONDS + $1))
	shift
	until "$@"; do
		[ "$SECONDS" -lt "$end" ] || return 1
		sleep 0.1
	done
}

bail_out() { # WHY - the rest would be pointless
	echo "Bail out! $1"
	exit 1
}

tap_done() {
	echo "1..$tap_count"
	[ "$tap_failed" -eq 0 ] || echo "# $tap_failed of $tap_count failed"
	[ "$tap_failed" -eq 0 ]
}
