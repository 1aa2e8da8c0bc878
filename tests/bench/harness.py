# SPDX-License-Identifier: Apache-2.0
"""How the benches measure: candidates side by side, in turns; who runs them, and how.

What a bench measures is a list of Tasks, and what it compares are Relays (relays.py) on a proxypair. In
each round every task is done with every candidate: their clients are connected at once and take
short turns, there and back. Ratios are those of values of one turn, so that what else the machine
does touches both. What is told is the median of all turns. docs/HACKING.md says more.
"""

import argparse
import contextlib
import json
import os
import resource
import select
import subprocess
import sys
import time
import typing

HERE = os.path.dirname(os.path.abspath(__file__))
TOP = os.path.dirname(os.path.dirname(HERE))
for variable, default in (("BIN", "bin"), ("LIB", "lib"), ("BENCH", "bench")):
	os.environ.setdefault(variable, f"{TOP}/build/plain/{default}")
sys.path.insert(0, HERE + "/../lib")
# pylint: disable=wrong-import-position
from processes import cpu_spent, cpu_times, wait_until_quiet  # noqa: E402
from proxypair import Pair  # noqa: E402
import report  # noqa: E402

DESCRIPTORS = 200000
LIMIT = 40  # seconds that any single measure may take
MEASURE = os.environ["BENCH"] + "/measure"


class Failed(Exception):
	"""A measure that could not be taken; says why."""


class Client:
	"""A measuring program, step by step: see measure.c and launch.c."""

	def __init__(self, pair, relay, *args):
		env = [f"{key}={value}" for key, value in relay.env.items()]
		self.process = pair.d.popen(["env", *env, *relay.client(*map(str, args))], shim=relay.shim,
					    stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0)

	def __enter__(self):
		return self

	def said(self):
		"""Its next line."""
		if not select.select([self.process.stdout], [], [], LIMIT)[0]:
			raise Failed(f"nothing in {LIMIT} s")
		line = self.process.stdout.readline()
		if not line:
			status = self.process.wait()
			raise Failed(self.process.stderr.read().decode(errors="replace").strip() or f"status {status}")
		return line

	def step(self):
		"""Let it measure once; what it has found."""
		try:
			self.process.stdin.write(b"\n")
		except BrokenPipeError:
			"""said() tells why."""
		return json.loads(self.said())

	def __exit__(self, *_):
		self.process.stdin.close()
		try:
			self.process.wait(2)
		except subprocess.TimeoutExpired:
			self.process.kill()
			self.process.wait()
		self.process.stdout.close()
		self.process.stderr.close()


class Task:
	"""What is measured in one go, and the rows that it gives."""

	seconds = 0.1  # of a turn
	turns, turns_quick = 6, 2  # of a round
	takes_cpu = leaves_work = False

	def __init__(self, group, args):
		self.group, self.args = group, args
		self.name = "-".join(map(str, args))
		self.rows = []

	def applies(self, relay):
		return True

	def command(self, relay):
		return [*self.args[:2], self.seconds, *self.args[2:]]

	def run(self, bench, candidates):
		"""Every relay's client is connected at once, and they take turns: none is favoured by what
		else the machine does."""
		found = {}
		with contextlib.ExitStack() as stack:
			clients = {}
			for relay in candidates:
				with bench.failing(relay, self.name):
					clients[relay] = stack.enter_context(Client(bench.pair, relay, *self.command(relay)))
					clients[relay].said()
					found[relay] = []
			for turn in range(self.turns_quick if bench.quick else self.turns):
				for relay in list(found)[:: -1 if turn % 2 else 1]:
					with bench.failing(relay, self.name):
						result = self.turn(relay, clients[relay])
						bench.results.add(relay.name, self.values(result), turn)
						found[relay].append(result)
						continue
					del found[relay]
		for relay, results in found.items():
			bench.results.add(relay.name, self.overall(results))

	def turn(self, relay, client):
		processes = relay.near + relay.far
		before = cpu_times(processes) if self.takes_cpu else {}
		result = client.step()
		if self.takes_cpu and processes:
			result["cpu"] = cpu_spent(before, cpu_times(processes))
		if self.leaves_work:
			wait_until_quiet(processes)
		return result

	def values(self, result):
		"""Of a turn: values by row's key."""
		raise NotImplementedError

	def overall(self, results):
		"""The same, of all turns of a round."""
		return {}

	def cpu(self, result, of, unit):
		"""The same, of CPU time by unit."""
		return {self.name + "-cpu": result["cpu"] / result[of] * unit} if "cpu" in result else {}


