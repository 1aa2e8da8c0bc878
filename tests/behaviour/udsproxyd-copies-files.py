#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Sealed memfds, and files below no share, cross as copies: whole, unchanged, and at nobody else's cost.

With arguments only those behaviours run whose names contain one.
"""

import contextlib
import errno
import fcntl
import hashlib
import mmap
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)) + "/../lib")
from fdkinds import (F_ADD_SEALS, F_GET_SEALS, F_SEAL_EXEC, F_SEAL_SEAL, UNCHANGEABLE,  # noqa: E402
		     memfd)
from proxyends import (Cases, Wire, cpu_spent, descriptors, ended, expect, memory, pattern,  # noqa: E402
		       read_all, readable, receive, receive_fds, send_fds, settled, works)
from proxypair import Pair, wait_for  # noqa: E402
from tap import Tap  # noqa: E402

MIB = 1 << 20
SFTP_SERVER = "/usr/lib/openssh/sftp-server"


def content(fd):
	with mmap.mmap(fd, 0, prot=mmap.PROT_READ, flags=mmap.MAP_SHARED) as mapped:
		return mapped[:]


def sealed_memory(pair, wire, packets):
	"""a sealed memfd arrives with its bytes, name, seals, mode, offset and flags, and stays as it is"""
	for ends in wire(), wire()[::-1], packets(), packets()[::-1]:
		giver, taker = ends
		for size, seals in (1, UNCHANGEABLE), (4096, UNCHANGEABLE | F_SEAL_SEAL), (65537, UNCHANGEABLE), \
				(3 * MIB, UNCHANGEABLE):
			data = pattern(size, seals)
			fd = memfd(data, seals, "a sealed one")
			os.fchmod(fd, 0o640)
			os.lseek(fd, size // 2, os.SEEK_SET)
			send_fds(giver, [os.dup(fd)])
			found = receive_fds(taker)
			expect(content(found) == data, True, f"{size} bytes")
			for what in (lambda f: os.readlink(f"/proc/self/fd/{f}"), lambda f: fcntl.fcntl(f, F_GET_SEALS),
				     lambda f: os.fstat(f).st_mode, lambda f: os.lseek(f, 0, os.SEEK_CUR),
				     lambda f: fcntl.fcntl(f, fcntl.F_GETFL)):
				expect(what(found), what(fd))
			for write in (lambda f: os.pwrite(f, b"x", 0), lambda f: os.truncate(f, size + 1),
				      lambda f: os.truncate(f, 0), lambda f: mmap.mmap(f, 0)):
				with contextlib.suppress(PermissionError):
					write(found)
					raise AssertionError("it could be changed")
			if not seals & F_SEAL_SEAL:
				fcntl.fcntl(found, F_ADD_SEALS, F_SEAL_SEAL)
			os.close(found)
			os.close(fd)
		giver.close()
		taker.close()


def program(pair, wire):
	"""a program in a sealed memfd runs from its copy"""
	with open("/bin/true", "rb") as f, open("/bin/false", "rb") as g:
		programs = f.read(), g.read()
	client, server = wire()
	for data, wanted in zip(programs, (0, 1)):
		send_fds(client, [memfd(data, UNCHANGEABLE)])
		writable = receive_fds(server)	# which is no program, here as there
		fd = os.open(f"/proc/self/fd/{writable}", os.O_RDONLY)
		os.close(writable)

		def run(fd=fd):
			try:
				return subprocess.run([f"/proc/self/fd/{fd}"], pass_fds=[fd], check=False).returncode
			except OSError as e:	# while who has passed it still has it open, too
				return -1 if e.errno == errno.ETXTBSY else e.errno

		if not wait_for(lambda: run() == wanted):
			raise AssertionError(f"status {run()}, not {wanted}")
		os.close(fd)
	client.close()
	server.close()


def read_only_file(pair, wire):
	"""a file of no share, open for reading only, arrives sealed, at its offset; later changes do not"""
	for giver, taker in wire(), wire()[::-1]:
		for size in 0, 1, 100000, 5 * MIB:
			with tempfile.NamedTemporaryFile(dir="/var/tmp") as f:
				f.write(pattern(size))
				f.flush()
				fd = os.open(f.name, os.O_RDONLY)
				os.lseek(fd, size // 3, os.SEEK_SET)
				send_fds(giver, [os.dup(fd)])
				found = receive_fds(taker)
				f.seek(0)
				f.write(b"changed")
				f.flush()
				expect(os.pread(found, size + 1, 0) == pattern(size), True, f"{size} bytes")
				expect(os.lseek(found, 0, os.SEEK_CUR), size // 3, "offset there")
				expect(os.lseek(fd, 0, os.SEEK_CUR), size // 3, "offset here")
				expect(fcntl.fcntl(found, fcntl.F_GETFL) & os.O_ACCMODE, os.O_RDONLY)
				seals = fcntl.fcntl(found, F_GET_SEALS) | F_SEAL_EXEC
				expect(seals, UNCHANGEABLE | F_SEAL_SEAL | F_SEAL_EXEC, "seals")
				expect(os.readlink(f"/proc/self/fd/{found}"),
				       f"/memfd:{os.path.basename(f.name)} (deleted)")
				os.close(fd)
				os.close(found)
		giver.close()
		taker.close()


def below_a_share(pair, wire):
	"""a file below a share is the file itself, as ever, and its duplicates share an offset"""
	path = pair.d.outside(pair.share + "/itself")
	with open(path, "w", encoding="ascii") as f:
		f.write("0123456789")
	client, server = wire()
	fd = os.open(path, os.O_RDONLY)
	send_fds(client, [os.dup(fd), os.dup(fd), os.open(path, os.O_RDONLY)])
	fds = receive_fds(server, 3)
	expect([os.fstat(f).st_ino for f in fds], [os.stat(path).st_ino] * 3)
	expect([os.read(f, 3) for f in fds], [b"012", b"345", b"012"])
	for f in fd, *fds:
		os.close(f)
	os.unlink(path)


def with_others(pair, wire):
	"""copies among other kinds, in one message with many bytes, each in its place"""
	for giver, taker in wire(), wire()[::-1]:
		data = pattern(200000, 7)
		r, w = os.pipe()
		mine, other = socket.socketpair()
		fds = [memfd(b"first", UNCHANGEABLE), r, memfd(pattern(MIB), UNCHANGEABLE), other.detach(),
		       os.open("/etc/passwd", os.O_RDONLY), os.open("/dev/zero", os.O_RDONLY)]
		fds.append(os.dup(fds[0]))
		sender = threading.Thread(target=lambda: (socket.send_fds(giver, [data[:1000]], fds),
							  giver.sendall(data[1000:])))
		sender.start()
		got, found, _, _ = socket.recv_fds(taker, 1000, 253)
		expect(got + receive(taker, len(data) - len(got)) == data, True, "the message")
		sender.join()
		os.write(w, b"pipe")
		mine.send(b"socket")
		with open("/etc/passwd", "rb") as f:
			passwd = f.read()
		expect([os.read(f, len(passwd)) for f in found[:2]], [b"first", b"pipe"])
		expect(content(found[2]) == pattern(MIB), True, "the second copy")
		expect([os.read(f, n) for f, n in zip(found[3:], (100, len(passwd), 3, 9))],
		       [b"socket", passwd, bytes(3), b""])
		for f in (*fds, *found, w):
			os.close(f)
		mine.close()
		giver.close()
		taker.close()


def as_many_at_once(pair, wire):
	"""more connections than may copy at once pass 8 MiB each, in both directions: all of it arrives"""
	before = [descriptors(side) for side in pair.sides]
	memory_before = [memory(side) for side in pair.sides]
	connections = [wire() if i % 2 else wire()[::-1] for i in range(40)]
	fds = [memfd(pattern(8 * MIB, i), UNCHANGEABLE) for i in range(4)]
	wanted = [hashlib.sha256(pattern(8 * MIB, i)).digest() for i in range(4)]
	wrong = []

	def take(i, taker):
		try:
			fd = receive_fds(taker)
			with open(fd, "rb") as f:
				if hashlib.sha256(f.read()).digest() != wanted[i % 4]:
					wrong.append(f"{i}: other bytes")
		except (OSError, AssertionError) as e:
			wrong.append(f"{i}: {e!r}")

	takers = [threading.Thread(target=take, args=[i, taker]) for i, (_, taker) in enumerate(connections)]
	for i, (giver, _) in enumerate(connections):
		send_fds(giver, [os.dup(fds[i % 4])])
	for taker in takers:
		taker.start()
	for taker in takers:
		taker.join()
	expect(wrong, [], "copies")
	for sock in (sock for ends in connections for sock in ends):
		sock.close()
	for fd in fds:
		os.close(fd)
	expect(settled(pair, before), before, "descriptors")
	grown = max(memory(side) - old for side, old in zip(pair.sides, memory_before))
	if grown > 24 << 10 and not os.environ.get("FLAVOUR") in ("asan", "tsan"):
		raise AssertionError(f"a daemon grew by {grown} KiB")


def thrown_away(pair, wire):
	"""copies whose giver or taker is gone leave nothing behind, on either side"""
	before = [descriptors(side) for side in pair.sides]
	fd = memfd(bytes(4 * MIB), UNCHANGEABLE)
	for which in 0, 1, 0, 1:
		for moment in 0, 0.001, 0.01:
			ends = wire()
			send_fds(ends[0], [os.dup(fd), os.dup(fd)])
			time.sleep(moment)	# wherever it is by now
			ends[which].close()
			ends[1 - which].close()
	os.close(fd)
	expect(settled(pair, before), before, "descriptors")
	expect(works(wire), True)


def slow_reader(pair, wire):
	"""a reader that takes nothing gets its copies when it takes something again, and holds nobody up"""
	giver, taker = wire()
	fds = [memfd(pattern(MIB, i), UNCHANGEABLE) for i in range(20)]
	lead = pattern(200000)
	sender = threading.Thread(target=lambda: (giver.sendall(lead * 20), [
		socket.send_fds(giver, [b"%02d" % i], [fd]) for i, fd in enumerate(fds)]))
	sender.start()
	time.sleep(0.3)
	expect(works(wire), True, "another connection")
	other, other_taker = wire()
	send_fds(other, [os.dup(fds[0])])
	fd = receive_fds(other_taker)
	expect(content(fd) == pattern(MIB, 0), True, "another's copy")
	os.close(fd)
	expect(receive(taker, len(lead) * 20) == lead * 20, True, "what came before")
	for i, fd in enumerate(fds):
		found = receive_fds(taker, 1, b"%02d" % i)
		expect(content(found) == pattern(MIB, i), True, f"copy {i}")
		os.close(found)
		os.close(fd)
	sender.join()
	for sock in giver, taker, other, other_taker:
		sock.close()


class SlowFiles:
	"""A directory of side d's as a network file system that can be made to hang: sshfs."""

	def __init__(self, pair):
		self.pair = pair
		self.place, self.real = pair.own + "/slow", tempfile.mkdtemp(dir="/var/tmp")
		ours, theirs = socket.socketpair()
		pair.d.run(["mkdir", self.place])
		self.server = subprocess.Popen([SFTP_SERVER], stdin=ours, stdout=ours)
		self.mount = pair.d.popen(
			["sshfs", "-f", "-o", "passive,direct_io,dir_cache=no", f":{self.real}", self.place],
			stdin=theirs, stdout=theirs)
		for sock in ours, theirs:
			sock.close()
		self.seen = pair.d.outside(self.place)
		if not wait_for(self.mounts):
			self.end()
			raise RuntimeError("sshfs does not mount")

	def mounts(self):
		with open(f"/proc/{self.pair.d.holder.pid}/mountinfo", encoding="utf-8") as f:
			return [line for line in f if line.split()[4] == self.place]

	def opened(self, data, name):
		with open(f"{self.real}/{name}", "wb") as f:
			f.write(data)
		return os.open(f"{self.seen}/{name}", os.O_RDONLY)

	def hang(self):
		self.server.send_signal(signal.SIGSTOP)

	def go_on(self):
		self.server.send_signal(signal.SIGCONT)

	def end(self):
		for process in self.mount, self.server:	# which unmounts by itself when its server goes
			process.kill()
			process.wait()
		if self.mounts():
			self.pair.d.run(["umount", "-l", self.place])
		os.rmdir(self.seen)
		subprocess.run(["rm", "-r", self.real], check=True)


