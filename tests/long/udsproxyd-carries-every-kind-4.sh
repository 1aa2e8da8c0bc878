#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# Every combination of kinds, numbers, directions, payloads and socket types, 4 threads.
THREADS=4 FULL=1 exec "$(dirname "$0")/../behaviour/udsproxyd-carries-every-kind.py" "$@"
