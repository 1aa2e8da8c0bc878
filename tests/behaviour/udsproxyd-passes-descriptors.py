#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Descriptors that cross: none lost, none left behind, none made twice, bytes in their order.

FULL=1 repeats more often. With arguments only those behaviours run whose names contain one.
"""

import errno
import os
import select
import socket
import sys
import threading
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)) + "/../lib")
from fdkinds import refused  # noqa: E402
from proxyends import (Cases, Wire, accept, connect, cpu_spent, descriptors, ended, expect,  # noqa: E402
		       listen, memory, pattern, queued, read_all, readable, receive, receive_fds,
		       send_fds, settled, works)
from proxypair import Pair, wait_for  # noqa: E402
from tap import Tap  # noqa: E402

FULL = bool(os.environ.get("FULL"))
SANITIZED = os.environ.get("FLAVOUR") in ("asan", "tsan")


def times(n, full):
	return full if FULL else n // 4 if SANITIZED else n


# ---- many -------------------------------------------------------------------------------------


def many_messages(pair, wire):
	"""thousands of messages with descriptors leave none in either daemon"""
	before = [descriptors(side) for side in pair.sides]
	memory_before = [memory(side) for side in pair.sides]
	count = times(2000, 10000)
	client, server = wire()

	def give():
		for i in range(count):
			r, w = os.pipe()
			mine, other = socket.socketpair()
			send_fds(client, [(r, w)[i % 2], other.detach(), os.open("/dev/null", os.O_RDONLY)])
			os.close((w, r)[i % 2])
			mine.close()

	giver = threading.Thread(target=give)
	giver.start()
	for _ in range(count):
		for fd in receive_fds(server, 3):
			os.close(fd)
	giver.join()
	# as long as the connection lives, too
	expect(settled(pair, [n + 1 for n in before]), [n + 1 for n in before], "descriptors")
	client.close()
	server.close()
	expect(settled(pair, before), before, "descriptors")
	grown = max(memory(side) - old for side, old in zip(pair.sides, memory_before))
	if grown > 32 << 10 and not SANITIZED:
		raise AssertionError(f"a daemon grew by {grown} KiB")


def at_most(pair, wire):
	"""253 descriptors of mixed kinds in one message, both ways, in order"""
	for giver, taker in wire(), wire()[::-1]:
		given, kept = [], []
		for i in range(253):
			if i % 3 == 2:
				mine, other = socket.socketpair()
				kept.append((i, mine))
				given.append(other.detach())
			elif i % 3:
				r, w = os.pipe()
				os.write(w, b"%d" % i)
				os.close(w)
				given.append(r)
			else:
				given.append(os.open(("/dev/null", "/dev/zero")[i % 2], os.O_RDONLY))
		send_fds(giver, given)
		fds = receive_fds(taker, 253)
		for i, mine in kept:
			os.write(fds[i], b"s%d" % i)
			mine.settimeout(10)
			expect(receive(mine, len(b"s%d" % i)), b"s%d" % i, f"from socket {i}")
			mine.close()
		for i, fd in enumerate(fds):
			if i % 3 == 1:
				expect(read_all(fd), b"%d" % i, f"from pipe {i}")
			elif i % 3 == 0:
				expect(os.read(fd, 1), (b"", b"\0")[i % 2], f"from device {i}")
			os.close(fd)
		giver.close()
		taker.close()


# ---- one pipe is one pipe ----------------------------------------------------------------------


def drain(fds, total):
	"""Read the ends of what must be one pipe until it ends; all that was read, in order."""
	data = bytearray()
	fds = list(fds)
	while fds:
		ready = select.select(fds, [], [], 10)[0]
		if not ready:
			raise TimeoutError(f"{len(data)} of {total} bytes, no end")
		for fd in ready:
			more = os.read(fd, 65536)
			data += more
			if not more:
				os.close(fd)
				fds.remove(fd)
	return bytes(data)


def write_slowly(fd, data, pieces=64):
	size = len(data) // pieces
	for i in range(0, len(data), size):
		os.write(fd, data[i:i + size])
		time.sleep(0.001)
	os.close(fd)


def same_pipe(wire, sends, one_connection=True):
	"""Pass a pipe's read end as `sends` does; the bytes must be those written, undivided."""
	r, w = os.pipe()
	connections = [wire(), wire()]
	writer = threading.Thread(target=write_slowly, args=[w, pattern(1 << 20)])
	# A message waits for the bytes of pipes that were passed before it, and so for their reader.
	if not one_connection:
		writer.start()
	fds = sends(connections, r)
	if one_connection:
		writer.start()
	data = drain(fds, 1 << 20)
	writer.join()
	for ends in connections:
		for end in ends:
			end.close()
	return data == pattern(1 << 20)


