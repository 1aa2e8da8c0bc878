#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Debian's libvirtd on the trampoline: what libvirt does to QEMU, done to rexec-qemu. One machine, no
# udsproxyd (that is tests/e2e/vm.sh): HOST's QEMU has another name here. In namespaces of its own;
# the machine's files are below an overlay.
set -uo pipefail

top=$(realpath "$(dirname "$0")/../..")
# shellcheck source=tests/lib/tap.sh
. "$top/tests/lib/tap.sh"

if [ "$(id -u)" != 0 ] || ! command -v libvirtd virtlogd virsh qemu-system-x86_64 >/dev/null; then
	echo '1..0 # SKIP needs root, libvirt and QEMU'
	exit 0
fi
BIN=$(realpath "${BIN:-$top/build/testmode/bin}")
LIBEXEC=$(realpath "${LIBEXEC:-$top/build/testmode/libexec}")
export BIN LIBEXEC
if [ -z "${LIBVIRT_TEST_DIR:-}" ]; then
	LIBVIRT_TEST_DIR=$(mktemp -d "${TMPDIR:-/tmp}/libvirt.XXXXXX")
	export LIBVIRT_TEST_DIR
	trap 'rm -rf "$LIBVIRT_TEST_DIR"' EXIT
	# here, for it may have to download a kernel
	"$top/tests/rig/mkguest" "$LIBVIRT_TEST_DIR/guest" >/dev/null 2>&1 || bail_out "no guest can be made"
	mkdir "$LIBVIRT_TEST_DIR/inside"
	# what is mounted and what runs goes with the namespaces
	unshare --mount --propagation private --pid --net --uts --ipc --fork --kill-child --mount-proc -- "$0" "$@"
	exit
fi

### the machine of this test ###

dir=$LIBVIRT_TEST_DIR/inside
mount -t tmpfs -o mode=755 tmpfs "$dir"
images=/var/lib/libvirt/images

over() { # DIR - an overlay: what is written goes with the test
	local work=$dir/over$1
	mkdir -p "$work"/{upper,work}
	mount -t overlay -o "lowerdir=$1,upperdir=$work/upper,workdir=$work/work" over "$1"
}
fresh() { # DIR MODE
	mount -t tmpfs -o "mode=$2" fresh "$1"
}
over /usr/bin
over /etc
for d in /run /var/lib/libvirt /var/cache/libvirt /var/log/libvirt; do
	fresh "$d" 755
done
fresh /dev/pts 755
mount -t devpts -o newinstance,ptmxmode=0666,mode=620,gid=5 pts /dev/pts
mount --bind /dev/pts/ptmx /dev/ptmx
mkdir -p /run/lock $images
rm -rf /etc/libvirt /etc/rexec
mkdir -p /etc/libvirt /etc/rexec
: >/etc/libvirt/qemu.conf
ip link set lo up
mount --make-rshared / # as systemd has it: libvirt mounts into QEMU's namespace from outside

for name in qemu-system-x86_64 qemu-system-i386; do
	mv /usr/bin/$name /usr/bin/hosts-$name
	sed "s|^exec .*|REXEC_LOCAL=1 exec $LIBEXEC/rexec-qemu \"\$0\" \"\$@\"|" "$top/scripts/qemu-kvm" >/usr/bin/$name
	chmod 755 /usr/bin/$name
	echo "$name /usr/bin/hosts-$name" >>/etc/rexec/qemu.map
