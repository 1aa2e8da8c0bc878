#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""A running udsproxyd follows qtcfg's edits before qtcfg ends, and keeps its lists when a new one
is bad. Whether a name is on the list shows in what its clients are told: there is no peer, so a
listed name gives ECONNREFUSED, and any other ENETUNREACH."""

import errno
import os
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import time

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BIN = os.environ.get("BIN", TOP + "/build/testmode/bin")
MAGIC, VERSION, CONNECT = 0x55445351, 2, 1

count = failed = 0
own = tempfile.mkdtemp()
run_dir, lists = own + "/run", own + "/udsproxyd"


def test(name, got, want):
	global count, failed
	count += 1
	failed += got != want
	print("%s %d - %s" % ("ok" if got == want else "not ok", count, name))
	if got != want:
		print("# got %r, not %r" % (got, want))


def ask(name):
	"""The name of the errno that a client is told when it asks for the peer's socket NAME."""
	s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
	s.settimeout(15)
	s.connect(run_dir + "/udsproxyd.sock")
	with socket.socket(socket.AF_UNIX) as c:
		socket.send_fds(s, [struct.pack(">IHHHI", MAGIC, VERSION, CONNECT, 0, len(name)) + name], [c.fileno()])
	error = struct.unpack(">IHH", s.recv(4096)[:8])[2]
	s.close()
	return errno.errorcode.get(error, error)


def qtcfg(*args):
	run = subprocess.run([BIN + "/qtcfg", "--config-dir", own, "--runtime-dir", run_dir, "-w",
			      "udsconnect", *args], stderr=subprocess.PIPE, text=True, timeout=60)
	return run.returncode, run.stderr


def free_port():
	with socket.socket() as s:
		s.bind(("127.0.0.1", 0))
		return str(s.getsockname()[1])


def start():
	os.mkdir(run_dir)
	os.mkdir(lists)
	for name in ("udsconnect", "udsaccept"):
		open(lists + "/" + name, "w").close()
	log = open(own + "/log", "w")
	daemon = subprocess.Popen([BIN + "/udsproxyd", "--test-mode", "--config-dir", lists,
				   "--runtime-dir", run_dir, "1", "127.0.0.1", free_port(),
				   "127.0.0.1", free_port()], stdout=log, stderr=log)
	end = time.monotonic() + 10
	while not os.path.exists(run_dir + "/control.sock"):
		if time.monotonic() > end or daemon.poll() is not None:
			daemon.kill()
			sys.exit("Bail out! udsproxyd does not start: " + open(own + "/log").read())
		time.sleep(0.02)
	return daemon


def behaviours():
	test("an empty list allows nothing", ask(b"/run/x/a.sock"), "ENETUNREACH")
	test("qtcfg adds", qtcfg("-x", "/run/x"), (0, ""))
	test("what is below is allowed at once", ask(b"/run/x/a.sock"), "ECONNREFUSED")
	test("written with /var/run, too", ask(b"/var/run//x/a.sock"), "ECONNREFUSED")
	test("its neighbour is not", ask(b"/run/x-evil/a.sock"), "ENETUNREACH")
	test("nor what leads out of it", ask(b"/run/x/../y"), "ENETUNREACH")
	test("qtcfg adds for another user", qtcfg("-x", "/run/y", "-o", "uid=%d" % (os.getuid() + 1)), (0, ""))
	test("this user may not", ask(b"/run/y"), "ENETUNREACH")
	test("qtcfg deletes", qtcfg("-y", "0"), (0, ""))
	test("it is forbidden at once", ask(b"/run/x/a.sock"), "ENETUNREACH")
	test("an abstract name", qtcfg("-x", "@vm"), (0, ""))
	test("is allowed", ask(b"\0vm"), "ECONNREFUSED")
	test("but no longer one", ask(b"\0vmx"), "ENETUNREACH")
	with open(lists + "/udsaccept", "w") as f:
		f.write("/a bad=option\n")
	status, said = qtcfg("-x", "/run/z")
	test("a daemon that meets a bad list refuses: 7", status, 7)
	test("qtcfg passes on why", "udsaccept: line 1: bad=option" in said, True)
	test("the old lists stay in force", (ask(b"/run/z"), ask(b"\0vm")), ("ENETUNREACH", "ECONNREFUSED"))


daemon = start()
try:
	behaviours()
finally:
	daemon.terminate()
	try:
		test("the daemon ends with 0", daemon.wait(10), 0)
	except subprocess.TimeoutExpired:
		daemon.kill()
	if failed:
		print("# " + open(own + "/log").read().replace("\n", "\n# "))
	shutil.rmtree(own)
print("1..%d" % count)
sys.exit(failed > 0)
