#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Daemons that are ended, killed or frozen, a link that is cut, descriptors that run out: programs see
it promptly, nothing is lost that need not be, and afterwards all is as before.

FULL=1 makes faults last longer. With arguments only those behaviours run whose names contain one.
"""

import hashlib
import os
import resource
import signal
import socket
import subprocess
import sys
import threading
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)) + "/../lib")
from proxyends import (Cases, Request, Wire, accept, connect, cpu_spent, descriptors, ended,  # noqa: E402
		       expect, listen, pattern, receive, receive_fds, refusal, send_fds,
		       works)
from proxypair import BIN, PORT, Pair, wait_for  # noqa: E402
from tap import Tap  # noqa: E402

FULL = bool(os.environ.get("FULL"))
SANITIZED = os.environ.get("FLAVOUR") in ("asan", "tsan")
GONE = ("EOF", "ECONNRESET")


def restart(pair, side):
	side.start_daemon(pair.other(side), pair.threads)
	side.wait_linked()


def kill(side):
	daemon, side.daemon = side.daemon, None
	daemon.kill()
	daemon.wait()


def within(seconds, what, condition):
	if not wait_for(condition, seconds):
		raise AssertionError(f"not within {seconds} s: {what}")


def all_ended(socks, seconds, what):
	"""Every one of them shows its end in time."""
	end = time.monotonic() + seconds
	for i, sock in enumerate(socks):
		how = ended(sock, max(end - time.monotonic(), 0.01))
		if how not in GONE:
			raise AssertionError(f"{what} {i} of {len(socks)} shows {how} after {seconds} s")
		sock.close()


# ---- ends of daemons ------------------------------------------------------------------------------


def terminated(pair, wire):
	"""SIGTERM ends a daemon with 100 connections cleanly: status 0, programs see it, no socket is left"""
	for side in pair.sides:
		ends = [wire() for _ in range(100)]
		client, server = wire()
		listener = listen(pair.d, f"{pair.own}/left{side.name}")
		r, w = os.pipe()
		mine, other = socket.socketpair()
		send_fds(client, [listener.detach(), r, other.detach()])
		kept = receive_fds(server, 3)
		asking = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
		asking.connect(side.outside(side.runtime + "/udsproxyd.sock"))
		being_connected = Request(pair.d, wire.name)
		expect(side.stop_daemon(), 0, f"exit status on {side.name}")
		all_ended([end for both in ends for end in both] + [client, server, mine], 2, "socket")
		for fd in kept:
			os.close(fd)
		os.close(w)
		asking.close()
		being_connected.private.close()
		being_connected.sock.close()
		runtime = side.outside(side.runtime)
		left = [name for _, dirs, files in os.walk(runtime) for name in files
			if name != "lock"] + os.listdir(runtime + "/twins")
		expect(left, [], f"left on {side.name}")
		wire.listener.settimeout(0.1)
		try:  # what was being connected
			while True:
				wire.listener.accept()[0].close()
		except TimeoutError:
			wire.listener.settimeout(15)
		restart(pair, side)


def killed(pair, wire):
	"""kill -9 of either daemon: all programs on both sides see it within a second, and after a
	restart new connections work at once"""
	for side in pair.sides:
		ends = [wire() for _ in range(50)]
		for client, server in ends[::2]:
			client.sendall(b"read")
			expect(receive(server, 4), b"read")
		start = time.monotonic()
		kill(side)
		all_ended([end for both in ends for end in both], 1, f"socket, {side.name} killed,")
		restart(pair, side)
		if time.monotonic() - start > 5:
			raise AssertionError("the restart took long")
		for _ in range(10):
			expect(works(wire), True, "a connection after the restart")


def restarted_idle(pair, wire):
	"""the peer restarted while idle: the first connection afterwards works, whatever is pooled"""
	for side in pair.sides:
		for ends in [wire() for _ in range(30)]:  # so many in the pool
			for end in ends:
				end.close()
		for how in side.stop_daemon, lambda side=side: kill(side):
			how()
			said = len(side.log())
			side.start_daemon(pair.other(side), pair.threads)
			within(5, "up", lambda side=side, said=said: " is up" in side.log()[said:])
			for _ in range(5):
				expect(works(wire), True, "a connection after the restart")


def absent(pair, wire):
	"""a peer that is not there is told of within a second, by name, and no more so once it is back"""
	kill(pair.h)
	time.sleep(0.1)
	for _ in range(3):
		name, reason, took = refusal(connect, pair.d, wire.name)
		expect(name, "ECONNREFUSED")
		if "peer" not in reason or pair.h.address not in reason or took > 1:
			raise AssertionError(f"{reason!r} after {took:.2f} s")
	restart(pair, pair.h)
	expect(works(wire), True, "a connection afterwards")


def socket_ends(pair, wire):
	"""a passed socketpair's end shows ECONNRESET when the link or a daemon is lost, not EOF"""
	for socktype in socket.SOCK_STREAM, socket.SOCK_SEQPACKET:
		for fault in "this daemon", "the far daemon", "SIGTERM":
			client, server = wire()
			mine, other = socket.socketpair(socket.AF_UNIX, socktype)
			send_fds(client, [other.detach()])
			theirs = socket.socket(fileno=receive_fds(server))
			# use by its other end, which is what a life line's holder may see
			mine.sendall(b"used")
			expect(theirs.recv(10), b"used")
			side = pair.d if fault == "the far daemon" else pair.h
			if fault == "SIGTERM":
				side.stop_daemon()
			else:
				kill(side)
			expect(ended(theirs, 2), "ECONNRESET", f"the end made by {fault}, {socktype},")
			expect(ended(mine, 2) in GONE, True, f"the original's end sees {fault}")
			for sock in client, server, mine, theirs:
				sock.close()
			restart(pair, side)