def slow_file(pair, wire):
	"""a file of a network file system that hangs holds up its own connection alone, at no cost, until it comes"""
	before = [descriptors(side) for side in pair.sides]
	slow = SlowFiles(pair)
	try:
		fd = slow.opened(pattern(300000), "file")
		lost = slow.opened(pattern(300000), "lost")
		slow.hang()
		giver, taker = wire()
		send_fds(giver, [fd])
		giver.send(b"behind")
		gone, gone_taker = wire()
		send_fds(gone, [lost])
		expect(bool(readable(taker, 0.5)), False, "it comes")
		for _ in range(20):
			expect(works(wire), True, "another connection")
		taker.send(b"back")
		expect(receive(giver, 4), b"back")
		spent = cpu_spent(pair)
		if spent > 2:
			raise AssertionError(f"{spent} ticks in a second")
		gone.close()
		gone_taker.close()
		slow.go_on()
		found = receive_fds(taker)
		expect(os.pread(found, 300001, 0) == pattern(300000), True, "its bytes")
		expect(receive(taker, 6), b"behind")
		os.close(found)
		giver.close()
		taker.close()
		expect(settled(pair, before), before, "descriptors")
	finally:
		slow.end()


def broken_file(pair, wire):
	"""a file that cannot be read to its end ends the connection, by what reading it said"""
	slow = SlowFiles(pair)
	try:
		fd = slow.opened(pattern(300000), "file")
		giver, taker = wire()
		slow.hang()
		said = [len(side.log()) for side in pair.sides]
		send_fds(giver, [fd])
		slow.server.kill()
		expect(ended(taker) in ("EOF", "ECONNRESET"), True, "the taker's end")
		expect(ended(giver) in ("EOF", "ECONNRESET"), True, "the giver's end")
		for side, start in zip(pair.sides, said):
			if not wait_for(lambda side=side, start=start: "a copy of a file or memfd cannot be made on "
					"this side: " in side.log()[start:], 2):
				raise AssertionError(f"{side.name} says {side.log()[start:]}")
		giver.close()
		taker.close()
	finally:
		slow.end()


