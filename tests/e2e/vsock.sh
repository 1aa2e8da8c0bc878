#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# vsock.sh - the product over AF_VSOCK, in a guest: two daemons with CID 1 in one machine.
#
# This file runs twice: on the machine it makes the guest's root directory of what `make install`
# made, and in the guest it is the test. There HOST and DPU are two mount namespaces, each with
# a /run and an /etc of its own, so that a socket of one is far for the other; ports tell the
# daemons apart. All lists exist: then test mode is no different from none.
set -uo pipefail
self=$(realpath "$0")
tests=$(realpath "$(dirname "$self")/..")
# shellcheck source=tests/lib/tap.sh
. "$tests/lib/tap.sh"

if [ "${VSOCK_GUEST:-}" != 1 ] || ! grep -qw VSOCK_GUEST=1 /proc/cmdline; then
	root=$(mktemp -d "${TMPDIR:-/tmp}/vsock.XXXXXX")
	trap 'rm -rf "$root"' EXIT
	trap 'exit 130' INT TERM
	cp -a "${STAGE:-$tests/../build/stage}/." "$root" || bail_out "nothing is installed in STAGE"
	cp -L --parents /usr/bin/bash /usr/bin/socat "$root"
	mkdir -p "$root"/tests/{e2e,lib}
	cp "$self" "$root/tests/e2e/vsock.sh"
	cp "$tests/lib/tap.sh" "$root/tests/lib/"
	"$tests/rig/vsock-guest" "${VSOCK_SECONDS:-120}" "$root" /tests/e2e/vsock.sh # some 20 s
	exit # with the guest's status
fi

### two sides ###

dpu_port=5000 host_port=5001
declare -A holder=() # side -> a process in its mount namespace
declare -A daemon=() # side -> its udsproxyd
log=/tmp             # log/SIDE.log, and other files for both sides
srv=/run/srv         # where servers listen

make_side() { # SIDE
	# shellcheck disable=SC2016
	unshare -m sh -c 'mount -t tmpfs run /run && mkdir /run/srv /run/other && cp -a /etc /run/etc &&
		mount -o bind /run/etc /etc && touch /run/made && exec sleep 1000' &
	holder[$1]=$!
	wait_for 5 side "$1" test -e /run/made
}
side() { nsenter -m -t "${holder[$1]}" "${@:2}"; } # SIDE CMD...
start() {                                          # SIDE CMD... - in the background; its pid is $!
	nsenter -m -t "${holder[$1]}" "${@:2}" </dev/null >>"$log/$1.log" 2>&1 &
}
shim() { side "$1" env LD_PRELOAD=/usr/lib/libudsproxy.so "${@:2}"; } # SIDE CMD...

start_daemon() { # dpu|host [PEER-CID]
	local here=dpu_port there=host_port
	[ "$1" = dpu ] || here=host_port there=dpu_port
	start "$1" udsproxyd --log-level debug 2 1 "${!here}" "${2:-1}" "${!there}"
	daemon[$1]=$!
}
stop_daemon() { # SIDE SIGNAL - its exit status
	kill "-$2" "${daemon[$1]}" && wait "${daemon[$1]}" 2>/dev/null
}
logged() { grep -qF -- "$2" "$log/$1.log"; } # SIDE TEXT

serve() { # SIDE NAME WHAT - a server that socat knows
	start "$1" socat -t 30 "UNIX-LISTEN:$srv/$2,fork" "$3"
	wait_for 5 side "$1" test -S "$srv/$2"
}
call() { shim "$1" timeout 30 socat -t 30 - "UNIX-CONNECT:$2"; } # SIDE PATH - our stdin there, its answer to stdout
echoes() {                                            # SIDE
	[ "$(echo "from $1" | call "$1" "$srv/echo")" = "from $1" ]
}

### the test ###

ip link set lo up
both_sides() { make_side dpu && make_side host; }
both_sides || bail_out "no two sides"
head -c 8388608 /dev/urandom >$log/big
sum=$(md5sum <$log/big)

lists() {
	side dpu qtcfg -w udsconnect -x /run && side dpu qtcfg -w udsaccept -x $srv/back &&
		side host qtcfg -w udsaccept -x $srv && side host qtcfg -w udsconnect -x $srv/back &&
		for program in cat sh md5sum; do side host qtcfg -w rexec -x $program || return; done
}
it "the lists are made" lists || bail_out "nothing is allowed"
start_daemon dpu
start_daemon host
linked() { logged "$1" "the peer vsock:1:$2 is up"; }
both_linked() { wait_for 10 linked dpu $host_port && wait_for 10 linked host $dpu_port; }
it "two daemons find each other over vsock" both_linked || bail_out "no link: $(cat $log/*.log)"
it "the daemon warns that a CID names a machine and not a user" logged dpu 'a CID names a machine, not a user'

serve host echo EXEC:cat # not PIPE: socat, alone at both ends of one, blocks when it is full
serve host sum SYSTEM:md5sum
serve host big "SYSTEM:cat $log/big"
serve dpu back EXEC:cat
it "a connection is made, and echoes" echoes dpu
back() { [ "$(echo back | call host $srv/back)" = back ]; }
it "and the other way round" back
upload() { [ "$(call dpu $srv/sum <$log/big)" = "$sum" ]; }
it "half-close keeps data: 8 MiB there, their checksum back" upload
download() { [ "$(call dpu $srv/big </dev/null | md5sum)" = "$sum" ]; }
it "8 MiB back" download
duplex() { [ "$(call dpu $srv/echo <$log/big | md5sum)" = "$sum" ]; }
it "8 MiB both ways at once" duplex

