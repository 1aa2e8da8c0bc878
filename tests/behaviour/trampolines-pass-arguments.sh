#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# What libvirt tells QEMU goes through the script qemu-kvm as it is; but a virtiofsd's socket is the one that is on
# the HOST. In a mount namespace of its own, with a /run of its own.
set -uo pipefail

top=$(realpath "$(dirname "$0")/../..")
# shellcheck source=tests/lib/tap.sh
. "$top/tests/lib/tap.sh"

if [ "$(id -u)" != 0 ]; then
	echo '1..0 # SKIP needs root'
	exit 0
fi
if [ -z "${TRAMPOLINES_DIR:-}" ]; then
	TRAMPOLINES_DIR=$(mktemp -d "${TMPDIR:-/tmp}/trampolines.XXXXXX")
	export TRAMPOLINES_DIR
	trap 'rm -r "$TRAMPOLINES_DIR"' EXIT
	unshare --mount --propagation private -- "$0" "$@"
	exit
fi
mount -t tmpfs tmpfs /run
mkdir /run/virtiofsd
dir=$TRAMPOLINES_DIR
# shellcheck disable=SC2016
printf '#!/bin/sh\nprintf "[%%s]" "$@"\n' >"$dir/show"
chmod 755 "$dir/show"

# passes EXPECTED ARG... - QEMU gets EXPECTED of what libvirt gives
passes() {
	local expected=$1 said
	shift
	said=$(REXEC_QEMU=$dir/show "$top/scripts/qemu-kvm" "$@")
	echo "$said"
	[ "$said" = "[$top/scripts/qemu-kvm]$expected" ]
}
listens() { /usr/bin/python3 -c 'import socket, sys; socket.socket(socket.AF_UNIX).bind(sys.argv[1])' "$1"; }

it "no argument" passes ''
it "spaces, nothing, lines and patterns" passes $'[a b][][c\nd\n][*][-n][\\t]' 'a b' '' $'c\nd\n' '*' -n '\t'
fs=socket,id=chr-vu-fs0,path=/var/lib/libvirt/qemu/domain-1-a
listens "/run/virtiofsd/domain-1-a b-fs0-fs.sock"
it "a virtiofsd's socket is the HOST's, the rest as it is" \
	passes $'[a b][][-chardev][socket,id=chr-vu-fs0,path=/run/virtiofsd/domain-1-a b-fs0-fs.sock][c\nd]' \
	'a b' '' -chardev "$fs b/fs0-fs.sock" $'c\nd'
late() { # the socket comes when QEMU is being started
	(sleep 0.3 && listens /run/virtiofsd/domain-1-a-fs1-fs.sock) &
	passes "[-chardev][socket,id=chr-vu-fs0,path=/run/virtiofsd/domain-1-a-fs1-fs.sock]" -chardev "$fs/fs1-fs.sock" &&
		[ -S /run/virtiofsd/domain-1-a-fs1-fs.sock ]
}
it "it is waited for" late
it "other sockets stay" passes '[-chardev][socket,id=chrtpm,path=/run/a/b.sock]' -chardev socket,id=chrtpm,path=/run/a/b.sock
tap_done
