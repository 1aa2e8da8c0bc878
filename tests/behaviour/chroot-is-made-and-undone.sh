#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# virt_start.sh and virt_umount.sh, in a mount namespace of its own: the chroot's root file system is
# this machine's, over which nothing is written. The share is a real sshfs with a real sftp-server,
# without rexec between them; with it: tests/e2e/chroot.sh.
set -uo pipefail

top=$(realpath "$(dirname "$0")/../..")
# shellcheck source=tests/lib/tap.sh
. "$top/tests/lib/tap.sh"

if [ "$(id -u)" != 0 ] || [ ! -e /dev/fuse ]; then
	echo '1..0 # SKIP needs root and /dev/fuse'
	exit 0
fi
if [ -z "${CHROOT_TEST_DIR:-}" ]; then
	CHROOT_TEST_DIR=$(mktemp -d "${TMPDIR:-/tmp}/chroot.XXXXXX")
	export CHROOT_TEST_DIR
	# what is mounted goes with the namespace
	unshare --mount --propagation private --pid --fork --kill-child --mount-proc -- "$0" "$@"
	status=$?
	rmdir "$CHROOT_TEST_DIR"
	exit $status
fi

dir=$CHROOT_TEST_DIR
mount -t tmpfs tmpfs "$dir"
mkdir "$dir"/{upper,work,origin,bin,share,run,host}
mount -t overlay -o "lowerdir=/,upperdir=$dir/upper,workdir=$dir/work" origin "$dir/origin"
mount --bind "$dir/run" /run # the scripts' notes, and udsproxyd's sockets
rm -f "$dir/origin/usr/bin/qemu-kvm"
echo words >"$dir/share/file"
printf '#!/bin/sh\necho program "$@"\n' | tee "$dir"/bin/{rexec,virtiofsd} >"$dir/bin/qemu-kvm"
printf '#!/bin/sh\nexec /usr/lib/openssh/sftp-server\n' >"$dir/bin/rexec-sftp"
: >"$dir/bin/libudsproxy.so"
chmod 755 "$dir"/bin/*
cat >"$dir/virt.conf" <<END
ROOT=$dir/root
ORIGIN=$dir/origin
SHARES=($dir/share)
STATE_SHARES=($dir/host/some/state)
HOST_PROGRAMS=(/usr/bin/swtpm)
REXEC=$dir/bin/rexec
VIRTIOFSD_SCRIPT=$dir/bin/virtiofsd
PROGRAMS=($dir/bin/rexec)
LIBRARY=$dir/bin/libudsproxy.so
TRAMPOLINE_SCRIPT=$dir/bin/qemu-kvm
REXEC_SFTP=$dir/bin/rexec-sftp
END
export CONF=$dir/virt.conf
root=$dir/root

# shellcheck disable=SC2120
start() { "$top/scripts/virt_start.sh" "$@"; }
stop() { "$top/scripts/virt_umount.sh" "$@"; }
inside() { chroot "$root" "$@"; }
# All that the scripts could leave behind. (An overlay keeps directories that were only looked into.)
traces() {
	cat /proc/mounts
	ls "$dir"
	find "$dir/run" "$dir/upper" ! -type d | sort
}
as_before() { traces | diff "$dir/before" -; }
as_made() { traces | diff "$dir/made" -; }
says() { # TEXT CMD...
	local out
	out=$("${@:2}" 2>&1) || true
	echo "$out"
	[[ "$out" = *"$1"* ]]
}
status_is() { # STATUS CMD...
	local status=0
	"${@:2}" || status=$?
	[ "$status" = "$1" ]
}
touch "$dir"/{before,made}
traces >"$dir/before"

it "the chroot is made" start
it "the HOST's file is in it" test "$(inside cat "$dir/share/file" 2>&1)" = words
it "what is written in it is the HOST's" sh -c "chroot $root sh -c 'echo more >$dir/share/new' && grep -q more $dir/share/new"
it "the trampoline is where libvirt looks for QEMU" says "program -version" inside qemu-kvm -version
it "a QEMU that is there is covered" says "program -version" inside qemu-system-x86_64 -version
it "there is a /dev/kvm that anybody may open, and it is no KVM" test "$(stat -c '%t:%T %a' "$root/dev/kvm")" = '1:3 666'
it "/dev/null, /proc and /sys are there" inside sh -c 'echo >/dev/null && test -e /proc/self/exe && test -d /sys/kernel'
it "its root is a mount point, as mount namespaces want it" mountpoint -q "$root"
enter() { "$top/scripts/virt_exec.sh" "$@"; }
it "virt_exec.sh runs a program in it" test "$(enter cat "$dir/share/file" 2>&1)" = words
# shellcheck disable=SC2016 # libvirtd does so, to look after a machine's files
again() { enter sh -c 'sleep 1000 & pid=$!; nsenter -t $pid -m cat "$1"; kill $pid' sh "$1"; }
it "the root of its mount namespace is the chroot" test "$(again "$dir/share/file" 2>&1)" = words
it "its exit status is the program's" status_is 7 enter sh -c 'exit 7'
it "no program is bad usage" status_is 2 enter
it "rexec is where libvirt looks for swtpm" says "program --version" inside swtpm --version
it "the trampoline is where libvirt looks for virtiofsd" says "program --version" inside /usr/lib/qemu/virtiofsd --version
it "a directory of state is made on the HOST" test -d "$dir/host/some/state"
it "and in the chroot, where the HOST sees what is written" \
	sh -c "chroot $root sh -c 'echo state >$dir/host/some/state/new' && grep -q state $dir/host/some/state/new"
traces >"$dir/made"
it "a second run changes nothing and says so" says "up already: nothing to do" start
it "and indeed nothing" as_made

# shellcheck disable=SC2217
sleep 1000 <"$root/etc/passwd" &
user=$!
it "virt_umount.sh refuses while a program uses it, and names it" says "$user  sleep 1000" stop
it "with status 1" status_is 1 stop
it "and unmounts nothing" as_made
"$top/scripts/virt_exec.sh" sleep 1001 &
entered=$!
it "nor one of virt_exec.sh" wait_for 5 says "$entered  sleep 1001" stop
kill $entered
wait $entered 2>/dev/null
it "--force unmounts all the same" stop --force
kill $user
wait $user 2>/dev/null
it "nothing is left" as_before

it "made again" start
it "undone" stop
it "nothing is left behind" as_before
it "undone once more: nothing to do" says "nothing to do" stop

it "a share that the HOST does not have: virt_start.sh fails" status_is 1 start --share /does/not/exist
it "and undoes what it did" as_before
it "an unknown share type is bad usage" status_is 2 start --share-type smb
it "an unknown option is bad usage" status_is 2 start --no-such-option
it "a relative share is bad usage" status_is 2 start --share images
it "a root file system that is none is refused" says "holds no root file system" start --origin "$dir/share"
it "none of these left anything" as_before

# shellcheck disable=SC2119
start >/dev/null
kill_sshfs() {
	local p
	for p in /proc/[0-9]*; do
		[ "$(readlink "$p/exe")" != /usr/bin/sshfs ] || kill -9 "${p#/proc/}"
	done
	wait_for 5 status_is 1 stat "$root$dir/share/file"
}
"$top/scripts/virt_exec.sh" sleep 1002 &
entered=$!
it "sshfs dies" kill_sshfs
it "virt_start.sh mounts the share again" start
it "which serves" test "$(inside cat "$dir/share/file" 2>&1)" = words
it "also in a program that runs already" test "$(cat "/proc/$entered/root$dir/share/file" 2>&1)" = words
kill $entered
wait $entered 2>/dev/null
it "undone at last" stop
it "without a trace" as_before

umount /run
umount -R "$dir/origin"
cd /
umount "$dir"
tap_done
