# SPDX-License-Identifier: Apache-2.0
"""Standard input, output and error: what arrives, in which order, and when each ends."""

import contextlib
import errno
import fcntl
import os
import pty
import select
import subprocess

from proxyends import expect, read_all
from proxypair import wait_for
from rexecs import python
from scenarios.scenario import MIB, size

from .case import brief, case, rexec_case

PIPE, NULL = subprocess.PIPE, subprocess.DEVNULL


@case
def stdin_is_a_pipe(rig):
	expect(brief(rig.run("cat", stdin=b"one\ntwo")), (0, b"one\ntwo", b""))


@case
def stdin_ends_when_its_writer_does_and_not_before(rig):
	process = rig.popen("cat", stdin=PIPE, stdout=PIPE)
	for _ in range(3):
		os.write(process.stdin.fileno(), b"more\n")
		expect(process.stdout.readline(), b"more\n")
	process.stdin.close()
	expect((process.stdout.read(), rig.status(process)), (b"", 0))


@case
def stdin_is_dev_null(rig):
	expect(brief(rig.run("cat", stdin=NULL)), (0, b"", b""))


@case
def stdin_is_dev_zero(rig):
	expect(rig.shell("$R head -c 100000 </dev/zero").stdout == bytes(100000), True, "zeros")


@case
def stdin_is_a_named_fifo_and_stdout_another(rig):
	result = rig.shell('cd "$1" && mkfifo in out && { echo word >in & } && { cat out >said & } && $R tr a-z A-Z <in >out;'
			   ' echo $?; wait; cat said; rm in out said', rig.place.own)
	expect(brief(result), (0, b"0\nWORD\n", b""))


@case
def stdin_that_is_closed(rig):
	"""Through rexec what is closed of 0, 1 and 2 is /dev/null."""
	expect(rig.shell("$R readlink /proc/self/fd/0 <&-").stdout, b"" if rig.plain else b"/dev/null\n")


@case
def stdout_and_stderr_that_are_closed(rig):
	script = '$R "$@" >&- 2>&-; echo $?'
	result = rig.shell(script, *python("import os; print(os.path.exists('/proc/self/fd/1'), file=open('/dev/null', 'w'))"))
	expect(brief(result), (0, b"0\n", b""))


@rexec_case
def option_n_reads_no_stdin(rig):
	result = rig.shell("echo one | { $R -n cat; cat; }")
	expect(brief(result), (0, b"one\n", b""))


@case
def stdout_stderr_and_status_are_apart(rig):
	result = rig.run("sh", "-c", "cat >/dev/null; echo out; echo err >&2; exit 3", stdin=b"x")
	expect(brief(result), (3, b"out\n", b"err\n"))


@case
def stdout_and_stderr_of_one_pipe_keep_their_order(rig):
	result = rig.run("sh", "-c", "for i in $(seq 300); do echo o$i; echo e$i >&2; done", stderr=subprocess.STDOUT)
	expect(result.stdout, b"".join(b"o%d\ne%d\n" % (i, i) for i in range(1, 301)))


@case
def equal_descriptors_are_equal_and_others_are_not(rig):
	same = "import os; a, b = os.fstat(1), os.fstat(2); print((a.st_ino, a.st_dev) == (b.st_ino, b.st_dev))"
	expect(rig.run(*python(same), stderr=subprocess.STDOUT).stdout, b"True\n")
	expect(rig.run(*python(same)).stdout, b"False\n")


@case
def a_pipeline_of_programs(rig):
	expect(brief(rig.shell("seq 20000 | $R tac | $R sort -n | $R md5sum; seq 20000 | md5sum >&2")),
	       (0, rig.run("sh", "-c", "seq 20000 | md5sum").stdout, rig.run("sh", "-c", "seq 20000 | md5sum").stdout))


@case
def two_programs_write_to_one_pipe(rig):
	"""And its reader's end comes after the second."""
	expect(rig.shell("{ $R echo one; $R echo two; } | cat").stdout, b"one\ntwo\n")
	lines = rig.shell("{ $R seq 1000 & $R seq 1000; wait; } | sort -n | uniq -c | grep -vc '^ *2 '").stdout
	expect(lines, b"0\n", "lines that did not come twice")


@case
def two_programs_read_from_one_pipe(rig):
	"""Each byte comes to one of them, and its end to both."""
	n = size(64, 4, 1) * MIB
	result = rig.shell(f"head -c {n} /dev/zero | {{ $R wc -c & $R wc -c; wait; }}", seconds=300)
	expect((sum(map(int, result.stdout.split())), len(result.stdout.split())), (n, 2))


@case
def output_ends_when_the_program_closes_it(rig):
	process = rig.popen("sh", "-c", "echo last; exec >&-; read line; exit 4", stdin=PIPE, stdout=PIPE)
	expect(process.stdout.read(), b"last\n")
	expect(process.poll(), None, "status")
	process.stdin.close()
	expect(rig.status(process), 4)


