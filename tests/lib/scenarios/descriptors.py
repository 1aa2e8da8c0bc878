# SPDX-License-Identifier: Apache-2.0
"""Descriptors that a program passes: what arrives works like what was sent, with the byte it was sent with.

Each is two scenarios: the client gives and the server takes, and the other way round. More about descriptors is in
udsproxyd-passes-descriptors.py.
"""

import fcntl
import os
import select
import socket
import stat
import time

from .scenario import PATIENCE, Scenario, check_echo, expect, pattern, queued, receive, receive_all


def pass_fds(sock, data, *fds):
	socket.send_fds(sock, [data], list(fds))
	for fd in fds:
		os.close(fd)


def take_fds(sock, data, n=1):
	"""The n descriptors that come with exactly this data."""
	found, fds, flags, _ = socket.recv_fds(sock, len(data), 253, socket.MSG_CMSG_CLOEXEC)
	expect((found, len(fds), flags & socket.MSG_CTRUNC), (data, n, 0), "data and descriptors")
	return fds if n != 1 else fds[0]


def both_ways(cls):
	"""Make two scenarios of give(sock) and take(sock)."""
	for where, server, client in (("ToServer", cls.take, cls.give), ("ToClient", cls.give, cls.take)):
		def run_server(self, listener, act=server):
			act(self, listener.accept()[0])

		def run_client(self, act=client):
			act(self, self.connect())

		type(cls.__name__ + where, (cls, Scenario), {
			"__doc__": cls.__doc__, "server": run_server, "client": run_client})
	return cls


@both_ways
class PipeReadEndCrosses:
	"""Bytes that were in it, bytes that come, and its end."""

	def give(self, sock):
		r, w = os.pipe()
		os.write(w, b"early ")
		pass_fds(sock, b"p", r)
		os.write(w, b"late")
		os.close(w)
		expect(receive_all(sock), b"")

	def take(self, sock):
		with open(take_fds(sock, b"p"), "rb") as f:
			expect(f.read(), b"early late")


@both_ways
class PipeWriteEndCrosses:
	"""More than a pipe holds, and its end."""

	def give(self, sock):
		r, w = os.pipe()
		pass_fds(sock, b"p", w)
		with open(r, "rb") as f:
			expect(f.read(), pattern(300000))

	def take(self, sock):
		with open(take_fds(sock, b"p"), "wb") as f:
			f.write(pattern(300000))


@both_ways
class PipeWithoutReaderIsEpipe:
	"""Who writes to a pipe that crossed learns that nobody reads it any more."""

	def give(self, sock):
		r, w = os.pipe()
		pass_fds(sock, b"p", w)
		os.close(r)
		expect(receive_all(sock), b"")

	def take(self, sock):
		fd = take_fds(sock, b"p")
		end = time.monotonic() + 2 * PATIENCE
		try:
			while time.monotonic() < end:
				os.write(fd, b"x")
		except BrokenPipeError:
			return
		raise AssertionError("no EPIPE within 2 s")


@both_ways
class SocketpairEndCrosses:
	"""Both directions, and half-close."""

	def give(self, sock):
		mine, other = socket.socketpair()
		pass_fds(sock, b"p", other.detach())
		mine.sendall(b"question")
		mine.shutdown(socket.SHUT_WR)
		expect(receive_all(mine), b"answer")
		expect(receive_all(sock), b"")

	def take(self, sock):
		with socket.socket(fileno=take_fds(sock, b"p")) as other:
			expect(receive_all(other), b"question")
			other.sendall(b"answer")


@both_ways
class SocketpairEndThatIsKeptCrosses:
	"""Half-close is seen though the giver has a copy of it: no close will ever say it."""

	def give(self, sock):
		mine, other = socket.socketpair()
		pass_fds(sock, b"p", os.dup(other.fileno()))
		mine.sendall(b"question")
		mine.shutdown(socket.SHUT_WR)
		expect(receive_all(mine), b"answer")
		sock.sendall(b"seen")
		expect(receive_all(sock), b"")
		other.close()

	def take(self, sock):
		with socket.socket(fileno=take_fds(sock, b"p")) as other:
			expect(receive_all(other), b"question")
			other.sendall(b"answer")
			other.shutdown(socket.SHUT_WR)
			expect(receive(sock, 4), b"seen")


