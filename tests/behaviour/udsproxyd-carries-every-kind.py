#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Every kind of descriptor that crosses: there and back, few and many, alone and mixed, with short and long
messages, over streams and packets, in the right order and number, and undone when its holders are killed.

FULL=1 leaves no combination out; THREADS is how many, one pair of daemons after the other. With arguments only those behaviours run whose names contain one.
"""

import contextlib
import errno
import fcntl
import itertools
import os
import resource
import signal
import socket
import sys
import tempfile
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE + "/../lib")
from fdkinds import F_GET_SEALS, UNCHANGEABLE, memfd  # noqa: E402
from proxyends import (Cases, Wire, accept, descriptors, ended, expect, listen, memory, pattern,  # noqa: E402
		       queued, read_all, receive, receive_fds, send_fds, settled)
from proxypair import Pair, wait_for  # noqa: E402
from tap import Tap  # noqa: E402
from taps import DEVICE, IFF_MULTI_QUEUE, IFF_NO_PI, IFF_TAP, seen, there_is_tun  # noqa: E402

FULL = bool(os.environ.get("FULL"))
SANITIZED = os.environ.get("FLAVOUR") in ("asan", "tsan")
LISTED = "/dev/random"	# besides those that always cross
OPTIONS = [f"--device={LISTED}", f"--device={DEVICE}"]

numbers = itertools.count()


# ---- the kinds ----------------------------------------------------------------------------------
#
# Each is a function of the side whose program passes it and of a number, which tells it from others of its kind. It
# returns the descriptor to be passed, and a function that the descriptor which arrives is given to: it raises when
# that is not right, and closes it.


def read_end(side, n):
	r, w = os.pipe()
	os.write(w, b"%d " % n)

	def check(fd):
		os.write(w, b"more")
		os.close(w)
		expect(read_all(fd), b"%d more" % n)
		os.close(fd)

	return r, check


def write_end(side, n):
	r, w = os.pipe()

	def check(fd):
		os.write(fd, b"%d" % n)
		os.close(fd)
		expect(read_all(r), b"%d" % n)
		os.close(r)

	return w, check


def pair_end(socktype):
	def end(side, n):
		mine, other = socket.socketpair(socket.AF_UNIX, socktype)
		mine.settimeout(15)
		mine.send(b"%d" % n)

		def check(fd):
			with mine, socket.socket(fileno=fd) as theirs:
				expect(theirs.type, socktype)
				theirs.settimeout(15)
				expect(theirs.recv(100), b"%d" % n)
				theirs.send(b"back %d" % n)
				expect(mine.recv(100), b"back %d" % n)
				theirs.close()
				if socktype != socket.SOCK_DGRAM:
					expect(ended(mine), "EOF")

		return other.detach(), check

	end.__name__ = f"pair_end of {socktype.name}"
	return end


def listener(socktype):
	def listening(side, n):
		name = f"{side.own}/l{next(numbers)}"
		original = listen(side, name, socktype)

		def check(fd):
			with socket.socket(fileno=fd) as twin:
				twin.settimeout(15)
				expect(twin.type, socktype)
				with socket.socket(socket.AF_UNIX, socktype) as caller:
					caller.settimeout(15)
					caller.connect(side.outside(name))
					served = accept(twin)
					# which carries descriptors again
					passed, right = read_end(side, n)
					send_fds(caller, [passed])
					right(receive_fds(served))
					passed, right = write_end(side, n)
					send_fds(served, [passed])
					right(receive_fds(caller))
					served.close()
			os.unlink(side.outside(name))

		return original.detach(), check

	listening.__name__ = f"listener of {socktype.name}"
	return listening


def shared_file(flags):
	def file(side, n):
		path = side.outside(f"{side.share}/f{next(numbers)}")
		with open(path, "w", encoding="ascii") as f:
			f.write("0123456789%d" % n)
		original = os.open(path, flags)
		os.lseek(original, n % 10, os.SEEK_SET)

		def check(fd):
			expect(os.fstat(fd).st_ino, os.stat(path).st_ino)
			expect(os.lseek(fd, 0, os.SEEK_CUR), n % 10)
			kept = os.O_ACCMODE | os.O_APPEND | os.O_NONBLOCK
			expect(fcntl.fcntl(fd, fcntl.F_GETFL) & kept, flags)
			if flags & os.O_ACCMODE == os.O_RDONLY:
				expect(os.read(fd, 100), (b"0123456789%d" % n)[n % 10:])
			else:
				os.write(fd, b"!")
				with open(path, "rb") as f:
					expect(b"!" in f.read(), True)
			os.close(fd)
			os.unlink(path)

		return original, check

	file.__name__ = f"shared_file {flags:#o}"
	return file


def shared_directory(side, n):
	path = side.outside(f"{side.share}/d{next(numbers)}")
	os.mkdir(path)
	with open(f"{path}/{n}", "w", encoding="ascii"):
		pass

	def check(fd):
		expect(os.listdir(fd), [str(n)])
		os.close(fd)
		os.unlink(f"{path}/{n}")
		os.rmdir(path)

	return os.open(path, os.O_RDONLY | os.O_DIRECTORY), check


def device(name, flags=os.O_RDWR):
	def opened(side, n):
		def check(fd):
			expect(os.fstat(fd).st_rdev, os.stat(name).st_rdev)
			expect(fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE, flags)
			if name == "/dev/full":
				with contextlib.suppress(OSError):
					os.write(fd, b"x")
					raise AssertionError("it took something")
			expect(len(os.read(fd, 3)), 0 if name == "/dev/null" else 3)
			os.close(fd)

		return os.open(name, flags), check

	opened.__name__ = f"device {name}"
	return opened


def sealed_memory(side, n):
	def check(fd):
		expect(os.read(fd, 10000) == pattern(5000, n), True)
		expect(fcntl.fcntl(fd, F_GET_SEALS), UNCHANGEABLE)
		os.close(fd)

	return memfd(pattern(5000, n), UNCHANGEABLE), check


def read_only_file(side, n):
	with tempfile.NamedTemporaryFile(dir="/var/tmp") as f:
		f.write(b"file %d" % n)
		f.flush()
		fd = os.open(f.name, os.O_RDONLY)

	def check(found):
		expect(os.read(found, 100), b"file %d" % n)
		os.close(found)

	return fd, check


MAKE_QUEUES = (f"import sys, socket; sys.path.insert(0, '{HERE}/../lib')\nfrom taps import *\n"
	       "fds = [interface(sys.argv[1], int(sys.argv[2])) for _ in range(64)]\n"
	       "socket.send_fds(socket.socket(fileno=0), [b'x'], fds)")
queues = {}


def tap(side, n):
	"""Queues of one interface, made a good many at a time, for that takes a while."""
	if not queues.get(side):
		ours, theirs = socket.socketpair()
		name = f"tap{next(numbers)}"
		with ours, theirs:
			side.run([sys.executable, "-c", MAKE_QUEUES, name, str(IFF_TAP | IFF_NO_PI | IFF_MULTI_QUEUE)],
				 stdin=theirs)
			queues[side] = [(name, fd) for fd in receive_fds(ours, 64, b"x")]
	name, original = queues[side].pop()

	def check(fd):
		expect(seen(fd)[:2], (name, IFF_TAP | IFF_MULTI_QUEUE))
		os.close(fd)

	return original, check


def forget_queues():
	for left in queues.values():
		for _, fd in left:
			os.close(fd)
	queues.clear()


KINDS = [read_end, write_end, *map(pair_end, (socket.SOCK_STREAM, socket.SOCK_SEQPACKET, socket.SOCK_DGRAM)),
	 *map(listener, (socket.SOCK_STREAM, socket.SOCK_SEQPACKET)),
	 *map(shared_file, (os.O_RDONLY, os.O_RDWR, os.O_WRONLY | os.O_APPEND, os.O_RDONLY | os.O_NONBLOCK)),
	 shared_directory, *map(device, ("/dev/null", "/dev/zero", "/dev/full", "/dev/urandom")),
	 device(LISTED, os.O_RDONLY), sealed_memory, read_only_file] + [tap] * there_is_tun()


# ---- passing them -------------------------------------------------------------------------------


def passed(giver, taker, side, kinds, payload):
	"""One message with one of each of these, amid other bytes; each must arrive in its place, with its byte."""
	given = [kind(side, n) for n, kind in enumerate(kinds)]
	stream = giver.type == socket.SOCK_STREAM
	parts = (b"before", payload, b"after")

	def give():
		giver.sendall(parts[0])
		sent = socket.send_fds(giver, [payload], [fd for fd, _ in given])
		if sent < len(payload):	# nothing would be an empty packet
			giver.sendall(payload[sent:])
		giver.sendall(parts[2])
		for fd, _ in given:
			os.close(fd)

	sender = threading.Thread(target=give)
	sender.start()
	expect(receive(taker, 6) if stream else taker.recv(100), b"before")
	data, fds, flags, _ = socket.recv_fds(taker, len(payload), 253, socket.MSG_CMSG_CLOEXEC)
	expect((len(fds), flags & socket.MSG_CTRUNC), (len(given), 0), "descriptors")
	if stream:
		data += receive(taker, len(payload) - len(data))
	expect(data == payload, True, "the bytes")
	expect(receive(taker, 5) if stream else taker.recv(100), b"after")
	sender.join()
	for n, (fd, (_, check)) in enumerate(zip(fds, given)):
		try:
			check(fd)
		except (AssertionError, OSError) as e:
			raise AssertionError(f"number {n} of {len(given)}, {kinds[n].__name__}: {e!r}") from e


def directions(pair, wires):
	"""Who gives and who takes, and the giver's side: clients and servers on either side."""
	for wire, client_side in wires:
		client, server = wire()
		yield client, server, client_side
		yield server, client, pair.other(client_side)
		client.close()
		server.close()