def same_message(pair, wire):
	"""a pipe passed twice in one message is one pipe"""
	def sends(connections, r):
		client, server = connections[0]
		send_fds(client, [r, os.dup(r)])
		return receive_fds(server, 2)

	return same_pipe(wire, sends)


def two_messages(pair, wire):
	"""a pipe passed again in a later message is the same pipe"""
	def sends(connections, r):
		client, server = connections[0]
		send_fds(client, [os.dup(r)])
		first = receive_fds(server)
		time.sleep(0.02)
		send_fds(client, [r])
		return [first, receive_fds(server)]

	return same_pipe(wire, sends)


def two_connections(pair, wire):
	"""a pipe passed over two connections at once is one pipe, 40 times"""
	def sends(connections, r):
		copies = [r, os.dup(r)]
		starter = threading.Barrier(2)

		def give(i):
			starter.wait()
			send_fds(connections[i][0], [copies[i]])

		givers = [threading.Thread(target=give, args=[i]) for i in range(2)]
		for giver in givers:
			giver.start()
		fds = [receive_fds(server) for _, server in connections]
		for giver in givers:
			giver.join()
		return fds

	for i in range(times(40, 400)):
		if not same_pipe(wire, sends, one_connection=False):
			raise AssertionError(f"bytes were lost or split at turn {i}")


def both_write(pair, wire):
	"""a pipe's write end passed over two connections: both writers' bytes arrive, then the end"""
	for _ in range(times(20, 200)):
		r, w = os.pipe()
		connections = [wire(), wire()]
		for (client, _), fd in zip(connections, (os.dup(w), w)):
			send_fds(client, [fd])
		writers = []
		for i, (_, server) in enumerate(connections):
			fd = receive_fds(server)
			writers.append(threading.Thread(target=write_slowly, args=[fd, b"%d" % i * 65536]))
			writers[-1].start()
		data = read_all(r)
		expect((data.count(b"0"), data.count(b"1")), (65536, 65536), "bytes of each")
		for writer in writers:
			writer.join()
		os.close(r)
		for ends in connections:
			for end in ends:
				end.close()


def packet_mode(pair, wire):
	"""a pipe in packet mode (O_DIRECT): none of 3,000 packets of 3,000 bytes is cut, though its reader is slow"""
	client, server = wire()
	r, w = os.pipe2(os.O_DIRECT)
	send_fds(client, [r])
	far = receive_fds(server)
	data = pattern(9000000)

	def write():
		for at in range(0, len(data), 3000):
			os.write(w, data[at:at + 3000])
		os.close(w)
	writer = threading.Thread(target=write)
	writer.start()
	got = b""
	while piece := os.read(far, 65536):
		got += piece
		time.sleep(0.0005)	# so that pipes, and what is not acknowledged, fill
	writer.join()
	os.close(far)
	client.close()
	server.close()
	expect(len(got), len(data), "bytes")
	return got == data


def passed_again(pair, wire):
	"""a pipe that is passed again just when its far end is closed still works, 500 times"""
	client, server = wire()
	r, w = os.pipe()
	for i in range(times(500, 10000)):
		send_fds(client, [os.dup(r)])
		fd = receive_fds(server)
		os.write(w, b"%06d" % i)
		expect(os.read(fd, 6) if readable(fd, 5) else "nothing", b"%06d" % i, f"at turn {i}")
		os.close(fd)
		# the news of it are at any stage of their way
		if i % 5:
			time.sleep(0.0001 * (i % 25))
	os.close(w)
	os.close(r)


