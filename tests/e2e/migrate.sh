#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# migrate.sh - a virtual machine moves from one HOST to another while it runs, driven from the DPU of the first.
set -uo pipefail
# shellcheck source=tests/e2e/lib.sh
. "$(dirname "$0")/lib.sh"

# shellcheck disable=SC2119
e2e_up || bail_out "the first stack does not come up"
first=$rig_dir
# shellcheck disable=SC2119
e2e_up || bail_out "the second stack does not come up"
second=$rig_dir
at() { # RIG CMD... - CMD, of lib.sh or of this file, there
	local rig_dir=$1
	shift
	"$@"
}

"$rig" join "$first" "$second" || bail_out "the rigs cannot be joined"
# libvirt tells machines by names and by ids; these two sides are of one machine, and have one id.
listen() {
	# shellcheck disable=SC2016
	svc stop libvirtd && dpu sh -c 'printf "listen_tls = 0\nlisten_tcp = 1\nauth_tcp = \"none\"\nhost_uuid = \"%s\"\n" \
		"$(cat /proc/sys/kernel/random/uuid)" >>/etc/libvirt/libvirtd.conf' && LIBVIRTD_LISTEN=1 svc start libvirtd
}
it "the first DPU's libvirtd listens" at "$first" listen || bail_out "no libvirtd"
it "the second DPU's libvirtd listens" at "$second" listen || bail_out "no libvirtd"
it "the first reaches the second" at "$first" virsh -c qemu+tcp://dpu2/system hostname || bail_out "no network"
at "$first" remember_traces
at "$second" remember_traces

lives_at() { # RIG - it runs there, on the HOST, has not booted anew, and is nowhere else
	local other=$first
	[ "$1" = "$first" ] && other=$second
	at "$1" state_is e2e running && at "$1" only_on_host e2e && at "$other" no_qemu &&
		[ "$(at "$1" in_guest e2e /bin/cat /proc/sys/kernel/random/boot_id)" = "$booted_as" ]
}
start() { define e2e disk.qcow2 && virsh start e2e && wait_for 120 agent_answers e2e; }
it "a machine runs on the first HOST" at "$first" start || bail_out "no machine to test with"
booted_as=$(at "$first" in_guest e2e /bin/cat /proc/sys/kernel/random/boot_id)
writes() { in_guest e2e /bin/sh -c 'echo words | dd of=/dev/vda bs=512 count=1 conv=sync,fsync'; }
it "its guest writes to its disk" at "$first" writes

# QEMU itself connects to the other HOST. (Otherwise libvirt does, on the DPU, and hands QEMU a TCP socket, which does not cross.)
over_hosts() {
	virsh migrate --live --parallel --copy-storage-all --persistent --undefinesource --migrateuri tcp://host2 \
		e2e qemu+tcp://dpu2/system
}
it "migrate --parallel, with its disk, from HOST to HOST" at "$first" over_hosts
it "it goes on on the second HOST" lives_at "$second"
it "what it had written is in the second HOST's image" at "$second" host_reads disk.qcow2 words
# even where the way from DPU to DPU leads to the HOST in the end
no_tcp() {
	local said status
	at "$first" dpu timeout 20 socat TCP-LISTEN:49152 TCP:host:49152 & # for one connection
	at "$first" wait_for 5 dpu sh -c "grep -q ':C000 .* 0A ' /proc/net/tcp"
	said=$(virsh migrate --live --unsafe --migrateuri tcp://dpu1:49152 e2e qemu+tcp://dpu1/system 2>&1)
	status=$?
	wait $!
	echo "$said"
	[ $status != 0 ] && grep -F 'a descriptor cannot cross: a socket that is not a UNIX socket' <<<"$said"
}
it "migrate that wants a TCP socket to cross fails, and says so" at "$second" no_tcp
it "and the machine goes on where it was" lives_at "$second"
# The disk is not moved: the first HOST's image has been as it is since then.
through_dpus() {
	virsh migrate --live --p2p --tunnelled --persistent --undefinesource --unsafe e2e qemu+tcp://dpu1/system
}
it "migrate --p2p --tunnelled, through both DPUs" at "$second" through_dpus
it "it goes on on the first HOST" lives_at "$first"
end() { virsh destroy e2e && virsh undefine e2e && wait_for 10 no_qemu; }
it "destroy and undefine" at "$first" end

for side in host dpu; do
	it "nothing is left behind on the first ${side^^}" at "$first" wait_for 20 no_new_traces $side
	it "nothing is left behind on the second ${side^^}" at "$second" wait_for 20 no_new_traces $side
done
it "every daemon of the first still runs" at "$first" svc status
it "every daemon of the second still runs" at "$second" svc status
tap_done
