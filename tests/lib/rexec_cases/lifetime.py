# SPDX-License-Identifier: Apache-2.0
"""Signals to a program, what becomes of it when rexec is ended, and of what it leaves behind."""

import contextlib
import ctypes
import os
import signal
import socket
import subprocess

from proxyends import expect, read_all
from proxypair import wait_for
from rexecs import alive, python, state
from scenarios.scenario import size

from .case import case, rexec_case
from .descriptors import listening, receive_all

PIPE, NULL = subprocess.PIPE, subprocess.DEVNULL
PR_SET_CHILD_SUBREAPER = 36

# Not by handlers: one that comes between two bytecodes is run only after the next pause().
SAY_SIGNALS = """
import os, signal, sys
wanted = set(map(int, sys.argv[1:]))
signal.pthread_sigmask(signal.SIG_BLOCK, wanted)
os.write(1, b"ready\\n")
while True:
	os.write(1, b"%d\\n" % signal.sigwait(wanted))
"""
FORWARDED = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2, signal.SIGCONT,
	     signal.SIGWINCH]


def begin(rig, *argv, **options):
	"""A program whose first line is its process id."""
	process = rig.popen(*argv, **{"stdin": NULL, "stdout": PIPE, **options})
	return process, int(process.stdout.readline())


def goes(*pids):
	"""Waits until they do; SIGKILL comes 5 seconds behind SIGTERM."""
	return wait_for(lambda: not any(map(alive, pids)), 20)


# ---- signals ---------------------------------------------------------------------------------------


@case
def signals_reach_the_program(rig):
	process = rig.popen(*python(SAY_SIGNALS, *map(str, map(int, FORWARDED))), stdin=NULL, stdout=PIPE, stderr=NULL)
	process.stdout.readline()
	got = []
	for number in FORWARDED:
		process.send_signal(number)
		got.append(int(process.stdout.readline()))
	expect(got, [int(number) for number in FORWARDED])


@case
def sigterm_ends_the_program_and_is_told(rig):
	process, pid = begin(rig, "sh", "-c", "echo $$; exec sleep 1000")
	process.terminate()
	expect((rig.status(process), alive(pid)), (143, False))


@case
def a_program_that_handles_sigterm_ends_as_it_likes(rig):
	process = rig.popen("sh", "-c", "trap 'echo bye; exit 9' TERM; echo ready; while :; do sleep 0.05; done", stdin=NULL, stdout=PIPE)
	process.stdout.readline()
	process.terminate()
	expect((process.stdout.read(), rig.status(process)), (b"bye\n", 9))


@case
def sigtstp_stops_and_sigcont_continues(rig):
	# In an orphaned process group, which the test's may be, nothing stops by SIGTSTP.
	process, pid = begin(rig, "sh", "-c", "echo $$; exec sleep 1000", process_group=0)
	process.send_signal(signal.SIGTSTP)
	expect(wait_for(lambda: (state(pid), state(process.pid)) == ("T", "T")), True, "stopped")
	process.send_signal(signal.SIGCONT)
	expect(wait_for(lambda: (state(pid), state(process.pid)) == ("S", "S")), True, "continued")
	process.terminate()
	expect(rig.status(process), 143)


@case
def a_program_that_stops_itself_is_continued(rig):
	process, pid = begin(rig, "sh", "-c", "echo $$; kill -STOP $$; echo on; exit 3")
	expect(wait_for(lambda: state(pid) == "T"), True, "stopped")
	process.send_signal(signal.SIGCONT)
	expect((process.stdout.read(), rig.status(process)), (b"on\n", 3))


@case
def a_signal_that_the_caller_ignores_is_ignored(rig):
	"""As nohup(1) does."""
	process = rig.popen("sh", "-c", "echo ready; read line; echo $line", stdin=PIPE, stdout=PIPE,
			    preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN))
	process.stdout.readline()
	process.send_signal(signal.SIGHUP)
	out, _ = process.communicate(b"still here\n", 60)
	expect((out, rig.status(process)), (b"still here\n", 0))


# ---- rexec killed ---------------------------------------------------------------------------------


@case
def a_killed_rexec_ends_the_program(rig):
	process, pid = begin(rig, "sh", "-c", "echo $$; exec sleep 1000")
	process.kill()
	process.wait()
	expect(goes(pid), True, "gone")


@rexec_case
def a_killed_rexec_ends_what_the_program_started(rig):
	"""Also in a session of its own."""
	code = "import os, time\nif os.fork() == 0: os.setsid()\nprint(os.getpid(), flush=True)\ntime.sleep(1000)"
	process, pid = begin(rig, *python(code))
	other = int(process.stdout.readline())
	process.kill()
	expect(goes(pid, other), True, "gone")


@rexec_case(together=True)
def a_killed_rexec_ends_who_ignores_sigterm(rig):
	process, pid = begin(rig, "sh", "-c", "trap '' TERM HUP INT; echo $$; while :; do sleep 0.1; done")
	process.kill()
	expect(goes(pid), True, "gone")


@rexec_case
def a_killed_rexec_ends_who_is_stopped(rig):
	process, pid = begin(rig, "sh", "-c", "echo $$; kill -STOP $$")
	expect(wait_for(lambda: state(pid) == "T"), True, "stopped")
	process.kill()
	expect(goes(pid), True, "gone")