def passed_again_with_news(pair, wire):
	"""the same while bytes wait in the pipe, so that the daemon notices: none is lost"""
	lost = []
	for i in range(times(300, 5000)):
		client, server = wire()
		r, w = os.pipe()
		send_fds(client, [os.dup(r)])
		os.close(receive_fds(server))
		# This one may fall to the reader that is gone (as it would be lost had it read on);
		# what is written after the second pass must arrive.
		os.write(w, b"x")
		time.sleep(0.0001 * (i % 20))
		send_fds(client, [r])
		fd = receive_fds(server)
		os.write(w, b"after")
		os.close(w)
		data = read_all(fd)
		os.close(fd)
		client.close()
		server.close()
		if not data.endswith(b"after"):
			lost.append((i, data))
	expect(lost, [], "turns that lost bytes")


def write_end_again(pair, wire):
	"""a pipe's write end that is passed again just when its far end was closed still works"""
	client, server = wire()
	r, w = os.pipe()
	for i in range(times(500, 10000)):
		send_fds(client, [os.dup(w)])
		fd = receive_fds(server)
		os.write(fd, b"%06d" % i)
		os.close(fd)
		if i % 5:
			time.sleep(0.0001 * (i % 25))
		expect(os.read(r, 6) if readable(r, 5) else "nothing", b"%06d" % i, f"at turn {i}")
	os.close(w)
	expect(read_all(r), b"", "at the end")
	os.close(r)


# ---- order -------------------------------------------------------------------------------------


def order(pair, wire):
	"""a message never overtakes the bytes that were written to a passed pipe before it"""
	client, server = wire()
	r, w = os.pipe()
	send_fds(client, [r])
	fd = receive_fds(server)
	for i in range(times(1000, 10000)):
		os.write(w, b"%06d" % i)
		client.send(b"m")
		expect(server.recv(1), b"m")
		expect(queued(fd), 6, f"bytes in the pipe at message {i}")
		os.read(fd, 6)
	os.close(w)


def order_elsewhere(pair, wire):
	"""nor when the pipe's connections and the message's are many, and so on any worker"""
	ends = [wire() for _ in range(8)]
	pipes = []
	for client, server in ends:
		r, w = os.pipe()
		send_fds(client, [r])
		pipes.append((w, receive_fds(server)))
	for i in range(times(150, 1500)):
		for (w, _), (client, _) in zip(pipes, ends):
			os.write(w, b"%06d" % i)
			client.send(b"m")
		for (_, fd), (_, server) in zip(pipes, ends):
			expect(server.recv(1), b"m")
			expect(queued(fd), 6, f"bytes in the pipe at message {i}")
			os.read(fd, 6)


def order_slow(pair, wire):
	"""nor when the pipe's reader is slow and the pipe full: the message waits, not others' messages"""
	client, server = wire()
	other, other_server = wire()
	r, w = os.pipe()
	send_fds(client, [r])
	fd = receive_fds(server)
	size = 400000
	writer = threading.Thread(target=lambda: (os.write(w, pattern(size)), client.send(b"done")))
	writer.start()
	read = bytearray()
	while len(read) < size:
		if readable(server, 0) and len(read) + queued(fd) < size:
			raise AssertionError(f"the message came after {len(read)} and {queued(fd)} of {size} bytes")
		other.send(b"o")
		expect(other_server.recv(1), b"o")
		read += os.read(fd, 20000)
		time.sleep(0.005)
	expect(server.recv(4), b"done")
	writer.join()
	expect(bytes(read), pattern(size))
	os.close(w)


def order_background(pair, wire):
	"""the last message comes although another program keeps the pipe open"""
	client, server = wire()
	r, w = os.pipe()
	keeper = os.dup(w)
	send_fds(client, [r])
	fd = receive_fds(server)
	os.write(w, pattern(50000))
	os.close(w)
	client.send(b"status 0")
	client.close()
	expect(receive(server, 100), b"status 0")
	expect(queued(fd), 50000, "bytes in the pipe")
	os.read(fd, 50000)
	os.write(keeper, b"late")
	expect(os.read(fd, 10) if readable(fd, 5) else "nothing", b"late")
	os.close(keeper)
	expect(read_all(fd), b"")


