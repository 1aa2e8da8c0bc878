# SPDX-License-Identifier: Apache-2.0
"""Programs with a time limit, and those that go on without their rexec."""

import os
import signal
import subprocess
import time

from proxyends import expect
from proxypair import BIN, wait_for
from rexecs import alive, python

from .case import brief, rexec_case

PIPE, NULL = subprocess.PIPE, subprocess.DEVNULL

# Another user's, whose directory it runs in: takes the keeper's place, if it can.
TAKE_ITS_PLACE = """
import os, socket, sys
os.setuid(1000)
there = '../' + sys.argv[1] + '.keeper'
def steal(how, *args):
	try: how(*args)
	except PermissionError: return
	print(how.__name__)
steal(os.rename, there, there + '~')
steal(os.unlink, there)
steal(os.symlink, 'x', there + '~')
steal(socket.socket(socket.AF_UNIX).bind, there + '~')
"""


def command(rig, *argv):
	"""rexec with a command about programs that run already."""
	return rig.finish(rig.start([BIN + "/rexec", *rig.options, *argv], stdin=NULL, stdout=PIPE, stderr=PIPE))


def detach(rig, *argv, rexec=()):
	result = rig.run(*argv, rexec=["--detach", *rexec], stdin=NULL)
	expect((result.returncode, len(result.stdout), result.stderr), (0, 33, b""), "--detach")
	return result.stdout.decode().strip()


def listed(rig, ident):
	"""The words of its line: ID, pid, uid, time, state, command."""
	result = command(rig, "--list")
	expect((result.returncode, result.stderr), (0, b""), "--list")
	lines = [line.split(None, 5) for line in result.stdout.decode().splitlines()[1:]]
	return next((line for line in lines if ident.startswith(line[0])), None)


def end(rig, ident):
	expect(brief(command(rig, "--kill", ident)), (0, b"", b""), "--kill")
	expect(wait_for(lambda: ident not in rig.sessions()), True, "gone")


@rexec_case(together=True)
def timeout_ends_a_program(rig):
	start = time.monotonic()
	result = rig.run("sleep", "60", rexec=["--timeout", "0.2"])
	expect(brief(result), (124, b"", b"rexec: ended: its time was over\n"))
	expect(time.monotonic() - start >= 1, True, "not before")


@rexec_case(together=True)
def timeout_ends_what_ignores_sigterm(rig):
	expect(rig.run("sh", "-c", "trap '' TERM; sleep 60 & wait; sleep 60", rexec=["--timeout", "1s"]).returncode, 124)


@rexec_case(together=True)
def timeout_is_not_for_what_a_program_leaves(rig):
	result = rig.run("sh", "-c", "sleep 60 >/dev/null 2>&1 & echo $!", rexec=["--timeout", "1"])
	expect((result.returncode, result.stderr), (0, b""))
	time.sleep(18)	# the limit, and rexec's patience behind it
	expect(alive(int(result.stdout)), True, "it runs")
	os.kill(int(result.stdout), signal.SIGKILL)


@rexec_case(together=True)
def timeout_that_is_not_reached(rig):
	expect(brief(rig.run("sh", "-c", "exit 4", rexec=["--timeout", "1.5m"])), (4, b"", b""))


@rexec_case
def timeout_that_is_none_is_bad_usage(rig):
	for word in "", "x", "-1", "0", "1x", "nan", "inf", "1e99":
		expect(rig.run("true", rexec=["--timeout", word]).returncode, 2, word)


@rexec_case
def detached_program_is_attached_to(rig):
	ident = detach(rig, "sh", "-c", "echo out; echo err >&2; read -r line; echo \"$line.\"; exit 5")
	expect(wait_for(lambda: listed(rig, ident)[4] == "ended:5"), True, "listed")
	expect(brief(command(rig, "--attach", ident[:10])), (5, b"out\n.\n", b"err\n"))
	expect(wait_for(lambda: listed(rig, ident) is None), True, "forgotten")


@rexec_case
def detached_program_outlives_those_who_attach(rig):
	ident = detach(rig, *python("import time\nfor i in range(10000): print(i, flush=True); time.sleep(0.01)"))
	pid = int(listed(rig, ident)[1])
	lines = []
	for _ in range(2):
		process = rig.start([BIN + "/rexec", *rig.options, "--attach", ident], stdin=NULL, stdout=PIPE)
		lines += [int(process.stdout.readline()) for _ in range(5)]
		expect(listed(rig, ident)[4], "running")
		process.kill()
		process.wait()
		expect(wait_for(lambda: listed(rig, ident)[4] == "detached"), True, "detached")
	expect((lines[:5], lines == sorted(set(lines)), alive(pid)), (list(range(5)), True, True))
	end(rig, ident)
	expect(alive(pid), False)


