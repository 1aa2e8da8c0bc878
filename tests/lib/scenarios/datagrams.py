# SPDX-License-Identifier: Apache-2.0
"""SOCK_DGRAM: connected, and with an address in each message."""

import array
import ctypes
import errno
import logging.handlers
import os
import select
import signal
import socket
import struct
import subprocess
import time

from .scenario import MIB, PATIENCE, Scenario, at_once, expect, pattern, within

LIBC = ctypes.CDLL(None, use_errno=True)
GOING_AWAY = 2  # seconds within which a server's end has crossed


def error_of(function, *args):
	"""The errno's name, exactly as the system call gives it."""
	try:
		function(*args)
	except OSError as e:
		return errno.errorcode[e.errno]
	return "none"


class Datagrams(Scenario):
	# A server that is bound, and clients. None have a timeout: for Python that would be another kind of socket.
	socktype = socket.SOCK_DGRAM

	def listen(self, address=None):
		address = address or self.address
		sock = socket.socket(socket.AF_UNIX, self.socktype)
		sock.bind(address)
		if not address.startswith("\0"):
			os.chmod(address, self.mode)
		return sock

	def socket(self, name=None):
		sock = socket.socket(socket.AF_UNIX, self.socktype)
		if name:
			sock.bind(name)
		return sock

	def connect(self, name=None):
		sock = self.socket(name)
		sock.connect(self.address)
		return sock


# ---- connect(2) and send(2) --------------------------------------------------------------------


class DatagramsKeepBoundaries(Datagrams):
	"""What a connected SOCK_DGRAM socket sends arrives as it was sent, in order, and from nobody by name."""

	sizes = [1, 0, 3000, 0, 0, 100000, 7, 131072, 2]

	def server(self, listener):
		for n in self.sizes:
			expect(listener.recvfrom(MIB), (pattern(n), None))

	def client(self):
		sock = self.connect()
		for n in self.sizes:
			sock.send(pattern(n))


class DatagramsAnsweredToAPath(Datagrams):
	"""A client that is bound to a path gets answers, from the server's own name."""

	@staticmethod
	def own_name(directory):
		return directory + "/client"

	def server(self, listener):
		for _ in range(4):
			data, name = listener.recvfrom(MIB)
			listener.sendto(data[::-1], name)

	def client(self):
		sock = self.connect(self.own_name(self.directory))
		for data in b"question", b"", pattern(100000), b"another":
			sock.send(data)
			expect(sock.recvfrom(MIB), (data[::-1], self.address))


class DatagramsAnsweredToAnAbstractName(DatagramsAnsweredToAPath):
	"""So does one that has an abstract name."""

	@staticmethod
	def own_name(directory):
		return "\0" + directory + "/client"


class DatagramsAnsweredToTheKernelsName(DatagramsAnsweredToAPath):
	"""So does one that the kernel has named when it was connected."""

	def connect(self, name=None):
		sock = self.socket()
		sock.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
		sock.connect(self.address)
		expect(os.fsencode(sock.getsockname())[:1], b"\0")
		return sock


class DatagramsShowNames(Datagrams):
	"""getpeername is the server's name as asked for, and a client's own stays as it is."""

	def server(self, listener):
		for _ in range(2):
			listener.recv(10)

	def client(self):
		for name in None, self.directory + "/own":
			sock = self.connect(name)
			expect((os.fsencode(sock.getpeername()), sock.getsockname()), (self.address.encode(), name or ""))
			sock.send(b"x")


class DatagramsShowAbstractNames(DatagramsShowNames):
	"""The same of an abstract name."""

	@staticmethod
	def address_in(directory):
		return "\0" + directory


class DatagramsToAPathOf107Bytes(DatagramsShowNames):
	"""The same of the longest path."""

	@staticmethod
	def address_in(directory):
		return (directory + "/").ljust(107, "s")


