# SPDX-License-Identifier: Apache-2.0
"""What the bench compares: each carries connections from side d to the server's socket on side h.

A relay is started with both its halves; `near` and `far` are the processes on d and on h whose CPU
time, with that of their children, and whose memory count. All use the pair's one veth. Each is
given what makes it fast: buffers, limits and ciphers of its own default, unless said here.
"""

import contextlib
import os
import resource
import shutil
import signal
import subprocess
import sys
import time

from processes import children
from proxypair import BIN, wait_for

LONGEST_CONNECTION = "1h"
CONNECTIONS_MAX = 20000
SOCKET_PROXYD = "/lib/systemd/systemd-socket-proxyd"

# systemd gives a service its listening sockets as descriptors from 3 on.
LISTEN = """
import os, socket, sys
address, port = sys.argv[1:3]
s = socket.socket(socket.AF_INET if port else socket.AF_UNIX)
if port:
	s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
s.bind((address, int(port)) if port else address)
s.listen(4096)
os.dup2(s.fileno(), 3)
os.set_inheritable(3, True)
os.environ.update(LISTEN_FDS="1", LISTEN_PID=str(os.getpid()))
os.execv(sys.argv[3], sys.argv[3:])
"""

# What forks is alone with its children in a pid namespace, and they end with it.
CONTAINED = ["unshare", "--pid", "--fork", "--kill-child", "--mount", "--mount-proc"]


class Relay:
	"""What all have in common."""

	number = 0
	settings = None  # what it was given that the table should say
	warm = ["warm"]  # a measuring client's arguments that wait until it works
	passes_pipes = False
	shim = False
	beside = "ours"  # which of ours it is compared with: the one that has as many threads
	# that each half has open for a connection, and besides
	descriptors, spare = 2, 600
	connections_max = CONNECTIONS_MAX

	def __init__(self, pair, server):
		Relay.number += 1
		self.pair, self.server = pair, server
		self.path = f"{pair.own}/{self.name}"
		self.port = 7000 + Relay.number
		self.env = {}
		self.near, self.far = [], []

	@property
	def capacity(self):
		"""How many connections it can hold at once."""
		limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
		return min(self.connections_max, (limit - self.spare) // self.descriptors)

	@property
	def endpoint(self):
		"""Where the far half listens."""
		return f"{self.pair.h.address}:{self.port}"

	def missing(self):
		"""Why it cannot be measured here, or None."""
		return None

	def client(self, *args):
		"""The command of a measuring client with these arguments."""
		return [os.environ["BENCH"] + "/measure", self.path, *args]

	def argvs(self):
		"""The far half's and the near half's command."""
		raise NotImplementedError

	def start(self):
		far, near = self.argvs()
		self.far = [self.popen(self.pair.h, far)]
		self.near = [self.popen(self.pair.d, near)]

	def popen(self, side, argv):
		with open(self.logfile(side), "a", encoding="utf-8") as log:
			return side.popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

	def logfile(self, side):
		return f"{self.pair.place}/{self.name}.{side.name}.log"

	def stop(self):
		"""End it."""
		self.kill()
		for side in self.pair.sides:
			with contextlib.suppress(FileNotFoundError):
				os.unlink(side.outside(self.path))

	def kill(self):
		"""unshare(1) ends after all that it contains when the first of them is killed."""
		for process in self.near + self.far:
			with contextlib.suppress(ProcessLookupError):
				for pid in children(process.pid) or [process.pid]:
					os.kill(pid, signal.SIGKILL)
			process.wait()
		self.near, self.far = [], []

	def said(self):
		"""The end of what it has said."""
		lines = []
		for side in self.pair.sides:
			if os.path.exists(self.logfile(side)):
				with open(self.logfile(side), encoding="utf-8", errors="replace") as f:
					lines += [f"{side.name}: {line}" for line in f.read().splitlines()[-8:]]
		return "\n".join(lines)


class Direct(Relay):
	"""No relay: client and server on one side."""

	name = label = "direct"
	passes_pipes = True

	def __init__(self, pair, server):
		super().__init__(pair, server)
		self.path = server + "-direct"

	def start(self):
		pass

	def stop(self):
		pass


class Bare(Relay):
	"""tests/bench/bare_relay.c: splice, and nothing else."""

	name, label = "bare", "bare relay"

	def argvs(self):
		program = os.environ["BENCH"] + "/bare-relay"
		return [program, self.endpoint, self.server], [program, self.path, self.endpoint]


class Ours(Relay):
	"""Two udsproxyd; the client has the shim."""

	passes_pipes = shim = True

	def __init__(self, pair, server):
		super().__init__(pair, server)
		self.runtime = self.path
		self.path = server
		self.env = {"UDSPROXYD_RUNTIME_DIR": self.runtime}

	def start(self):
		for side in self.pair.sides:
			os.makedirs(side.outside(self.runtime), exist_ok=True)
		self.far, self.near = ([self.popen(side, self.argv(side))] for side in self.pair.sides)

	def argv(self, side):
		return [BIN + "/udsproxyd", "--test-mode", "--runtime-dir", self.runtime, "--config-dir",
			side.config, str(self.threads), side.address, str(self.port),
			self.pair.other(side).address, str(self.port)]

	def stop(self):
		ended = self.near + self.far
		for process in ended:
			process.terminate()
		with contextlib.suppress(subprocess.TimeoutExpired):
			for process in ended:
				process.wait(10)
		self.kill()
		if any(process.returncode for process in ended):
			raise OSError("udsproxyd ended with " + ", ".join(str(process.returncode) for process in ended))


class Ours1(Ours):
	"""One thread."""

	name, label, threads = "ours", "ours", 1


class Ours2(Ours):
	"""Two threads."""

	name, label, threads = "ours2", "ours, 2 threads", 2


class Socat(Relay):
	"""A process for each connection, on both sides."""

	name = label = "socat"
	connections_max, few = 1000, "that would be 20,000 processes"

	def missing(self):
		return None if shutil.which("socat") else "not installed"

	def argvs(self):
		return (CONTAINED + ["socat", f"TCP-LISTEN:{self.port},bind={self.pair.h.address},fork,reuseaddr,"
				     "nodelay,backlog=4096", f"UNIX-CONNECT:{self.server}"],
			CONTAINED + ["socat", f"UNIX-LISTEN:{self.path},fork,backlog=4096",
				     f"TCP:{self.endpoint},nodelay"])


class Sshd(Relay):
	"""An sshd on the far side; what its clients have in common. The fastest of its usual ciphers, or None: what both agree on."""

	sshd = "/usr/sbin/sshd"
	config = ""
	cipher = "aes128-gcm@openssh.com"

	def missing(self):
		there = shutil.which("ssh") and shutil.which("ssh-keygen") and os.path.exists(self.sshd)
		return None if there else "not installed"

	def start_server(self, before=""):
		"""@before: a shell command that runs in its mount namespace before it."""
		self.place = f"{self.pair.place}/{self.name}.d"
		if not os.path.exists(self.place):
			os.mkdir(self.place, 0o700)
			for key in "host", "user":
				subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f",
						f"{self.place}/{key}"], check=True)
			with open(self.place + "/sshd_config", "w", encoding="ascii") as f:
				f.write(f"ListenAddress {self.endpoint}\nHostKey {self.place}/host\n"
					f"AuthorizedKeysFile {self.place}/user.pub\nStrictModes no\nUsePAM no\n"
					"PermitRootLogin prohibit-password\nPidFile none\nUseDNS no\n" + self.config)
		# sshd wants an empty /run/sshd, and gets a /run of its own for that
		self.far = [self.popen(self.pair.h, CONTAINED + [
			"sh", "-c", f"mount -t tmpfs run /run && mkdir -m 755 /run/sshd && {before}"
			f"exec {self.sshd} -D -e -f {self.place}/sshd_config"])]

	def ssh(self, *options):
		return ["ssh", "-F", "/dev/null", "-i", self.place + "/user", "-p", str(self.port),
			*(["-c", self.cipher] if self.cipher else []), "-o", "BatchMode=yes", "-o", "LogLevel=ERROR",
			"-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null",
			*options, "root@" + self.pair.h.address]

	def connect(self, argv, socket):
		"""Start the near half, which is to make a socket; it gives up when sshd does not listen yet."""

		def connected():
			if not self.near or self.near[0].poll() is not None:
				self.near = [self.popen(self.pair.d, argv)]
				time.sleep(0.05)
			return os.path.exists(self.pair.d.outside(socket))

		wait_for(connected)


