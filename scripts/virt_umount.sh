#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# virt_umount.sh - undo what virt_start.sh has made
#
# Everything that is mounted at and below the chroot is unmounted, the last one first, whoever mounted
# it, and what was made only to be mounted upon is removed. A second run finds nothing to do.
set -euo pipefail

self=${0##*/}
lib=@PKGDIR@/virt_common.sh
[ -e "$lib" ] || lib=$(dirname "$(realpath "$0")")/virt_common.sh
# shellcheck source=scripts/virt_common.sh
. "$lib"

force=no

usage() {
	cat <<-END
		usage: $self [--root DIR] [--force]
		Unmount the chroot that virt_start.sh has made, and all that is mounted in it.

		  --root DIR   the chroot ($ROOT)
		  --force      although programs still use it: they keep what they have open
		  --help

		Reads $CONF, too.
	END
}

parse_options() {
	while [ $# -gt 0 ]; do
		case $1 in
		--root)
			[ $# -ge 2 ] || bad_usage "$1: its argument is missing"
			ROOT=$2
			shift
			;;
		--force) force=yes ;;
		*) bad_usage "'$1' is not known" ;;
		esac
		shift
	done
}

# Pids of those that run in the chroot, stand in it, or have one of its files open. In a mount namespace
# of virt_exec.sh, or of libvirt's for a machine, the chroot is the root, and called "/".
users() {
	local process
	{
		find /proc/[0-9]*/{root,cwd,exe} /proc/[0-9]*/fd \( -lname "$ROOT" -o -lname "$ROOT/*" \) 2>/dev/null || true
		for process in /proc/[0-9]*; do
			[ "$process/ns/mnt" -ef /proc/self/ns/mnt ] || ! [ "$process/root" -ef "$ROOT" ] || echo "$process/root"
		done
	} | cut -d/ -f3 | sort -nu
}

refuse_while_used() {
	local pid pids
	pids=$(users)
	[ -n "$pids" ] || return 0
	echo "$self: $ROOT is in use:" >&2
	for pid in $pids; do
		printf '%8d  %s\n' "$pid" "$(tr '\0' ' ' 2>/dev/null <"/proc/$pid/cmdline")" >&2
	done
	[ "$force" = yes ] || die "end these first (virtual machines, libvirtd, virtlogd), or --force"
}

unmount_all() {
	local point how=()
	[ "$force" = no ] || how=(--lazy)
	# A start that was killed may have left it shared with the machine's own.
	! mountpoint -q "$ROOT/sys" || mount --make-rprivate "$ROOT/sys"
	while read -r point; do
		# With ROOT goes the view of what was made in it.
		[ "$point" != "$ROOT" ] || remove_made
		say "unmount $point"
		umount "${how[@]}" "$point" || die "$point stays mounted, and what it lies in; try again"
	done < <(mounts_below_root)
}

# Only what is still as it was made: empty. What is not has become somebody's.
remove_made() {
	local path
	[ -e "$STATE" ] || return 0
	while read -r path; do
		if [ -f "$path" ] && [ ! -s "$path" ]; then
			rm "$path"
		elif [ -d "$path" ]; then
			rmdir "$path" 2>/dev/null || true
		fi
	done < <(tac "$STATE")
}

if [ "${1:-}" = --help ]; then
	usage
	exit 0
fi
read_conf
parse_options "$@"
settle_root
if [ -z "$(mounts_below_root)" ] && [ ! -e "$STATE" ]; then
	say "$ROOT: nothing is mounted: nothing to do"
	rmdir --ignore-fail-on-non-empty "$STATE_DIR"
	exit 0
fi
refuse_while_used
unmount_all
remove_made # ROOT itself
rm -f "$STATE"
rmdir --ignore-fail-on-non-empty "$STATE_DIR"
say "$ROOT is as it was"
