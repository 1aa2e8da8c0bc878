#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""rexec_server starts what its whitelist names and nothing else, and does not start itself with a
whitelist that others could write."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, TOP + "/tests/lib")
from proxypair import wait_for  # pylint: disable=wrong-import-position
from tap import Tap  # pylint: disable=wrong-import-position

BIN = os.environ.get("BIN", TOP + "/build/testmode/bin")
tap = Tap()
place = tempfile.mkdtemp(prefix="rexec.", dir="/var/tmp")
os.chmod(place, 0o755)
whitelist, run_dir = place + "/whitelist", place + "/run"


def write(text, mode=0o400, owner=0):
	if os.path.exists(whitelist):
		os.unlink(whitelist)
	if text is None:
		return
	with open(whitelist, "w", encoding="utf-8") as f:
		f.write(text)
	os.chown(whitelist, owner, 0)
	os.chmod(whitelist, mode)


class Server:
	def __init__(self, *options):
		self.log = open(place + "/log", "w+", encoding="utf-8")
		self.process = subprocess.Popen([BIN + "/rexec_server", "--runtime-dir", run_dir, "--whitelist", whitelist,
						 *(options or ["--test-mode=no"])], stderr=self.log)
		self.ready = wait_for(lambda: "ready in" in self.said() or self.process.poll() is not None) \
			and self.process.poll() is None

	def said(self):
		with open(self.log.name, encoding="utf-8") as f:
			return f.read()

	def __enter__(self):
		return self

	def __exit__(self, *_):
		self.process.terminate()
		self.process.wait()
		self.log.close()


def rexec(*argv, before=()):
	result = subprocess.run([*before, BIN + "/rexec", "--local", *argv], stdin=subprocess.DEVNULL,
				stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=20, check=False,
				env={**os.environ, "REXEC_RUNTIME_DIR": run_dir})
	return result.returncode, result.stdout.decode()


def gives(name, status, words, *argv, before=()):
	got, said = rexec(*argv, before=before)
	tap.result(name, got == status and words in said, f"status {got}, not {status}, or no '{words}' in: {said}")


def does_not_start(name, *words):
	with Server() as server:
		status = None if server.ready else server.process.wait(10)
		tap.result(f"a whitelist that is {name} is told, with the remedy: exit 2",
			   status == 2 and all(word in server.said() for word in (whitelist, *words)),
			   f"status {status}: {server.said()}")


def bad_files():
	write("/usr/bin/true\n", 0o644)
	does_not_start("of mode 0644", "chmod")
	write("/usr/bin/true\n", 0o460)
	does_not_start("writable by its group", "chmod")
	write("/usr/bin/true\n", 0o600)
	does_not_start("of mode 0600", "chmod")
	write("/usr/bin/true\n", 0o400, 1000)
	does_not_start("another user's", "own")
	write("bin/true\n")
	does_not_start("naming a relative path", ":1", "bin/true")
	write("\n# comment\n/usr/bin/true colour=red\n")
	does_not_start("using an unknown option", ":3", "colour")
	write("/usr/bin/true uid=no-such-user\n")
	does_not_start("naming a user that is not there", ":1", "no-such-user")
	write("/usr/bin/true\r\n")
	does_not_start("full of DOS line ends", "DOS line end")
	os.unlink(whitelist)
	os.mkdir(whitelist)
	does_not_start("a directory")
	os.rmdir(whitelist)
	os.symlink("/dev/null", whitelist)
	does_not_start("a link")
	os.unlink(whitelist)


