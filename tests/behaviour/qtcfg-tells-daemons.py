#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""qtcfg tells a running daemon, waits for udsproxyd's answer within a bound, and says so when
the daemon does not follow. The daemon here answers what a real one cannot be made to answer:
nonsense, half of it, nothing. (qtcfg-is-followed-at-once.py has the real one.)"""

import fcntl
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
QTCFG = os.environ.get("BIN", TOP + "/build/testmode/bin") + "/qtcfg"
MAGIC, VERSION, RELOAD = 0x55445351, 2, 16

count = failed = entries = 0
own = tempfile.mkdtemp()


def test(name, good, why):
	global count, failed
	count += 1
	failed += not good
	print("%s %d - %s" % ("ok" if good else "not ok", count, name))
	if not good:
		print("# " + str(why).replace("\n", "\n# "))


def qtcfg(which):
	"""Adds a new entry. (exit status, what it said, was the entry saved, seconds)"""
	global entries
	entries += 1
	path = "/p/%d" % entries
	since = time.monotonic()
	run = subprocess.run([QTCFG, "--config-dir", own, "--runtime-dir", own, "-w", which, "-x", path],
			     stderr=subprocess.PIPE, text=True, timeout=60)
	took = time.monotonic() - since
	name = {"udsconnect": "udsproxyd/udsconnect", "rexec": "rexec/whitelist"}[which]
	with open(own + "/" + name) as f:
		return run.returncode, run.stderr, path + "\n" in f.readlines(), took


def reply(error, reason):
	return struct.pack(">IHHI", MAGIC, VERSION, error, len(reason)) + reason


class Daemon:
	"""Listens on control.sock, takes one request, sends `answer` (None: stays silent)."""

	def __init__(self, answer, hold=False):
		self.answer, self.hold, self.request = answer, hold, b""
		self.s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
		self.s.bind(own + "/control.sock")
		self.s.listen(5)
		self.s.settimeout(20)
		self.done = threading.Event()
		self.thread = threading.Thread(target=self.run)

	def run(self):
		c, _ = self.s.accept()
		self.request = c.recv(4096)
		if self.answer is not None:
			c.send(self.answer)
		if self.hold:
			self.done.wait(30)
		c.close()

	def __enter__(self):
		self.thread.start()
		return self

	def __exit__(self, *_):
		self.done.set()
		self.thread.join()
		self.s.close()
		os.unlink(own + "/control.sock")


def udsproxyd():
	status, said, saved, _ = qtcfg("udsconnect")
	test("no daemon: saved", status == 0 and saved, said)
	with Daemon(reply(0, b"")) as d:
		status, said, saved, _ = qtcfg("udsconnect")
	test("a daemon that follows: silent success", (status, said, saved) == (0, "", True), said)
	want = struct.pack(">IHHHI", MAGIC, VERSION, RELOAD, 0, 0)
	test("it was asked to reload", d.request == want, d.request)
	with Daemon(reply(22, b"line 7 is bad")):
		status, said, saved, _ = qtcfg("udsconnect")
	test("a refusal: 7, saved, with the daemon's reason",
	     status == 7 and saved and "the list is saved, but" in said and "line 7 is bad" in said, said)
	with Daemon(reply(13, b"")):
		status, said, saved, _ = qtcfg("udsconnect")
	test("a refusal without a reason: 7, with the error's name",
	     status == 7 and saved and "Permission denied" in said, said)
	with Daemon(None):
		status, said, saved, _ = qtcfg("udsconnect")
	test("a daemon that breaks off: 7", status == 7 and saved, said)
	with Daemon(b"nonsense"):
		status, said, saved, _ = qtcfg("udsconnect")
	test("an answer that is none: 7", status == 7 and saved, said)
	with Daemon(None, hold=True):
		status, said, saved, took = qtcfg("udsconnect")
	test("a silent daemon: 7 within the bound",
	     status == 7 and saved and "no answer in time" in said and took < 12, (said, took))
	s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
	s.bind(own + "/control.sock")
	s.close()
	status, said, saved, _ = qtcfg("udsconnect")
	test("a dead daemon's socket: saved, silent", (status, said, saved) == (0, "", True), said)
	os.unlink(own + "/control.sock")


def rexec_server():
	answers = []

	def answer(*_):
		"""As rexec_server does."""
		answers.append(1)
		with open(own + "/reload", "wb") as f:
			f.write(b"%d %s\n" % (len(answers), wrong))
		os.rename(own + "/reload", own + "/rexec_server.reload")

	def hups():
		"""So often was it told since this was last asked."""
		got = len(answers) - hups.seen
		hups.seen = len(answers)
		return got

	hups.seen = 0
	wrong = b""
	signal.signal(signal.SIGHUP, answer)
	status, said, saved, _ = qtcfg("rexec")
	test("no rexec_server: saved", status == 0 and saved, said)
	pid_file = open(own + "/rexec_server.pid", "w")
	pid_file.write("%d\n" % os.getpid())
	pid_file.flush()
	status, said, saved, _ = qtcfg("rexec")
	test("a pid file that nobody locks: no signal", (status, said, saved) == (0, "", True) and not hups(), said)
	fcntl.lockf(pid_file, fcntl.LOCK_EX)
	status, said, saved, _ = qtcfg("rexec")
	test("the holder of the lock gets SIGHUP", (status, said, saved) == (0, "", True) and hups() == 1, said)
	wrong = b"line 9 is bad"
	status, said, saved, _ = qtcfg("rexec")
	test("one that keeps the old list: 7, saved, with its reason",
	     status == 7 and saved and "the old one is in force" in said and "line 9 is bad" in said, said)
	signal.signal(signal.SIGHUP, signal.SIG_IGN)
	status, said, saved, took = qtcfg("rexec")
	test("one that says nothing: 7 within the bound",
	     status == 7 and saved and "no answer in time" in said and took < 12, (said, took))
	signal.signal(signal.SIGHUP, answer)
	hups()
	pid_file.close()
	status, said, saved, _ = qtcfg("rexec")
	test("and none once it has let go", status == 0 and not hups(), said)


try:
	udsproxyd()
	rexec_server()
finally:
	shutil.rmtree(own)
print("1..%d" % count)
sys.exit(failed > 0)
