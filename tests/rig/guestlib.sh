# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
#
# guestlib.sh - a kernel for guests, and its modules. Source it.
#
# The kernel is Debian's cloud kernel: $E2E_KERNEL (a vmlinuz whose modules are in
# ../lib/modules beside it, or in /lib/modules), or the newest of /boot, or a package that is
# downloaded and unpacked, never installed, in build/kernel.

kernel_cache=$(realpath "$(dirname "${BASH_SOURCE[0]}")/../..")/build/kernel

newest() { # FILE... - the newest version of those that exist
	local f
	for f; do [ ! -e "$f" ] || echo "$f"; done | sort -V | tail -n 1
}

fetch_kernel() {
	local package
	package=$(apt-cache depends linux-image-cloud-amd64 | awk '/Depends: linux-image-/ { print $2; exit }')
	echo "guest: downloading $package" >&2
	rm -rf "$kernel_cache"
	mkdir -p "$kernel_cache"
	(cd "$kernel_cache" && apt-get -qq -o APT::Sandbox::User=root download "${package:?no linux-image-cloud-amd64 known to apt}" >&2)
	dpkg -x "$kernel_cache"/*.deb "$kernel_cache/root"
	rm "$kernel_cache"/*.deb
}

find_kernel() { # sets kernel, and for copy_modules kernel_version and kernel_root
	kernel=${E2E_KERNEL:-$(newest /boot/vmlinuz-*-cloud-amd64)}
	if [ -z "$kernel" ]; then
		[ -n "$(newest "$kernel_cache"/root/boot/vmlinuz-*)" ] || fetch_kernel
		kernel=$(newest "$kernel_cache"/root/boot/vmlinuz-*)
	fi
	kernel_version=${kernel##*/vmlinuz-}
	kernel_root=$(realpath "$(dirname "$kernel")/..")
	[ -d "$kernel_root/lib/modules/$kernel_version" ] || kernel_root=/
	# an unpacked package has no list of what depends on what
	[ -e "$kernel_root/lib/modules/$kernel_version/modules.dep" ] || depmod -b "$kernel_root" "$kernel_version"
}

# copy_modules DIR MODULE... - these and what they need, as NAME.ko; DIR/order names them in the
# order in which they load. What is built in has none.
copy_modules() {
	local dir=$1 module word file name
	shift
	: >"$dir/order"
	for module; do
		modprobe -d "$kernel_root" -S "$kernel_version" --show-depends "$module" 2>/dev/null || true
	done | while read -r word file _; do
		[ "$word" = insmod ] || continue
		name=$(basename "$file")
		name=${name%%.ko*}
		[ ! -e "$dir/$name.ko" ] || continue
		case $file in
		*.xz) xz -dc "$file" ;;
		*.zst) zstd -qdc "$file" ;;
		*) cat "$file" ;;
		esac >"$dir/$name.ko"
		echo "$name" >>"$dir/order"
	done
}
