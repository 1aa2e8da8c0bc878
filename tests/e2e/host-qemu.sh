#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# host-qemu.sh - what libvirt sets and tells of QEMU is the HOST's QEMU's: the CPUs of its threads, its
# statistics, and what it can after an upgrade. Arguments: those of e2e_up.
set -uo pipefail
# shellcheck source=tests/e2e/lib.sh
. "$(dirname "$0")/lib.sh"

e2e_up "$@" || bail_out "the stack does not come up"
if [ "$(host nproc)" -lt 2 ]; then
	echo '1..0 # SKIP needs a machine with two CPUs'
	exit 0
fi

vm() { # NAME CPUTUNE
	vm_xml "$1" disk.qcow2 | sed -e "s|<vcpu>1<|<vcpu>2<|" -e "s|<os>|<iothreads>1</iothreads>$2<os>|" |
		libvirt sh -c "cat >/tmp/$1.xml && virsh -q define /tmp/$1.xml; s=\$?; rm /tmp/$1.xml; exit \$s"
}

### CPUs ###

all=$(host sh -c "awk '/^Cpus_allowed_list/ { print \$2 }' /proc/self/status")
# the CPUs that HOST lets QEMU's threads of this name run on
thread_cpus() { # VM NAME
	# shellcheck disable=SC2016
	host sh -c 'for t in /proc/$1/task/*; do
		grep -qx "$2" "$t/comm" && awk "/^Cpus_allowed_list/ { print \$2 }" "$t/status"; done' \
		sh "$(qemus host "$1")" "$2" 2>/dev/null | sort -u | xargs
}
# VM EMULATOR IOTHREAD VCPU0 VCPU1. What libvirt does not know by name follows the emulator.
cpus_are() {
	local now name
	now="$(thread_cpus "$1" 'IO iothread1') $(thread_cpus "$1" 'CPU 0/.*') $(thread_cpus "$1" 'CPU 1/.*')"
	for name in 'qemu-system-x86' 'IO mon_iothread'; do
		now="$(thread_cpus "$1" "$name") $now"
	done
	echo "monitor's thread, emulator, iothread, vCPUs: $now"
	[ "$now" = "$2 $2 $3 $4 $5" ]
}
tuned="<cputune><vcpupin vcpu='0' cpuset='1'/><emulatorpin cpuset='1'/><iothreadpin iothread='1' cpuset='0'/></cputune>"
it "define" vm tuned "$tuned"
start_tuned() { virsh start tuned && wait_for 5 cpus_are tuned 1 0 1 "$all"; }
it "at the start, <emulatorpin>, <iothreadpin> and <vcpupin> reach the HOST's threads" start_tuned ||
	bail_out "no machine to test with"
emulatorpin() { virsh emulatorpin tuned 0 --live && wait_for 5 cpus_are tuned 0 0 1 "$all"; }
it "emulatorpin --live, and no other thread is moved" emulatorpin
iothreadpin() { virsh iothreadpin tuned 1 1 --live && wait_for 5 cpus_are tuned 0 1 1 "$all"; }
it "iothreadpin --live" iothreadpin
linkless() {
	"$rig" link "$rig_dir" unplug
	virsh emulatorpin tuned 1 --live && virsh vcpupin tuned 1 0 --live
	local status=$?
	"$rig" link "$rig_dir" up
	[ $status = 0 ] && wait_for 30 cpus_are tuned 1 1 1 0
}
it "what is pinned while the link is lost is pinned when it is back" linkless
restarted() { svc stop libvirtd && svc start libvirtd && virsh emulatorpin tuned 0 --live && wait_for 5 cpus_are tuned 0 1 1 0; }
it "emulatorpin after a restart of libvirtd" restarted
everywhere() {
	virsh emulatorpin tuned "$all" --live && virsh iothreadpin tuned 1 "$all" --live && virsh vcpupin tuned 0 "$all" --live &&
		virsh vcpupin tuned 1 "$all" --live && wait_for 5 cpus_are tuned "$all" "$all" "$all" "$all"
}
it "back to all CPUs" everywhere
plugged() { # a thread that is made while all others are pinned
	virsh emulatorpin tuned 1 --live && virsh iothreadadd tuned 2 --live && wait_for 5 iothread_on 2 "$all"
}
iothread_on() { [ "$(thread_cpus tuned "IO iothread$1")" = "$2" ]; }
it "a new iothread runs where libvirt lets it, not where the emulator is" plugged

