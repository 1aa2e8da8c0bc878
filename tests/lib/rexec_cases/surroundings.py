# SPDX-License-Identifier: Apache-2.0
"""What a program is given but descriptors: arguments, environment, directory, mask, limits, signals, user."""

import os
import resource
import signal
import subprocess

from proxyends import expect
from rexecs import python

from .case import brief, case, rexec_case

SHOW = python("import os, sys; sys.stdout.buffer.write(b'\\0'.join(map(os.fsencode, sys.argv[1:])))")


def arrive(rig, *args):
	result = rig.run(*SHOW, *args)
	expect((result.returncode, result.stderr), (0, b""))
	if result.stdout != b"\0".join(args):
		raise AssertionError(f"{len(args)} arguments arrive as {result.stdout[:300]!r}")


@case
def no_arguments(rig):
	expect(rig.run("sh", "-c", "echo $#").stdout, b"0\n")


@case
def empty_arguments(rig):
	arrive(rig, b"", b"", b"x", b"")


@case
def arguments_with_blanks_quotes_and_globs(rig):
	arrive(rig, b" ", b"a b", b"'", b'"', b"$HOME", b"*", b"\\", b"`true`", b"a\tb")


@case
def arguments_with_newlines(rig):
	arrive(rig, b"new\nline", b"\n", b"\r\n")


@case
def arguments_that_begin_with_a_dash(rig):
	arrive(rig, b"-n", b"--local", b"--", b"-", b"--help")


@case
def a_double_dash_before_the_program(rig):
	"""Ends rexec's own options."""
	if rig.plain:
		result = rig.run("env", "--", "echo", "x")
	else:
		result = rig.run("echo", "x", rexec=["--"])
	expect(brief(result), (0, b"x\n", b""))


@case
def arguments_that_are_no_utf_8(rig):
	arrive(rig, bytes(range(1, 256)), b"\xff\xfe", b"\xc3")


@case
def an_argument_as_long_as_may_be(rig):
	arrive(rig, b"x" * (128 * 1024 - 1))


@case
def arguments_of_1_mib(rig):
	arrive(rig, *[b"%05d" % i + b"x" * 100000 for i in range(10)], b"y" * 48000)


def unlimited_stack():
	resource.setrlimit(resource.RLIMIT_STACK, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


@case
def arguments_of_3_mib_when_the_stack_has_room(rig):
	args = [b"%05d" % i + b"x" * 100000 for i in range(30)]
	result = rig.run(*SHOW, *args, preexec_fn=unlimited_stack)
	expect((result.returncode, result.stdout == b"\0".join(args)), (0, True), f"{brief(result)}")


@rexec_case
def more_arguments_than_can_cross(rig):
	result = rig.run("true", *[b"x" * 100000 for _ in range(45)], preexec_fn=unlimited_stack)
	expect((result.returncode, b"too much to pass" in result.stderr), (125, True), f"{brief(result)}")


@case
def ten_thousand_arguments(rig):
	arrive(rig, *[b"%d" % i for i in range(10000)])


@case
def the_programs_own_name(rig):
	"""argv[0] as it was given."""
	for name in "sh", "/bin/sh", "/bin/../bin/sh":
		expect(rig.run(name, "-c", "tr '\\0' ' ' </proc/$$/cmdline | cut -d' ' -f1").stdout, name.encode() + b"\n")


# ---- the environment ------------------------------------------------------------------------------

ENV = {"LC_ALL": "C", "SECRET": "x", "LD_BIND_NOW": "1", "PYTHONPATH": "/x", "XDG_DATA_HOME": "/d", "TZ": "/etc/shadow",
       "QEMU_AUDIO_DRV": "none", "HOME": "/h\nh", "TERM": "vt100", "LANGUAGE": ""}


@case
def the_environment(rig):
	"""Through rexec it is what programs need, and nothing else."""
	got = dict(line.split(b"=", 1) for line in rig.run("env", "-0", env=ENV).stdout.split(b"\0")[:-1])
	for name in "LC_ALL", "XDG_DATA_HOME", "QEMU_AUDIO_DRV", "HOME", "TERM", "LANGUAGE":
		expect(got.get(name.encode()), ENV[name].encode(), name)
	expect(b"PATH" in got, True, "PATH")
	kept_back = {b"SECRET", b"LD_BIND_NOW", b"PYTHONPATH", b"TZ", b"REXEC_RUNTIME_DIR"} & set(got)
	expect(bool(kept_back), rig.plain, f"{kept_back}")


@rexec_case
def option_env_passes_on_what_it_names(rig):
	result = rig.run("env", rexec=["--env", "SECRET", "--env", "B=1 2=3", "--env", "NOT_SET", "--env", "EMPTY="], env=ENV)
	lines = result.stdout.split(b"\n")
	expect([line in lines for line in (b"SECRET=x", b"B=1 2=3", b"EMPTY=")], [True] * 3, f"{lines}")
	expect(b"NOT_SET" in result.stdout, False)


@rexec_case
def option_env_refuses_what_loads_code(rig):
	for bad in "LD_PRELOAD=/x.so", "GCONV_PATH=/x", "BASH_ENV=/x", "GLIBC_TUNABLES=x":
		result = rig.run("env", rexec=["--env", bad])
		expect((result.returncode, bad.split("=", maxsplit=1)[0].encode() in result.stderr), (126, True), bad)


# ---- where, and how much --------------------------------------------------------------------------


@case
def the_working_directory(rig):
	expect(rig.run("pwd", before=["env", "--chdir=/usr/lib"]).stdout, b"/usr/lib\n")


@case
def a_working_directory_with_an_odd_name(rig):
	name = rig.place.share + "/a b\n\u00e4"
	os.mkdir(rig.place.here(name))
	result = rig.shell('cd "$1" && $R pwd', name)
	os.rmdir(rig.place.here(name))
	expect(brief(result), (0, os.fsencode(name) + b"\n", b""))


@case
def a_working_directory_that_was_deleted(rig):
	"""Through rexec it is an error, which says what to do."""
	result = rig.shell('mkdir "$1/gone"; cd "$1/gone"; rmdir ../gone; $R true', rig.place.own)
	if rig.plain:
		expect(brief(result), (0, b"", b""))
	else:
		expect((result.returncode, b"--cwd" in result.stderr), (125, True), f"{result}")


@rexec_case
def a_working_directory_that_is_not_there(rig):
	result = rig.run("true", rexec=["--cwd", "/no/such/dir"])
	expect((result.returncode, b"/no/such/dir" in result.stderr), (125, True), f"{result}")


@rexec_case
def a_working_directory_that_the_user_may_not_enter(rig):
	result = rig.run("true", rexec=["--cwd", "/root"], before=["setpriv", "--reuid=1000", "--regid=1000", "--clear-groups"])
	expect((result.returncode, b"/root" in result.stderr), (125, True), f"{result}")


@rexec_case
def option_cwd(rig):
	expect(rig.run("pwd", rexec=["--cwd", "/usr/bin"]).stdout, b"/usr/bin\n")
	expect(rig.shell('mkdir "$1/gone"; cd "$1/gone"; rmdir ../gone; $R --cwd / pwd', rig.place.own).stdout, b"/\n")


@case
def the_umask(rig):
	for mask in 0o027, 0, 0o777:
		expect(rig.run("sh", "-c", "umask", preexec_fn=lambda mask=mask: os.umask(mask)).stdout, b"%04o\n" % mask)


@case
def resource_limits(rig):
	def limits():
		resource.setrlimit(resource.RLIMIT_NOFILE, (123, 456))
		resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
		resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 30, 1 << 31))

	script = "ulimit -Sn; ulimit -Hn; ulimit -c; cut -c 1-60 /proc/self/limits | grep '^Max file size'"
	said = rig.run("sh", "-c", script, preexec_fn=limits).stdout.split()
	expect(said, [b"123", b"456", b"0", b"Max", b"file", b"size", b"1073741824", b"2147483648"])


