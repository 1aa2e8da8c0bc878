# SPDX-License-Identifier: Apache-2.0
"""A second implementation of docs/PROTOCOL.md, which plays the peer of one real udsproxyd.

Written from that text, whose tables are its numbers. It keeps to the protocol only as far as the
test that drives it does: frames are sent as they are asked for, and counted as the text says.
"""

import contextlib
import os
import re
import select
import socket
import struct
import threading
import time

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
PATIENCE = 10  # seconds for what must come


def documented():
	"""Names and numbers of PROTOCOL.md's tables; quoted values are strings."""
	found = {}
	with open(TOP + "/docs/PROTOCOL.md", encoding="utf-8") as f:
		for line in f:
			row = re.match(r'\| `(\w+)` \| (?:"(.*?)"|(\w+)) \|', line)
			if row:
				name, text, number = row.groups()
				assert name not in found, f"{name} is there twice"
				found[name] = text if number is None else int(number, 0)
	return found


globals().update(documented())
COUNTED = {WIRE_DATA, WIRE_MSG, WIRE_ORDER, WIRE_SHUT, WIRE_STOP}
NAMES = {value: name for name, value in documented().items()
	 if re.match(r"WIRE_(HELLO|P[IO]NG|OPEN(ED)?|DATA|MSG|ORDER|SHUT|STOP|ACK|END|ABORT|RETIRE|RESUMED?|GONE)$", name)}


def u8(n):
	return struct.pack(">B", n)


def u16(n):
	return struct.pack(">H", n)


def u32(n):
	return struct.pack(">I", n)


def u64(n):
	return struct.pack(">Q", n)


def string(b):
	return u32(len(b)) + b


def frame(kind, payload=b"", count=0, ack=0, flags=0, length=None):
	"""A frame's bytes."""
	return struct.pack(">IBBHQ", len(payload) if length is None else length, kind, flags, count, ack) + payload


def hello(role, instance, version=None, magic=None, more=b""):
	return frame(WIRE_HELLO, u32(magic or WIRE_MAGIC) + u16(version or WIRE_VERSION) + u16(role) + u32(0) +
		     u32(WIRE_PAYLOAD_MAX) + instance + more)


def credentials(uid=None, gid=None, groups=()):
	return (u32(os.getuid() if uid is None else uid) + u32(os.getgid() if gid is None else gid) +
		u16(len(groups)) + b"".join(map(u32, groups)))


def open_payload(name, target=None, socktype=None, creds=None, ident=None, flags=0):
	target = WIRE_TARGET_NAME if target is None else target
	socktype = WIRE_STREAM if socktype is None else socktype
	return ((ident or os.urandom(WIRE_ID_SIZE)) + u8(target) + u8(socktype) + u16(flags) +
		(credentials() if creds is None else creds) + string(name))


def verdict(payload):
	"""errno and reason of OPENED and ABORT."""
	error, length = struct.unpack_from(">HI", payload)
	assert len(payload) == 6 + length, payload
	return error, payload[6:].decode()


def message(descriptions, data):
	"""MSG's payload."""
	text = b"".join(descriptions)
	return string(text) + data


class Ended(Exception):
	"""The daemon closed the transport."""


