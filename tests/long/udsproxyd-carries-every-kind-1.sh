#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# Every combination of kinds, numbers, directions, payloads and socket types, 1 thread.
THREADS=1 FULL=1 exec "$(dirname "$0")/../behaviour/udsproxyd-carries-every-kind.py" "$@"