class DatagramsGoElsewhere(Datagrams):
	"""A connected socket is connected to another server, and then to none."""

	def server(self, listener):
		second = self.listen(self.directory + "/second")
		expect(listener.recv(10), b"first")
		expect(second.recv(10), b"second")

	def client(self):
		sock = self.connect()
		sock.send(b"first")
		while error_of(sock.connect, self.directory + "/second") != "none":
			time.sleep(0.01)
		sock.send(b"second")
		nobody = struct.pack("H", socket.AF_UNSPEC)
		expect(LIBC.connect(sock.fileno(), nobody, len(nobody)), 0)
		expect(error_of(sock.send, b"x"), "ENOTCONN")


class DatagramsToAClosedServerEconnrefused(Datagrams):
	"""Once; then ENOTCONN, and the socket is connected anew when the server is back, as with a log daemon."""

	def server(self, listener):
		expect(listener.recv(10), b"close")
		listener.close()
		os.unlink(self.address)
		again = self.listen()
		while again.recv(10) != b"end":
			pass

	def client(self):
		sock = self.connect()
		sock.send(b"close")
		began = time.monotonic()
		while (error := error_of(sock.send, b"")) == "none":
			within(GOING_AWAY, began, "what the server has closed")
			time.sleep(0.01)
		expect(error, "ECONNREFUSED")
		expect(error_of(sock.send, b"x"), "ENOTCONN")
		while (error := error_of(sock.connect, self.address)) in ("ENOENT", "ECONNREFUSED"):
			time.sleep(0.01)
		expect(error, "none")
		sock.send(b"end")


class DatagramsPastAFullQueueAreEagain(Datagrams):
	"""Without blocking, when nobody reads; poll says when there is room; nothing is lost."""

	def server(self, listener):
		count = int(self.control.recv(10))
		for n in range(count):
			expect(listener.recv(2000), b"%d" % n + bytes(1000))
		expect(listener.recv(2000), b"after")

	def listen(self, address=None):
		if not address:
			self.control = super().listen(self.directory + "/control")
		return super().listen(address)

	def client(self):
		sock, control = self.connect(), self.socket()
		sock.setblocking(False)
		poll, count = select.poll(), 0
		poll.register(sock, select.POLLOUT)
		while True:
			error = error_of(sock.send, b"%d" % count + bytes(1000))
			count += error == "none"
			if error != "none" and not poll.poll(300 * PATIENCE):
				break
		expect(error, "EAGAIN")
		control.sendto(b"%d" % count, self.directory + "/control")
		expect(poll.poll(10000 * PATIENCE), [(sock.fileno(), select.POLLOUT)], "events")
		sock.setblocking(True)
		sock.send(b"after")


class DatagramsWaitForASlowServer(Datagrams):
	"""A send that may block does, and nothing is lost."""

	count = 300

	def server(self, listener):
		for n in range(self.count):
			expect(listener.recv(100000), pattern(50000 + n))
			time.sleep(0.001)

	def client(self):
		sock = self.connect()
		for n in range(self.count):
			sock.send(pattern(50000 + n))


class DatagramsOfAChild(Datagrams):
	"""A connected socket lives on in a child."""

	def server(self, listener):
		expect([listener.recv(10) for _ in range(2)], [b"parent", b"child"])

	def client(self):
		sock = self.connect()
		sock.send(b"parent")
		r, w = os.pipe()
		child = os.fork()
		if not child:
			os.close(w)
			os.read(r, 1)
			sock.send(b"child")
			os._exit(0)
		sock.close()
		os.close(w)
		expect(os.waitpid(child, 0)[1], 0)


class DatagramsCarryDescriptors(Datagrams):
	"""Descriptors come with their datagram, an empty one, too."""

	def server(self, listener):
		for data in b"pipe", b"", b"pipe":
			found, fds, _, _ = socket.recv_fds(listener, 100, 10, socket.MSG_CMSG_CLOEXEC)
			expect((found, len(fds)), (data, 1))
			with open(fds[0], "rb") as f:
				expect(f.read(), b"through it")

	def send(self, sock, data, fd):
		socket.send_fds(sock, [data], [fd])

	def client(self):
		sock = self.connect()
		for data in b"pipe", b"", b"pipe":
			r, w = os.pipe()
			self.send(sock, data, r)
			os.close(r)
			os.write(w, b"through it")
			os.close(w)