def too_large(pair, wire, back):
	"""what is larger than --copy-max of either side is refused, and both logs say so"""
	for connection, giver, taker in (wire, pair.d, pair.h), (back, pair.h, pair.d):
		for fd in (memfd(bytes(MIB + 1), UNCHANGEABLE), memfd(bytes(2 * MIB + 1), UNCHANGEABLE)):
			said = {side: len(side.log()) for side in pair.sides}
			ends = connection()
			size = os.fstat(fd).st_size
			send_fds(ends[0], [fd])
			# d's limit is 1 MiB, h's 2 MiB
			if giver is pair.d or size > 2 * MIB:
				first = f"a connection is ended: a descriptor cannot cross: a memfd, of {size} bytes: "
				where = giver
			else:
				first = "a connection is ended: a copy of a file or memfd cannot be made on this side"
				where = taker
			expect([ended(end) in ("EOF", "ECONNRESET") for end in ends], [True, True], "ends")
			for side in pair.sides:
				def log(side=side):
					return side.log()[said[side]:]
				if not wait_for(lambda side=side: (first if side is where else "the peer ended a connection")
						in log() and "--copy-max" in log(), 2):
					raise AssertionError(f"{side.name} says {log()}")
			for end in ends:
				end.close()
		ends = connection()
		send_fds(ends[0], [memfd(pattern(MIB), UNCHANGEABLE)])
		fd = receive_fds(ends[1])
		expect(content(fd) == pattern(MIB), True, "what is not larger")
		os.close(fd)
		for end in ends:
			end.close()


