# SPDX-License-Identifier: Apache-2.0
"""Who plays scenarios: a process on each side that forks a child for each part.

Starting Python within namespaces takes longer than most scenarios do, so it is done once. With the
shim, it is preloaded into the player as into any program.

	player = Player(side, shim=True)
	client = player.play("client", "half-close-keeps-data", directory, share)
	client.wait(10)

Run as a program it is the player.
"""

import contextlib
import ctypes
import json
import os
import resource
import select
import signal
import socket
import subprocess
import sys
import traceback

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from scenarios import SCENARIOS  # noqa: E402
from scenarios.scenario import PATIENCE  # noqa: E402

PR_SET_PDEATHSIG = 1


class Part:
	"""A child of a player: like a subprocess.Popen with pipes; what it says on stderr is kept."""

	def __init__(self, player, pid, stdin, stdout, said):
		self.player, self.pid, self.stdin, self.stdout, self.said = player, pid, stdin, stdout, said
		self.returncode = None
		self.lines = b""

	def line(self, seconds):
		"""The next line that it prints: "" at its end, None when it has not come in time."""
		while b"\n" not in self.lines:
			if not select.select([self.stdout], [], [], seconds)[0]:
				return None
			more = os.read(self.stdout, 1000)
			if not more:
				return ""
			self.lines += more
		line, self.lines = self.lines.split(b"\n", 1)
		return line.decode()

	def go_on(self):
		os.write(self.stdin, b"\n")

	def finish(self, seconds):
		"""Close its stdin and wait for its end: the status, as subprocess has it; None after so many seconds."""
		if self.stdin is not None:
			os.close(self.stdin)
			self.stdin = None
		if self.returncode is None:
			self.returncode = self.player.wait(self.pid, seconds)
		return self.returncode

	def kill(self):
		if self.returncode is None:
			with contextlib.suppress(ProcessLookupError):	# it has ended meanwhile, as finish() will hear
				os.kill(self.pid, signal.SIGKILL)
			self.finish(10)

	def close(self):
		"""What it has said."""
		self.kill()
		os.close(self.stdout)
		with os.fdopen(self.said, "rb") as f:
			f.seek(0)
			return f.read().decode(errors="replace")


class Player:
	"""The process, for one who wants parts played."""

	def __init__(self, side, shim):
		self.sock, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
		self.ended = {}
		with theirs:
			side.popen([sys.executable, os.path.abspath(__file__), str(theirs.fileno())], shim=shim,
				   pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL)

	def play(self, role, name, directory, share):
		r, stdin = os.pipe()
		stdout, w = os.pipe()
		said = os.memfd_create("said")
		socket.send_fds(self.sock, [json.dumps([role, name, directory, share]).encode()], [r, w, said])
		os.close(r)
		os.close(w)
		while "pid" not in self.ended:
			self.hear(10)
		return Part(self, self.ended.pop("pid"), stdin, stdout, said)

	def hear(self, seconds):
		if not select.select([self.sock], [], [], seconds)[0]:
			return False
		what, value = json.loads(self.sock.recv(1000) or '["lost", 0]')
		if what == "lost":
			raise RuntimeError("a player has died")
		self.ended[what if what == "pid" else int(what)] = value
		return True

	def wait(self, pid, seconds):
		while pid not in self.ended and self.hear(seconds):
			pass
		return self.ended.pop(pid, None)


# ---- the player itself --------------------------------------------------------------------------


def act(role, name, directory, share):
	"""Be the server or the client of a scenario."""
	scenario = next(s for s in SCENARIOS if s.name == name)(directory, share)
	signal.alarm(scenario.limit * PATIENCE)
	if role == "server":
		listener = scenario.listen()
		print("listening", flush=True)
		if listener:
			scenario.server(listener)
		sys.stdin.read()
		return
	if scenario.groups is not None:
		os.setgroups(scenario.groups)
	os.setresgid(scenario.uid, scenario.uid, scenario.uid)
	os.setresuid(scenario.uid, scenario.uid, scenario.uid)
	ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)	# which a new uid had undone
	scenario.client()


def be_child(request, fds):
	status = 1
	try:
		ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
		for fd, to in zip(fds, (0, 1, 2)):
			os.dup2(fd, to)
			os.close(fd)
		act(*json.loads(request))
		status = 0
	except BaseException:
		traceback.print_exc()
	finally:
		sys.stdout.flush()
		os._exit(status)


def main():
	sock = socket.socket(fileno=int(sys.argv[1]))
	hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
	resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
	children = {}
	while True:
		for fd in select.select([sock, *children], [], [])[0]:
			if fd is not sock:
				pid = children.pop(fd)
				os.close(fd)
				status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
				sock.send(json.dumps([str(pid), status]).encode())
				continue
			request, fds, _, _ = socket.recv_fds(sock, 10000, 3)
			if not request:
				return
			pid = os.fork()
			if pid == 0:
				sock.close()
				for pidfd in children:
					os.close(pidfd)
				be_child(request, fds)
			for got in fds:
				os.close(got)
			children[os.pidfd_open(pid)] = pid
			sock.send(json.dumps(["pid", pid]).encode())


if __name__ == "__main__":
	main()
