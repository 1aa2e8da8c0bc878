# SPDX-License-Identifier: Apache-2.0
"""A terminal here, and the one that the program has there."""

import contextlib
import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import termios
import time

from proxyends import expect
from proxypair import wait_for
from rexecs import alive, python, state

from .case import case, rexec_case

PIPE, NULL = subprocess.PIPE, subprocess.DEVNULL

SIZES = r"""
import fcntl, os, signal, struct, termios, time
def tell(*_):
	rows, columns = struct.unpack('4H', fcntl.ioctl(0, termios.TIOCGWINSZ, bytes(8)))[:2]
	os.write(1, b'%d %d\n' % (rows, columns))
signal.signal(signal.SIGWINCH, tell)
tell()
time.sleep(60)
"""

# A job that runs in the background until the shell has read a line.
JOB = """
$R sh -c 'stty -echo; echo said; read word; echo "got $word"; exit 4' &
read -r word; echo "read $word"; fg >/dev/null
"""


class Terminal:
	"""One that a person sits at: its master, and how it was before."""

	def __init__(self, rows=24, columns=80):
		self.master, self.slave = pty.openpty()
		self.resize(rows, columns)
		self.mode = termios.tcgetattr(self.slave)
		self.said = b""

	def resize(self, rows, columns):
		fcntl.ioctl(self.slave, termios.TIOCSWINSZ, struct.pack("4H", rows, columns, 0, 0))

	def popen(self, rig, *argv, **options):
		"""On 0, 1 and 2, and as the controlling terminal, so that signals come from it."""
		options = {"stdin": self.slave, "stdout": self.slave, "stderr": self.slave, **options}
		self.process = rig.popen(*argv, before=["setsid", "--ctty"], **options)
		return self.process

	def type(self, data):
		os.write(self.master, data)

	def until(self, words):
		"""What it shows, up to these words."""
		end = time.monotonic() + 30
		while words not in self.said:
			ended = self.process.poll() is not None
			if select.select([self.master], [], [], 0 if ended else 1)[0]:
				self.said += os.read(self.master, 10000)
			else:
				assert not ended and time.monotonic() < end, (words, self.said)
		before, _, self.said = self.said.partition(words)
		return before + words

	def rest(self):
		"""What it shows when nobody has it any more."""
		os.close(self.slave)
		with contextlib.suppress(OSError):
			while more := os.read(self.master, 10000):
				self.said += more
		return self.said

	def is_raw(self):
		return not termios.tcgetattr(self.slave)[3] & (termios.ECHO | termios.ICANON | termios.ISIG)

	def is_as_before(self):
		return termios.tcgetattr(self.slave) == self.mode

	def close(self):
		os.close(self.master)


@contextlib.contextmanager
def a_terminal(**options):
	terminal = Terminal(**options)
	try:
		yield terminal
	finally:
		terminal.close()


@case
def a_terminal_on_0_1_and_2(rig):
	with a_terminal() as t:
		process = t.popen(rig, "sh", "-c", 'stty -echo; echo ready; read word; echo "got $word"; echo err >&2; exit 5')
		t.until(b"ready\r\n")
		t.type(b"typed\n")
		t.until(b"got typed\r\nerr\r\n")
		expect((rig.status(process), t.is_as_before() or rig.plain, t.rest()), (5, True, b""))


@case
def a_terminal_is_the_controlling_one(rig):
	with a_terminal() as t:
		process = t.popen(rig, "sh", "-c", "test -t 0 && test -t 1 && test -t 2 && echo hello >/dev/tty")
		expect(rig.status(process), 0)
		expect(t.rest(), b"hello\r\n")


@case
def a_terminals_echo_is_once(rig):
	with a_terminal() as t:
		process = t.popen(rig, "sh", "-c", "echo ready; read word; exit 0")
		t.until(b"ready\r\n")
		t.type(b"typed\n")
		expect((rig.status(process), t.rest()), (0, b"typed\r\n"))


@case
def a_terminals_interrupt_key_reaches_the_program(rig):
	with a_terminal() as t:
		process = t.popen(rig, *python("import time\ntry: print('ready', flush=True); time.sleep(60)\nexcept KeyboardInterrupt: exit(7)"))
		t.until(b"ready\r\n")
		t.type(b"\x03")
		expect(rig.status(process), 7)
		t.rest()


@case
def a_terminals_end_of_file_key(rig):
	with a_terminal() as t:
		process = t.popen(rig, "sh", "-c", "echo ready; cat; exit 3")
		t.until(b"ready\r\n")
		t.type(b"\x04")
		expect(rig.status(process), 3)
		t.rest()


@case
def a_terminals_size_and_its_changes(rig):
	with a_terminal(rows=33, columns=77) as t:
		process = t.popen(rig, *python(SIZES))
		t.until(b"33 77\r\n")
		t.resize(20, 30)
		t.until(b"20 30\r\n")
		process.terminate()
		expect(rig.status(process), 143)
		t.rest()