def ways(pair, streams, packets, some=False):
	"""Each direction with each payload, over a stream and packets; or some of all that."""
	for giver, taker, side in directions(pair, streams[:1] if some else streams):
		yield giver, taker, side, b"1"
		if not some:
			yield giver, taker, side, pattern(1 << 20)
	for giver, taker, side in directions(pair, packets[1:] if some else packets):
		if not some:
			yield giver, taker, side, b"1"
		yield giver, taker, side, pattern(100000)


def alone(pair, streams, packets, kind, counts):
	for count in counts:
		for giver, taker, side, payload in ways(pair, streams, packets, count > 100 and not FULL):
			passed(giver, taker, side, [kind] * count, payload)


def mixed(pair, streams, packets):
	"""all kinds in one message, 8 and 253 at a time"""
	kinds = itertools.cycle(KINDS)
	for count in 8, 253:
		for way in ways(pair, streams, packets):
			passed(*way[:3], list(itertools.islice(kinds, count)), way[3])


def left_behind(pair, before):
	forget_queues()
	expect(settled(pair, before, 15), before, "descriptors")


def ten_thousand(pair, wire, count):
	before = [descriptors(side) for side in pair.sides]
	memory_before = [memory(side) for side in pair.sides]
	client, server = wire()
	kinds = [kind for kind in KINDS if "listener" not in kind.__name__ and kind is not tap]
	waiting = []
	room = threading.Semaphore(50)
	failed = []

	def give():
		try:
			for i in range(count):
				given = [kinds[(i + j) % len(kinds)](pair.d, i + j) for j in range(i % 3 + 1)]
				room.acquire()
				waiting.append([check for _, check in given])
				send_fds(client, [fd for fd, _ in given])
		except OSError as e:
			failed.append(e)

	giver = threading.Thread(target=give)
	giver.start()
	for i in range(count):
		fds = receive_fds(server, i % 3 + 1)
		fds = fds if isinstance(fds, list) else [fds]
		room.release()
		for check, fd in zip(waiting.pop(0), fds):
			check(fd)
	giver.join()
	expect(failed, [], "failures")
	# as long as the connection lives, too
	expect(settled(pair, [n + 1 for n in before], 15), [n + 1 for n in before], "descriptors")
	client.close()
	server.close()
	left_behind(pair, before)
	grown = max(memory(side) - old for side, old in zip(pair.sides, memory_before))
	if grown > 32 << 10 and not SANITIZED:
		raise AssertionError(f"a daemon grew by {grown} KiB")


