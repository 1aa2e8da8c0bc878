# SPDX-License-Identifier: Apache-2.0
"""rexec and rexec_server in a place: on one machine, or with two udsproxyd between them.

	with Here() as place:
		rig = Rig(place, ["--local"])
		rig.start_server()
		rig.run("cat", stdin=b"hello").stdout

A place has two sides: the client's, where rexec is started, and the server's, where the program runs.
place.own is a directory at the same path on both, which on two machines are two; place.share is one
directory of both. here() and there() say by which path the test sees a path of either side.
"""

import contextlib
import os
import signal
import subprocess
import tempfile

from keepers import end_keepers
from proxyends import open_files
from proxypair import BIN, TOP, wait_for  # noqa: F401: tests take TOP from here

PYTHON = "/usr/bin/python3"


def python(code, *args):
	"""The command that runs this code."""
	return [PYTHON, "-c", code, *args]


def state(pid):
	"""As ps(1) has it; "" when it is gone."""
	try:
		with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as f:
			return f.read().rsplit(")", 1)[1].split()[0]
	except OSError:
		return ""


def alive(pid):
	"""Is it there, and not a zombie?"""
	return state(pid) not in ("", "Z", "X")


def parent(pid):
	"""The keeper, of a program that rexec_server started."""
	with open(f"/proc/{pid}/status", encoding="ascii") as f:
		return int(next(line for line in f if line.startswith("PPid")).split()[1])


class Here:
	"""Both sides on this machine."""

	pair = None

	def __enter__(self):
		self.own = tempfile.mkdtemp(prefix="rexec.", dir="/var/tmp")
		os.chmod(self.own, 0o755)
		self.share = self.own + "/share"
		os.mkdir(self.share)
		return self

	@staticmethod
	def client(argv, **options):
		return subprocess.Popen(argv, **options)

	server = client

	@staticmethod
	def here(path):
		return path

	there = here

	def __exit__(self, *_):
		subprocess.run(["rm", "-rf", self.own], check=True)


class Across:
	"""The client on one side of a Pair and the server on the other."""

	def __init__(self, pair, client, server):
		self.pair, self.own, self.share = pair, pair.own, pair.share
		self.client, self.server = client.popen, server.popen
		self.here, self.there = client.outside, server.outside


