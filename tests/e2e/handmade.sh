#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# handmade.sh - what the deployment guide tells to type, word for word, from a source tree on each
# side; then programs that rexec runs.
set -uo pipefail
# shellcheck source=tests/e2e/lib.sh
. "$(dirname "$0")/lib.sh"

rig_up || bail_out "no rig"
host_ip=10.213.7.1 dpu_ip=10.213.7.2

# type_on SIDE LINE - as an operator does, in a shell of his own in the source tree
type_on() { "$rig" exec "$rig_dir" "$1" bash -c "cd /root/source && $2" </dev/null >>"$rig_dir/$1.typed" 2>&1; }
typed() { # SIDE LINE - a test
	it "${1^^}: $2" type_on "$1" "$2" || sed 's/^/# /' "$rig_dir/$1.typed" | tail -n 20
}

### both sides: build and install ###

tar -C "$tests/.." -c --exclude=./build --exclude=./.git . | dpu sh -c 'mkdir /root/source && tar -C /root/source -x --no-same-owner'
typed dpu 'make -j UDS_TEST_MODE=1 && make install' || bail_out "nothing to test"
# What was built once is not built again there.
dpu tar -C /root -c source | host tar -C /root -x
typed host 'make -j UDS_TEST_MODE=1 && make install' || bail_out "nothing to test"
not_rebuilt() { ! grep -w CC "$rig_dir/host.typed"; }
it "what is built is not built again" not_rebuilt

### the daemons ###

typed host "nohup /usr/bin/udsproxyd 1 $host_ip 12121 $dpu_ip 12121 2>&1 &"
typed dpu "nohup /usr/bin/udsproxyd 1 $dpu_ip 12121 $host_ip 12121 2>&1 &"
typed host 'mkdir /var/run/rexec'
wait_for 10 dpu test -S /run/udsproxyd/control.sock
typed dpu 'qtcfg -w udsconnect -x /var/run/rexec'
listed() { dpu qtcfg -w udsconnect -z | grep -E '0.*/run/rexec'; }
it "DPU: qtcfg -w udsconnect -z" listed
it "DPU: qtcfg -z" dpu qtcfg -z

rexec() { dpu rexec "$@"; }
status_is() { # STATUS CMD...
	local status=0
	"${@:2}" || status=$?
	echo "status $status"
	[ "$status" = "$1" ]
}
says() { # TEXT CMD... - on stderr, or stdout
	local text=$1 said
	shift
	said=$("$@" 2>&1)
	echo "$said"
	grep -qF -- "$text" <<<"$said"
}
it "without rexec_server: rexec's own status" status_is 125 rexec true
it "and it says which one is not running" says 'rexec_server is not running' rexec true
typed host 'nohup /usr/bin/rexec_server 2>&1 &'
wait_for 10 host test -S /run/rexec/rexec.sock

### programs ###

hostname_is() { [ "$(rexec uname -n)" = host ]; }
it "rexec runs a program on the HOST" hostname_is
it "its exit status is the program's" status_is 7 rexec /bin/sh -c 'exit 7'
# shellcheck disable=SC2016
it "a signal that ends it shows as 128+n" status_is 143 rexec /bin/sh -c 'kill -TERM $$'
it "not found is 127" status_is 127 rexec /usr/bin/no-such-program
it "not executable is 126" status_is 126 rexec /etc/passwd
# shellcheck disable=SC2016
arguments() { [ "$(rexec printf '%s|' 'a b' '' $'c\nd' '*' '$HOME')" = $'a b||c\nd|*|$HOME|' ]; }
it "arguments arrive as they are" arguments
stdin() { [ "$(echo hello | rexec tr a-z A-Z)" = HELLO ]; }
it "stdin and stdout" stdin
stderr() { [ "$(rexec /bin/sh -c 'echo out; echo err >&2' 2>/dev/null)" = out ] &&
	[ "$(rexec /bin/sh -c 'echo out; echo err >&2' 2>&1 >/dev/null)" = err ]; }
it "stderr apart from stdout" stderr
bulk() {
	local sum='head -c 33554432 /dev/zero | sha256sum'
	[ "$(dpu sh -c 'head -c 33554432 /dev/zero | rexec cat | sha256sum')" = "$(sh -c "$sum")" ]
}
it "32 MiB through cat" bulk
directory() { [ "$(dpu sh -c 'cd /usr/share && rexec pwd')" = /usr/share ]; }
it "the working directory" directory
user() { [ "$(dpu setpriv --reuid 1000 --regid 1000 --clear-groups rexec id -u)" = 1000 ]; }
it "the caller's user" user

### lists ###

# shellcheck disable=SC2016
whitelist() {
	host sh -c 'kill "$(pgrep -x rexec_server)"'
	wait_for 5 no_server
	host sh -c "echo /usr/bin/uname >/etc/rexec/whitelist; chmod 400 /etc/rexec/whitelist"
}
no_server() { ! host pgrep -x rexec_server; }
it "a whitelist, and rexec_server is stopped" whitelist
typed host 'nohup /usr/bin/rexec_server 2>&1 &'
wait_for 10 hostname_is
it "what is on it runs" hostname_is
it "what is not is 126" status_is 126 rexec /usr/bin/id
typed dpu 'qtcfg -w udsconnect -y 0'
it "without its path on the list rexec fails" status_is 125 rexec uname -n
it "and says what to do" says udsconnect rexec uname -n
tap_done
