#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Who a client is, what it may reach, and that no client disturbs the daemon or another client.

FULL=1 repeats more often. With arguments only those behaviours run whose names contain one.
"""

import errno
import os
import signal
import socket
import struct
import sys
import threading
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)) + "/../lib")
from proxyends import (CONNECT, MAGIC, VERSION, Cases, Refused, Request, Wire, accept,  # noqa: E402
		       become, connect, connect_as, descriptors, ended, expect, listen, memory,
		       receive, receive_fds, refusal, request, send_fds, settled, works)
from proxypair import Pair, wait_for  # noqa: E402
from tap import Tap  # noqa: E402

FULL = bool(os.environ.get("FULL"))
SANITIZED = os.environ.get("FLAVOUR") in ("asan", "tsan")
UID = 1000


def restart(pair, *options):
	"""Both daemons anew, h with these options, d with the lists as they are."""
	pair.restart({pair.h: options})


# ---- who it is --------------------------------------------------------------------------------------


def credentials(sock):
	"""uid and gid that the next message brings, with its data."""
	data, control, _, _ = sock.recvmsg(100, socket.CMSG_SPACE(12))
	for level, kind, value in control:
		if (level, kind) == (socket.SOL_SOCKET, socket.SCM_CREDENTIALS):
			return data, struct.unpack("iii", value)[1:]
	return data, None


def passcred(listener):
	listener.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)


def peer(sock):
	return struct.unpack("iii", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[1:]


def twin_credentials(pair):
	"""SCM_CREDENTIALS of each message are those of a client of a passed listening socket, too"""
	wire = Wire(pair.d, pair.h)
	client, server = wire()
	name = pair.own + "/twin"
	listener = listen(pair.d, name)
	send_fds(client, [listener.detach()])
	twin = socket.socket(fileno=receive_fds(server))
	twin.settimeout(10)
	passcred(twin)
	place = os.open(pair.d.outside("/"), os.O_PATH)
	child = os.fork()
	if not child:
		try:
			become(UID, UID + 1)
			sock = socket.socket(socket.AF_UNIX)
			sock.connect(f"/proc/self/fd/{place}{name}")
			sock.sendall(b"hello")
			sock.recv(1)
		finally:
			os._exit(0)
	served = accept(twin)
	expect(peer(served), (UID, UID + 1), "SO_PEERCRED")
	expect(credentials(served), (b"hello", (UID, UID + 1)), "credentials")
	served.close()
	os.waitpid(child, 0)
	os.close(place)


def mapped(pair):
	"""map-uid and map-gid: the server sees the mapped ids, permissions are theirs, others keep theirs"""
	restart(pair, f"--map-uid={UID}:{UID + 500}", f"--map-gid={UID}:nogroup", "--map-gid=77:78")
	nogroup = 65534
	listener = listen(pair.h, pair.own + "/mapped")
	passcred(listener)
	client = connect_as(pair.d, pair.own + "/mapped", UID, UID, groups=[77, 79])
	server = accept(listener)
	expect(peer(server), (UID + 500, nogroup), "mapped ids")
	groups = server.getsockopt(socket.SOL_SOCKET, 59, 64)  # SO_PEERGROUPS
	expect(struct.unpack(f"{len(groups) // 4}I", groups), (78, 79), "mapped groups")
	client.send(b"m")
	expect(credentials(server), (b"m", (UID + 500, nogroup)), "credentials")
	client = connect_as(pair.d, pair.own + "/mapped", UID + 1, UID + 1)
	expect(peer(accept(listener)), (UID + 1, UID + 1), "ids that are not mapped")
	private = listen(pair.h, pair.own + "/private", mode=0o700)
	os.chown(pair.h.outside(pair.own + "/private"), UID + 500, 0)
	connect_as(pair.d, pair.own + "/private", UID).close()
	accept(private).close()
	expect(refusal(connect_as, pair.d, pair.own + "/private", UID + 1)[0], "EACCES")
	restart(pair)


# ---- what it may reach -------------------------------------------------------------------------------


def rules(pair):
	"""rules with uid= and gid= are followed on both sides, the far side's with the mapped ids"""
	for name in "open", "mine", "far", "group":
		os.mkdir(pair.h.outside(f"{pair.own}/{name}"))
		os.chmod(pair.h.outside(f"{pair.own}/{name}"), 0o755)
	listeners = [listen(pair.h, f"{pair.own}/{name}/s") for name in ("open", "mine", "far", "group")]
	pair.d.allow(udsconnect=[pair.own + "/open", f"{pair.own}/mine uid={UID}", pair.own + "/far",
				 f"{pair.own}/group gid=77"])
	pair.h.allow(udsaccept=[pair.own + "/open", pair.own + "/mine", f"{pair.own}/far uid={UID}",
				pair.own + "/group"])
	restart(pair)

	def reaches(name, uid, groups=()):
		try:
			connect_as(pair.d, f"{pair.own}/{name}/s", uid, groups=groups).close()
			return "yes"
		except Refused as e:
			return errno.errorcode[e.errno]

	found = {(name, uid): reaches(name, uid) for name in ("open", "mine", "far") for uid in (0, UID, UID + 1)}
	expect(found, {("open", 0): "yes", ("open", UID): "yes", ("open", UID + 1): "yes",
		       ("mine", 0): "ENETUNREACH", ("mine", UID): "yes", ("mine", UID + 1): "ENETUNREACH",
		       ("far", 0): "EACCES", ("far", UID): "yes", ("far", UID + 1): "EACCES"})
	expect((reaches("group", UID), reaches("group", UID, [77])), ("ENETUNREACH", "yes"), "by group")
	for listener in listeners:
		listener.close()
	pair.d.allow()
	pair.h.allow()
	restart(pair)


