# SPDX-License-Identifier: Apache-2.0
"""connect(2): what it says, how fast, and what it leaves the descriptor in."""

import ctypes
import errno
import fcntl
import os
import select
import socket
import statistics
import struct
import threading
import time

from proxypair import wait_for

from .scenario import (PATIENCE, Scenario, at_once, check_echo, expect, failing_connect, pattern, receive)

LIBC = ctypes.CDLL(None, use_errno=True)


class Refusal(Scenario):
	# What all of these have in common: the errno is the local one, and takes less than 5 ms.
	error = ""

	def target(self):
		return self.address

	def client(self):
		sock = socket.socket(socket.AF_UNIX, self.socktype)
		target, times = self.target(), []
		for _ in range(51):
			start = time.monotonic()
			expect(failing_connect(sock, target), self.error)
			times.append(time.monotonic() - start)
		if statistics.median(times) > 0.005 * PATIENCE:
			raise AssertionError(f"it takes {statistics.median(times) * 1000:.1f} ms")


class NoSocketIsEnoentIn5Ms(Refusal):
	"""Nothing has this name."""

	error = "ENOENT"

	def target(self):
		return self.directory + "/none"


class NoDirectoryIsEnotdir(Refusal):
	"""A file stands where the name has a directory."""

	error = "ENOTDIR"

	def target(self):
		return self.address + "/s"


class NoListenerIsEconnrefusedIn5Ms(Refusal):
	"""The socket is there, and nobody listens on it any more."""

	error = "ECONNREFUSED"

	def listen(self, address=None):
		with super().listen(address):
			return None


class NoSocketFileIsEconnrefused(NoListenerIsEconnrefusedIn5Ms):
	"""There is a file of the name, but no socket."""

	def listen(self, address=None):
		with open(self.address, "wb"):
			os.chmod(self.address, 0o777)


class NoAbstractNameIsEconnrefused(Refusal):
	"""Nobody has this abstract name."""

	error = "ECONNREFUSED"

	def target(self):
		return "\0" + self.directory


class NoPermissionIsEaccesIn5Ms(Refusal):
	"""The client's user may not write to the socket."""

	mode, uid, error = 0o700, 1000, "EACCES"


class NoWayThereIsEacces(Refusal):
	"""The client's user may not enter its directory."""

	uid, error = 1000, "EACCES"

	def target(self):
		return self.directory + "/closed/s"

	def listen(self, address=None):
		os.mkdir(self.directory + "/closed", 0o700)
		return super().listen(self.target())


class WrongTypeIsEprototype(Refusal):
	"""A SOCK_SEQPACKET client of a SOCK_STREAM server."""

	error = "EPROTOTYPE"

	def client(self):
		self.socktype = socket.SOCK_SEQPACKET
		super().client()


class RefusedDescriptorConnectsLater(Scenario):
	"""The same descriptor is tried again until the server is there, as libvirt and QEMU do."""

	def server(self, listener):
		late = self.directory + "/late"
		with listener.accept()[0] as sock:
			expect(receive(sock, 6), b"refuse")
			second = socket.socket(socket.AF_UNIX)
			second.bind(late)
			sock.sendall(b"done")
			expect(receive(sock, 6), b"listen")
			second.listen()
			sock.sendall(b"done")
		self.echo(second.accept()[0])

	def client(self):
		late = self.directory + "/late"
		sock = socket.socket(socket.AF_UNIX)
		with self.connect() as control:
			for what, error in (b"refuse", "ENOENT"), (b"listen", "ECONNREFUSED"):
				for _ in range(3):
					expect(failing_connect(sock, late), error)
				control.sendall(what)
				expect(receive(control, 4), b"done")
		sock.connect(late)
		check_echo(sock)


class ConnectedDescriptorIsEisconn(Scenario):
	"""A descriptor is connected once."""

	def client(self):
		sock = self.connect()
		expect(failing_connect(sock, self.address), "EISCONN")
		check_echo(sock)


class NonblockingConnectSucceeds(Scenario):
	"""At once, or when the descriptor becomes writable."""

	def client(self):
		sock = socket.socket(socket.AF_UNIX)
		sock.setblocking(False)
		try:
			sock.connect(self.address)
		except BlockingIOError:
			select.select([], [sock], [], 10)
			expect(sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR), 0, "SO_ERROR")
		sock.sendall(b"hello")
		select.select([sock], [], [], 10)
		expect(sock.recv(10), b"hello")


class FullBacklogWaitsForAPlace(Scenario):
	"""More clients than the backlog takes, of a server that is late: all are served."""

	endless = True

	def listen(self, address=None):
		sock = super().listen()
		sock.listen(1)
		return sock

	def server(self, listener):
		time.sleep(0.3)
		super().server(listener)

	def client(self):
		def use():
			with self.connect() as sock:
				check_echo(sock)

		at_once(*[use] * 10)


class DescriptorStaysWhatItWas(Scenario):
	"""Number, flags, options and epoll registration outlive the connect."""

	def client(self):
		sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
		sock.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
		sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 40000)
		epoll = select.epoll()
		epoll.register(sock, select.EPOLLIN)

		def state():
			return (os.fstat(sock.fileno()).st_ino, fcntl.fcntl(sock, fcntl.F_GETFL),
				fcntl.fcntl(sock, fcntl.F_GETFD),
				sock.getsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED),
				sock.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF), os.listdir("/proc/self/fd"))

		before = state()
		sock.connect(self.address)
		expect(state(), before, "state")
		sock.sendall(b"hello")
		wait_for(lambda: epoll.poll(1) == [(sock.fileno(), select.EPOLLIN)])
		expect(sock.recv(10), b"hello")


