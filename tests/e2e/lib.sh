# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
#
# lib.sh - what the end-to-end tests and the demo share: a rig with the stack in it, a guest, its
# console, and a look at both sides. Source it, then call e2e_up, or rig_up for a bare rig; all is taken
# down at exit, unless KEEP=1 asks for a look at it.

tests=$(realpath "$(dirname "${BASH_SOURCE[0]}")/..")
rig=$tests/rig/rig
stack=$tests/rig/stack
mkguest=$tests/rig/mkguest
# shellcheck source=tests/lib/tap.sh
. "$tests/lib/tap.sh"

images=/var/lib/libvirt/images # HOST's, shared with the DPU
rig_dir=  # the rig that all this is about, of
rig_dirs=() # those that are up
stack_says='# ' # before each of its lines: a comment to TAP
declare -A console=()         # VM -> the descriptor that types into its console
declare -A console_program=() # VM -> the pid of what shows it

host() { "$rig" exec "$rig_dir" host "$@"; }
dpu() { "$rig" exec "$rig_dir" dpu "$@"; }
svc() { "$stack" "$1" "$rig_dir" "${@:2}"; } # start|stop|kill SERVICE
libvirt() { "$stack" dpu "$rig_dir" "$@"; }  # where libvirtd lives
on() { # host|dpu CMD... - the DPU is where libvirtd lives
	if [ "$1" = host ]; then host "${@:2}"; else libvirt "${@:2}"; fi
}
virsh() { libvirt timeout 60 virsh -q "$@"; }

### the whole, up and down ###

e2e_up() { # RIG-OPTION... [-- STACK-OPTION...]
	local rig_options=()
	while [ $# -gt 0 ] && [ "$1" != -- ]; do
		rig_options+=("$1")
		shift
	done
	[ $# -eq 0 ] || shift
	rig_up "${rig_options[@]}" || return 1
	"$mkguest" "$rig_dir/guest" || return 1
	host sh -c "cat /proc/mounts" >"$rig_dir/host.mounts"
	tar -C "$rig_dir/guest" -c . | host tar -C "$images" -x --no-same-owner
	"$stack" up "$rig_dir" "$@" 2>&1 | sed -u "s/^/$stack_says/"
	return "${PIPESTATUS[0]}"
}

rig_up() { # RIG-OPTION...
	rig_dir=$(mktemp -d "${TMPDIR:-/tmp}/rig.XXXXXX")
	rig_dirs+=("$rig_dir")
	trap e2e_down EXIT
	trap 'exit 130' INT TERM
	"$rig" up "$rig_dir" "$@"
}

e2e_down() {
	local status=$?
	trap - EXIT
	for rig_dir in "${rig_dirs[@]}"; do
		[ "$status" -eq 0 ] || "$stack" logs "$rig_dir" 2>&1 | sed 's/^/# /'
		if [ -n "${KEEP:-}" ]; then
			cat <<-END
				# Left up. A shell on each side, virsh, and the end of it:
				#   $rig exec $rig_dir host bash
				#   $rig exec $rig_dir dpu bash
				#   $stack dpu $rig_dir virsh list --all
				#   $rig down $rig_dir; rm -r $rig_dir
			END
		else
			"$rig" down "$rig_dir"
			rm -rf "$rig_dir"
		fi
	done
	exit "$status"
}

### virtual machines ###

new_disk() { # FILE
	host qemu-img create -q -f qcow2 "$images/$1" 64M
	host chmod 644 "$images/$1"
}

vm_xml() { # NAME DISK [KERNEL]
	cat <<-END
		<domain type='qemu'>
		  <name>$1</name>
		  <memory unit='MiB'>128</memory>
		  <vcpu>1</vcpu>
		  <os>
		    <type arch='x86_64' machine='pc'>hvm</type>
		    <kernel>${3:-$images/vmlinuz}</kernel>
		    <initrd>$images/initrd.gz</initrd>
		    <cmdline>console=ttyS0 quiet</cmdline>
		  </os>
		  <features><acpi/></features>
		  <devices>
		    <emulator>/usr/bin/qemu-system-x86_64</emulator>
		    <controller type='usb' model='none'/>
		    <disk type='file' device='disk'>
		      <driver name='qemu' type='qcow2'/>
		      <source file='$images/$2'/>
		      <target dev='vda' bus='virtio'/>
		    </disk>
		    <serial type='pty'/>
		    <channel type='unix'>
		      <target type='virtio' name='org.qemu.guest_agent.0'/>
		    </channel>
		    <memballoon model='virtio'><stats period='1'/></memballoon>
		  </devices>
		</domain>
	END
}

define() { # NAME DISK [KERNEL]
	vm_xml "$@" | libvirt sh -c "cat >/tmp/$1.xml && virsh -q define /tmp/$1.xml; s=\$?; rm /tmp/$1.xml; exit \$s"
}

state_is() { [ "$(virsh domstate "$1")" = "$2" ]; }
reason_is() { virsh domstate --reason "$1" | grep -qxF "$2"; }

### the console: virsh console in a terminal, typed into through a fifo ###

console_open() { # VM
	local fifo=$rig_dir/$1.in fd
	console_close "$1"
	mkfifo "$fifo"
	exec {fd}<>"$fifo"
	rm "$fifo"
	libvirt script -qefc "virsh console $1 --force" /dev/null <&"$fd" >"$rig_dir/$1.out" 2>&1 {fd}>&- &
	console_program[$1]=$!
	console[$1]=$fd
	# virsh makes its terminal raw, and forgets what was typed before
	wait_for 10 typed_is_heard "$1"
}
# shellcheck disable=SC2016
typed_is_heard() { # VM
	libvirt sh -c 'stty -a -F "/proc/$(pgrep -xf "virsh console $1 --force")/fd/0" | grep -q -e -icanon' sh "$1" 2>/dev/null
}

console_close() { # VM
	local fd=${console[$1]:-}
	[ -n "$fd" ] || return 0
	printf '\035' >&"$fd"
	exec {fd}>&-
	unset "console[$1]"
	# two that read one terminal would share what it says
	wait_for 10 ended "${console_program[$1]}" || kill -KILL "${console_program[$1]}"
}

ended() { ! kill -0 "$1" 2>/dev/null; } # PID, a child

# ask VM LINE PATTERN - the console says what matches PATTERN after LINE was typed; prints it
ask() {
	local seen
	[ -n "${console[$1]:-}" ] || {
		echo "no console of $1"
		return 1
	}
	seen=$(stat -c %s "$rig_dir/$1.out")
	printf '%s\r' "$2" >&"${console[$1]}"
	if ! wait_for 10 said "$1" "$seen" "$3"; then
		echo "no '$3' after '$2'; the console says:"
		heard "$1" "$seen"
		return 1
	fi
	heard "$1" "$seen" | grep -m 1 -- "$3"
}
heard() { tail -c "+$(($2 + 1))" "$rig_dir/$1.out" | tr -d '\r'; } # VM SINCE
said() { heard "$1" "$2" | grep -q -- "$3"; }                      # VM SINCE PATTERN

booted() { # VM - the guest is up
	wait_for 60 said "$1" 0 GUEST-READY || {
		cat "$rig_dir/$1.out"
		return 1
	}
}

start_vm() { # VM - start, and be on its console when it is up
	virsh start "$1" && console_open "$1" && booted "$1"
}

### the guest's agent ###

agent() { virsh qemu-agent-command --timeout 10 "$@"; } # VM REQUEST
agent_answers() { agent "$1" '{"execute":"guest-ping"}' | grep -xF '{"return":{}}'; }

# in_guest VM CMD [ARG...] - run CMD in the guest, by its agent; its output and its status
in_guest() {
	local pid
	pid=$(agent "$1" "$(exec_request "${@:2}")" | grep -oE '[0-9]+') && wait_for 20 has_run "$1" "$pid" || return 1
	cat "$rig_dir/said"
	return "$(<"$rig_dir/said.status")"
}
exec_request() {
	/usr/bin/python3 -c 'import json, sys
print(json.dumps({"execute": "guest-exec",
	"arguments": {"path": sys.argv[1], "arg": sys.argv[2:], "capture-output": True}}))' "$@"
}
has_run() { # VM PID
	agent "$1" "{\"execute\":\"guest-exec-status\",\"arguments\":{\"pid\":$2}}" | /usr/bin/python3 -c 'import base64, json, sys
status = json.load(sys.stdin)["return"]
if not status["exited"]:
	sys.exit(1)
with open(sys.argv[1], "wb") as said, open(sys.argv[1] + ".status", "w") as code:
	said.write(base64.b64decode(status.get("out-data", "")))
	code.write(str(status["exitcode"]))' "$rig_dir/said"
}

### both sides' processes ###

# qemus SIDE [VM] - pids of QEMU programs, told by what they are, not by what they are called
qemus() {
	# shellcheck disable=SC2016
	"$rig" exec "$rig_dir" "$1" sh -c 'for p in /proc/[0-9]*; do
		case $(readlink "$p/exe") in */qemu-system-*) ;; *) continue ;; esac
		[ -z "$1" ] || tr "\0" " " <"$p/cmdline" | grep -q "guest=$1," || continue
		echo "${p#/proc/}"
	done' sh "${2:-}"
}
no_qemu() { [ -z "$(qemus host "${1:-}")" ]; }