@rexec_case
def detached_program_gets_signals(rig):
	ident = detach(rig, "sh", "-c", "trap 'echo one' USR1; trap 'exit 3' INT; echo ready; while :; do sleep 0.05; done")
	process = rig.start([BIN + "/rexec", *rig.options, "--attach", ident], stdin=NULL, stdout=PIPE)
	expect(process.stdout.readline(), b"ready\n")
	expect(command(rig, "--kill", ident, "usr1").returncode, 0)
	expect(process.stdout.readline(), b"one\n")
	process.send_signal(signal.SIGINT)
	expect(rig.status(process), 3)


@rexec_case(together=True)
def detached_program_has_a_time_limit_too(rig):
	ident = detach(rig, "sleep", "60", rexec=["--timeout", "1"])
	expect(wait_for(lambda: listed(rig, ident)[4] == "ended:TERM"), True, "ended")
	expect(command(rig, "--attach", ident).returncode, 124)


@rexec_case
def detached_program_with_what_cannot_stay_is_refused(rig):
	r, w = os.pipe()
	path = rig.place.own + "/file"
	with open(rig.place.here(path), "w+b") as f:
		result = rig.run("true", rexec=["--detach"], pass_fds=[f.fileno()])
	os.unlink(rig.place.here(path))
	if not rig.proxied:	# it is the same file there
		expect(result.returncode, 0)
		end(rig, result.stdout.decode().strip())
	else:
		expect((result.returncode, b"cannot cross" in result.stderr), (125, True))
	os.close(r)
	os.close(w)


@rexec_case
def a_program_whose_client_must_stay_is_not_attached_to(rig):
	ident = detach(rig, "sh", "-c", "sleep 60 & echo $!; wait")
	expect(brief(command(rig, "--attach", "0" * 32)), (125, b"", b"rexec: there is no such program any more\n"))
	process = rig.popen("sleep", "60", stdin=NULL)
	expect(wait_for(lambda: len(rig.sessions()) == 2), True, "two")
	other = next(i for i in rig.sessions() if i != ident)
	expect(wait_for(lambda: listed(rig, other) is not None), True, "listed")
	result = command(rig, "--attach", other)
	expect((result.returncode, b"must stay" in result.stderr), (125, True), "not detached")
	process.terminate()
	expect(rig.status(process), 143)
	end(rig, ident)


@rexec_case
def attached_program_that_another_takes(rig):
	for _ in range(20):	# at any point of the first one's attaching
		ident = detach(rig, *python("import time\nfor i in range(10000): print(i, flush=True); time.sleep(0.01)"))
		attach = [BIN + "/rexec", *rig.options, "--attach", ident]
		first = rig.start(attach, stdin=NULL, stdout=PIPE, stderr=PIPE)
		expect(first.stdout.readline(), b"0\n")
		second = rig.start(attach, stdin=NULL, stdout=PIPE, stderr=PIPE)
		said = rig.finish(first)
		expect((said.returncode, said.stderr),
		       (123, b"rexec: another client has the program now; the outcome is unknown\n"))
		expect(len(second.stdout.readline()) > 1, True, "the other goes on")
		end(rig, ident)
		expect(rig.status(second), 143)


@rexec_case
def what_is_set_of_a_running_program(rig):
	ident = detach(rig, "sh", "-c", "sleep 60 & wait")
	pid = int(listed(rig, ident)[1])
	expect(brief(command(rig, "--set", ident, "affinity=0", "nice=3", "scheduler=batch", "limit.nofile=100:200")), (0, b"", b""))
	children = [int(c) for c in open(f"/proc/{pid}/task/{pid}/children", encoding="ascii").read().split()]
	for process in [pid, *children]:
		expect((os.sched_getaffinity(process), os.getpriority(os.PRIO_PROCESS, process), os.sched_getscheduler(process)),
		       ({0}, 3, os.SCHED_BATCH))
		with open(f"/proc/{process}/limits", encoding="ascii") as f:
			expect(["100", "200"], next(line for line in f if "open files" in line).split()[3:5])
	expect(command(rig, "--set", ident, "--thread", str(children[0]), "nice=9").returncode, 0)
	expect([os.getpriority(os.PRIO_PROCESS, process) for process in (pid, children[0])], [3, 9])
	for setting in "nice=x", "color=red", "affinity=1000":
		result = command(rig, "--set", ident, setting)
		expect((result.returncode, setting.encode() in result.stderr), (125, True), setting)
	expect(command(rig, "--set", ident, "--thread", "1", "nice=1").returncode, 125, "a stranger")
	end(rig, ident)


