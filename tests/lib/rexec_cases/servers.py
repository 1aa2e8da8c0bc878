# SPDX-License-Identifier: Apache-2.0
"""What rexec says when a rexec_server or keeper is not there any more. Of the server itself: rexec-keeper.py."""

import os
import signal
import subprocess

from proxyends import expect
from proxypair import BIN, wait_for
from rexecs import alive, parent

from .case import rexec_case

PIPE = subprocess.PIPE


@rexec_case
def a_program_survives_a_restart_of_rexec_server(rig):
	process = rig.popen("sh", "-c", "echo up; read line; echo $line; exit 9", stdin=PIPE, stdout=PIPE)
	process.stdout.readline()
	expect(rig.stop_server(), 0)
	rig.start_server()
	out, _ = process.communicate(b"still here\n", 60)
	expect((out, rig.status(process)), (b"still here\n", 9))


@rexec_case
def no_rexec_server_is_told(rig):
	expect(rig.stop_server(), 0)
	result = rig.run("true")
	rig.start_server()
	expect((result.returncode, b"rexec_server is not running" in result.stderr), (125, True), f"{result}")


@rexec_case
def a_second_rexec_server_is_told_who_is_there(rig):
	second = rig.place.server([BIN + "/rexec_server", "--runtime-dir", rig.run_dir, "--test-mode", "--whitelist",
				   rig.place.own + "/none"], stderr=PIPE)
	said = second.communicate(timeout=60)[1]
	expect((second.returncode, str(rig.server.pid).encode() in said), (1, True), f"{said}")


@rexec_case
def a_killed_keeper_is_an_unknown_outcome(rig):
	"""123, and the program is gone; the next server removes what was left."""
	process = rig.popen("sh", "-c", "echo $$; exec sleep 1000", stdin=subprocess.DEVNULL, stdout=PIPE, stderr=PIPE)
	pid = int(process.stdout.readline())
	os.kill(parent(pid), signal.SIGKILL)
	err = process.communicate(timeout=60)[1]
	expect((rig.status(process), b"unknown" in err, wait_for(lambda: not alive(pid))), (123, True, True), f"{err}")
	rig.stop_server()
	rig.start_server()
