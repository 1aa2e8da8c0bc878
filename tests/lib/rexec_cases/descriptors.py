# SPDX-License-Identifier: Apache-2.0
"""Descriptors beyond the standard ones, and sockets, wherever they are."""

import contextlib
import errno
import os
import pty
import socket
import subprocess

from proxyends import expect, read_all, readable, receive_fds, send_fds
from proxypair import wait_for
from rexecs import python, state
from scenarios.scenario import SANITIZED

from .case import brief, case, rexec_case

PIPE, NULL = subprocess.PIPE, subprocess.DEVNULL

LIST_FDS = """
import os
for n in sorted(map(int, os.listdir('/proc/self/fd'))):
	try: st = os.fstat(n)
	except OSError: continue
	print(n, oct(st.st_mode >> 12))
"""


@contextlib.contextmanager
def inherited(number, fd):
	"""A duplicate of fd at this number, for programs to inherit."""
	os.dup2(fd, number, inheritable=True)
	yield number
	with contextlib.suppress(OSError):
		os.close(number)


@case
def no_descriptors_but_the_standard_ones(rig):
	expect(rig.run(*python(LIST_FDS)).stdout, b"0 0o1\n1 0o1\n2 0o1\n")


@case
def a_pipe_at_its_number_for_writing(rig):
	r, w = os.pipe()
	with inherited(157, w):
		os.close(w)
		process = rig.popen(*python("import os; os.write(157, b'x'); os.close(157); os.read(0, 1)"), stdin=PIPE, pass_fds=[157])
	expect(read_all(r), b"x")
	expect(process.poll(), None, "status")
	process.stdin.close()
	expect(rig.status(process), 0)
	os.close(r)


@case
def a_pipe_at_its_number_for_reading(rig):
	r, w = os.pipe()
	with inherited(163, r):
		os.close(r)
		process = rig.popen(*python("import os, sys\nwhile d := os.read(163, 100): sys.stdout.buffer.write(d); sys.stdout.flush()"),
				    stdin=NULL, stdout=PIPE, pass_fds=[163])
	for word in b"one\n", b"two\n":
		os.write(w, word)
		expect(process.stdout.readline(), word)
	os.close(w)
	expect((process.stdout.read(), rig.status(process)), (b"", 0))


@case
def a_descriptor_with_a_high_number(rig):
	r, w = os.pipe()
	with inherited(3999, w):
		os.close(w)
		result = rig.run(*python("import os; os.write(3999, b'x')"), pass_fds=[3999])
	expect((brief(result), read_all(r)), ((0, b"", b""), b"x"))
	os.close(r)


@case
def a_socket_at_its_number(rig):
	ours, theirs = socket.socketpair()
	with inherited(200, theirs.fileno()):
		theirs.close()
		process = rig.popen(*python("import os; os.write(200, b'<' + os.read(200, 100) + b'>')"), stdin=NULL, pass_fds=[200])
	ours.sendall(b"x")
	expect((ours.recv(100), ours.recv(100), rig.status(process)), (b"<x>", b"", 0))
	ours.close()


@case
def devices_on_descriptors(rig):
	code = """
import os
print(os.read(11, 3), os.read(12, 3), len(os.read(13, 3)), os.write(11, b'xy'))
try: os.write(14, b'x')
except OSError as e: print(e.errno)
"""
	opened = [os.open("/dev/" + name, os.O_RDWR) for name in ("null", "zero", "urandom", "full")]
	with contextlib.ExitStack() as stack:
		for number, fd in enumerate(opened, 11):
			stack.enter_context(inherited(number + 100, fd))
		result = rig.run(*python(code.replace("(1", "(11")), pass_fds=range(111, 115))
	for fd in opened:
		os.close(fd)
	expect(brief(result), (0, b"b'' b'\\x00\\x00\\x00' 3 2\n%d\n" % errno.ENOSPC, b""))


@case
def a_terminal_on_another_descriptor(rig):
	"""For reading, or for writing; one for both does not cross, and is named."""
	master, slave = pty.openpty()
	path = os.ttyname(slave)
	process = rig.start(["sh", "-c", 'exec "$@" 5<"$0" 6>"$0"', path, *rig.prefix(), "sh", "-c", "read line <&5; echo got $line >&6"],
			    stdin=NULL)
	os.write(master, b"typed\n")
	expect(rig.status(process), 0)
	said = b""
	while said.count(b"\n") < 2:
		said += os.read(master, 100)
	expect(said, b"typed\r\ngot typed\r\n")
	with inherited(170, slave):
		result = rig.run("true", pass_fds=[170])
	told = b"descriptor 170 is a terminal open for reading and writing" in result.stderr
	expect((result.returncode, told), (0, False) if rig.plain else (125, True), f"{result}")
	os.close(slave)
	os.close(master)


