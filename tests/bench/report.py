# SPDX-License-Identifier: Apache-2.0
"""What the bench has found: medians, ratios, the table, the file, the picture."""

import collections
import csv
import os
import statistics
import typing
from xml.sax.saxutils import escape

Row = collections.namedtuple("Row", "key label unit higher shown", defaults=[True])


class Results:
	"""Values by row, candidate, and turn of a round. Ratios are told to the candidate `base`, and ours to `floor`."""

	def __init__(self, base, floor):
		self.base, self.floor = base, floor
		self.rows, self.rounds = [], 0
		self.load = os.getloadavg()[0]
		self.values = {}
		self.labels = {}
		self.notes, self.failures = collections.defaultdict(list), collections.defaultdict(list)

	def add(self, name, values, turn=0):
		"""What this turn of this round has found of a candidate, by row's key."""
		for key, value in values.items():
			self.values.setdefault((key, name), {})[self.rounds, turn] = value

	def note(self, name, text):
		if text not in self.notes[name]:
			self.notes[name].append(text)

	def of(self, key, name):
		return list(self.values.get((key, name), {}).values())

	def median(self, key, name):
		values = self.of(key, name)
		return statistics.median(values) if values else None

	def ratio(self, key, name, other):
		"""The median of the turns' ratios of one candidate's value to another's."""
		ours, theirs = self.values.get((key, name), {}), self.values.get((key, other), {})
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
	return "" if value is None else f"{value:.{2 if value < 100 else 0}f}x"


def circumstances(results):
	return (f"medians of {results.rounds} round{'s' * (results.rounds != 1)}; Linux {os.uname().release}, "
		f"{os.cpu_count()} CPUs")


def table(results):
	names = list(results.labels)
	shown = [row for row in results.rows if row.shown]
	width = max(len(row.label) + len(row.unit) + 2 for row in shown)
	lines = [f"{circumstances(results)}, load before {results.load:.1f}; x is the ratio to "
		 f"{results.labels.get(results.base, results.base)}", "",
		 "".ljust(width) + "".join(f"{results.labels[name][:15]:>16}" for name in names) +
		 f"ours/{results.floor}".rjust(14)]
	for row in shown:
		cells = ""
		for name in names:
			value = results.median(row.key, name)
			ratio = results.ratio(row.key, name, results.base) if name != results.base else None
			cells += f"{figure(value):>8}{times(ratio):>8}"
		lines.append(f"{row.label}, {row.unit}".ljust(width) + cells +
			     f"{times(results.ratio(row.key, 'ours', results.floor)):>14}")
	for told in results.notes, results.failures:
		lines += [f"{results.labels[name]}: {text}" for name, texts in told.items() for text in texts]
	return "\n".join(lines)


def write_csv(results, path):
	with open(path, "w", encoding="utf-8", newline="") as f:
		out = csv.writer(f, lineterminator="\n")
		out.writerow(["measure", "unit", "candidate", "median", "least", "most", f"to {results.base}",
			      f"to {results.floor}"])
		for row in results.rows:
			for name in results.labels:
				values = results.of(row.key, name)
				if not values:
					continue
				out.writerow([row.key, row.unit, name, f"{statistics.median(values):.4g}", f"{min(values):.4g}",
					      f"{max(values):.4g}", *(f"{ratio:.3f}" if ratio else "" for ratio in (
						      results.ratio(row.key, name, results.base),
						      results.ratio(row.key, name, results.floor)))])


# ---- what must hold -----------------------------------------------------------------------------


class Checks:
	"""Lines "ok" and "not ok", each with what was found and its bound."""

	def __init__(self, results):
		self.results, self.lines = results, []

	def line(self, good, text):
		self.lines.append(f"{'ok' if good else 'not ok'} - {text}")

	def at_least(self, value, bound, text):
		if value is not None:
			self.line(round(value, 2) >= bound, f"{text}: {value:.2f}x, at least {bound:.2f}x")

	def at_most(self, value, bound, text):
		if value is not None:
			self.line(round(value, 2) <= bound, f"{text}: {value:.2f}x, at most {bound:.2f}x")