def links_not_followed(pair):
	"""below a rule's root no symbolic link is followed, and no .. leads out; the root itself may be one"""
	far = pair.h.outside(pair.own)
	for name in "root", "elsewhere":
		os.mkdir(f"{far}/{name}")
		os.chmod(f"{far}/{name}", 0o755)
	inside = listen(pair.h, pair.own + "/root/s")
	outside = listen(pair.h, pair.own + "/elsewhere/s")
	os.symlink("../elsewhere/s", f"{far}/root/link")
	os.symlink("../elsewhere", f"{far}/root/dir")
	os.symlink("s", f"{far}/root/inner")
	os.symlink("root", f"{far}/alias")
	pair.h.allow(udsaccept=[pair.own + "/root", pair.own + "/alias"])
	restart(pair)
	connect(pair.d, pair.own + "/root/s").close()
	connect(pair.d, pair.own + "/alias/s").close()
	wrong = []
	for name in ("/root/link", "/root/dir/s", "/root/inner", "/root/../elsewhere/s", "/root/./../elsewhere/s",
		     "/rootx/s", "/elsewhere/s", "/root/s/x"):
		try:
			connect(pair.d, pair.own + name).close()
			wrong.append(name)
		except Refused:
			pass
	expect(wrong, [], "reached")
	outside.settimeout(0.1)
	try:
		outside.accept()
		raise AssertionError("a connection came in outside of the root")
	except TimeoutError:
		pass
	inside.close()
	outside.close()
	pair.h.allow()
	restart(pair)


def log_lines(pair):
	"""control characters in names do not break log lines, nor do they reach terminals"""
	pair.h.allow(udsaccept=[])
	restart(pair)
	lines = [len(side.log().splitlines()) for side in pair.sides]
	for name in "\n12:00:00 udsproxyd: forged", "\x1b[31mred", "\x7f\x01\x9b31m", "a\rb", "%s%n%n":
		expect(refusal(connect, pair.d, pair.own + "/" + name)[0], "EACCES")
	with open(pair.share + "/no\nfile\x1b", "w", encoding="utf-8"):
		pass
	for side, old in zip(pair.sides, lines):
		with open(side.logfile, "rb") as f:
			text = f.read()
		bad = [line for line in text.split(b"\n")[old:]
		       if b"forged" in line[:40] or any(c < 32 or c == 127 for c in line)]
		expect(bad, [], f"lines on {side.name}")
	pair.h.allow()
	restart(pair)


# ---- clients' sockets ----------------------------------------------------------------------------------


def leaves(pair, wire):
	"""a client that leaves while it is being connected: the server sees the end at once, its socket stays free"""
	for side in pair.sides:
		side.daemon.send_signal(signal.SIGSTOP)
	request = Request(pair.d, wire.name)
	request.private.close()
	for side in pair.sides:
		side.daemon.send_signal(signal.SIGCONT)
	request.sock.settimeout(0.2)
	try:
		server = accept(wire.listener)
	except TimeoutError:
		pass
	else:
		expect(ended(server, 1) in ("EOF", "ECONNRESET"), True, "the end")
	local = listen(pair.d, pair.own + f"/free{time.monotonic_ns()}")
	request.sock.connect(local.getsockname())
	request.sock.close()