### statistics ###

up() { console_open tuned && wait_for 60 ask tuned 'echo up' '^ECHO:up$'; }
it "the guest is up" up # since before its console was open, perhaps
stat_of() { virsh domstats tuned | sed -n "s/^ *$1=//p"; }
written() {
	local before
	before=$(stat_of block.0.wr.bytes)
	ask tuned 'write vda counted' '^WROTE:vda$' && [ "$(stat_of block.0.wr.bytes)" -ge $((before + 512)) ]
}
it "disk statistics are QEMU's" written
balloon() {
	local unused available
	unused=$(stat_of balloon.unused) available=$(stat_of balloon.available)
	echo "unused $unused, available $available"
	[ "$unused" -gt 10000 ] && [ "$unused" -lt "$available" ] && [ "$available" -le 131072 ]
}
it "the guest's memory statistics are the guest's" wait_for 15 balloon
allow_ps() {
	host sh -c 'chmod 600 /etc/rexec/whitelist && echo /usr/bin/ps >>/etc/rexec/whitelist && chmod 400 /etc/rexec/whitelist' &&
		host kill -HUP "$(<"$rig_dir/rexec_server.pid")"
}
# The example of rexec-qemu(8).
true_figures() {
	local rss ticks
	read -r rss ticks _ < <(libvirt rexec ps -ww -C qemu-system-x86 -o rss=,cputimes=,args= | grep guest=tuned,)
	echo "QEMU has $rss KiB, and took $ticks s; libvirt says $(stat_of balloon.rss) KiB, $(stat_of cpu.time) ns"
	[ "$rss" -gt 65536 ] && [ "$rss" -gt "$(stat_of balloon.rss)" ] && [ "$ticks" -ge 1 ]
}
console_close tuned
it "ps is added to the whitelist" allow_ps
it "QEMU's own memory and CPU time: rexec ps" wait_for 10 true_figures
it "destroy" virsh destroy tuned

### the HOST has another QEMU ###

check() { libvirt /usr/libexec/rexec-qemu --check; }
known_package() {
	virsh domcapabilities --emulatorbin /usr/bin/qemu-system-x86_64 >/dev/null &&
		libvirt sh -c 'sed -n "s|.*<package>\(.*\)</package>|\1|p" /var/cache/libvirt/qemu/capabilities/*.xml'
}
knows() { known_package | grep -q "$1"; }
says() { host qemu-system-x86_64 --version | grep -q "$1"; }
it "a check, the first" check
it "libvirt knows the HOST's QEMU" knows '^Debian'
quiet() { [ -z "$(check 2>&1)" ]; }
it "a check when nothing has changed" quiet
# A package does the same: another file of that name. Only the name of its version is another.
upgrade() {
	# shellcheck disable=SC2016
	host sh -c 'q=/usr/bin/qemu-system-x86_64; cp $q /tmp/new && sed -i "s/Debian 1:/Newest 1:/g" /tmp/new && mv /tmp/new $q' &&
		says 'Newest 1:' && knows '^Debian'
}
it "QEMU is upgraded on the HOST; libvirt goes by what it knows" upgrade
it "a check notices" check
it "and libvirt has probed the new one when it needs to know" knows '^Newest'
rebuilt() {
	local probed
	probed=$(libvirt sh -c 'stat -c %y /var/cache/libvirt/qemu/capabilities/*.xml')
	sleep 1 # libvirt compares seconds
	host sh -c 'cp /usr/bin/qemu-system-x86_64 /tmp/new && mv /tmp/new /usr/bin/qemu-system-x86_64' && check && knows '^Newest' &&
		[ "$(libvirt sh -c 'stat -c %y /var/cache/libvirt/qemu/capabilities/*.xml')" != "$probed" ]
}
it "another file of the same version is noticed, too" rebuilt
it "the machine starts with it" virsh start tuned
virsh destroy tuned >/dev/null
it "undefine" virsh undefine tuned
it "every daemon still runs" svc status
tap_done