class DatagramsHaveCredentialsOfRoot(Datagrams):
	"""SCM_CREDENTIALS of each, connected or not."""

	uid = 0

	def listen(self, address=None):
		sock = super().listen(address)
		sock.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
		return sock

	def server(self, listener):
		for _ in range(2):
			data, control, _, _ = listener.recvmsg(100, 100)
			expect((data, struct.unpack("iII", control[0][2])[1:]), (b"x", (self.uid, self.uid)))

	def client(self):
		self.connect().send(b"x")
		self.socket().sendto(b"x", self.address)


class DatagramsHaveCredentialsOfUid1000(DatagramsHaveCredentialsOfRoot):
	"""And those of a client that is not root."""

	uid = 1000


# ---- sendto(2), sendmsg(2), sendmmsg(2) ----------------------------------------------------------


class SendtoKeepsOrder(Datagrams):
	"""sendto reaches a server, message by message."""

	sizes = [5, 0, 3000, 100000, 1, 131072, 2] + [3] * 40

	def server(self, listener):
		for n in self.sizes:
			expect(listener.recvfrom(MIB), (pattern(n), None))

	def client(self):
		sock = self.socket()
		for n in self.sizes:
			expect(sock.sendto(pattern(n), self.address), n)
		expect(error_of(sock.getpeername), "ENOTCONN")


class SendtoAnAbstractName(SendtoKeepsOrder):
	"""The same to an abstract name."""

	@staticmethod
	def address_in(directory):
		return "\0" + directory


class SendtoAPathOf107Bytes(SendtoKeepsOrder):
	"""The same to the longest path."""

	@staticmethod
	def address_in(directory):
		return (directory + "/").ljust(107, "s")


class SendtoWaitsForRoom(DatagramsPastAFullQueueAreEagain):
	"""As long as it may: for ever, until SO_SNDTIMEO, or not at all."""

	pause = 0.2

	def server(self, listener):
		count = int(self.control.recv(10))
		for n in range(count):
			expect(listener.recv(10), b"%d" % n)
			time.sleep(self.pause * (n == 0))
		expect(listener.recv(10), b"waits")

	def client(self):
		sock, count = self.socket(), 0
		while (error := error_of(sock.sendto, b"%d" % count, socket.MSG_DONTWAIT, self.address)) == "none":
			count += 1
		expect(error, "EAGAIN")
		sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", 0, 300000))
		began = time.monotonic()
		expect(error_of(sock.sendto, b"x", self.address), "EAGAIN")
		expect(time.monotonic() - began >= 0.3, True, "that it waits:")
		within(1, began, "a wait of 0.3 s")
		sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", 0, 0))
		self.socket().sendto(b"%d" % count, self.directory + "/control")
		sock.sendto(b"waits", self.address)


class SendtoIsInterrupted(SendtoWaitsForRoom):
	"""A signal ends the wait for room, unless its handler has SA_RESTART; with SO_SNDTIMEO even then."""

	pause = 1  # the signal comes before

	def client(self):
		sock, count = self.socket(), 0
		while error_of(sock.sendto, b"%d" % count, socket.MSG_DONTWAIT, self.address) == "none":
			count += 1
		name = struct.pack("H", socket.AF_UNIX) + self.address.encode()

		def send_with_alarm(data):
			signal.setitimer(signal.ITIMER_REAL, 0.3, 0.3)	# the first may come before the wait
			n = LIBC.sendto(sock.fileno(), data, len(data), 0, name, len(name))
			error = ctypes.get_errno()
			signal.setitimer(signal.ITIMER_REAL, 0)
			return n if n >= 0 else errno.errorcode[error]

		signal.signal(signal.SIGALRM, lambda *_: None)
		expect(send_with_alarm(b"x"), "EINTR")
		signal.siginterrupt(signal.SIGALRM, False)
		sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", 100, 0))
		expect(send_with_alarm(b"x"), "EINTR")
		sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", 0, 0))
		self.socket().sendto(b"%d" % count, self.directory + "/control")
		expect(send_with_alarm(b"waits"), 5)