class Transport:
	"""One end of a transport; `sock` is connected to the daemon.

	What is known of the connection that it carries is here, too. That may go on over another transport:
	cut(), and Peer.resume() or Peer.expect_resume().
	"""

	OF_CONNECTION = ("ident", "packets", "acking", "stream", "sent", "acked", "received", "told", "heads", "rest")

	def __init__(self, sock, dialled):
		self.sock, self.dialled = sock, dialled
		self.writing = threading.Lock()
		sock.settimeout(PATIENCE)
		sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
		self.begin()

	hint = 0	# the count of the last OPEN that came

	def begin(self, ident=None, packets=False):
		"""Counting starts anew with each connection."""
		self.ident, self.packets = ident, packets
		self.acking = True	# of its own accord
		self.stream = bytearray()	# all counted frames that were sent
		self.sent = self.received = 0
		self.acked = self.told = 0
		self.heads = []	# of what has come: where each counted frame begins, its type and length
		self.rest = 0	# bytes of the current DATA that are still to come

	def send(self, kind, payload=b"", count=0):
		"""A frame of the connection, counted, with the ack of all that was received."""
		self.raw(self.counted(kind, payload, count))

	def frames(self, *kinds):
		"""Such frames, without a payload, in one piece."""
		self.raw(b"".join(self.counted(kind) for kind in kinds))

	def counted(self, kind, payload=b"", count=0):
		"""A frame that is going to be sent."""
		if self.acking:
			self.told = self.received
		data = frame(kind, payload, count, self.told)
		if kind in COUNTED:
			self.sent += len(data)
			self.stream += data
		return data

	def raw(self, data):
		try:
			with self.writing:
				self.sock.sendall(data)
		except (BrokenPipeError, ConnectionResetError):
			pass  # shows when it is read

	def some(self, n):
		"""At most so many bytes, at least one."""
		try:
			data = self.sock.recv(n)
		except ConnectionResetError:
			data = b""
		if not data:
			raise Ended()
		return data

	def exactly(self, n):
		data = b""
		while len(data) < n:
			data += self.some(n - len(data))
		return data

	def bytes_of_data(self):
		"""What comes of DATA that is not a packet: the rest of it, or less when the transport ends."""
		data = bytearray()
		while self.rest:
			try:
				piece = self.some(self.rest)
			except Ended:
				if not data:
					raise
				break
			data += piece
			self.received += len(piece)
			self.rest -= len(piece)
		return bytes(data)

	def frame(self):
		"""The next frame: type, count, payload; what the text says of headers is checked."""
		kind, count = WIRE_DATA, 0
		if not self.rest:
			length, kind, flags, count, ack = struct.unpack(">IBBHQ", self.exactly(WIRE_HEADER))
			assert flags == 0 and length <= WIRE_PAYLOAD_MAX and kind in NAMES, (length, kind, flags)
			if kind not in (WIRE_HELLO, WIRE_OPEN, WIRE_RETIRE, WIRE_RESUME, WIRE_RESUMED):
				assert ack <= self.sent, f"{NAMES[kind]}: ack {ack} of {self.sent}"
				self.acked = max(self.acked, ack)
			if kind == WIRE_OPEN:
				self.hint = count
			direct = kind == WIRE_DATA and not self.packets
			payload = b"" if direct else self.exactly(length)
			if kind in COUNTED:
				assert self.received - self.told < WIRE_WINDOW, f"{self.received} of {self.told}"
				self.heads.append((self.received, kind, length))
				self.received += WIRE_HEADER + len(payload)
			if direct:
				self.rest = length
		if kind == WIRE_DATA and not self.packets:
			payload = self.bytes_of_data()
		if self.acking and self.received - self.told >= WIRE_ACK_EVERY:
			self.send(WIRE_ACK)
		return kind, count, payload

	def expect(self, wanted):
		"""The next frame that is not ACK, which must be of this type: count, payload."""
		while True:
			kind, count, payload = self.frame()
			if kind != WIRE_ACK or wanted == WIRE_ACK:
				break
		assert kind == wanted, f"{NAMES[kind]} {payload[:80]} instead of {NAMES[wanted]}"
		return count, payload

	def data(self, n):
		"""So many bytes of DATA, from any number of frames."""
		got = b""
		while len(got) < n:
			got += self.expect(WIRE_DATA)[1]
		assert len(got) == n, f"{len(got)} bytes instead of {n}"
		return got

	def greet(self, role, instance):
		self.raw(hello(role, instance))
		magic, version, _, _, size, self.instance = struct.unpack(">IHHII16s", self.expect(WIRE_HELLO)[1])
		assert (magic, version, size) == (WIRE_MAGIC, WIRE_VERSION, WIRE_PAYLOAD_MAX)
		return self

	def open(self, name, **how):
		"""OPEN and its answer: errno and reason."""
		how.setdefault("ident", os.urandom(WIRE_ID_SIZE))
		self.begin(how["ident"], how.get("socktype") == WIRE_SEQPACKET)
		self.send(WIRE_OPEN, open_payload(name, **how))
		return verdict(self.expect(WIRE_OPENED)[1])

	def opened(self, error=0, reason=b""):
		self.send(WIRE_OPENED, u16(error) + string(reason))

	def finish(self):
		"""SHUT and END both ways, whichever side had said which before."""
		self.send(WIRE_SHUT)
		self.expect(WIRE_SHUT)
		self.send(WIRE_END)
		self.expect(WIRE_END)

	def finish_after_shut(self):
		"""The same, when the other's SHUT was received already."""
		self.send(WIRE_SHUT)
		self.expect(WIRE_END)
		self.send(WIRE_END)

	def abort(self):
		"""End it at once, whatever it carries."""
		self.send(WIRE_ABORT, u16(104) + string(b"the test has ended"))
		self.close()

	def cut(self):
		"""Nothing more is sent, and the frames that still come are returned: then the daemon has noticed."""
		came = []
		self.sock.shutdown(socket.SHUT_WR)
		try:
			while True:
				came.append(self.frame())
		except Ended:
			self.close()
		return came

	def reset(self):
		"""Cut, and nobody knows what was received meanwhile."""
		self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
		self.close()

	def forget(self, received):
		"""As if no more than so many bytes had come; what the daemon was told of cannot be forgotten."""
		assert self.told <= received <= self.received
		while self.heads and self.heads[-1][0] >= received:
			self.heads.pop()
		start, kind, length = self.heads[-1] if self.heads else (0, None, -WIRE_HEADER)
		self.received, self.rest = received, start + WIRE_HEADER + length - received
		assert not self.rest or (kind == WIRE_DATA and not self.packets and received >= start + WIRE_HEADER)

	def carry_on(self, old, received):
		"""What `old` carried goes on here. Of ours the daemon has received so many bytes; the others are sent again,
		and so is the last ack."""
		for name in self.OF_CONNECTION:
			setattr(self, name, getattr(old, name))
		assert self.acked <= received <= self.sent, f"{received}, acknowledged {self.acked}, sent {self.sent}"
		self.raw(self.stream[received:] + frame(WIRE_ACK, ack=self.told))

	def resumed(self, old, received):
		"""Answer RESUME: what `old` carried goes on here, the daemon having received so much of it."""
		self.raw(frame(WIRE_RESUMED, u16(0) + u64(old.received)))
		self.carry_on(old, received)

	def is_closed(self, seconds=PATIENCE):
		"""Does the daemon close it, whatever else it still sends?"""
		end = time.monotonic() + seconds
		while True:
			self.sock.settimeout(max(end - time.monotonic(), 0.001))
			try:
				if not self.sock.recv(65536):
					return True
			except ConnectionResetError:
				return True
			except TimeoutError:
				return False

	def is_abandoned(self):
		"""Of a transport with an OPEN: was that taken back?"""
		if not select.select([self.sock], [], [], 0)[0]:
			return False
		try:
			head = self.sock.recv(WIRE_HEADER, socket.MSG_PEEK)
		except ConnectionResetError:
			return True
		return len(head) < WIRE_HEADER or head[4] == WIRE_ABORT

	def close(self):
		self.sock.close()