def socket_ends_after_use(pair, wire):
	"""the same after its holder has written to it"""
	for data, more in (b"x", b""), (b"0123456789", b"end"):
		client, server = wire()
		mine, other = socket.socketpair()
		send_fds(client, [other.detach()])
		theirs = socket.socket(fileno=receive_fds(server))
		theirs.sendall(data)
		mine.settimeout(5)
		expect(receive(mine, len(data)), data)
		if more:
			theirs.sendall(more)
			expect(receive(mine, len(more)), more)
		kill(pair.d)
		expect(ended(theirs, 2), "ECONNRESET", f"after {data + more!r}")
		for sock in client, server, mine, theirs:
			sock.close()
		restart(pair, pair.d)


def listener_killed(pair, wire):
	"""a passed listening socket is undone when the far program or either daemon is killed"""
	def refuses(name):
		with socket.socket(socket.AF_UNIX) as sock:
			sock.settimeout(10)
			return sock.connect_ex(pair.d.outside(name)) != 0

	for i, fault in enumerate(("this daemon", "the far daemon")):
		client, server = wire()
		name = f"{pair.own}/undone{i}"
		send_fds(client, [listen(pair.d, name).detach()])
		twin = receive_fds(server)
		expect(refuses(name), False)
		side = pair.d if fault == "this daemon" else pair.h
		kill(side)
		os.close(twin)
		restart(pair, side)
		within(10, f"{name} refuses after {fault} was killed", lambda name=name: refuses(name))
		client.close()
		server.close()


def second(pair, wire):
	"""a second daemon in the same runtime directory says which process is the first, and fails"""
	found = pair.d.popen([BIN + "/udsproxyd", "--test-mode", "--runtime-dir", pair.d.runtime,
			      "--config-dir", pair.d.config, "1", pair.d.address, "12122", pair.h.address,
			      PORT], stderr=subprocess.PIPE, text=True)
	said = found.communicate(timeout=10)[1]
	if found.returncode != 1 or f"process {pair.d.daemon.pid}" not in said or "runtime-dir" not in said:
		raise AssertionError(f"status {found.returncode}, said {said}")
	expect(works(wire), True, "the first goes on")


# ---- the link ---------------------------------------------------------------------------------------


