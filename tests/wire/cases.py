# SPDX-License-Identifier: Apache-2.0
"""Runs the cases of a wire test, each a function of a Daemon whose docstring says what must hold.

With arguments only those run whose docstrings contain one.
"""

import os
import sys
import traceback

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)) + "/../lib")
from daemon import Daemon
from tap import Tap


def run(cases, *options, **how):
	"""The cases of one daemon are all that there is to the test."""
	tap = Tap()
	run_some(tap, cases, *options, **how)
	tap.done()


def run_some(tap, cases, *options, patience=10, **how):
	"""One daemon for all. After each it must be alive, have nothing open that it had not before (or within so
	many seconds), and serve."""
	chosen = sys.argv[1:]
	cases = [case for case in cases if not chosen or any(word in case.__doc__ for word in chosen)]
	if not cases:
		return
	with Daemon(*options, **how) as d:
		for case in cases:
			wrong = ""
			try:
				case(d)
			except Exception:  # whatever it is, the others are told of as well
				wrong = traceback.format_exc()
			if not d.alive():
				wrong += f"udsproxyd ended with {d.process.returncode}:\n{d.said()[-4000:]}"
			elif not d.is_clean(patience):
				wrong += f"more than {d.baseline} descriptors are open:\n" + "\n".join(d.descriptors())
			elif not wrong and not d.serves():
				wrong = "it does not serve any more"
			tap.result(" ".join(case.__doc__.split()), not wrong, wrong)
			if not d.alive():
				break
			if wrong:
				d.baseline = max(d.baseline, len(d.descriptors()))