# ---- who is killed --------------------------------------------------------------------------------


def killed(pair, wire, which):
	"""The giver and the taker are processes of their own; the end of one undoes what it holds, of both everything."""
	before = [descriptors(side) for side in pair.sides]
	name = f"{pair.own}/killed{next(numbers)}"
	client, server = wire()
	ready, tell = os.pipe()

	def process(keep, drop, work):
		pid = os.fork()
		if pid:
			return pid
		try:
			drop.close()
			work(keep)
			os.write(tell, b"!")
			signal.pause()
		finally:
			os._exit(1)

	def give(sock):
		r, w = os.pipe()
		other_r, other_w = os.pipe()
		ends = [socket.socketpair(socket.AF_UNIX, kind) for kind in
			(socket.SOCK_STREAM, socket.SOCK_SEQPACKET, socket.SOCK_DGRAM)]
		listening = listen(pair.d, name)
		os.write(w, b"written")
		send_fds(sock, [r, other_w, *(end.detach() for _, end in ends), listening.detach(),
				memfd(b"memory", UNCHANGEABLE)])
		give.kept = w, other_r, ends	# until it is killed

	watched, theirs = socket.socketpair()	# the taker's descriptors, where they can be looked at

	def take(sock):
		fds = receive_fds(sock, 7)
		socket.send_fds(theirs, [b"f"], fds)
		take.kept = fds

	pids = [process(client, server, give), process(server, client, take)]
	client.close()
	server.close()
	try:
		for _ in pids:
			os.read(ready, 1)
		fds = receive_fds(watched, 7, b"f")

		def alive():
			with socket.socket(socket.AF_UNIX) as sock:
				return sock.connect_ex(pair.d.outside(name)) != errno.ECONNREFUSED

		expect(alive(), True, "the listening socket")
		os.kill(pids[which], signal.SIGKILL)
		os.waitpid(pids[which], 0)
		if which == 0:	# what it held has ended over there; what it gave away has not
			expect(read_all(fds[0]), b"written")
			for fd in fds[2:4]:
				with socket.socket(fileno=os.dup(fd)) as sock:
					expect(ended(sock), "EOF")

			def broken():
				try:
					os.write(fds[1], b"x")
				except BrokenPipeError:
					return True

			expect(wait_for(broken), True, "EPIPE")
			expect(alive(), True, "the listening socket, which the taker has")
		for fd in fds:
			os.close(fd)
		if which == 1 and not wait_for(lambda: not alive(), 2):
			raise AssertionError("the listening socket goes on 2 s after its holder was killed")
		os.kill(pids[1 - which], signal.SIGKILL)
		os.waitpid(pids[1 - which], 0)
		if not wait_for(lambda: not alive(), 2):
			raise AssertionError("the listening socket goes on")
		expect(settled(pair, before, 15), before, "descriptors")
	finally:
		for pid in pids:
			with contextlib.suppress(ProcessLookupError, ChildProcessError):
				os.kill(pid, signal.SIGKILL)
				os.waitpid(pid, 0)
		for fd in ready, tell:
			os.close(fd)
		for sock in watched, theirs:
			sock.close()
		os.unlink(pair.d.outside(name))


