# SPDX-License-Identifier: Apache-2.0
"""What befalls the link, the daemons and their peers meanwhile, and what programs see of it."""

import os
import socket
import subprocess
import sys
import threading
import time

from proxyends import pattern
from proxypair import PORT, wait_for

from .scenario import (BLOCK, PATIENCE, Scenario, at_once, block, check_echo, expect, receive, receive_all,
		       within)


class LinkCutFor3SLosesNothing(Scenario):
	"""The link is down for 3 s with transfers under way both ways: nothing is lost or doubled."""

	together, silent = True, False
	limit = 60

	def exchange(self, sock, until, began):
		"""Send until told, then say how much it was; receive as much as the other says."""
		def send():
			n = 0
			while n < 16 or not until():
				sock.sendall(block(1, n))
				n += 1
				if n == 16:
					began()
			sock.sendall(block(2, n))
			sock.shutdown(socket.SHUT_WR)

		def take():
			n = 0
			while (data := receive(sock, BLOCK)) == block(1, n):
				n += 1
				time.sleep(0.001)
			expect(data == block(2, n), True, f"block {n} is good")
			expect(receive_all(sock), b"")

		at_once(send, take)

	def server(self, listener):
		# It goes on for as long as its client does.
		sock, last = listener.accept()[0], listener.accept()[0]
		told = threading.Event()
		at_once(lambda: (receive_all(last), told.set()),
			lambda: self.exchange(sock, told.is_set, lambda: None))

	def client(self):
		sock, last = self.connect(), self.connect()
		began, told = threading.Event(), threading.Event()

		def wait():
			began.wait()
			self.ready()
			told.set()
			last.close()

		at_once(wait, lambda: self.exchange(sock, told.is_set, began.set))

	@classmethod
	def meanwhile(cls, pairs, turn):
		for pair in pairs:
			pair.h.run(["ip", "link", "set", "veth", "down"])
		time.sleep(3)
		for pair in pairs:
			pair.h.run(["ip", "link", "set", "veth", "up"])


class RestartedPeerIsReachedAgain(Scenario):
	"""Either daemon is ended, or killed, and started again: a program that connects anew when its
	connection ends, or is refused, goes on. Whatever transports the other daemon still had, no
	connection that was made is lost to them."""

	together, silent = True, False

	def client(self):
		sock = self.connect()
		check_echo(sock)
		for _ in range(4):
			self.ready()
			start = time.monotonic()
			sock.settimeout(1)
			while not self.works(sock):
				within(3, start, "reaching the server again")
				time.sleep(0.01)
				sock = self.again(sock)
			for _ in range(5):
				sock.settimeout(10)
				check_echo(sock, pattern(1000))
				sock = self.connect()

	@staticmethod
	def works(sock):
		try:
			check_echo(sock)
			return True
		except (OSError, AssertionError):
			return False

	def again(self, sock):
		sock.close()
		sock = socket.socket(socket.AF_UNIX)
		sock.settimeout(1)
		sock.connect_ex(self.address)
		return sock

	@classmethod
	def meanwhile(cls, pairs, turn):
		for pair in pairs:
			side = pair.sides[turn % 2]
			if turn < 2:
				expect(side.stop_daemon(), 0, "exit status")
			else:
				side.daemon.kill()
				side.daemon.wait()
			side.start_daemon(pair.other(side), pair.threads)


# Sixty peers that connect and say nothing, half a frame, something else, or a byte each second (slowloris).
HALF_OPEN = """
import socket, sys, time
talk = [b"", b"\\0\\0", b"GET / HTTP/1.0\\r\\n\\r\\n", b"\\0\\0\\0\\x20\\1" + bytes(11) + b"UDSP", b"drip"]
hello = b"\\0\\0\\0\\x20\\1" + bytes(11) + b"UDSP" + bytes(28)
socks = {}
for i in range(60):
	s = socket.create_connection((sys.argv[2], int(sys.argv[3])), source_address=(sys.argv[1], 0))
	if talk[i % 5] != b"drip":
		s.sendall(talk[i % 5])
	s.setblocking(False)
	socks[s] = i
print("there", flush=True)
n, end = 0, time.monotonic() + float(sys.argv[4])
while socks and time.monotonic() < end:
	for s, i in list(socks.items()):
		try:
			if talk[i % 5] == b"drip" and n % 10 == 0:
				s.send(hello[n // 10:n // 10 + 1])
			while s.recv(4096):
				pass
		except BlockingIOError:
			continue
		except OSError:
			pass
		del socks[s]
	n += 1
	time.sleep(0.1)
print("left:", [talk[i % 5] for i in socks.values()], flush=True)
"""


