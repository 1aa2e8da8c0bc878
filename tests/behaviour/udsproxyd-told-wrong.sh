#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Wrong use of udsproxyd is told clearly: exit status 2, and a message that names what was wrong.
set -u

top=$(dirname "$(dirname "$(dirname "$(realpath "$0")")")")
# shellcheck source=tests/lib/tap.sh
. "$top/tests/lib/tap.sh"
udsproxyd=${BIN:-$top/build/testmode/bin}/udsproxyd
[ -x "$udsproxyd" ] || bail_out "$udsproxyd: make it first, or set BIN"

own=$(mktemp -d)
trap 'rm -rf "$own"' EXIT
mkdir "$own/etc"

# A daemon that starts after all is one that should not have: it ends after 5 s, with 124.
run() {
	timeout 5 "$udsproxyd" --runtime-dir "$own/run" --config-dir "$own/etc" "$@"
}

# says STATUS PATTERN ARG... - with these arguments it ends so and says so, on one or two lines
says() {
	local status=$1 pattern=$2 found=0
	shift 2
	run "$@" >"$own/said" 2>&1 || found=$?
	cat "$own/said"
	echo "status $found, wanted $status and: $pattern"
	[ "$found" -eq "$status" ] && grep -Eq -- "$pattern" "$own/said" &&
		[ "$(grep -c 'Try .udsproxyd --help' "$own/said")" -eq "$([ "$status" -eq 2 ] && echo 1 || echo 0)" ]
}

# file_says PATTERN LINE... - the same for lines of udsproxyd.conf
file_says() {
	local pattern=$1 status=0
	shift
	printf '%s\n' "$@" >"$own/etc/udsproxyd.conf"
	says 2 "$pattern" --test-mode 1 127.0.0.1 1 127.0.0.1 2 || status=1
	rm "$own/etc/udsproxyd.conf"
	return "$status"
}

it "no argument at all" says 2 'THREADS is missing'
it "the last argument missing" says 2 'PEER-PORT is missing' 1 127.0.0.1 12121 127.0.0.2
it "one argument too many" says 2 "'six' is one argument too many" 1 127.0.0.1 1 127.0.0.2 1 six
for n in 0 65 -- -1 one 1x '' 99999999999999999999; do
	[ "$n" != -- ] || continue
	it "'$n' threads" says 2 'THREADS|invalid option' --test-mode "$n" 127.0.0.1 1 127.0.0.2 1
done
it "thread number 0 is named" says 2 "THREADS '0': a number from 1 to 64" --test-mode 0 127.0.0.1 1 127.0.0.2 1
for port in 0 65536 70000 x 1x '' 0x10; do
	it "port '$port'" says 2 "port '$port': a TCP port is a number from 1 to 65535" \
		--test-mode 1 127.0.0.1 "$port" 127.0.0.2 1
	it "the peer's port '$port'" says 2 "peer: port '$port'" --test-mode 1 127.0.0.1 1 127.0.0.2 "$port"
done
it "a vsock port 0" says 2 "vsock port" 1 3 0 2 1
for addr in host.example 1.2.3 127.0.0.1.1 ::g '' 4294967295 -x; do
	it "the address '$addr'" says 2 "address '$addr': neither an IP address|invalid option" \
		--test-mode 1 -- "$addr" 1 127.0.0.2 1
done
it "an IP address here and a CID there" says 2 'not of one kind' --test-mode 1 127.0.0.1 1 3 1
it "an IPv4 and an IPv6 address" says 2 'not of one kind' --test-mode 1 127.0.0.1 1 ::1 1
it "an option that there is not" says 2 'nonsense' --nonsense 1 127.0.0.1 1 127.0.0.2 1
it "an option without its value" says 2 'share' 1 127.0.0.1 1 127.0.0.2 1 --share
it "a share that is relative" says 2 'two absolute directories' --share=a=b 1 127.0.0.1 1 127.0.0.2 1
it "a mapping that is none" says 2 'not FROM:TO' --map-uid=1 1 127.0.0.1 1 127.0.0.2 1
it "a mapping of a name of the peer's" says 2 "names are not known here" --map-uid=root:0 1 127.0.0.1 1 127.0.0.2 1
it "a mapping to nobody known" says 2 'neither a number nor known here' \
	--map-gid=1:no-such-group 1 127.0.0.1 1 127.0.0.2 1
