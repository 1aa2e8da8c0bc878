#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# check-symbols.sh [FILE] - a library that is preloaded into strangers' programs must bring
# nothing along: it may define its hooks, unversioned (libudsproxy.map), and no other name, and
# load libc and nothing else.
# Prints TAP. FILE is LIB/libudsproxy.so unless given.
set -u

cd "$(dirname "$0")/.." || exit 1
file=${1:-${LIB:-build/plain/lib}/libudsproxy.so}
hooks="connect getpeername sendmmsg sendmsg sendto"

. tests/lib/tap.sh

defined_names() { nm -D --defined-only "$file" | awk '{ print $NF }' | sort | paste -sd' '; }
loaded_libraries() { readelf -d "$file" | sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p' | sort | paste -sd' '; }
equal() { # WHAT EXPECTED FOUND
	echo "$1: expected '$2', found '$3'"
	[ "$2" = "$3" ]
}
# Relocated once, then read-only: an overwritten pointer to connect would be a gift.
full_relro() { readelf -ld "$file" | grep -q GNU_RELRO && readelf -d "$file" | grep -q BIND_NOW; }

[ -r "$file" ] || bail_out "no $file: make it first"
it "shim exports only its hooks" equal names "$hooks" "$(defined_names)"
it "shim loads libc and nothing else" equal libraries libc.so.6 "$(loaded_libraries)"
it "shim is read-only after relocation" full_relro
tap_done
