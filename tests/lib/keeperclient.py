# SPDX-License-Identifier: Apache-2.0
"""A second implementation of the client's side of rexec/request.h."""

import array
import os
import secrets
import socket
import struct

MAGIC, VERSION = 0x52455843, 3
EXEC, ATTACH, TTY, SIGNAL, AFFINITY, DONE, CONFIRM, LIST, INFO, KILL, SET, PING, WINDOW = range(1, 14)
STARTED, REFUSED, EXITED, GONE, RESULT, PONG, PROGRAM = range(16, 23)
KEEP, EXPAND, PROXIED, DETACHED = 1, 2, 4, 8
PASS, OUTPUT, LISTENER, TERMINAL = 1, 2, 3, 4
HELD = None	# instead of a descriptor: an OUTPUT that an ATTACH brings


def text(s):
	s = s.encode() + b"\0"
	return struct.pack(">I", len(s)) + s


def table(entries):
	return struct.pack(">I", len(entries)) + b"".join(entries)


def send_frame(sock, kind, payload=b"", fds=()):
	frame = struct.pack(">IB", len(payload), kind) + payload
	control = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
	sent = sock.sendmsg([frame], control)
	if sent < len(frame):
		sock.sendall(frame[sent:])


def receive_exactly(sock, n):
	data = b""
	while len(data) < n:
		more = sock.recv(n - len(data))
		if not more:
			raise EOFError
		data += more
	return data


def receive_frame(sock):
	length, kind = struct.unpack(">IB", receive_exactly(sock, 5))
	return kind, receive_exactly(sock, length)


def connect(path):
	sock = socket.socket(socket.AF_UNIX)
	sock.settimeout(10)
	sock.connect(path)
	return sock


class LifeLine:
	"""A socketpair; lost() ends it as udsproxyd ends one whose link was lost."""

	def __init__(self):
		self.ours, self.theirs = socket.socketpair()
		self.theirs.send(b"x") # stays unread at our end: closing that gives ECONNRESET, not EOF

	def passed(self):
		fd = self.theirs.detach()
		return fd

	def lost(self):
		self.ours.close()

	def gone(self):
		self.ours.recv(1)
		self.ours.close()


class Session:
	def __init__(self, run_dir, argv, flags=0, fds=(), files=(), cwd="/", seconds=0, size=(0, 0)):
		self.id = secrets.token_hex(16)
		self.dir = f"{run_dir}/sessions/{self.id}"
		self.life = LifeLine()
		passed = [self.life.passed()] + sorted({fd for _, _, fd in fds} - {HELD})
		entries = [struct.pack(">IBH", number, kind, 0 if fd is HELD else passed.index(fd)) for number, kind, fd in fds]
		payload = struct.pack(">IHHHIQQ", MAGIC, VERSION, flags, len(passed), 0o022, 0, 0) + \
			text(self.id) + text(cwd) + text("") + struct.pack(">QQ", 2**64 - 1, 2**64 - 1) * 14 + \
			struct.pack(">I", seconds) + struct.pack(">4H4I17s", *size, 0, 0, 0, 0, 0, 0, b"") + \
			table([text(arg) for arg in argv]) + table([]) + table(entries) + \
			table([text(name) + struct.pack(">I", len(data)) + data for name, data in files])
		self.sock = connect(run_dir + "/rexec.sock")
		send_frame(self.sock, EXEC, payload, passed)
		os.close(passed[0])
		kind, payload = receive_frame(self.sock)
		self.pid = struct.unpack(">IQ", payload)[0] if kind == STARTED else None
		self.refused = None if kind == STARTED else (payload[0], payload[5:-1].decode())

	def attach(self, outputs=(), confirm=True, number=1):
		life = LifeLine()
		fds = [life.passed(), *outputs]
		sock = connect(self.dir + ".keeper")
		send_frame(sock, ATTACH, struct.pack(">IHHH", MAGIC, VERSION, 0, len(fds)) +
			   struct.pack(">I", number) * len(outputs), fds)
		os.close(fds[0])
		kind, payload = receive_frame(sock)
		if kind == STARTED and confirm:
			send_frame(sock, CONFIRM)
		return life, sock, kind, payload

	def visit(self, kind, payload=b""):
		"""The keeper's answer to this one frame."""
		with connect(self.dir + ".keeper") as sock:
			send_frame(sock, kind, payload)
			kind, payload = receive_frame(sock)
		return (kind, struct.unpack_from(">H", payload)[0]) if kind == RESULT else (kind, payload)
