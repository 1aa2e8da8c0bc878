# SPDX-License-Identifier: Apache-2.0
"""Behaviours by the places where client and server are: on one side, and on the two, either way round.

	with columns() as places:
		grid = Grid(places, table=False)
		grid.row("some-behaviour", [Result(True) for place in places])
	grid.done()

prints TAP, or a table that grows row by row.
"""

import contextlib
import sys
import time

from proxypair import Pair
from tap import Tap


class Column:
	"""Where the client and the server are, and whether the client has the library. On the same side there
	is no udsproxyd."""

	def __init__(self, name, pair, client, server, shim=True):
		self.name, self.pair, self.client, self.server, self.shim = name, pair, client, server, shim
		self.local = client is server


@contextlib.contextmanager
def columns(threads=(1, 2), local=True, preload=True):
	"""Local, without the library and with it, and then a pair of daemons of each number of threads, both
	ways: D is the DPU, H the HOST."""
	with contextlib.ExitStack() as stack:
		found = []
		if local:
			pair = stack.enter_context(Pair(daemons=False))
			found.append(Column("local", pair, pair.d, pair.d, shim=False))
			if preload:
				found.append(Column("preload", pair, pair.d, pair.d))
		pairs = [stack.enter_context(Pair(n)) for n in threads]
		for client, server in ("d", "h"), ("h", "d"):
			for n, pair in zip(threads, pairs):
				found.append(Column(f"{client.upper()}->{server.upper()} {n}", pair,
						    getattr(pair, client), getattr(pair, server)))
		yield found


class Result:
	def __init__(self, passed, diagnosis="", seconds=0.0):
		self.passed, self.diagnosis, self.seconds = passed, diagnosis, seconds


class Grid:
	"""A row is a behaviour, with a Result (or None: not applicable) for each column."""

	def __init__(self, places, table, width=40):
		self.places, self.table, self.width = places, table, width
		self.tap = Tap()
		self.counts = {"PASS": 0, "FAIL": 0, "todo": 0}
		self.failures = []
		self.since = time.monotonic()
		if table:
			self.line("", [place.name for place in places])

	def line(self, name, cells):
		print(name.ljust(self.width) + "".join(cell.rjust(8) for cell in cells), flush=True)

	def row(self, name, results, todo=""):
		"""todo: why it may fail. Then nobody asks what it says locally: there it must pass."""
		words = []
		for place, result in zip(self.places, results):
			if result is None:
				words.append("-")
				continue
			may_fail = todo if not place.local else ""
			words.append("PASS" if result.passed else "todo" if may_fail else "FAIL")
			self.counts[words[-1]] += 1
			if not self.table:
				self.tap.result(f"{name} ({place.name})", result.passed, result.diagnosis, todo=may_fail,
						seconds=result.seconds)
			elif words[-1] == "FAIL":
				self.failures.append(f"\n{name} ({place.name}):\n{result.diagnosis}")
		if self.table:
			self.line(name, words)

	def done(self):
		"""Ends the program."""
		if not self.table:
			self.tap.done()
		print("\n".join(self.failures))
		print(f"{self.counts['PASS']} passed, {self.counts['FAIL']} failed, {self.counts['todo']} may still fail, "
		      f"{time.monotonic() - self.since:.0f} s")
		sys.exit(self.counts["FAIL"] != 0)
