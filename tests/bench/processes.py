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


def pss(processes):
	"""KiB of memory that are theirs, shared pages in proportion."""
	total = 0
	for process in processes:
		for pid in tree(process.pid):
			with contextlib.suppress(*GONE), open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as f:
				total += sum(int(line.split()[1]) for line in f if line.startswith("Pss:"))
	return total
