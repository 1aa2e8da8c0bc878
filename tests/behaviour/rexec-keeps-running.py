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
from keepers import end_keepers  # pylint: disable=wrong-import-position
from proxypair import Pair, wait_for  # pylint: disable=wrong-import-position
from tap import Tap  # pylint: disable=wrong-import-position

BIN = os.environ.get("BIN", TOP + "/build/testmode/bin")
tap = Tap()

COUNT = """
import os, sys, time
print(os.getpid(), flush=True)
for i in range(200):
	print(i, flush=True)
	time.sleep(0.01)
sys.exit(5)
"""


def alive(pid):
	try:
		with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as f:
			return f.read().rsplit(")", 1)[1].split()[0] not in "ZX"
	except OSError:
		return False


def keeper_of(pid):
	with open(f"/proc/{pid}/status", encoding="ascii") as f:
		return int(next(line for line in f if line.startswith("PPid")).split()[1])


class Rig:
	def __init__(self, pair):
		self.pair = pair
		self.run_dir = pair.own + "/rexec"
		self.logfile = pair.share + "/server.log"
		with open(self.logfile, "ab") as log:
			self.server = pair.h.popen([BIN + "/rexec_server", "--runtime-dir", self.run_dir, "--whitelist",
						    pair.own + "/none", "--test-mode"], stderr=log)
		assert wait_for(lambda: os.path.exists(pair.h.outside(self.run_dir + "/rexec.sock")))

	def rexec(self, *argv, mode="keep", stdin=subprocess.DEVNULL):
		return self.pair.d.popen([BIN + "/rexec", f"--on-disconnect={mode}", *argv],
					 env={"REXEC_RUNTIME_DIR": self.run_dir}, stdin=stdin,
					 stdout=subprocess.PIPE, stderr=subprocess.PIPE)

	def cut(self, side, number):
		"""End a udsproxyd by a signal."""
		side.daemon.send_signal(number)
		side.daemon.wait(10)
		side.daemon = None

	def mend(self, side):
		side.start_daemon(self.pair.other(side))
		side.wait_linked()

	def said(self):
		with open(self.logfile, encoding="utf-8") as f:
			return f.read()

	def sessions(self):
		return os.listdir(self.pair.h.outside(self.run_dir + "/sessions"))


def finish(process, seconds=30):
	try:
		out, err = process.communicate(timeout=seconds)
	except subprocess.TimeoutExpired:
		process.kill()
		out, err = process.communicate()
		err += b"(timeout)"
	return process.returncode, out, err


def restarts(rig):
	for side, where in ((rig.pair.h, "the program's"), (rig.pair.d, "rexec's")):
		for number in (signal.SIGKILL, signal.SIGTERM):
			process = rig.rexec("/usr/bin/python3", "-c", COUNT)
			pid = process.stdout.readline()
			process.stdout.readline()
			rig.cut(side, number)
			rig.mend(side)
			status, out, err = finish(process)
			lines = [int(line) for line in out.split()]
			tap.result(f"{number.name} to {where} udsproxyd: the program runs on, and rexec gets output and status",
				   status == 5 and lines == sorted(set(lines)) and lines[-1] == 199 and len(lines) > 180,
				   f"pid {pid}, {status}, {out[:200]} ... {out[-100:]} {err}")


def outcomes(rig):
	process = rig.rexec("sh", "-c", "echo begin; sleep 0.5; echo end; kill -9 $$")
	process.stdout.readline()
	rig.cut(rig.pair.d, signal.SIGKILL)
	tap.result("a program that ends while the link is down",
		   wait_for(lambda: "is kept" in rig.said()) and rig.sessions(), rig.said())
	wait_for(lambda: False, 1)
	rig.mend(rig.pair.d)
	status, out, err = finish(process)
	tap.result("rexec is told when it is back", (status, out) == (137, b"end\n"), (status, out, err))

	process = rig.rexec("sh", "-c", "echo begin; sleep 0.3; yes | head -c 3000000; echo end; exec sleep 0.5")
	process.stdout.readline()
	rig.cut(rig.pair.h, signal.SIGTERM)
	wait_for(lambda: False, 1)
	rig.mend(rig.pair.h)
	status, out, err = finish(process)
	tap.result("of more output than is held the last is kept, with a note", status == 0 and b" bytes of output dropped"
		   in out[:100] and out.endswith(b"y\nend\n") and 262144 - 65536 <= len(out) < 500000, (status, len(out), out[:100], err))

	process = rig.rexec("sh", "-c", "echo $$; exec sleep 60")
	pid = int(process.stdout.readline())
	keeper = keeper_of(pid)
	rig.cut(rig.pair.d, signal.SIGKILL)
	os.kill(keeper, signal.SIGKILL)
	rig.mend(rig.pair.d)
	status, out, err = finish(process)
	tap.result("the keeper is gone when the link is back: 123", status == 123 and b"unknown" in err and not alive(pid),
		   (status, err))


