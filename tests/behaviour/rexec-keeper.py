#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""A second implementation of the client's side of rexec/request.h against the real rexec_server:
private files and the session's directory, CPU affinity, terminals, the life line's two ends, visitors."""

import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, TOP + "/tests/lib")
import keeperclient  # pylint: disable=wrong-import-position
from keeperclient import (  # pylint: disable=wrong-import-position
	AFFINITY, CONFIRM, DETACHED, DONE, EXITED, EXPAND, GONE, HELD, INFO, KEEP, KILL, LIST, MAGIC, OUTPUT, PASS, PING, PONG,
	PROGRAM, REFUSED, RESULT, SET, SIGNAL, STARTED, TERMINAL, TTY, VERSION, WINDOW, connect, receive_exactly, receive_frame,
	send_frame, text)
from keepers import end_keepers  # pylint: disable=wrong-import-position
from proxypair import wait_for  # pylint: disable=wrong-import-position
from rexecs import alive, parent  # pylint: disable=wrong-import-position
from tap import Tap  # pylint: disable=wrong-import-position

BIN = os.environ.get("BIN", TOP + "/build/testmode/bin")
tap = Tap()
place = tempfile.mkdtemp(prefix="rexec.", dir="/var/tmp")
os.chmod(place, 0o755)
run_dir = place + "/run"


def Session(argv, **options):
	return keeperclient.Session(run_dir, argv, **options)


def check(name, got, want):
	tap.result(name, got == want, f"got  {got!r:.600}\nwant {want!r:.600}")


def run(argv, **options):
	"""What the program wrote to stdout, and its EXITED."""
	r, w = os.pipe()
	session = Session(argv, fds=[(1, PASS, w)], **options)
	os.close(w)
	with os.fdopen(r, "rb") as f:
		said = f.read()
	kind, payload = receive_frame(session.sock)
	send_frame(session.sock, DONE)
	return session, said, (kind, payload)


def files():
	script = "cd @DIR@; stat -c '%n %a %u' . key; cat key; echo @DIR@x@DIR@; mkdir deep; touch deep/file; ln -s / link"
	session, said, ended = run(["sh", "-c", script], flags=EXPAND, files=[("key", b"\0secret\n")])
	check("a private file, and the session's directory in arguments", said,
	      f". 700 0\nkey 600 0\n\0secret\n{session.dir}x{session.dir}\n".encode())
	check("its end is told", ended, (EXITED, b"\0\0\0\0"))
	tap.result("the directory goes with it, and nothing that a link names",
		   wait_for(lambda: not os.path.exists(session.dir)) and os.path.exists("/etc/passwd"))
	_, said, _ = run(["echo", "@DIR@"])
	check("only when that is asked for", said, b"@DIR@\n")
	session = Session(["true"], files=[("../x", b"")])
	tap.result("a file's name that leads elsewhere is refused", session.refused and session.refused[0] == 125,
		   session.refused)


def children(pid):
	return [int(child) for child in open("/proc/%d/task/%d/children" % (pid, pid)).read().split()]


def affinity():
	session = Session(["sleep", "60"])
	stranger = subprocess.Popen(["sleep", "60"])
	before = os.sched_getaffinity(stranger.pid)
	for pid in (stranger.pid, session.pid):
		send_frame(session.sock, AFFINITY, struct.pack(">I", pid) + b"\x01")
	tap.result("a thread of the program is pinned", wait_for(lambda: os.sched_getaffinity(session.pid) == {0}),
		   os.sched_getaffinity(session.pid))
	check("a stranger's is not", os.sched_getaffinity(stranger.pid), before)
	family = Session(["sh", "-c", "sleep 60 & sleep 60; :"])
	wait_for(lambda: len(children(family.pid)) == 2)
	pids = [family.pid, *children(family.pid)]
	send_frame(family.sock, AFFINITY, struct.pack(">I", 0) + b"\x01")
	tap.result("all threads of a program and what it started are pinned",
		   wait_for(lambda: [os.sched_getaffinity(pid) for pid in pids] == [{0}] * 3), pids)
	check("a stranger's are not", os.sched_getaffinity(stranger.pid), before)
	send_frame(family.sock, SIGNAL, bytes([9, 1]))
	stranger.kill()
	stranger.wait()
	send_frame(session.sock, SIGNAL, bytes([9, 0]))
	check("SIGNAL, and the signal that ended it", receive_frame(session.sock), (EXITED, b"\1\x09\0\0"))


PTY = """
import os, pty, sys, tty
master, slave = pty.openpty()
tty.setraw(slave)
print(os.ttyname(slave), flush=True)
while True:
	data = os.read(master, 100)
	os.write(master, b"<" + data + b">")