refused() { # SIDE PATH ERROR
	local said
	said=$(call "$1" "$2" 2>&1 </dev/null) && return 1
	echo "$said"
	[[ $said == *"$3"* ]]
}
it "what the peer does not accept: EACCES" refused dpu /run/other/x 'Permission denied'
it "what is not allowed here is never asked for: ENOENT" refused host /run/other/x 'No such file or directory'
it "nobody listens there: ENOENT" refused dpu $srv/none 'No such file or directory'

# Who calls often is bash itself; socat takes each call to the far echo by a connection of its own.
short_connections() { # N
	local i answer
	for ((i = 0; i < $1; i++)); do
		exec 9<>/dev/tcp/127.0.0.1/4000 || return
		echo "call $i" >&9
		read -r -t 20 answer <&9
		exec 9>&-
		[ "$answer" = "call $i" ] || {
			echo "call $i: '$answer'"
			return 1
		}
	done
}
transports() { grep -c 'transport .*: accepted' "$log/host.log"; } # that there have ever been
reuse() {
	local before
	before=$(transports)
	wait_for 5 short_connections 1 && short_connections 200 || return
	echo "$before transports before, $(transports) after"
	[ $(($(transports) - before)) -lt 20 ]
}
start dpu env LD_PRELOAD=/usr/lib/libudsproxy.so socat TCP-LISTEN:4000,fork,reuseaddr "UNIX-CONNECT:$srv/echo"
it "200 short connections, on transports that are there already" reuse

start host rexec_server
wait_for 5 side host test -S /run/rexec/rexec.sock
it "the rexec whitelist has mode 0400" test "$(side host stat -c %a /etc/rexec/whitelist)" = 400
rexec_null() { [ -z "$(side dpu rexec cat </dev/null)" ]; }
it "rexec over both: a device as stdin" rexec_null
rexec_pipe() { [ "$(echo hi | side dpu rexec cat)" = hi ]; }
it "rexec over both: pipes" rexec_pipe
# shellcheck disable=SC2002
rexec_big() { [ "$(cat $log/big | side dpu rexec md5sum)" = "$sum" ]; }
it "rexec over both: 8 MiB through a pipe" rexec_big
rexec_status() {
	side dpu rexec sh -c 'echo out; echo err >&2; exit 7' >$log/out 2>$log/err
	[ $? = 7 ] && [ "$(cat $log/out $log/err)" = $'out\nerr' ]
}
it "rexec over both: exit status, and all output before it" rexec_status
rexec_refused() {
	side dpu rexec ls
	[ $? = 126 ]
}
it "rexec over both: what is not listed is refused" rexec_refused

ended() { ! kill -0 "$1" 2>/dev/null; } # PID, a child
killed_peer() {
	local client
	mkfifo $log/in
	start dpu env LD_PRELOAD=/usr/lib/libudsproxy.so sh -c "socat - UNIX-CONNECT:$srv/echo <>$log/in"
	client=$!
	echo 'still here' >$log/in
	wait_for 10 logged dpu 'still here' || return
	stop_daemon host KILL
	wait_for 5 ended "$client"
}
it "the peer's daemon is killed: a client sees the end" killed_peer
not_reachable() {
	refused dpu $srv/echo "the peer's udsproxyd (vsock:1:$host_port) is not reachable" &&
		logged dpu "the peer vsock:1:$host_port is not reachable: Connection reset by peer"
}
it "a client is told that it is not there, and so is the log" not_reachable
start_daemon host
it "when it is back, connections work again" wait_for 15 echoes dpu

it "SIGTERM ends a daemon with status 0" stop_daemon dpu TERM
start_daemon dpu 3
no_device() { logged dpu "the peer vsock:3:$host_port is not reachable: No such device"; }
it "a CID that nobody has: the log says so" wait_for 10 no_device
it "a client is told" refused dpu $srv/echo "(vsock:3:$host_port) is not reachable: No such device"
stranger() { logged dpu "refused a connection from vsock:1: the peer is vsock:3:$host_port"; }
it "who comes from another CID is refused, and the log says so" wait_for 10 stranger
cpu() { awk '{ print $14 + $15 }' "/proc/${daemon[dpu]}/stat"; } # in 1/100 s
idle() {
	local before after
	before=$(cpu)
	sleep 3 # it is what happens meanwhile that counts
	after=$(cpu)
	echo "$((after - before)) of 300 ticks"
	[ $((after - before)) -lt 15 ]
}
it "it tries on without using the CPU up" idle
it "SIGTERM ends this one, too" stop_daemon dpu TERM
start_daemon dpu
it "with the right CID connections work again" wait_for 15 echoes dpu

foreign() {
	local said
	said=$(side dpu udsproxyd --runtime-dir /run/foreign 1 7 5009 1 5001 2>&1) && return 1
	echo "$said"
	[[ $said == *'cannot listen on vsock:7:5009'* ]]
}
it "a CID that is not this machine's cannot be listened on" foreign
stop_both() { stop_daemon dpu TERM && stop_daemon host TERM; }
it "both end with status 0" stop_both

[ "$tap_failed" -eq 0 ] || tail -n 60 $log/dpu.log $log/host.log | sed 's/^/# /'
tap_done