def order_back(pair, wire):
	"""a program's output through a passed write end is there before its last word"""
	for i in range(times(200, 2000)):
		client, server = wire()
		r, w = os.pipe()
		send_fds(client, [w])
		fd = receive_fds(server)
		os.write(fd, b"output %06d" % i)
		server.send(b"exit")
		server.close()
		expect(receive(client, 4), b"exit")
		expect(queued(r), 13, f"bytes in the pipe at turn {i}")
		os.close(fd)
		os.close(r)
		client.close()


# ---- listening sockets --------------------------------------------------------------------------


def given_listener(pair, wire, name):
	"""Pass a listening socket that d has there; its twin, and the connection it came over."""
	client, server = wire()
	listener = listen(pair.d, name)
	send_fds(client, [listener.detach()])
	twin = socket.socket(fileno=receive_fds(server))
	twin.settimeout(15)
	return twin, client, server


def local(pair, name):
	sock = socket.socket(socket.AF_UNIX)
	sock.settimeout(15)
	sock.connect(pair.d.outside(name))
	return sock


def refuses(pair, name):
	"""Is the name's socket closed?"""
	with socket.socket(socket.AF_UNIX) as sock:
		return sock.connect_ex(pair.d.outside(name)) == errno.ECONNREFUSED


def listener_crowd(pair, wire):
	"""a passed listening socket serves 100 clients at once"""
	name = pair.own + "/crowd"
	twin, client, server = given_listener(pair, wire, name)
	callers = [local(pair, name) for _ in range(100)]
	for i, caller in enumerate(callers):
		caller.sendall(b"%03d" % i)
	served = [accept(twin) for _ in range(100)]
	numbers = [receive(sock, 3) for sock in served]
	expect(sorted(numbers), [b"%03d" % i for i in range(100)])
	for sock, number in zip(served, numbers):
		sock.sendall(b"to " + number)
	for i, caller in enumerate(callers):
		expect(receive(caller, 6), b"to %03d" % i)
	for sock in (*callers, *served, client, server):
		sock.close()
	twin.close()
	if not wait_for(lambda: refuses(pair, name), 2):
		raise AssertionError("the original listens on 2 s after its twin was closed")


def listener_undone(pair, wire):
	"""it outlives the connection it came over, and is undone within 2 s of its twin's close"""
	before = [descriptors(side) for side in pair.sides]
	name = pair.own + "/outlives"
	twin, client, server = given_listener(pair, wire, name)
	client.close()
	server.close()
	time.sleep(1.2)  # longer than a probe's interval
	caller = local(pair, name)
	served = accept(twin)
	served.sendall(b"hi")
	expect(receive(caller, 2), b"hi")
	served.close()
	caller.close()
	twin.close()
	if not wait_for(lambda: refuses(pair, name), 2):
		raise AssertionError("the original listens on 2 s after its twin was closed")
	expect(settled(pair, before), before, "descriptors")
	twins = pair.h.outside(pair.h.runtime + "/twins")
	if not wait_for(lambda: not os.listdir(twins), 2):
		raise AssertionError("a twin's directory is left")


def listener_news_lost(pair, wire):
	"""it is undone when the news of its twin's close were lost, by the next who connects"""
	name = pair.own + "/lost"
	twin, client, server = given_listener(pair, wire, name)
	pair.d.run(["ip", "link", "set", "veth", "down"])
	try:
		twin.close()
		time.sleep(1.5)
	finally:
		pair.d.run(["ip", "link", "set", "veth", "up"])
	# The news may still come, late; else a client brings it.
	def attempt():
		try:
			with local(pair, name) as caller:
				ended(caller, 10)
		except ConnectionRefusedError:
			return True
		return False

	if not wait_for(attempt, 15):
		raise AssertionError("the original listens on")
	client.close()
	server.close()


# ---- ends of a socketpair ------------------------------------------------------------------------


def pair_of(side, socktype):
	"""A socketpair that a program of this side has made."""
	ours, theirs = socket.socketpair()
	program = ("import socket; pair = socket.socketpair(socket.AF_UNIX, int(__import__('sys').argv[1])); "
		   "socket.send_fds(socket.socket(fileno=0), [b'p'], [end.fileno() for end in pair])")
	with ours, theirs:
		side.run([sys.executable, "-c", program, str(int(socktype))], stdin=theirs)
		return [socket.socket(fileno=fd) for fd in receive_fds(ours, 2)]