done
cp "$LIBVIRT_TEST_DIR"/guest/* $images/

### services ###

spawn() { # NAME CMD... - its pid is in $dir/NAME.pid, its words in $dir/NAME.log
	local name=$1
	shift
	setsid "$@" </dev/null >>"$dir/$name.log" 2>&1 &
	echo $! >"$dir/$name.pid"
}
answers() { virsh -q list >/dev/null 2>&1; }
start_libvirtd() { spawn libvirtd libvirtd && wait_for 60 answers; }
gone() { ! kill -0 "$1" 2>/dev/null; }
stop() { # NAME
	kill "$(<"$dir/$1.pid")" && wait_for 10 gone "$(<"$dir/$1.pid")"
}
show_logs() {
	for log in "$dir"/*.log /var/log/libvirt/qemu/*.log; do
		[ -s "$log" ] || continue
		echo "# == $log"
		tail -n 60 "$log" | sed 's/^/#   /'
	done
}

spawn rexec_server "$BIN/rexec_server" --test-mode
wait_for 10 test -S /run/rexec/rexec.sock || bail_out "no rexec_server"
spawn virtlogd virtlogd
wait_for 10 test -S /run/libvirt/virtlogd-sock || bail_out "no virtlogd"
since=$EPOCHREALTIME
start_libvirtd || {
	show_logs
	bail_out "no libvirtd"
}
echo "# libvirtd answers after $(seconds "$since") s"

### helpers ###

define() { # NAME KERNEL
	cat >"$dir/$1.xml" <<-END
		<domain type='qemu'>
		  <name>$1</name>
		  <memory unit='MiB'>128</memory>
		  <vcpu>2</vcpu>
		  <os>
		    <type arch='x86_64' machine='pc'>hvm</type>
		    <kernel>$2</kernel>
		    <initrd>$images/initrd.gz</initrd>
		    <cmdline>console=ttyS0 quiet</cmdline>
		  </os>
		  <features><acpi/></features>
		  <iothreads>1</iothreads>
		  <devices>
		    <emulator>/usr/bin/qemu-system-x86_64</emulator>
		    <controller type='usb' model='none'/>
		    <disk type='file' device='disk'>
		      <driver name='qemu' type='qcow2'/>
		      <source file='$images/disk.qcow2'/>
		      <target dev='vda' bus='virtio'/>
		    </disk>
		    <serial type='pty'/>
		    <serial type='unix'><source mode='bind' path='/var/lib/libvirt/qemu/$1.serial'/></serial>
		    <channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/></channel>
		    <memballoon model='virtio'/>
		  </devices>
		</domain>
	END
	virsh -q define "$dir/$1.xml"
}
state_is() { [ "$(virsh domstate vm)" = "$1" ]; }
reason_is() { [ "$(virsh domstate --reason vm | head -n 1)" = "$1" ]; }
standin() { cat /run/libvirt/qemu/vm.pid; }
qemus() { # pids of HOST's QEMU
	local p
	for p in /proc/[0-9]*; do
		case $(readlink "$p/exe") in
		*/hosts-qemu-system-*) echo "${p#/proc/}" ;;
		esac
	done
}
no_qemu() { [ -z "$(qemus)" ]; }
traces() {
	find /var/lib/libvirt/qemu /run /dev/pts ! -name '*.log' 2>/dev/null | sort
	for p in /proc/[0-9]*; do readlink "$p/exe"; done | grep -e rexec -e qemu | sort
}
same_traces() { traces | diff "$dir/traces" -; }

console_open() {
	console_close
	rm -f "$dir/console"
	mkfifo "$dir/in"
	exec {typed}<>"$dir/in"
	rm "$dir/in"
	script -qefc "virsh console vm --force" /dev/null <&"$typed" >"$dir/console" 2>&1 {typed}>&- &
	wait_for 10 says 'Escape character' 2>/dev/null
}
console_close() {
	[ -n "${typed:-}" ] || return 0
	printf '\035' >&"$typed"
	exec {typed}>&-
	unset typed
}
says() { tr -d '\r' <"$dir/console" | grep -q -- "$1"; }
ask() { # LINE ANSWER
	printf '%s\r' "$1" >&"$typed"
	wait_for 15 says "$2" || {
		tail -c 400 "$dir/console"
		return 1
	}
}
start_vm() { virsh start vm && console_open && wait_for 60 says GUEST-READY; }
query() { virsh qemu-monitor-command vm "$@"; }

### probing ###

probes_left() { find /var/lib/libvirt/qemu -name 'qmp-*'; }
it "probing: libvirt knows what QEMU can" sh -c 'virsh domcapabilities --virttype qemu | grep -F "<domain>qemu</domain>"'
nothing_of_probes() { [ -z "$(probes_left)" ] && no_qemu; }
it "probing leaves nothing" wait_for 5 nothing_of_probes
it "define" define vm $images/vmlinuz
traces >"$dir/traces"

### a machine ###

it "start, and the console shows the guest booting" start_vm || {
	show_logs
	bail_out "no machine"
}
is_the_domain() {
	[ "$(readlink "/proc/$(standin)/exe")" = "$LIBEXEC/rexec-qemu" ] && [ "$(qemus | wc -l)" = 1 ]
}
it "the domain's pid is rexec-qemu's" is_the_domain
locked() { grep -q "POSIX.*WRITE $(standin) " /proc/locks; }
it "the pid file is locked by it" locked
it "what is typed on the console arrives" ask 'echo hello there' '^ECHO:hello there$'
second_console() { console_close && console_open && ask 'echo again' '^ECHO:again$'; }
it "the console can be left and opened again" second_console

