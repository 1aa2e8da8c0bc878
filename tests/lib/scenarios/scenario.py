# SPDX-License-Identifier: Apache-2.0
"""A behaviour of UNIX sockets as a server and a client, which know nothing of a proxy.

A class below Scenario is one, named as what must hold: PathOf107Bytes is "path-of-107-bytes". Its
methods server() and client() run in processes of their own (players.py), wherever the two are. What
runs in the test itself, and only where there are daemons, is `meanwhile`.
"""

import errno
import functools
import hashlib
import os
import re
import socket
import struct
import threading
import time

from proxyends import expect, pattern, queued  # noqa: F401: scenarios take them from here

FULL = bool(os.environ.get("FULL"))
SANITIZED = os.environ.get("FLAVOUR") in ("asan", "tsan")
WRAPPED = bool(os.environ.get("UDSPROXYD_UNDER"))  # in valgrind, say: see proxypair.py
# how much longer anything may take, and how much more memory, than with the plain program
PATIENCE = 20 if WRAPPED else 10 if SANITIZED else 1
ROOM = 30 if WRAPPED or SANITIZED else 1


def size(full, less, least):
	"""How much of something is done in `make check-long`, in `make check`, and there with a slow daemon."""
	return full if FULL else least if SANITIZED or WRAPPED else less


MIB = 1 << 20
BLOCK = 65536

SCENARIOS = []


class Scenario:
	"""A server and a client; a subclass that has a docstring is a behaviour to be tested."""

	socktype = socket.SOCK_STREAM
	uid, groups = 0, None  # of the client
	mode = 0o777  # of the server's socket
	client_status = 0
	limit = 30  # seconds for either program
	growth = 24  # MiB that a daemon may need meanwhile, over what it had
	silent = True  # the daemons, that is: nothing happens that they log
	together = False  # run everywhere at the same time, with `meanwhile`
	first = False  # before the others
	unfinished = ""  # why it need not hold yet
	endless = True  # server() goes on until it is ended

	def __init_subclass__(cls, **options):
		super().__init_subclass__(**options)
		if "server" in vars(cls) and "endless" not in vars(cls):
			cls.endless = False
		if vars(cls)["__doc__"]:
			cls.name = re.sub(r"(?<=[a-z])(?=[A-Z0-9])|(?<=[0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])",
					  "-", cls.__name__).lower()
			SCENARIOS.append(cls)

	def __init__(self, directory, share):
		self.directory, self.share = directory, share
		self.address = self.address_in(directory)

	@staticmethod
	def address_in(directory):
		"""The server's; the directory is empty, and the same for both."""
		return directory + "/s"

	def listen(self, address=None):
		"""Before the client starts."""
		sock = socket.socket(socket.AF_UNIX, self.socktype)
		sock.bind(address or self.address)
		if not self.address.startswith("\0"):
			os.chmod(address or self.address, self.mode)
		sock.listen(4096)
		return sock

	def server(self, listener):
		"""Echoes to each client, for as long as the scenario lasts."""
		while True:
			sock = listener.accept()[0]
			threading.Thread(target=self.echo, args=[sock], daemon=True).start()

	@staticmethod
	def echo(sock):
		with sock:
			while data := sock.recv(BLOCK):
				sock.sendall(data)

	def connect(self):
		sock = socket.socket(socket.AF_UNIX, self.socktype)
		sock.connect(self.address)
		return sock

	def client(self):
		raise NotImplementedError

	@staticmethod
	def ready():
		"""The client is where `meanwhile` wants it; returns when that has returned."""
		print("ready", flush=True)
		input()

	@classmethod
	def meanwhile(cls, pairs, turn):
		"""What happens to these pairs of daemons while all clients are in their ready() number `turn`
		(from 0). Raises when it finds something wrong."""


# ---- what scenarios are made of ---------------------------------------------------------------


def receive(sock, n):
	"""Exactly n bytes."""
	data = sock.recv(n, socket.MSG_WAITALL)
	while len(data) < n and (more := sock.recv(n - len(data), socket.MSG_WAITALL)):
		data += more
	expect(len(data), n, "length received")
	return data


def receive_all(sock):
	"""Everything up to the end."""
	return b"".join(iter(lambda: sock.recv(MIB), b""))


def check_echo(sock, data=b"hello"):
	sock.sendall(data)
	expect(receive(sock, len(data)), data)


@functools.cache
def _block_body():
	return hashlib.shake_128(b"block").digest(BLOCK - 16)


def block(seed, i):
	"""Number i of a stream's blocks: nothing in it can be lost, doubled or moved unseen."""
	return struct.pack(">QQ", seed, i) + _block_body()


def send_blocks(sock, n, seed=0):
	for i in range(n):
		sock.sendall(block(seed, i))


def check_blocks(sock, n, seed=0, pause=0.0):
	"""Receive exactly these, resting before each."""
	for i in range(n):
		time.sleep(pause)
		if receive(sock, BLOCK) != block(seed, i):
			raise AssertionError(f"block {i} of {n} is another")


def failing_connect(sock, address):
	"""The errno, exactly as connect(2) gives it."""
	error = sock.connect_ex(address)
	if not error:
		raise AssertionError("connected")
	return errno.errorcode[error]


def at_once(*functions):
	"""Run them in threads; the first exception of any is raised when all have ended."""
	failed = []

	def run(function):
		try:
			function()
		except Exception as e:  # raised below, in the main thread
			failed.append(e)

	threads = [threading.Thread(target=run, args=[function], daemon=True) for function in functions]
	for thread in threads:
		thread.start()
	for thread in threads:
		thread.join()
	if failed:
		raise failed[0]


def within(seconds, since, what):
	"""Raises when it took longer since this time.monotonic()."""
	took = time.monotonic() - since
	if took > seconds * PATIENCE:
		raise AssertionError(f"{what} took {took * 1000:.0f} ms, more than {seconds * PATIENCE * 1000:.0f}")
