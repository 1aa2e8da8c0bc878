#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# shim.sh - real clients over libudsproxy.so: virsh and python3-libvirt on the DPU, which has no
# libvirtd, drive the libvirtd that listens on the HOST.
set -uo pipefail
# shellcheck source=tests/e2e/lib.sh
. "$(dirname "$0")/lib.sh"

e2e_up -- --remote || bail_out "the stack does not come up"

uri='qemu+unix:///system?socket=/run/libvirt/libvirt-sock'
shim() { dpu env LD_PRELOAD=libudsproxy.so "$@"; }
# lib.sh's virsh and console speak to it, too.
libvirt() { shim env VIRSH_DEFAULT_CONNECT_URI="$uri" "$@"; }

fails_with() { # TEXT CMD...
	local text=$1 said
	shift
	said=$("$@" 2>&1) && return 1
	echo "$said"
	grep -qF "$text" <<<"$said"
}
no_such_file() { fails_with 'No such file or directory' "$@"; }

it "without the shim there is no such libvirtd" no_such_file dpu virsh -c "$uri" list
it "qtcfg -w udsconnect -x /run/rexec" dpu qtcfg -w udsconnect -x /run/rexec
it "with it neither, while its directory is not on the list" no_such_file virsh list
it "qtcfg -w udsconnect -x /run/libvirt/" dpu qtcfg -w udsconnect -x /run/libvirt/
it "virsh list" virsh list
hostname_is() { [ "$(virsh hostname)" = host ]; }
it "virsh hostname names the HOST" hostname_is
by_var_run() { shim virsh -c 'qemu+unix:///system?socket=/var/run/libvirt/libvirt-sock' list; }
it "/var/run is /run" by_var_run
# The HOST's libvirtd trusts root, and asks polkit (which the rig has not) about anybody else.
same_as_local() {
	local here there
	here=$(host "$@" 2>&1)
	there=$(shim "$@" 2>&1)
	echo "$there"
	[ "$here" = "$there" ] && grep -q 'system bus' <<<"$there"
}
as_user=(setpriv --reuid nobody --regid nogroup --clear-groups virsh -r -c "$uri-ro" list)
it "to the HOST's libvirtd a user is not root" same_as_local "${as_user[@]}"
capabilities() { virsh capabilities | grep "<machine canonical='pc-i440fx-[0-9.]*' maxCpus='[0-9]*'>pc<"; }
it "capabilities" capabilities

remember_traces
it "define" define e2e disk.qcow2
it "start" start_vm e2e || bail_out "no machine to test with"
it "QEMU runs on the HOST" only_on_host e2e
it "the console carries what is typed" ask e2e 'echo hello there' '^ECHO:hello there$'
suspend_resume() {
	virsh suspend e2e && state_is e2e paused && virsh resume e2e && ask e2e 'echo awake' '^ECHO:awake$'
}
it "suspend and resume" suspend_resume
dumpxml() { virsh dumpxml e2e | grep -F "<source file='$images/disk.qcow2'"; }
it "dumpxml" dumpxml
upload() { # a stream there and one back
	dpu sh -c 'head -c 8388608 /dev/urandom >/tmp/volume'
	virsh pool-create-as --name p --type dir --target "$images" &&
		virsh vol-create-as p volume 8M && virsh vol-upload --pool p volume /tmp/volume &&
		virsh vol-download --pool p volume /tmp/volume.back && dpu cmp /tmp/volume /tmp/volume.back
	local status=$?
	virsh vol-delete --pool p volume
	virsh pool-destroy p
	dpu rm -f /tmp/volume /tmp/volume.back
	return $status
}
it "vol-upload and vol-download of 8 MiB" upload
destroy() { virsh destroy e2e && state_is e2e 'shut off' && wait_for 10 no_qemu; }
it "destroy" destroy
console_close e2e
it "undefine" virsh undefine e2e

### as VDSM does ###

events=$rig_dir/events
machine=$(vm_xml vdsm disk.qcow2)
# shellcheck disable=SC2016
shim /usr/bin/python3 -c "$(<"$tests/e2e/lifecycle.py")" "$uri" <<<"$machine" >"$events" 2>&1 &
client=$!
event_came() { grep -qx "$1" "$events" || ended "$client"; }
for event in defined started suspended resumed stopped undefined; do
	came() { wait_for 20 event_came "vdsm $event" && grep -x "vdsm $event" "$events" || ! cat "$events"; }
	it "python3-libvirt: the callback for '$event' is called" came
done
wait_for 20 event_came 'now end it'
it "the HOST's libvirtd stops" svc stop libvirtd_host
closed() { wait "$client" && grep '^connection closed' "$events" || ! cat "$events"; }
it "python3-libvirt: the callback for the connection's end is called" closed
none_there() { fails_with 'Failed to connect socket' virsh list; }
it "virsh says at once that nobody is there" none_there
it "the HOST's libvirtd starts again" svc start libvirtd_host
it "virsh list" virsh list

for side in host dpu; do
	it "nothing is left behind on the ${side^^}: files, mounts, processes" wait_for 20 no_new_traces $side
done
it "every daemon still runs" svc status
tap_done