@case
def one_socket_as_0_1_and_2(rig):
	ours, theirs = socket.socketpair()
	process = rig.popen("sh", "-c", "read word; echo got $word; echo err >&2; cat; exit 6", stdin=theirs, stdout=theirs,
			    stderr=theirs)
	theirs.close()
	ours.sendall(b"word\nthe rest")
	ours.shutdown(socket.SHUT_WR)
	said = b"".join(iter(lambda: ours.recv(1000), b""))
	expect((said, rig.status(process)), (b"got word\nerr\nthe rest", 6))
	ours.close()


@case
def one_socket_for_programs_in_turn(rig):
	ours, theirs = socket.socketpair()
	# What goes through a passed socket may come behind the program's end: each is waited for before the next writes.
	script = "$R echo 1 </dev/null; read go; echo 2; $R sh -c 'echo 3; echo 4 >&2' </dev/null; read go; echo 5"
	process = rig.start(["sh", "-c", script], env={"R": " ".join(rig.prefix())}, stdin=PIPE, stdout=theirs, stderr=theirs)
	theirs.close()
	said = ours.recv(2, socket.MSG_WAITALL)
	process.stdin.write(b"\n")
	process.stdin.flush()
	said += ours.recv(6, socket.MSG_WAITALL)
	process.stdin.write(b"\n")
	process.stdin.flush()
	said += b"".join(iter(lambda: ours.recv(100), b""))
	expect((said, rig.status(process)), (b"1\n2\n3\n4\n5\n", 0))
	process.stdin.close()
	ours.close()


@case
def a_socket_as_stdin_is_ended_by_shutdown_and_not_before(rig):
	ours, theirs = socket.socketpair()
	process = rig.popen("cat", stdin=theirs, stdout=PIPE)
	theirs.close()
	for _ in range(3):
		ours.sendall(b"more\n")
		expect(process.stdout.readline(), b"more\n")
	ours.shutdown(socket.SHUT_WR)
	expect((process.stdout.read(), rig.status(process)), (b"", 0))
	ours.close()


@case
def a_socket_as_stdout_ends_when_the_program_closes_it(rig):
	ours, theirs = socket.socketpair()
	process = rig.popen("sh", "-c", "echo last; exec >&-; read line; exit 4", stdin=PIPE, stdout=theirs)
	theirs.close()
	expect(b"".join(iter(lambda: ours.recv(100), b"")), b"last\n")
	expect(process.poll(), None, "status")
	process.stdin.close()
	expect(rig.status(process), 4)
	ours.close()


@case
def a_sockets_peer_that_leaves_gives_sigpipe(rig):
	ours, theirs = socket.socketpair()
	process = rig.popen("yes", stdin=NULL, stdout=theirs, stderr=NULL)
	theirs.close()
	ours.recv(100, socket.MSG_WAITALL)
	ours.close()
	# What was unread then is a reset to the writer, once.
	expect(rig.status(process) in (141, 1), True, "SIGPIPE or a failed write")


@case
def packets_on_a_seqpacket_socket_stay_apart(rig):
	ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
	code = "import os\nwhile d := os.read(0, 100): os.write(0, b'<' + d + b'>')"
	process = rig.popen(*python(code), stdin=theirs)
	theirs.close()
	for word in b"a", b"bc":
		ours.send(word)
	expect([ours.recv(100), ours.recv(100)], [b"<a>", b"<bc>"])
	ours.shutdown(socket.SHUT_WR)
	expect((ours.recv(100), rig.status(process)), (b"", 0))
	ours.close()


@case(together=True)
def datagrams_on_a_socketpair_stay_apart(rig):
	ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
	code = "import os\nfor _ in range(3): os.write(0, b'<' + os.read(0, 100) + b'>')"
	process = rig.popen(*python(code), stdin=theirs)
	theirs.close()
	for word in b"a", b"", b"bc":
		ours.send(word)
	expect([ours.recv(100) for _ in range(3)], [b"<a>", b"<>", b"<bc>"])
	expect(rig.status(process), 0)
	ours.close()


@case
def descriptors_through_a_socket_as_stdin(rig):
	"""SCM_RIGHTS, both ways."""
	code = """
import array, os, socket
sock = socket.socket(fileno=0)
data, fds, _, _ = socket.recv_fds(sock, 100, 4)
os.write(fds[0], b'through ' + data)
r, w = os.pipe()
os.write(w, b'back')
socket.send_fds(sock, [b'x'], [r])
"""
	ours, theirs = socket.socketpair()
	process = rig.popen(*python(code), stdin=theirs)
	theirs.close()
	r, w = os.pipe()
	send_fds(ours, [w], b"data")
	expect(read_all(r), b"through data")
	back = receive_fds(ours, 1, b"x")
	expect((read_all(back), rig.status(process)), (b"back", 0))
	for fd in r, back:
		os.close(fd)
	ours.close()