agent() { virsh qemu-agent-command vm '{"execute":"guest-ping"}' | grep -F '{"return":{}}'; }
it "the guest agent answers, over an inherited listening socket" wait_for 15 agent

thread_ids() {
	local command
	for command in query-cpus-fast query-iothreads; do
		query "{\"execute\":\"$command\"}" |
			python3 -c 'import json, sys; print(*[x["thread-id"] for x in json.load(sys.stdin)["return"]])'
	done
}
threads_are_ours() {
	local tid n=0
	for tid in $(thread_ids); do
		echo "$tid"
		[ -e "/proc/$(standin)/task/$tid" ] || return 1
		n=$((n + 1))
	done
	[ $n = 3 ]
}
it "thread ids in QMP are threads of the domain's pid" threads_are_ours
vcpu_cpus() { # VCPU
	local comm
	for comm in /proc/"$(qemus)"/task/*/comm; do
		grep -q "^CPU $1/" "$comm" && awk '/^Cpus_allowed_list/ { print $2 }' "${comm%comm}status"
	done
}
vcpu_on() { [ "$(vcpu_cpus "$1")" = "$2" ]; }
pin() { virsh vcpupin vm 1 1 && wait_for 3 vcpu_on 1 1 && vcpu_on 0 0-1 && virsh vcpupin vm 1 0-1 && wait_for 3 vcpu_on 1 0-1; }
if [ "$(nproc)" = 2 ]; then
	it "vcpupin reaches QEMU's thread" pin
else
	skip "vcpupin reaches QEMU's thread" "needs a machine with two CPUs"
fi
it "the master key is handed over" sh -c "tr '\0' ' ' </proc/$(qemus)/cmdline | grep -F '/run/rexec/sessions/' | grep -F masterKey0"

suspend() { virsh suspend vm && state_is paused && virsh resume vm && state_is running && ask 'echo awake' '^ECHO:awake$'; }
it "suspend and resume" suspend
save() { # FILE
	virsh save vm "$1" && state_is 'shut off' && wait_for 10 no_qemu && virsh restore "$1" && state_is running &&
		console_open && ask 'echo restored' '^ECHO:restored$'
}
it "save and restore" save "$images/vm.save"
dump() { virsh dump vm "$images/vm.core" --memory-only && [ -s "$images/vm.core" ] && rm "$images/vm.core"; }
it "dump" dump

restart_libvirtd() { stop libvirtd && start_libvirtd && state_is running && query '{"execute":"query-status"}' | grep '"running":true'; }
it "libvirtd restarts, and the machine is known" restart_libvirtd
console_open
it "the console works after it" ask 'echo after' '^ECHO:after$'

### its ends ###

ends() { wait_for 20 reason_is "$1" && wait_for 10 no_qemu; }
off() { ask poweroff '^BYE' && ends 'shut off (shutdown)'; }
it "the guest powers off" off
crash() { virsh start vm && kill -KILL "$(qemus)" && ends 'shut off (crashed)'; }
it "kill -9 of QEMU: libvirt says crashed" crash
abandoned() { virsh start vm && kill -KILL "$(standin)" && wait_for 10 no_qemu && wait_for 10 state_is 'shut off'; }
it "kill -9 of rexec-qemu ends QEMU" abandoned
destroy() { virsh start vm && virsh destroy vm && ends 'shut off (destroyed)'; }
it "destroy" destroy
bad_start() {
	local said
	: >"$images/junk"
	define bad "$images/junk"
	said=$(virsh start bad 2>&1) && return 1
	virsh undefine bad
	echo "$said"
	grep -F 'could not load kernel' <<<"$said"
}
it "a start that fails tells QEMU's own words" bad_start
refused() {
	local said
	cp -a /etc/rexec/qemu.map "$dir/qemu.map"
	echo "qemu-system-x86_64 /usr/bin/not-there" >/etc/rexec/qemu.map
	# libvirt takes the words from a log that virtlogd writes when it gets to it, or has none.
	for _ in 1 2 3; do
		said=$(virsh start vm 2>&1) && return 1
		grep -qF '/usr/bin/not-there: No such file' <<<"$said" && break
	done
	cp "$dir/qemu.map" /etc/rexec/qemu.map
	echo "$said"
	grep -F '/usr/bin/not-there: No such file' <<<"$said"
}
it "a HOST without that QEMU is told, too" refused
console_close
it "nothing is left" wait_for 10 same_traces
virsh -q undefine vm
[ "$tap_failed" = 0 ] || show_logs
stop libvirtd
stop virtlogd
stop rexec_server
cd /
tap_done