def stranger(pair, wire):
	"""where clients' sockets are connected nobody else gets in"""
	client, server = wire()
	place = pair.d.outside(pair.d.runtime + "/names")
	names = os.listdir(place)
	expect(len(names) > 0, True, "addresses")
	for uid, wanted in (UID, "PermissionError"), (0, "served nothing"):
		child = os.fork()
		if not child:
			status = 1
			try:
				directory = os.open(place, os.O_PATH)
				become(uid)
				sock = socket.socket(socket.AF_UNIX)
				sock.settimeout(5)
				sock.connect(f"/proc/self/fd/{directory}/{names[0]}")
				wire()
				status = 2 if sock.recv(1) else 0
			except PermissionError:
				status = 3
			except OSError:
				status = 0
			finally:
				os._exit(status)
		expect(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), 3 if uid else 0, wanted)
	client.sendall(b"good")
	expect(receive(server, 4), b"good")
	expect(works(wire), True)


# ---- hostile clients -------------------------------------------------------------------------------------


def vanish(pair, wire):
	"""thousands of clients that vanish at any point of their request leave nothing"""
	before = [descriptors(side) for side in pair.sides]
	start = memory(pair.d)
	taken = []

	def serve():
		while True:
			try:
				sock = wire.listener.accept()[0]
			except (TimeoutError, OSError):
				return
			sock.close()
			taken.append(1)

	other = socket.socket(socket.AF_UNIX)
	server = threading.Thread(target=serve)
	wire.listener.settimeout(2)
	server.start()
	place = pair.d.outside(pair.d.runtime + "/udsproxyd.sock")
	good = request(wire.name)
	for i in range(20000 if FULL else 1000 if SANITIZED else 3000):
		how = i % 6
		if how < 3:
			with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as sock:
				sock.connect(place)
				if how:
					socket.send_fds(sock, [good], [other.fileno()])
				if how == 2:
					time.sleep(0.0001 * (i % 10))
		else:
			asked = Request(pair.d, wire.name)
			if how > 3:
				asked.answer()
			for sock in (asked.private, asked.sock)[::1 if how == 4 else -1]:
				sock.close()
	server.join()
	other.close()
	wire.listener.settimeout(15)
	expect(settled(pair, before), before, "descriptors")
	expect(works(wire), True)
	if memory(pair.d) - start > 16 << 10 and not SANITIZED:
		raise AssertionError(f"{memory(pair.d) - start} KiB more")


def nonsense(pair, wire):
	"""malformed requests, and descriptors that come with them, leave nothing and end nothing"""
	before = [descriptors(side) for side in pair.sides]
	place = pair.d.outside(pair.d.runtime + "/udsproxyd.sock")
	good = request("/none")
	packets = [b"", b"\0", good, good[:-1], good + b"x", b"\xff" * 1024, b"x" * 60000, request("", 99), request("", 16),
		   request(""), struct.pack(">IHHHI", MAGIC, 9, CONNECT, 0, 0),
		   struct.pack(">IHHHI", MAGIC, VERSION, CONNECT, 0, 1 << 31)]
	for packet in packets * 3:
		with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as sock:
			sock.settimeout(5)
			sock.connect(place)
			socket.send_fds(sock, [packet], [0] * 253)
			try:
				sock.recv(4096)
				socket.send_fds(sock, [good], [0] * 253)
			except OSError:
				pass
	expect(settled(pair, before), before, "descriptors")
	expect(works(wire), True)


def main():
	tap = Tap()
	cases = Cases(tap, sys.argv[1:])
	signal.signal(signal.SIGPIPE, signal.SIG_IGN)
	for threads in 1, 4:
		with Pair(threads) as pair:
			note = f" ({threads} thread{'s' * (threads > 1)})"
			wire = Wire(pair.d, pair.h)
			cases.run(twin_credentials, pair, note=note)
			for case in leaves, stranger, vanish, nonsense:
				cases.run(case, pair, wire, note=note)
			if threads == 1:
				for case in mapped, rules, links_not_followed, log_lines:
					cases.run(case, pair, note=note)
	tap.done()


if __name__ == "__main__":
	main()