@case
def stderr_ends_when_the_program_closes_it(rig):
	"""Through rexec it ends with rexec, which may have something to say there."""
	process = rig.popen("sh", "-c", "echo last >&2; exec 2>&-; echo closed; read line; exit 4", stdin=PIPE, stdout=PIPE,
			    stderr=PIPE)
	expect(process.stdout.readline(), b"closed\n")
	expect(process.stderr.readline(), b"last\n")
	if rig.plain:
		expect(process.stderr.read(), b"")
	process.stdin.close()
	expect((process.stderr.read(), rig.status(process)), (b"", 4))


@case
def output_ends_only_when_the_last_that_has_it_closes_it(rig):
	r, w = os.pipe()
	code = "import os, sys\nif os.fork(): os._exit(5)\nos.read(int(sys.argv[1]), 1); os.write(1, b'late')"
	process = rig.popen(*python(code, str(r)), stdin=NULL, stdout=PIPE, pass_fds=(r,))
	os.close(r)
	expect(rig.status(process), 5)
	expect(select.select([process.stdout], [], [], 0)[0], [], "readable")
	os.write(w, b"x")
	os.close(w)
	expect(process.stdout.read(), b"late")


@case
def a_reader_that_leaves_gives_sigpipe(rig):
	process = rig.popen("yes", stdin=NULL, stdout=PIPE)
	process.stdout.read(100)
	process.stdout.close()
	expect(rig.status(process), 141)


@case
def a_reader_that_leaves_gives_epipe_to_who_ignores_sigpipe(rig):
	code = """
import errno, os
try:
	while True: os.write(1, b'x' * 1000)
except OSError as e: os.write(2, errno.errorcode[e.errno].encode())
"""
	process = rig.popen(*python(code), stdin=NULL, stdout=PIPE, stderr=PIPE)
	process.stdout.read(100)
	process.stdout.close()
	expect((process.stderr.read(), rig.status(process)), (errno.errorcode[errno.EPIPE].encode(), 0))


@case
def a_reader_that_has_left_before(rig):
	r, w = os.pipe()
	os.close(r)
	process = rig.popen("yes", stdin=NULL, stdout=w)
	os.close(w)
	expect(rig.status(process), 141)


@case
def head_ends_a_pipeline(rig):
	expect(rig.shell("yes | $R cat | $R head -n 2 | cat").stdout, b"y\ny\n")


@case
def a_program_that_closes_stdin_breaks_its_writers_pipe(rig):
	process = rig.popen("sh", "-c", "exec <&-; echo closed; exec sleep 1000", stdin=PIPE, stdout=PIPE)
	process.stdout.readline()

	def broken():
		try:
			os.write(process.stdin.fileno(), b"x" * 4096)
			return False
		except BrokenPipeError:
			return True

	expect(wait_for(broken), True, "broken")


@case
def a_program_that_ends_without_reading_breaks_its_writers_pipe(rig):
	expect(rig.shell("{ yes; echo $? >&2; } | $R true").stderr, b"141\n")


@case
def a_pipe_that_is_read_in_part(rig):
	"""Through udsproxyd what has left this machine counts as read."""
	said = rig.shell("printf 'one\ntwo\n' | { $R sh -c 'read line; echo $line'; cat; }").stdout
	expect(said in ((b"one\n", b"one\ntwo\n") if rig.proxied else (b"one\ntwo\n",)), True, f"{said}")


@case
def stdout_is_dev_full(rig):
	result = rig.shell("$R head -c 10 /dev/zero >/dev/full; echo $?")
	expect((result.stdout, b"No space left" in result.stderr), (b"1\n", True))


@case
def many_bytes_each_way_are_the_same(rig):
	"""1 GiB at full size, through stdin and stdout at once."""
	n = size(1024, 24, 4)
	script = f'cd "$1"; mkfifo copy; md5sum <copy & head -c {n * MIB} /dev/urandom | tee copy | $R cat | md5sum; wait; rm copy'
	sums = rig.shell(script, rig.place.own, seconds=400).stdout.splitlines()
	expect((len(sums), len(set(sums))), (2, 1), f"checksums of {n} MiB: {sums}")


@case
def many_bytes_on_stdout_and_stderr_at_once(rig):
	n = size(256, 8, 2) * MIB
	process = rig.popen("sh", "-c", f"head -c {n} /dev/zero & head -c {n} /dev/zero >&2; wait", stdin=NULL, stdout=PIPE,
			    stderr=PIPE)
	out, err = process.communicate(timeout=400)
	expect((len(out), len(err), rig.status(process)), (n, n, 0))


@case
def output_of_a_program_that_ends_at_once_is_complete(rig):
	"""1,000 of 1,000 times at full size."""
	times = size(1000, 30, 10)
	result = rig.shell(f"for i in $(seq {times}); do $R head -c 1048576 /dev/zero | wc -c; done | sort | uniq -c", seconds=400)
	expect(result.stdout.split(), [b"%d" % times, b"1048576"])


