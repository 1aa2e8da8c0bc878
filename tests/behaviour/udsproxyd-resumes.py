#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The link between two daemons is reset, cut, lossy, under load: connections go on, no byte is lost or doubled, and
afterwards all is as before. Past the hold time both sides see the end.

FULL=1: longer cuts, more resets. With arguments only those behaviours run whose names contain one.
"""

import contextlib
import os
import socket
import subprocess
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)) + "/../lib")
from proxyends import (Cases, Wire, connect, cpu_spent, descriptors, ended, expect, memory,  # noqa: E402
		       receive, receive_fds, refusal, send_fds, settled, works)
from proxyload import Load  # noqa: E402
from proxypair import Pair, wait_for  # noqa: E402
from tap import Tap  # noqa: E402

FULL = bool(os.environ.get("FULL"))
SANITIZED = os.environ.get("FLAVOUR") in ("asan", "tsan")
STREAM, SEQPACKET = socket.SOCK_STREAM, socket.SOCK_SEQPACKET


def linked(pair):
	"""Each has its control link: only so it finds the other silent."""
	if not wait_for(lambda: all(" is up" in side.log() for side in pair.sides)):
		raise RuntimeError("no control link")


def reset(side):
	"""All TCP connections of this side, at once: how many there were."""
	found = side.popen(["ss", "-K", "-H", "-t", "-n", "state", "connected", "dport", "!=", "0"],
			   stdout=subprocess.PIPE, text=True)
	return len(found.communicate()[0].splitlines())


@contextlib.contextmanager
def link_down(side):
	side.run(["ip", "link", "set", "veth", "down"])
	try:
		yield
	finally:
		side.run(["ip", "link", "set", "veth", "up"])


@contextlib.contextmanager
def packets_lost(pair, percent):
	"""Of what comes in, at random, on both sides."""
	rule = ["INPUT", "-i", "veth", "-m", "statistic", "--mode", "random", "--probability", str(percent / 100), "-j", "DROP"]
	for side in pair.sides:
		side.run(["iptables", "-A", *rule])
	try:
		yield
	finally:
		for side in pair.sides:
			side.run(["iptables", "-D", *rule])


def loaded(pair, n, pairs=(STREAM, SEQPACKET)):
	"""n of everything that carries bytes, from either side, socketpairs of these types among them."""
	load = Load()
	load.carriers = []
	for side in pair.sides:
		wires = [Wire(side, pair.other(side), kind) for kind in (STREAM, SEQPACKET)]
		for _ in range(3 * n):
			load.both_ways(*wires[0]())
		for _ in range(n):
			load.both_ways(*wires[1]())
		here, there = wires[0]()
		load.carriers.append((here, there))
		for _ in range(n // 2):
			r, w = os.pipe()
			send_fds(here, [r])
			load.one_way(w, receive_fds(there))
			r, w = os.pipe()
			send_fds(here, [w])
			load.one_way(receive_fds(there), r)
			for kind in pairs:
				mine, other = socket.socketpair(socket.AF_UNIX, kind)
				send_fds(here, [other.detach()])
				load.both_ways(mine, socket.socket(fileno=receive_fds(there)))
	return load


def ended_in_order(load):
	load.finish()
	for here, there in load.carriers:	# which were at rest meanwhile
		here.sendall(b"at rest")
		expect(receive(there, 7), b"at rest")
		here.close()
		expect(ended(there), "EOF")
		there.close()


def resets(pair):
	"""connections that are reset again and again, on either side, under load: streams, packets, passed pipes and
	sockets go on, nothing is lost or doubled, nothing stays open or grows"""
	before = [descriptors(side) for side in pair.sides]
	grown = []
	for _ in range(4):
		load = loaded(pair, 8 if not SANITIZED else 4)
		for i in range(10 if FULL else 3):
			load.moved(1000)
			expect(reset(pair.sides[i % 2]) > 0, True, "a reset")
			if i % 3 == 2:
				reset(pair.sides[1 - i % 2])	# before all have gone on
		load.moved(1000)
		ended_in_order(load)
		expect(settled(pair, before), before, "descriptors")
		grown.append([memory(side) for side in pair.sides])
	for first, last in zip(grown[0], grown[-1]):	# what was kept or not delivered each time is more than that
		if last - first > 65536 and not SANITIZED:
			raise AssertionError(f"{last - first} KiB more than after the first round")


def cut(pair, seconds):
	"""the link is down under load of 200 connections: they go on when it is back, nothing is lost or doubled"""
	before = [descriptors(side) for side in pair.sides]
	load = loaded(pair, 17 if not SANITIZED else 4, (STREAM, SEQPACKET, socket.SOCK_DGRAM))
	load.run(1.2)	# so that each side has heard of the other: else it is held for 10 s only
	with link_down(pair.sides[seconds > 3]):
		load.run(seconds)
	load.moved(100000)
	ended_in_order(load)
	expect(settled(pair, before), before, "descriptors")


def at_rest(pair):
	"""many connections at rest cost next to nothing while the link is down, and go on when it is back"""
	before = [descriptors(side) for side in pair.sides]
	wire = Wire(pair.h, pair.d)
	ends = [wire() for _ in range(1500 if not SANITIZED else 200)]
	with link_down(pair.h):
		for side in pair.sides:
			reset(side)
		time.sleep(2)	# so that attempts have become rare
		spent = cpu_spent(pair)
	for here, there in ends:
		here.sendall(b"at rest")
		expect(receive(there, 7), b"at rest")
		here.close()
		there.close()
	expect(settled(pair, before), before, "descriptors")
	if spent > 6 and not SANITIZED:
		raise AssertionError(f"{spent} ticks in a second while the link is down")


def lossy(pair):
	"""so do those of a link that loses packets, and that is reset meanwhile"""
	before = [descriptors(side) for side in pair.sides]
	load = loaded(pair, 2)
	with packets_lost(pair, 5):
		for side in pair.sides:
			load.run(1)
			reset(side)
		load.run(1)
	load.moved(1000)
	ended_in_order(load)
	expect(settled(pair, before), before, "descriptors")


def left_meanwhile(pair):
	"""who is killed while the link is down has left when it is back: the other end sees it then, behind all that was
	said before; and one that ends in order has ended"""
	before = [descriptors(side) for side in pair.sides]
	for side in pair.sides:
		wire = Wire(side, pair.other(side))
		for broken in False, True:
			ends = [wire() for _ in range(4)]
			for a, b in ends:
				b.sendall(b"unread")
				expect(receive(a, 6), b"unread")
			ends = [ends[0], ends[1], ends[2][::-1], ends[3][::-1]]	# who leaves, who stays
			with link_down(side):
				if broken:
					for each in pair.sides:
						reset(each)
				for i, (a, b) in enumerate(ends):
					a.sendall(b"last words")
					if i % 2:
						b.sendall(b"not read any more")
						a.close()
					else:
						a.shutdown(socket.SHUT_WR)
				expect(ended(ends[0][1], 0.2), "nothing")
			for i, (a, b) in enumerate(ends):
				b.settimeout(15)
				expect(receive(b, 10), b"last words")
				expect(ended(b) in ("EOF", "ECONNRESET"), True, "the end")
				if i % 2 == 0:
					b.sendall(b"heard")
					b.close()
					expect(receive(a, 5), b"heard")
					expect(ended(a), "EOF")
					a.close()
				b.close()
	expect(settled(pair, before), before, "descriptors")


def asked_meanwhile(pair):
	"""who asks for a connection while the link is down is refused within a second, and is served when it is back"""
	wire = Wire(pair.d, pair.h)
	for both in [wire() for _ in range(4)]:	# whose transports will be in the pool
		for sock in both:
			sock.close()
	with link_down(pair.h):
		for side in pair.sides:
			reset(side)
		name, _, took = refusal(connect, pair.d, wire.name)
		if name != "ECONNREFUSED" or took > 1.5:
			raise AssertionError(f"{name} after {took:.1f} s")
	served_again(pair, pair.d)


def served_again(pair, side):
	def served():
		wire = Wire(side, pair.other(side))	# to which no earlier attempt comes late
		with wire.listener:
			try:
				return works(wire)
			except OSError:
				return False
	if not wait_for(served, 5):
		raise AssertionError(f"{side.name} is not served within 5 s")


def held_too_long(pair):
	"""past the hold time both sides end promptly: sockets, passed pipes and sockets; and all works again when the link
	is back"""
	before = [descriptors(side) for side in pair.sides]
	load = loaded(pair, 4)
	load.moved(1000)
	with link_down(pair.h):
		since = time.monotonic()
		for side in pair.sides:
			reset(side)
		load.lost(HOLD + 2)
		took = time.monotonic() - since
		if took < HOLD - 0.1:
			raise AssertionError(f"after {took:.1f} s")
		expect(settled(pair, before, 2), before, "descriptors")
	for side in pair.sides:
		served_again(pair, side)


HOLD = 2  # seconds, where it is to pass


def main():
	tap = Tap()
	cases = Cases(tap, sys.argv[1:])
	for threads in 1, 4:
		note = f" ({threads} thread{'s' * (threads > 1)})"
		with Pair(threads) as pair:
			linked(pair)
			for case in resets, left_meanwhile, asked_meanwhile:
				cases.run(case, pair, note=note)
			if threads == 1 or FULL:
				cases.run(at_rest, pair, note=note)
			if threads > 1 or FULL:
				cases.run(lossy, pair, note=note)
			for seconds in (3, 20, 60) if FULL else (3,) if threads == 1 else (20,):
				cases.run(cut, pair, seconds, note=f", {seconds} s{note}")
		with Pair(threads, options=[f"--hold-time={HOLD}"]) as pair:
			linked(pair)
			cases.run(held_too_long, pair, note=note)
	tap.done()


if __name__ == "__main__":
	main()
