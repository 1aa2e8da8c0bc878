#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# fewer-cpus.sh - a DPU of one CPU, a HOST of more: what libvirt can say of the HOST's CPUs, what it
# cannot, and how they are reached all the same.
set -uo pipefail
# shellcheck source=tests/e2e/lib.sh
. "$(dirname "$0")/lib.sh"

if [ "$(nproc)" -lt 2 ]; then
	echo '1..0 # SKIP needs a machine with two CPUs'
	exit 0
fi

# The rig's DPU is shown one CPU, but the kernel has more, and pins to them. A cpuset makes it refuse
# them, as that of a real DPU would.
cpuset=
new_cpuset() { # sets cpuset
	local dir=/sys/fs/cgroup/cpuset
	[ -e $dir/cgroup.procs ] || dir=/sys/fs/cgroup
	mkdir "$dir/one-cpu.$$" 2>/dev/null || return 1
	cpuset=$dir/one-cpu.$$
	[ ! -e "$dir/cpuset.mems" ] || cat "$dir/cpuset.mems" >"$cpuset/cpuset.mems" # cgroup v1 inherits none
	[ -e "$cpuset/cpuset.cpus" ] && echo 0 >"$cpuset/cpuset.cpus"
}
finish() {
	local status=$?
	trap - EXIT
	(
		(exit $status)
		e2e_down
	)
	status=$?
	[ -z "$cpuset" ] || wait_for 10 rmdir "$cpuset" 2>/dev/null
	exit $status
}
within() { (echo "$BASHPID" >"$cpuset/cgroup.procs" && "$@"); } # on the one CPU

e2e_up --dpu-cpus 1 || bail_out "the stack does not come up"
trap finish EXIT
all=$(host sh -c "awk '/^Cpus_allowed_list/ { print \$2 }' /proc/self/status")

vm() { # NAME CPUTUNE [MORE]
	vm_xml "$1" disk.qcow2 | sed -e "s|<domain type='qemu'>|<domain type='qemu' xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>|" \
		-e "s|<vcpu>1<|<vcpu>2<|" -e "s|<os>|<iothreads>1</iothreads>$2<os>|" -e "s|</domain>|${3:-}</domain>|" |
		libvirt sh -c "cat >/tmp/$1.xml && virsh -q define /tmp/$1.xml; s=\$?; rm /tmp/$1.xml; exit \$s"
}
thread_cpus() { # VM NAME - the CPUs that HOST lets QEMU's threads of this name run on
	# shellcheck disable=SC2016
	host sh -c 'for t in /proc/$1/task/*; do
		grep -qx "$2" "$t/comm" && awk "/^Cpus_allowed_list/ { print \$2 }" "$t/status"; done' \
		sh "$(qemus host "$1")" "$2" 2>/dev/null | sort -u | xargs
}
cpus_are() { # VM EMULATOR IOTHREAD VCPU0 VCPU1
	local now
	now="$(thread_cpus "$1" 'qemu-system-x86') $(thread_cpus "$1" 'IO iothread1') $(thread_cpus "$1" 'CPU 0/.*') $(thread_cpus "$1" 'CPU 1/.*')"
	echo "emulator, iothread, vCPUs: $now"
	[ "$now" = "$2 $3 $4 $5" ]
}

one_cpu() { [ "$(virsh nodeinfo | awk '/^CPU\(s\)/ { print $2 }')" = 1 ]; }
it "libvirt knows the DPU's CPU alone" one_cpu
confined() {
	svc stop libvirtd && within svc start libvirtd && ! within taskset -c 1 true
}
if ! new_cpuset; then
	skip "a machine pinned to a CPU that the DPU has not does not start" "no cpuset to be had here"
elif it "its kernel has no other" confined; then
	it "define" vm pinned "<cputune><vcpupin vcpu='0' cpuset='1'/></cputune>"
	refused() { ! virsh start pinned 2>"$rig_dir/said" && grep 'cannot set CPU affinity on .*: Invalid argument' "$rig_dir/said" && no_qemu pinned; }
	it "a machine pinned to a CPU that the DPU has not does not start: its own kernel refuses" refused
	virsh undefine pinned >/dev/null
fi

it "define" vm plain ''
plain() { virsh start plain && wait_for 5 cpus_are plain "$all" "$all" "$all" "$all"; }
it "one that is not pinned runs on all of the HOST's CPUs" plain || bail_out "no machine to test with"
to_the_only_one() { virsh vcpupin plain 0 0 --live && virsh emulatorpin plain 0 --live && wait_for 5 cpus_are plain "$all" "$all" "$all" "$all"; }
it "to pin to the DPU's only CPU pins nothing" to_the_only_one
virsh destroy plain >/dev/null
virsh undefine plain >/dev/null

hosts="<qemu:commandline><qemu:env name='REXEC_QEMU_CPUS' value='emulator=1 iothread1=0 vcpu0=1'/></qemu:commandline>"
it "define" vm named '' "$hosts"
named() { virsh start named && wait_for 5 cpus_are named 1 0 1 "$all"; }
it "REXEC_QEMU_CPUS, set by <qemu:env>, pins to the HOST's CPUs" named
stays() { virsh emulatorpin named 0 --live && virsh vcpupin named 0 0 --live && svc stop libvirtd && svc start libvirtd && cpus_are named 1 0 1 "$all"; }
it "whatever libvirt says of those" stays
virsh destroy named >/dev/null
virsh undefine named >/dev/null
wrong() {
	vm wrong '' "${hosts/vcpu0/cpu0}" && ! virsh start wrong 2>"$rig_dir/said"
	virsh undefine wrong
	cat "$rig_dir/said"
	grep 'not cpu0=1' "$rig_dir/said"
}
it "what it cannot mean fails the start, and says why" wrong

### the HOST's topology, as rexec-qemu(8) has it ###

topology() { # of the side's libvirt or kernel: CPUs and their cores
	# shellcheck disable=SC2016
	on "$1" sh -c 'cd /sys/devices/system/cpu && cat present && cat cpu[0-9]*/topology/core_id && ls ../node'
}
take_topology() {
	dpu sh -c "mkdir -p /mnt/host /var/lib/rexec-qemu/system
		sshfs -o direct_io,ssh_command=/usr/libexec/rexec-sftp host:/sys/devices/system /mnt/host || exit 1
		cp -r /mnt/host/cpu /mnt/host/node /var/lib/rexec-qemu/system 2>/dev/null
		umount /mnt/host
		for d in cpu node; do
			mount --bind /var/lib/rexec-qemu/system/\$d /sys/devices/system/\$d || exit 1
		done" && [ "$(topology host)" = "$(topology dpu)" ]
}
it "the HOST's topology is copied and put over the DPU's" take_topology
known() {
	svc stop libvirtd && svc start libvirtd && [ "$(virsh nodeinfo | awk '/^CPU\(s\)/ { print $2 }')" = "$(host nproc)" ] &&
		[ "$(virsh capabilities | grep -c "<cpu id=")" = "$(host nproc)" ]
}
it "libvirt has the HOST's CPUs" known
vm plain ''
it "a machine that is not pinned still runs on all of them" plain
virsh destroy plain >/dev/null
virsh undefine plain >/dev/null
it "every daemon still runs" svc status
tap_done
