# SPDX-License-Identifier: Apache-2.0
"""How a program ends, or never begins, and what is told of it."""

import os
import signal

from proxyends import expect, read_all
from scenarios.scenario import size

from .case import brief, case, rexec_case

# What the default action of is no end.
HARMLESS = {signal.SIGCHLD, signal.SIGCONT, signal.SIGURG, signal.SIGWINCH, signal.SIGSTOP, signal.SIGTSTP, signal.SIGTTIN,
	    signal.SIGTTOU}
DEADLY = [int(number) for number in signal.valid_signals() if number not in HARMLESS]


@case
def every_exit_status_from_0_to_255(rig):
	result = rig.shell("for i in $(seq 0 255); do $R sh -c \"exit $i\"; s=$?; [ $s = $i ] || echo $i: $s; done", seconds=300)
	expect(brief(result), (0, b"", b""))


@case
def every_signal_as_cause_of_death(rig):
	"""128 and its number, the real-time ones included."""
	script = """
ulimit -c 0
for i in "$@"; do
	$R sh -c "kill -$i \\$\\$"
	s=$?
	[ $s = $((128 + i)) ] || echo $i: $s
done 2>/dev/null"""
	result = rig.shell(script, *map(str, DEADLY), seconds=300)
	expect(brief(result), (0, b"", b""))
	expect(len(DEADLY) > 50, True, f"{DEADLY}")


@case
def a_core_dump_is_a_death_by_its_signal(rig):
	expect(brief(rig.run("sh", "-c", "kill -SEGV $$", before=["sh", "-c", 'cd "$0"; ulimit -c 0; exec "$@"', rig.place.share])),
	       (139, b"", b""))


@case
def a_program_that_is_not_there(rig):
	"""127, and one line that says so."""
	for name in "no-such-program", "/no/such/program":
		result = rig.shell('$R "$1"', name)
		expect((result.returncode, name.encode() in result.stderr, result.stderr.count(b"\n")), (127, True, 1), f"{result}")


@case
def a_file_that_is_not_executable(rig):
	expect(rig.shell("$R /etc/passwd").returncode, 126)


@case
def a_program_without_a_name(rig):
	expect(rig.shell("$R ''").returncode in (126, 127), True, "126 or 127")


@case
def a_directory_as_program(rig):
	expect(rig.shell("$R /usr").returncode, 126)


@case
def a_script_without_its_interpreter(rig):
	path = rig.place.share + "/script"
	with open(rig.place.here(path), "w", encoding="ascii") as f:
		f.write("#!/no/such/interpreter\n")
	os.chmod(rig.place.here(path), 0o755)
	result = rig.shell('$R "$1"', path)
	os.unlink(rig.place.here(path))
	expect(result.returncode in (126, 127), True, f"{result}")


@case
def a_script_with_its_interpreter(rig):
	path = rig.place.share + "/script"
	with open(rig.place.here(path), "w", encoding="ascii") as f:
		f.write('#!/bin/sh\necho "$0" "$@"\n')
	os.chmod(rig.place.here(path), 0o755)
	result = rig.run(path, "x")
	os.unlink(rig.place.here(path))
	expect(brief(result), (0, path.encode() + b" x\n", b""))


@rexec_case
def a_relative_path(rig):
	result = rig.run("./relative")
	expect((result.returncode, b"relative" in result.stderr), (126, True), f"{result}")


@rexec_case
def bad_usage(rig):
	for options in (["--status-fd", "999"], ["--drop-fd", "x"], ["--on-disconnect=x"], ["--cwd", "x"], ["--nonsense"]):
		result = rig.run("true", rexec=options)
		expect((result.returncode, bool(result.stderr)), (2, True), f"{result}")
	result = rig.run()
	expect((result.returncode, b"usage" in result.stderr), (2, True), f"{result}")


@rexec_case
def option_status_fd(rig):
	def told(*argv):
		r, w = os.pipe()
		result = rig.run(*argv, rexec=["--status-fd", str(w)], pass_fds=[w])
		os.close(w)
		line = read_all(r).split(b"\n")[0]
		os.close(r)
		return result.returncode, line[:12]

	expect(told("sh", "-c", "exit 125"), (125, b"exited 125"))
	expect(told("sh", "-c", "kill -9 $$"), (137, b"signaled 9"))
	expect(told("no-such-program"), (127, b"refused 127 "))


@rexec_case
def option_status_fds_descriptor_is_not_the_programs(rig):
	r, w = os.pipe()
	result = rig.run("ls", "/proc/self/fd", rexec=["--status-fd", str(w)], pass_fds=[w])
	os.close(r)
	os.close(w)
	expect(result.stdout.split(), [b"0", b"1", b"2", b"3"])


@case
def a_hundred_programs_at_once(rig):
	n = size(100, 100, 30)
	result = rig.shell(f"""
for i in $(seq {n}); do
	{{ [ "$(echo $i | $R sh -c 'read line; sleep 0.1; echo $line; exit 7')" = $i ]; echo $?; }} &
done
wait""", seconds=300)
	expect((result.stdout, result.stderr), (b"0\n" * n, b""))


@case
def one_program_after_the_other(rig):
	n = size(1000, 100, 30)
	result = rig.shell(f"for i in $(seq {n}); do $R true || echo $?; done", seconds=300)
	expect(brief(result), (0, b"", b""))
