#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""A program that rexec runs behaves as if it ran here: arguments, descriptors, output, status,
signals, identity, environment, lifetime. The same cases hold with `rexec --local` on one machine
(no argument) and through two udsproxyd (argument "pair")."""

import array
import contextlib
import ctypes
import fcntl
import os
import pty
import resource
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, TOP + "/tests/lib")
from keepers import end_keepers  # pylint: disable=wrong-import-position
from proxypair import Pair, wait_for  # pylint: disable=wrong-import-position
from tap import Tap  # pylint: disable=wrong-import-position

BIN = os.environ.get("BIN", TOP + "/build/testmode/bin")
PYTHON = "/usr/bin/python3"
tap = Tap()


class Here:
	"""rexec and rexec_server on one machine."""

	name = "local"
	options = ["--local"]

	def __enter__(self):
		self.place = tempfile.mkdtemp(prefix="rexec.", dir="/var/tmp")
		os.chmod(self.place, 0o755)
		self.share = self.place
		self.started = []
		return self

	def client(self, argv, **options):
		process = subprocess.Popen(argv, **options)
		self.started.append(process)
		return process

	server = client
	own = property(lambda self: self.place)

	def outside(self, path):
		return path

	def __exit__(self, *_):
		for process in self.started:
			if process.poll() is None:
				process.kill()
			process.wait()
		subprocess.run(["rm", "-rf", self.place], check=True)


class There(Pair):
	"""rexec in one machine, rexec_server in the other, two udsproxyd between them."""

	name = "pair"
	options = []

	def client(self, argv, **options):
		return self.d.popen(argv, **options)

	def server(self, argv, **options):
		return self.h.popen(argv, **options)

	def outside(self, path):
		return self.h.outside(path)


class Rig:
	"""The server, and a way to run rexec."""

	def __init__(self, place):
		self.place = place
		self.run_dir = place.own + "/rexec"
		self.log = open(place.share + "/server.log", "ab")
		self.server = None

	def start_server(self, *options):
		self.server = self.place.server(
			[BIN + "/rexec_server", "--runtime-dir", self.run_dir, "--whitelist", self.place.own + "/none",
			 "--test-mode", *options], stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log)
		assert wait_for(lambda: os.path.exists(self.place.outside(self.run_dir + "/rexec.sock")))
		assert wait_for(lambda: self.run("true").returncode == 0)

	def stop_server(self):
		self.server.terminate()
		return self.server.wait(10)

	def popen(self, *argv, rexec=(), before=(), env=None, **options):
		"""rexec with its options and a program; before: a command that executes rexec."""
		env = {**os.environ, "REXEC_RUNTIME_DIR": self.run_dir, **(env or {})}
		return self.place.client([*before, BIN + "/rexec", *self.place.options, *rexec, *argv], env=env, **options)

	def run(self, *argv, stdin=b"", timeout=60, **options):
		"""Like subprocess.run: with .returncode, .stdout and .stderr."""
		options = {"stdin": subprocess.PIPE if isinstance(stdin, bytes) else stdin,
			   "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
		process = self.popen(*argv, **options)
		try:
			out, err = process.communicate(stdin if isinstance(stdin, bytes) else None, timeout)
		except subprocess.TimeoutExpired:
			process.kill()
			out, err = process.communicate()
			err = (err or b"") + b"\n(timeout)"
		return subprocess.CompletedProcess(argv, process.returncode, out, err)

	def sessions(self):
		return os.listdir(self.place.outside(self.run_dir + "/sessions"))


def python(code):
	return [PYTHON, "-c", code]


def alive(pid):
	"""Is it there, and not a zombie?"""
	try:
		with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as f:
			return f.read().rsplit(")", 1)[1].split()[0] not in "ZX"
	except OSError:
		return False


def state(pid):
	with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as f:
		return f.read().rsplit(")", 1)[1].split()[0]


def check(name, got, want):
	tap.result(name, got == want, f"got  {got!r:.600}\nwant {want!r:.600}")


def brief(result):
	return result.returncode, result.stdout[:300], result.stderr[:300]


# ---- status -------------------------------------------------------------------------------


def server_descriptors(rig):
	return len(os.listdir(f"/proc/{rig.server.pid}/fd"))


def exit_statuses(rig):
	before = server_descriptors(rig)
	running = {n: None for n in range(256)}
	got = {}
	for n in running:
		running[n] = rig.popen("sh", "-c", f"exit {n}", stdin=subprocess.DEVNULL)
		if n % 8 == 7:
			for m in range(n - 7, n + 1):
				got[m] = running[m].wait(30)
	check("every exit status from 0 to 255 arrives", {n: s for n, s in got.items() if n != s}, {})
	check("and rexec_server holds no descriptor more than before", server_descriptors(rig), before)
	for number in (signal.SIGTERM, signal.SIGKILL, signal.SIGINT, signal.SIGHUP, signal.SIGSEGV,
		       signal.SIGABRT, signal.SIGUSR1, signal.SIGALRM):
		result = rig.run("sh", "-c", f"kill -{int(number)} $$")
		check(f"a program ended by {number.name} gives 128+{int(number)}", brief(result),
		      (128 + number, b"", b""))


def refusals(rig):
	result = rig.run("no-such-program")
	tap.result("a program that is not there gives 127 and one line that says so",
		   result.returncode == 127 and result.stderr.startswith(b"rexec: no-such-program: not found")
		   and result.stderr.count(b"\n") == 1, brief(result))
	result = rig.run("/no/such/program")
	tap.result("so does an absolute path", result.returncode == 127 and b"/no/such/program" in result.stderr,
		   brief(result))
	result = rig.run("/etc/passwd")
	tap.result("a file that is not executable gives 126", result.returncode == 126, brief(result))
	result = rig.run("./relative")
	tap.result("a relative path gives 126", result.returncode == 126 and b"relative" in result.stderr,
		   brief(result))
	result = rig.run("true", rexec=["--cwd", "/no/such/dir"])
	tap.result("a working directory that is not there gives 125 and its name",
		   result.returncode == 125 and b"/no/such/dir" in result.stderr, brief(result))
	for options in (["--status-fd", "999"], ["--drop-fd", "x"], ["--on-disconnect=x"], ["--cwd", "x"],
			["--nonsense"]):
		result = rig.run("true", rexec=options)
		tap.result(f"{' '.join(options)} is bad usage: 2", result.returncode == 2 and result.stderr, brief(result))
	result = rig.run()
	tap.result("no program is bad usage: 2", result.returncode == 2 and b"usage" in result.stderr, brief(result))


def status_fd(rig):
	def told(*argv):
		r, w = os.pipe()
		result = rig.run(*argv, rexec=["--status-fd", str(w)], pass_fds=(w,))
		os.close(w)
		with os.fdopen(r, "rb") as f:
			return result.returncode, f.read().split(b"\n")[0][:12]

	check("--status-fd tells the program's own 125", told("sh", "-c", "exit 125"), (125, b"exited 125"))
	check("--status-fd tells a signal", told("sh", "-c", "kill -9 $$"), (137, b"signaled 9"))
	check("--status-fd tells a refusal", told("no-such-program"), (127, b"refused 127 "))
	r, w = os.pipe()
	result = rig.run("ls", "/proc/self/fd", rexec=["--status-fd", str(w)], pass_fds=(w,))
	os.close(r)
	os.close(w)
	check("the program does not get that descriptor", result.stdout.split(), [b"0", b"1", b"2", b"3"])


# ---- arguments and surroundings -----------------------------------------------------------------


def arguments(rig):
	show = python("import os, sys; sys.stdout.buffer.write(b'\\0'.join(map(os.fsencode, sys.argv[1:])))")
	for name, args in (
		("blanks, newlines, quotes, globs and empty ones",
		 [b"", b" ", b"a b", b"new\nline", b"'", b'"', b"$HOME", b"*", b"\\", b"", b"-n", b"--", b"--local"]),
		("bytes that are no UTF-8", [bytes(range(1, 256)), b"\xff\xfe"]),
		("1 MiB of them", [b"%05d" % i + b"x" * 100000 for i in range(10)] + [b"y" * 48000]),
		("ten thousand of them", [b"%d" % i for i in range(10000)]),
	):
		result = rig.run(*show, *args)
		check(f"arguments arrive exactly: {name}", (result.returncode, result.stdout), (0, b"\0".join(args)))
	result = rig.run("sh", "-c", "echo $#")
	check("no arguments are no arguments", result.stdout, b"0\n")


def surroundings(rig):
	result = rig.run("pwd", before=["env", "--chdir=/usr/lib"])
	check("the working directory goes along", result.stdout, b"/usr/lib\n")
	check("--cwd names another", rig.run("pwd", rexec=["--cwd", "/usr/bin"]).stdout, b"/usr/bin\n")
	result = rig.run("sh", "-c", "umask", preexec_fn=lambda: os.umask(0o027))
	check("the umask goes along", result.stdout, b"0027\n")

	def limits():
		resource.setrlimit(resource.RLIMIT_NOFILE, (123, 456))
		resource.setrlimit(resource.RLIMIT_CORE, (0, 0))

	result = rig.run("sh", "-c", "ulimit -Sn; ulimit -Hn; ulimit -c", preexec_fn=limits)
	check("resource limits go along", result.stdout, b"123\n456\n0\n")
	result = rig.run("sh", "-c", "ulimit -n; cat /proc/sys/fs/nr_open >/dev/null")
	check("the limit of descriptors is the client's, not the raised one of the server",
	      int(result.stdout), resource.getrlimit(resource.RLIMIT_NOFILE)[0])
	show = ["grep", "-E", "^Sig(Blk|Ign)", "/proc/self/status"]

	def dispositions():
		signal.signal(signal.SIGHUP, signal.SIG_IGN)
		signal.signal(signal.SIGUSR1, signal.SIG_IGN)
		signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR2])

	for name, prepare in (("default", None), ("ignored and blocked", dispositions)):
		want = subprocess.run(show, stdout=subprocess.PIPE, check=True, preexec_fn=prepare).stdout
		check(f"signal dispositions go along: {name}", rig.run(*show, preexec_fn=prepare).stdout, want)


def environment(rig):
	env = {"LC_ALL": "C", "SECRET": "x", "LD_BIND_NOW": "1", "PYTHONPATH": "/x", "XDG_DATA_HOME": "/d",
	       "TZ": "/etc/shadow", "QEMU_AUDIO_DRV": "none", "HOME": "/h"}
	result = rig.run("env", env=env)
	got = dict(line.split(b"=", 1) for line in result.stdout.splitlines())
	tap.result("the environment holds what programs need and nothing else",
		   got.get(b"LC_ALL") == b"C" and got.get(b"HOME") == b"/h" and got.get(b"QEMU_AUDIO_DRV") == b"none"
		   and got.get(b"XDG_DATA_HOME") == b"/d" and b"PATH" in got and
		   not {b"SECRET", b"LD_BIND_NOW", b"PYTHONPATH", b"TZ", b"REXEC_RUNTIME_DIR"} & set(got), got)
	result = rig.run("env", rexec=["--env", "SECRET", "--env", "B=1 2=3"], env=env)
	tap.result("--env passes on what it names", b"SECRET=x\n" in result.stdout and b"B=1 2=3\n" in result.stdout,
		   result.stdout)
	for bad in "LD_PRELOAD=/x.so", "GCONV_PATH=/x", "BASH_ENV=/x", "GLIBC_TUNABLES=x":
		result = rig.run("env", rexec=["--env", bad])
		tap.result(f"--env {bad} is refused: 126", result.returncode == 126 and
			   bad.split("=", maxsplit=1)[0].encode() in result.stderr, brief(result))


def identity(rig):
	user = ["setpriv", "--reuid=1000", "--regid=1001", "--groups=1002,44"]
	result = rig.run("sh", "-c", "id -u; id -g; id -G", before=user)
	check("uid, gid and groups are the caller's", (result.returncode, sorted(result.stdout.split()), result.stderr),
	      (0, [b"1000", b"1001", b"1001", b"1002", b"44"], b""))
	result = rig.run("id", rexec=["--user", "nobody"], before=user)
	tap.result("another user than root cannot ask for another user", result.returncode == 126 and
		   b"only root" in result.stderr, brief(result))
	result = rig.run("sh", "-c", "id -un; echo $USER $LOGNAME", rexec=["--user", "nobody"])
	check("root can", brief(result), (0, b"nobody\nnobody nobody\n", b""))
	result = rig.run("id", rexec=["--user", "no-such-user"])
	tap.result("for one that exists", result.returncode == 126 and b"no-such-user" in result.stderr, brief(result))
	result = rig.run("grep", "CapEff", "/proc/self/status", before=user)
	check("no capability is left of root's", result.stdout.split()[-1:], [b"0" * 16])


# ---- standard streams -------------------------------------------------------------------------


def streams(rig):
	data = os.urandom(8 << 20)
	result = rig.run("cat", stdin=data)
	check("8 MiB through stdin and stdout are the same bytes", (result.returncode, result.stdout == data), (0, True))
	result = rig.run("sh", "-c", "cat >/dev/null; echo out; echo err >&2; exit 3", stdin=b"x")
	check("stdout, stderr and the end of stdin", brief(result), (3, b"out\n", b"err\n"))
	result = rig.run("sh", "-c", "for i in $(seq 300); do echo o$i; echo e$i >&2; done", stderr=subprocess.STDOUT)
	check("two descriptors of one pipe keep their order", result.stdout,
	      b"".join(b"o%d\ne%d\n" % (i, i) for i in range(1, 301)))
	bad = 0
	for _ in range(200):
		result = rig.run("head", "-c", "1048576", "/dev/zero")
		bad += result.returncode != 0 or len(result.stdout) != 1048576
	check("1 MiB of output is complete, 200 times of 200", bad, 0)
	result = rig.run("cat", rexec=["-n"], stdin=b"not read")
	check("-n reads no stdin", brief(result), (0, b"", b""))


def broken_streams(rig):
	process = rig.popen("yes", stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
	process.stdout.read(100)
	process.stdout.close()
	check("a reader that leaves gives the program SIGPIPE: 141", process.wait(10), 141)
	process = rig.popen("sh", "-c", "exec <&-; echo closed; exec sleep 60", stdin=subprocess.PIPE, stdout=subprocess.PIPE)
	process.stdout.readline()

	def broken():
		try:
			os.write(process.stdin.fileno(), b"x" * 4096)
			return False
		except BrokenPipeError:
			return True

	tap.result("a program that closes stdin breaks its writer's pipe", wait_for(broken, 5))
	process.terminate()
	process.wait(10)
	with contextlib.suppress(BrokenPipeError):
		process.stdin.close()
	process = rig.popen("sh", "-c", "exec >&-; exec sleep 60", stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
	check("a program that closes stdout ends its reader's input", process.stdout.read(), b"")
	process.terminate()
	process.wait(10)


def flags(rig):
	r, w = os.pipe()
	r2, w2 = os.pipe()
	os.set_blocking(w, False)
	os.set_blocking(r2, False)
	before = [fcntl.fcntl(fd, fcntl.F_GETFL) for fd in (r, w, r2, w2)]
	process = rig.popen("sh", "-c", "cat; sleep 0.2", stdin=r, stdout=w2)
	os.write(w, b"x")
	select.select([r2], [], [], 10)
	during = [fcntl.fcntl(fd, fcntl.F_GETFL) for fd in (r, w, r2, w2)]
	os.close(w)
	process.wait(10)
	check("the flags of the caller's descriptors stay as they are", during, before)
	for fd in (r, r2, w2):
		os.close(fd)


def files(rig, shared):
	folder = rig.place.share if shared else tempfile.mkdtemp(dir="/var/tmp")
	kind = "on a share" if shared else "elsewhere"
	path = folder + "/lines"
	with open(path, "wb") as f:
		f.write(b"one\ntwo\nthree\n")
	with open(path, "rb", buffering=0) as f:
		f.seek(4)
		result = rig.run("cat", stdin=f)
		check(f"a file {kind} as stdin is read from its offset", brief(result), (0, b"two\nthree\n", b""))
		check("and is at its end then", f.tell(), 14)
	with open(path, "wb", buffering=0) as f:
		f.write(b"before ")
		result = rig.run("echo", "middle", stdout=f)
		f.write(b"after")
	with open(path, "rb") as f:
		check(f"a file {kind} as stdout is written at its offset, which moves", (result.returncode, f.read()),
		      (0, b"before middle\nafter"))
	with open(path, "ab", buffering=0) as f:
		rig.run("sh", "-c", "echo o; echo e >&2; echo o", stdout=f, stderr=f)
	with open(path, "rb") as f:
		check(f"a file {kind} for appending, as stdout and stderr", f.read(), b"before middle\nafter" + b"o\ne\no\n")
	os.unlink(path)
	if not shared:
		os.rmdir(folder)


def terminal(rig):
	master, slave = pty.openpty()
	process = rig.popen("sh", "-c", 'stty -echo; echo ready; read word; echo "got $word"; echo err >&2; exit 5', stdin=slave, stdout=slave,
			    stderr=slave, start_new_session=True)
	os.close(slave)
	said = os.read(master, 7)
	os.write(master, b"typed\n")
	with contextlib.suppress(OSError):
		while select.select([master], [], [], 10)[0]:
			more = os.read(master, 1000)
			if not more:
				break
			said += more
	check("a program is talked to through a terminal", (process.wait(10), said),
	      (5, b"ready\r\ngot typed\r\nerr\r\n"))
	os.close(master)


# ---- other descriptors --------------------------------------------------------------------------

LIST_FDS = """
import os
for n in sorted(map(int, os.listdir('/proc/self/fd'))):
	try: st = os.fstat(n)
	except OSError: continue
	print(n, oct(st.st_mode >> 12))
