#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""A tap that is passed is one of the same name on the other side: its frames come out there.

With arguments only those behaviours run whose names contain one.
"""

import json
import os
import socket
import struct
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE + "/../lib")
from proxyends import (Cases, Wire, descriptors, ended, expect, readable, receive_fds,  # noqa: E402
		       send_fds, settled)
from proxypair import Pair, wait_for  # noqa: E402
from tap import Tap  # noqa: E402
from taps import (DEVICE, IFF_MULTI_QUEUE, IFF_NO_PI, IFF_TAP, IFF_TUN, IFF_VNET_HDR, seen,  # noqa: E402
		  there_is_tun)

MAKE = (f"import sys, socket; sys.path.insert(0, '{HERE}/../lib')\nfrom taps import *\n"
	"socket.send_fds(socket.socket(fileno=0), [b'x'], [interface(*eval(sys.argv[1]))])")
ETHERNET, ARP, IPV4 = 1, 0x0806, 0x0800
VIRTIO_HEADER = 12


def made(side, name, flags, header=0):
	"""An interface that a program of this side has made."""
	ours, theirs = socket.socketpair()
	side.run([sys.executable, "-c", MAKE, repr((name, flags, header))], stdin=theirs)
	theirs.close()
	with ours:
		return receive_fds(ours, 1, b"x")


def interfaces(side):
	"""The names of this side's interfaces."""
	with open(f"/proc/{side.holder.pid}/net/dev", encoding="ascii") as f:
		return {line.split(":")[0].strip() for line in f if ":" in line}


def up(side, name, address=None):
	"""As an operator would."""
	side.run(["ip", "link", "set", name, "up"])
	if address:
		side.run(["ip", "addr", "add", address, "dev", name])


def answered(fd, question, is_answer):
	"""What comes back to a question, which is asked again: an interface that is new drops what comes too early."""
	end = time.monotonic() + 5
	while time.monotonic() < end:
		os.write(fd, question)
		while readable(fd, 0.2):
			frame = os.read(fd, 65536)
			if is_answer(frame):
				return frame
	raise TimeoutError("no answer")


def ask_who_has(fd, mac, ours, wanted, before=b""):
	"""An ARP question for an address of the interface's machine: the hardware address in its answer."""
	start = len(before)
	ours, wanted = socket.inet_aton(ours), socket.inet_aton(wanted)
	question = (b"\xff" * 6 + mac + struct.pack(">HHHBBH", ARP, ETHERNET, IPV4, 6, 4, 1) + mac + ours +
		    bytes(6) + wanted)
	frame = answered(fd, before + question, lambda frame: frame[start + 12:start + 14] == struct.pack(">H", ARP)
			 and frame[start + 20:start + 22] == b"\0\2")[start:]
	expect((frame[:6], frame[28:32]), (mac, wanted), "the answer")
	return frame[22:28]


def frames_cross(pair, wire, back):
	"""frames that are written to it come out of the far interface, and what is sent there is read from it"""
	for there, connection in (pair.h, wire), (pair.d, back):
		here = pair.other(there)
		for flags, before in (IFF_TAP | IFF_NO_PI, b""), \
				(IFF_TAP | IFF_NO_PI | IFF_VNET_HDR, bytes(VIRTIO_HEADER)):
			giver, taker = connection()
			send_fds(giver, [made(here, "vnet7", flags, len(before))])
			fd = receive_fds(taker)
			expect(seen(fd), ("vnet7", flags & ~IFF_NO_PI, len(before) or 10))
			if not wait_for(lambda: "vnet7" not in interfaces(here), 2):
				raise AssertionError("it is left on the side it came from")
			up(there, "vnet7", "10.9.9.1/24")
			mac = b"\x52\x54\0\0\0\7"
			answer = ask_who_has(fd, mac, "10.9.9.7", "10.9.9.1", before)
			expect(answer == mac, False, "the answer comes from itself")
			os.close(fd)
			expect("vnet7" in interfaces(there), False, "it is there without its descriptor")
			giver.close()
			taker.close()


def bridged(pair, wire, back):
	"""one that the far side has prepared, in a bridge, is taken, and stays there afterwards"""
	h = pair.h
	for command in ("link add br7 type bridge forward_delay 0", "addr add 10.9.8.1/24 dev br7", "link set br7 up",
			"tuntap add vnet8 mode tap vnet_hdr", "link set vnet8 master br7", "link set vnet8 up"):
		h.run(["ip", *command.split()])
	giver, taker = wire()
	for _ in range(2):
		send_fds(giver, [made(pair.d, "vnet8", IFF_TAP | IFF_NO_PI | IFF_VNET_HDR, VIRTIO_HEADER)])
		fd = receive_fds(taker)
		ask_who_has(fd, b"\x52\x54\0\0\0\x08", "10.9.8.8", "10.9.8.1", bytes(VIRTIO_HEADER))
		os.close(fd)
		expect("vnet8" in interfaces(h), True, "it stays")
	for name in "vnet8", "br7":
		h.run(["ip", "link", "del", name])
	giver.close()
	taker.close()