@rexec_case
def a_killed_rexec_ends_two_hundred_children(rig):
	n = size(200, 200, 30)
	code = f"""
import os, time
for _ in range({n}):
	if os.fork() == 0: break
print(os.getpid(), flush=True)
time.sleep(1000)
"""
	process, pid = begin(rig, *python(code))
	pids = [pid, *(int(process.stdout.readline()) for _ in range(n))]
	expect(len(set(pids)), n + 1)
	process.kill()
	expect(goes(*pids), True, "gone")


@rexec_case(together=True)
def a_killed_rexec_ends_children_that_fork_on(rig):
	"""Somebody is always just being born, whatever the signal finds."""
	code = """
import os, signal
signal.signal(signal.SIGTERM, signal.SIG_IGN)
r, w = os.pipe()
print(os.getpid(), flush=True)
if os.fork() == 0:
	for _ in range(20000):
		if os.fork(): os._exit(0)
else:
	os.wait()
while True: signal.pause()
"""
	process, _ = begin(rig, *python(code))
	process.kill()
	process.wait()
	expect(wait_for(lambda: not rig.sessions(), 60), True, "gone")


@case
def a_killed_rexec_ends_its_output(rig):
	process, pid = begin(rig, "sh", "-c", "echo $$; exec sleep 1000")
	process.kill()
	expect((process.stdout.read(), goes(pid)), (b"", True))


# ---- what a program leaves behind -----------------------------------------------------------------


def children():
	with open(f"/proc/self/task/{os.getpid()}/children", encoding="ascii") as f:
		return {int(pid) for pid in f.read().split()}


@contextlib.contextmanager
def orphans_are_ours():
	"""So that a stand-in, which rexec leaves behind, can be seen: yields a function that says which there are."""
	before = children()

	def there():
		for child in children() - before:
			with contextlib.suppress(ChildProcessError):
				os.waitpid(child, os.WNOHANG)
		return children() - before

	ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
	try:
		yield there
	finally:
		for child in there():
			os.kill(child, signal.SIGKILL)
		wait_for(lambda: not there())
		ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)


def leave_one(rig):
	"""Runs a program that leaves another one running: its process id, when the status is told and the output ended."""
	process = rig.popen("sh", "-c", "sleep 1000 >/dev/null 2>&1 </dev/null & echo $!; exit 7", stdin=NULL, stdout=PIPE)
	said = process.stdout.read()
	expect(rig.status(process), 7)
	return int(said)


@case
def a_program_that_daemonizes(rig):
	"""Its status is told at once, and it lives on."""
	code = "import os, signal\nif os.fork(): os._exit(4)\nos.setsid()\nmiddle = os.getpid()\nif os.fork(): os._exit(0)\n" \
	       "while os.getppid() == middle: pass\nprint(os.getpid(), flush=True)\nos.closerange(0, 256)\nsignal.pause()"
	with orphans_are_ours() as there:
		process = rig.popen(*python(code), stdin=NULL, stdout=PIPE)
		pid = int(process.stdout.read())
		expect((rig.status(process), alive(pid), len(there())), (4, True, 1))
		os.kill(there().pop(), signal.SIGTERM)
		expect((goes(pid), wait_for(lambda: not there())), (True, True))


@case
def a_daemon_serves_a_listening_socket(rig):
	"""Its standard output, whose end says that it is ready, it has closed."""
	code = """
import os, socket, sys
if os.fork(): os._exit(0)
os.setsid()
listener = socket.socket(fileno=int(sys.argv[1]))
os.closerange(0, 3)
while True:
	with listener.accept()[0] as conn: conn.sendall(b'<' + conn.recv(100) + b'>')
"""
	with orphans_are_ours() as there, listening(rig, socket.SOCK_STREAM) as (listener, dial):
		fd = listener.fileno()
		process = rig.popen(*python(code, str(fd)), stdin=NULL, stdout=PIPE, pass_fds=[fd])
		expect((process.stdout.read(), rig.status(process)), (b"", 0))
		for word in b"one", b"two":
			with dial() as sock:
				sock.sendall(word)
				expect(receive_all(sock), b"<%s>" % word)
		os.kill(there().pop(), signal.SIGTERM)
		expect(wait_for(lambda: not there()), True, "gone")


@rexec_case
def a_signal_to_the_stand_in_reaches_what_was_left(rig):
	with orphans_are_ours() as there:
		pid = leave_one(rig)
		expect((len(there()), alive(pid)), (1, True), "stand-ins")
		os.kill(there().pop(), signal.SIGTERM)
		expect((goes(pid), wait_for(lambda: not there())), (True, True))


@rexec_case
def a_stand_in_that_is_killed_takes_along_what_was_left(rig):
	with orphans_are_ours() as there:
		pid = leave_one(rig)
		os.kill(there().pop(), signal.SIGKILL)
		expect(goes(pid), True)


@rexec_case
def a_stand_in_ends_with_what_was_left(rig):
	with orphans_are_ours() as there:
		os.kill(leave_one(rig), signal.SIGKILL)
		expect(wait_for(lambda: not there()), True)


@rexec_case
def output_of_what_was_left_arrives(rig):
	r, w = os.pipe()
	code = "import os, sys\nif os.fork(): os._exit(0)\nos.read(int(sys.argv[1]), 1); os.write(1, b'x' * 1000000)"
	with orphans_are_ours() as there:
		process = rig.popen(*python(code, str(r)), stdin=NULL, stdout=PIPE, pass_fds=[r])
		os.close(r)
		expect(rig.status(process), 0)
		os.write(w, b"x")
		os.close(w)
		expect(len(read_all(process.stdout.fileno())), 1000000)
		expect(wait_for(lambda: not there()), True)