def given_pair(wire, socktype=socket.SOCK_STREAM, side=None):
	"""The end that the client (a program of this side) keeps, and what the server was given for the other."""
	client, server = wire()
	mine, other = pair_of(side, socktype) if side else socket.socketpair(socket.AF_UNIX, socktype)
	send_fds(client, [other.detach()])
	theirs = socket.socket(fileno=receive_fds(server))
	client.close()
	server.close()
	mine.settimeout(15)
	theirs.settimeout(15)
	return mine, theirs


def pair_closed(pair, wire):
	"""a passed socketpair shows EOF when the other holder closed it, whichever that is"""
	for socktype in socket.SOCK_STREAM, socket.SOCK_SEQPACKET:
		for used in False, True:
			for which in 0, 1:
				ends = given_pair(wire, socktype)
				if used:
					for a, b in (ends, ends[::-1]) * 2:
						a.sendall(b"used")
						expect(b.recv(10), b"used")
				ends[which].close()
				expect(ended(ends[1 - which]), "EOF", f"end {1 - which}, used {used}, {socktype}")
				ends[1 - which].close()


def pair_half_closed(pair, wire):
	"""its half-close crosses, and what is written against it arrives"""
	for swap in False, True:
		mine, theirs = given_pair(wire)
		if swap:
			mine, theirs = theirs, mine
		mine.sendall(b"question")
		mine.shutdown(socket.SHUT_WR)
		expect(receive(theirs, 100), b"question")
		theirs.sendall(pattern(300000))
		theirs.close()
		expect(receive(mine, 300001), pattern(300000))
		mine.close()


def pair_stopped(_, wire):
	"""a passed socket whose reader has stopped, on either side, holds up nobody else, also when it is one that blocks"""
	stopped = []
	for i in range(10):
		ends = given_pair(wire)
		reader, writer = ends[::-1] if i % 2 else ends
		writer.settimeout(0.1)
		sent = 0
		try:
			while True:
				sent += writer.send(b"x" * (1 << 20))
		except TimeoutError:
			stopped.append((reader, writer, sent))
		expect(works(wire), True, "another connection")
	for reader, writer, sent in stopped:
		writer.shutdown(socket.SHUT_WR)
		expect(len(receive(reader, sent + 1)), sent)
		reader.close()
		writer.close()


def pair_in_pair(pair, wire):
	"""descriptors cross within a passed socketpair, both ways"""
	mine, theirs = given_pair(wire)
	for a, b in (mine, theirs), (theirs, mine):
		r, w = os.pipe()
		send_fds(a, [r])
		fd = receive_fds(b)
		os.write(w, b"deep")
		os.close(w)
		expect(read_all(fd), b"deep")
		os.close(fd)
	mine.close()
	theirs.close()


# ---- datagrams ----------------------------------------------------------------------------------


def local_or_given(wire, run):
	"""Run it with the ends of a local pair, and then of one that was passed, either way round."""
	for ends in (socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM), given_pair(wire, socket.SOCK_DGRAM),
		     given_pair(wire, socket.SOCK_DGRAM)[::-1]):
		for end in ends:
			end.settimeout(15)
		run(*ends)
		for end in ends:
			end.close()


def send_error(sock):
	"""The errno's name that sending says within 10 s, as the other end is closed or shut down."""
	def attempt():
		try:
			sock.send(b"?")
		except OSError as e:
			return errno.errorcode[e.errno]

	return wait_for(attempt)


