#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# qtcfg adds, shows and deletes; refuses each kind of mistake with a message and an exit status
# of its own; keeps what it does not change; loses nothing when many run at once.
set -u
cd "$(dirname "$0")/../.." || exit 2
# shellcheck source=tests/lib/tap.sh
. tests/lib/tap.sh
qtcfg=${BIN:-build/testmode/bin}/qtcfg
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
udsconnect=$dir/udsproxyd/udsconnect
whitelist=$dir/rexec/whitelist

q() { "$qtcfg" --config-dir "$dir" --runtime-dir "$dir/none" "$@"; }

# answers STATUS PATTERN CMD... - CMD ends with STATUS, and what it says (all of it) matches
answers() {
	local want=$1 pattern=$2 status=0 out
	shift 2
	out=$("$@" 2>&1) || status=$?
	# shellcheck disable=SC2254
	case $out in
	$pattern) ;;
	*) echo "said: $out"; return 1 ;;
	esac
	[ "$status" -eq "$want" ] || { echo "exit status $status, not $want: $out"; return 1; }
}

holds() { # FILE TEXT - FILE is exactly TEXT
	diff <(printf '%s' "$2") "$1"
}

unchanged() { # CMD... - the list is as it was
	local before after
	before=$(ls -li --time-style=full-iso "$udsconnect"; cat "$udsconnect")
	"$@" || return 1
	after=$(ls -li --time-style=full-iso "$udsconnect"; cat "$udsconnect")
	[ "$before" = "$after" ]
}

has_mode() { [ "$(stat -c %a "$1")" = "$2" ]; }

# ---- the guide's own commands
it 'adding makes the list, and says what that changes in test mode' \
	answers 0 "*there was no $udsconnect*test mode*" q -w udsconnect -x /var/lib/libvirt/
it 'a new list has mode 0644' has_mode "$udsconnect" 644
it 'a second entry is added silently' answers 0 '' q -w udsconnect -x /var/run/rexec
it '-z shows entries with their index' \
	answers 0 "udsconnect: $udsconnect
  0  /var/lib/libvirt/
  1  /var/run/rexec" q -w udsconnect -z
it '-z alone shows all lists' answers 0 '*udsconnect:*libvirt*udsaccept:*rexec:*' q -z
it '-z tells a missing list from an empty one' answers 0 '*no such file*' q -w udsaccept -z
it '-y deletes by the index that -z shows' answers 0 '' q -w udsconnect -y 0
it 'the other entry is left' holds "$udsconnect" $'/var/run/rexec\n'
it 'deleting the last entry says that nothing is allowed now' \
	answers 0 '*is empty now: nothing is allowed' q -w udsconnect -y 0
it '-z says so, too' answers 0 '*(empty: nothing is allowed)' q -w udsconnect -z
it 'the empty file stays' test -f "$udsconnect"

# ---- what is not changed stays
printf '# ours\n\n/a   uid=0 # root only\n  # between\n/b\tcreds=no\n/last' >"$udsconnect"
chmod 600 "$udsconnect"
[ "$(id -u)" -ne 0 ] || chown 0:12 "$udsconnect"
owner=$(stat -c %u:%g "$udsconnect")
it 'adding to a file without a last newline' q -w udsconnect -x /new -o uid=0,1 -o gid=5
it 'deleting from the middle' q -w udsconnect -y 1
it 'comments, order and options are kept' \
	holds "$udsconnect" $'# ours\n\n/a   uid=0 # root only\n  # between\n/last\n/new uid=0,1 gid=5\n'
it 'mode and owner are kept' test "$(stat -c %a:%u:%g "$udsconnect")" = "600:$owner"
it 'blanks and hash signs in a path' q -w udsconnect -x '/with blank#x'
it 'they are read back' answers 0 '*  3  /with\\040blank\\043x' q -w udsconnect -z
it 'an abstract name' q -w udsconnect -x @vm
echo half >"$udsconnect.qtcfg~"
it 'what a killed qtcfg left is no obstacle' q -w udsconnect -x /after-a-kill
it 'no temporary file is left' answers 0 udsconnect ls -A "$dir/udsproxyd"

# ---- refusals: a message and a status each, and the list untouched
refused() { unchanged answers "$@"; }
it 'a relative path: 3' refused 3 '*"a/b" is not an absolute path*' q -w udsconnect -x a/b
it 'an empty path: 3' refused 3 '*"" is not an absolute path*' q -w udsconnect -x ''
it 'a path longer than a socket has: 3' \
	refused 3 '*at most 108 bytes*' q -w udsconnect -x "/$(printf '%0108d' 0)"