"""


def terminals():
	r, w = os.pipe()
	session = Session(["/usr/bin/python3", "-c", PTY], fds=[(1, PASS, w)])
	os.close(w)
	path = os.read(r, 100).decode().strip()

	def ask(name):
		sock = connect(session.dir + ".keeper")
		send_frame(sock, TTY, text(name))
		kind, payload = receive_frame(sock)
		return sock, kind, struct.unpack(">H", payload[:2])[0]

	sock, kind, error = ask(path)
	check("the program's terminal is opened", (kind, error), (RESULT, 0))
	sock.sendall(b"typed")
	check("and carried", receive_exactly(sock, 7), b"<typed>")
	master, slave = os.openpty()
	for name, what in ((os.ttyname(slave), "another program's"), ("/dev/pts/../null", "a path that is none"),
			   ("/dev/null", "what is no terminal"), ("/dev/pts/07", "another spelling")):
		refused, kind, error = ask(name)
		tap.result(f"{what} is refused", kind == RESULT and error in (13, 22), (kind, error))
		refused.close()
	os.close(master)
	os.close(slave)
	os.kill(session.pid, signal.SIGKILL)
	check("its end is the connection's", sock.recv(10), b"")
	check("and is told", receive_frame(session.sock), (EXITED, b"\1\x09\0\0"))
	os.close(r)


def outputs():
	"""rexec_server is root and opens outputs anew: only what the client itself could have written to."""
	target = place + "/theirs"
	with open(target, "wb") as f:
		f.write(b"untouched")
	fd = os.open(target, os.O_PATH)

	def untouched(name, sock):
		check(f"{name}: its program ends", receive_frame(sock)[0], EXITED)
		send_frame(sock, DONE)
		with open(target, "rb") as f:
			check(f"{name}: nothing is written to it", f.read(), b"untouched")

	session = Session(["echo", "written"], flags=KEEP, fds=[(1, OUTPUT, fd)])
	untouched("an output that was not opened for writing", session.sock)
	r, w = os.pipe()
	wait, go = os.pipe()
	session = Session(["sh", "-c", "read -r line; echo written"], flags=KEEP, fds=[(0, PASS, wait), (1, OUTPUT, w)])
	session.life.lost()
	session.sock.close()
	_life, sock, _, _ = session.attach([fd])
	os.write(go, b"go\n")
	untouched("such an output when attaching", sock)
	for end in (fd, r, w, wait, go):
		os.close(end)


def fifo_outputs():
	"""What others have written to a FIFO is not for who can only write to it."""
	path = place + "/fifo"
	os.mkfifo(path)
	held = os.open(path, os.O_RDWR)
	w = os.open(path, os.O_WRONLY)
	wait, go = os.pipe()
	session = Session(["sh", "-c", "read -r line; echo written"], flags=KEEP, fds=[(0, PASS, wait), (1, OUTPUT, w)])
	os.write(held, b"others'\n")
	session.life.lost()
	session.sock.close()
	r, pipe = os.pipe()
	life, sock, _, _ = session.attach([pipe])
	os.write(go, b"go\n")
	check("a FIFO's content is not taken back", os.read(r, 100), b"written\n")
	check("it is where it was", os.read(held, 100), b"others'\n")
	check("the program ends", receive_frame(sock)[0], EXITED)
	send_frame(sock, DONE)
	life.gone()
	for end in (held, w, wait, go, r, pipe):
		os.close(end)


def life_lines():
	session = Session(["sleep", "60"])
	session.life.gone()
	tap.result("the client's end ends the program", wait_for(lambda: not alive(session.pid)))
	session = Session(["sleep", "60"])
	session.life.lost()
	tap.result("so does the link's", wait_for(lambda: not alive(session.pid)))
	session = Session(["sleep", "60"], flags=KEEP)
	session.life.gone()
	tap.result("with KEEP the client's end does, too", wait_for(lambda: not alive(session.pid)))

	r, w = os.pipe()
	session = Session(["sh", "-c", "echo one; sleep 0.5; echo two; sleep 1000"], flags=KEEP,
			  fds=[(1, OUTPUT, w), (2, OUTPUT, w)])
	check("output comes through", os.read(r, 100), b"one\n")
	session.life.lost()
	session.sock.close()
	os.close(w)
	check("with KEEP and the link lost the pipe ends", os.read(r, 100), b"")
	os.close(r)
	tap.result("and the program lives", not wait_for(lambda: not alive(session.pid), 1))
	life, sock, kind, _ = session.attach(confirm=False)
	check("attaching without the output pipe is possible", kind, STARTED)
	r, w = os.pipe()
	life, sock, kind, _ = session.attach([w], confirm=False, number=77)
	os.close(w)
	check("a pipe for an output that there is not is closed", (kind, os.read(r, 100)), (STARTED, b""))
	os.close(r)
	r, w = os.pipe()
	life, sock, kind, payload = session.attach([w], confirm=False)
	check("attaching with them is answered", (kind, struct.unpack(">IQ", payload)[0]), (STARTED, session.pid))
	check("output that was held all the while comes", os.read(r, 100), b"two\n")
	life.gone()
	sock.close()
	tap.result("a client that leaves before it confirmed ends nothing", not wait_for(lambda: not alive(session.pid), 1))
	outcome = subprocess.run(["setpriv", "--reuid=1000", "--clear-groups", sys.executable, "-c",
				  f"import socket; socket.socket(1).connect({session.dir + '.keeper'!r})"],
				 stderr=subprocess.PIPE, check=False)
	tap.result("another user does not get to the keeper", b"PermissionError" in outcome.stderr, outcome.stderr)
	life, sock, kind, _ = session.attach([w])
	os.kill(session.pid, signal.SIGTERM)
	check("one that did is told the end", receive_frame(sock), (EXITED, b"\1\x0f\1\0"))
	check("what was left runs on, and gets signals", send_frame(sock, SIGNAL, bytes([15, 0])), None)
	check("and its end is told", receive_frame(sock), (GONE, b""))
	life.lost()
	sock.close()
	life, sock, kind, _ = session.attach([w])
	check("an outcome that nobody acknowledged is told again", (kind, receive_frame(sock), receive_frame(sock)),
	      (STARTED, (EXITED, b"\1\x0f\1\0"), (GONE, b"")))
	send_frame(sock, DONE)
	tap.result("and then the keeper goes", wait_for(lambda: not os.path.exists(session.dir)))
	os.close(r)
	os.close(w)


def own_terminal():
	script = "stty size; stty -echo; trap 'stty size; exit 4' WINCH; echo ready; while :; do read -r -t 0.1 x && echo \"<$x>\"; done"
	session = Session(["bash", "-c", script], fds=[(n, TERMINAL, HELD) for n in range(3)], size=(33, 77))
	sock = connect(session.dir + ".keeper")
	send_frame(sock, TTY, text(""))
	check("the terminal that was asked for is opened", receive_frame(sock)[0], RESULT)
	said = b""
	while not said.endswith(b"ready\r\n"):
		said += sock.recv(100)
	check("what was written before comes, and its size is as asked for", said, b"33 77\r\nready\r\n")
	sock.sendall(b"typed\n")
	check("it is carried", receive_exactly(sock, 9), b"<typed>\r\n")
	send_frame(session.sock, WINDOW, struct.pack(">4H", 20, 30, 0, 0))
	check("WINDOW makes it another size, and SIGWINCH", receive_exactly(sock, 7), b"20 30\r\n")
	check("its end comes behind what was written", sock.recv(10), b"")
	check("and then the program's", receive_frame(session.sock), (EXITED, b"\0\4\0\0"))
	send_frame(session.sock, DONE)
	session = Session(["sh", "-c", "head -c 300000 /dev/zero | tr '\\0' x; echo ."], fds=[(n, TERMINAL, HELD) for n in range(3)])
	wait_for(lambda: not alive(session.pid), 1)	# it must not get as far as that
	sock = connect(session.dir + ".keeper")
	send_frame(sock, TTY, text(""))
	receive_frame(sock)
	said = b""
	while not said.endswith(b".\r\n"):
		said += sock.recv(10000)
	check("whoever started a program may be late to take its terminal: nothing is lost", len(said), 300003)
	check("and then it ends", receive_frame(session.sock), (EXITED, b"\0\0\0\0"))
	send_frame(session.sock, DONE)
	check("without one there is none", Session(["sleep", "9"]).visit(TTY, text(""))[1], 25)
	session = Session(["sh", "-c", "echo words; kill -HUP $$"], fds=[(n, TERMINAL, HELD) for n in range(3)])
	check("a program whose terminal nobody takes is told of all the same", receive_frame(session.sock),
	      (EXITED, b"\1\1\0\0"))
	send_frame(session.sock, DONE)


def visitors():
	session = Session(["sh", "-c", "echo words; sleep 60", "two words"], flags=KEEP | DETACHED, fds=[(1, OUTPUT, HELD)])
	session.life.gone()
	session.sock.close()
	tap.result("a detached program lives on without its client", not wait_for(lambda: not alive(session.pid), 1))
	kind, payload = session.visit(INFO)
	check("INFO tells of it", (kind, payload[:4 + 33 + 12], payload[57:]),
	      (PROGRAM, text(session.id) + struct.pack(">III", session.pid, 0, 0),
	       b"\1\0\0\0" + text("sh -c echo words; sleep 60 two words")))
	with connect(run_dir + "/rexec.sock") as sock:
		send_frame(sock, LIST, struct.pack(">IH", MAGIC, VERSION))
		told = [receive_frame(sock)]
		while told[-1][0] == PROGRAM:
			told.append(receive_frame(sock))
	tap.result("LIST tells of it, too", any(session.id.encode() in payload for _, payload in told) and
		   told[-1] == (RESULT, struct.pack(">HI", 0, 1) + b"\0"), told)
	for setting, error in (b"nice=7", 0), (b"nice=x", 22), (b"", 22):
		check(f"SET {setting}", session.visit(SET, struct.pack(">I", 0) + text(setting.decode())), (RESULT, error))
	check("that took effect", os.getpriority(os.PRIO_PROCESS, session.pid), 7)
	check("SET of a thread that is not the program's", session.visit(SET, struct.pack(">I", os.getpid()) + text("nice=7")),
	      (RESULT, 3))
	r, w = os.pipe()
	life, sock, kind, _ = session.attach([w])
	check("who attaches gets what was held", os.read(r, 100), b"words\n")
	send_frame(sock, PING)
	check("PING is answered", receive_frame(sock), (PONG, b""))
	check("KILL of no signal's number", session.visit(KILL, b"\xf0"), (RESULT, 22))
	check("KILL", session.visit(KILL, b"\x0a"), (RESULT, 0))
	check("the one who attached is told what that did", receive_frame(sock)[1][:2], b"\1\x0a")
	send_frame(sock, DONE)
	life.gone()
	os.close(r)
	os.close(w)
	session = Session(["sh", "-c", "trap '' TERM; sleep 60 & wait; sleep 60"], flags=KEEP | DETACHED)
	session.life.gone()
	session.sock.close()
	check("KILL of everything", session.visit(KILL, b"\0"), (RESULT, 0))
	tap.result("ends even what ignores SIGTERM, and nothing is kept", wait_for(lambda: not os.path.exists(session.dir), 10))
	session = Session(["sleep", "60"], seconds=1)
	session.sock.settimeout(20)
	check("a program whose time is over", receive_frame(session.sock), (EXITED, b"\1\x0f\0\1"))


CROWD = """
import os, resource, socket, sys
resource.setrlimit(resource.RLIMIT_NOFILE, (2000, 2000))
os.setgroups([])
os.setgid(1000)
os.setuid(1000)
socks = []
for i in range(1025):
	socks.append(socket.socket(socket.AF_UNIX))
	socks[-1].connect(sys.argv[1])