def giver_killed(pair, wire):
	"""the giver is killed: its ends are ended there; then the taker, and all is undone"""
	killed(pair, wire, 0)


def taker_killed(pair, wire):
	"""the taker is killed: a listening socket it had is closed within 2 s; then the giver, and all is undone"""
	killed(pair, wire, 1)


# ---- order ---------------------------------------------------------------------------------------


def order_slow(pair, wire):
	"""1,000 of 1,000 messages are behind what was written to a passed pipe before them, whose reader is slow"""
	client, server = wire()
	r, w = os.pipe()
	send_fds(client, [r])
	fd = receive_fds(server)
	size, read, wrong = 10000, [0], []

	def write():
		for i in range(1000):
			os.write(w, pattern(size, i))
			client.send(b"m")
		os.close(w)

	def consume():
		while data := os.read(fd, 40000):
			read[0] += len(data)
			time.sleep(0.0005)

	threads = [threading.Thread(target=work) for work in (write, consume)]
	for thread in threads:
		thread.start()
	for i in range(1000):
		expect(server.recv(1), b"m")
		# What is in the pipe first: what is read in between is in neither, so there is at least as much.
		there = queued(fd)
		there = read[0] + there if there else read[0]
		if there < (i + 1) * size - 40000:	# which a reader may have taken and not counted yet
			wrong.append((i, there))
	for thread in threads:
		thread.join()
	expect((len(wrong), wrong[:3]), (0, []), "messages that overtook")
	expect(read[0], 1000 * size, "bytes")
	os.close(fd)
	client.close()
	server.close()


