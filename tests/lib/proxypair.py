#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Two machines in small: namespaces "h" and "d" joined by a veth, a real udsproxyd in each.

	with Pair(threads=2) as pair:
		server = pair.h.popen(["program"])
		client = pair.d.popen(["program"], shim=True)

Each side has a network and a mount namespace, and a tmpfs of its own at the same path,
pair.own: a socket there is far for the other side. pair.share is one directory for both, and
configured as a share. Leaving the block ends everything that was started in it, and raises
when a daemon had died or does not end with 0. Needs root.

Run as a program it makes a pair, says how to enter it, and waits for the end of its stdin.
The programs that are tested: BIN and LIB in the environment (directories). UDSPROXYD_UNDER there is a command
that the daemons run under, say "valgrind -q --error-exitcode=99", which may take its time.
"""

import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BIN = os.environ.get("BIN", TOP + "/build/testmode/bin")
LIB = os.environ.get("LIB", TOP + "/build/testmode/lib")
UNDER = shlex.split(os.environ.get("UDSPROXYD_UNDER", ""))
LIMIT = 60 if UNDER else 10  # seconds for a daemon's start or end
PORT = "12121"

# Is the peer there? Here the name is refused, and so it is while the peer is not there: only the
# peer itself has another answer.
PROBE = """
import errno, socket, sys, time
end = time.monotonic() + int(sys.argv[2])
s = socket.socket(socket.AF_UNIX)
while s.connect_ex(sys.argv[1]) == errno.ECONNREFUSED:
	if time.monotonic() > end:
		sys.exit("no link after " + sys.argv[2] + " s")
	time.sleep(0.02)
"""


def wait_for(condition, seconds=10):
	"""Call condition until it is true; its value, or the last false one after so many seconds."""
	end = time.monotonic() + seconds
	while not (value := condition()) and time.monotonic() < end:
		time.sleep(0.01)
	return value


class Side:
	"""One of the two machines."""

	def __init__(self, name, address, place):
		self.name, self.address, self.place = name, address, place
		self.own, self.share = place + "/own", place + "/share"
		self.runtime, self.config = self.own + "/run", self.own + "/etc"
		self.logfile = f"{place}/{name}.log"
		self.daemon = None
		self.started = []
		# It ends when its stdin does: also when we are killed.
		self.holder = subprocess.Popen(
			["unshare", "--mount", "--net", "sh", "-c",
			 f"mount -t tmpfs -o mode=755 own {self.own} && mkdir {self.runtime} {self.config}"
			 " && ip link set lo up && echo made && exec cat"],
			stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
		if self.holder.stdout.readline() != "made\n":
			raise RuntimeError(f"no namespaces for side {name}: this needs root")
		self.enter = ["setpriv", "--pdeathsig", "KILL",
			      "nsenter", "-m", "-n", "-t", str(self.holder.pid), "--"]

	def outside(self, path):
		"""The path by which the caller's namespace sees a path of this side."""
		return f"/proc/{self.holder.pid}/root{path}"

	def popen(self, argv, shim=False, env=None, **options):
		"""A subprocess.Popen on this side; with shim, its connect(2) reaches the other."""
		env = {**os.environ, **(env or {}), "UDSPROXYD_RUNTIME_DIR": self.runtime}
		if shim:
			env["LD_PRELOAD"] = LIB + "/libudsproxy.so"
		process = subprocess.Popen(self.enter + argv, env=env, **options)
		self.started.append(process)
		return process

	def run(self, argv, **options):
		"""Like popen, waiting for the end; raises when its status is not 0."""
		process = self.popen(argv, **options)
		if process.wait() != 0:
			raise RuntimeError(f"on {self.name}: {argv}: status {process.returncode}")

	def allow(self, udsconnect=None, udsaccept=None):
		"""Write the lists, for daemons started later; None: no list, which allows everything."""
		for name, paths in (("udsconnect", udsconnect), ("udsaccept", udsaccept)):
			path = self.outside(f"{self.config}/{name}")
			if paths is not None:
				with open(path, "w", encoding="utf-8") as f:
					f.write("".join(line + "\n" for line in paths))
			elif os.path.exists(path):
				os.unlink(path)

	def start_daemon(self, peer, threads=1, options=()):
		self.threads = threads
		with open(self.logfile, "a", encoding="utf-8") as log:
			self.daemon = self.popen(
				[*UNDER, BIN + "/udsproxyd", "--test-mode", "--runtime-dir", self.runtime,
				 "--config-dir", self.config, f"--share={self.share}={self.share}", *options,
				 str(threads), self.address, PORT, peer.address, PORT],
				stdin=subprocess.DEVNULL, stdout=log, stderr=log)

	def stop_daemon(self):
		"""End it as an operator does; its exit status (None: there was none)."""
		daemon, self.daemon = self.daemon, None
		if not daemon:
			return None
		daemon.terminate()
		try:
			return daemon.wait(LIMIT)
		except subprocess.TimeoutExpired:
			daemon.kill()
			return daemon.wait()

	def wait_linked(self):
		"""Until the peer answers."""
		probe = self.own + "/probe"
		self.run(["/usr/bin/python3", "-c", "import socket, sys; socket.socket(1).bind(sys.argv[1])",
			  probe])
		self.run(["/usr/bin/python3", "-c", PROBE, probe, str(LIMIT)], shim=True, env={"UDSPROXY_QUIET": "1"})
		os.unlink(self.outside(probe))

	def log(self):
		"""What the daemon has said."""
		with open(self.logfile, encoding="utf-8", errors="replace") as f:
			return f.read()

	def end(self):
		"""End all that was started here; the daemon's exit status as stop_daemon."""
		status = self.stop_daemon()
		for process in self.started:
			if process.poll() is None:
				process.kill()
			process.wait()
		self.holder.stdin.close()
		self.holder.wait()
		self.holder.stdout.close()
		return status


