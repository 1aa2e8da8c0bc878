# SPDX-License-Identifier: Apache-2.0
"""What a Python test needs to speak TAP (testanything.org); tap.sh is the shell's."""

import sys
import time


class Tap:
	"""Counts, and prints a line for each behaviour with the time that it took."""

	def __init__(self):
		self.count = self.failed = 0
		self.since = time.monotonic()

	def result(self, name, passed, diagnosis=""):
		"""Passed or not; the diagnosis is shown for what did not."""
		self.count += 1
		now = time.monotonic()
		print(f"{'ok' if passed else 'not ok'} {self.count} - {name} # {now - self.since:.2f} s")
		self.since = now
		if not passed:
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
		"""The plan; ends the program."""
		print(f"1..{self.count}")
		if self.failed:
			print(f"# {self.failed} of {self.count} failed")
		sys.exit(self.failed != 0)