def ends(rig):
	process = rig.rexec("sh", "-c", "echo $$; exec sleep 60")
	pid = int(process.stdout.readline())
	process.kill()
	finish(process)
	tap.result("rexec killed: a program with `keep` is ended, too", wait_for(lambda: not alive(pid), 5))
	for side, number in ((rig.pair.h, signal.SIGKILL), (rig.pair.d, signal.SIGTERM)):
		process = rig.rexec("sh", "-c", "echo $$; exec sleep 60", mode="kill")
		pid = int(process.stdout.readline())
		rig.cut(side, number)
		status, _, err = finish(process)
		tap.result(f"without `keep`, udsproxyd ended by {number.name}: 123, and the program is ended",
			   status == 123 and b"unknown" in err and wait_for(lambda: not alive(pid), 5), (status, err))  # pylint: disable=cell-var-from-loop
		rig.mend(side)
	process = rig.rexec("sh", "-c", "echo $$; exec sleep 60")
	pid = int(process.stdout.readline())
	process.terminate()
	status, _, err = finish(process)
	tap.result("a signal ends a program with `keep` as any", (status, alive(pid)) == (143, False), (status, err))


def frozen(rig):
	"""A HOST whose keepers, or whose rexec_server, stand still keeps every connection open."""
	killed, kept = (rig.rexec("sh", "-c", "echo $$; read -r line; exit 6", mode=mode, stdin=subprocess.PIPE)
			for mode in ("kill", "keep"))
	pids = [int(process.stdout.readline()) for process in (killed, kept)]
	keepers = [keeper_of(pid) for pid in pids]
	for pid in keepers:
		os.kill(pid, signal.SIGSTOP)
	rig.server.send_signal(signal.SIGSTOP)
	waiting = rig.rexec("true", mode="kill")
	status, _, err = finish(killed, 40)
	tap.result("a keeper that is frozen: 123, and why", status == 123 and b"does not answer" in err, (status, err))
	# Its pipes stay open for as long as the server does not take, or lose, what was passed.
	status, err = waiting.wait(40), waiting.stderr.readline()
	tap.result("so for a server that is, when a program is asked for", status == 123 and b"does not answer" in err,
		   (status, err))
	tap.result("with `keep` rexec waits, and says so", kept.poll() is None and b"does not answer" in kept.stderr.readline())
	rig.server.send_signal(signal.SIGCONT)
	for pid in keepers:
		os.kill(pid, signal.SIGCONT)
	tap.result("and has its program again", b"again" in kept.stderr.readline())
	os.kill(pids[1], signal.SIGINT)
	status, _, err = finish(kept)
	tap.result("with its status", status == 130, (status, err))
	tap.result("the program of the one that left is ended", wait_for(lambda: not alive(pids[0]), 10))


def main():
	if os.geteuid():
		print("1..0 # SKIP needs root: network namespaces")
		return
	with Pair() as pair:
		rig = Rig(pair)
		try:
			for case in restarts, outcomes, ends, frozen:
				case(rig)
			left = 1 # the killed keeper's
			tap.result("no session is left behind", wait_for(lambda: len(rig.sessions()) == left, 12), rig.sessions())
			if tap.failed:
				print("".join("# " + line for line in rig.said().splitlines(True)[-40:]))
		finally:
			end_keepers(rig.run_dir)
	tap.done()


main()