class Ssh(Sshd):
	"""ssh -L, whose connection stands already."""

	name, label = "ssh", "ssh -L"
	connections_max, few = 1000, "its time for one grows with their number, and 2,000 take 16 s"
	config = "AllowStreamLocalForwarding yes\nStreamLocalBindUnlink yes\n"

	def start(self):
		self.start_server()
		self.connect(self.ssh("-N", "-o", "ExitOnForwardFailure=yes", "-L", f"{self.path}:{self.server}"), self.path)


class Haproxy(Relay):
	"""mode tcp, with splicing."""

	name, label = "haproxy", "haproxy, 2 threads"
	beside = "ours2"
	pipes = 500
	spare = 600 + 2 * pipes

	def missing(self):
		return None if shutil.which("haproxy") else "not installed"

	def argvs(self):
		return self.configured("far", self.endpoint, "unix@" + self.server), \
			self.configured("near", "unix@" + self.path, self.endpoint)

	def configured(self, half, bind, server):
		config = f"{self.pair.place}/haproxy.{half}"
		with open(config, "w", encoding="ascii") as f:
			f.write(f"global\n\tnbthread 2\n\tmaxconn {self.capacity}\n\tmaxpipes {self.pipes}\n"
				f"defaults\n\tmode tcp\n\tmaxconn {self.capacity}\n\ttimeout connect 10s\n"
				f"\ttimeout client {LONGEST_CONNECTION}\n\ttimeout server {LONGEST_CONNECTION}\n"
				f"\toption splice-auto\n"
				f"listen relay\n\tbind {bind} backlog 4096\n\tserver far {server}\n")
		return ["haproxy", "-db", "-q", "-f", config]


class SocketProxyd(Relay):
	"""systemd-socket-proxyd on both sides."""

	name = label = "socket-proxyd"
	descriptors = 6

	def missing(self):
		return None if os.path.exists(SOCKET_PROXYD) else "not installed"

	def argvs(self):
		tail = [SOCKET_PROXYD, f"--connections-max={CONNECTIONS_MAX}"]
		listen = [sys.executable, "-c", LISTEN]
		return listen + [self.pair.h.address, str(self.port), *tail, self.server], \
			listen + [self.path, "", *tail, self.endpoint]


ALL = [Direct, Bare, Ours1, Ours2, Socat, Ssh, Haproxy, SocketProxyd]
