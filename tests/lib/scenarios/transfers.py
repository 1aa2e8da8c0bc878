# SPDX-License-Identifier: Apache-2.0
"""Bytes and packets: all arrive, in order, once, whatever either end does, and whoever is slow."""

import os
import queue
import select
import signal
import socket
import struct
import threading
import time

from .scenario import (BLOCK, MIB, Scenario, at_once, block, check_blocks, check_echo, expect, pattern,
		       receive, receive_all, send_blocks, size, within)

MUCH = size(64, 64, 16) * MIB // BLOCK  # blocks


class BytesGoThereAndBack(Scenario):
	"""One byte, a few, and more than a socket holds."""

	def client(self):
		with self.connect() as sock:
			for n in 1, 10, 65536, 3, MIB:
				data = pattern(n)
				at_once(lambda: sock.sendall(data), lambda: expect(receive(sock, n), data))


class BytesBehindAnUrgentOneArrive(Scenario):
	"""A reader that does not care for out-of-band data (MSG_OOB) gets what is before and behind it, and nothing stays back."""

	rounds = 200

	def server(self, listener):
		sock = listener.accept()[0]
		for _ in range(self.rounds):
			expect(receive(sock, 6), b"abcdef")
			sock.sendall(b"next")

	def client(self):
		sock = self.connect()
		for _ in range(self.rounds):
			sock.sendall(b"abc")
			sock.send(b"!", socket.MSG_OOB)
			sock.sendall(b"def")
			expect(receive(sock, 4), b"next")


class AnUrgentByteAtTheEndIsNoReset(Scenario):
	"""Behind it the writer half-closes: a reader that does not care for it sees the end, and so does the writer when that closes."""

	rounds = 20

	def server(self, listener):
		for _ in range(self.rounds):
			with listener.accept()[0] as sock:
				expect(receive_all(sock), b"abc")
				sock.sendall(b"answer")

	def client(self):
		for _ in range(self.rounds):
			with self.connect() as sock:
				sock.sendall(b"abc")
				sock.send(b"!", socket.MSG_OOB)
				sock.shutdown(socket.SHUT_WR)
				expect(receive_all(sock), b"answer")


class HalfCloseKeepsData(Scenario):
	"""The reply arrives after the client's half-close: SHUT_WR ends one direction and nothing else."""

	questions = b"question", pattern(MIB)

	def server(self, listener):
		for _ in self.questions:
			with listener.accept()[0] as sock:
				sock.sendall(receive_all(sock)[::-1])

	def client(self):
		for question in self.questions:
			sock = self.connect()
			sock.sendall(question)
			sock.shutdown(socket.SHUT_WR)
			expect(receive_all(sock), question[::-1])


class HalfCloseByServerKeepsData(Scenario):
	"""The same the other way round: what the client sends after the server's half-close arrives."""

	def server(self, listener):
		sock = listener.accept()[0]
		sock.sendall(b"go on")
		sock.shutdown(socket.SHUT_WR)
		expect(receive_all(sock), pattern(MIB))

	def client(self):
		sock = self.connect()
		expect(receive_all(sock), b"go on")
		sock.sendall(pattern(MIB))


class SlowServerGetsAll(Scenario):
	"""64 MiB to a slow reader: nothing is lost, and no daemon keeps them."""

	def server(self, listener):
		sock = listener.accept()[0]
		check_blocks(sock, MUCH, pause=0.0003)
		expect(receive_all(sock), b"")
		sock.sendall(b"all")

	def client(self):
		sock = self.connect()
		send_blocks(sock, MUCH)
		sock.shutdown(socket.SHUT_WR)
		expect(receive_all(sock), b"all")


class SlowClientGetsAll(Scenario):
	"""64 MiB from a server that closes at once, to a slow reader."""

	def server(self, listener):
		with listener.accept()[0] as sock:
			send_blocks(sock, MUCH)

	def client(self):
		sock = self.connect()
		check_blocks(sock, MUCH, pause=0.0003)
		expect(receive_all(sock), b"")


