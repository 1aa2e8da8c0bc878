#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# chroot.sh - the deployment that is recommended: the DPU's libvirtd in a chroot that virt_start.sh
# made. The DPU has one CPU, the HOST more. Arguments: those of e2e_up.
set -uo pipefail
# shellcheck source=tests/e2e/lib.sh
. "$(dirname "$0")/lib.sh"

[ $# -gt 0 ] || set -- --dpu-cpus 1 -- --chroot
e2e_up "$@" || bail_out "the stack does not come up"
root=/root/new_root

dpu_mounts() { dpu cat /proc/mounts | sort; }
again() { # a second virt_start.sh
	local before
	before=$(dpu_mounts)
	dpu virt_start.sh --root $root --origin / --share "$images" && [ "$(dpu_mounts)" = "$before" ]
}
it "virt_start.sh, run again, changes nothing" again
# shellcheck disable=SC2016
only_shares() {
	diff <(dpu awk '$3 ~ /sshfs/ { print $2 }' /proc/mounts | sort) - <<-END
		$root/run/libvirt/qemu/swtpm
		$root/run/virtiofsd
		$root$images
		$root/var/lib/libvirt/qemu/nvram
		$root/var/lib/libvirt/swtpm
		$root/var/log/swtpm/libvirt/qemu
	END
}
it "the HOST's image directory is shared, what devices want, and no more" only_shares
in_chroot() { dpu sh -c "[ -e /proc/\$(pgrep -xo libvirtd)/root$images/disk.qcow2 ] && [ ! -e $images/disk.qcow2 ]"; }
it "libvirtd runs in the chroot" in_chroot

it "define" define e2e disk.qcow2
remember_traces
it "start" virsh start e2e || bail_out "no machine to test with"
it "QEMU is in the HOST's process list, and not in the DPU's" only_on_host e2e
all_cpus=$(host sh -c "awk '/^Cpus_allowed_list/ { print \$2 }' /proc/self/status")
it "a DPU of one CPU does not confine the HOST's QEMU" vcpu_on e2e "$all_cpus"
boot() { console_open e2e && booted e2e; }
it "the console shows the guest booting" boot || bail_out "no guest to test with"
it "the console carries what is typed" ask e2e 'echo hello there' '^ECHO:hello there$'
disk_write() { ask e2e 'write vda first words' '^WROTE:vda$' && host_reads disk.qcow2 'first words'; }
it "what the guest writes is in the HOST's image" disk_write
suspend_resume() {
	virsh suspend e2e && state_is e2e paused && virsh resume e2e && state_is e2e running &&
		ask e2e 'echo awake' '^ECHO:awake$'
}
it "suspend and resume" suspend_resume
snapshot() {
	virsh snapshot-create-as e2e s1 --disk-only --no-metadata --diskspec "vda,file=$images/s1.qcow2" &&
		ask e2e 'write vda after the snapshot' '^WROTE:vda$' && host_reads s1.qcow2 'after the snapshot'
}
it "external disk snapshot" snapshot
booted_as=$(ask e2e boot '^BOOT:')
same_boot() { console_open e2e && [ "$(ask e2e boot '^BOOT:')" = "$booted_as" ]; }
save_restore() {
	virsh save e2e "$1" && wait_for 10 no_qemu e2e && virsh restore "$1" && state_is e2e running && same_boot
}
it "save and restore" save_restore "$images/e2e.save"
it "save and restore with a file of the chroot" save_restore /var/tmp/e2e.save
restart() { console_close e2e && svc stop libvirtd && svc start libvirtd && state_is e2e running && same_boot; }
it "libvirtd stopped and started while the machine runs" restart
off() { virsh shutdown e2e --mode acpi && wait_for 20 state_is e2e 'shut off' && wait_for 10 no_qemu; }
it "shutdown by ACPI" off
console_close e2e
it "undefine" virsh undefine e2e

for side in host dpu; do
	it "nothing is left behind on the ${side^^}: files, mounts, processes" wait_for 20 no_new_traces $side
done
it "the HOST mounts nothing of the DPU" mounts_unchanged
it "every daemon still runs" svc status
svc stop libvirtd
svc stop virtlogd
undone() { dpu virt_umount.sh --root $root && ! dpu grep " $root" /proc/mounts; }
it "virt_umount.sh undoes it all" undone
it "virt_umount.sh, run again, has nothing to do" undone
tap_done
