# SPDX-License-Identifier: Apache-2.0
"""Who the client is, as its server sees it."""

import array
import os
import socket
import struct

from .scenario import Scenario, expect, receive, receive_all

SO_PEERGROUPS = 59


class PeercredIsRoot(Scenario):
	"""SO_PEERCRED and SO_PEERGROUPS of a client that is root."""

	uid = 0
	groups = [0, 7, 70000]

	def server(self, listener):
		sock = listener.accept()[0]
		_, uid, gid = struct.unpack("iII", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
		groups = array.array("I", sock.getsockopt(socket.SOL_SOCKET, SO_PEERGROUPS, 400)).tolist()
		expect((uid, gid, sorted(groups)), (self.uid, self.uid, self.groups), "uid, gid, groups")

	def client(self):
		with self.connect() as sock:
			expect(receive_all(sock), b"")


class PeercredIsUid1000(PeercredIsRoot):
	"""And of one that is not; whether any machine knows the number does not matter."""

	uid = 1000
	groups = [7, 1000, 70000]


class CredentialsOfMessagesAreRoot(Scenario):
	"""SCM_CREDENTIALS of each message, implicit and explicit, with a descriptor and without."""

	packets = [b"one", b"two"]

	def listen(self, address=None):
		sock = super().listen(address)
		sock.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
		return sock

	def server(self, listener):
		sock = listener.accept()[0]
		for wanted in *self.packets, b"explicit", b"descriptor":
			data, control, _, _ = sock.recvmsg(100, 200)
			found = [struct.unpack("iII", value)[1:] for level, kind, value in control
				 if (level, kind) == (socket.SOL_SOCKET, socket.SCM_CREDENTIALS)]
			expect((data, found), (wanted, [(self.uid, self.uid)]), "data and credentials")
			kinds = [kind for _, kind, _ in control]
			expect(socket.SCM_RIGHTS in kinds, wanted == b"descriptor", "a descriptor")
			sock.send(b"!")

	def client(self):
		with self.connect() as sock:
			def answered():
				expect(receive(sock, 1), b"!")

			for packet in self.packets:
				sock.send(packet)
				answered()
			mine = struct.pack("iII", os.getpid(), self.uid, self.uid)
			sock.sendmsg([b"explicit"], [(socket.SOL_SOCKET, socket.SCM_CREDENTIALS, mine)])
			answered()
			with open("/dev/null", "rb") as null:
				socket.send_fds(sock, [b"descriptor"], [null.fileno()])
			answered()


class CredentialsOfMessagesAreUid1000(CredentialsOfMessagesAreRoot):
	"""The same of a client that is not root."""

	uid = 1000


class CredentialsOfPacketsAreRoot(CredentialsOfMessagesAreRoot):
	"""The same over SOCK_SEQPACKET, of empty packets as well."""

	socktype = socket.SOCK_SEQPACKET
	packets = [b"one", b"", b"two"]


class CredentialsOfPacketsAreUid1000(CredentialsOfPacketsAreRoot):
	"""And of a client that is not root."""

	uid = 1000
