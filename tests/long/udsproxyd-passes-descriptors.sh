#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# What is a matter of chance, ten times as often as in tests/behaviour.
FULL=1 exec "$(dirname "$0")/../behaviour/udsproxyd-passes-descriptors.py" "$@"