def datagrams(pair, wire):
	"""a passed datagram socketpair is as a local one: boundaries, empty ones, descriptors, EPIPE, EAGAIN"""
	def run(a, b):
		for mine, theirs in (a, b), (b, a):
			for size in 1, 0, 1000, 131072, 0, 5:
				mine.send(pattern(size, size))
				expect(theirs.recv(1 << 20) == pattern(size, size), True, f"{size} bytes")
			for data in b"", b"with":
				r, w = os.pipe()
				send_fds(mine, [r], data)
				found, fds, _, _ = socket.recv_fds(theirs, 100, 10)
				expect((found, len(fds)), (data, 1))
				os.write(w, b"through")
				os.close(w)
				expect(read_all(fds[0]), b"through")
				os.close(fds[0])
		mine.setblocking(False)
		sent = 0
		try:
			while sent < 10000:
				mine.send(b"%06d" % sent * 100)
				sent += 1
		except BlockingIOError:
			pass
		expect(sent < 10000, True, "it is bounded")
		for i in range(sent):
			expect(theirs.recv(1000)[:6], b"%06d" % i)
		mine.settimeout(15)
		theirs.shutdown(socket.SHUT_RD)
		expect(send_error(mine), "EPIPE")
		theirs.send(b"the other way")
		expect(mine.recv(100), b"the other way")

	local_or_given(wire, run)


def datagrams_closed(pair, wire):
	"""its close is seen as ever: what was sent stays, and sending says ECONNREFUSED; nothing is left behind"""
	before = [descriptors(side) for side in pair.sides]

	def run(a, b):
		for i in range(10):
			a.send(b"%d" % i)
		a.close()
		expect([b.recv(10) for _ in range(10)], [b"%d" % i for i in range(10)])
		expect(send_error(b), "ECONNREFUSED")
		b.settimeout(0.1)
		expect(ended(b, 0.1), "nothing")

	local_or_given(wire, run)
	# One end, the other, both; of a program of the daemon's network, and of ours. Only of the former the end
	# that was not passed is seen to be closed before something is sent to it.
	given = [given_pair(wire, socket.SOCK_DGRAM, (None, pair.d)[i % 2]) for i in range(24)]
	for i, ends in enumerate(given):
		which = i // 2 % 3
		if which != 1:
			ends[0].close()
		if which or not i % 2:
			ends[1].close()
	expect(settled(pair, before, 15), before, "descriptors")
	for ends in given:
		for end in ends:
			end.close()


def datagram_client(pair, wire):
	"""a socket that is connected to a server's name is passed, and the server gets what is sent through it"""
	client, server = wire()
	with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener, \
		socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as connected:
		listener.settimeout(15)
		name = pair.d.outside(pair.own + "/datagrams")
		listener.bind(name)
		connected.connect(name)
		send_fds(client, [os.dup(connected.fileno())])
		with socket.socket(fileno=receive_fds(server)) as theirs:
			theirs.settimeout(15)
			# more than its queue holds: the sender waits, and nothing is lost
			sender = threading.Thread(target=lambda: [theirs.send(b"%d" % i) for i in range(5000)])
			sender.start()
			time.sleep(0.2)
			expect([listener.recv(100) for _ in range(5000)], [b"%d" % i for i in range(5000)])
			sender.join()
			listener.close()
			expect(send_error(theirs), "ECONNREFUSED")
	client.close()
	server.close()


# ---- what does not cross ------------------------------------------------------------------------


def refused_kinds(pair, wire, back):
	"""what cannot cross ends the connection in both directions, and both logs name its kind"""
	wrong = []
	with refused() as kinds:
		for connection, side in (wire, pair.d), (back, pair.h):
			for kind, fd in kinds:
				giver, taker = connection()
				said = {who: len(who.log()) for who in pair.sides}
				giver.sendall(b"before")
				send_fds(giver, [os.open("/dev/null", os.O_RDONLY), os.dup(fd)])
				expect(receive(taker, 6), b"before")
				how = ended(taker, 5), ended(giver, 5)

				def told(who, giver=side, kind=kind, said=said):
					start = "a connection is ended: " if who is giver else "the peer ended a connection: "
					return any(line.split("udsproxyd: ")[1].startswith(start) and kind in line
						   for line in who.log()[said[who]:].splitlines())

				if set(how) - {"EOF", "ECONNRESET"} or \
					not all(wait_for(lambda who=who: told(who), 2) for who in pair.sides):
					wrong.append((kind, how, [who.log()[said[who]:] for who in pair.sides]))
				giver.close()
				taker.close()
	expect(wrong, [], "wrong")