@case
def much_output_to_a_terminal_is_complete(rig):
	with a_terminal() as t:
		t.popen(rig, *python("print('x' * 300000, end='\\n.\\n')"))
		expect(t.until(b"\r\n.\r\n").count(b"x"), 300000)
		t.rest()


@case
def a_terminal_with_stderr_elsewhere(rig):
	r, w = os.pipe()
	with a_terminal() as t:
		process = t.popen(rig, "sh", "-c", "echo out; echo err >&2", stderr=w)
		os.close(w)
		expect((rig.status(process), t.rest(), os.read(r, 100)), (0, b"out\r\n", b"err\n"))
	os.close(r)


@rexec_case
def a_terminal_is_raw_meanwhile_and_restored_after_sigterm(rig):
	with a_terminal() as t:
		process = t.popen(rig, "sh", "-c", "trap 'exit 9' TERM; echo ready; while :; do sleep 0.05; done")
		t.until(b"ready\r\n")
		expect(wait_for(t.is_raw), True, "raw")
		process.send_signal(signal.SIGTERM)
		expect((rig.status(process), t.is_as_before()), (9, True))
		t.rest()


@rexec_case
def a_terminal_is_restored_when_the_program_is_refused(rig):
	with a_terminal() as t:
		process = t.popen(rig, "/nonexistent/program")
		expect((rig.status(process), t.is_as_before()), (127, True))
		expect(b"/nonexistent/program" in t.rest(), True, "reason")


@rexec_case
def a_terminal_is_restored_while_rexec_is_stopped(rig):
	with a_terminal() as t:
		process = t.popen(rig, "sh", "-c", "echo ready; read word; echo \"got $word\"")
		t.until(b"ready\r\n")
		process.send_signal(signal.SIGTSTP)
		expect(wait_for(lambda: state(process.pid) == "T"), True, "stopped")
		expect(t.is_as_before(), True, "restored")
		process.send_signal(signal.SIGCONT)
		expect(wait_for(t.is_raw), True, "raw again")
		t.type(b"word\n")
		t.until(b"got word\r\n")
		expect(rig.status(process), 0)
		t.rest()


@rexec_case
def a_terminal_is_left_alone_in_the_background(rig):
	with a_terminal() as t:
		shell = t.process = rig.start(["setsid", "--ctty", "bash", "--norc", "-mc", JOB], env={"R": " ".join(rig.prefix())},
				  stdin=t.slave, stdout=t.slave, stderr=t.slave)
		t.until(b"said\r")
		expect(t.is_as_before(), True, "left alone")
		t.type(b"to the shell\n")
		t.until(b"read to the shell\r\n")
		expect(wait_for(t.is_raw), True, "raw in the foreground")
		t.type(b"to the program\n")
		t.until(b"got to the program\r\n")
		expect((shell.wait(60), t.is_as_before()), (4, True))
		t.rest()


@rexec_case
def a_terminal_that_is_hung_up_takes_the_program_along(rig):
	with a_terminal() as t:
		process = t.popen(rig, "sh", "-c", "echo $$; exec sleep 60")
		pid = int(t.until(b"\r\n"))
		os.close(t.slave)
		os.close(t.master)
		t.master = os.open("/dev/null", os.O_RDWR)
		expect(wait_for(lambda: not alive(pid)), True, "gone")
		expect(rig.status(process), 129)


@rexec_case
def t_gives_a_terminal_where_there_is_none_here(rig):
	result = rig.run("sh", "-c", "test -t 0 && test -t 1 && test -t 2 && stty -echo && cat", rexec=["-t"], stdin=b"one\ntwo")
	expect((result.returncode, result.stdout.endswith(b"one\r\ntwo")), (0, True), result.stdout)


@rexec_case(together=True)
def t_with_a_reader_that_is_slow_behind_the_end(rig):
	process = rig.popen(*python("print('x' * 1000000, end='.')"), rexec=["-t"], stdin=NULL, stdout=PIPE)
	expect(process.stdout.read(1), b"x")
	time.sleep(12)	# longer than an outcome is kept for a client that does not come for it
	said = process.stdout.read()
	expect((rig.status(process), len(said), said[-1:]), (0, 1000000, b"."))


@rexec_case
def t_with_a_reader_that_goes_away_hangs_up(rig):
	process = rig.popen("yes", rexec=["-t"], stdin=NULL, stdout=PIPE)
	expect(process.stdout.read(3), b"y\r\n")
	process.stdout.close()
	expect(rig.status(process), 129)


@rexec_case
def t_without_input_leaves_it_to_others(rig):
	script = "printf 'one\\ntwo\\n' | { $R true; cat; }"
	result = rig.finish(rig.start(["sh", "-c", script], env={"R": " ".join(rig.prefix(["-n", "-t"]))}, stdin=NULL, stdout=PIPE))
	expect(result.stdout, b"one\ntwo\n")


@rexec_case
def capital_t_gives_none(rig):
	with a_terminal() as t:
		process = t.popen(rig, "sh", "-c", "test -t 0 || test -t 1 || echo none", rexec=["-T"])
		expect((rig.status(process), t.rest()), (0, b"none\r\n"))
