# SPDX-License-Identifier: Apache-2.0
"""Files on descriptors: what the program reads and writes, and where the caller's offsets stand afterwards."""

import os

from proxyends import expect
from rexecs import python
from scenarios.scenario import MIB, size

from .case import brief, case, file_case, rexec_case

LINES = b"one\ntwo\nthree\n"


def put(rig, folder, data=LINES):
	"""A file on the client's side: its path there, and the one by which the test sees it."""
	path = folder + "/lines"
	with open(rig.place.here(path), "wb") as f:
		f.write(data)
	return path, rig.place.here(path)


def take(path):
	with open(path, "rb") as f:
		data = f.read()
	os.unlink(path)
	return data


@file_case
def file_as_stdin_is_read_from_its_offset(rig, folder, _):
	_, path = put(rig, folder)
	with open(path, "rb", buffering=0) as f:
		f.seek(4)
		expect(brief(rig.run("cat", stdin=f)), (0, b"two\nthree\n", b""))
		expect(f.tell(), len(LINES), "offset")
	take(path)


@file_case
def empty_file_as_stdin(rig, folder, _):
	path, seen = put(rig, folder, b"")
	expect(brief(rig.shell('$R cat <"$1"', path)), (0, b"", b""))
	take(seen)


@file_case
def file_as_stdin_that_nobody_reads_stays_unread(rig, folder, _):
	path, seen = put(rig, folder)
	expect(rig.shell('while read -r line; do echo "$line"; $R true; done <"$1"', path).stdout, LINES)
	take(seen)


@file_case
def file_as_stdin_that_is_read_in_part(rig, folder, _):
	path, seen = put(rig, folder)
	expect(rig.shell('{ $R head -c 4; cat; } <"$1"', path).stdout, LINES)
	take(seen)


@file_case
def a_large_file_as_stdin_that_is_read_in_part(rig, folder, shared):
	"""Of one that is too large to be copied what has left this machine counts as read."""
	n = 3 * MIB
	path, seen = put(rig, folder, bytes(n))
	said = rig.shell('{ $R head -c 5 | wc -c; cat | wc -c; } <"$1"', path).stdout.split()
	rest = range(0, n - 4) if rig.proxied and not shared else [n - 5]
	expect((said[0], int(said[1]) in rest), (b"5", True), f"{said}")
	take(seen)


@case
def a_file_that_is_made_up_while_it_is_read(rig):
	for path in "/proc/version", "/sys/kernel/mm/transparent_hugepage/enabled", "/sys/kernel/notes":
		if os.path.exists(path):
			expect(brief(rig.shell('$R cat <"$1"', path)), brief(rig.shell('cat "$1"', path)))


@file_case
def file_as_stdout_is_written_at_its_offset_which_moves(rig, folder, _):
	_, path = put(rig, folder, b"")
	with open(path, "wb", buffering=0) as f:
		f.write(b"before ")
		rig.run("echo", "middle", stdout=f)
		expect(f.tell(), 14, "offset")
		f.write(b"after")
	expect(take(path), b"before middle\nafter")


@file_case
def programs_one_after_the_other_write_to_one_file(rig, folder, _):
	path, seen = put(rig, folder, b"old old old old old old old old")
	rig.shell('{ echo 1; $R echo 2; echo 3; $R sh -c "echo 4; echo 5 >&2"; $R echo 6; } >"$1" 2>&1', path)
	expect(take(seen), b"1\n2\n3\n4\n5\n6\n")


@file_case
def file_for_appending_as_stdout_and_stderr(rig, folder, _):
	path, seen = put(rig, folder, b"old\n")
	rig.shell('{ $R sh -c "echo o; echo e >&2; echo o"; $R echo last; } >>"$1" 2>&1', path)
	expect(take(seen), b"old\no\ne\no\nlast\n")


@file_case
def appending_moves_the_callers_offset_to_the_end(rig, folder, _):
	_, path = put(rig, folder, b"old\n")
	with open(path, "ab", buffering=0) as f:
		f.seek(0)
		rig.run("echo", "new", stdout=f)
		expect((f.tell(), take(path)), (8, b"old\nnew\n"))


@file_case
def two_openings_of_one_file_have_offsets_of_their_own(rig, folder, shared):
	path, seen = put(rig, folder, b"")
	rig.shell('$R sh -c "printf 123456; printf ab >&2" >"$1" 2>"$1"', path)
	# Between the two pipes that stand for files of no share there is no order.
	expect(take(seen) in ((b"ab3456", b"123456") if rig.proxied and not shared else (b"ab3456",)), True, "one over the other")


@file_case
def file_as_stdin_and_stdout_for_the_same_program(rig, folder, _):
	path, seen = put(rig, folder)
	rig.shell('$R tr a-z A-Z <"$1" 1<>"$1"', path)
	expect(take(seen), LINES.upper())