def queues(pair, wire, back):
	"""the queues of one are those of one there, in one message or several; a duplicate is a duplicate"""
	before = [descriptors(side) for side in pair.sides]
	flags = IFF_TAP | IFF_NO_PI | IFF_MULTI_QUEUE
	giver, taker = wire()
	fds = [made(pair.d, "vnet9", flags) for _ in range(3)]
	send_fds(giver, [os.dup(fds[0]), os.dup(fds[1]), os.dup(fds[0])])
	found = receive_fds(taker, 3)
	send_fds(giver, [os.dup(fds[2])])
	found.append(receive_fds(taker))
	expect([seen(fd) for fd in found], [("vnet9", flags & ~IFF_NO_PI, 10)] * 4)
	expect([seen(fd) for fd in fds], [("vnet9", flags & ~IFF_NO_PI, 10)] * 3, "the originals")
	said = pair.h.popen(["ip", "-json", "-details", "link", "show", "vnet9"], stdout=subprocess.PIPE)
	expect(json.loads(said.communicate()[0])[0]["linkinfo"]["info_data"]["numqueues"], 3, "queues")
	for fd in (*found, *fds):
		os.close(fd)
	expect(any("vnet9" in interfaces(side) for side in pair.sides), False, "it is left")
	giver.close()
	taker.close()
	expect(settled(pair, before), before, "descriptors")


def packets(pair, wire, back):
	"""a tun's packets cross as those of a tap"""
	giver, taker = wire()
	send_fds(giver, [made(pair.d, "tun7", IFF_TUN | IFF_NO_PI)])
	fd = receive_fds(taker)
	up(pair.h, "tun7", "10.9.7.1/24")
	# An echo request, of 20 + 8 bytes.
	def checksum(data):
		total = sum(struct.unpack(f">{len(data) // 2}H", data))
		return struct.pack(">H", ~(total + (total >> 16)) & 0xffff)

	addresses = socket.inet_aton("10.9.7.7") + socket.inet_aton("10.9.7.1")
	header = struct.pack(">BBHHHBB", 0x45, 0, 28, 1, 0, 64, 1)
	echo = struct.pack(">BB", 8, 0), struct.pack(">HH", 7, 7)
	question = (header + checksum(header + addresses) + addresses + echo[0] + checksum(b"".join(echo)) +
		    echo[1])
	packet = answered(fd, question, lambda packet: packet[:1] == b"\x45" and packet[9] == 1)
	expect((packet[12:20], packet[20:22]), (addresses[4:] + addresses[:4], b"\0\0"), "the answer")
	os.close(fd)
	giver.close()
	taker.close()


def refused(pair, connection, fd, side, reason):
	"""Passed, it ends the connection in both directions, and both sides say why."""
	said = [len(side.log()) for side in pair.sides]
	giver, taker = connection()
	send_fds(giver, [fd])
	expect([ended(end) in ("EOF", "ECONNRESET") for end in (taker, giver)], [True, True], "ends")
	for who, start in zip(pair.sides, said):
		if not wait_for(lambda who=who, start=start: reason in who.log()[start:], 2):
			raise AssertionError(f"{who.name} says {who.log()[start:]}")
	log = side.log()[said[pair.sides.index(side)]:]
	expect(f"a connection is ended: {reason}" in log, True, "who refuses")
	giver.close()
	taker.close()


def refusals(pair, wire, back):
	"""one whose name is busy there, or of another network namespace, ends the connection"""
	busy = made(pair.h, "vnet5", IFF_TAP)
	refused(pair, wire, made(pair.d, "vnet5", IFF_TAP), pair.h,
		"a tap cannot be made on this side: Device or resource busy")
	os.close(busy)
	refused(pair, wire, made(pair.h, "vnet5", IFF_TAP), pair.d,
		"a descriptor cannot cross: a tap of another network namespace")


def not_listed(pair, wire, back):
	"""none crosses unless both sides list /dev/net/tun"""
	refused(pair, wire, made(pair.d, "vnet5", IFF_TAP), pair.h,
		f"a tap cannot be made on this side: {DEVICE} is not listed (--device)")
	refused(pair, back, made(pair.h, "vnet5", IFF_TAP), pair.h,
		f"a descriptor cannot cross: a tap: {DEVICE} is not listed (--device)")
	if not wait_for(lambda: not any("vnet5" in interfaces(side) for side in pair.sides), 2):
		raise AssertionError("it is left")


def main():
	tap = Tap()
	if not there_is_tun():
		tap.skip_all(f"{DEVICE} cannot be opened")
	cases = Cases(tap, sys.argv[1:])
	with Pair(2) as pair:
		wire, back = Wire(pair.d, pair.h), Wire(pair.h, pair.d)
		pair.restart({side: [f"--device={DEVICE}"] for side in pair.sides})
		for ends in wire(), back():
			for end in ends:
				end.close()
		for case in frames_cross, bridged, queues, packets, refusals:
			cases.run(case, pair, wire, back)
		pair.restart({pair.d: [f"--device={DEVICE}"]})
		cases.run(not_listed, pair, wire, back)
	tap.done()


if __name__ == "__main__":
	main()
