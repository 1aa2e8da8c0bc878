# SPDX-License-Identifier: Apache-2.0
# gcov -n's lines, as a table: percent, lines, file; ours only, and the sum of all.
/^File / { file = substr($2, 2, length($2) - 2) }
/^Lines executed:/ {
	if (file != "" && file !~ /^\// && file !~ /^tests\//) {
		sub("Lines executed:", "")
		sub("%", "")
		printf "%6.1f %% of %5d  %s\n", $1, $3, file
		lines += $3
		run += $1 * $3 / 100
	}
	file = ""
}
END {
	if (lines)
		printf "%6.1f %% of %5d  all\n", 100 * run / lines, lines
}
