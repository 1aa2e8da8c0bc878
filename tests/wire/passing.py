# SPDX-License-Identifier: Apache-2.0
"""Messages with descriptors, to and from the daemon: docs/PROTOCOL.md 5.6, 7, 8."""

import os
import socket
import struct
import time

from peer import *

NULL = u8(WIRE_FD_DEVICE) + u32(WIRE_O_READ | WIRE_O_WRITE) + string(b"/dev/null")


def new_id():
	return os.urandom(WIRE_ID_SIZE)


def receive(s, n, count):
	"""Bytes and descriptors of one recvmsg."""
	data, fds, _, _ = socket.recv_fds(s, n, 253)
	assert len(fds) == count, f"{len(fds)} descriptors came with {data}"
	return data, fds


def send_message(t, descriptions, data=b"x"):
	t.send(WIRE_MSG, message(descriptions, data), len(descriptions))


def parse_message(count, payload):
	"""What a MSG describes: a list of dictionaries; and its bytes."""
	length = struct.unpack_from(">I", payload)[0]
	text, data, found = payload[4:4 + length], payload[4 + length:], []
	for _ in range(count):
		kind, text = text[0], text[1:]
		item = {"kind": kind}
		if kind in (WIRE_FD_PIPE_READ, WIRE_FD_PIPE_WRITE):
			item["id"], item["flags"], item["times"] = struct.unpack_from(">16sII", text)
			text = text[24:]
		elif kind in (WIRE_FD_SOCKET, WIRE_FD_LISTENER):
			item["id"], item["flags"], item["socktype"] = struct.unpack_from(">16sIB", text)
			text = text[21:]
		elif kind in (WIRE_FD_FILE, WIRE_FD_DEVICE):
			item["flags"] = struct.unpack_from(">I", text)[0]
			text = text[4:]
			if kind == WIRE_FD_FILE:
				item["offset"] = struct.unpack_from(">Q", text)[0]
				text = text[8:]
			n = struct.unpack_from(">I", text)[0]
			item["name"], text = text[4:4 + n], text[4 + n:]
		elif kind == WIRE_FD_COPY:
			item["id"], item["flags"], item["offset"], item["seals"], item["mode"], n = \
				struct.unpack_from(">16sIQIHI", text)
			item["name"], text = text[38:38 + n], text[38 + n:]
		elif kind == WIRE_FD_TAP:
			item["flags"], item["tap"], item["vnet_header"], n = struct.unpack_from(">IIII", text)
			item["name"], text = text[16:16 + n], text[16 + n:]
		elif kind == WIRE_FD_SAME:
			item["index"] = struct.unpack_from(">H", text)[0]
			text = text[2:]
		found.append(item)
	assert text == b"", text
	return found, data


def pass_here(c, t, fds, data=b"x"):
	"""A program here passes descriptors: what the MSG says of them."""
	socket.send_fds(c, [data], fds)
	found, got = parse_message(*t.expect(WIRE_MSG))
	assert got == data
	return found


def channel_of(d, ident):
	"""The daemon's OPEN for a channel, answered: its transport."""
	t, opened = d.peer.expect_open()
	assert opened["target"] == WIRE_TARGET_CHANNEL and opened["name"] == ident, opened
	t.opened()
	return t


def channels_of(d, found):
	"""The same of several descriptions, whose OPENs may come in any order."""
	transports = {}
	for _ in found:
		t, opened = d.peer.expect_open()
		assert opened["target"] == WIRE_TARGET_CHANNEL, opened
		t.opened()
		transports[opened["name"]] = t
	return [transports[item["id"]] for item in found]


def dial_channel(d, ident):
	"""Our OPEN for a channel that was made there."""
	t = d.peer.dial()
	assert t.open(ident, target=WIRE_TARGET_CHANNEL) == (0, "")
	return t


def connection(d):
	server, path = d.server(f"s.{time.monotonic_ns()}")
	return d.served(server, path)


def carry(d, n):
	"""So many of the daemon's OPENs for channels, answered, and their ends, each an end of file: the channels."""
	carried = []
	while len(carried) < n:
		t, opened = d.peer.expect_open()
		carried.append(opened["name"])
		t.opened()
		t.expect(WIRE_SHUT)
		t.send(WIRE_SHUT, count=1)
		t.expect(WIRE_END)
		t.send(WIRE_END)
		d.peer.rest(t)
	return carried