def checks(results, claims):
	"""What is claimed of ours, and whether it was found: each claim is a function of a Checks."""
	found = Checks(results)
	for claim in claims:
		claim(found)
	good = sum(line.startswith("ok") for line in found.lines)
	return "\n".join(found.lines + [f"{good} of {len(found.lines)} ok"] * bool(found.lines))


# ---- the picture --------------------------------------------------------------------------------


class Picture(typing.NamedTuple):
	"""What is drawn."""

	title: str
	command: str  # that draws it
	footer: str  # behind the circumstances
	plain: tuple  # names of candidates to compare with that are no products
	panels: tuple  # of row's key, title, unit


PANEL_WIDTH, BAR_HEIGHT, BAR_STEP, LABEL_WIDTH, VALUE_WIDTH = 420, 14, 20, 110, 60
STYLE = """
    .title { font-size: 15px; font-weight: bold; fill: #1f2937 }
    .name { text-anchor: end; fill: #1f2937 }
    .small { font-size: 11px; fill: #4b5563 }
    .ours { fill: #2563eb }
    .bare { fill: #6b7280 }
    .other { fill: #b6bec9 }
"""


def draw_panel(results, plain, key, title, unit, x, y):
	row = next(row for row in results.rows if row.key == key)
	values = {name: results.median(key, name) for name in results.labels}
	shown = {name: value for name, value in values.items() if value is not None}
	longest = max(shown.values())
	lines = [f'  <text class="title" x="{x}" y="{y}">{escape(title)}</text>',
		 f'  <text class="small" x="{x}" y="{y + 17}">{unit}; {"more" if row.higher else "less"} is better</text>']
	y += 28
	for name, value in shown.items():
		kind = "ours" if name.startswith("ours") else "bare" if name in plain else "other"
		length = max(1, round((PANEL_WIDTH - LABEL_WIDTH - VALUE_WIDTH) * value / longest))
		middle = y + BAR_HEIGHT - 3
		lines += [f'  <text class="name" x="{x + LABEL_WIDTH - 8}" y="{middle}">{escape(results.labels[name])}</text>',
			  f'  <rect class="{kind}" x="{x + LABEL_WIDTH}" y="{y}" width="{length}" height="{BAR_HEIGHT}" rx="2"/>',
			  f'  <text class="small" x="{x + LABEL_WIDTH + length + 6}" y="{middle}">{figure(value)}</text>']
		y += BAR_STEP
	return lines


def write_svg(results, picture, path):
	"""A panel for each of a few measures, a bar in it for each candidate."""
	panels = [panel for panel in picture.panels if results.of(panel[0], "ours")]
	height_of_panel = 28 + BAR_STEP * len(results.labels) + 30
	width, height = 2 * PANEL_WIDTH + 60, 50 + height_of_panel * ((len(panels) + 1) // 2)
	lines = ['<?xml version="1.0" encoding="UTF-8"?>', "<!-- SPDX-License-Identifier: Apache-2.0 -->",
		 f"<!-- Drawn by {picture.command} RECORD=1 -->",
		 f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}"',
		 '     font-family="DejaVu Sans, Verdana, sans-serif" font-size="12">',
		 f"  <title>{escape(picture.title)}</title>",
		 f"  <style>{STYLE}  </style>", f'  <rect width="{width}" height="{height}" rx="10" fill="#fff"/>']
	for i, (key, title, unit) in enumerate(panels):
		lines += draw_panel(results, picture.plain, key, title, unit, 20 + i % 2 * (PANEL_WIDTH + 20),
				    34 + i // 2 * height_of_panel)
	lines.append(f'  <text class="small" x="20" y="{height - 16}">{escape(circumstances(results))}, '
		     f"{escape(picture.footer)}</text>")
	with open(path, "w", encoding="utf-8") as f:
		f.write("\n".join(lines + ["</svg>", ""]))