class Peer:
	"""Listens where the daemon takes its peer to be, and answers its control link."""

	def __init__(self, address, port, daemon_port):
		self.address, self.daemon_port = address, daemon_port
		self.instance = os.urandom(WIRE_ID_SIZE)
		self.gone = []	  # channels of which GONE came
		self.pinged = 0
		self.silent = False	# PING is not answered
		self.knows_nothing = False	# what is not expected is turned away, and no error
		self.linked = threading.Event()
		self.greets = threading.Event()	# see stop_greeting()
		self.greets.set()
		self.controls, self.transports, self.waiting = [], [], []
		self.lock = threading.Lock()
		self.listener = socket.create_server((address, port), backlog=4096)
		threading.Thread(target=self.accept, daemon=True).start()

	def accept(self):
		while True:
			try:
				# no name for the socket: it would be open until the next one comes
				threading.Thread(target=self.welcome, args=self.listener.accept()[:1], daemon=True).start()
			except OSError:
				return

	def welcome(self, sock):
		t = Transport(sock, dialled=False)
		try:
			role = struct.unpack_from(">IHH", t.expect(WIRE_HELLO)[1])[2]
			if role != WIRE_ROLE_CONTROL and not self.greets.is_set():
				self.waiting.append(t)
				self.greets.wait()
			t.raw(hello(WIRE_ROLE_DATA, self.instance))
		except (Ended, OSError):
			return
		with self.lock:
			(self.controls if role == WIRE_ROLE_CONTROL else self.transports).append(t)
		if role == WIRE_ROLE_CONTROL:
			self.answer(t)

	def stop_greeting(self):
		"""What the daemon dials from now on waits, as in a backlog, in `waiting`, until `greets` is set again."""
		self.waiting.clear()
		self.greets.clear()

	def answer(self, t):
		self.linked.set()
		try:
			t.sock.settimeout(None)
			while True:
				kind, _, payload = t.frame()
				if kind == WIRE_PING:
					self.pinged += 1
					if not self.silent:
						t.raw(frame(WIRE_PONG))
				elif kind == WIRE_GONE:
					self.gone.append(payload)
		except (Ended, OSError):
			self.linked.clear()

	def dial_raw(self, source=None):
		"""A transport on which nothing was said."""
		sock = socket.create_connection(("127.0.0.1", self.daemon_port), PATIENCE,
						(source or self.address, 0))
		return Transport(sock, dialled=True)

	def dial(self, role=None):
		return self.dial_raw().greet(role or WIRE_ROLE_DATA, self.instance)

	def expect_first(self, wanted, patience=PATIENCE):
		"""The next frame of this type that begins (again) a connection, on whichever transport: that, and the payload."""
		end = time.monotonic() + patience
		while time.monotonic() < end:
			with self.lock:
				waiting = [t for t in self.transports if t.sock.fileno() >= 0]
			ready = select.select([t.sock for t in waiting], [], [], 0.001)[0]
			for t in waiting:
				if t.sock not in ready:
					continue
				t.begin()
				try:
					kind, _, payload = t.frame()
				except Ended:
					t.close()
					continue
				if self.knows_nothing and kind == WIRE_RESUME != wanted:
					t.raw(frame(WIRE_RESUMED, u16(107) + u64(0)))
					continue
				if self.knows_nothing and kind != wanted:
					t.close()
					continue
				assert kind in (wanted, WIRE_RETIRE), f"{NAMES[kind]} instead of {NAMES[wanted]}"
				if kind == wanted:
					with self.lock:
						self.transports.remove(t)
					return t, payload
				t.close()
		raise TimeoutError(f"no {NAMES[wanted]} came")

	def expect_open(self):
		"""The next OPEN by the daemon: the transport and a dictionary."""
		while True:
			t, payload = self.expect_first(WIRE_OPEN)
			if not t.is_abandoned():
				break
			t.close()	# by a client of an earlier case
		opened = self.parse_open(payload)
		t.begin(opened["id"], opened["socktype"] != WIRE_STREAM)
		return t, opened

	def expect_resume(self, old, answer=True):
		"""The daemon's RESUME of what `old` carried: the transport, where it goes on; without an answer, and how
		many bytes the daemon has received."""
		t, payload = self.expect_first(WIRE_RESUME)
		ident, received = struct.unpack(">16sQ", payload)
		assert ident == old.ident
		if not answer:
			return t, received
		t.resumed(old, received)
		return t

	def ask_to_resume(self, ident, received):
		"""RESUME and its answer: the transport, errno and bytes received."""
		t = self.dial()
		t.raw(frame(WIRE_RESUME, ident + u64(received)))
		return t, *struct.unpack(">HQ", t.expect(WIRE_RESUMED)[1])

	def resume(self, old):
		"""What `old` carried goes on over a fresh transport, which is returned."""
		t, error, received = self.ask_to_resume(old.ident, old.received)
		assert error == 0, error
		t.carry_on(old, received)
		return t

	def rest(self, t):
		"""The transport is idle: the daemon may use it again."""
		with self.lock:
			self.transports.append(t)

	@staticmethod
	def parse_open(p):
		ident, target, socktype, flags, uid, gid, n = struct.unpack_from(">16sBBHIIH", p)
		at = 30 + 4 * n
		groups = struct.unpack_from(f">{n}I", p, 30)
		length = struct.unpack_from(">I", p, at)[0]
		assert len(p) == at + 4 + length, p
		return {"id": ident, "target": target, "socktype": socktype, "flags": flags, "uid": uid, "gid": gid,
			"groups": groups, "name": p[at + 4:]}

	def close(self):
		"""All data transports that the daemon dialled."""
		with self.lock:
			for t in self.transports:
				t.close()
			self.transports.clear()

	def end(self):
		"""May be called again."""
		self.close()
		# A mere close(2) would leave them open to the threads that wait in accept(2) and recv(2).
		for sock in self.listener, *(t.sock for t in self.controls):
			if sock.fileno() >= 0:
				with contextlib.suppress(OSError):
					sock.shutdown(socket.SHUT_RDWR)
			sock.close()
