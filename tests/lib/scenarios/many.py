# SPDX-License-Identifier: Apache-2.0
"""Many connections: at once, racing, one after the other. None is lost or mixed up, and of none anything is left."""

import os
import select
import struct
import threading

from proxyends import memory

from .scenario import (SANITIZED, WRAPPED, Scenario, at_once, expect, pattern, receive, receive_all, size)


class RacingConnectionsAllArrive(Scenario):
	"""160 short connections of eight processes, on one path, at the same moment: each is accepted once and
	has its own bytes, in either direction."""

	# Memcheck has no openat2(2): there each attempt to connect is a thread of the daemon, and takes that long.
	number = 48 if WRAPPED else 160

	def listen(self, address=None):
		sock = super().listen()
		sock.listen(16)  # they also race for this
		return sock

	def server(self, listener):
		seen = []
		for _ in range(self.number):
			with listener.accept()[0] as sock:
				n, = struct.unpack("i", receive(sock, 4))
				sock.sendall(pattern(1000 + n, n % 256))
				seen.append(n)
		expect(sorted(seen), list(range(self.number)), "who came")

	def client(self):
		def use(n):
			with self.connect() as sock:
				sock.sendall(struct.pack("i", n))
				expect(receive_all(sock), pattern(1000 + n, n % 256))

		def be(process):
			gate = threading.Barrier(self.number // 8)
			at_once(*(lambda n=n: (gate.wait(), use(n)) for n in range(process, self.number, 8)))

		children = []
		for process in range(8):
			children.append(os.fork())
			if children[-1] == 0:
				be(process)
				os._exit(0)
		expect([os.waitpid(child, 0)[1] for child in children], [0] * 8, "statuses")


class TwoThousandAtOnce(Scenario):
	"""2,000 connections at once, each with its own bytes."""

	endless = True
	number = size(2000, 2000, 400)
	limit = 120

	def server(self, listener):
		epoll = select.epoll()
		epoll.register(listener, select.EPOLLIN)
		socks = {}
		while True:
			for fd, _ in epoll.poll():
				if fd == listener.fileno():
					sock = listener.accept()[0]
					socks[sock.fileno()] = sock
					epoll.register(sock, select.EPOLLIN)
				elif data := socks[fd].recv(100):
					socks[fd].sendall(data)
				else:
					epoll.unregister(fd)
					socks.pop(fd).close()

	def client(self):
		socks = [self.connect() for _ in range(self.number)]
		for i, sock in enumerate(socks):
			sock.sendall(b"%08d" % i)
		for i, sock in enumerate(socks):
			expect(receive(sock, 8), b"%08d" % i)


class ShortConnectionsLeaveNothing(Scenario):
	"""100,000 short connections, in four threads: no port, descriptor or memory is left behind."""

	endless = True
	# Memcheck sees in 5,000 what it sees in 100,000, which would take an hour.
	number = int(os.environ.get("CONNECTIONS", size(5000 if WRAPPED else 100000, 2000, 400)))
	limit = 3600

	def server(self, listener):
		while True:
			with listener.accept()[0] as sock:
				if data := sock.recv(100):
					sock.sendall(data)

	def client(self):
		def use(n):
			for i in range(n):
				with self.connect() as sock:
					sock.sendall(b"%08d" % i)
					expect(receive_all(sock), b"%08d" % i)

		# what is made once is made before
		at_once(*[lambda: use(50)] * 4)
		self.ready()
		at_once(*[lambda: use(self.number // 4)] * 4)
		self.ready()

	@classmethod
	def meanwhile(cls, pairs, turn):
		now = [(memory(side), ports(side)) for pair in pairs for side in pair.sides]
		if turn == 0:
			cls.before = now
			return
		for (kib, used), (kib_before, used_before) in zip(now, cls.before):
			if used > used_before + 32:  # a pool has more or less of them
				raise AssertionError(f"{used} sockets of TCP are left, {used_before} before")
			# A leak of 16 bytes for each of 100,000 is more, and so is one of 512 of 2,000.
			if kib > kib_before + 1024 and not SANITIZED and not WRAPPED:
				raise AssertionError(f"the daemon has {kib} KiB, {kib_before} before")


def ports(side):
	"""How many sockets of TCP this machine has, those in TIME_WAIT among them."""
	with open(f"/proc/{side.daemon.pid}/net/tcp", encoding="ascii") as f:
		return sum(1 for _ in f) - 1