"""


def descriptors(rig):
	r, w = os.pipe()
	a, b = socket.socketpair()
	a.settimeout(10)
	os.dup2(w, 57, inheritable=True)
	os.dup2(b.fileno(), 200, inheritable=True)
	code = "import os; os.write(57, b'pipe'); os.write(200, b'socket'); os.write(1, os.read(200, 100))"
	a.sendall(b"hello")
	result = rig.run(*python(code), pass_fds=(57, 200))
	check("a pipe and a socket at their numbers", (brief(result), os.read(r, 100), a.recv(100)),
	      ((0, b"hello", b""), b"pipe", b"socket"))
	os.close(200)
	b.close()
	check("the socket ends with the program", a.recv(100), b"")
	os.close(w)
	os.close(57)
	check("so does the pipe", os.read(r, 100), b"")
	result = rig.run(*python(LIST_FDS))
	check("no other descriptors are there", result.stdout, b"0 0o1\n1 0o1\n2 0o1\n")
	os.close(r)
	r, w = os.pipe()
	result = rig.run("sh", "-c", f"echo dropped >&{w}", pass_fds=(w,), rexec=["--drop-fd", str(w)])
	tap.result("--drop-fd keeps one back", result.returncode != 0 and not select.select([r], [], [], 0)[0], brief(result))
	same = "import os; a, b = os.fstat(1), os.fstat(2); print(a.st_ino == b.st_ino and a.st_dev == b.st_dev)"
	check("equal descriptors are equal there", rig.run(*python(same), stderr=subprocess.STDOUT).stdout, b"True\n")
	check("different ones are not", rig.run(*python(same)).stdout, b"False\n")
	os.close(r)
	os.close(w)
	r, w = os.pipe()
	many = [os.dup(w) for _ in range(20)] + [os.pipe()[1] for _ in range(60)]
	for fd in many:
		os.set_inheritable(fd, True)
	code = f"import os; os.write({many[0]}, b'1'); [os.fstat(n) for n in {many}]; print('all')"
	result = rig.run(*python(code), pass_fds=many)
	check("eighty at once", (brief(result), os.read(r, 2)), ((0, b"all\n", b""), b"1"))
	for fd in many + [r, w]:
		os.close(fd)
	os.closerange(60, 200)


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


def dial(path, kind):
	sock = socket.socket(socket.AF_UNIX, kind)
	sock.settimeout(10)
	sock.connect(path)
	return sock


def receive_all(sock):
	said = b""
	while data := sock.recv(65536):
		said += data
	return said


def listeners(rig):
	path = rig.place.share + "/listen.sock"
	for kind, name in ((socket.SOCK_STREAM, "stream"), (socket.SOCK_SEQPACKET, "seqpacket")):
		listener = socket.socket(socket.AF_UNIX, kind)
		listener.bind(path)
		listener.listen()
		early = dial(path, kind)
		fd = listener.fileno()
		process = rig.popen(*python(ECHO_SERVER), str(fd), "3", pass_fds=(fd,), stdin=subprocess.DEVNULL,
				    stdout=subprocess.PIPE)
		process.stdout.readline()
		early.send(b"early")
		check(f"a listening {name} socket: who connected before is served", early.recv(100), b"<early>")
		early.shutdown(socket.SHUT_WR)
		check("half-close gives the program its end of file, and the client the program's", early.recv(100), b"")
		second = dial(path, kind)
		second.send(b"a")
		second.send(b"b") if kind == socket.SOCK_SEQPACKET else None
		said = second.recv(100) + (second.recv(100) if kind == socket.SOCK_SEQPACKET else b"")
		check("the next connection, packets apart" if len(said) > 3 else "the next connection", said,
		      b"<a><b>" if kind == socket.SOCK_SEQPACKET else b"<a>")
		second.close()
		third = dial(path, kind)
		third.send(b"last")
		third.shutdown(socket.SHUT_WR)
		check("the program's last words arrive though it ends with them", receive_all(third), b"<last>")
		check("its status is told", process.wait(10), 0)
		for sock in early, third, listener:
			sock.close()
		os.unlink(path)


PASSING_SERVER = """
import array, os, socket, sys
listener = socket.socket(fileno=int(sys.argv[1]))
conn, _ = listener.accept()
data, control, _, _ = conn.recvmsg(100, 1000)
fd = array.array('i', control[0][2])[0]
os.write(fd, b'through ' + data)
r, w = os.pipe()
os.write(w, b'back')
conn.sendmsg([b'x'], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array('i', [r]))])
"""


def passing(rig):
	path = rig.place.share + "/pass.sock"
	listener = socket.socket(socket.AF_UNIX)
	listener.bind(path)
	listener.listen()
	fd = listener.fileno()
	process = rig.popen(*python(PASSING_SERVER), str(fd), pass_fds=(fd,), stdin=subprocess.DEVNULL)
	sock = dial(path, socket.SOCK_STREAM)
	r, w = os.pipe()
	sock.sendmsg([b"data"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [w]))])
	os.close(w)
	check("a pipe passed over a connection to the program", os.read(r, 100), b"through data")
	data, control, _, _ = sock.recvmsg(100, 1000)
	back = array.array("i", control[0][2])[0] if control else -1
	check("and one passed back", (data, os.read(back, 100)), (b"x", b"back"))
	check("status", process.wait(10), 0)
	for fd in (r, back):
		os.close(fd)
	sock.close()
	listener.close()
	os.unlink(path)


# ---- signals and lifetime -------------------------------------------------------------------------

# Not by handlers: one that comes between two bytecodes is run only after the next pause().
SAY_SIGNALS = """
import os, signal, sys
wanted = set(map(int, sys.argv[1:]))
signal.pthread_sigmask(signal.SIG_BLOCK, wanted)
os.write(1, b"ready\\n")
while True:
	os.write(1, b"%d\\n" % signal.sigwait(wanted))
