#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# The trampoline and rexec-qemu as a person meets them: arguments, the map of names, refusals. One
# machine, no udsproxyd; "QEMU" is any program.
set -uo pipefail

top=$(realpath "$(dirname "$0")/../..")
# shellcheck source=tests/lib/tap.sh
. "$top/tests/lib/tap.sh"
BIN=$(realpath "${BIN:-$top/build/testmode/bin}")
LIBEXEC=$(realpath "${LIBEXEC:-$top/build/testmode/libexec}")

dir=$(mktemp -d "${TMPDIR:-/tmp}/usage.XXXXXX")
server=
cleanup() {
	[ -z "$server" ] || kill "$server" && wait "$server"
	rm -rf "$dir"
} 2>/dev/null
trap cleanup EXIT

mkdir "$dir/run"
export REXEC_RUNTIME_DIR=$dir/run REXEC_LOCAL=1 REXEC_QEMU=$LIBEXEC/rexec-qemu
cat >"$dir/qemu.map" <<'END'
# what the tests call QEMU
echo     /bin/echo
args     /usr/bin/printf
sleep    /nonexistent/sleep /bin/sleep # the first that is there
nowhere  no-such-qemu
listed   /usr/bin/env
END
printf '/bin/echo\n/usr/bin/echo\n/usr/bin/printf\n/bin/sleep\n/usr/bin/sleep\n/bin/sh\n/usr/bin/cat\n/nonexistent/sleep\nno-such-qemu\n' >"$dir/whitelist"
chmod 400 "$dir/whitelist"
"$BIN/rexec_server" --test-mode --runtime-dir "$dir/run" --whitelist "$dir/whitelist" 2>"$dir/server.log" &
server=$!
wait_for 10 test -S "$dir/run/rexec.sock" || bail_out "no rexec_server: $(cat "$dir/server.log")"

qemu() { "$LIBEXEC/rexec-qemu" --map "$dir/qemu.map" "$@"; }
# fails STATUS WORDS CMD... - CMD exits with STATUS and says WORDS
fails() {
	local status=$1 words=$2 said
	shift 2
	said=$("$@" 2>&1 </dev/null)
	local got=$?
	echo "status $got: $said"
	[ $got = "$status" ] && grep -qF -- "$words" <<<"$said"
}

exact() {
	# the trampoline takes what follows its name as it is
	printf '#!/bin/sh\nprintf "<%%s>" "$@"\n' >"$dir/show"
	chmod 755 "$dir/show"
	ln -s "$top/scripts/qemu-kvm" "$dir/qemu-system-x86_64"
	[ "$(REXEC_QEMU=$dir/show "$dir/qemu-system-x86_64" -append 'a  b' '' $'c\nd' '*')" = "<$dir/qemu-system-x86_64><-append><a  b><><c
d><*>" ]
}
it "the trampoline passes its name and every argument as it is" exact
passed() { [ "$(qemu args '<%s>' 'a  b' '' $'c\nd' '*')" = $'<a  b><><c\nd><*>' ]; }
it "so does rexec-qemu" passed
input() { [ "$(echo words | qemu cat)" = words ]; }
it "standard input and output are the program's; a name that is not in the map stands for itself" input
it "the first program of a name that is there is taken" qemu sleep 0
status() { fails 7 '' qemu sh -c 'exit 7'; }
it "its exit status is ours" status
killed() { fails 137 '' qemu sh -c 'kill -KILL $$'; }
it "its signal, too" killed

it "no NAME: status 2" fails 2 "NAME is missing" qemu
it "an unknown option: status 2" fails 2 "usage:" "$LIBEXEC/rexec-qemu" --nonsense echo
it "--help" fails 0 "usage: rexec-qemu" "$LIBEXEC/rexec-qemu" --help
it "not on the HOST: 127, and it is named" fails 127 "no-such-qemu" qemu nowhere
it "not on the whitelist: 126, and it is named" fails 126 "/usr/bin/env" qemu listed
echo 'qemu-kvm' >"$dir/bad.map"
it "a malformed map: file and line are named" fails 125 "$dir/bad.map, line 1" "$LIBEXEC/rexec-qemu" --map "$dir/bad.map" echo
chmod 666 "$dir/bad.map"
it "a map that anybody may write is refused" fails 125 "$dir/bad.map" "$LIBEXEC/rexec-qemu" --map "$dir/bad.map" echo
it "CPUs that are not well said: 2, and the word is named" fails 2 "not vcpu=1" env REXEC_QEMU_CPUS='emulator=0 vcpu=1 vcpu2=0' "$LIBEXEC/rexec-qemu" echo
### --check: is there another QEMU than before? ###

for name in cat nowhere listed; do
	cp "$top/scripts/qemu-kvm" "$dir/$name"
done
check() { qemu --seen "$dir/seen" --check "$@"; }
touched() { # TRAMPOLINE CMD... - CMD succeeds, and TRAMPOLINE has another ctime
	local before
	before=$(stat -c %z "$1")
	"${@:2}" && [ "$(stat -c %z "$1")" != "$before" ]
}
untouched() {
	local before
	before=$(stat -c %z "$1")
	"${@:2}" && [ "$(stat -c %z "$1")" = "$before" ]
}
echo 'cat /usr/bin/cat' >>"$dir/qemu.map"
it "--check touches a trampoline that it sees for the first time" touched "$dir/cat" check "$dir/cat"
it "and not again" untouched "$dir/cat" check "$dir/cat"
it "nor when it cannot ask: status 127" untouched "$dir/nowhere" fails 127 "$dir/nowhere: the HOST's QEMU cannot be asked" check "$dir/nowhere"
it "or 126" untouched "$dir/listed" fails 126 "/usr/bin/env" check "$dir/listed"
all_asked() { touched "$dir/cat" fails 127 "$dir/nowhere" check "$dir/nowhere" "$dir/cat"; }
echo 'cat /usr/bin/printf' >>"$dir/qemu.map"
it "one that cannot be asked is no reason to leave another out; another program is another QEMU" all_asked

it "a path that cannot be listened at is named" fails 125 "$dir/none/monitor" qemu echo -qmp "unix:$dir/none/monitor,server=on"
kill "$server" && wait "$server" 2>/dev/null
server=
it "no rexec_server: 125, and it is named" fails 125 "rexec_server is not running" qemu echo
it "--check: the same, and nothing is touched" untouched "$dir/cat" fails 125 "rexec_server is not running" check "$dir/cat"
tap_done