@case
def small_pieces_back_and_forth(rig):
	process = rig.popen("sed", "-u", "s/^/got /", stdin=PIPE, stdout=PIPE)
	for i in range(200):
		os.write(process.stdin.fileno(), b"%d\n" % i)
		expect(process.stdout.readline(), b"got %d\n" % i)
	process.stdin.close()
	expect(rig.status(process), 0)


@case
def output_that_fits_a_pipe_waits_for_no_reader(rig):
	r, w = os.pipe()
	expect(rig.status(rig.popen("head", "-c", "60000", "/dev/zero", stdin=NULL, stdout=w)), 0)
	os.close(w)
	expect(len(read_all(r)), 60000)
	os.close(r)


@case
def input_that_fits_a_pipe_waits_for_no_program(rig):
	process = rig.popen("sh", "-c", "echo ready; exec sleep 1000", stdin=PIPE, stdout=PIPE)
	process.stdout.readline()
	os.write(process.stdin.fileno(), bytes(60000))
	process.terminate()
	expect(rig.status(process), 143)


@case
def a_reader_that_rests_gets_all(rig):
	process = rig.popen("head", "-c", "3000000", "/dev/zero", stdin=NULL, stdout=PIPE)
	expect(select.select([process.stdout], [], [], 30)[0], [process.stdout], "readable")
	expect((len(process.stdout.read()), rig.status(process)), (3000000, 0))


@rexec_case
def output_with_on_disconnect_keep(rig):
	"""Complete, in order, and ended by who reads it."""
	keep = ["--on-disconnect=keep"]
	result = rig.run("sh", "-c", "for i in $(seq 300); do echo o$i; echo e$i >&2; done", stderr=subprocess.STDOUT, rexec=keep)
	expect(result.stdout, b"".join(b"o%d\ne%d\n" % (i, i) for i in range(1, 301)))
	for _ in range(5):
		expect(len(rig.run("head", "-c", "1048576", "/dev/zero", rexec=keep).stdout), 1048576)
	data = os.urandom(3 * MIB)
	expect(rig.run("cat", stdin=data, rexec=keep).stdout == data, True, "there and back")


@rexec_case(together=True)
def a_reader_that_leaves_with_on_disconnect_keep(rig):
	"""SIGPIPE comes when it is sure that the reader, and not the link, is gone."""
	process = rig.popen("yes", stdin=NULL, stdout=PIPE, rexec=["--on-disconnect=keep"])
	process.stdout.read(100)
	process.stdout.close()
	expect(rig.status(process), 141)


@case
def flags_of_the_callers_pipes_stay(rig):
	r, w = os.pipe()
	r2, w2 = os.pipe()
	for fd in w, r2:
		os.set_blocking(fd, False)
	before = [fcntl.fcntl(fd, fcntl.F_GETFL) for fd in (r, w, r2, w2)]
	process = rig.popen("cat", stdin=r, stdout=w2)
	os.write(w, b"x")
	select.select([r2], [], [], 30)
	during = [fcntl.fcntl(fd, fcntl.F_GETFL) for fd in (r, w, r2, w2)]
	os.close(w)
	rig.status(process)
	after = [fcntl.fcntl(fd, fcntl.F_GETFL) for fd in (r, r2, w2)]
	expect((during, after), (before, [before[0], *before[2:]]))
	for fd in r, r2, w2:
		os.close(fd)


@case
def pipes_that_do_not_block(rig):
	"""A pipe that the caller made O_NONBLOCK loses nothing to a slow reader of a program that waits."""
	r, w = os.pipe()
	os.set_blocking(w, False)
	process = rig.popen(*python("import os, select\nleft = 500000\nwhile left:\n\tselect.select([], [1], [])\n"
				    "\ttry: left -= os.write(1, b'x' * min(left, 4096))\n\texcept BlockingIOError: pass"),
			    stdin=NULL, stdout=w)
	os.close(w)
	expect((len(read_all(r)), rig.status(process)), (500000, 0))
	os.close(r)


@case
def a_terminals_end_of_file_is_stdins(rig):
	master, slave = pty.openpty()
	process = rig.popen("cat", stdin=slave, stdout=PIPE, start_new_session=True)
	os.close(slave)
	os.write(master, b"line\n")
	expect(process.stdout.readline(), b"line\n")
	os.write(master, b"\4")
	expect((process.stdout.read(), rig.status(process)), (b"", 0))
	os.close(master)


@case
def a_program_that_closes_all_descriptors_runs_on(rig):
	r, w = os.pipe()
	code = """
import os, sys
last = int(sys.argv[1])
os.closerange(0, last)
os.closerange(last + 1, 65536)
os.read(last, 1)
os.close(last)
os._exit(7)
"""
	process = rig.popen(*python(code, str(r)), stdin=NULL, stdout=PIPE, pass_fds=(r,))
	os.close(r)
	expect((process.stdout.read(), process.poll()), (b"", None))
	os.write(w, b"x")
	expect(rig.status(process), 7)
	os.close(w)
