# SPDX-License-Identifier: Apache-2.0
"""What the bench has found: medians, ratios, the table, the file, the picture."""

import collections
import csv
import os
import statistics

Row = collections.namedtuple("Row", "key label unit higher shown", defaults=[True])


class Results:
	"""Values by row, candidate and round."""

	def __init__(self):
		self.rows, self.rounds = [], 0
		self.values = {}
		self.labels, self.notes = {}, {}
		self.failures = collections.defaultdict(list)

	def add_candidate(self, name, label):
		self.labels[name] = label

	def add(self, key, name, number, value):
		self.values.setdefault((key, name), {})[number] = value

	def note(self, name, text):
		self.notes[name] = text

	def fail(self, name, why):
		self.failures[name].append(why)

	def of(self, key, name):
		return list(self.values.get((key, name), {}).values())

	def median(self, key, name):
		values = self.of(key, name)
		return statistics.median(values) if values else None

	def ratio(self, key, name, other, other_key=None):
		"""The median of the rounds' ratios of one candidate's value to another's."""
		ours, theirs = self.values.get((key, name), {}), self.values.get((other_key or key, other), {})
		ratios = [value / theirs[n] for n, value in ours.items() if theirs.get(n)]
		return statistics.median(ratios) if ratios else None


def figure(value):
	"""Three digits that count."""
	if value is None:
		return "-"
	if value >= 1000:
		return f"{value:,.0f}"
	return f"{value:.{2 if abs(value) < 10 else 1 if abs(value) < 100 else 0}f}"


def times(value):
	return "" if value is None else f"{value:.2f}x"


def heading(results, seconds):
	uname = os.uname()
	return (f"median of {results.rounds} round{'s' * (results.rounds != 1)}, {seconds:.0f} s; Linux {uname.release}, "
		f"{os.cpu_count()} CPUs; \"x\" is the ratio to the bare relay\n")


def table(results):
	names = list(results.labels)
	shown = [row for row in results.rows if row.shown]
	width = max(len(row.label) + len(row.unit) + 2 for row in shown)
	lines = ["".ljust(width) + "".join(f"{results.labels[name][:15]:>16}" for name in names) + "   ours/direct"]
	for row in shown:
		cells = ""
		for name in names:
			value = results.median(row.key, name)
			ratio = results.ratio(row.key, name, "bare") if name != "bare" else None
			cells += f"{figure(value):>9}{times(ratio):>7}"
		lines.append(f"{row.label}, {row.unit}".ljust(width) + cells +
			     f"{times(results.ratio(row.key, 'ours', 'direct')):>14}")
	for name, note in results.notes.items():
		lines.append(f"{results.labels[name]}: {note}")
	for name, failures in results.failures.items():
		lines += [f"{results.labels[name]}: {failure}" for failure in failures]
	return "\n".join(lines)


def write_csv(results, path):
	with open(path, "w", encoding="utf-8", newline="") as f:
		out = csv.writer(f, lineterminator="\n")
		out.writerow(["measure", "unit", "candidate", "median", "least", "most", "to bare", "to direct"])
		for row in results.rows:
			for name in results.labels:
				values = results.of(row.key, name)
				if not values:
					continue
				out.writerow([row.key, row.unit, name, f"{statistics.median(values):.4g}", f"{min(values):.4g}",
					      f"{max(values):.4g}", *(f"{ratio:.3f}" if ratio else "" for ratio in (
						      results.ratio(row.key, name, "bare"), results.ratio(row.key, name, "direct")))])