def transfer(sock, sent, total):
	digest = hashlib.sha256()
	for i in range(total):
		data = pattern(65536, i)
		digest.update(data)
		sock.sendall(data)
		sent[0] += 1
	sock.shutdown(socket.SHUT_WR)
	sent.append(digest.hexdigest())


def link_cut(pair, wire):
	"""the link is down for 3 s with transfers under way both ways: nothing is lost"""
	client, server = wire()
	for sock in client, server:
		sock.settimeout(60)
	results, threads = [], []
	sent = [0], [0]

	def take(sock):
		digest = hashlib.sha256()
		while data := sock.recv(1 << 20):
			digest.update(data)
			time.sleep(0.001)
		results.append(digest.hexdigest())

	for function, args in ((transfer, (client, sent[0], 600)), (transfer, (server, sent[1], 600)),
			       (take, (server,)), (take, (client,))):
		threads.append(threading.Thread(target=function, args=args))
		threads[-1].start()
	within(10, "under way", lambda: min(sent[0][0], sent[1][0]) > 20)
	pair.h.run(["ip", "link", "set", "veth", "down"])
	time.sleep(3)
	if not all(thread.is_alive() for thread in threads):
		raise AssertionError("the transfer did not last")
	pair.h.run(["ip", "link", "set", "veth", "up"])
	for thread in threads:
		thread.join(60)
	expect(len(sent[0]) + len(sent[1]), 4, "transfers that were sent")
	expect(sorted(results), sorted([sent[0][1], sent[1][1]]), "checksums")
	expect(works(wire), True, "a connection afterwards")


def frozen(pair, wire):
	"""a peer that is frozen is found dead by its silence, requests are refused within a second then,
	and when it thaws all connections go on"""
	ends = [wire() for _ in range(5)]
	os.kill(pair.h.daemon.pid, signal.SIGSTOP)
	try:
		for client, _ in ends:
			client.sendall(b"said to the frozen")
		within(19, "the log tells", lambda: "not reachable" in pair.d.log()[-500:])
		for _ in range(3):
			name, reason, took = refusal(connect, pair.d, wire.name)
			if name != "ECONNREFUSED" or took > 1.2:
				raise AssertionError(f"{name}, {reason}, after {took:.2f} s")
		spent = cpu_spent(pair)
		if spent > 3:
			raise AssertionError(f"{spent} ticks in a second while it is frozen")
	finally:
		os.kill(pair.h.daemon.pid, signal.SIGCONT)
	for client, server in ends:
		expect(receive(server, 18), b"said to the frozen")
		server.sendall(b"heard")
		expect(receive(client, 5), b"heard")
	drain_backlog(wire)
	within(15, "recovery", lambda: recovered(pair, wire))
	within(5, "recovery of the other direction", lambda: " is up" in pair.d.log()[-200:])


def drain_backlog(wire):
	"""Requests of clients that have left may have reached the server late."""
	wire.listener.settimeout(0.5)
	try:
		while True:
			wire.listener.accept()[0].close()
	except TimeoutError:
		wire.listener.settimeout(15)


def recovered(pair, wire):
	try:
		return works(wire)
	except OSError:
		return False


# ---- descriptors run out ---------------------------------------------------------------------------------


def exhausted(pair, wire):
	"""a daemon without descriptors waits, does not spin, and recovers"""
	for side in pair.sides:
		before = descriptors(side)
		pid = side.daemon.pid
		in_all = len(os.listdir(f"/proc/{pid}/fd"))
		old = resource.prlimit(pid, resource.RLIMIT_NOFILE)
		resource.prlimit(pid, resource.RLIMIT_NOFILE, (in_all + 30, old[1]))
		held, clients = [], []
		try:
			for _ in range(60):
				process = threading.Thread(target=attempt, args=[wire, clients])
				process.start()
				held.append(process)
			time.sleep(1)
			spent = cpu_spent(pair)
			clients += [silent(side) for _ in range(20)]  # anybody can connect and say nothing
			spent = max(spent, cpu_spent(pair))
		finally:
			resource.prlimit(pid, resource.RLIMIT_NOFILE, old)
		for process in held:
			process.join(30)
		for sock in clients:
			sock.close()
		drain_backlog(wire)
		if spent > 8:
			raise AssertionError(f"{spent} ticks in a second on {side.name}")
		within(15, "recovery", lambda: recovered(pair, wire))
		within(15, "descriptors as before", lambda side=side, before=before: descriptors(side) <= before)


