#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""What becomes of a program when the link between rexec and rexec_server is lost: with
--on-disconnect=keep it runs on, its output is held, and rexec gets it and the status when the link
is back, whichever udsproxyd ended and however (what was on its way through that udsproxyd may be
lost); else it is ended, and rexec says that it does not know the outcome."""

import os
import signal
import subprocess
import sys

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, TOP + "/tests/lib")
from proxypair import Pair, wait_for  # pylint: disable=wrong-import-position
from rexecs import Across, Rig, alive, parent  # pylint: disable=wrong-import-position
from tap import Tap  # pylint: disable=wrong-import-position

tap = Tap()

COUNT = """
import os, sys, time
print(os.getpid(), flush=True)
for i in range(200):
	print(i, flush=True)
	time.sleep(0.01)
sys.exit(5)
"""


def run(rig, *argv, mode="keep", stdin=subprocess.DEVNULL):
	return rig.popen(*argv, rexec=[f"--on-disconnect={mode}"], stdin=stdin, stdout=subprocess.PIPE,
			 stderr=subprocess.PIPE)


def cut(side, number):
	"""End a udsproxyd by a signal."""
	side.daemon.send_signal(number)
	side.daemon.wait(10)
	side.daemon = None


def mend(rig, side):
	side.start_daemon(rig.place.pair.other(side))
	side.wait_linked()


def finish(rig, process):
	result = rig.finish(process, seconds=30)
	return result.returncode, result.stdout, result.stderr


def restarts(rig):
	for side, where in ((rig.place.pair.h, "the program's"), (rig.place.pair.d, "rexec's")):
		for number in (signal.SIGKILL, signal.SIGTERM):
			process = run(rig, "/usr/bin/python3", "-c", COUNT)
			pid = process.stdout.readline()
			process.stdout.readline()
			cut(side, number)
			mend(rig, side)
			status, out, err = finish(rig, process)
			lines = [int(line) for line in out.split()]
			tap.result(f"{number.name} to {where} udsproxyd: the program runs on, and rexec gets output and status",
				   status == 5 and lines == sorted(set(lines)) and lines[-1] == 199 and len(lines) > 180,
				   f"pid {pid}, {status}, {out[:200]} ... {out[-100:]} {err}")


def outcomes(rig):
	process = run(rig, "sh", "-c", "echo begin; sleep 0.5; echo end; kill -9 $$")
	process.stdout.readline()
	cut(rig.place.pair.d, signal.SIGKILL)
	tap.result("a program that ends while the link is down",
		   wait_for(lambda: "is kept" in rig.said()) and rig.sessions(), rig.said())
	wait_for(lambda: False, 1)
	mend(rig, rig.place.pair.d)
	status, out, err = finish(rig, process)
	tap.result("rexec is told when it is back", (status, out) == (137, b"end\n"), (status, out, err))

	process = run(rig, "sh", "-c", "echo begin; sleep 0.3; yes | head -c 3000000; echo end; exec sleep 0.5")
	process.stdout.readline()
	cut(rig.place.pair.h, signal.SIGTERM)
	wait_for(lambda: False, 1)
	mend(rig, rig.place.pair.h)
	status, out, err = finish(rig, process)
	tap.result("of more output than is held the last is kept, with a note", status == 0 and b" bytes of output dropped"
		   in out[:100] and out.endswith(b"y\nend\n") and 262144 - 65536 <= len(out) < 500000, (status, len(out), out[:100], err))

	process = run(rig, "sh", "-c", "echo $$; exec sleep 60")
	pid = int(process.stdout.readline())
	keeper = parent(pid)
	cut(rig.place.pair.d, signal.SIGKILL)
	os.kill(keeper, signal.SIGKILL)
	mend(rig, rig.place.pair.d)
	status, out, err = finish(rig, process)
	tap.result("the keeper is gone when the link is back: 123", status == 123 and b"unknown" in err and not alive(pid),
		   (status, err))


def ends(rig):
	process = run(rig, "sh", "-c", "echo $$; exec sleep 60")
	pid = int(process.stdout.readline())
	process.kill()
	finish(rig, process)
	tap.result("rexec killed: a program with `keep` is ended, too", wait_for(lambda: not alive(pid), 5))
	for side, number in ((rig.place.pair.h, signal.SIGKILL), (rig.place.pair.d, signal.SIGTERM)):
		process = run(rig, "sh", "-c", "echo $$; exec sleep 60", mode="kill")
		pid = int(process.stdout.readline())
		cut(side, number)
		status, _, err = finish(rig, process)
		tap.result(f"without `keep`, udsproxyd ended by {number.name}: 123, and the program is ended",
			   status == 123 and b"unknown" in err and wait_for(lambda: not alive(pid), 5), (status, err))  # pylint: disable=cell-var-from-loop
		mend(rig, side)
	process = run(rig, "sh", "-c", "echo $$; exec sleep 60")
	pid = int(process.stdout.readline())
	process.terminate()
	status, _, err = finish(rig, process)
	tap.result("a signal ends a program with `keep` as any", (status, alive(pid)) == (143, False), (status, err))


def frozen(rig):
	"""A HOST whose keepers, or whose rexec_server, stand still keeps every connection open."""
	killed, kept = (run(rig, "sh", "-c", "echo $$; read -r line; exit 6", mode=mode, stdin=subprocess.PIPE)
			for mode in ("kill", "keep"))
	pids = [int(process.stdout.readline()) for process in (killed, kept)]
	stopped = [parent(pid) for pid in pids] + [rig.server.pid]
	for pid in stopped:
		os.kill(pid, signal.SIGSTOP)
	waiting = run(rig, "true", mode="kill")
	status, _, err = finish(rig, killed)
	tap.result("a keeper that is frozen: 123, and why", status == 123 and b"does not answer" in err, (status, err))
	# Its pipes stay open for as long as the server does not take, or lose, what was passed.
	status, err = waiting.wait(40), waiting.stderr.readline()
	tap.result("so for a server that is, when a program is asked for", status == 123 and b"does not answer" in err,
		   (status, err))
	tap.result("with `keep` rexec waits, and says so", kept.poll() is None and b"does not answer" in kept.stderr.readline())
	for pid in stopped:
		os.kill(pid, signal.SIGCONT)
	tap.result("and has its program again", b"again" in kept.stderr.readline())
	os.kill(pids[1], signal.SIGINT)
	status, _, err = finish(rig, kept)
	tap.result("with its status", status == 130, (status, err))
	tap.result("the program of the one that left is ended", wait_for(lambda: not alive(pids[0]), 10))


def main():
	if os.geteuid():
		print("1..0 # SKIP needs root: network namespaces")
		return
	with Pair() as pair:
		rig = Rig(Across(pair, pair.d, pair.h), [])
		try:
			rig.start_server()
			for case in restarts, outcomes, ends, frozen:
				case(rig)
			left = 1 # the killed keeper's
			tap.result("no session is left behind", wait_for(lambda: len(rig.sessions()) == left, 12), rig.sessions())
			if tap.failed:
				print("".join("# " + line for line in rig.said().splitlines(True)[-40:]))
		finally:
			rig.end()
	tap.done()


main()
