# SPDX-License-Identifier: Apache-2.0
"""Both ends of proxied connections in one test program.

The sockets of a proxypair Side are reached through /proc/PID/root, so a test can be the client on
one side and the server on the other, and compare what it wrote with what it reads. It asks
udsproxyd itself, as common/proxyclient.c does, and can therefore do what no well-behaved client would.
"""

import array
import collections
import contextlib
import errno
import fcntl
import hashlib
import os
import select
import socket
import struct
import termios
import time

from proxypair import wait_for

MAGIC, VERSION, CONNECT, CROSSES = 0x55445351, 2, 1, 2
LIMIT = 15  # seconds that any single wait may take


class Refused(OSError):
	"""udsproxyd said no: errno, and its reason as strerror."""


def request(name, op=CONNECT, flags=0):
	"""A request's bytes."""
	name = os.fsencode(name)
	return struct.pack(">IHHHI", MAGIC, VERSION, op, flags, len(name)) + name


class Request:
	"""A private connection with a request on it, and the socket that is to be connected."""

	def __init__(self, side, name, socktype=socket.SOCK_STREAM, place=None):
		self.sock = socket.socket(socket.AF_UNIX, socktype)
		self.sock.settimeout(LIMIT)
		self.private = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
		self.private.settimeout(LIMIT)
		self.private.connect((place or side.outside("")) + side.runtime + "/udsproxyd.sock")
		socket.send_fds(self.private, [request(name)], [self.sock.fileno()])

	def answer(self):
		"""The socket, connected; raises Refused."""
		with self.private:
			packet = self.private.recv(4096)
		if not packet:
			raise Refused(errno.ENOTCONN, "udsproxyd ended")
		error = struct.unpack(">IHH", packet[:8])[2]
		if error:
			raise Refused(error, packet[12:].decode())
		return self.sock


def connect(side, name, socktype=socket.SOCK_STREAM, place=None):
	"""A connection from this side to the other's socket."""
	return Request(side, name, socktype, place).answer()


def connect_as(side, name, uid, gid=None, groups=(), socktype=socket.SOCK_STREAM):
	"""The same, asked for by another user; the socket of its own that speaks for that user is
	only used by us, so credentials of messages are those of `send_as`."""
	ours, theirs = socket.socketpair()
	place = os.open(side.outside("/"), os.O_PATH)
	child = os.fork()
	if not child:
		status = 1
		try:
			become(uid, gid, groups)
			sock = connect(side, name, socktype, f"/proc/self/fd/{place}")
			socket.send_fds(theirs, [b"s"], [sock.fileno()])
			status = 0
		except OSError as e:
			theirs.send(struct.pack(">cH", b"e", e.errno or 0) + str(e.strerror).encode())
		finally:
			os._exit(status)
	os.close(place)
	theirs.close()
	with ours:
		data, fds, _, _ = socket.recv_fds(ours, 1000, 1)
	os.waitpid(child, 0)
	if not fds:
		raise Refused(struct.unpack(">H", data[1:3])[0], data[3:].decode())
	sock = socket.socket(fileno=fds[0])
	sock.settimeout(LIMIT)
	return sock


def become(uid, gid=None, groups=()):
	gid = uid if gid is None else gid
	os.setgroups(groups)
	os.setresgid(gid, gid, gid)
	os.setresuid(uid, uid, uid)


def listen(side, name, socktype=socket.SOCK_STREAM, mode=0o777):
	"""A server's socket on this side."""
	sock = socket.socket(socket.AF_UNIX, socktype)
	sock.bind(side.outside(name))
	os.chmod(side.outside(name), mode)
	sock.listen(4096)
	sock.settimeout(LIMIT)
	return sock


def accept(listener):
	sock = listener.accept()[0]
	sock.settimeout(LIMIT)
	return sock


class Wire:
	"""A server on one side, for connections from the other: client, server = wire()."""

	number = 0

	def __init__(self, client, server, socktype=socket.SOCK_STREAM):
		Wire.number += 1
		self.side, self.socktype = client, socktype
		self.name = f"{server.own}/wire{Wire.number}"
		self.listener = listen(server, self.name, socktype)

	def __call__(self):
		sock = connect(self.side, self.name, self.socktype)
		return sock, accept(self.listener)


def send_fds(sock, fds, data=b"p"):
	"""Send these and close them."""
	socket.send_fds(sock, [data], fds)
	for fd in fds:
		os.close(fd)


def receive_fds(sock, n=1, data=b"p"):
	"""The n descriptors that come with this data; one is given as such."""
	found, fds, flags, _ = socket.recv_fds(sock, len(data), 253, socket.MSG_CMSG_CLOEXEC)
	if (found, len(fds), flags & socket.MSG_CTRUNC) != (data, n, 0):
		raise AssertionError(f"{found!r} with {len(fds)} descriptors, flags {flags:#x}")
	return fds if n != 1 else fds[0]


def receive(sock, n):
	"""Exactly n bytes, or what there is up to the end."""
	data = bytearray()
	while len(data) < n and (more := sock.recv(min(n - len(data), 1 << 20))):
		data += more
	return bytes(data)