def socket_twice(pair, wire):
	"""a socket that was passed before is refused, and goes on over its first connection"""
	client, server = wire()
	mine, other = socket.socketpair()
	send_fds(client, [os.dup(other.fileno())])
	theirs = socket.socket(fileno=receive_fds(server))
	second, second_server = wire()
	send_fds(second, [other.detach()])
	expect(ended(second_server) in ("EOF", "ECONNRESET"), True, "the second connection is ended")
	mine.settimeout(10)
	theirs.sendall(b"on")
	expect(receive(mine, 2), b"on")


def empty_packets(pair, packets):
	"""empty packets lose nothing that follows them, nor their descriptors"""
	before = [descriptors(side) for side in pair.sides]
	for i in range(20):
		client, server = packets()
		client.send(b"")
		client.send(b"one")
		client.send(b"")
		client.send(b"two")
		client.close()
		found = []
		while len(found) < 4 and readable(server, 5):
			found.append(server.recv(10))
		expect(found, [b"", b"one", b"", b"two"], f"packets at turn {i}")
		expect(server.recv(10), b"")
		server.close()
	client, server = packets()
	r, w = os.pipe()
	socket.send_fds(client, [b""], [r])
	os.close(r)
	data, fds, _, _ = socket.recv_fds(server, 10, 10)
	expect((data, len(fds)), (b"", 1), "an empty packet with a descriptor")
	os.close(w)
	expect(read_all(fds[0]), b"")
	os.close(fds[0])
	for sock in client, server:
		sock.close()
	for _ in range(20):
		client, server = packets()
		r, w = os.pipe()
		socket.send_fds(client, [b""], [r, w])
		client.close()
		os.close(r)
		os.close(w)
		for fd in socket.recv_fds(server, 10, 10)[1]:
			os.close(fd)
		server.close()
	expect(settled(pair, before), before, "descriptors")


def thrown_away(pair, packets):
	"""descriptors that nobody takes are closed, on both sides"""
	before = [descriptors(side) for side in pair.sides]
	for _ in range(50):
		client, server = packets()
		for data in b"a", b"", b"b":
			r, w = os.pipe()
			socket.send_fds(client, [data], [r, w])
			os.close(r)
			os.close(w)
		server.close()
		client.close()
	expect(settled(pair, before), before, "descriptors")


def full_of_nothing(pair, wire):
	"""pipes that are open and silent cost no CPU time"""
	client, server = wire()
	kept = []
	for i in range(20):
		r, w = os.pipe()
		send_fds(client, [os.dup((r, w)[i % 2])])
		kept += [r, w, receive_fds(server)]
	fd = kept[2]  # one is full, too
	os.set_blocking(kept[1], False)
	try:
		while True:
			os.write(kept[1], b"x" * 65536)
			time.sleep(0.002)
	except BlockingIOError:
		pass
	time.sleep(0.1)
	spent = cpu_spent(pair)
	for fd in kept:
		os.close(fd)
	if spent > 2:
		raise AssertionError(f"{spent} ticks in a second")


def main():
	tap = Tap()
	cases = Cases(tap, sys.argv[1:])
	for threads in 1, 4:
		with Pair(threads) as pair:
			wire = Wire(pair.d, pair.h)
			back = Wire(pair.h, pair.d)
			packets = Wire(pair.d, pair.h, socket.SOCK_SEQPACKET)
			note = f" ({threads} thread{'s' * (threads > 1)})"
			works_before = [wire(), back()]
			for ends in works_before:
				for end in ends:
					end.close()
			for case in (at_most, same_message, two_messages, two_connections, both_write, packet_mode,
				     passed_again, passed_again_with_news, write_end_again, order,
				     order_elsewhere, order_slow, order_background, order_back,
				     listener_crowd, listener_undone, pair_closed, pair_half_closed,
				     pair_stopped, pair_in_pair, datagrams, datagrams_closed, datagram_client, socket_twice,
				     full_of_nothing):
				cases.run(case, pair, wire, note=note)
			for case in empty_packets, thrown_away:
				cases.run(case, pair, packets, note=note)
			cases.run(many_messages, pair, wire, note=note)
			cases.run(many_messages, pair, back, note=note + " from the other side")
			if threads == 1:
				cases.run(refused_kinds, pair, wire, back, note=note)
				cases.run(listener_news_lost, pair, wire, note=note)
	tap.done()


if __name__ == "__main__":
	main()