class Rig:
	"""The server, and ways to run rexec. Without a server of its own (@options None) what is to be run is
	run as it is, by fork and exec: what rexec is compared with."""

	def __init__(self, place, options, name=""):
		self.place, self.options, self.name = place, options, name
		self.plain = self.local = options is None
		self.proxied = place.pair is not None
		self.run_dir = place.own + "/rexec"
		self.log = place.here(place.own + "/server.log")
		self.server = None
		self.started = []

	# ---- the server ----

	def start_server(self, *options):
		with open(self.log, "ab") as log:
			self.server = self.place.server(
				[BIN + "/rexec_server", "--runtime-dir", self.run_dir, "--whitelist", self.place.own + "/none",
				 "--test-mode", *options], stdin=subprocess.DEVNULL, stdout=log, stderr=log)
		assert wait_for(lambda: os.path.exists(self.place.there(self.run_dir + "/rexec.sock")))
		assert wait_for(lambda: self.run("true").returncode == 0)

	def stop_server(self):
		"""Its exit status."""
		self.server.terminate()
		return self.server.wait(10)

	def end(self):
		"""Ends the server, if need be, and every keeper."""
		self.end_started()
		if self.server and self.server.poll() is None:
			self.stop_server()
		if not self.plain:
			end_keepers(self.run_dir)

	def sessions(self):
		if self.plain:
			return []
		return [name for name in os.listdir(self.place.there(self.run_dir + "/sessions")) if "." not in name]

	def said(self):
		"""What the server and its keepers have said."""
		if self.plain:
			return ""
		with open(self.log, encoding="utf-8", errors="replace") as log:
			return log.read()

	def descriptors(self):
		"""How many rexec_server has."""
		return 0 if self.plain else len(os.listdir(f"/proc/{self.server.pid}/fd"))

	# ---- running programs ----

	def prefix(self, rexec=()):
		"""What stands before a program's name."""
		return [] if self.plain else [BIN + "/rexec", *self.options, *rexec]

	def start(self, argv, env=None, **options):
		"""Any program on the client's side."""
		env = {**os.environ, "REXEC_RUNTIME_DIR": self.run_dir, **(env or {})}
		process = self.place.client(argv, env=env, **options)
		self.started.append(process)
		return process

	def popen(self, *argv, rexec=(), before=(), **options):
		"""rexec with its options and a program; before: a command that executes rexec."""
		return self.start([*before, *self.prefix(rexec), *argv], **options)

	def status(self, process, seconds=60):
		"""Its exit status, as a shell has it: so also that of a plain program which a signal ended."""
		status = process.wait(seconds)
		return 128 - status if self.plain and status < 0 else status

	def finish(self, process, stdin=None, seconds=60):
		"""Like subprocess.run: with .returncode, .stdout and .stderr."""
		try:
			out, err = process.communicate(stdin, seconds)
		except subprocess.TimeoutExpired:
			process.kill()
			out, err = process.communicate()
			err = (err or b"") + b"\n(timeout)"
		return subprocess.CompletedProcess(process.args, self.status(process), out, err)

	def run(self, *argv, stdin=b"", seconds=60, **options):
		"""As popen(), to its end; stdin: bytes, or as of popen()."""
		options = {"stdin": subprocess.PIPE if isinstance(stdin, bytes) else stdin,
			   "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
		return self.finish(self.popen(*argv, **options), stdin if isinstance(stdin, bytes) else None, seconds)

	def shell(self, script, *args, seconds=60, **options):
		"""A script of the client's side, in which $R before a command has it run by rexec."""
		options = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
		env = {"R": " ".join(self.prefix())}
		return self.finish(self.start(["sh", "-c", script, "sh", *args], env=env, **options), None, seconds)

	def end_started(self):
		"""Ends what was started since the last time."""
		for process in self.started:
			if process.poll() is None:
				process.kill()
			process.wait()
			for stream in process.stdin, process.stdout, process.stderr:
				if stream:
					with contextlib.suppress(BrokenPipeError):
						stream.close()
		self.started = []


class Watch:
	"""What a rig may not have more of after programs have run in it than before."""

	def __init__(self, rig):
		self.rig = rig
		self.sides = [side for side in (rig.place.pair.sides if rig.proxied else [])]
		self.files = [open_files(side) for side in self.sides]
		self.descriptors, self.said = rig.descriptors(), len(rig.said())

	def wrong(self):
		"""What there is to object to."""
		found, rig = [], self.rig
		if not wait_for(lambda: not rig.sessions(), 20):
			found.append(f"sessions left behind: {rig.sessions()}")
		if not rig.plain and rig.server.poll() is not None:
			found.append(f"rexec_server ended with {rig.server.returncode}")
		elif not wait_for(lambda: rig.descriptors() <= self.descriptors):
			found.append(f"rexec_server has {rig.descriptors()} descriptors, before {self.descriptors}")
		for side, before in zip(self.sides, self.files):
			if side.daemon.poll() is not None:
				found.append(f"udsproxyd on {side.name} ended with {side.daemon.returncode}")
			elif not wait_for(lambda side=side, n=before.total(): open_files(side).total() <= n, 20):
				found.append(f"udsproxyd on {side.name} has more open: {dict(open_files(side) - before)}")
		if "Sanitizer" in self.log():
			found.append("a sanitizer had something to say")
		return "".join(line + "\n" for line in found)

	def log(self):
		return self.rig.said()[self.said:]


@contextlib.contextmanager
def rigs(pairs):
	"""A rig for each column of the matrix: local fork and exec, rexec --local, and through these pairs of
	daemons, from the DPU (d) to the HOST (h) and back."""
	with contextlib.ExitStack() as stack:
		found = [Rig(stack.enter_context(Here()), None, "local"),
			 Rig(stack.enter_context(Here()), ["--local"], "--local")]
		for client, server in ("d", "h"), ("h", "d"):
			for pair in pairs:
				place = Across(pair, getattr(pair, client), getattr(pair, server))
				found.append(Rig(place, [], f"{client.upper()}->{server.upper()} {pair.threads}"))
		for rig in found:
			stack.callback(rig.end)
			if not rig.plain:
				rig.start_server()
		yield found