@both_ways
class SocketpairEndWithASmallBufferCrosses:
	"""Its writer, who may wait in send(2) or in poll(2), goes on when what it wrote was read."""

	SIZES = 2304, 8192, 32768, 50000

	def give(self, sock):
		for _ in self.SIZES:
			mine, other = socket.socketpair()
			pass_fds(sock, b"p", other.detach())
			expect(receive_all(mine), pattern(300000))

	def take(self, sock):
		for size in self.SIZES:
			with socket.socket(fileno=take_fds(sock, b"p")) as other:
				other.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, size)
				other.sendall(pattern(100000))
				other.setblocking(False)
				rest = memoryview(pattern(300000))[100000:]
				while rest:
					expect(bool(select.select([], [other], [], 5 * PATIENCE)[1]), True, "room")
					rest = rest[other.send(rest):]


@both_ways
class MessageOverASocketpairEndIsWhole:
	"""Its bytes come with its descriptors, to the last one."""

	def give(self, sock):
		mine, other = socket.socketpair()
		pass_fds(sock, b"p", other.detach())
		for _ in range(20):
			for fd in take_fds(mine, b"a header", 2):
				os.close(fd)
			mine.sendall(b"next")
		expect(receive_all(mine), b"")

	def take(self, sock):
		with socket.socket(fileno=take_fds(sock, b"p")) as other:
			for _ in range(20):
				pass_fds(other, b"a header", *os.pipe())
				receive(other, 4)


@both_ways
class ListeningSocketCrosses:
	"""Clients of the original are accepted over there."""

	together = True  # the end of a twin is noticed within a second

	def give(self, sock):
		listener = socket.socket(socket.AF_UNIX)
		listener.bind(self.directory + "/given")
		listener.listen()
		pass_fds(sock, b"p", listener.detach())
		for i in range(3):
			with socket.socket(socket.AF_UNIX) as caller:
				caller.connect(self.directory + "/given")
				check_echo(caller, pattern(1000, i))

	def take(self, sock):
		with socket.socket(fileno=take_fds(sock, b"p")) as listener:
			for _ in range(3):
				Scenario.echo(listener.accept()[0])


@both_ways
class DevNullCrosses:
	"""The same device, with the same access."""

	def give(self, sock):
		pass_fds(sock, b"p", os.open("/dev/null", os.O_RDWR))
		expect(receive_all(sock), b"")

	def take(self, sock):
		fd = take_fds(sock, b"p")
		expect(os.fstat(fd).st_rdev, os.makedev(1, 3), "device")
		expect(fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE, os.O_RDWR, "mode")


@both_ways
class SharedFileCrosses:
	"""The same file, at the same offset."""

	def give(self, sock):
		with open(self.share + "/file", "w+b", buffering=0) as f:
			f.write(b"0123456789")
			f.seek(4)
			pass_fds(sock, b"p", os.dup(f.fileno()))
			expect(receive_all(sock), b"")
			f.seek(0)
			expect(f.read(), b"012345XY89")

	def take(self, sock):
		with open(take_fds(sock, b"p"), "r+b", buffering=0) as f:
			expect(os.path.realpath(f"/proc/self/fd/{f.fileno()}"), self.share + "/file")
			expect(f.read(2), b"45")
			f.write(b"XY")


