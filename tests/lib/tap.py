# SPDX-License-Identifier: Apache-2.0
"""What a Python test needs to speak TAP (testanything.org); tap.sh is the shell's."""

import sys
import time


class Tap:
	"""Counts, and prints a line for each behaviour with the time that it took."""

	def __init__(self):
		self.count = self.failed = 0
		self.since = time.monotonic()

	def result(self, name, passed, diagnosis="", todo="", seconds=None):
		"""Passed or not; the diagnosis is shown for what did not. todo is why it need not pass yet; seconds
		are those since the last result if they are not given."""
		self.count += 1
		now = time.monotonic()
		took = now - self.since if seconds is None else seconds
		directive = f"TODO {todo}" if todo else f"{took:.2f} s"
		print(f"{'ok' if passed else 'not ok'} {self.count} - {name} # {directive}")
		self.since = now
		if not passed and not todo:
			self.failed += 1
			for line in str(diagnosis).splitlines():
				print("#   " + line)
		sys.stdout.flush()

	@staticmethod
	def skip_all(why):
		"""Nothing of this can be tested here; ends the program."""
		print(f"1..0 # SKIP {why}")
		sys.exit(0)

	def done(self):
		"""The plan; ends the program. To have tested nothing is a failure."""
		if not self.count:
			self.result("there is a test to run", False)
		print(f"1..{self.count}")
		if self.failed:
			print(f"# {self.failed} of {self.count} failed")
		sys.exit(self.failed != 0)