class SendmsgGathersPieces(Datagrams):
	"""A few, and as many as there may be."""

	def server(self, listener):
		for data in b"one", b"onetwo", pattern(1024):
			expect(listener.recv(5000), data)

	def client(self):
		sock = self.socket()
		for pieces in [b"one"], [b"", b"one", b"two"], [bytes([b]) for b in pattern(1024)]:
			expect(sock.sendmsg(pieces, [], 0, self.address), sum(map(len, pieces)))


class SendmsgCarriesDescriptors(DatagramsCarryDescriptors):
	"""Descriptors come with a datagram that has an address."""

	def send(self, sock, data, fd):
		rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [fd]))]
		expect(self.socket().sendmsg([data], rights, 0, self.address), len(data))


class Iovec(ctypes.Structure):
	_fields_ = [("base", ctypes.c_char_p), ("len", ctypes.c_size_t)]


class Msghdr(ctypes.Structure):
	_fields_ = [("name", ctypes.c_char_p), ("namelen", ctypes.c_uint32), ("iov", ctypes.POINTER(Iovec)),
		    ("iovlen", ctypes.c_size_t), ("control", ctypes.c_void_p), ("controllen", ctypes.c_size_t),
		    ("flags", ctypes.c_int)]


class Mmsghdr(ctypes.Structure):
	_fields_ = [("hdr", Msghdr), ("len", ctypes.c_uint)]


class SendmmsgSaysHowManyWent(Datagrams):
	"""To several servers, up to the first that is not there."""

	def listen(self, address=None):
		if not address:
			self.second = super().listen(self.directory + "/second")
		return super().listen(address)

	def server(self, listener):
		expect([listener.recv(10) for _ in range(3)], [b"a", b"ccc", b"dddd"])
		expect(self.second.recv(10), b"bb")

	def client(self):
		second, none = self.directory + "/second", self.directory + "/none"
		wanted = [(self.address, b"a"), (second, b"bb"), (self.address, b"ccc"), (self.address, b"dddd"), (none, b"e")]
		msgs = (Mmsghdr * len(wanted))(*(Mmsghdr(Msghdr(
			struct.pack("H", socket.AF_UNIX) + name.encode(), 2 + len(name), ctypes.pointer(Iovec(data, len(data))), 1))
			for name, data in wanted))
		fd = self.socket().detach()
		ctypes.set_errno(77)
		expect((LIBC.sendmmsg(fd, msgs, len(wanted), 0), ctypes.get_errno()), (4, 77))
		expect([msg.len for msg in msgs], [1, 2, 3, 4, 0])
		last = ctypes.byref(msgs, 4 * ctypes.sizeof(Mmsghdr))
		expect((LIBC.sendmmsg(fd, last, 1, 0), ctypes.get_errno()), (-1, errno.ENOENT))


class SendtoOfEightThreads(Datagrams):
	"""Each with a connected socket and one that is not."""

	def server(self, listener):
		found = sorted(listener.recv(100) for _ in range(400))
		expect(found, sorted(b"%d %d" % (i, n) for i in range(8) for n in range(50)))

	def client(self):
		def work(i):
			connected, free = self.connect(), self.socket()
			for n in range(50):
				if n % 2:
					connected.send(b"%d %d" % (i, n))
				else:
					free.sendto(b"%d %d" % (i, n), self.address)

		at_once(*[lambda i=i: work(i) for i in range(8)])


# ---- what cannot be ------------------------------------------------------------------------------


