# SPDX-License-Identifier: Apache-2.0
"""What a program that rexec runs does as if it ran here: each behaviour a function of a Rig (rexecs.py).

	@case
	def stdin_is_a_pipe(rig):
		expect(rig.run("cat", stdin=b"x").stdout, b"x")

is "stdin-is-a-pipe" in the matrix. It raises when it does not hold. With rig.plain there is no rexec: there it must
hold first. Where rexec differs, as rexec(1) says, the function says what is to be seen instead. What it starts is
ended behind it.
"""

CASES = []


class Case:
	def __init__(self, play, name, rexec_only=False, together=False):
		if any(case.name == name for case in CASES):
			raise ValueError(f"two cases are called {name}")
		self.play, self.name = play, name
		self.rexec_only = rexec_only  # it has no local like
		self.together = together  # in all columns at once, two of which have one share: it takes long, but no CPU
		CASES.append(self)


def name_of(function):
	return function.__name__.replace("_", "-")


def case(function=None, **options):
	if not function:
		return lambda function: case(function, **options)
	Case(function, name_of(function), **options)
	return function


def rexec_case(function=None, **options):
	"""Of what there is no local like."""
	return case(function, rexec_only=True, **options)


def file_case(function):
	"""Two cases: function(rig, folder, shared) with files below a share, and elsewhere."""
	for kind, shared in ("shared", True), ("unshared", False):
		Case(lambda rig, shared=shared: function(rig, rig.place.share if shared else rig.place.own, shared),
		     f"{name_of(function)}-{kind}")
	return function


def brief(result):
	"""What is compared of a program that has ended."""
	return result.returncode, result.stdout[:300], result.stderr[:300]