it 'an abstract name without a name: 3' refused 3 '*abstract name*' q -w udsconnect -x @
it 'a path with "..": 8' refused 8 '*has a ".." in it*' q -w udsconnect -x /a/../b
it '/: 9' refused 9 '*--force*' q -w udsconnect -x /
it '/ in disguise: 9' refused 9 '*--force*' q -w udsconnect -x //./
it 'a duplicate: 4' refused 4 '*on the list already: entry 0*' q -w udsconnect -x /a
it 'a duplicate in disguise: 4' refused 4 '*entry 0*' q -w udsconnect -x //a/./
it 'a duplicate with other options: 4' refused 4 '*entry 2*' q -w udsconnect -x /new -o uid=7
it 'an index that is no number: 5' refused 5 '*"x" is not an index*' q -w udsconnect -y x
it 'a negative index: 5' refused 5 '*"-1" is not an index*' q -w udsconnect -y -1
it 'an empty index: 5' refused 5 '*"" is not an index*' q -w udsconnect -y ''
it 'an index beyond the last: 5' refused 5 '*no entry 6*has 6*' q -w udsconnect -y 6
it 'a huge index: 5' refused 5 '*no entry*' q -w udsconnect -y 99999999999999999999999
it 'an unknown list: 2' refused 2 '*"nolist" is no list: udsconnect, udsaccept and rexec*' q -w nolist -z
it 'no command: 2' refused 2 '*one of -x PATH, -y INDEX and -z*' q -w udsconnect
it 'two commands: 2' refused 2 '*only one of*' q -w udsconnect -x /q -z
it '-x without a list: 2' refused 2 '*-x needs -w LIST*' q -x /q
it 'a surplus argument: 2' refused 2 '*"/r" is one argument too many*' q -w udsconnect -x /q /r
it 'an unknown letter: 2' refused 2 '*invalid option*' q -w udsconnect -q
it 'an option that is no KEY=VALUE: 2' refused 2 '*KEY=VALUE*' q -w udsconnect -x /q -o hm
it 'an unknown option: 2' refused 2 '*k=v is no option: uid=LIST*' q -w udsconnect -x /q -o k=v
it 'an unknown user: 2' \
	refused 2 '*there is no "no-such-user"*' q -w udsconnect -x /q -o uid=no-such-user
it '-o without -x: 2' refused 2 '*go with -x only*' q -w udsconnect -y 0 -o uid=0
it '/ with --force is added' q -w udsconnect -x / --force
it '--help goes to stdout' answers 0 '*usage:*--config-dir*' "$qtcfg" --help
it '--version, too' answers 0 'qtcfg [0-9]*' "$qtcfg" --version
it 'stdout that cannot be written: 6' answers 6 '*cannot write*' sh -c '"$@" >/dev/full' - "$qtcfg" --config-dir "$dir" -z

# ---- files that must not be trusted, and files that cannot be written
bad_list() { printf '/a\n/b oops\n' >"$udsconnect"; }
bad_list
it 'a malformed list: 6, naming file, line and remedy' \
	refused 6 "*$udsconnect: line 2: *KEY=VALUE*" q -w udsconnect -x /q
printf '/a\n/b oops=1\n' >"$udsconnect"
it 'a list with a bad option is not added to: 6' \
	refused 6 '*line 2: oops=1 is no option*nothing was changed' q -w udsconnect -x /q
it 'its bad entry can be deleted' q -w udsconnect -y 1
chmod 666 "$udsconnect"
it 'a list that others can write: 6, with the remedy' refused 6 '*chmod 0644*' q -w udsconnect -x /q
chmod 644 "$udsconnect"
mv "$udsconnect" "$dir/real"
ln -s "$dir/real" "$udsconnect"
it 'a list that is a symbolic link: 6' answers 6 '*symbolic link*' q -w udsconnect -x /q
rm "$udsconnect"
mv "$dir/real" "$udsconnect"
it 'a configuration directory that does not exist: 6' \
	answers 6 '*/nonexistent/udsproxyd: No such file*' "$qtcfg" --config-dir /nonexistent -w udsconnect -x /q