socks[-1].settimeout(20)
print(socks[-1].recv(1000)[10:-1].decode(), flush=True)
sys.stdin.read()
"""


def crowds():
	"""Each connection is a keeper's, whether or not it says anything."""
	with subprocess.Popen([sys.executable, "-c", CROWD, run_dir + "/rexec.sock"], stdin=subprocess.PIPE,
			      stdout=subprocess.PIPE) as crowd:
		check("of one user's programs there may be 1024", crowd.stdout.readline(),
		      b"this user has too many programs there already\n")
		check("others' are started all the same", run(["echo", "served"])[1], b"served\n")
		crowd.communicate()
	tap.result("and what has ended makes room", wait_for(lambda: subprocess.run(
		["setpriv", "--reuid=1000", "--regid=1000", "--clear-groups", BIN + "/rexec", "--local", "true"],
		env={"REXEC_RUNTIME_DIR": run_dir}, stderr=subprocess.DEVNULL, check=False).returncode == 0, 15))


def keepers():
	r, w = os.pipe()
	session = Session(["sh", "-c", "trap '' TERM; echo ready; while :; do sleep 0.05; done"], fds=[(1, PASS, w)])
	os.read(r, 10)
	os.close(r)
	os.close(w)
	os.kill(parent(session.pid), signal.SIGTERM)
	session.sock.settimeout(20)
	check("SIGTERM to a keeper ends its program, in the end by SIGKILL", receive_frame(session.sock)[1][:2], b"\1\x09")
	session = Session(["sleep", "60"], flags=KEEP)
	keeper = parent(session.pid)
	session.life.lost()
	session.sock.close()
	os.kill(session.pid, signal.SIGKILL)
	tap.result("an outcome that nobody has heard is kept", not wait_for(lambda: not os.path.exists(session.dir), 1))
	os.kill(keeper, signal.SIGTERM)
	tap.result("until the keeper gets SIGTERM", wait_for(lambda: not os.path.exists(session.dir)))
	session = Session(["sleep", "60"])
	again = connect(run_dir + "/rexec.sock")
	again.close()
	session.sock.sendall(struct.pack(">IB", 2**31, SIGNAL))
	tap.result("a client that breaks the protocol is hung up on", wait_for(lambda: not alive(session.pid), 5))