class Bench:
	"""All candidates, up, and what was measured with them."""

	def __init__(self, pair, candidates, quick, results):
		self.pair, self.quick, self.results = pair, quick, results
		self.up = []
		server = pair.own + "/server"
		for side, path in (pair.h, server), (pair.d, server + "-direct"):
			# A relay that closes first would have used up its ports after 28,000 connections.
			side.run(["sysctl", "-qw", "net.ipv4.tcp_tw_reuse=1", "net.ipv4.ip_local_port_range=10000 65535"])
			process = side.popen([MEASURE, "serve", path], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
			with process.stdout:
				if process.stdout.readline() != b"ready\n":
					raise RuntimeError("the server does not start")
		for candidate in candidates:
			relay = candidate(pair, server)
			self.results.labels[relay.name] = relay.label
			if relay.settings:
				self.results.note(relay.name, relay.settings)
			if relay.missing():
				self.results.note(relay.name, relay.missing())
			else:
				self.up.append(relay)
				self.start(relay)

	def start(self, relay):
		with self.failing(relay, "start"):
			relay.start()
			with Client(self.pair, relay, *relay.warm) as client:
				client.said()
			return
		if relay in self.up:
			self.up.remove(relay)

	def stop(self, relay):
		with self.failing(relay, "stop"):
			relay.stop()

	def restart(self, relay):
		self.stop(relay)
		self.start(relay)

	@contextlib.contextmanager
	def failing(self, relay, what):
		"""One candidate's failure is told, and the others go on."""
		try:
			yield
		except (Failed, OSError, ValueError, StopIteration, subprocess.SubprocessError) as e:
			self.results.failures[relay.name].append(f"{what}: {e}")
			print(f"bench: {relay.name}: {what}: {e}\n{relay.said()}", file=sys.stderr)

	def round(self, tasks):
		self.results.rounds += 1
		for task in tasks:
			began = time.monotonic()
			task.run(self, [relay for relay in self.up if task.applies(relay)])
			if sys.stderr.isatty():
				print(f"bench: round {self.results.rounds}, {task.name}: {time.monotonic() - began:.1f} s",
				      file=sys.stderr)

	def close(self):
		for relay in self.up:
			self.stop(relay)


def chosen(text, names):
	"""Those of the names that begin with a word of the list; all, if there is none."""
	words = text.split(",") if text else [""]
	for word in words:
		if not any(name.startswith(word) for group in names for name in group):
			sys.exit(f"bench: there is no '{word}'; there are {', '.join(dict.fromkeys(g[0] for g in names))}")
	return [any(name.startswith(word) for name in group for word in words) for group in names]


def raise_limit():
	"""Allow many open files, to us and so to all that we start."""
	hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
	for limit in max(DESCRIPTORS, hard), hard:
		try:
			resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
			return
		except ValueError:
			"""Even root may be forbidden to raise the hard limit."""


class Plan(typing.NamedTuple):
	"""What one bench is."""

	what: str  # in a few words
	tasks: list
	candidates: list  # classes of relays
	must_work: tuple  # names of those whose failure is the bench's
	base: str  # the name of that to which ratios are told
	floor: str  # and of that to which ours is compared, too
	claims: list  # functions that put lines into a report.Checks
	picture: report.Picture


def measure(plan, args):
	"""What was found."""
	tasks = [task for task, yes in zip(plan.tasks, chosen(args.only, [(t.group, t.name) for t in plan.tasks])) if yes]
	candidates = [c for c, yes in zip(plan.candidates, chosen(args.candidates, [(c.name,) for c in plan.candidates])) if yes]
	raise_limit()
	with Pair(daemons=False) as pair:
		bench = Bench(pair, candidates, args.quick, report.Results(plan.base, plan.floor))
		for _ in range(args.rounds or (1 if args.quick else 5)):
			bench.round(tasks)
		bench.close()
	bench.results.rows = [row for task in tasks for row in task.rows]
	return bench.results


def main(plan):
	"""A whole bench."""
	parser = argparse.ArgumentParser(description=plan.what)
	parser.add_argument("--only", metavar="MEASURE,...", help=", ".join(dict.fromkeys(t.group for t in plan.tasks)) +
			    f"; or the beginning of one's name, {plan.tasks[0].name}, say")
	parser.add_argument("--candidates", metavar="NAME,...", help=", ".join(c.name for c in plan.candidates))
	parser.add_argument("--rounds", type=int, help="how often; 5, or 1 with --quick")
	parser.add_argument("--quick", action="store_true", help="one short round")
	parser.add_argument("--csv", metavar="FILE", help="write the figures there")
	parser.add_argument("--svg", metavar="FILE", help="and draw them there")
	args = parser.parse_args()
	try:
		results = measure(plan, args)
	except KeyboardInterrupt:
		sys.exit(130)
	print(report.table(results) + "\n")
	print(report.checks(results, plan.claims))
	if args.csv:
		report.write_csv(results, args.csv)
	if args.svg:
		report.write_svg(results, plan.picture, args.svg)
	sys.exit(any(name in results.failures for name in plan.must_work))