@both_ways
class SeveralKindsKeepTheirOrder:
	"""Descriptors of several kinds in one message."""

	def give(self, sock):
		r, w = os.pipe()
		mine, other = socket.socketpair()
		with open(self.share + "/several", "wb") as f:
			pass_fds(sock, b"p", r, os.dup(f.fileno()), other.detach(), os.open("/dev/null", os.O_RDONLY), w)
		expect(receive_all(mine), b"here")
		expect(receive_all(sock), b"")

	def take(self, sock):
		fds = take_fds(sock, b"p", 5)
		kinds = [stat.S_IFMT(os.fstat(fd).st_mode) for fd in fds]
		expect(kinds, [stat.S_IFIFO, stat.S_IFREG, stat.S_IFSOCK, stat.S_IFCHR, stat.S_IFIFO], "kinds")
		os.write(fds[4], b"round")
		expect(os.read(fds[0], 10), b"round")
		os.write(fds[2], b"here")
		for fd in fds:
			os.close(fd)


@both_ways
class DescriptorStaysWithItsByte:
	"""Bytes before it and behind it come without."""

	def give(self, sock):
		sock.sendall(b"ab")
		pass_fds(sock, b"c", os.open("/dev/null", os.O_RDONLY))
		sock.sendall(b"de")
		expect(receive_all(sock), b"")

	def take(self, sock):
		take_fds(sock, b"a", 0)
		take_fds(sock, b"b", 0)
		take_fds(sock, b"c", 1)
		take_fds(sock, b"d", 0)
		take_fds(sock, b"e", 0)


@both_ways
class PipeIsNotOvertaken:
	"""What was written to a passed pipe is there before the message that was sent after it."""

	def give(self, sock):
		r, w = os.pipe()
		pass_fds(sock, b"p", r)
		for i in range(50):
			os.write(w, pattern(1000, i))
			sock.sendall(b"m")
			expect(receive(sock, 1), b"n")

	def take(self, sock):
		fd = take_fds(sock, b"p")
		for i in range(50):
			expect(receive(sock, 1), b"m")
			expect(queued(fd), 1000, "bytes in the pipe")
			expect(os.read(fd, 1000), pattern(1000, i))
			sock.sendall(b"n")


@both_ways
class Descriptors253CrossAtOnce:
	"""As many as one message may carry, with a single byte: none is lost, doubled or moved."""

	def give(self, sock):
		ends = [os.pipe() for _ in range(253)]
		pass_fds(sock, b"p", *(r for r, _ in ends))
		for i, (_, w) in enumerate(ends):
			os.write(w, b"%d" % i)
			os.close(w)
		expect(receive_all(sock), b"")

	def take(self, sock):
		for i, fd in enumerate(take_fds(sock, b"p", 253)):
			with open(fd, "rb") as f:
				expect(f.read(), b"%d" % i)


@both_ways
class NonblockingDescriptorStaysSo:
	"""What is to be done without waiting says EAGAIN, and what is not does not: of pipes, sockets and listening sockets."""

	together = True  # the end of a twin is noticed within a second

	@staticmethod
	def one_of_each():
		r, w = os.pipe()
		keep = [*os.pipe()]
		pairs = [socket.socketpair(socket.AF_UNIX, kind) for kind in
			 (socket.SOCK_STREAM, socket.SOCK_SEQPACKET, socket.SOCK_DGRAM)]
		listener = socket.socket(socket.AF_UNIX)
		listener.bind("")	# the kernel chooses a name
		listener.listen()
		given = [r, keep[1], *(b.detach() for _, b in pairs), listener.detach()]
		return given, (w, keep[0], *(a.detach() for a, _ in pairs))

	def give(self, sock):
		for blocking in True, False, True:
			given, kept = self.one_of_each()
			for fd in given:
				os.set_blocking(fd, blocking)
			pass_fds(sock, b"p", *given)
			expect(receive(sock, 1), b"k")
			for fd in kept:
				os.close(fd)

	def take(self, sock):
		for blocking in True, False, True:
			fds = take_fds(sock, b"p", 6)
			expect([os.get_blocking(fd) for fd in fds], [blocking] * 6)
			if not blocking:
				with socket.socket(fileno=os.dup(fds[5])) as listener:
					try:
						listener.accept()
						raise AssertionError("somebody was accepted")
					except BlockingIOError:
						pass
			for fd in fds:
				os.close(fd)
			sock.sendall(b"k")