@rexec_case
def others_programs_are_not_to_be_had(rig):
	ident = detach(rig, "sleep", "60")
	as_other = ["setpriv", "--reuid=1000", "--regid=1000", "--clear-groups", BIN + "/rexec", *rig.options]
	for words in ["--list"], ["--kill", ident], ["--attach", ident], ["--set", ident, "nice=19"]:
		result = rig.finish(rig.start([*as_other, *words], stdin=NULL, stdout=PIPE, stderr=PIPE))
		expect((result.returncode == 0, ident[:12].encode() in result.stdout), (words == ["--list"], False), words)
	expect(wait_for(lambda: listed(rig, ident)[4] == "detached"), True, "untouched")
	end(rig, ident)
	theirs = rig.finish(rig.start([*as_other, "--detach", "sleep", "60"], stdin=NULL, stdout=PIPE, stderr=PIPE))
	ident = theirs.stdout.decode().strip()
	for setting, allowed in ("nice=5", True), ("nice=-5", False), ("scheduler=fifo:5", False):
		result = rig.finish(rig.start([*as_other, "--set", ident, setting], stdin=NULL, stdout=PIPE, stderr=PIPE))
		expect(result.returncode == 0, allowed, setting)
	end(rig, ident)


@rexec_case
def list_shows_nothing_that_a_terminal_acts_on(rig):
	ident = detach(rig, "sleep", "60", "\x1b[31m", "\u009b1m")
	expect(wait_for(lambda: listed(rig, ident)[4].startswith("ended")), True, "sleep wants numbers")
	expect(listed(rig, ident)[5], "sleep 60 ?[31m ??1m")
	end(rig, ident)


@rexec_case
def nobody_takes_a_keepers_place(rig):
	"""The directory is its user's, who may put there what he likes; the socket that root's --kill goes to is not in it."""
	ident = detach(rig, "sleep", "60")
	there = rig.place.there(rig.run_dir + "/sessions/" + ident)
	os.chown(there, 1000, 1000)
	tried = subprocess.run(python(TAKE_ITS_PLACE, ident), stdout=PIPE, cwd=there, check=True)
	expect(tried.stdout, b"", "taken")
	expect(wait_for(lambda: listed(rig, ident)[4] == "detached"), True, "it is still its keeper that answers")
	end(rig, ident)


@rexec_case
def set_of_what_has_ended_is_refused(rig):
	ident = detach(rig, "true")
	expect(wait_for(lambda: listed(rig, ident)[4] == "ended:0"), True, "ended")
	expect(brief(command(rig, "--set", ident, "nice=5")), (125, b"", b"rexec: nice=5: No such process\n"))
	long = "affinity=" + "0," * 300 + "0"
	expect(brief(command(rig, "--set", ident, long))[2].endswith(b": it is too long\n"), True, "too long")
	end(rig, ident)


@rexec_case
def keep_fd_names_what_crosses(rig):
	r, w = os.pipe()
	result = rig.run("test", "-e", f"/proc/self/fd/{r}", rexec=["--keep-fd", str(w)], pass_fds=[r, w])
	expect(brief(result), (1, b"", b""))
	result = rig.run("test", "-e", f"/proc/self/fd/{w}", rexec=["--keep-fd", str(w)], pass_fds=[r, w])
	expect(brief(result), (0, b"", b""))
	expect(rig.run("true", rexec=["--keep-fd", "999"]).returncode, 2)
	os.close(r)
	os.close(w)


@rexec_case
def commands_that_do_not_go_together_are_bad_usage(rig):
	for words in (["--list", "x"], ["--kill"], ["--kill", "xyz"], ["--kill", "0", "TERM", "x"], ["--set", "0"], ["--list", "--kill", "0"],
		      ["--detach", "-t", "true"], ["--attach", ""], ["--thread", "1", "true"], ["--keep-fd", "x", "true"]):
		expect(command(rig, *words).returncode, 2, words)
	expect(command(rig, "--kill", "0" * 32, "NOSIGNAL").returncode, 125)
	expect(command(rig, "--kill", "0" * 32).stderr, b"rexec: there is no such program\n")