@case
def eighty_descriptors_at_once(rig):
	r, w = os.pipe()
	many = [os.dup(w) for _ in range(20)]
	ends = [os.pipe() for _ in range(60)]
	many += [end[1] for end in ends]
	code = f"import os; os.write({many[0]}, b'1'); os.write({many[19]}, b'2'); [os.fstat(n) for n in {many}]; print('all')"
	result = rig.run(*python(code), pass_fds=many)
	expect((brief(result), os.read(r, 2)), ((0, b"all\n", b""), b"12"))
	for fd in [r, w, *many, *[end[0] for end in ends]]:
		os.close(fd)


@rexec_case
def more_descriptors_than_can_cross(rig):
	ends = [os.pipe() for _ in range(260)]
	result = rig.run("true", pass_fds=[end[1] for end in ends])
	for fd in sum(ends, ()):
		os.close(fd)
	expect((result.returncode, b"too much to pass" in result.stderr), (125, True), f"{result}")


@rexec_case
def option_drop_fd_keeps_one_back(rig):
	r, w = os.pipe()
	result = rig.run(*python(f"import os; os.fstat({w})"), pass_fds=[w], rexec=["--drop-fd", str(w)])
	os.close(w)
	expect((result.returncode, b"Bad file descriptor" in result.stderr, read_all(r)), (1, True, b""))
	os.close(r)


@rexec_case
def what_cannot_cross_is_named_with_the_remedy(rig):
	fifo = rig.place.here(rig.place.own + "/fifo")
	os.mkfifo(fifo)
	refused = [(os.eventfd(0), b"an object of the kernel"), (socket.socket().detach(), b"a socket"),
		   (os.open(fifo, os.O_RDWR), b"a FIFO"), (os.open(fifo, os.O_PATH), b"a mere path (O_PATH)"),
		   (os.open("/etc/passwd", os.O_PATH), b"a mere path (O_PATH)"), (os.open("/etc", os.O_RDONLY), b"a directory")]
	for fd, kind in refused:
		result = rig.run("true", pass_fds=[fd])
		told = b"descriptor %d is %s and cannot cross" % (fd, kind) in result.stderr and \
			b"--drop-fd %d" % fd in result.stderr
		expect((result.returncode, told), (125, True) if rig.proxied else (0, False), f"{result}")
		expect(rig.run("true", pass_fds=[fd], rexec=["--drop-fd", str(fd)]).returncode, 0)
		os.close(fd)
	os.unlink(fifo)


# ---- listening sockets --------------------------------------------------------------------------

ECHO_SERVER = """
import socket, sys
listener = socket.socket(fileno=int(sys.argv[1]))
print('ready', flush=True)
for _ in range(int(sys.argv[2])):
	conn, _ = listener.accept()
	while data := conn.recv(65536):
		conn.send(b'<' + data + b'>')
	conn.close()
"""


@contextlib.contextmanager
def listening(rig, kind):
	"""A socket, and a function that connects to it."""
	path = rig.place.here(f"{rig.place.share}/{rig.name}.sock")

	def dial():
		sock = socket.socket(socket.AF_UNIX, kind)
		sock.settimeout(30)
		sock.connect(path)
		return sock

	with socket.socket(socket.AF_UNIX, kind) as listener:
		listener.bind(path)
		listener.listen()
		yield listener, dial
	os.unlink(path)


def echo_server(rig, fd, times, **options):
	process = rig.popen(*python(ECHO_SERVER, str(fd), str(times)), stdout=PIPE, **options)
	process.stdout.readline()
	return process


def receive_all(sock):
	return b"".join(iter(lambda: sock.recv(65536), b""))


@case
def a_listening_socket_serves_who_connected_before(rig):
	with listening(rig, socket.SOCK_STREAM) as (listener, dial):
		early = dial()
		process = echo_server(rig, listener.fileno(), 2, stdin=NULL, pass_fds=[listener.fileno()])
		early.send(b"early")
		expect(early.recv(100), b"<early>")
		early.shutdown(socket.SHUT_WR)
		expect(early.recv(100), b"", "behind a half-close")
		last = dial()
		last.send(b"last")
		last.shutdown(socket.SHUT_WR)
		expect((receive_all(last), rig.status(process)), (b"<last>", 0))
		early.close()
		last.close()