def listed():
	write("# programs\n/usr/bin/true\nid   uid=0,1000\n/usr/bin/whoami user=nobody\n" + place + "/loose\n" +
	      place + "/missing\n")
	shutil.copy("/usr/bin/true", place + "/loose")
	os.chmod(place + "/loose", 0o777)
	with Server() as server:
		gives("a listed path is started", 0, "", "/usr/bin/true")
		gives("by its bare name, too", 0, "", "true")
		if os.path.islink("/bin"):
			gives("and by another way to the same place", 0, "", "/bin/true")
		gives("what is not listed gives 126", 126, "whitelist", "/usr/bin/env")
		gives("by its bare name, too", 126, "whitelist", "env")
		gives("a name that is nowhere gives 127", 127, "not found", "no-such-program")
		gives("a path that is not listed gives 126, there or not", 126, "whitelist", "/no/such/program")
		gives("a listed path that is not there gives 127", 127, "", place + "/missing")
		gives("a path that only begins like an entry gives 126", 126, "whitelist", "/usr/bin/true/../env")
		gives("a bare name as entry", 0, "uid=0", "id")
		for uid, status, words in ((1000, 0, "uid=1000"), (1001, 126, "uid 1001")):
			gives(f"uid=0,1000 and uid {uid}", status, words, "id",
			      before=["setpriv", f"--reuid={uid}", "--clear-groups"])
		gives("user=nobody refuses the caller's own", 126, "whitelist", "whoami")
		gives("and allows nobody", 0, "nobody", "--user", "nobody", "whoami")
		gives("a listed file that others may write gives 126", 126, "changed by others", place + "/loose")
		tap.result("every refusal is in the log, with who asked for what",
			   "uid 1001: id refused (126)" in server.said() and "uid 0: env refused (126)" in server.said(),
			   server.said())

		write("/usr/bin/env\n")
		server.process.send_signal(signal.SIGHUP)
		tap.result("SIGHUP reads the list again", wait_for(lambda: rexec("env")[0] == 0), server.said())
		gives("what is not in it any more is refused", 126, "whitelist", "true")
		write("/usr/bin/true\n", 0o666)
		server.process.send_signal(signal.SIGHUP)
		tap.result("a bad one is told", wait_for(lambda: "stays as it was" in server.said()), server.said())
		gives("and the old one stays", 0, "", "env")


def missing_and_empty():
	for options, text, name, status in (
		([], None, "no whitelist allows nothing", 126),
		(["--test-mode"], None, "no whitelist in test mode allows everything", 0),
		([], "", "an empty whitelist allows nothing", 126),
		(["--test-mode"], "# nothing\n", "in test mode, too", 126),
	):
		write(text)
		with Server(*options) as server:
			gives(name, status, "", "/usr/bin/true")
			if status == 0:
				tap.result("with a warning", "EVERY program" in server.said(), server.said())


def usage():
	for argv, words in ((["surplus"], "surplus"), (["--nonsense"], "nonsense"), (["--log-level", "x"], "--log-level x"),
			    (["--test-mode=x"], "--test-mode x")):
		result = subprocess.run([BIN + "/rexec_server", *argv], stderr=subprocess.PIPE, check=False, timeout=10)
		tap.result(f"rexec_server {' '.join(argv)} is bad usage: 2", result.returncode == 2 and
			   words in result.stderr.decode(), result)


def hostile_clients():
	write("/usr/bin/true\n")
	code = f"""
import socket, sys
s = socket.socket(1); s.connect({run_dir!r} + '/rexec.sock'); s.sendall(bytes.fromhex(sys.argv[1]))
s.shutdown(1); s.settimeout(5); sys.stdout.buffer.write(s.recv(1000))
"""
	with Server() as server:
		for name, words in (("nothing", ""), ("noise", "ff" * 100), ("a length of 4 GiB", "ffffffff01" + "00" * 20),
				    ("a length of 4 MiB and no more", "0040000001"), ("a wrong magic", "0000000801" + "41" * 8)):
			started = time.monotonic()
			subprocess.run([sys.executable, "-c", code, words], stdout=subprocess.PIPE, check=True, timeout=20)
			tap.result(f"a client that sends {name} is hung up on at once", time.monotonic() - started < 2)
		gives("the server serves on", 0, "", "true")
		tap.result("and lives", server.process.poll() is None)


def other_users_server():
	"""A server that is not root's serves its own user."""
	run = place + "/own-run"
	os.mkdir(run)
	os.chown(run, 1000, 1000)
	user = ["setpriv", "--reuid=1000", "--regid=1000", "--clear-groups"]
	server = subprocess.Popen([*user, BIN + "/rexec_server", "--test-mode", "--runtime-dir", run, "--whitelist",
				   place + "/none"], stderr=subprocess.DEVNULL)
	wait_for(lambda: os.path.exists(run + "/rexec.sock"))
	env = {**os.environ, "REXEC_RUNTIME_DIR": run}
	result = subprocess.run([*user, BIN + "/rexec", "--local", "id", "-u"], env=env, stdout=subprocess.PIPE, check=False)
	tap.result("a server of another user's serves that user", (result.returncode, result.stdout) == (0, b"1000\n"), result)
	result = subprocess.run([BIN + "/rexec", "--local", "id", "-u"], env=env, stderr=subprocess.PIPE, check=False)
	tap.result("and nobody else", result.returncode == 126 and b"uid 1000" in result.stderr, result)
	server.terminate()
	server.wait()


def main():
	if os.geteuid():
		print("1..0 # SKIP needs root: the whitelist is root's")
		return
	try:
		bad_files()
		listed()
		missing_and_empty()
		usage()
		hostile_clients()
		other_users_server()
	finally:
		shutil.rmtree(place)
	tap.done()


main()
