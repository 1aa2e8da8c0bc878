# SPDX-License-Identifier: Apache-2.0
"""What bench-rexec compares: each starts a program on side h for a process on side d.

A starter is a command that a program is put behind, and what has to run for it on either side: `near`
and `far`, as for a relay. All use the pair's one veth; each is given what makes it fast, and ssh and
dropbear a login shell that starts fast: /bin/sh.
"""

import os
import shutil
import subprocess

from processes import tree
from proxypair import BIN, wait_for
import relays

PROGRAMS_MAX = 1000
ENOUGH = PROGRAMS_MAX + 100
TRUE, ECHO, SLEEP = "/usr/bin/true", "/usr/bin/echo", "/usr/bin/sleep"


def launch():
	return os.environ["BENCH"] + "/launch"


class Starter(relays.Relay):
	"""What all have in common."""

	warm = ["warm", "--", TRUE]
	# how many it starts at once, and holds
	at_once_max, programs_max, few = PROGRAMS_MAX, PROGRAMS_MAX, None
	slow = False

	def command(self):
		"""What stands before the program."""
		raise NotImplementedError

	def client(self, *args):
		"""tests/bench/launch.c, with the program that is behind "--" started by this."""
		at = args.index("--") + 1
		return [launch(), *args[:at], *self.command(), *args[at:]]


class Local(Starter):
	"""fork and exec, on one side."""

	name, label = "local", "local fork+exec"

	def command(self):
		return []

	def start(self):
		pass

	def stop(self):
		pass


class Rexec(Starter, relays.Ours1):
	"""rexec, two udsproxyd of one thread, rexec_server."""

	label = "rexec"

	def __init__(self, pair, server):
		super().__init__(pair, server)
		self.place = f"{pair.own}/rexec"
		self.whitelist = f"{pair.place}/whitelist"
		self.env["REXEC_RUNTIME_DIR"] = self.place
		self.keepers = []

	def command(self):
		return [BIN + "/rexec"]

	def start(self):
		if not os.path.exists(self.whitelist):
			with open(self.whitelist, "w", encoding="utf-8") as f:
				f.write("".join(f"{path}\n" for path in (TRUE, ECHO, SLEEP, os.path.realpath(launch()))))
			os.chmod(self.whitelist, 0o400)
		super().start()
		self.far.append(self.popen(self.pair.h, [BIN + "/rexec_server", "--test-mode", "--runtime-dir", self.place,
							 "--whitelist", self.whitelist, "--log-level", "warning"]))

	def stop(self):
		"""Its keepers end with their programs, and these when rexec is gone."""
		server = self.far[-1]
		wait_for(lambda: len(tree(server.pid)) == 1)
		left = tree(server.pid)[1:]
		super().stop()
		if left:
			raise OSError(f"{len(left)} keepers and programs stay")


class RootHere(relays.Sshd):
	"""Whose root, on the far side, has another home and a fast shell."""

	def passwd(self):
		"""A shell command that sees to it, for the mount namespace of a server."""
		path = f"{self.pair.place}/{self.name}.passwd"
		if not os.path.exists(path):
			with open("/etc/passwd", encoding="utf-8") as f:
				others = [line for line in f if not line.startswith("root:")]
			with open(path, "w", encoding="utf-8") as f:
				f.writelines([f"root:x:0:0:root:{self.pair.place}/{self.name}.d:/bin/sh\n", *others])
		return f"mount --bind {path} /etc/passwd && "


class Ssh(Starter, RootHere):
	"""Over a ControlMaster, whose connection stands already. Its cipher is what ssh and sshd agree on when nobody says
	another: chacha20-poly1305."""

	name, label = "ssh", "ssh, warm"
	settings = f"a ControlMaster that stands, MaxSessions {ENOUGH}, its own choice of cipher, login shell /bin/sh, no PAM"
	cipher = None
	config = f"MaxSessions {ENOUGH}\n"

	def start(self):
		self.start_server(self.passwd())
		self.connect(self.ssh("-N", "-M", "-S", self.path), self.path)

	def command(self):
		return self.ssh("-S", self.path, "-o", "ControlMaster=no")


class SshGcm(Ssh):
	"""The same with the cipher that is fastest here, which matters for streams only."""

	name, label = "ssh-gcm", "ssh, AES-GCM"
	settings = f"as ssh, warm, but {RootHere.cipher}"
	cipher = RootHere.cipher
	at_once_max = programs_max = 0


class ColdSsh(Starter, RootHere):
	"""A connection for each program."""

	name, label = "cold-ssh", "ssh, cold"
	settings = f"a connection for each program, {RootHere.cipher}, MaxStartups {ENOUGH}, the rest as ssh, warm"
	slow = True
	programs_max, few = 100, "each takes a connection and several MiB"
	config = f"MaxStartups {ENOUGH}\n"

	def start(self):
		self.start_server(self.passwd())

	def command(self):
		return self.ssh("-o", "ControlPath=none")


class Dropbear(Starter, RootHere):
	"""A connection for each program."""

	name = label = "dropbear"
	settings = "a connection for each program, as many at once as it lets in from one address; login shell /bin/sh"
	slow = True
	at_once_max, programs_max = 4, 100
	few = "it lets in five that have not logged in yet, from one address"

	def missing(self):
		there = all(map(shutil.which, ("dropbear", "dropbearkey", "dbclient")))
		return None if there else "not installed"

	def start(self):
		self.place = f"{self.pair.place}/{self.name}.d"
		if not os.path.exists(self.place):
			os.makedirs(self.place + "/.ssh", 0o700)
			for key in "host", "user":
				said = subprocess.run(["dropbearkey", "-t", "ed25519", "-f", f"{self.place}/{key}"],
						      stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=True)
			with open(self.place + "/.ssh/authorized_keys", "w", encoding="ascii") as f:
				f.writelines(line + "\n" for line in said.stdout.splitlines() if line.startswith("ssh-"))
		self.far = [self.popen(self.pair.h, relays.CONTAINED + [
			"sh", "-c", f"{self.passwd()}exec dropbear -F -E -s -r {self.place}/host -p {self.endpoint} "
			f"-P {self.place}/pid"])]

	def command(self):
		return ["dbclient", "-y", "-y", "-i", self.place + "/user", "-p", str(self.port), "root@" + self.pair.h.address]


ALL = [Local, Rexec, Ssh, SshGcm, ColdSsh, Dropbear, relays.Bare]
