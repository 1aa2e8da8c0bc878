# SPDX-License-Identifier: Apache-2.0
"""A file system that stops answering when it is told to, as one whose server is away; fuse(4), as root.

	with Stalling(place) as fs:	# a directory that is there, and empty
		...			# make and bind sockets below it: nothing else can be done there
		with fs.stalled():
			...		# whoever asks for a file's owner or mode waits
"""

import contextlib
import ctypes
import os
import select
import struct
import threading

LIBC = ctypes.CDLL(None, use_errno=True)
MNT_DETACH = 2
LOOKUP, FORGET, GETATTR, MKNOD, INIT, BATCH_FORGET = 1, 2, 3, 8, 26, 42
ENOENT, ENOSYS = 2, 38
FOR_EVER = 1 << 30
ROOT = 1


class Stalling:
	def __init__(self, place):
		self.place = place
		self.nodes = {ROOT: 0o40777}  # their modes
		self.names = {}
		self.going = threading.Event()
		self.going.set()
		self.waiting = threading.Event()  # somebody does, for an answer

	def __enter__(self):
		self.fd = os.open("/dev/fuse", os.O_RDWR)
		options = f"fd={self.fd},rootmode=40000,user_id=0,group_id=0,allow_other,default_permissions"
		if LIBC.mount(b"stalling", self.place.encode(), b"fuse", 0, options.encode()):
			raise OSError(ctypes.get_errno(), "mount")
		self.ended = os.eventfd(0)
		self.thread = threading.Thread(target=self.serve, daemon=True)
		self.thread.start()
		return self

	def __exit__(self, *_):
		self.going.set()
		os.eventfd_write(self.ended, 1)
		self.thread.join()
		LIBC.umount2(self.place.encode(), MNT_DETACH)
		os.close(self.fd)  # whoever still waits for an answer has ECONNABORTED
		os.close(self.ended)

	@contextlib.contextmanager
	def stalled(self):
		self.waiting.clear()
		self.going.clear()
		try:
			yield
		finally:
			self.going.set()

	def serve(self):
		while self.ended not in select.select([self.fd, self.ended], [], [])[0]:
			request = os.read(self.fd, 1 << 20)
			_, opcode, unique, node = struct.unpack_from("=IIQQ", request)
			if opcode in (FORGET, BATCH_FORGET):
				continue
			if not self.going.is_set():
				self.waiting.set()
				self.going.wait()
			answer = self.answer(opcode, node, request[40:])
			error, data = (-answer, b"") if isinstance(answer, int) else (0, answer)
			try:
				os.write(self.fd, struct.pack("=IiQ", 16 + len(data), error, unique) + data)
			except OSError:  # who has asked is gone
				pass

	def attributes(self, node):
		return struct.pack("=6Q10I", node, 0, 0, 0, 0, 0, 0, 0, 0, self.nodes[node], 1, 0, 0, 0, 4096, 0)

	def entry(self, node):
		"""Names are known for ever, attributes never."""
		return struct.pack("=4Q2I", node, 0, FOR_EVER, 0, 0, 0) + self.attributes(node)

	def answer(self, opcode, node, data):
		if opcode == INIT:
			return struct.pack("=4I2H2I", 7, 31, 0, 0, 0, 0, 4096, 1) + bytes(36)
		if opcode == GETATTR:
			return struct.pack("=Q2I", 0, 0, 0) + self.attributes(node)
		if opcode == LOOKUP:
			node = self.names.get(data.rstrip(b"\0"))
			return self.entry(node) if node else ENOENT
		if opcode == MKNOD:
			node = len(self.nodes) + 1
			self.names[data[16:].rstrip(b"\0")] = node
			self.nodes[node] = struct.unpack_from("=I", data)[0]
			return self.entry(node)
		return ENOSYS
