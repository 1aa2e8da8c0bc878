# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash disable=SC2034,SC2154
#
# virt_common.sh - what virt_start.sh and virt_umount.sh share. Source it.
#
# What is mounted in the chroot is known from the kernel's own list, so that neither script depends
# on what the other one remembers. Only files and directories that were made to be mounted upon
# are noted, in STATE, to be removed again.

CONF=${CONF:-@SYSCONFDIR@/dpu-offload/virt.conf}

ROOT=/root/new_root
ORIGIN=
SHARES=(/var/lib/libvirt/images)
STATE_SHARES=(/var/lib/libvirt/qemu/nvram /var/lib/libvirt/swtpm /run/libvirt/qemu/swtpm /var/log/swtpm/libvirt/qemu
	/run/virtiofsd)
SHARE_TYPE=sshfs
SHARE_OPTIONS=
HOST=
SFTP_SERVER=/usr/lib/openssh/sftp-server
TRAMPOLINE=yes
EMULATORS=(/usr/bin/qemu-kvm /usr/libexec/qemu-kvm "/usr/bin/qemu-system-$(uname -m)")
HOST_PROGRAMS=(/usr/bin/swtpm /usr/bin/swtpm_setup /usr/bin/swtpm_ioctl)
VIRTIOFSD=/usr/lib/qemu/virtiofsd
REXEC=@BINDIR@/rexec
PROGRAMS=("$REXEC" @LIBEXECDIR@/rexec-qemu)
LIBRARY=@LIBDIR@/libudsproxy.so
TRAMPOLINE_SCRIPT=@PKGDIR@/qemu-kvm
VIRTIOFSD_SCRIPT=@PKGDIR@/virtiofsd
REXEC_SFTP=@LIBEXECDIR@/rexec-sftp

say() { echo "$self: $*"; }
die() {
	echo "$self: $*" >&2
	exit 1
}
bad_usage() {
	[ $# -eq 0 ] || echo "$self: $*" >&2
	echo "Try '$self --help'." >&2
	exit 2
}

read_conf() {
	[ "$(id -u)" = 0 ] || die "needs root"
	if [ -e "$CONF" ]; then
		# shellcheck source=/dev/null
		. "$CONF" || die "$CONF: see above"
	fi
}

# To be called when ROOT is final: one run at a time, and where notes are kept.
settle_root() {
	ROOT=$(realpath -m -- "$ROOT")
	[ "$ROOT" != / ] || bad_usage "--root /: the root of this system is no chroot"
	STATE_DIR=/run/dpu-offload
	STATE=$STATE_DIR/made${ROOT//\//-}
	mkdir -p "$STATE_DIR"
	exec 9<"$STATE_DIR"
	flock -n 9 || die "another virt_start.sh or virt_umount.sh is at work"
	cd / # or we would be in the way of an unmount ourselves
}

# Mount points at and below ROOT, the last one first. The kernel writes a space as \040.
mounts_below_root() {
	local point
	while read -r _ _ _ _ point _; do
		printf -v point '%b' "${point//\\0/\\00}"
		if [ "$point" = "$ROOT" ] || [[ "$point" = "$ROOT"/* ]]; then
			echo "$point"
		fi
	done </proc/self/mountinfo | tac
}

is_mounted() { # PATH
	mounts_below_root | grep -qxF -- "$1"
}