@case
def a_listening_socket_of_packets(rig):
	with listening(rig, socket.SOCK_SEQPACKET) as (listener, dial):
		process = echo_server(rig, listener.fileno(), 1, stdin=NULL, pass_fds=[listener.fileno()])
		with dial() as sock:
			for word in b"a", b"bc":
				sock.send(word)
			expect([sock.recv(100), sock.recv(100)], [b"<a>", b"<bc>"])
		expect(rig.status(process), 0)


@case
def a_listening_socket_as_stdin(rig):
	"""As inetd(8) has it for "wait"."""
	with listening(rig, socket.SOCK_STREAM) as (listener, dial):
		process = echo_server(rig, 0, 1, stdin=listener)
		with dial() as sock:
			sock.send(b"x")
			sock.shutdown(socket.SHUT_WR)
			expect((receive_all(sock), rig.status(process)), (b"<x>", 0))


@case
def many_connections_to_a_listening_socket_at_once(rig):
	with listening(rig, socket.SOCK_STREAM) as (listener, dial):
		process = echo_server(rig, listener.fileno(), 30, stdin=NULL, pass_fds=[listener.fileno()])
		socks = [dial() for _ in range(30)]
		for i, sock in enumerate(socks):
			sock.send(b"%d" % i)
			sock.shutdown(socket.SHUT_WR)
		expect([receive_all(sock) for sock in socks], [b"<%d>" % i for i in range(30)])
		expect(rig.status(process), 0)
		for sock in socks:
			sock.close()


@case
def a_listening_socket_of_two_programs(rig):
	"""Who comes for a connection that the other has got waits for the next, and is no worse off."""
	code = """
import socket, sys
listener = socket.socket(fileno=int(sys.argv[1]))
print('ready', flush=True)
while True:
	with listener.accept()[0] as conn: conn.sendall(conn.recv(100))
"""
	with listening(rig, socket.SOCK_STREAM) as (listener, dial):
		fd = listener.fileno()
		processes = [rig.popen(*python(code, str(fd)), stdin=NULL, stdout=PIPE, pass_fds=[fd]) for _ in range(2)]
		for process in processes:
			process.stdout.readline()
		for i in range(60):
			with dial() as sock:
				sock.sendall(b"%d" % i)
				expect(receive_all(sock), b"%d" % i)
		for process in processes:
			process.terminate()
		expect([rig.status(process) for process in processes], [143, 143])


def system_call(pid):
	"""The number of the one that it waits in."""
	with open(f"/proc/{pid}/syscall", encoding="ascii") as f:
		return f.read().split()[0]


@rexec_case(together=True)
def a_connection_that_another_takes_leaves_rexec_awake(rig):
	"""Between rexec's poll(2) and its accept4(2), which strace delays. LeakSanitizer cannot be traced."""
	if SANITIZED:
		return
	slow = ["strace", "-D", "-q", "-o", "/dev/null", "-e", "trace=accept4", "-e", "inject=accept4:delay_enter=1000000"]
	with listening(rig, socket.SOCK_STREAM) as (listener, dial):
		process = rig.popen("sh", "-c", "echo ready; exec sleep 1000", before=slow, stdin=NULL, stdout=PIPE,
				    pass_fds=[listener.fileno()])
		process.stdout.readline()
		wait_for(lambda: state(process.pid) == "S")
		idle = system_call(process.pid)
		with dial():
			expect(wait_for(lambda: system_call(process.pid) not in (idle, "running")), True, "rexec woken")
			expect(readable(listener, 0), [listener], "readable")
			listener.accept()[0].close()
			process.terminate()
			expect(rig.status(process), 143)


@case
def descriptors_over_a_connection_to_a_listening_socket(rig):
	code = """
import os, socket, sys
conn, _ = socket.socket(fileno=int(sys.argv[1])).accept()
data, fds, _, _ = socket.recv_fds(conn, 100, 4)
os.write(fds[0], b'through ' + data)
r, w = os.pipe()
os.write(w, b'back')
socket.send_fds(conn, [b'x'], [r])
"""
	with listening(rig, socket.SOCK_STREAM) as (listener, dial):
		fd = listener.fileno()
		process = rig.popen(*python(code, str(fd)), stdin=NULL, pass_fds=[fd])
		r, w = os.pipe()
		with dial() as sock:
			send_fds(sock, [w], b"data")
			expect(read_all(r), b"through data")
			back = receive_fds(sock, 1, b"x")
		expect((read_all(back), rig.status(process)), (b"back", 0))
		for fd in r, back:
			os.close(fd)
