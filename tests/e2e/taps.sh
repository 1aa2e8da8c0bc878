#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# taps.sh - network interfaces of a guest: libvirt makes a tap on the DPU, QEMU has one on the HOST.
# No guest is booted: the network card's own boot code sends. Arguments: those of e2e_up.
set -uo pipefail
# shellcheck source=tests/e2e/lib.sh
. "$(dirname "$0")/lib.sh"

if ! [ -c /dev/net/tun ]; then
	echo '1..0 # SKIP needs /dev/net/tun'
	exit 0
fi
e2e_up "$@" || bail_out "the stack does not come up"
for side in host dpu; do
	"$rig" exec "$rig_dir" $side sh -c 'echo "device = /dev/net/tun" >>/etc/udsproxyd/udsproxyd.conf
		ip link add br0 type bridge && ip link set br0 up'
	svc stop udsproxyd_$side
	svc start udsproxyd_$side
done

define_net() {
	libvirt sh -c 'cat >/tmp/net.xml && virsh -q define /tmp/net.xml && rm /tmp/net.xml' <<-END
		<domain type='qemu'>
		  <name>net</name>
		  <memory unit='MiB'>64</memory>
		  <vcpu>1</vcpu>
		  <os><type arch='x86_64' machine='pc'>hvm</type><boot dev='network'/></os>
		  <features><acpi/></features>
		  <devices>
		    <emulator>/usr/bin/qemu-system-x86_64</emulator>
		    <controller type='usb' model='none'/>
		    <interface type='bridge'>
		      <source bridge='br0'/>
		      <target dev='vmnet1'/>
		      <model type='virtio'/>
		    </interface>
		    <memballoon model='none'/>
		  </devices>
		</domain>
	END
}
link_of() { "$rig" exec "$rig_dir" "$1" ip -br link show "$2" 2>/dev/null; } # SIDE INTERFACE
# shellcheck disable=SC2016
qemu_has() { # INTERFACE - HOST's QEMU holds the tap of that name
	host sh -c 'grep -q "^iff:[[:space:]]*$2\$" /proc/$1/fdinfo/*' sh "$(qemus host net)" "$1"
}
bridged() { host ip link set "$1" master br0 up; } # INTERFACE: the HOST's business, as a udev rule does it
frames() { [ "$(host cat "/sys/class/net/$1/statistics/rx_packets")" -ge 1 ]; }
no_link() { ! link_of "$@"; }

it "define" define_net
it "start, with an interface of a bridge" virsh start net || bail_out "no machine to test with"
it "QEMU has an interface of that name on the HOST" qemu_has vmnet1
there() { link_of dpu vmnet1 && virsh domiflist net | grep 'vmnet1 *bridge *br0'; }
it "libvirt has it on the DPU" there
sends() { bridged vmnet1 && wait_for 30 frames vmnet1; }
it "what the guest sends comes to the HOST's bridge" sends
plugged() {
	virsh attach-interface net bridge br0 --target vmnet2 --model virtio --live && qemu_has vmnet2 && qemu_has vmnet1 && bridged vmnet2
}
it "attach-interface --live" plugged
statistics() { # as rexec-qemu(8) has it
	host sh -c 'chmod 600 /etc/rexec/whitelist && echo ip >>/etc/rexec/whitelist && chmod 400 /etc/rexec/whitelist' &&
		host kill -HUP "$(<"$rig_dir/rexec_server.pid")" && wait_for 10 counted
}
counted() { libvirt rexec ip -s -j link show vmnet1 | grep -E '"rx":\{"bytes":[1-9]'; }
it "the interface's true statistics: rexec ip" statistics
it "destroy" virsh destroy net
for side in host dpu; do
	for interface in vmnet1 vmnet2; do
		it "$interface is gone on the ${side^^}" wait_for 10 no_link $side $interface
	done
done
it "undefine" virsh undefine net
it "every daemon still runs" svc status
tap_done