class Pair:
	"""Both sides; see the head of this file."""

	def __init__(self, threads=1, daemons=True, options=()):
		self.threads, self.daemons, self.options = threads, daemons, options
		self.sides = []

	def __enter__(self):
		for needed in BIN + "/udsproxyd", LIB + "/libudsproxy.so":
			if not os.path.exists(needed):
				raise FileNotFoundError(f"{needed}: make it first, or set BIN and LIB")
		# An end by timeout(1), too, is one that cleans up.
		signal.signal(signal.SIGTERM, signal.default_int_handler)
		# /var/tmp: short enough for socket names, and never a tmpfs with limits of its own
		self.place = tempfile.mkdtemp(prefix="pair.", dir="/var/tmp")
		self.own, self.share = self.place + "/own", self.place + "/share"
		try:
			self.make()
		except BaseException:
			self.__exit__(*sys.exc_info())
			raise
		return self

	def make(self):
		os.chmod(self.place, 0o755)
		os.mkdir(self.own)
		os.mkdir(self.share)
		for name, address in ("h", "10.214.0.1"), ("d", "10.214.0.2"):
			self.sides.append(Side(name, address, self.place))
		self.h, self.d = self.sides
		self.h.run(["ip", "link", "add", "veth", "type", "veth", "peer", "name", "veth",
			    "netns", str(self.d.holder.pid)])
		for side in self.sides:
			side.run(["ip", "addr", "add", side.address + "/24", "dev", "veth"])
			side.run(["ip", "link", "set", "veth", "up"])
		if self.daemons:
			self.start_daemons()

	def other(self, side):
		return self.d if side is self.h else self.h

	def start_daemons(self):
		for side in self.sides:
			side.start_daemon(self.other(side), self.threads, self.options)
		for side in self.sides:
			side.wait_linked()

	def restart(self, options):
		"""Both daemons anew, each with what its side has in options, until they know each other."""
		for side in self.sides:
			side.stop_daemon()
		said = [len(side.log()) for side in self.sides]
		for side in self.sides:
			side.start_daemon(self.other(side), self.threads, options.get(side, ()))
		for side, start in zip(self.sides, said):
			if not wait_for(lambda side=side, start=start: " is up" in side.log()[start:], 5):
				raise RuntimeError(f"udsproxyd on {side.name}: {side.log()[start:]}")

	def __exit__(self, kind, error, trace):
		ended = {side: side.end() for side in self.sides}
		said = "".join(f"udsproxyd on {side.name} ended with {ended[side]}:\n{side.log()}" for side in self.sides
			       if (kind or ended[side]) and os.path.exists(side.logfile))
		shutil.rmtree(self.place)  # first: nobody may be listening any more
		print(said, end="", file=sys.stderr)
		if any(ended.values()) and not kind:
			raise RuntimeError("a udsproxyd did not end as it should")


def main():
	with Pair() as pair:
		for side in pair.sides:
			print(f"side {side.name}, {side.address}, udsproxyd is pid {side.daemon.pid}, says in "
			      f"{side.logfile}:\n\tUDSPROXYD_RUNTIME_DIR={side.runtime} "
			      f"LD_PRELOAD={LIB}/libudsproxy.so {' '.join(side.enter)} PROGRAM")
		print("end my input (ctrl-D) to end both", flush=True)
		sys.stdin.read()


if __name__ == "__main__":
	main()
