# SPDX-License-Identifier: Apache-2.0
"""One real udsproxyd, on 127.0.0.1, whose peer (127.0.0.2) is peer.py.

Without a hold time unless told so: then a connection ends with its transport.

	with Daemon() as d:
		t = d.peer.dial()		# the peer connects to a server here
		client = d.connect("/far")	# a program here connects to a socket of the peer's

BIN in the environment is where the program is.
"""

import os
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import time

import peer as wire
from peer import Peer, TOP, string, u16, u32
from proxyends import queued
from proxypair import wait_for

BIN = os.environ.get("BIN", TOP + "/build/testmode/bin")
DIALS_MAX = 64	# under way at once, of a thread


def settled(s):
	"""queued(), when no more have come for a while."""
	n = -1
	while n != queued(s):
		n = queued(s)
		wait_for(lambda: queued(s) != n, 0.2)
	return n


def free_port(address):
	with socket.socket() as s:
		s.bind((address, 0))
		return s.getsockname()[1]


class Daemon:
	def __init__(self, *options, udsaccept=None, threads=1, hold=0, prefix=()):
		self.threads = threads
		self.place = tempfile.mkdtemp(prefix="wire.", dir="/var/tmp")
		os.chmod(self.place, 0o755)
		self.runtime, self.config, self.share = (self.place + "/" + name for name in ("run", "etc", "share"))
		os.mkdir(self.config)
		os.mkdir(self.share)
		if udsaccept is not None:
			with open(self.config + "/udsaccept", "w", encoding="utf-8") as f:
				f.write(udsaccept)
		self.log = self.place + "/log"
		port, peer_port = free_port("127.0.0.1"), free_port("127.0.0.2")
		self.peer = Peer("127.0.0.2", peer_port, port)
		with open(self.log, "w", encoding="utf-8") as log:
			self.process = subprocess.Popen(
				[*prefix, BIN + "/udsproxyd", "--test-mode", "--runtime-dir", self.runtime, "--config-dir", self.config,
				 "--log-level=debug", f"--hold-time={hold}", f"--share={self.share}=/far", *options,
				 str(threads), "127.0.0.1", str(port), "127.0.0.2", str(peer_port)],
				stdin=subprocess.DEVNULL, stdout=log, stderr=log)
		self.servers = []
		if not self.peer.linked.wait(10):
			self.stop()
			raise RuntimeError("udsproxyd does not dial: " + self.said())
		self.baseline = len(self.descriptors())

	def __enter__(self):
		return self

	def __exit__(self, kind, error, trace):
		status = self.stop()
		if kind or status:
			print(f"# udsproxyd ended with {status}:\n{self.said()[-8000:]}", file=sys.stderr)
		shutil.rmtree(self.place)
		if status and not kind:
			raise RuntimeError(f"udsproxyd ended with {status}")

	def stop(self):
		for s in self.servers:
			s.close()
		if self.process.poll() is None:
			self.process.terminate()
		try:
			status = self.process.wait(20)
		except subprocess.TimeoutExpired:
			self.process.kill()
			status = self.process.wait()
		self.peer.end()
		return status

	def said(self):
		with open(self.log, encoding="utf-8", errors="replace") as f:
			return f.read()

	def alive(self):
		return self.process.poll() is None

	def descriptors(self):
		"""What it has open, one line for each."""
		place, found = f"/proc/{self.process.pid}/fd", []
		for fd in os.listdir(place):
			try:
				found.append(f"{fd} -> {os.readlink(f'{place}/{fd}')}")
			except FileNotFoundError:
				pass
		return found

	def is_clean(self, seconds=10):
		"""With everything ended, has it no descriptor left but those that it started with?"""
		def clean():
			self.peer.close()	# what was dialled just now has perhaps not been welcomed before
			# One is kept for a while for each name that a client has asked for.
			return len(self.descriptors()) - len(os.listdir(self.runtime + "/names")) <= self.baseline
		return wait_for(clean, seconds)

	def memory(self):
		"""Resident, in KiB."""
		with open(f"/proc/{self.process.pid}/status", encoding="utf-8") as f:
			return next(int(line.split()[1]) for line in f if line.startswith("VmRSS"))

	def server(self, name="server", kind=socket.SOCK_STREAM, backlog=100):
		"""A listening socket, and its path as the peer asks for it."""
		path = f"{self.place}/{name}"
		s = socket.socket(socket.AF_UNIX, kind)
		s.settimeout(10)
		s.bind(path)
		os.chmod(path, 0o777)
		s.listen(backlog)
		self.servers.append(s)
		return s, path.encode()

	def datagrams(self, name="datagrams"):
		"""A server's socket for datagrams, and its path."""
		path = f"{self.place}/{name}"
		s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
		s.settimeout(10)
		s.bind(path)
		os.chmod(path, 0o777)
		self.servers.append(s)
		return s, path.encode()

	def served(self, server, path, **how):
		"""A connection by the peer to a server here: the transport, and the server's socket."""
		t = self.peer.dial()
		assert t.open(path, **how) == (0, "")
		s = server.accept()[0]
		s.settimeout(10)
		return t, s

	def serves(self):
		"""Does it still do its work, whatever happened?"""
		if not self.alive():
			return False
		server, path = self.server(f"still.{time.monotonic_ns()}")
		t, s = self.served(server, path)
		s.sendall(b"still here")
		good = t.data(10) == b"still here"
		s.close()
		server.close()
		t.abort()
		return good

	# ---- local requests -----------------------------------------------------------------

	def private(self, control=False):
		s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
		s.settimeout(15)
		s.connect(f"{self.runtime}/{wire.PROXYREQ_CONTROL if control else wire.PROXYREQ_SOCKET}")
		return s

	@staticmethod
	def request(op, name=b"", flags=0, magic=None, version=None):
		return (u32(magic or wire.PROXYREQ_MAGIC) + u16(version or wire.PROXYREQ_VERSION) + u16(op) +
			u16(flags) + string(name))

	@staticmethod
	def answer(packet):
		"""errno, reason."""
		magic, version, error, length = struct.unpack_from(">IHHI", packet)
		assert (magic, version) == (wire.PROXYREQ_MAGIC, wire.PROXYREQ_VERSION), packet
		assert len(packet) == 12 + length and len(packet) <= wire.PROXYREQ_MAX, packet
		return error, packet[12:].decode()

	def asking(self, name=b"/far/x", kind=socket.SOCK_STREAM):
		"""A private connection on which a socket is asked to be connected, and the socket."""
		asked, s = self.private(), socket.socket(socket.AF_UNIX, kind)
		s.settimeout(10)
		socket.send_fds(asked, [self.request(wire.PROXYREQ_CONNECT, name)], [s.fileno()])
		return asked, s

	def connect(self, name, kind=socket.SOCK_STREAM, before_answer=lambda: None):
		"""A local program that connects to the peer's socket: its descriptor. The peer's side has to
		be played meanwhile, by before_answer."""
		asked, s = self.asking(name, kind)
		with asked:
			before_answer()
			error, reason = self.answer(asked.recv(2048))
			if error:
				raise OSError(error, reason)
			return s

	def client(self, name=b"/far/server", kind=socket.SOCK_STREAM):
		"""The same, and the transport that carries it."""
		played = []

		def accept():
			t, opened = self.peer.expect_open()
			t.opened()
			played.extend((t, opened))
		s = self.connect(name, kind, accept)
		return s, played[0], played[1]