class ConnectedDescriptorIsEisconnElsewhere(Scenario):
	"""Also for another server; but where nobody listens it is ENOENT."""

	endless = True
	silent = False	# the other server is connected to, to no purpose

	def server(self, listener):
		other = self.listen(self.directory + "/other")
		threading.Thread(target=super().server, args=[listener], daemon=True).start()
		super().server(other)

	def client(self):
		sock = self.connect()
		check_echo(sock)
		expect(failing_connect(sock, self.directory + "/other"), "EISCONN")
		expect(failing_connect(sock, self.directory + "/none"), "ENOENT")
		check_echo(sock)


class GetpeernameIsAsAskedFor(Scenario):
	"""The name that the client gave to connect(2); and the server sees the same socket as ever."""

	def client(self):
		for _ in range(3):
			sock = self.connect()
			expect((sock.getpeername(), sock.getsockname()), (self.address, ""))
			expect([sock.getsockopt(socket.SOL_SOCKET, option) for option in
				(socket.SO_DOMAIN, socket.SO_TYPE, socket.SO_ACCEPTCONN, socket.SO_ERROR)],
			       [socket.AF_UNIX, self.socktype, 0, 0], "options")


class GetpeernameOfPackets(GetpeernameIsAsAskedFor):
	"""The same of SOCK_SEQPACKET."""

	socktype = socket.SOCK_SEQPACKET


class GetpeernameOf107Bytes(GetpeernameIsAsAskedFor):
	"""The same of the longest path."""

	@staticmethod
	def address_in(directory):
		return (directory + "/").ljust(107, "s")


class GetpeernameOfAbstractName(Scenario):
	"""The same of an abstract name, of which a program may ask the length; such a descriptor is EISCONN, too."""

	@staticmethod
	def address_in(directory):
		return "\0" + directory

	def client(self):
		sock = self.connect()
		name, size = ctypes.create_string_buffer(200), ctypes.c_uint32(200)
		expect(LIBC.getpeername(sock.fileno(), name, ctypes.byref(size)), 0)
		expect(name.raw[:size.value], struct.pack("H", socket.AF_UNIX) + self.address.encode())
		size.value = 0
		expect(LIBC.getpeername(sock.fileno(), None, ctypes.byref(size)), 0)
		expect(size.value in (2 + len(self.address), 3 + len(self.address)), True, size.value)
		expect(failing_connect(sock, self.address), "EISCONN")
		check_echo(sock)


class PathOf107Bytes(Scenario):
	"""The longest that connect(2) takes."""

	@staticmethod
	def address_in(directory):
		return (directory + "/").ljust(107, "s")

	def client(self):
		check_echo(self.connect())


class PathOf108Bytes(Scenario):
	"""The longest there is, with no NUL behind it; such a descriptor is EISCONN, too."""

	@staticmethod
	def address_in(directory):
		return (directory + "/").ljust(108, "s")

	def named(self, function, sock):
		name = struct.pack("H", socket.AF_UNIX) + self.address.encode()
		return ctypes.get_errno() if function(sock.fileno(), name, len(name)) else 0

	def listen(self, address=None):
		sock = socket.socket(socket.AF_UNIX)
		expect(self.named(LIBC.bind, sock), 0)
		os.chmod(self.address, self.mode)
		sock.listen()
		return sock

	def client(self):
		sock = socket.socket(socket.AF_UNIX)
		expect(self.named(LIBC.connect, sock), 0)
		check_echo(sock)
		expect(self.named(LIBC.connect, sock), errno.EISCONN)
		check_echo(sock)


class AbstractName(Scenario):
	"""A name that is in no directory, taken by its length: more NULs make another."""

	@staticmethod
	def address_in(directory):
		return "\0" + directory

	def client(self):
		check_echo(self.connect())
		for other in self.address + "\0", self.address[:-1]:
			expect(failing_connect(socket.socket(socket.AF_UNIX), other), "ECONNREFUSED")


class AbstractNameOf107Bytes(AbstractName):
	"""The longest such name, with a NUL in it."""

	@staticmethod
	def address_in(directory):
		return ("\0" + directory + "\0").ljust(108, "s")

	def client(self):
		check_echo(self.connect())


class ThreadsConnectAtOnce(Scenario):
	"""Eight threads of one program that connect and talk at the same time."""

	def client(self):
		def work():
			for _ in range(25):
				with self.connect() as sock:
					check_echo(sock, pattern(5000))

		at_once(*[work] * 8)


class ForkedChildKeepsConnection(Scenario):
	"""A forked child goes on with its parent's connection, and makes its own."""

	def client(self):
		sock = self.connect()
		child = os.fork()
		if child == 0:
			check_echo(sock)
			check_echo(self.connect())
			os._exit(0)
		sock.close()
		expect(os.waitpid(child, 0)[1], 0, "status")


class ThreadOfAForkConnects(Scenario):
	"""So does a thread that such a child makes, while threads of the parent connect."""

	def client(self):
		go = threading.Event()

		def work():
			while not go.is_set():
				with self.connect() as sock:
					check_echo(sock)

		threads = [threading.Thread(target=work) for _ in range(4)]
		for thread in threads:
			thread.start()
		for _ in range(5):
			child = os.fork()
			if child == 0:
				at_once(*[lambda: check_echo(self.connect())] * 2)
				os._exit(0)
			expect(os.waitpid(child, 0)[1], 0, "status")
		go.set()
		for thread in threads:
			thread.join()