if [ "$(id -u)" -eq 0 ]; then
	chmod 755 "$dir"
	as_nobody() { setpriv --reuid 65534 --regid 65534 --clear-groups "$qtcfg" --config-dir "$dir" --runtime-dir "$dir/none" "$@"; }
	chmod 644 "$udsconnect"
	if ! setpriv --reuid 65534 --regid 65534 --clear-groups test -x "$qtcfg"; then
		skip 'not root: 6' "$qtcfg is out of nobody's reach"
	else
		it 'not root: 6, and says so' refused 6 '*run qtcfg as root*' as_nobody -w udsconnect -x /q
		it 'not root: may look' answers 0 '*0  /a*' as_nobody -w udsconnect -z
	fi
else
	skip 'not root: 6' 'not root, so cannot become nobody'
fi

# ---- drop-ins
mkdir "$udsconnect.d"
printf '/run/rexec uid=0\n' >"$udsconnect.d/rexec"
it 'drop-ins are shown without an index, with their file' \
	answers 0 "*  0  /a
  -  /run/rexec uid=0  # $udsconnect.d/rexec" q -w udsconnect -z
it 'and refused to be deleted, naming the file: 5' \
	refused 5 "*deleted in their own file ($udsconnect.d/rexec)" q -w udsconnect -y 1
it 'a duplicate of one: 4, naming the file' \
	refused 4 "*$udsconnect.d/rexec, line 1" q -w udsconnect -x /var/run/rexec
rm -r "$udsconnect.d"

# ---- rexec's whitelist
it 'rexec: a bare name' answers 0 "*there was no $whitelist*" q -w rexec -x qemu-system-x86_64
it 'rexec: mode 0400' has_mode "$whitelist" 400
it 'rexec: an absolute path, with an option' q -w rexec -x /usr/bin/qemu-img -o user=root
it 'rexec: both are there' holds "$whitelist" $'qemu-system-x86_64\n/usr/bin/qemu-img user=root\n'
it 'rexec: still mode 0400' has_mode "$whitelist" 400
it 'rexec: a relative path: 3' answers 3 '*not an absolute path*' q -w rexec -x bin/ls
it 'rexec: a duplicate: 4' answers 4 '*entry 1*' q -w rexec -x /usr//bin/qemu-img -o user=root
it 'rexec: the same with other options is another line, and that is said' \
	answers 0 '*with other options: entry 1*' q -w rexec -x /usr/bin/qemu-img -o user=root -o arg=info -o 'arg=*.img'
it 'rexec: it is there' holds "$whitelist" $'qemu-system-x86_64
/usr/bin/qemu-img user=root
/usr/bin/qemu-img user=root arg=info arg=*.img\n'
for option in colour=red uid=no-such-user gid=no-such-group args=any 'arg=[' env= sha256=12; do
	it "rexec: $option is not written, and why is said: 2" \
		answers 2 "*-o:1: *${option%%=*}=*" q -w rexec -x /x -o "$option"
done
it 'rexec: nothing of that was' answers 0 '*arg=info arg=[*].img' q -w rexec -z
hand_made() { chmod 600 "$whitelist" && echo '/x args=many' >>"$whitelist" && chmod 400 "$whitelist"; }
it 'rexec: a line that an editor made' hand_made
it 'rexec: it is told, with file and line, and nothing is changed' \
	answers 6 "*$whitelist:4: args=many*nothing was changed" q -w rexec -x /y
it 'rexec: it can be deleted' answers 0 '' q -w rexec -y 3
chmod 644 "$whitelist"
it 'rexec: a list of another mode: 6' answers 6 '*chmod 0400*' q -w rexec -z
it '-z alone shows the other lists all the same' answers 6 '*  0  /a*' q -z

# ---- at once
rm "$udsconnect"
add_at_once() { # N - N qtcfg add an entry each, at once
	local pids=() i status=0
	for ((i = 0; i < $1; i++)); do
		q -w udsconnect -x "/p/$i" 2>/dev/null &
		pids+=($!)
	done
	for i in "${pids[@]}"; do wait "$i" || status=1; done
	return "$status"
}
it '20 that add at once all succeed' add_at_once 20
it 'and all 20 entries are there' \
	test "$(sort -V "$udsconnect")" = "$(printf '/p/%d\n' {0..19})"
delete_at_once() {
	local pids=() i status=0
	for ((i = 0; i < 20; i++)); do
		q -w udsconnect -y 0 2>/dev/null &
		pids+=($!)
	done
	for i in "${pids[@]}"; do wait "$i" || status=1; done
	[ ! -s "$udsconnect" ] && return "$status"
}
it '20 that delete entry 0 at once empty the list' delete_at_once

tap_done
