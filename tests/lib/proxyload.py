# SPDX-License-Identifier: Apache-2.0
"""Many descriptors at once that carry bytes of which none can be lost, doubled or moved unseen.

	load = Load()
	load.both_ways(client, server)
	load.one_way(w, r)
	load.moved(100000)	# each flow has brought so many more
	load.run(3)		# go on for so many seconds, whatever gets anywhere
	load.finish()		# all ends, all that was sent has come

One thread moves all of them, as fast as they take and give.
"""

import os
import select
import socket
import time

from proxyends import pattern

PIECE = 16384  # bytes of a stream that are written at once
PERIOD = 1000003
BYTES = pattern(PERIOD) + pattern(PERIOD)[:1 << 18]


class Flow:
	"""One direction: what is written to `out` is read from `into`."""

	number = 0

	def __init__(self, out, into, packets, endless):
		Flow.number += 1
		self.number, self.seed = Flow.number, Flow.number * 7919
		self.out, self.into, self.packets, self.endless = out, into, packets, endless
		self.sent = self.got = 0  # bytes
		self.sent_packets = self.got_packets = 0
		self.stopped = self.ended = False

	def expected(self, at, n):
		start = (self.seed + at) % PERIOD
		return BYTES[start:start + n]

	def size(self, number):
		"""Of a packet."""
		return 1 + (self.seed + number * 104729) % 30000

	def write(self):
		n = self.size(self.sent_packets) if self.packets else PIECE
		self.sent += os.write(self.out, self.expected(self.sent, n))
		self.sent_packets += 1

	def read(self):
		data = os.read(self.into, 1 << 17)
		n = self.size(self.got_packets) if self.packets and data else len(data)
		if data != self.expected(self.got, n):
			raise AssertionError(f"flow {self}: other bytes after {self.got}")
		self.got += n
		self.got_packets += 1
		if not data:
			self.ended = True
			if self.got != self.sent:
				raise AssertionError(f"flow {self}: the end after {self.got} of {self.sent} bytes")

	def __str__(self):
		return f"{self.number}, {'packets' if self.packets else 'stream'}, {self.out} to {self.into}"


class Load:
	def __init__(self):
		self.flows = []
		self.writers, self.readers = {}, {}  # by descriptor
		self.owners = []  # sockets, which would be closed
		self.poll = select.epoll()

	def flow(self, out, into, packets=False, endless=False):
		flow = Flow(out, into, packets, endless)
		self.flows.append(flow)
		self.writers[out] = self.readers[into] = flow

	def watch(self, fd):
		os.set_blocking(fd, False)
		self.poll.register(fd, select.EPOLLIN * (fd in self.readers) | select.EPOLLOUT * (fd in self.writers))

	def both_ways(self, a, b):
		"""Two connected sockets (taken)."""
		self.owners += [a, b]
		how = a.type != socket.SOCK_STREAM, a.type == socket.SOCK_DGRAM	# which shows no end
		a, b = a.fileno(), b.fileno()
		self.flow(a, b, *how)
		self.flow(b, a, *how)
		self.watch(a)
		self.watch(b)

	def one_way(self, w, r):
		"""Two ends of a pipe, as descriptors (taken)."""
		self.flow(w, r)
		self.watch(w)
		self.watch(r)

	def turn(self, seconds):
		"""What is ready, or will be in so many seconds."""
		for fd, events in self.poll.poll(max(seconds, 0)):
			if events & ~select.EPOLLOUT and fd in self.readers:
				self.try_to(self.readers[fd].read)
				if self.readers[fd].ended:
					self.ended(fd)
			if events & ~select.EPOLLIN and fd in self.writers:
				self.try_to(self.writers[fd].write)

	@staticmethod
	def try_to(function):
		try:
			function()
		except BlockingIOError:
			pass

	def ended(self, fd):
		del self.readers[fd]
		self.forget(fd)

	def forget(self, fd):
		"""One of its directions has ended."""
		if fd in self.writers:
			self.poll.modify(fd, select.EPOLLOUT)
		elif fd in self.readers:
			self.poll.modify(fd, select.EPOLLIN)
		else:
			self.poll.unregister(fd)

	def run(self, seconds):
		end = time.monotonic() + seconds
		while (left := end - time.monotonic()) > 0:
			self.turn(left)

	def until(self, condition, seconds, what):
		end = time.monotonic() + seconds
		while not all(map(condition, self.flows)):
			if time.monotonic() > end:
				slow = [flow for flow in self.flows if not condition(flow)]
				raise AssertionError(f"{what}: not within {seconds} s, {len(slow)} of {len(self.flows)} flows; "
						     f"{slow[0]}: {slow[0].got} bytes of {slow[0].sent} have come")
			self.turn(0.1)

	def moved(self, n, seconds=60):
		"""Behind what is on its way now, so many bytes more have come over each."""
		wanted = {flow: flow.sent + n for flow in self.flows}
		self.until(lambda flow: flow.got >= wanted[flow], seconds, f"{n} bytes more")

	def lost(self, seconds):
		"""Every descriptor shows an end, whatever has come; they are closed."""
		end = time.monotonic() + seconds
		left = {*self.writers, *self.readers}
		ends = select.poll()
		for fd in left:
			ends.register(fd, 0)	# POLLHUP and POLLERR
		while left:
			found = ends.poll(max(end - time.monotonic(), 0) * 1000)
			if not found:
				raise AssertionError(f"no end shows on {len(left)} of {len(self.readers)} within {seconds} s")
			for fd, _ in found:
				ends.unregister(fd)
				left.remove(fd)
		self.close()

	def close(self):
		sockets = {sock.fileno() for sock in self.owners}
		for fd in {*self.writers, *self.readers} - sockets:
			os.close(fd)
		for sock in self.owners:
			sock.close()
		self.poll.close()

	def finish(self, seconds=60):
		"""Nothing more is sent: all that was sent comes, and then the end."""
		sockets = {sock.fileno(): sock for sock in self.owners}
		for fd in list(self.writers):
			del self.writers[fd]
			self.forget(fd)
			if fd in sockets:
				if sockets[fd].type != socket.SOCK_DGRAM:
					sockets[fd].shutdown(socket.SHUT_WR)
			else:
				os.close(fd)
		ends = [fd for fd in self.readers if fd not in sockets]
		self.until(lambda flow: flow.ended or flow.endless and flow.got == flow.sent, seconds, "the end")
		for fd in ends:
			os.close(fd)
		self.close()
