#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# devices.sh - what stands beside a virtual machine: its guest agent, and other machines.
#
# Arguments: those of e2e_up.
set -uo pipefail
# shellcheck source=tests/e2e/lib.sh
. "$(dirname "$0")/lib.sh"

# The deployment that is recommended; QEMU's user has different numbers on the two sides.
[ $# -gt 0 ] || set -- --host-qemu-uid 6107:6108 -- --chroot
e2e_up "$@" || bail_out "the stack does not come up"

### QEMU's guest agent ###

agent() { virsh qemu-agent-command --timeout 10 e2e "$@"; }
agent_answers() { agent '{"execute":"guest-ping"}' | grep -xF '{"return":{}}'; }
from_the_guest() { virsh domhostname e2e --source agent | grep -xF guest; }
guestinfo() {
	local kernel
	kernel=$(strings "$rig_dir/guest/vmlinuz" | grep -m 1 -oE '^[0-9.]+-[^ ]*cloud-amd64')
	virsh guestinfo e2e | grep -xE "os.kernel-release *: ${kernel:?}"
}
# guest_runs PATTERN CMD [ARG...] - CMD in the guest, through the agent: what it says matches, in one line
guest_runs() {
	local pattern=$1 pid
	shift
	pid=$(agent "$(printf '%s\n' "$@" | json_command)" | grep -oE '[0-9]+') || return 1
	wait_for 10 exec_said "$pid" "$pattern"
}
json_command() {
	/usr/bin/python3 -c 'import json, sys
path, *arguments = sys.stdin.read().splitlines()
print(json.dumps({"execute": "guest-exec", "arguments": {"path": path, "arg": arguments, "capture-output": True}}))'
}
exec_said() { # PID PATTERN
	agent "{\"execute\":\"guest-exec-status\",\"arguments\":{\"pid\":$1}}" | /usr/bin/python3 -c 'import base64, json, re, sys
status = json.load(sys.stdin)["return"]
sys.exit(not (status["exited"] and re.fullmatch(sys.argv[1].encode(), base64.b64decode(status["out-data"]).strip())))' "$2"
}

remember_traces
it "define" define e2e disk.qcow2
it "start" virsh start e2e || bail_out "no machine to test with"
it "the guest agent answers" wait_for 60 agent_answers || bail_out "no agent to test with"
it "domhostname --source agent" from_the_guest
it "guestinfo tells of the guest's kernel" guestinfo
it "guest-exec, and what the program says" guest_runs 'one two' /bin/echo one two
# more than any buffer on the way holds
it "1 MB in one of the agent's answers" guest_runs '0{1000000}' /bin/sh -c "head -c 1000000 /dev/zero | tr '\\0' 0"
agent_again() { svc stop libvirtd && svc start libvirtd && wait_for 20 agent_answers && from_the_guest; }
it "the agent answers a libvirtd that was restarted" agent_again
agent_after_loss() { svc kill udsproxyd_host KILL && svc start udsproxyd_host && wait_for 20 agent_answers && from_the_guest; }
it "the agent answers after a udsproxyd was killed" agent_after_loss
off() { virsh shutdown e2e --mode agent && wait_for 20 reason_is e2e 'shut off (shutdown)' && wait_for 10 no_qemu; }
it "shutdown by the agent" off
it "undefine" virsh undefine e2e

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