class StoppedReaderStallsNobody(Scenario):
	"""Connections whose readers have stopped, either way, hold up no other, old or new, and lose nothing."""

	blocks = size(64, 8, 2) * MIB // BLOCK

	def server(self, listener):
		stopped, filled, other = (listener.accept()[0] for _ in range(3))
		sent = fill(filled)
		other.sendall(b"f")
		at_once(lambda: send_blocks(other, self.blocks, 1), lambda: check_blocks(other, self.blocks, 2))
		self.echo(other)
		self.echo(listener.accept()[0])
		expect(receive_all(stopped), b"x" * int(receive_all(listener.accept()[0])))
		with filled, listener.accept()[0] as last:
			last.sendall(str(sent).encode())

	def client(self):
		stopped, filled, other = self.connect(), self.connect(), self.connect()
		sent = fill(stopped)
		expect(receive(other, 1), b"f")
		at_once(lambda: send_blocks(other, self.blocks, 2), lambda: check_blocks(other, self.blocks, 1))
		start = time.monotonic()
		for _ in range(20):
			check_echo(other)
		other.close()
		with self.connect() as new:
			check_echo(new)
		within(0.2, start, "20 round trips and a connection")
		stopped.close()
		with self.connect() as last:
			last.sendall(str(sent).encode())
		with self.connect() as last:
			expect(receive_all(filled), b"x" * int(receive_all(last)))


def fill(sock):
	"""Write until nothing more is taken for a while: how much was."""
	sent = 0
	sock.setblocking(False)
	while select.select([], [sock], [], 0.3)[1]:
		sent += sock.send(b"x" * BLOCK)
	return sent


class BothReadersLate(Scenario):
	"""Both sides write at once, and begin to read only when they can write no more."""

	blocks = size(64, 4, 4) * MIB // BLOCK

	def exchange(self, sock, sent, wanted):
		sender = threading.Thread(target=send_blocks, args=[sock, self.blocks, sent])
		sender.start()
		sender.join(0.2)
		check_blocks(sock, self.blocks, wanted)
		sender.join()

	def server(self, listener):
		self.exchange(listener.accept()[0], 1, 2)

	def client(self):
		self.exchange(self.connect(), 2, 1)


class WritesAllBeforeReading(Scenario):
	"""A client that writes 64 MiB before it reads anything, to a server that reads on while its answers
	wait in a queue of its own. A proxy that stops reading one direction because the other is full
	stops both for ever."""

	def server(self, listener):
		sock = listener.accept()[0]
		answers = queue.SimpleQueue()

		def write():
			while answer := answers.get():
				sock.sendall(answer)
			sock.shutdown(socket.SHUT_WR)

		def read():
			for i in range(MUCH):
				expect(receive(sock, BLOCK), block(1, i))
				answers.put(block(2, i))
			answers.put(b"")

		at_once(read, write)

	def client(self):
		sock = self.connect()
		send_blocks(sock, MUCH, 1)
		check_blocks(sock, MUCH, 2)
		expect(receive_all(sock), b"")


class TwelveMixedTransfersAtOnce(Scenario):
	"""Uploads, downloads, both ways, round trips, fast and slow, on twelve connections of one client
	and server: no two wait for each other."""

	blocks = size(64, 8, 2) * MIB // BLOCK

	@staticmethod
	def crossed(sock, n, sent, wanted):
		at_once(lambda: send_blocks(sock, n, sent), lambda: check_blocks(sock, n, wanted))

	# what a client does, and what its server does, by the letter that it begins with
	def kinds(self):
		n = self.blocks
		return {
			b"u": (lambda s: send_blocks(s, n), lambda s: check_blocks(s, n)),
			b"d": (lambda s: check_blocks(s, n), lambda s: send_blocks(s, n)),
			b"b": (lambda s: self.crossed(s, n, 1, 2), lambda s: self.crossed(s, n, 2, 1)),
			b"s": (lambda s: send_blocks(s, n), lambda s: check_blocks(s, n, pause=0.001)),
			b"l": (lambda s: check_blocks(s, n, pause=0.001), lambda s: send_blocks(s, n)),
			b"r": (lambda s: [check_echo(s, pattern(100, i)) for i in range(500)],
			       lambda s: [s.sendall(receive(s, 100)) for _ in range(500)]),
		}

	def server(self, listener):
		kinds = self.kinds()

		def serve(sock):
			kinds[receive(sock, 1)][1](sock)
			sock.shutdown(socket.SHUT_WR)
			expect(receive_all(sock), b"")

		at_once(*(lambda: serve(listener.accept()[0]) for _ in range(12)))

	def client(self):
		def use(kind, act):
			with self.connect() as sock:
				sock.sendall(kind)
				act(sock)
				sock.shutdown(socket.SHUT_WR)
				expect(receive_all(sock), b"")

		at_once(*(lambda kind=kind, act=act: use(kind, act)
			  for kind, (act, _) in self.kinds().items() for _ in range(2)))