def peer_killed(pair, wire):
	"""of a peer that is killed while copies are under way nothing is left here when it is back, either way"""
	before = descriptors(pair.d)
	fds = [memfd(bytes(32 * MIB), UNCHANGEABLE) for _ in range(4)]
	for moment in 0.005, 0.02, 0.05:
		connections = [wire() if i % 2 else wire()[::-1] for i in range(8)]
		for i, (giver, _) in enumerate(connections):
			send_fds(giver, [os.dup(fds[i % 4])])
		time.sleep(moment)
		pair.h.daemon.kill()
		pair.h.daemon.wait()
		pair.h.start_daemon(pair.d, pair.threads)
		# A counterpart whose bytes' connection had not come yet is waited for, for half a minute.
		if not wait_for(lambda: descriptors(pair.d) <= before, 45):
			raise AssertionError(f"{descriptors(pair.d)} descriptors, not {before}")
		for sock in (sock for ends in connections for sock in ends):
			sock.close()

		def again():
			with contextlib.suppress(OSError):
				return works(wire)

		if not wait_for(again, 20):
			raise AssertionError("it does not work again")
	for fd in fds:
		os.close(fd)


def not_at_all(pair, wire):
	"""--copy-max=0 copies nothing but what is empty"""
	client, server = wire()
	send_fds(client, [memfd(b"", UNCHANGEABLE)])
	fd = receive_fds(server)
	expect(os.fstat(fd).st_size, 0)
	os.close(fd)
	send_fds(client, [memfd(b"1", UNCHANGEABLE)])
	expect(ended(server) in ("EOF", "ECONNRESET"), True)


def main():
	tap = Tap()
	cases = Cases(tap, sys.argv[1:])
	for threads in 1, 4:
		with Pair(threads) as pair:
			wire = Wire(pair.d, pair.h)
			back = Wire(pair.h, pair.d)
			packets = Wire(pair.d, pair.h, socket.SOCK_SEQPACKET)
			note = f" ({threads} thread{'s' * (threads > 1)})"
			for ends in wire(), back():
				for end in ends:
					end.close()
			cases.run(sealed_memory, pair, wire, packets, note=note)
			for case in (program, read_only_file, below_a_share, with_others, as_many_at_once,
				     thrown_away, slow_reader, slow_file):
				cases.run(case, pair, wire, note=note)
			if threads > 1:
				continue
			cases.run(broken_file, pair, wire)
			cases.run(peer_killed, pair, wire)
			pair.restart({pair.d: ["--copy-max=1M"], pair.h: ["--copy-max=2048K"]})
			cases.run(too_large, pair, wire, back)
			pair.restart({pair.d: ["--copy-max=0"]})
			cases.run(not_at_all, pair, wire)
	tap.done()


if __name__ == "__main__":
	main()