def read_all(fd, limit=LIMIT):
	"""All that comes from a pipe up to its end."""
	data = bytearray()
	while readable(fd, limit):
		more = os.read(fd, 1 << 20)
		if not more:
			return bytes(data)
		data += more
	raise TimeoutError(f"no end after {len(data)} bytes")


def readable(fd, seconds):
	return select.select([fd], [], [], seconds)[0]


def ended(sock, seconds=LIMIT):
	"""How the other end's end shows: "EOF", the name of an errno, "data" or "nothing"."""
	sock.settimeout(seconds)
	try:
		return "data" if sock.recv(1) else "EOF"
	except TimeoutError:
		return "nothing"
	except OSError as e:
		return errno.errorcode[e.errno]


def queued(fd):
	"""Bytes that can be read."""
	n = array.array("i", [0])
	fcntl.ioctl(fd, termios.FIONREAD, n)
	return n[0]


def pattern(n, seed=0):
	"""n bytes in which nothing can be lost, doubled or moved unseen."""
	return hashlib.shake_128(str(seed).encode()).digest(n)


def refusal(function, *args, **options):
	"""The errno's name, the reason, and the seconds that it took; raises when it is not refused."""
	start = time.monotonic()
	try:
		function(*args, **options)
	except OSError as e:
		return errno.errorcode.get(e.errno, e.errno), e.strerror, time.monotonic() - start
	raise AssertionError("it was not refused")


def works(wire):
	"""Does a new connection carry a byte each way?"""
	client, server = wire()
	with client, server:
		client.sendall(b"a")
		server.sendall(server.recv(1) + b"b")
		return receive(client, 2) == b"ab"


# ---- the daemons ------------------------------------------------------------------------------


def listening(side):
	"""The daemon's network namespace's listening UNIX sockets, but for its own two."""
	with open(f"/proc/{side.daemon.pid}/net/unix", encoding="utf-8", errors="replace") as f:
		lines = [line.split() for line in f]
	return [f"socket:[{line[6]}]" for line in lines
		if line[3] == "00010000" and not line[-1].startswith(side.runtime)]


def open_files(side):
	"""What the daemon has open, and how often, but for what it may keep for the next connection: transports,
	for each of its workers four empty pipes, and the listening sockets to which clients are connected."""
	proc = f"/proc/{side.daemon.pid}"
	with open(proc + "/net/tcp", encoding="ascii") as f:
		transports = {f"socket:[{line.split()[9]}]" for line in f}
	found = collections.Counter()
	for fd in os.listdir(proc + "/fd"):
		with contextlib.suppress(FileNotFoundError):
			found[os.readlink(f"{proc}/fd/{fd}")] += 1
	kept = [link for link, n in found.items() if n == 2 and link.startswith("pipe:")]
	aliases = [link for link in listening(side) if link in found]
	aliases = aliases[:len(os.listdir(side.outside(side.runtime + "/names")))]
	for link in [*kept[:4 * side.threads], *transports, *aliases]:
		del found[link]
	return found


def descriptors(side):
	"""How many these are."""
	return open_files(side).total()


def settled(pair, before, seconds=10):
	"""`before` when both daemons have no more descriptors than before (what was just ended then may
	have had some), else what they have."""
	def now():
		return [descriptors(side) for side in pair.sides]

	def fewer():
		return all(new <= old for new, old in zip(now(), before))

	return before if wait_for(fewer, seconds) else now()


def cpu_ticks(side):
	with open(f"/proc/{side.daemon.pid}/stat", encoding="ascii") as f:
		return sum(map(int, f.read().rsplit(")", 1)[1].split()[11:13]))


def cpu_spent(pair, seconds=1):
	"""The most ticks (10 ms) that a daemon needed in so many seconds."""
	ticks = [cpu_ticks(side) for side in pair.sides]
	time.sleep(seconds)
	return max(cpu_ticks(side) - old for side, old in zip(pair.sides, ticks))


def memory(side, what="VmRSS"):
	"""KiB."""
	with open(f"/proc/{side.daemon.pid}/status", encoding="ascii") as f:
		return next(int(line.split()[1]) for line in f if line.startswith(what))


class Cases:
	"""Functions that are behaviours: run them, each an ok line named by its docstring."""

	def __init__(self, tap, chosen):
		self.tap, self.chosen = tap, chosen

	def run(self, function, *args, note=""):
		name = " ".join(function.__doc__.split()) + note
		if self.chosen and not any(word in name for word in self.chosen):
			return
		sides = [side for side in getattr(args[0], "sides", []) if os.path.exists(side.logfile)]
		said = [len(side.log()) for side in sides]
		try:
			found = function(*args)
			self.tap.result(name, found is None or found is True, f"found {found!r}")
		except (OSError, AssertionError, RuntimeError, StopIteration) as e:
			trace = e.__traceback__
			while trace.tb_next and trace.tb_next.tb_frame.f_code.co_filename == \
				function.__code__.co_filename:
				trace = trace.tb_next
			self.tap.result(name, False, f"line {trace.tb_lineno}: {e!r}\n" + "".join(
				f"udsproxyd on {side.name}:\n" + side.log()[start:][-2000:]
				for side, start in zip(sides, said)))


def expect(found, wanted, what="found"):
	if found != wanted:
		raise AssertionError(f"{what} {found!r}, not {wanted!r}")