standin_of() { libvirt cat "/run/libvirt/qemu/$1.pid"; }

# the CPUs that HOST lets QEMU's vCPU thread run on
vcpu_cpus() { # VM
	host sh -c "grep -lE '^CPU ' /proc/$(qemus host "$1")/task/*/comm | while read -r f; do
		awk '/^Cpus_allowed_list/ { print \$2 }' \${f%comm}status; done"
}
vcpu_on() { [ "$(vcpu_cpus "$1")" = "$2" ]; } # VM CPUS

only_on_host() { [ "$(qemus host "$1" | wc -l)" = 1 ] && [ -z "$(qemus dpu)" ]; }

### both sides' files ###

host_reads() { # IMAGE TEXT
	host sh -c "qemu-img dd -U -O raw bs=512 count=1 if=$images/$1 of=/tmp/sector && tr -d '\0' </tmp/sector; rm /tmp/sector" | grep -qxF "$2"
}

has_magic() { # SIDE FILE MAGIC
	[ "$(on "$1" head -c "${#3}" "$2")" = "$3" ]
}

# What a side holds that a virtual machine could leave behind. The share's session is another one
# after a udsproxyd was killed.
traces() { # SIDE
	# shellcheck disable=SC2016
	on "$1" sh -c '
		find /var/lib/libvirt/qemu /run /tmp /dev/shm /dev/pts 2>/dev/null | sed "s|\(sessions/\)[0-9a-f]*|\1ID|"
		cat /proc/mounts
		for p in /proc/[0-9]*; do readlink "$p/exe"; done | grep -v -e /dash -e /readlink -e /grep' | sort
}

no_new_traces() { # SIDE
	! comm -13 "$rig_dir/$1.traces" <(traces "$1") | grep .
}
remember_traces() { for side in host dpu; do traces $side >"$rig_dir/$side.traces"; done; }

mounts_unchanged() { host cat /proc/mounts | diff "$rig_dir/host.mounts" -; }