class EmptyConnectionEnds(Scenario):
	"""A connection without a byte is accepted, and its end is seen, whoever ends it."""

	def server(self, listener):
		expect(receive_all(listener.accept()[0]), b"")
		listener.accept()[0].close()

	def client(self):
		self.connect().close()
		expect(receive_all(self.connect()), b"")


class ServerClosesFirstDataIsRead(Scenario):
	"""What a server wrote before it closed is read after the hang-up was seen."""

	def server(self, listener):
		with listener.accept()[0] as sock:
			expect(receive(sock, 4), b"more")
			sock.sendall(pattern(100000))

	def client(self):
		sock = self.connect()
		sock.sendall(b"more")
		poll = select.poll()
		poll.register(sock, 0)
		expect(poll.poll(5000), [(sock.fileno(), select.POLLHUP)], "events")
		expect(receive_all(sock), pattern(100000))


class ServerClosesUnreadDataIsRead(Scenario):
	"""The same when the server leaves unread what the client wrote: the answer comes first, the end after
	it. (On one machine that end is ECONNRESET.)"""

	def server(self, listener):
		with listener.accept()[0] as sock:
			expect(receive(sock, 4), b"more")
			sock.sendall(pattern(100000))
			select.select([sock], [], [])

	def client(self):
		sock = self.connect()
		sock.sendall(b"more")
		expect(receive(sock, 1), pattern(100000)[:1])
		sock.sendall(b"unread")
		expect(receive(sock, 99999), pattern(100000)[1:])
		try:
			expect(sock.recv(1), b"")
		except ConnectionResetError:
			pass


class ACloseIsOneEvent(Scenario):
	"""Who waits for events of a connection is told of a close at once, rather than of one direction first."""

	def server(self, listener):
		with listener.accept()[0] as sock, listener.accept()[0] as other, select.epoll() as epoll:
			epoll.register(sock, select.EPOLLOUT | select.EPOLLRDHUP | select.EPOLLET)
			expect(epoll.poll(), [(sock.fileno(), select.EPOLLOUT)], "events")
			other.sendall(b"close")
			expect(epoll.poll(), [(sock.fileno(), select.EPOLLOUT | select.EPOLLRDHUP | select.EPOLLHUP)], "events")

	def client(self):
		with self.connect() as sock, self.connect() as other:
			expect(receive(other, 5), b"close")
			sock.close()


def write_until_epipe(sock):
	"""Write now and then, as a program does that has no idea of its peer's end."""
	start = time.monotonic()
	try:
		while True:
			sock.send(b"x")
			within(0.2, start, "EPIPE")
			time.sleep(0.0001)
	except BrokenPipeError:
		pass


class ClosedServerIsEpipe(Scenario):
	"""Who writes to a server that has closed is told by EPIPE, promptly, and still reads its last words, and
	then the end. What was written too late disturbs neither."""

	def server(self, listener):
		sock, other = listener.accept()[0], listener.accept()[0]
		sock.sendall(b"last words")
		sock.close()
		other.sendall(b"closed")
		other.close()

	def client(self):
		sock, other = self.connect(), self.connect()
		expect(receive_all(other), b"closed")
		write_until_epipe(sock)
		expect(receive_all(sock), b"last words")