"""


def forwarding(rig):
	numbers = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2,
		   signal.SIGCONT]
	process = rig.popen(*python(SAY_SIGNALS), *map(str, map(int, numbers)), stdin=subprocess.DEVNULL,
			    stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
	process.stdout.readline()
	got = []
	for number in numbers:
		process.send_signal(number)
		got.append(int(process.stdout.readline()))
	check("signals sent to rexec reach the program", got, [int(n) for n in numbers])
	process.kill()
	process.wait()
	process.stdout.close()
	process = rig.popen("sh", "-c", "echo $$; exec sleep 60", stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
	pid = int(process.stdout.readline())
	process.send_signal(signal.SIGTSTP)
	tap.result("SIGTSTP stops the program and rexec",
		   wait_for(lambda: state(pid) == "T" and state(process.pid) == "T"), (state(pid), state(process.pid)))
	process.send_signal(signal.SIGCONT)
	tap.result("SIGCONT continues both", wait_for(lambda: state(pid) == "S" and state(process.pid) == "S"),
		   (state(pid), state(process.pid)))
	process.terminate()
	check("SIGTERM ends the program, and rexec says so", process.wait(10), 143)
	process.stdout.close()


def lifetime(rig):
	code = "import os, time\nif os.fork() == 0: os.setsid()\nprint(os.getpid(), flush=True)\ntime.sleep(60)"
	process = rig.popen(*python(code), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
	pids = [int(process.stdout.readline()) for _ in range(2)]
	process.kill()
	process.wait()
	tap.result("rexec killed: the program is gone, and what it started in a session of its own",
		   wait_for(lambda: not any(map(alive, pids)), 3), pids)
	process.stdout.close()
	code = "trap '' TERM HUP INT; echo $$; while :; do sleep 0.1; done"
	process = rig.popen("sh", "-c", code, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
	pid = int(process.stdout.readline())
	process.kill()
	process.wait()
	tap.result("rexec killed: a program that ignores SIGTERM is gone within 10 s", wait_for(lambda: not alive(pid), 10))
	process.stdout.close()


def children():
	with open(f"/proc/self/task/{os.getpid()}/children", encoding="ascii") as f:
		return {int(pid) for pid in f.read().split()}


def standins(rig):
	"""Orphans of ours become our children, so that the stand-in can be seen."""
	ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)
	before = children()

	def daemonize():
		started = time.monotonic()
		process = rig.popen("sh", "-c", "sleep 60 >/dev/null 2>&1 </dev/null & echo $!; exit 7",
				    stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
		said = process.stdout.read()
		status = process.wait(10)
		left = children() - before
		return int(said), status, left, time.monotonic() - started

	pid, status, left, seconds = daemonize()
	check("a program that leaves something running: its status is told at once", (status, seconds < 5), (7, True))
	check("one stand-in stays", (len(left), alive(pid)), (1, True))
	os.kill(left.pop(), signal.SIGTERM)
	tap.result("a signal to the stand-in reaches what was left", wait_for(lambda: not alive(pid)))

	def reaped():
		with contextlib.suppress(ChildProcessError):
			for child in children() - before:
				os.waitpid(child, os.WNOHANG)
		return not children() - before

	tap.result("the stand-in ends with it", wait_for(reaped))
	pid, _, left, _ = daemonize()
	os.kill(left.pop(), signal.SIGKILL)
	tap.result("a stand-in that is killed takes it along", wait_for(lambda: not alive(pid), 10))
	wait_for(reaped)
	ctypes.CDLL(None).prctl(36, 0, 0, 0, 0)


def servers(rig):
	process = rig.popen("sh", "-c", "echo up; read line; echo $line; exit 9", stdin=subprocess.PIPE,
			    stdout=subprocess.PIPE)
	process.stdout.readline()
	check("rexec_server ends on SIGTERM with 0", rig.stop_server(), 0)
	started = time.monotonic()
	result = rig.run("true")
	tap.result("without it: 125, which says so within a second", result.returncode == 125 and
		   b"rexec_server is not running" in result.stderr and time.monotonic() - started < 1, brief(result))
	rig.start_server()
	out, _ = process.communicate(b"still here\n", 10)
	check("a program survives a restart of rexec_server", (process.returncode, out), (9, b"still here\n"))
	second = rig.place.server([BIN + "/rexec_server", "--runtime-dir", rig.run_dir, "--test-mode", "--whitelist",
				   rig.place.own + "/none"], stderr=subprocess.PIPE)
	said = second.communicate(timeout=10)[1]
	tap.result("a second server in the same directory says who is running", second.returncode == 1 and
		   str(rig.server.pid).encode() in said, said)
	process = rig.popen("sh", "-c", "echo $$; exec sleep 60", stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
			    stderr=subprocess.PIPE)
	pid = int(process.stdout.readline())
	with open(f"/proc/{pid}/status", encoding="ascii") as f:
		keeper = int(next(line for line in f if line.startswith("PPid")).split()[1])
	os.kill(keeper, signal.SIGKILL)
	err = process.communicate(timeout=10)[1]
	tap.result("a killed keeper: 123, outcome unknown, and the program is gone", process.returncode == 123 and
		   b"unknown" in err and wait_for(lambda: not alive(pid)), err)
	rig.stop_server()
	rig.start_server()
	tap.result("the next server removes what it left behind", wait_for(lambda: not rig.sessions()), rig.sessions())


CASES = [exit_statuses, refusals, status_fd, arguments, surroundings, environment, identity, streams,
	 broken_streams, flags, lambda rig: files(rig, True), lambda rig: files(rig, False), terminal, descriptors,
	 listeners, passing, forwarding, lifetime, standins, servers]


def main():
	if os.geteuid():
		print("1..0 # SKIP needs root: programs run as other users")
		return
	place = There() if sys.argv[1:] == ["pair"] else Here()
	with place:
		rig = Rig(place)
		rig.start_server()
		for case in CASES:
			try:
				case(rig)
			except Exception as error:  # pylint: disable=broad-except
				tap.result(f"{case.__name__} runs to its end", False, repr(error))
		tap.result("no session is left behind", wait_for(lambda: not rig.sessions(), 12), rig.sessions())
		check("the server ends with 0", rig.stop_server(), 0)
		end_keepers(rig.run_dir)
		with open(rig.log.name, encoding="utf-8", errors="replace") as log:
			tap.result("no sanitizer had anything to say", "Sanitizer" not in log.read(), "see the log below")
		if tap.failed:
			with open(rig.log.name, encoding="utf-8", errors="replace") as log:
				print("".join("# " + line for line in log.readlines()[-40:]))
	tap.done()


main()
