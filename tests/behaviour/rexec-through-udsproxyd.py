#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The cases of rexec-local.py, with two udsproxyd between rexec and rexec_server."""

import os
import sys

cases = os.path.join(os.path.dirname(os.path.abspath(__file__)), "rexec-local.py")
os.execv(cases, [cases, "pair", *sys.argv[1:]])
