#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# virt_exec.sh - run a program in the chroot that virt_start.sh has made
#
# Not by chroot(2) but in a mount namespace whose root is the chroot: for each virtual machine libvirtd makes a
# mount namespace, and when it enters that again, setns(2) puts it at the namespace's root. From within a
# mere chroot it would then change the DPU's own files. What virt_start.sh and virt_umount.sh
# mount and unmount later is seen in here, too.
set -euo pipefail

self=${0##*/}
lib=@PKGDIR@/virt_common.sh
[ -e "$lib" ] || lib=$(dirname "$(realpath "$0")")/virt_common.sh
# shellcheck source=scripts/virt_common.sh
. "$lib"

usage() {
	cat <<-END
		usage: $self [--root DIR] PROGRAM [ARG...]
		Run PROGRAM, for example libvirtd, in the chroot that virt_start.sh has made.

		  --root DIR   the chroot ($ROOT)
		  --help

		Reads $CONF, too.
	END
}

if [ "${1:-}" = --help ]; then
	usage
	exit 0
fi
read_conf
if [ "${1:-}" = --root ]; then
	[ $# -ge 2 ] || bad_usage "--root: its argument is missing"
	ROOT=$2
	shift 2
fi
[ $# -gt 0 ] || bad_usage "which program?"
[[ "$1" != -* ]] || bad_usage "'$1' is not known"
ROOT=$(realpath -m -- "$ROOT")
is_mounted "$ROOT" || die "$ROOT is not up: virt_start.sh makes it"
# shellcheck disable=SC2016
exec unshare --mount --propagation slave -- /bin/bash -c '
	cd "$1" && pivot_root . . && umount -l . && cd / && shift && exec "$@"' "$self" "$ROOT" "$@"
