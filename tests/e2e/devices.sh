#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# devices.sh - what stands beside a virtual machine: its guest agent, UEFI's variables, a TPM, virtiofs,
# hugepages, other machines.
#
# Arguments: those of e2e_up.
set -uo pipefail
# shellcheck source=tests/e2e/lib.sh
. "$(dirname "$0")/lib.sh"

# The deployment that is recommended; QEMU's user has different numbers on the two sides.
[ $# -gt 0 ] || set -- --host-qemu-uid 6107:6108 -- --chroot
e2e_up "$@" || bail_out "the stack does not come up"

### QEMU's guest agent ###

from_the_guest() { virsh domhostname e2e --source agent | grep -xF guest; }
guestinfo() {
	local kernel
	kernel=$(strings "$rig_dir/guest/vmlinuz" | grep -m 1 -oE '^[0-9.]+-[^ ]*cloud-amd64')
	virsh guestinfo e2e | grep -xE "os.kernel-release *: ${kernel:?}"
}
echoes() { in_guest e2e /bin/echo 'one two' three | grep -xF 'one two three'; }
# more than any buffer on the way holds
megabyte() { [ "$(in_guest e2e /bin/dd if=/dev/zero bs=1000000 count=1 | wc -c)" = 1000000 ]; }

remember_traces
it "define" define e2e disk.qcow2
it "start" virsh start e2e || bail_out "no machine to test with"
it "the guest agent answers" wait_for 120 agent_answers e2e || bail_out "no agent to test with"
it "domhostname --source agent" from_the_guest
it "guestinfo tells of the guest's kernel" guestinfo
it "guest-exec, and what the program says" echoes
it "1 MB in one of the agent's answers" megabyte
agent_again() { svc stop libvirtd && svc start libvirtd && wait_for 20 agent_answers e2e && from_the_guest; }
it "the agent answers a libvirtd that was restarted" agent_again
agent_after_loss() {
	svc kill udsproxyd_host KILL && svc start udsproxyd_host && wait_for 20 agent_answers e2e && from_the_guest
}
it "the agent answers after a udsproxyd was killed" agent_after_loss
off() { virsh shutdown e2e --mode agent && wait_for 20 reason_is e2e 'shut off (shutdown)' && wait_for 10 no_qemu; }
it "shutdown by the agent" off
it "undefine" virsh undefine e2e

### UEFI and a TPM, as newer guests want them ###

nvram=/var/lib/libvirt/qemu/nvram/uefi_VARS.fd
define_uefi() { # (with a TPM and without a display OVMF does not boot)
	vm_xml uefi disk.qcow2 | sed -e "s|>128<|>256<|" -e "s|<memballoon|<video><model type='vga'/></video>&|" -e "s|<kernel>|<loader readonly='yes' type='pflash'>/usr/share/OVMF/OVMF_CODE_4M.fd</loader>\
		<nvram template='/usr/share/OVMF/OVMF_VARS_4M.fd'/>&|" -e "s|</devices>|\
		<tpm model='tpm-tis'><backend type='emulator' version='2.0'/></tpm>&|" >"$rig_dir/uefi.xml"
	libvirt virsh -q define /dev/stdin <"$rig_dir/uefi.xml"
}
start_uefi() { virsh start uefi && wait_for 120 agent_answers uefi; }

variable=/sys/firmware/efi/efivars/Rig-6a1b9f6e-0d4e-4c1f-9d5b-2f9d0c6e7a11
writes_variable() { # attributes, in four bytes: non-volatile, for all times
	in_guest uefi /bin/sh -c "printf '\007\000\000\000words of the guest' >$variable" &&
		host grep -q 'words of the guest' $nvram && libvirt grep -q 'words of the guest' $nvram
}
keeps_variable() { in_guest uefi /bin/cat $variable | grep -aF 'words of the guest'; }

# shellcheck disable=SC2016
processes() { # SIDE PROGRAM - pids of those, told by what they are; where libvirt is, /usr/bin/swtpm is rexec
	on "$1" sh -c 'for p in /proc/[0-9]*; do case $(readlink "$p/exe") in
		*/"$1") [ "$p/exe" -ef /usr/bin/rexec ] || echo "${p#/proc/}" ;; esac; done' sh "$2"
}
swtpm_on_host() { [ "$(processes host swtpm | wc -w)" = 1 ] && [ -z "$(processes dpu swtpm)" ]; }
# libvirt looks whether the process runs the very file that it has started, and whether its lock is held
# shellcheck disable=SC2016
swtpm_standin() {
	libvirt sh -c 'pid=$(cat /run/libvirt/qemu/swtpm/*-uefi-swtpm.pid); ls -l "/proc/$pid/exe" && cat /proc/locks &&
		[ "/proc/$pid/exe" -ef /usr/bin/swtpm ] && grep -q "POSIX .*WRITE $pid " /proc/locks'
}
# How often the TPM was reset, by its own count, which is in its state: TPM2_ReadClock.
read_clock='exec 3<>/dev/tpm0
printf "\200\001\000\000\000\012\000\000\001\201" >&3
dd bs=4096 count=1 <&3 2>/dev/null | hexdump -v -e "/1 \"%02x\""'
tpm_resets() {
	local answer
	answer=$(in_guest uefi /bin/sh -c "$read_clock")
	echo "TPM2_ReadClock: $answer" >&2
	# a header without an error, the time, the clock
	[[ $answer =~ ^80010000002300000000.{32}(.{8}) ]] && echo $((16#${BASH_REMATCH[1]}))
}
one_more_reset() { [ "$(tpm_resets)" = $((resets + 1)) ]; }
no_state() { # whatever there was
	[ -z "$(host sh -c 'ls /var/lib/libvirt/swtpm /run/libvirt/qemu/swtpm /var/lib/libvirt/qemu/nvram | grep -v :')" ]
}

it "define a machine with UEFI and a TPM" define_uefi
it "it boots" start_uefi
it "swtpm runs on the HOST, and not on the DPU" swtpm_on_host
it "libvirt finds its process, and the lock of its pid file" swtpm_standin
it "the guest writes a UEFI variable: it is in the HOST's file, and the DPU sees it" writes_variable
it "the guest asks its TPM" tpm_resets
resets=$(tpm_resets 2>/dev/null)
destroy_uefi() { virsh destroy uefi && wait_for 10 no_qemu && [ -z "$(processes host swtpm)" ]; }
it "destroy: QEMU and swtpm are gone" destroy_uefi
it "it boots again" start_uefi
it "the UEFI variable is as the guest left it" keeps_variable
it "the TPM is the same, and has been reset once more" one_more_reset
swtpm_stays() {
	local pid
	pid=$(processes host swtpm)
	svc kill udsproxyd_host KILL && svc start udsproxyd_host && wait_for 20 agent_answers uefi &&
		swtpm_standin && [ "$(processes host swtpm)" = "$pid" ] && tpm_resets
}
it "a udsproxyd is killed: swtpm stays, and serves" swtpm_stays
restart_libvirtd() { svc stop libvirtd && svc start libvirtd && wait_for 20 agent_answers "$1"; } # VM
known_again() { restart_libvirtd uefi && swtpm_on_host && swtpm_standin && tpm_resets; }
it "libvirtd is restarted: the TPM serves on" known_again
it "destroy" destroy_uefi
it "undefine" virsh undefine uefi --nvram
it "no variables and no TPM's state are left on the HOST" no_state

### virtiofs ###

define_fs() {
	host sh -c "mkdir $images/export && echo 'words of the HOST' >$images/export/file"
	vm_xml fs disk.qcow2 | sed -e "s|<vcpu>|<memoryBacking><source type='memfd'/><access mode='shared'/></memoryBacking>&|" \
		-e "s|<memballoon|<filesystem type='mount'><driver type='virtiofs'/><source dir='$images/export'/>\
		<target dir='export'/></filesystem>&|" >"$rig_dir/fs.xml"
	libvirt virsh -q define /dev/stdin <"$rig_dir/fs.xml"
}
start_fs() { virsh start fs && wait_for 120 agent_answers fs; }
# one that serves, and its parent
virtiofsd_on_host() { [ "$(processes host virtiofsd | wc -w)" = 2 ] && [ -z "$(processes dpu virtiofsd)" ]; }
guest_reads() {
	in_guest fs /bin/sh -c 'mkdir /tmp/export && mount -t virtiofs export /tmp/export' &&
		in_guest fs /bin/cat /tmp/export/file | grep -xF 'words of the HOST'
}
guest_writes() { # TEXT
	in_guest fs /bin/sh -c "echo '$1' >/tmp/export/new" && host grep -xF "$1" $images/export/new
}
virtiofsd_stays() {
	svc kill udsproxyd_host KILL && svc start udsproxyd_host && wait_for 20 agent_answers fs && guest_writes 'afterwards'
}
no_virtiofsd() {
	[ -z "$(processes host virtiofsd)$(host ls /run/virtiofsd)" ] && ! libvirt pgrep -f '/virtiofsd --fd'
}
destroy_fs() { virsh destroy fs && wait_for 10 no_qemu && wait_for 10 no_virtiofsd; }
it "define a machine with a directory of the HOST" define_fs
it "it boots" start_fs
it "virtiofsd runs on the HOST, and not on the DPU" virtiofsd_on_host
it "the guest mounts the directory, and reads" guest_reads
it "the guest writes" guest_writes 'words of the guest'
it "a udsproxyd is killed: virtiofsd stays, and serves" virtiofsd_stays
fs_known_again() { restart_libvirtd fs && virtiofsd_on_host && guest_writes 'and then'; }
it "libvirtd is restarted: virtiofsd serves on" fs_known_again
it "destroy: QEMU and virtiofsd are gone, and their socket" destroy_fs
it "undefine" virsh undefine fs

### hugepages ###

define_huge() {
	vm_xml huge disk.qcow2 | sed -e "s|>128<|>64<|" -e "s|<vcpu>|<memoryBacking><hugepages><page size='2048' unit='KiB'/></hugepages>\
		<source type='memfd'/></memoryBacking>&|" >"$rig_dir/huge.xml"
	libvirt virsh -q define /dev/stdin <"$rig_dir/huge.xml"
}
# The test takes none from the machine: where it has none, QEMU on the HOST must have found so.
huge_memory() {
	local said
	if [ "$(awk '/^HugePages_Free/ { print $2 }' /proc/meminfo)" -ge 32 ]; then
		virsh start huge --paused && host sh -c "grep 'KernelPageSize: *2048' /proc/$(qemus host huge)/smaps" &&
			virsh destroy huge
	else
		said=$(virsh start huge --paused 2>&1) && return 1
		echo "$said"
		grep -F 'unable to map backing store for guest RAM: Cannot allocate memory' <<<"$said"
	fi
}
it "define a machine with hugepages" define_huge
it "they are the HOST's" huge_memory
it "undefine" virsh undefine huge

### ten machines ###

ten=(ten{0..9})
each() { # CMD... - run with each machine as its last argument, all at once; they all succeed
	local vm pids=() status=0
	for vm in "${ten[@]}"; do
		"$@" "$vm" &
		pids+=($!)
	done
	for vm in "${pids[@]}"; do wait "$vm" || status=1; done
	return $status
}
define_small() { # VM
	vm_xml "$1" "$1.qcow2" | sed 's/>128</>64</' >"$rig_dir/$1.xml"
	new_disk "$1.qcow2" && libvirt virsh -q define /dev/stdin <"$rig_dir/$1.xml"
}
is_running() { state_is "$1" running; }
names_itself() { virsh qemu-monitor-command "$1" '{"execute":"query-name"}' | grep -F "{\"name\":\"$1\"}"; }
# shellcheck disable=SC2016
apart() { # a QEMU each on the HOST, a stand-in each on the DPU
	[ -z "$(qemus dpu)" ] &&
		diff <(host sh -c 'for p in $1; do
			tr "\0" "\n" <"/proc/$p/cmdline" | sed -n "s/^guest=\(ten.\),.*/\1/p"; done' sh "$(qemus host)" | sort) \
			<(printf '%s\n' "${ten[@]}") &&
		[ "$(libvirt sh -c 'for vm; do read -r pid <"/run/libvirt/qemu/$vm.pid"
			echo "$pid $(readlink "/proc/$pid/exe")"; done' sh "${ten[@]}" | sort -u | grep -c '/rexec-qemu$')" = 10 ]
}
it "define ten machines" each define_small
it "start them all at once" each virsh start
it "all ten run" each is_running
it "each has a QEMU on the HOST, and a stand-in on the DPU" apart
it "each monitor is its own machine's" each names_itself
it "destroy them all at once" each virsh destroy
it "no QEMU is left" wait_for 10 no_qemu
it "undefine them" each virsh undefine

### nothing is left ###

for side in host dpu; do
	it "nothing is left behind on the ${side^^}: files, mounts, processes" wait_for 20 no_new_traces $side
done
it "the HOST mounts nothing of the DPU" mounts_unchanged
it "every daemon still runs" svc status
tap_done