def silent(side):
	sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
	sock.setblocking(False)
	sock.connect_ex(side.outside(side.runtime + "/udsproxyd.sock"))
	return sock


def reserved(pair, wire):
	"""however many connect, say nothing and leave, a daemon has descriptors left for connections that are being made"""
	for side in pair.sides:
		pid = side.daemon.pid
		old = resource.prlimit(pid, resource.RLIMIT_NOFILE)
		# none of those that it has is in the reserve, which is 64 at most
		limit = max(map(int, os.listdir(f"/proc/{pid}/fd"))) + 130
		resource.prlimit(pid, resource.RLIMIT_NOFILE, (limit, old[1]))
		clients = [silent(side) for _ in range(limit)]
		try:
			for _ in range(20):
				clients.pop(0).close()
				clients.append(silent(side))
				time.sleep(0.15)  # longer than it waits before it looks again
			left = limit - sum(int(fd) < limit for fd in os.listdir(f"/proc/{pid}/fd"))
		finally:
			resource.prlimit(pid, resource.RLIMIT_NOFILE, old)
			for sock in clients:
				sock.close()
		reserve = min(64, limit // 4)
		if not reserve / 2 < left < reserve * 2:  # each thread may take a few
			raise AssertionError(f"{left} of {limit} are left on {side.name}, not {reserve}")
	within(15, "recovery", lambda: recovered(pair, wire))


def attempt(wire, clients):
	"""Connect, and keep what came of it."""
	try:
		clients.append(connect(wire.side, wire.name))
	except OSError:
		pass


def listener_exhausted(pair, wire):
	"""nor does one spin that has no descriptor for who connects to a passed listening socket"""
	client, server = wire()
	name = pair.own + "/exhausted"
	send_fds(client, [listen(pair.d, name).detach()])
	twin = socket.socket(fileno=receive_fds(server))
	twin.settimeout(15)
	pid = pair.d.daemon.pid
	in_all = len(os.listdir(f"/proc/{pid}/fd"))
	old = resource.prlimit(pid, resource.RLIMIT_NOFILE)
	resource.prlimit(pid, resource.RLIMIT_NOFILE, (in_all, old[1]))
	try:
		caller = socket.socket(socket.AF_UNIX)
		caller.connect(pair.d.outside(name))
		time.sleep(0.2)
		spent = cpu_spent(pair)
	finally:
		resource.prlimit(pid, resource.RLIMIT_NOFILE, old)
	caller.sendall(b"late")
	served = accept(twin)
	expect(receive(served, 4), b"late")
	for sock in caller, served, twin, client, server:
		sock.close()
	if spent > 8:
		raise AssertionError(f"{spent} ticks in a second")


def main():
	tap = Tap()
	cases = Cases(tap, sys.argv[1:])
	for threads in 1, 3:
		with Pair(threads) as pair:
			wire = Wire(pair.d, pair.h)
			expect(works(wire), True)
			note = f" ({threads} thread{'s' * (threads > 1)})"

			def run(case, pair=pair, wire=wire, note=note):
				for side in pair.sides:
					if not side.daemon or side.daemon.poll() is not None:
						restart(pair, side)
				drain_backlog(wire)
				cases.run(case, pair, wire, note=note)

			for case in (second, terminated, killed, restarted_idle, socket_ends, listener_killed,
				     exhausted, reserved, listener_exhausted):
				run(case)
			if threads == 1 or FULL:
				for case in absent, socket_ends_after_use, link_cut, frozen:
					run(case)
	tap.done()


if __name__ == "__main__":
	main()