class DatagramsAreRefusedAsLocally(Datagrams):
	"""connect and sendto: ENOENT, ECONNREFUSED, EPROTOTYPE, EPERM, EMSGSIZE."""

	def listen(self, address=None):
		if not address:
			super().listen(self.directory + "/closed").close()
			self.stream = socket.socket(socket.AF_UNIX)
			self.stream.bind(self.directory + "/stream")
			os.chmod(self.directory + "/stream", 0o777)
			self.stream.listen()
			self.taken = super().listen(self.directory + "/taken")
		sock = super().listen(address)
		self.taken.connect(self.address)
		return sock

	def server(self, listener):
		listener.recv(10)

	def client(self):
		sock = self.socket()
		for name, wanted in (("/none", "ENOENT"), ("/closed", "ECONNREFUSED"), ("/stream", "EPROTOTYPE"),
				     ("/taken", "EPERM"), ("/none/none", "ENOENT")):
			name = self.directory + name
			for error in error_of(sock.connect, name), error_of(sock.sendto, b"x", name):
				expect((name, error), (name, wanted))
		expect(error_of(sock.sendto, b"x", "\0" + self.directory), "ECONNREFUSED")
		expect(error_of(sock.sendto, bytes(300000), self.address), "EMSGSIZE")
		expect(error_of(sock.sendto, b"x", "relative"), "ENOENT")
		with socket.socket(socket.AF_UNIX) as stream:
			expect(error_of(stream.sendto, b"x", self.address), errno.errorcode[errno.EOPNOTSUPP])
		sock.sendto(b"x", self.address)


class DatagramsWithoutPermissionAreEacces(Datagrams):
	"""The client's user may not write to the socket."""

	mode, uid = 0o700, 1000

	def server(self, listener):
		pass

	def client(self):
		sock = self.socket()
		expect(error_of(sock.connect, self.address), "EACCES")
		expect(error_of(sock.sendto, b"x", self.address), "EACCES")


# ---- programs ------------------------------------------------------------------------------------


class SystemdNotifyTellsItsSupervisor(Datagrams):
	"""systemd-notify, which passes a descriptor and waits until the supervisor has closed it."""

	def server(self, listener):
		expect(listener.recv(100), b"READY=1\nSTATUS=up")
		data, fds, _, _ = socket.recv_fds(listener, 100, 10)
		expect((data, len(fds)), (b"BARRIER=1", 1))
		os.close(fds[0])

	def client(self):
		address = self.address.replace("\0", "@")
		done = subprocess.run(["systemd-notify", "--ready", "--status=up"], stderr=subprocess.PIPE, check=False, env={
			**os.environ, "NOTIFY_SOCKET": address, "UDSPROXY_QUIET": "1"})
		expect((done.returncode, done.stderr), (0, b""))


class SystemdNotifyTellsAnAbstractName(SystemdNotifyTellsItsSupervisor):
	"""The same with a supervisor that has an abstract name."""

	@staticmethod
	def address_in(directory):
		return "\0" + directory


class LogDaemonIsReachedAfterItsRestart(Datagrams):
	"""logger(1), and Python's SysLogHandler, which connects anew when it is refused."""

	def server(self, listener):
		expect(listener.recv(1000).split(b": ")[-1], b"from logger")
		expect(listener.recv(1000), b"<14>from Python\0")
		listener.close()
		os.unlink(self.address)
		again = self.listen()
		while (found := again.recv(1000)) != b"<14>end\0":
			expect(found, b"<14>again\0")

	def client(self):
		subprocess.run(["logger", "--socket", self.address, "--tag", "tag", "from logger"], check=True)
		handler = logging.handlers.SysLogHandler(self.address)
		log = logging.getLogger("test")
		log.setLevel(logging.INFO)
		log.addHandler(handler)
		failed = []
		handler.handleError = failed.append
		log.info("from Python")
		first, began = handler.socket, time.monotonic()
		while handler.socket is first:
			within(10, began, "to be refused")
			log.info("again")
			time.sleep(0.01)
		failed.clear()
		log.info("end")
		expect(failed, [])