it "a level that there is not" says 2 'error, warning, info or debug' --log-level=loud 1 127.0.0.1 1 127.0.0.2 1
for n in -1 86401 1m ''; do
	it "a hold time of '$n'" says 2 'hold-time.*not a number from 0 to 86400' "--hold-time=$n" 1 127.0.0.1 1 127.0.0.2 1
done
it "a buffer limit of nothing" says 2 'buffer-limit.*not a number from 1 to 65536' --buffer-limit=0 1 127.0.0.1 1 127.0.0.2 1
it "a device outside of /dev" says 2 'not below /dev' --device=/etc/passwd 1 127.0.0.1 1 127.0.0.2 1
for size in '' x M 1T 1.5M 64MB -1 0x10 1025G 1048577M 999999999999999G 99999999999999999999; do
	it "'$size' bytes to be copied" says 2 "copy-max: '$size' is not a size of at most 1024G" \
		"--copy-max=$size" 1 127.0.0.1 1 127.0.0.2 1
done
it "a runtime directory with too long a name" says 1 'too long' --test-mode \
	--runtime-dir="/tmp/$(printf '%090d' 0)" 1 127.0.0.1 1 127.0.0.2 1
it "an address that is not this machine's" says 1 'no interface here has this address' --test-mode \
	1 192.0.2.1 12121 127.0.0.2 1

it "a key that there is not" file_says 'line 2: nonsense: there is no such key' '# comment' 'nonsense = 1'
it "a key without a value" file_says 'line 1: ' 'share'
it "a bad value" file_says 'line 1: share: .*two absolute directories' 'share = x'
it "a section" file_says 'section' '[x]' 'share = /a=/b'
it "a key of the command line only" file_says 'only on the command line' 'runtime-dir = /tmp'
it "test-mode = maybe" file_says 'neither yes nor no' 'test-mode = maybe'
it "a bad line among good ones" file_says 'line 3: map-uid' 'share = /a=/b' 'map-uid = 1:2' 'map-uid = x:y'

it "a line that is too long" file_says "'share = /0*\.\.\.': longer than 1.. bytes" \
	"share = /$(printf '%0250d' 0)=/"

bad_list() {
	echo "/run bad=option" >"$own/etc/udsconnect"
	says 1 'udsconnect: line 1: bad=option is no option' --test-mode 1 127.0.0.1 12121 127.0.0.2 1 || return 1
	echo "relative" >"$own/etc/udsconnect"
	says 1 'udsconnect: line 1: ' --test-mode 1 127.0.0.1 12121 127.0.0.2 1
}
it "a bad list" bad_list
open_list() {
	echo "/run" >"$own/etc/udsconnect"
	chmod "$1" "$own/etc/udsconnect"
	says 1 'udsconnect' --test-mode 1 127.0.0.1 12121 127.0.0.2 1
}
it "a list that its group may write" open_list 0664
it "a list that everybody may write" open_list 0646
rm -f "$own/etc/udsconnect"

prints() { # ARG PATTERN - on stdout, with status 0, whatever else is said
	run "$1" >"$own/out" 2>"$own/err" && [ ! -s "$own/err" ] && grep -Eq -- "$2" "$own/out"
}
it "--help says what is wanted, on stdout" prints --help 'usage: udsproxyd .*THREADS ADDR PORT PEER-ADDR PEER-PORT'
it "--version says one, on stdout" prints --version '^udsproxyd [0-9]+\.[0-9]+'

# The build that is tested may have test mode on; PLAIN_BIN may name one that has not.
plain() {
	says 2 'plain TCP .*is not authenticated.*--test-mode' 1 127.0.0.1 12121 127.0.0.2 12121
}
started() { # it does start: with a pid in the lock
	rm -f "$own/run/lock"
	run "$@" 1 127.0.0.1 12121 127.0.0.2 12121 >"$own/said" 2>&1 &
	wait_for 5 test -s "$own/run/lock" && kill "$(cat "$own/run/lock")" && wait $!
}
for size in 0 1 64M 1024G 1048576M 1099511627776; do
	it "--copy-max=$size is a size" started --test-mode "--copy-max=$size"
done
echo "test-mode = no" >"$own/etc/udsproxyd.conf"
it "plain TCP without test mode" plain
it "--test-mode allows it" started --test-mode
rm "$own/etc/udsproxyd.conf"
if [ -n "${PLAIN_BIN:-}" ]; then
	udsproxyd=$PLAIN_BIN/udsproxyd
	it "plain TCP without test mode, in a build without it" plain
fi
tap_done