class ClosedClientIsEpipe(Scenario):
	"""And so is a server whose client has closed."""

	def server(self, listener):
		sock = listener.accept()[0]
		expect(receive_all(sock), b"")
		write_until_epipe(sock)

	def client(self):
		self.connect().close()


class ReaderThatShutsDownIsEpipe(Scenario):
	"""SHUT_RD alone stops the other side's writer, and not the other direction."""

	def server(self, listener):
		sock = listener.accept()[0]
		sock.shutdown(socket.SHUT_RD)
		sock.sendall(b"down")
		expect(receive_all(listener.accept()[0]), b"")
		sock.sendall(b"still")

	def client(self):
		sock = self.connect()
		expect(receive(sock, 4), b"down")
		write_until_epipe(sock)
		self.connect().close()
		expect(receive_all(sock), b"still")


class KilledClientIsSeenIn200Ms(Scenario):
	"""By a server that reads, and by one that waits in a write."""

	client_status = -signal.SIGKILL

	def server(self, listener):
		reading, writing = listener.accept()[0], listener.accept()[0]
		blocked = threading.Event()

		def read():
			killed = struct.unpack("d", receive(reading, 8))[0]
			expect(receive_all(reading), b"")
			within(0.2, killed, "the end of the reading")
			blocked.wait()
			within(0.2, killed, "the end of the writing")

		def write():
			try:
				while True:
					writing.sendall(bytes(BLOCK))
			except OSError:  # EPIPE or ECONNRESET: data of ours was unread
				blocked.set()

		at_once(read, write)

	def client(self):
		sock, stopped = self.connect(), self.connect()
		receive(stopped, BLOCK)
		time.sleep(0.1)  # until the server can write no more
		sock.sendall(struct.pack("d", time.monotonic()))
		os.kill(os.getpid(), signal.SIGKILL)


class KilledServerIsSeenIn200Ms(Scenario):
	"""By its client."""

	def server(self, listener):
		sock = listener.accept()[0]
		child = os.fork()
		if child == 0:
			sock.sendall(struct.pack("d", time.monotonic()))
			os.kill(os.getpid(), signal.SIGKILL)
		sock.close()
		os.waitpid(child, 0)

	def client(self):
		sock = self.connect()
		killed = struct.unpack("d", receive(sock, 8))[0]
		expect(receive_all(sock), b"")
		within(0.2, killed, "the end")


class SeqpacketKeepsBoundaries(Scenario):
	"""Packets of a SOCK_SEQPACKET stay what they are, empty ones among them."""

	socktype = socket.SOCK_SEQPACKET
	sizes = [1, 2, 3000, 0, 1, 100000, 131072, 0, 0, 5]

	def server(self, listener):
		sock = listener.accept()[0]
		for n in self.sizes:
			expect(sock.recv(MIB), pattern(n, n % 256))
		expect(sock.recv(MIB), b"")
		for n in reversed(self.sizes):
			sock.send(pattern(n))

	def client(self):
		sock = self.connect()
		sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, MIB)
		for n in self.sizes:
			sock.send(pattern(n, n % 256))
		sock.shutdown(socket.SHUT_WR)
		for n in reversed(self.sizes):
			expect(sock.recv(MIB), pattern(n))
		expect(sock.recv(MIB), b"")


class SeqpacketCutsOffWhatIsNotRead(Scenario):
	"""A buffer that is too small gets the beginning of a packet, MSG_TRUNC, and then the next packet."""

	socktype = socket.SOCK_SEQPACKET

	def server(self, listener):
		sock = listener.accept()[0]
		data, _, flags, _ = sock.recvmsg(10)
		expect((data, flags & socket.MSG_TRUNC), (pattern(3000)[:10], socket.MSG_TRUNC))
		expect(sock.recv(100), b"next")

	def client(self):
		with self.connect() as sock:
			sock.send(pattern(3000))
			sock.send(b"next")
			expect(receive_all(sock), b"")
