#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# serial-socket.sh - a guest whose serial port is a UNIX socket of the DPU. Arguments: those of e2e_up.
set -uo pipefail
# shellcheck source=tests/e2e/lib.sh
. "$(dirname "$0")/lib.sh"

e2e_up "$@" || bail_out "the stack does not come up"
path=/var/lib/libvirt/qemu/port.sock
vm_xml port disk.qcow2 | sed "s|<serial type='pty'/>|<serial type='unix'><source mode='bind' path='$path'/></serial>|" |
	libvirt sh -c 'cat >/tmp/port.xml && virsh -q define /tmp/port.xml && rm /tmp/port.xml' || bail_out "no machine to test with"

clients=0
client() { # connects; sets heard, a file with what comes, and typing, a descriptor
	clients=$((clients + 1))
	heard=$rig_dir/heard.$clients
	exec {typing}> >(libvirt socat - "UNIX-CONNECT:$path" >"$heard" 2>&1)
}
says() { tr -d '\r' <"$heard" | grep -q "$1"; }
answers() { printf 'echo %s\r' "$1" >&"$typing" && wait_for 10 says "^ECHO:$1\$"; }

it "start" virsh start port || bail_out "no machine to test with"
listens() { libvirt test -S $path && libvirt grep -q "00010000 .* $path\$" /proc/net/unix; }
it "its serial port is a socket that is listened on here" listens
client
it "a client there hears the guest boot" wait_for 60 says GUEST-READY
it "and what it types reaches the guest" answers first
exec {typing}>&-
client
it "another client comes after it" answers second
link_lost() {
	"$rig" link "$rig_dir" unplug
	sleep 1 # this is how long it is unplugged
	"$rig" link "$rig_dir" up
	wait_for 30 answers third
}
it "the same client goes on after the link was lost" link_lost
exec {typing}>&-
it "destroy" virsh destroy port
gone() { ! libvirt test -e $path; }
it "the socket goes with it" gone
it "undefine" virsh undefine port
it "every daemon still runs" svc status
tap_done
