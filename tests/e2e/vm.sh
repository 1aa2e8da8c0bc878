#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# vm.sh - virtual machines of the HOST, managed by the DPU's unmodified libvirtd.
#
# Arguments: those of e2e_up. One running guest serves most of the tests, in an order in which each leaves what the next needs.
set -uo pipefail
# shellcheck source=tests/e2e/lib.sh
. "$(dirname "$0")/lib.sh"

# By default QEMU's user has different numbers on the two sides.
[ $# -gt 0 ] || set -- --host-qemu-uid 6107:6108
e2e_up "$@" || bail_out "the stack does not come up"

### before any machine runs ###

no_preload() {
	local pid
	pid=$(libvirt cat /run/libvirtd.pid)
	dpu sh -c "! tr '\0' '\n' </proc/$pid/environ | grep LD_PRELOAD; [ ! -s /etc/libvirt/qemu.conf ]"
}
it "libvirtd runs unmodified: empty qemu.conf, no LD_PRELOAD" no_preload

# shellcheck disable=SC2016
no_kvm() { ! libvirt sh -c '[ -c /dev/kvm ] && [ "$(stat -c %t:%T /dev/kvm)" = a:e8 ]'; }
it "the DPU has no KVM" no_kvm

# The DPU's udsproxyd opens a file that sshfs serves, through this same udsproxyd.
passer='
import os, socket, sys
listener = socket.socket(socket.AF_UNIX)
listener.bind("/run/rexec/passer")
listener.listen()
print("listening", flush=True)
connection, _ = listener.accept()
os.unlink("/run/rexec/passer")
socket.send_fds(connection, [b"x"], [os.open(sys.argv[1], os.O_RDONLY)])
connection.recv(1)
'
receiver='
import os, socket
connection = socket.socket(socket.AF_UNIX)
connection.connect("/run/rexec/passer")
connection.settimeout(5)
fds = socket.recv_fds(connection, 1, 1)[1]
print(os.read(fds[0], 100).decode())
'
file_crosses() {
	local said
	host sh -c "echo shared words >$images/passed"
	exec {said}< <(host /usr/bin/python3 -c "$passer" "$images/passed")
	read -r -t 10 <&"$said"
	libvirt env LD_PRELOAD=libudsproxy.so /usr/bin/python3 -c "$receiver" | grep -x 'shared words'
	local status=$?
	exec {said}<&-
	host rm -f "$images/passed"
	return $status
}
it "a file of the share that a HOST's program passes opens on the DPU" file_crosses

it "define" define e2e disk.qcow2
remember_traces

# HOST's next pids are the numbers that libvirtd's threads have on the DPU
# shellcheck disable=SC2016
libvirtd_tids() { libvirt sh -c 'ls /proc/$(cat /run/libvirtd.pid)/task' | sort -n; }
"$rig" pids "$rig_dir" host "$(($(libvirtd_tids | tail -n 1) - 12))"
it "start" virsh start e2e || bail_out "no machine to test with"

pids_collide() {
	local both
	both=$(comm -12 <(libvirtd_tids | sort) <(host ls "/proc/$(qemus host e2e)/task" | sort))
	echo "libvirtd's threads: $(libvirtd_tids | xargs)"
	echo "QEMU's: $(host ls "/proc/$(qemus host e2e)/task" | xargs)"
	[ -n "$both" ]
}
it "QEMU's pids on the HOST are those of libvirtd's threads on the DPU" pids_collide

it "QEMU is in the HOST's process list, and not in the DPU's" only_on_host e2e

qemu=$(qemus host e2e)
# the first machine, still the same process and the only one
same_qemu() {
	[ "$(qemus host e2e)" = "$qemu" ] || {
		echo "QEMU was $qemu, is $(qemus host e2e)"
		return 1
	}
}

it "domstate" state_is e2e running
it "the console connects" console_open e2e
it "the guest boots, and the console shows it" booted e2e || bail_out "no guest to test with"
it "the console carries what is typed" ask e2e 'echo hello there' '^ECHO:hello there$'

disk_write() { ask e2e 'write vda first words' '^WROTE:vda$' && host_reads disk.qcow2 'first words'; }
it "what the guest writes is in the HOST's image" disk_write

agent_answers() { virsh qemu-agent-command --timeout 10 e2e '{"execute":"guest-ping"}' | grep -F '{"return":{}}'; }
it "the guest agent answers" wait_for 15 agent_answers

### looking at it ###

dumpxml() { virsh dumpxml e2e | grep -F "<source file='$images/disk.qcow2'"; }
it "dumpxml" dumpxml
qmp() { virsh qemu-monitor-command e2e '{"execute":"query-status"}' | grep '"running":true'; }
it "qemu-monitor-command" qmp
domblklist() { virsh domblklist e2e | grep -E "vda +$images/disk.qcow2"; }
it "domblklist" domblklist
domblkstat() { [ "$(virsh domblkstat e2e vda | awk '$2 == "wr_bytes" { print $3 }')" -ge 512 ]; }
it "domblkstat" domblkstat
domstats() { virsh domstats e2e | grep -F "state.state=1"; }
it "domstats" domstats
dommemstat() { virsh dommemstat e2e | grep -E '^actual 131072$'; }
it "dommemstat" dommemstat
vcpuinfo() { virsh vcpuinfo e2e | grep -E '^State: +running'; }
it "vcpuinfo" vcpuinfo

all_cpus=$(host sh -c "awk '/^Cpus_allowed_list/ { print \$2 }' /proc/self/status")
it "unpinned, it may run on all of the HOST's CPUs" vcpu_on e2e "$all_cpus"
vcpupin() { # CPU
	virsh vcpupin e2e 0 "$1" && wait_for 5 vcpu_on e2e "$1" && return
	echo "HOST's thread may run on: $(vcpu_cpus e2e)"
	return 1
}
it "vcpupin reaches the HOST's thread" vcpupin 1
it "vcpupin back to all CPUs" vcpupin "$all_cpus"

### stopping and going on ###

suspended() { virsh suspend e2e && state_is e2e paused && same_qemu; }
it "suspend" suspended
resumed() { virsh resume e2e && state_is e2e running && ask e2e 'echo awake' '^ECHO:awake$'; }
it "resume, and the guest goes on" resumed

### disks and snapshots ###

blockcopy() {
	virsh blockcopy e2e vda --dest "$images/copy.qcow2" --format qcow2 --wait --pivot --transient-job &&
		virsh domblklist e2e | grep -F "$images/copy.qcow2" &&
		ask e2e 'write vda after the copy' '^WROTE:vda$' &&
		host_reads copy.qcow2 'after the copy' && host_reads disk.qcow2 'first words'
}
it "blockcopy with pivot" blockcopy

disk_snapshot() {
	virsh snapshot-create-as e2e s1 --disk-only --no-metadata --diskspec "vda,file=$images/s1.qcow2" &&
		virsh domblklist e2e | grep -F "$images/s1.qcow2" &&
		ask e2e 'write vda after the snapshot' '^WROTE:vda$' &&
		host_reads s1.qcow2 'after the snapshot' && host_reads copy.qcow2 'after the copy'
}
it "external disk snapshot" disk_snapshot

memory_snapshot() {
	virsh snapshot-create-as e2e s2 --no-metadata --memspec "file=$images/s2.mem,snapshot=external" \
		--diskspec "vda,snapshot=external,file=$images/s2.qcow2" &&
		has_magic host "$images/s2.mem" LibvirtQemudSave &&
		state_is e2e running && ask e2e 'read vda' '^READ:vda:after the snapshot$'
}
it "external memory snapshot" memory_snapshot

size_is() { # DEV SIZE
	[ "$(ask e2e "size $1" "^SIZE:$1:")" = "SIZE:$1:$2" ]
}
attach() {
	new_disk extra.qcow2
	virsh attach-disk e2e "$images/extra.qcow2" vdb --subdriver qcow2 --live && wait_for 20 size_is vdb 67108864 &&
		ask e2e 'write vdb plugged' '^WROTE:vdb$' && host_reads extra.qcow2 plugged
}
it "attach a disk" attach
detached() { ! virsh domblklist e2e | grep vdb; }
detach() { virsh detach-disk e2e vdb --live && wait_for 20 detached && size_is vdb none; }
it "detach it" detach

dump() { # SIDE FILE
	virsh dump e2e "$2" --memory-only && has_magic "$1" "$2" $'\177ELF' && state_is e2e running
}
it "dump --memory-only into a shared file" dump host "$images/e2e.core"
it "dump --memory-only into a file of the DPU" dump dpu /var/tmp/e2e.core
host rm -f "$images/e2e.core"
dpu rm -f /var/tmp/e2e.core

same_boot() { # the guest has not booted since
	local answer
	console_open e2e && answer=$(ask e2e boot '^BOOT:') && [ "$answer" = "$booted_as" ] && return
	echo "it was $booted_as, is $answer"
	return 1
}
booted_as=$(ask e2e boot '^BOOT:')
save_restore() { # FILE
	virsh save e2e "$1" && state_is e2e 'shut off' && wait_for 10 no_qemu e2e &&
		virsh restore "$1" && state_is e2e running && same_boot
}
it "save and restore" save_restore "$images/e2e.save"
it "save and restore with a file that only the DPU has" save_restore /var/tmp/e2e.save
managedsave() {
	virsh managedsave e2e && state_is e2e 'shut off' && wait_for 10 no_qemu e2e &&
		virsh start e2e && state_is e2e running && same_boot
}
state_is e2e running || start_vm e2e
it "managedsave, and start from it" managedsave
state_is e2e running || start_vm e2e
host sh -c "rm -f $images/*.save $images/*.mem"
qemu=$(qemus host e2e)
booted_as=$(ask e2e boot '^BOOT:')

### what goes wrong around a running machine ###

manageable() { virsh qemu-monitor-command e2e '{"execute":"query-status"}' | grep '"running":true'; }
goes_on() {
	same_qemu && wait_for 20 manageable && state_is e2e running && same_boot
}

restart_libvirtd() {
	console_close e2e
	svc stop libvirtd && same_qemu && svc start libvirtd && goes_on
}
it "libvirtd stopped and started while the machine runs" restart_libvirtd

link_down() {
	"$rig" link "$rig_dir" down
	sleep 3 # this is how long it is down
	"$rig" link "$rig_dir" up
	goes_on
}
it "link down for 3 s" link_down

restart_killed() { # SERVICE
	svc kill "$1" KILL && same_qemu && dpu kill -0 "$(standin_of e2e)" && svc start "$1" && goes_on
}
for side in dpu host; do
	it "kill -9 of the ${side^^}'s udsproxyd: the machine goes on, alone" restart_killed udsproxyd_$side
done
it "kill -9 of rexec_server: the machine goes on, alone" restart_killed rexec_server
restart_all() { # while libvirtd is away
	console_close e2e
	svc stop libvirtd && svc kill rexec_server KILL && svc kill udsproxyd_host KILL &&
		svc kill udsproxyd_dpu KILL && same_qemu && dpu kill -0 "$(standin_of e2e)" &&
		svc start udsproxyd_dpu && svc start udsproxyd_host && svc start rexec_server && svc start libvirtd && goes_on
}
it "kill -9 of all of them, without libvirtd: the machine goes on, alone" restart_all

### the ends of a machine ###

ends() { # STATE-AND-REASON - libvirt knows it, and nothing of it runs
	wait_for 20 reason_is e2e "$1" || {
		virsh domstate --reason e2e
		return 1
	}
	wait_for 10 no_qemu e2e
}
again() { # a machine to end
	state_is e2e running || start_vm e2e
}

acpi() { again && virsh shutdown e2e --mode acpi && ends 'shut off (shutdown)' && said e2e 0 GUEST-POWERBUTTON; }
it "shutdown by ACPI" acpi
it "start after it" start_vm e2e
by_itself() { again && ask e2e poweroff '^BYE' && ends 'shut off (shutdown)'; }
it "the guest powers itself off" by_itself
crash() { again && host kill -KILL "$(qemus host e2e)" && ends 'shut off (crashed)'; }
it "kill -9 of QEMU: libvirt says crashed" crash
kill_standin() {
	again && dpu kill -KILL "$(standin_of e2e)" && wait_for 10 no_qemu e2e && wait_for 10 state_is e2e 'shut off'
}
it "kill -9 of the stand-in: HOST's QEMU is gone within 10 s" kill_standin
destroy() { again && virsh destroy e2e && ends 'shut off (destroyed)'; }
it "destroy" destroy
console_close e2e

### a start that fails ###

bad_start() {
	local said
	libvirt cp "$images/vmlinuz" /var/tmp/vmlinuz # which HOST has not
	define bad disk.qcow2 /var/tmp/vmlinuz
	said=$(virsh start bad 2>&1) && return 1
	virsh undefine bad
	libvirt rm /var/tmp/vmlinuz
	echo "$said"
	grep "qemu: could not [a-z]* kernel.*'/var/tmp/vmlinuz'" <<<"$said" && no_qemu bad
}
it "a start that fails tells QEMU's own words" bad_start

### two at once ###

two() {
	local first second
	new_disk two.qcow2
	define two two.qcow2 || return 1
	virsh start e2e &
	first=$!
	virsh start two &
	second=$!
	wait "$first" && wait "$second" && console_open e2e && console_open two && booted e2e && booted two &&
		ask e2e 'echo one' '^ECHO:one$' && ask two 'echo two' '^ECHO:two$'
}
it "two machines started in parallel" two
one_lives() {
	virsh destroy two && wait_for 10 no_qemu two && state_is e2e running && ask e2e 'echo alone' '^ECHO:alone$'
}
it "one is destroyed, the other lives" one_lives
console_close e2e
console_close two
virsh destroy e2e >/dev/null
virsh undefine two >/dev/null
it "undefine" virsh undefine e2e

### nothing is left ###

for side in host dpu; do
	it "nothing is left behind on the ${side^^}: files, mounts, processes" wait_for 20 no_new_traces $side
done
it "the HOST mounts nothing of the DPU" mounts_unchanged
it "every daemon still runs" svc status
tap_done