@case
def resource_limits_are_the_callers_without_a_word(rig):
	soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
	expect(int(rig.run("sh", "-c", "ulimit -n").stdout), soft)


@case(together=True)
def cpu_time_limit_ends_the_program(rig):
	result = rig.run("sh", "-c", "while :; do :; done", preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_CPU, (1, 2)))
	expect(result.returncode, 128 + signal.SIGXCPU)


@case
def signals_that_are_ignored_and_blocked(rig):
	show = ["grep", "-E", "^Sig(Blk|Ign)", "/proc/self/status"]

	def dispositions():
		for number in signal.SIGHUP, signal.SIGUSR1, signal.SIGRTMIN + 3:
			signal.signal(number, signal.SIG_IGN)
		signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR2, signal.SIGRTMAX])

	def sets(said):
		"""Without the two signals that libc keeps for itself, and does not let anybody look at."""
		return [int(word, 16) & ~(0b11 << 31) for word in said.split()[1::2]]

	for prepare in None, dispositions:
		want = subprocess.run(show, stdout=subprocess.PIPE, check=True, preexec_fn=prepare).stdout
		expect(sets(rig.run(*show, preexec_fn=prepare).stdout), sets(want))


@case
def a_process_group_and_session(rig):
	"""Through rexec it leads a process group of its own, in a session without a terminal."""
	said = rig.run("sh", "-c", "cut -d' ' -f1,5,7 /proc/$$/stat").stdout.split()
	if not rig.plain:
		expect((said[0] == said[1], said[2]), (True, b"0"), f"{said}")


# ---- who ------------------------------------------------------------------------------------------

USER = ["setpriv", "--reuid=1000", "--regid=1001", "--groups=1002,44"]


@case
def user_group_and_groups(rig):
	result = rig.run("sh", "-c", "id -u; id -g; id -G", before=USER)
	expect((result.returncode, sorted(result.stdout.split()), result.stderr),
	       (0, [b"1000", b"1001", b"1001", b"1002", b"44"], b""))


@case
def no_capability_is_left_of_roots(rig):
	expect(rig.run("grep", "CapEff", "/proc/self/status", before=USER).stdout.split()[-1:], [b"0" * 16])


@case
def files_are_made_with_the_callers_user_and_mask(rig):
	path = rig.place.share + "/made"
	rig.run("sh", "-c", f"rm -f {path}; touch {path}", before=["sh", "-c", 'umask 027; exec "$@"', "sh"])
	st = os.stat(rig.place.there(path))
	os.unlink(rig.place.there(path))
	expect((st.st_uid, oct(st.st_mode)), (0, "0o100640"))


@rexec_case
def only_root_may_ask_for_another_user(rig):
	result = rig.run("id", rexec=["--user", "nobody"], before=USER)
	expect((result.returncode, b"only root" in result.stderr), (126, True), f"{result}")


@rexec_case
def option_user(rig):
	result = rig.run("sh", "-c", "id -un; echo $USER $LOGNAME", rexec=["--user", "nobody"])
	expect(brief(result), (0, b"nobody\nnobody nobody\n", b""))
	result = rig.run("id", rexec=["--user", "no-such-user"])
	expect((result.returncode, b"no-such-user" in result.stderr), (126, True), f"{result}")