class HalfOpenPeersDisturbNobody(Scenario):
	"""Peers that connect to either daemon and never finish their greeting: connections are made as ever."""

	together, first, silent = True, True, False
	talkers = []

	def client(self):
		self.ready()
		for _ in range(20):
			start = time.monotonic()
			with self.connect() as sock:
				check_echo(sock)
			within(0.5, start, "a connection")

	@classmethod
	def meanwhile(cls, pairs, turn):
		for pair in pairs:
			for side in pair.sides:
				talker = side.popen(
					[sys.executable, "-c", HALF_OPEN, side.address, pair.other(side).address, PORT,
					 str(13 * min(PATIENCE, 3))], stdout=subprocess.PIPE, text=True)
				expect(talker.stdout.readline(), "there\n")
				cls.talkers.append(talker)


class HalfOpenPeersAreDropped(HalfOpenPeersDisturbNobody):
	"""They are, after 10 s: those that have been there since the first row."""

	first = False
	limit = 40

	@classmethod
	def meanwhile(cls, pairs, turn):
		if not cls.talkers:
			super().meanwhile(pairs, turn)
		for talker in cls.talkers:
			expect(talker.communicate()[0], "left: []\n", "half-open peers")
		cls.talkers.clear()


class QuietConnectionsCostNoCpu(Scenario):
	"""Connections that are idle, half-closed, stopped, or whose reader is gone, with bytes under way and
	without: the daemons do nothing."""

	endless = True
	together = True

	def server(self, listener):
		socks = []
		while True:
			socks.append(listener.accept()[0])
			kind = receive(socks[-1], 1)
			if kind == b"w":
				socks[-1].shutdown(socket.SHUT_WR)
			elif kind == b"r":
				socks[-1].shutdown(socket.SHUT_RD)
			elif kind == b"f":
				socks[-1].setblocking(False)
				self.fill(socks[-1])
			elif kind == b"c":
				socks[-1].sendall(b"unread")
				socks[-1].close()

	@staticmethod
	def fill(sock):
		try:
			while True:
				sock.send(bytes(BLOCK))
		except BlockingIOError:
			pass

	def client(self):
		socks = []
		for _ in range(5):
			for kind in b"idle", b"wr", b"half", b"read", b"full", b"closed", b"gone":
				sock = self.connect()
				socks.append(sock)
				sock.sendall(kind[:1])
				sock.setblocking(False)
				if kind == b"half":
					sock.shutdown(socket.SHUT_WR)
				elif kind == b"full":
					self.fill(sock)
				elif kind == b"gone":
					sock.send(b"unread")
					sock.close()
		self.ready()
		self.ready()

	@classmethod
	def meanwhile(cls, pairs, turn):
		sides = [side for pair in pairs for side in pair.sides]

		def work():
			before = [used(side) for side in sides]
			time.sleep(1)
			return max(used(side) - old for side, old in zip(sides, before))

		# What is under way comes to rest first; a busy loop never does. (A heartbeat costs less.)
		limit = 0.003 * PATIENCE
		if not wait_for(lambda: work() < limit, 5):
			raise AssertionError(f"{work() * 1000:.1f} ms of CPU time in a second")


def used(side):
	"""Seconds of CPU time that this daemon has used, to the nanosecond."""
	total = 0
	for thread in os.listdir(f"/proc/{side.daemon.pid}/task"):
		with open(f"/proc/{side.daemon.pid}/task/{thread}/schedstat", encoding="ascii") as f:
			total += int(f.read().split()[0])
	return total / 1e9