def left_behind():
	"""What a server finds when it starts: directories of keepers that are dead, and of two that live, one from before an upgrade."""
	os.makedirs(run_dir + "/sessions")
	found = {}
	for name, path in ("dead", ".keeper"), ("alive", ".keeper"), ("older", "/keeper.sock"), ("without a socket", None):
		own = f"{run_dir}/sessions/{len(found):032x}"
		found[name] = own, socket.socket(socket.AF_UNIX)
		os.mkdir(own)
		if path:
			found[name][1].bind(own + path)
		if name in ("alive", "older"):
			found[name][1].listen()
	return found


def swept(found):
	there = {name for name, (own, _) in found.items() if os.path.exists(own)}
	check("a server that starts removes what dead keepers left, and nothing of those that live", there, {"alive", "older"})
	check("with their sockets", os.path.exists(found["dead"][0] + ".keeper"), False)
	for name, (own, listener) in found.items():
		listener.close()
		if name in there:
			shutil.rmtree(own)
	os.unlink(found["alive"][0] + ".keeper")


def words():
	"""Of a server that somebody else has written."""
	with socket.socket(socket.AF_UNIX) as listener:
		os.mkdir(place + "/words")
		listener.bind(place + "/words/rexec.sock")
		listener.listen()
		listener.settimeout(10)
		client = subprocess.Popen([BIN + "/rexec", "--local", "--status-fd", "1", "true"], stdin=subprocess.DEVNULL,
					  stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={"REXEC_RUNTIME_DIR": place + "/words"})
		with listener.accept()[0] as sock:
			receive_frame(sock)
			send_frame(sock, REFUSED, bytes([126]) + text("no\x1b[2J\nexited 0"))
			said = client.communicate(timeout=10)
	check("what a server says is told as one line, and nothing that a terminal acts on", (client.returncode, *said),
	      (126, b"refused 126 no?[2J?exited 0\n", b"rexec: no?[2J?exited 0\n"))


def main():
	if os.geteuid():
		print("1..0 # SKIP needs root")
		return
	left = left_behind()
	with open(place + "/log", "w", encoding="utf-8") as log:
		server = subprocess.Popen([BIN + "/rexec_server", "--runtime-dir", run_dir, "--test-mode", "--whitelist",
					   place + "/none"], stderr=log)
	try:
		assert wait_for(lambda: socket.socket(socket.AF_UNIX).connect_ex(run_dir + "/rexec.sock") == 0)
		swept(left)
		for case in files, affinity, terminals, own_terminal, outputs, fifo_outputs, life_lines, visitors, crowds, keepers, words:
			try:
				case()
			except Exception as error:  # pylint: disable=broad-except
				tap.result(f"{case.__name__} runs to its end", False, repr(error))
		tap.result("no session is left behind", wait_for(lambda: not os.listdir(run_dir + "/sessions"), 12),
			   os.listdir(run_dir + "/sessions"))
		with open(place + "/log", encoding="utf-8") as log:
			said = log.read()
		tap.result("no sanitizer had anything to say", "Sanitizer" not in said, said)
	finally:
		end_keepers(run_dir)
		server.wait(10)
		shutil.rmtree(place)
	tap.done()


main()
