# SPDX-License-Identifier: Apache-2.0
"""What processes, with all that descend from them, have used and hold."""

import contextlib
import os
import time

QUIET_LIMIT = 5  # seconds
# a process may have ended before we look
GONE = FileNotFoundError, ProcessLookupError


def children(pid):
	found = []
	with contextlib.suppress(*GONE):
		for task in os.listdir(f"/proc/{pid}/task"):
			with open(f"/proc/{pid}/task/{task}/children", encoding="ascii") as f:
				found += map(int, f.read().split())
	return found


def tree(pid):
	"""It and its descendants."""
	return [pid, *(descendant for child in children(pid) for descendant in tree(child))]


def cpu_times(processes):
	"""Seconds of CPU time by pid, to the nanosecond: each one's CPU clock (clock_getcpuclockid(3))."""
	times = {}
	for process in processes:
		for pid in tree(process.pid):
			with contextlib.suppress(OSError):
				times[pid] = time.clock_gettime(~pid << 3 | 2)
	return times


def cpu_spent(before, after):
	return sum(seconds - before.get(pid, 0) for pid, seconds in after.items())


def wait_until_quiet(processes):
	"""What a measure has left to do, closing a thousand connections, say, is not the next one's."""
	end = time.monotonic() + QUIET_LIMIT
	before = cpu_times(processes)
	while time.monotonic() < end:
		time.sleep(0.02)
		after = cpu_times(processes)
		if cpu_spent(before, after) < 0.001:
			return
		before = after


def cpu_used(processes):
	"""Seconds of CPU time of them and of all that they have waited for: those to a hundredth, for no clock
	counts what has ended better."""
	total = sum(cpu_times(processes).values())
	for process in processes:
		for pid in tree(process.pid):
			with contextlib.suppress(*GONE), open(f"/proc/{pid}/stat", encoding="utf-8") as f:
				fields = f.read().rpartition(")")[2].split()
				total += (int(fields[13]) + int(fields[14])) / os.sysconf("SC_CLK_TCK")
	return total


def named(pids, name):
	"""Those of them that run a program of this name."""
	found = []
	for pid in pids:
		with contextlib.suppress(*GONE), open(f"/proc/{pid}/comm", encoding="utf-8") as f:
			if f.read().rstrip("\n") == name:
				found.append(pid)
	return found


def pss_of(pids):
	"""KiB of memory that are theirs, shared pages in proportion."""
	total = 0
	for pid in pids:
		with contextlib.suppress(*GONE), open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as f:
			total += sum(int(line.split()[1]) for line in f if line.startswith("Pss:"))
	return total


def pss(processes):
	"""The same, of them and all that descend from them."""
	return pss_of(pid for process in processes for pid in tree(process.pid))
