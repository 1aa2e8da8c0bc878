#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# rig.sh - the rig itself: two sides that share nothing, and a machine that notices nothing.
set -uo pipefail
here=$(realpath "$(dirname "$0")")
# shellcheck source=tests/lib/tap.sh
. "$here/../lib/tap.sh"
rig=$here/../rig/rig
dir=$(mktemp -d "${TMPDIR:-/tmp}/rig.XXXXXX")
trap '"$rig" down "$dir"; rm -rf "$dir"' EXIT
trap 'exit 130' INT TERM

side() { "$rig" exec "$dir" "$@"; }
# what the machine would show of a rig
machine() {
	cat /proc/mounts
	ip -o link | cut -d' ' -f2
	grep -lszF "RIG=$dir" /proc/[0-9]*/environ || true
}
machine >"$dir/machine"

it "both sides come up" "$rig" up "$dir" --dpu-cpus 1 --host-qemu-uid 6107:6108 || bail_out "no rig"
not() { ! "$@"; }
it "they cannot come up twice" not "$rig" up "$dir"
status() { side host sh -c 'exit 7'; [ $? = 7 ]; }
it "exec gives the command's status" status
it "exec passes arguments as they are" test "$(side dpu printf '%s|' 'a b' '' $'c\nd')" = $'a b||c\nd|'
apart() {
	side host sh -c 'echo host >/etc/side; echo host >/usr/bin/side; echo host >/run/side; echo host >/tmp/side'
	! side dpu sh -c 'cat /etc/side /usr/bin/side /run/side /tmp/side 2>/dev/null | grep .' &&
		[ ! -e /etc/side ] && [ ! -e /usr/bin/side ] && [ ! -e /run/side ] && [ ! -e /tmp/side ]
}
it "what a side writes stays in it" apart
connects() { side dpu timeout 5 socat -u TCP:host:4000,connect-timeout=1 STDOUT | grep -x hello; }
side host sh -c 'setsid socat -U TCP-LISTEN:4000,fork,reuseaddr "SYSTEM:echo hello" >/dev/null 2>&1 &'
it "the sides reach each other" wait_for 5 connects
"$rig" link "$dir" down
it "link down: they do not" not connects
"$rig" link "$dir" up
it "link up: they do" wait_for 5 connects
"$rig" link "$dir" unplug
it "unplugged: they do not" not connects
"$rig" link "$dir" up
it "plugged: they do" wait_for 5 connects
it "the DPU has as many CPUs as asked for" test "$(side dpu nproc) $(side dpu getconf _NPROCESSORS_CONF)" = '1 1'
it "libvirt-qemu has the numbers asked for" test "$(side host id -u libvirt-qemu)" = 6107
# shellcheck disable=SC2016
next_pid() { "$rig" pids "$dir" dpu 4242 && [ "$(side dpu sh -c 'echo $$')" = 4243 ]; }
it "the next pid is as asked for" next_pid
orphan() { side dpu sh -c '(sleep 0.1 &) ; exit' && wait_for 5 childless; }
childless() { ! side dpu ps -eo ppid,stat | grep '^ *1 '; }
it "orphans are reaped" orphan
it "the DPU has no KVM" not side dpu test -e /dev/kvm

kill -KILL "$(<"$dir/host.pid")"
it "down works when one side has died" "$rig" down "$dir"
it "down works when nothing is up" "$rig" down "$dir"
nothing_left() { machine | diff "$dir/machine" -; }
it "the machine is as it was" wait_for 5 nothing_left
tap_done