@file_case
def files_with_on_disconnect_keep(rig, folder, _):
	path, seen = put(rig, folder)
	option = "" if rig.plain else "--on-disconnect=keep"
	rig.shell(f'{{ $R {option} head -c 4; echo ---; $R {option} cat; }} <"$1" >"$1.out"', path)
	expect((take(seen), take(seen + ".out")), (LINES, b"one\n---\ntwo\nthree\n"))


@file_case
def files_on_other_descriptors(rig, folder, _):
	path, seen = put(rig, folder)
	result = rig.shell('$R sh -c "cat <&5; echo six >&6; echo seven >&6" 5<"$1" 6>"$1.out"', path)
	expect((brief(result), take(seen), take(seen + ".out")), ((0, LINES, b""), LINES, b"six\nseven\n"))


@file_case
def a_file_that_is_deleted_already(rig, folder, _):
	path, seen = put(rig, folder)
	result = rig.shell('exec <"$1"; rm "$1"; $R cat', path)
	expect(brief(result), (0, LINES, b""))
	expect(os.path.exists(seen), False)


@file_case
def a_file_larger_than_all_buffers(rig, folder, _):
	n = size(200, 16, 4) * MIB
	result = rig.shell(f'head -c {n} /dev/urandom >"$1/in"; $R cat <"$1/in" >"$1/out"; md5sum <"$1/in"; md5sum <"$1/out"; '
			   'rm "$1/in" "$1/out"', folder, seconds=300)
	sums = result.stdout.splitlines()
	expect((len(sums), len(set(sums)), result.stderr), (2, 1, b""))


@file_case
def flags_of_the_callers_files_stay(rig, folder, _):
	path, seen = put(rig, folder)
	result = rig.shell('exec 3<"$1" 4>>"$1.out"; grep flags /proc/$$/fdinfo/[34]; $R cat <&3 >&4; '
			   'grep flags /proc/$$/fdinfo/[34]', path)
	lines = [line.split()[-1] for line in result.stdout.splitlines()]
	expect((len(lines), lines[2:]), (4, lines[:2]))
	expect((take(seen), take(seen + ".out")), (LINES, LINES))


@file_case
def a_limit_of_the_files_size(rig, folder, _):
	"""SIGXFSZ is the program's, or rexec's own."""
	path, seen = put(rig, folder, b"")
	result = rig.shell('ulimit -f 4; $R head -c 100000 /dev/zero >"$1"; echo $? >&2', path)
	expect((result.stderr.split()[-1], take(seen)), (b"153", bytes(2048)))


@case
def a_full_disk_is_no_success(rig):
	"""The program sees that it is full where the file is passed to it, a broken pipe where rexec writes to it. Whatever
	it says then, there is a word on stderr and a status."""
	for n in 100000, 1000:
		result = rig.shell("""
mkdir "$1/small" && mount -t tmpfs -o size=4k small "$1/small" || exit 1
head -c 3996 /dev/zero >"$1/small/out"
$R head -c "$2" /dev/zero >>"$1/small/out"
echo $?
wc -c <"$1/small/out"
umount "$1/small"; rmdir "$1/small"
""", rig.place.own, str(n))
		status, length = map(int, result.stdout.split())
		expect((status != 0, length, b"No space left" in result.stderr), (True, 4096, True), f"{result}")


@rexec_case
def a_file_for_reading_and_writing_that_cannot_cross_is_named(rig):
	"""As a descriptor beyond 2. On one machine, and below a share, it is passed."""
	code = python("import os; os.lseek(7, 2, 0); os.write(7, b'X'); print(os.pread(7, 3, 0))")
	for folder, crosses in (rig.place.share, True), (rig.place.own, not rig.proxied):
		path, seen = put(rig, folder)
		result = rig.shell('file=$1; shift; exec 7<>"$file"; $R "$@"', path, *code)
		if crosses:
			expect((brief(result), take(seen)), ((0, b"b'onX'\n", b""), b"onX\ntwo\nthree\n"))
		else:
			expect((result.returncode, b"descriptor 7 is a file open for reading and writing" in result.stderr,
				b"--drop-fd 7" in result.stderr, take(seen)), (125, True, True, LINES))


@case
def a_directory_below_a_share(rig):
	_, seen = put(rig, rig.place.share)
	result = rig.shell('cd "$1"; shift; $R "$@" 8<.', rig.place.share,
			   *python("import os; print(os.path.exists('/proc/self/fd/8/lines'))"))
	expect((brief(result), take(seen)), ((0, b"True\n", b""), LINES))


@case
def a_program_may_seek_in_a_file_of_a_share(rig):
	path, seen = put(rig, rig.place.share)
	code = "import os; os.lseek(0, 8, 0); print(os.read(0, 3))"
	result = rig.shell('exec <"$1"; shift; $R "$@"; cat', path, *python(code))
	expect(brief(result), (0, b"b'thr'\nee\n", b""))
	take(seen)
