#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# virt_start.sh - make the chroot in which the DPU's libvirtd runs
#
# Each step first looks whether it has been done: a second run changes nothing. When one fails, what
# this run did is undone, in reverse order. virt_umount.sh undoes all.
set -euo pipefail

self=${0##*/}
lib=@PKGDIR@/virt_common.sh
[ -e "$lib" ] || lib=$(dirname "$(realpath "$0")")/virt_common.sh
# shellcheck source=scripts/virt_common.sh
. "$lib"

usage() {
	cat <<-END
		usage: $self [OPTION...]
		Make the chroot in which libvirtd runs on the DPU, with the HOST's directories in it.

		  --root DIR           the chroot ($ROOT)
		  --origin DIR         bind this directory, which holds a root file system, onto it
		  --share DIR[=NAME]   mount the HOST's DIR in it, at the same path; may be repeated
		                       (${SHARES[*]}). NAME: a 9p or virtiofs tag, another export
		  --share-type TYPE    sshfs (through rexec: no ssh daemon, key or port), qtfs, nfs, 9p
		                       or virtiofs ($SHARE_TYPE)
		  --share-options OPT  mount options to add
		  --no-trampoline      leave QEMU, swtpm and virtiofsd in the chroot
		  --help

		$CONF sets the same, and more, as shell variables.
	END
}

### doing and undoing ###

done_steps=0
undo=() # commands, each a line of shell words

# step TEXT UNDO CMD...: does CMD, and notes how to undo it
step() {
	local text=$1 back=$2
	shift 2
	say "$text"
	"$@"
	done_steps=$((done_steps + 1))
	[ -z "$back" ] || undo+=("$back")
}

undo_all() {
	local status=$? n
	trap - EXIT
	[ ${#undo[@]} -eq 0 ] || say "failed; undoing what was done"
	for ((n = ${#undo[@]} - 1; n >= 0; n--)); do
		eval "${undo[n]}" || true
	done
	rmdir --ignore-fail-on-non-empty "$STATE_DIR"
	exit "$status"
}

quoted() { printf '%q ' "$@"; }

# mount_at TARGET MOUNT-ARG...
mount_at() {
	local target=$1
	shift
	is_mounted "$target" || step "mount $target" "umount $(quoted "$target")" mount "$@" "$target"
}

# What is only made to be mounted upon is noted, for virt_umount.sh to remove; what is made in a tmpfs goes with it.
make() { # PATH CMD...: CMD makes PATH
	case $1 in
	"$ROOT"/run/* | "$ROOT"/tmp/*) step "make $1" "rm -df $(quoted "$1")" "${@:2}" "$1" ;;
	*)
		step "make $1" "unmake $(quoted "$1")" "${@:2}" "$1"
		echo "$1" >>"$STATE"
		;;
	esac
}
unmake() { # PATH, the last one that was noted
	rm -df "$1"
	sed -i '$d' "$STATE"
	[ -s "$STATE" ] || rm "$STATE"
}
directory() { # PATH
	[ -d "$1" ] || {
		directory "$(dirname "$1")"
		make "$1" mkdir -m 755
	}
}
file() { # PATH
	[ -e "$1" ] || {
		directory "$(dirname "$1")"
		make "$1" install -m 644 /dev/null
	}
}

# Where PATH of the chroot is: its links lead to places in the chroot.
inside() { # PATH
	echo "$ROOT$(chroot "$ROOT" realpath -m -- "$1")"
}

bind_file() { # SOURCE PATH-IN-ROOT
	local target
	target=$(inside "$2")
	file "$target"
	mount_at "$target" --bind "$1"
}

### the parts ###

# Mounted upon itself when it has no origin: virt_exec.sh makes a mount point the root of libvirtd's mount
# namespace. A peer group of its own, so that what is mounted in it appears there and nowhere else.
make_root() {
	[ -n "$ORIGIN" ] || ORIGIN=$ROOT
	[ -x "$ORIGIN/bin/sh" ] || die "$ORIGIN holds no root file system (it has no /bin/sh)"
	[ -d "$ROOT" ] || directory "$ROOT"
	mount_at "$ROOT" --bind "$ORIGIN"
	is_mounted "$ROOT/proc" || {
		mount --make-private "$ROOT"
		mount --make-shared "$ROOT"
	}
}

make_kernel_filesystems() {
	mount_at "$ROOT/proc" -t proc -o nosuid,nodev,noexec proc
	is_mounted "$ROOT/sys" || {
		# private in the same call: what is shared would be unmounted from /sys, too
		step "mount $ROOT/sys" "mount --make-rprivate $(quoted "$ROOT/sys") && umount -R $(quoted "$ROOT/sys")" \
			mount --rbind --make-rprivate /sys "$ROOT/sys"
	}
	is_mounted "$ROOT/run" || {
		mount_at "$ROOT/run" -t tmpfs -o mode=755,nosuid,nodev run
		mkdir -m 1777 "$ROOT/run/lock" # /var/lock: libvirtd locks consoles there
	}
	mount_at "$ROOT/tmp" -t tmpfs -o mode=1777,nosuid,nodev tmp
}

# Not the DPU's /dev: the chroot gets the few devices that programs want, and a /dev/kvm of its own.
make_devices() {
	local name
	is_mounted "$ROOT/dev" || {
		step "mount $ROOT/dev" "umount $(quoted "$ROOT/dev")" mount -t tmpfs -o mode=755,nosuid dev "$ROOT/dev"
		for name in null zero full random urandom tty net/tun; do
			[ ! -e "/dev/$name" ] || install_device "$name"
		done
		mknod -m 666 "$ROOT/dev/ptmx" c 5 2
		ln -s /proc/self/fd "$ROOT/dev/fd"
		ln -s fd/0 "$ROOT/dev/stdin"
		ln -s fd/1 "$ROOT/dev/stdout"
		ln -s fd/2 "$ROOT/dev/stderr"
		mkdir "$ROOT/dev/pts" "$ROOT/dev/shm"
		# libvirt looks whether QEMU could open it; QEMU, on the HOST, opens the HOST's. A second /dev/null:
		# of a plain file libvirt would leave a copy in /run at every start.
		mknod -m 666 "$ROOT/dev/kvm" c 1 3
	}
	mount_at "$ROOT/dev/pts" --bind /dev/pts
	mount_at "$ROOT/dev/shm" -t tmpfs -o mode=1777,nosuid,nodev shm
}
install_device() { # NAME
	mkdir -p "$(dirname "$ROOT/dev/$1")"
	cp -a "/dev/$1" "$ROOT/dev/$1"
	chmod 666 "$ROOT/dev/$1"
}

# The daemon may be started later, and restarted: the directory stays.
make_proxy() {
	install -d -m 755 /run/udsproxyd
	directory "$ROOT/run/udsproxyd"
	mount_at "$ROOT/run/udsproxyd" --bind /run/udsproxyd
}

make_programs() {
	local path
	for path in "${PROGRAMS[@]}" "$LIBRARY"; do
		[ -e "$path" ] || die "$path is not installed on the DPU: make install"
		bind_file "$path" "$path"
	done
	# It may be another distribution in there.
	for path in "${PROGRAMS[@]}"; do
		chroot "$ROOT" "$path" --version >/dev/null ||
			say "warning: $path does not run in the chroot: install its libraries there"
	done
}

# Bound over whatever is there: QEMU itself stays untouched beneath, and virt_umount.sh uncovers it.
# In the place of other programs stands rexec itself, which runs what it is called.
make_trampoline() {
	local path
	[ "$TRAMPOLINE" = yes ] || return 0
	for path in "${HOST_PROGRAMS[@]}"; do
		bind_file "$REXEC" "$path"
	done
	bind_file "$VIRTIOFSD_SCRIPT" "$VIRTIOFSD"
	for path in "${EMULATORS[@]}" "$ROOT"/usr/bin/qemu-system-*; do
		[[ "$path" = *'*' ]] || bind_file "$TRAMPOLINE_SCRIPT" "${path#"$ROOT"}"
	done
}

### shares ###

# A share whose server has gone for good is mounted and useless.
forget_dead_share() { # PATH
	if is_mounted "$1" && ! timeout 20 stat "$1" >/dev/null 2>&1; then
		step "unmount $1, which does not answer" "" umount -l "$1"
	fi
}

mount_share() { # DIR[=NAME]
	local dir=${1%%=*} name=${1#*=} target
	target=$(inside "$dir")
	forget_dead_share "$target"
	! is_mounted "$target" || return 0
	directory "$target"
	step "mount $target from the HOST ($SHARE_TYPE)" "umount $(quoted "$target")" \
		"mount_$SHARE_TYPE" "$name" "$target"
}

# In these libvirt, or virtiofsd's trampoline, prepares files for what runs on the HOST. Nobody else makes them
# there; of /run they go when the HOST boots.
share_state() {
	local dir missing=()
	[ "$SHARE_TYPE" = sshfs ] || return 0
	for dir in "${STATE_SHARES[@]}"; do
		forget_dead_share "$(inside "$dir")"
		is_mounted "$(inside "$dir")" || missing+=("$dir")
	done
	[ ${#missing[@]} -gt 0 ] || return 0
	step "make on the HOST what is missing of ${missing[*]}" "" make_on_host "${missing[@]}"
	for dir in "${missing[@]}"; do
		mount_share "$dir"
	done
}
# A directory that is there already is a failure to sftp, which it is told not to mind.
make_on_host() { # DIR...
	local dir at name names said
	said=$(for dir; do
		at=
		IFS=/ read -ra names <<<"${dir#/}"
		for name in "${names[@]}"; do
			at+=/$name
			printf -- '-mkdir "%s"\n' "$at"
		done
	done | (umask 022 && SFTP_SERVER=$SFTP_SERVER sftp -q -D "$REXEC_SFTP" -b - 9>&-) 2>&1) || {
		echo "$said" >&2
		return 1
	}
}

# No cache of names and attributes: QEMU changes the files on the HOST meanwhile.
mount_sshfs() { # NAME TARGET
	SFTP_SERVER=$SFTP_SERVER sshfs -o "ssh_command=$REXEC_SFTP,reconnect,allow_other,dir_cache=no$SHARE_OPTIONS" \
		"host:$1" "$2" </dev/null 9>&- || {
		echo "$self: is udsproxyd up on both sides, rexec_server on the HOST, $SFTP_SERVER in its whitelist?" >&2
		return 1
	}
}
mount_qtfs() { mount -t qtfs ${SHARE_OPTIONS:+-o "${SHARE_OPTIONS#,}"} "$1" "$2"; }
mount_nfs() { mount -t nfs ${SHARE_OPTIONS:+-o "${SHARE_OPTIONS#,}"} "$HOST:$1" "$2"; }
mount_9p() { mount -t 9p -o "trans=virtio,version=9p2000.L$SHARE_OPTIONS" "$1" "$2"; }
mount_virtiofs() { mount -t virtiofs ${SHARE_OPTIONS:+-o "${SHARE_OPTIONS#,}"} "$1" "$2"; }

# Before anything is changed.
check_shares() {
	local share
	case $SHARE_TYPE in
	sshfs)
		command -v sshfs >/dev/null || die "sshfs is not installed"
		[ -x "$REXEC_SFTP" ] || die "$REXEC_SFTP is not installed on the DPU: make install"
		;;
	nfs) [ -n "$HOST" ] || die "nfs: HOST, the server's name, is not set in $CONF" ;;
	qtfs | 9p | virtiofs) ;;
	*) bad_usage "share type '$SHARE_TYPE': sshfs, qtfs, nfs, 9p and virtiofs are known" ;;
	esac
	for share in "${SHARES[@]}"; do
		[[ "$share" = /* ]] || bad_usage "share '$share': an absolute path is wanted"
		[[ "$share" = *=* || "$SHARE_TYPE" != @(9p|virtiofs) ]] ||
			bad_usage "share '$share': $SHARE_TYPE wants DIR=TAG"
	done
	[ -z "$SHARE_OPTIONS" ] || SHARE_OPTIONS=,${SHARE_OPTIONS#,}
}

### main ###

parse_options() {
	local shares=()
	while [ $# -gt 0 ]; do
		case $1 in
		--root | --origin | --share | --share-type | --share-options)
			[ $# -ge 2 ] || bad_usage "$1: its argument is missing"
			case $1 in
			--root) ROOT=$2 ;;
			--origin) ORIGIN=$2 ;;
			--share) shares+=("$2") ;;
			--share-type) SHARE_TYPE=$2 ;;
			--share-options) SHARE_OPTIONS=$2 ;;
			esac
			shift
			;;
		--no-trampoline) TRAMPOLINE=no ;;
		*) bad_usage "'$1' is not known" ;;
		esac
		shift
	done
	[ ${#shares[@]} -eq 0 ] || SHARES=("${shares[@]}")
}

if [ "${1:-}" = --help ]; then
	usage
	exit 0
fi
read_conf
parse_options "$@"
check_shares
settle_root
trap undo_all EXIT
trap 'exit 130' INT TERM
make_root
make_kernel_filesystems
make_devices
make_proxy
make_programs
make_trampoline
for share in "${SHARES[@]}"; do
	mount_share "$share"
done
share_state
trap - EXIT
if [ $done_steps -eq 0 ]; then
	say "$ROOT is up already: nothing to do"
else
	say "$ROOT is up. To start libvirt in it:"
	echo "    virt_exec.sh --root $ROOT virtlogd -d"
	echo "    virt_exec.sh --root $ROOT libvirtd -d"
fi