def order_background(pair, wire):
	"""and so are 1,000 last words of programs whose output another process keeps open"""
	ours, theirs = socket.socketpair()
	pid = os.fork()
	if not pid:
		try:
			kept = []
			ours.close()
			limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
			resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
			while more := socket.recv_fds(theirs, 1, 1)[1]:
				kept += more
				theirs.send(b"k")
		finally:
			os._exit(0)
	theirs.close()
	try:
		for i in range(1000):
			client, server = wire()
			r, w = os.pipe()
			socket.send_fds(ours, [b"k"], [w])
			expect(ours.recv(1), b"k")
			send_fds(client, [r])
			fd = receive_fds(server)
			os.write(w, b"output %06d" % i)
			os.close(w)
			client.send(b"status")
			client.close()
			expect(receive(server, 6), b"status")
			expect(queued(fd), 13, f"bytes in the pipe at turn {i}")
			expect(os.read(fd, 20), b"output %06d" % i)
			os.close(fd)
			server.close()
	finally:
		ours.close()
		os.waitpid(pid, 0)


def main():
	report = Tap()
	cases = Cases(report, sys.argv[1:])
	for threads in map(int, os.environ.get("THREADS", "3").split()):
		with Pair(threads, options=OPTIONS) as pair:
			streams = [(Wire(pair.d, pair.h), pair.d), (Wire(pair.h, pair.d), pair.h)]
			packets = [(Wire(client, pair.other(client), socket.SOCK_SEQPACKET), client)
				   for client in (pair.d, pair.h)]
			note = f" ({threads} thread{'s' * (threads > 1)})"
			wire = streams[0][0]
			before = [descriptors(side) for side in pair.sides]

			def every(kind, counts=(1, 8, 253)):
				if kind is tap:
					counts = 1, 8
				alone(pair, streams, packets, kind, counts)
				left_behind(pair, before)

			for kind in KINDS:
				every.__doc__ = f"{kind.__name__}: 1, 8 and 253 in a message, each way"
				cases.run(every, kind, note=note)
			cases.run(mixed, pair, streams, packets, note=note)
			for case in giver_killed, taker_killed, order_slow, order_background:
				cases.run(case, pair, wire, note=note)
			count = 1000 if SANITIZED else 10000
			ten_thousand.__doc__ = f"{count} messages with all kinds leave none in either daemon, and lose none"
			cases.run(ten_thousand, pair, wire, count, note=note)
	report.done()


if __name__ == "__main__":
	main()
