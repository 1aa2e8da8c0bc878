#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""rexec_server starts what its whitelist names, for whom and as it says, and nothing else; does not
start itself with a whitelist that others could write; says what it would make of one (--check), and
what it made of one that was changed (SIGHUP, qtcfg)."""

import hashlib
import mmap
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, TOP + "/tests/lib")
import keeperclient  # pylint: disable=wrong-import-position
from proxypair import wait_for  # pylint: disable=wrong-import-position
from tap import Tap  # pylint: disable=wrong-import-position

BIN = os.environ.get("BIN", TOP + "/build/testmode/bin")
tap = Tap()
if os.geteuid():
	tap.skip_all("needs root: the whitelist is root's")
place = tempfile.mkdtemp(prefix="rexec.", dir="/var/tmp")
os.chmod(place, 0o755)
whitelist, run_dir = place + "/whitelist", place + "/run"
# Where a program is root's alone, the directories above it included.
safe = tempfile.mkdtemp(prefix="rexec.", dir="/var/lib")
os.chmod(safe, 0o755)


def write(text, mode=0o400, owner=0):
	if os.path.exists(whitelist):
		os.unlink(whitelist)
	if text is None:
		return
	with open(whitelist, "w", encoding="utf-8") as f:
		f.write(text)
	os.chown(whitelist, owner, 0)
	os.chmod(whitelist, mode)


class Server:
	def __init__(self, *options):
		self.log = open(place + "/log", "w+", encoding="utf-8")
		self.process = subprocess.Popen([BIN + "/rexec_server", "--runtime-dir", run_dir, "--whitelist", whitelist,
						 *(options or ["--test-mode=no"])], stderr=self.log)
		self.ready = wait_for(lambda: "ready in" in self.said() or self.process.poll() is not None) \
			and self.process.poll() is None

	def said(self):
		with open(self.log.name, encoding="utf-8") as f:
			return f.read()

	def __enter__(self):
		return self

	def __exit__(self, *_):
		self.process.terminate()
		self.process.wait()
		self.log.close()


def rexec(*argv, before=()):
	result = subprocess.run([*before, BIN + "/rexec", "--local", *argv], stdin=subprocess.DEVNULL, cwd="/",
				stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=20, check=False,
				env={**os.environ, "REXEC_RUNTIME_DIR": run_dir})
	return result.returncode, result.stdout.decode()


def gives(name, status, words, *argv, before=()):
	got, said = rexec(*argv, before=before)
	tap.result(name, got == status and words in said, f"status {got}, not {status}, or no '{words}' in: {said}")


def does_not_start(name, *words):
	with Server() as server:
		status = None if server.ready else server.process.wait(10)
		tap.result(f"a whitelist that is {name} is told, with the remedy: exit 2",
			   status == 2 and all(word in server.said() for word in (whitelist, *words)),
			   f"status {status}: {server.said()}")


def bad_files():
	write("/usr/bin/true\n", 0o644)
	does_not_start("of mode 0644", "chmod")
	write("/usr/bin/true\n", 0o460)
	does_not_start("writable by its group", "chmod")
	write("/usr/bin/true\n", 0o600)
	does_not_start("of mode 0600", "chmod")
	write("/usr/bin/true\n", 0o400, 1000)
	does_not_start("another user's", "own")
	write("bin/true\n")
	does_not_start("naming a relative path", ":1", "bin/true")
	write("\n# comment\n/usr/bin/true colour=red\n")
	does_not_start("using an unknown option", ":3", "colour")
	write("/usr/bin/true uid=no-such-user\n")
	does_not_start("naming a user that is not there", ":1", "no-such-user")
	write("/usr/bin/true\r\n")
	does_not_start("full of DOS line ends", "DOS line end")
	os.unlink(whitelist)
	os.mkdir(whitelist)
	does_not_start("a directory")
	os.rmdir(whitelist)
	os.symlink("/dev/null", whitelist)
	does_not_start("a link")
	os.unlink(whitelist)


def listed():
	write("# programs\n/usr/bin/true\nid   uid=0,1000\n/usr/bin/whoami user=nobody\n" + place + "/loose\n" +
	      place + "/missing\n")
	shutil.copy("/usr/bin/true", place + "/loose")
	os.chmod(place + "/loose", 0o777)
	with Server() as server:
		gives("a listed path is started", 0, "", "/usr/bin/true")
		gives("by its bare name, too", 0, "", "true")
		if os.path.islink("/bin"):
			gives("and by another way to the same place", 0, "", "/bin/true")
		gives("what is not listed gives 126", 126, "whitelist", "/usr/bin/env")
		gives("by its bare name, too", 126, "whitelist", "env")
		gives("a name that is nowhere gives 127", 127, "not found", "no-such-program")
		gives("a path that is not listed gives 126, there or not", 126, "whitelist", "/no/such/program")
		gives("a listed path that is not there gives 127", 127, "", place + "/missing")
		gives("a path that only begins like an entry gives 126", 126, "whitelist", "/usr/bin/true/../env")
		gives("a bare name as entry", 0, "uid=0", "id")
		for uid, status, words in ((1000, 0, "uid=1000"), (1001, 126, "uid 1001")):
			gives(f"uid=0,1000 and uid {uid}", status, words, "id",
			      before=["setpriv", f"--reuid={uid}", "--clear-groups"])
		gives("user=nobody refuses the caller's own", 126, "whitelist", "whoami")
		gives("and allows nobody", 0, "nobody", "--user", "nobody", "whoami")
		gives("a listed file that others may write gives 126", 126, "changed by others", place + "/loose")
		tap.result("every refusal is in the log, with who asked for what",
			   all(re.search(line, server.said()) for line in (r"uid 1001 \(pid \d+\): id refused \(126\): /usr/bin/id: ",
									   r"uid 0 \(pid \d+\): env refused \(126\): ")),
			   server.said())

		write("/usr/bin/env\n")
		server.process.send_signal(signal.SIGHUP)
		tap.result("SIGHUP reads the list again", wait_for(lambda: rexec("env")[0] == 0), server.said())
		gives("what is not in it any more is refused", 126, "whitelist", "true")
		write("/usr/bin/true\n", 0o666)
		server.process.send_signal(signal.SIGHUP)
		tap.result("a bad one is told", wait_for(lambda: "stays as it was" in server.said()), server.said())
		gives("and the old one stays", 0, "", "env")


def copy(program, name, mode=0o755):
	path = f"{safe}/{name}"
	shutil.copy(program, path)
	os.chmod(path, mode)
	return path


def sha256(path):
	with open(path, "rb") as f:
		return hashlib.sha256(f.read()).hexdigest()


def refused(name, words, *argv, before=()):
	gives(name, 126, words, *argv, before=before)


def arguments():
	write("echo arg=info arg=/srv/*.img\necho arg=say arg=...\necho arg=two\\040words\n/usr/bin/printf args=none\n"
	      "/usr/bin/env arg=/usr/bin/env arg=**\n")
	with Server() as server:
		gives("arg=: as many arguments, each as its pattern says", 0, "info /srv/a b.img", "echo", "info", "/srv/a b.img")
		gives("another line of the same program", 0, "say", "echo", "say")
		gives("arg=... is any others", 0, "say ../x -y", "echo", "say", "../x", "-y")
		gives("a blank in a pattern", 0, "two words", "echo", "two words")
		for name, argv in (("one argument fewer", ["info"]), ("one more", ["info", "/srv/a.img", "/srv/b.img"]), ("none", []),
				   ("another", ["info", "/etc/a.img"]), ("a directory below, which * does not match", ["info", "/srv/x/a.img"]),
				   ("the way out", ["info", "/srv/../a.img"]), ("two in one word", ["info /srv/a.img"]),
				   ("one word in two", ["two", "words"]), ("an empty one before", ["", "info", "/srv/a.img"])):
			refused(f"arguments that are not as a line says are refused: {name}", "its arguments are not among those", "echo", *argv)
		refused("args=none", "(line 4)", "/usr/bin/printf", "secret-word")
		gives("args=none allows the program alone", 1, "missing operand", "/usr/bin/printf")
		gives("** is any argument", 0, "", "/usr/bin/env", "/usr/bin/env", "A=../x")
		tap.result("what is not allowed is in the log, but no argument",
			   "/usr/bin/printf: its arguments are not among those" in server.said() and "secret-word" not in server.said(),
			   server.said())
		long = "x" * 3000
		gives("a program of an endless name", 127, "not found", long)
		tap.result("is in the log with the reason", wait_for(lambda: f"{long[:200]} refused (127): {long[:300]}: not found"
								   in server.said()), server.said())


def who_asks():
	def group(uid, gid, more):
		return ["setpriv", f"--reuid={uid}", f"--regid={gid}", f"--groups={more}" if more else "--clear-groups"]

	write("id gid=1000,44\nwhoami uid=1000 gid=44\n")
	with Server():
		for uid, gid, more, program, good in ((1001, 1000, "", "id", True), (1001, 7, "8,44", "id", True),
						      (1001, 7, "8,45", "id", False), (0, 0, "", "id", False),
						      (1000, 44, "", "whoami", True), (1000, 45, "", "whoami", False),
						      (1001, 44, "", "whoami", False)):
			gives(f"gid=: {program} for uid {uid}, gid {gid}, groups {more or 'none'}", 0 if good else 126,
			      "" if good else f"uid {uid} as uid {uid}", program, before=group(uid, gid, more))
		refused("gid= is about who asks, not about whom it runs as", "uid 0 as uid 65534", "--user", "nobody", "id")


def environment():
	write("env env=A,B_*\n/usr/bin/printenv env=none\nid\n")
	with Server() as server:
		gives("env=: a name of the list", 0, "A=1", "--env", "A=1", "env")
		gives("one that begins so", 0, "B_X=1", "--env", "B_X=1", "env")
		refused("no other", "pass it C (line 1)", "--env", "C=hidden", "env")
		refused("nor one of several", "pass it AB (line 1)", "--env", "A=1", "--env", "AB=hidden", "env")
		refused("env=none: none", "pass it A (line 2)", "--env", "A=hidden", "/usr/bin/printenv")
		gives("but what goes along unasked", 0, "C.UTF-8", "printenv", "LANG", before=["env", "LANG=C.UTF-8"])
		tap.result("no value is in the log", "hidden" not in server.said(), server.said())
		for name in "PATH", "LD_PRELOAD", "TAR_OPTIONS":
			refused(f"without env= {name} is refused all the same", name, "--env", f"{name}=/x", "id")
		many = [word for i in range(5000) for word in ("--env", f"V{i}=")]
		gives("5000 variables are too many", 125, "variables", *many, "id")


def digests():
	good, other = copy("/usr/bin/echo", "good"), copy("/usr/bin/id", "other")
	script = f"{safe}/script"
	with open(script, "w", encoding="utf-8") as f:
		f.write("#!/bin/sh\necho script\n")
	os.chmod(script, 0o755)
	nobody = "0" * 64
	write(f"{good} sha256={nobody},{sha256(good)}\n{other} sha256={nobody}\n{script} sha256={sha256(script)}\n"
	      f"/usr/bin/id sha256={nobody} arg=-u\n/usr/bin/id arg=-u\nreadlink sha256={sha256('/usr/bin/readlink')}\n")
	with Server() as server:
		said = server.said()
		tap.result("what will be refused is told at the start", f":2: {other}: its SHA-256" in said and f":3: {script}" in said and
			   f"{good}:" not in said, said)
		gives("sha256= of this file: it is started", 0, "a  b", good, "a  b")
		gives("it is the file itself", 0, "/usr/bin/readlink", "readlink", "/proc/self/exe")
		refused("of another file", "SHA-256 (line 2)", other)
		refused("a script", "ELF", script)
		gives("another line may allow it", 0, "0", "id", "-u")
		refused("a line without is for its own arguments only", "arguments", "id", "-g")
		with open(good, "r+b") as f:
			refused("while somebody has it open for writing", "open for writing", good)
			mapped = mmap.mmap(f.fileno(), 0)
		refused("or mapped", "open for writing", good)
		mapped.close()
		gives("and is started when nobody has", 0, "x", good, "x")
		write_waits(server)
		shutil.copy("/usr/bin/id", good)
		refused("another file's contents", "SHA-256 (line 1)", good)
		tap.result("refusals for the file are in the log", f"{good} refused (126): {good}: the file is not the one" in server.said(),
			   server.said())


def write_waits(server):
	"""The descriptor that was read is closed once the program runs: only that keeps the file."""
	sleeper = copy("/usr/bin/sleep", "sleeper")
	write(f"{sleeper} sha256={sha256(sleeper)}\n")
	server.process.send_signal(signal.SIGHUP)
	wait_for(lambda: "read again" in server.said())
	process = subprocess.Popen([BIN + "/rexec", "--local", sleeper, "60"], stdin=subprocess.DEVNULL,
				   env={**os.environ, "REXEC_RUNTIME_DIR": run_dir})
	tap.result("a program that is held to its SHA-256 runs", wait_for(lambda: f"started {sleeper}" in server.said()), server.said())
	try:
		os.close(os.open(sleeper, os.O_WRONLY | os.O_NONBLOCK))
		error = None
	except OSError as e:
		error = e.strerror
	tap.result("to write to it then is ETXTBSY at once", error == "Text file busy", error)
	process.terminate()
	process.wait()
	os.unlink(sleeper)
	shutil.copy("/usr/bin/id", f"{safe}/other")
	good = safe + "/good"
	write(f"{good} sha256={sha256(good)}\nid\n")
	server.process.send_signal(signal.SIGHUP)
	wait_for(lambda: server.said().count("read again") == 2)


def contested(how, put):
	"""Somebody changes the file all the time, now to the allowed program, now to another."""
	name = copy("/usr/bin/echo", "contested")
	with open(name, "rb") as f:
		right = f.read()
	with open("/usr/bin/printf", "rb") as f:
		wrong = f.read()
	write(f"{name} sha256={sha256(name)}\n")
	over = threading.Event()

	def contend():
		while not over.is_set():
			put(name, wrong)
			time.sleep(random.random() / 500)
			put(name, right)
			time.sleep(random.random() / 100)

	ran = refusals = 0
	strange = []
	with Server("--test-mode") as server:
		thread = threading.Thread(target=contend)
		thread.start()
		until = time.monotonic() + 60
		# What echo prints and printf does not.
		while (ran < 150 or refusals < 150) and time.monotonic() < until and not strange:
			status, said = rexec(name, "a", "b")
			if (status, said) == (0, "a b\n"):
				ran += 1
			elif status == 126 and any(word in said for word in ("SHA-256", "writing", "ELF", "Text file busy")):
				refusals += 1
			else:
				strange.append((status, said))
		over.set()
		thread.join()
		tap.result(f"a file that is {how} all the time is started as it was read or not at all",
			   not strange and ran >= 50 and refusals >= 50, (strange, ran, refusals, server.said()[-4000:]))


def put_in_place(name, content):
	# Waits for a lease, and is refused while the program runs.
	try:
		with open(name, "r+b", buffering=0) as f:
			f.write(content)
			f.truncate()
	except OSError:
		time.sleep(0.001)


def put_anew(name, content):
	with open(name + ".new", "wb") as f:
		f.write(content)
	os.chmod(name + ".new", 0o755)
	os.rename(name + ".new", name)


def replaced():
	path = copy("/usr/bin/echo", "replaced")
	write(f"{path} sha256={sha256(path)}\n")
	tap.result("--check finds the file as it should be", check(whitelist)[0] == 0, check(whitelist))
	with Server() as server:
		copy("/usr/bin/id", "new")
		os.rename(safe + "/new", path)
		refused("replaced since, it is refused", "SHA-256", path)
		tap.result("and --check says so", check(whitelist)[0] == 2 and f"{whitelist}:1: {path}: its SHA-256" in check(whitelist)[1],
			   check(whitelist))
		tap.result("the log does, too", "by its SHA-256 (line 1)" in server.said(), server.said())


def check(file, *options):
	result = subprocess.run([BIN + "/rexec_server", *(options or ["--test-mode=no"]), "--check", file], stdout=subprocess.PIPE,
				stderr=subprocess.STDOUT, check=False, timeout=20)
	return result.returncode, result.stdout.decode()


def checks():
	def says(name, status, *words):
		got, said = check(whitelist)
		tap.result(f"--check: {name}", got == status and all(word in said for word in words), (got, said))

	write(f"# good\n/usr/bin/true\nid uid=0,1000 gid=44 user=0 arg=-u arg=... env=A,B* sha256={sha256('/usr/bin/id')}\n"
	      "echo args=none\n")
	says("a good list, and what it allows", 0, f"{whitelist}: good, 3 lines", "line 2: /usr/bin/true for everybody\n",
	     "line 3: id for uid 0, 1000 in group 44; as user 0; arguments '-u', then any; variables A,B*; by SHA-256\n",
	     "line 4: echo for everybody; no arguments\n")
	write(f"/usr/bin/true\nx y\ntrue uid=no-such-user\n/no/such/program\ntrue arg=[\n{place}/loose\n/etc/passwd\n"
	      "true env=LD_PRELOAD\nbin/true\ntrue sha256=" + "0" * 64 + "\n/bin\n")
	says("all that is wrong, line by line", 2, *(f"{whitelist}:{line}: " for line in (2, 3, 4, 5, 6, 7, 8, 9, 10, 11)),
	     f"{whitelist}: 10 problems", "no-such-user", "changed by others", "not an executable file", "LD_PRELOAD is never passed on",
	     "relative path", "its SHA-256 is another", "there is no such file: install it", "line 1: /usr/bin/true for everybody")
	tap.result("a good line is none of them", f"{whitelist}:1:" not in check(whitelist)[1], check(whitelist))
	write("true\n", 0o644)
	says("a list of a wrong mode", 2, "chmod 0400")
	write("true\n", 0o400, 1000)
	says("another user's", 2, "chown root")
	write(None)
	says("none", 2, "no such file")
	write("")
	says("an empty one", 0, "nothing is allowed")
	write(f"{place}/loose\n")
	tap.result("--check in test mode: as the server would", check(whitelist, "--test-mode")[0] == 0, check(whitelist, "--test-mode"))


def ways():
	"""What an entry names, and what is asked for, is not made another file by whoever may move a link."""
	others = tempfile.mkdtemp(prefix="rexec.", dir="/var/tmp")
	os.chown(others, 1000, 1000)
	os.chmod(others, 0o755)
	os.symlink("/usr/bin", others + "/link")
	os.symlink(others + "/link", safe + "/way")
	os.symlink("/usr/bin", safe + "/short")
	os.symlink("loop", safe + "/loop")
	write(f"{safe}/way/true\n{safe}/short/id\n{safe}/loop\n{others}/link/whoami\n")
	with Server():
		refused("a line whose way others can change allows nothing", "can be changed by others", "/usr/bin/true")
		refused("asked for by that way, neither", "can be changed by others", f"{safe}/way/true")
		refused("nor one that begins there", "can be changed by others", "whoami")
		gives("a way of root's links is good", 0, "uid=0", "/usr/bin/id")
		refused("a file asked for by a way that others can change is refused", "can be changed by others", f"{others}/link/id")
		refused("a link to itself", "", f"{safe}/loop")
	evil = copy("/usr/bin/echo", "evil")
	write("/usr/bin/true\n")
	# In a mount namespace of its own /proc/PID/root is "/" by its text, and another file is there.
	script = f"mount --bind {evil} /usr/bin/true && echo && exec sleep 60"
	with Server("--test-mode"), subprocess.Popen(["unshare", "--mount", "--propagation", "private", "sh", "-c", script],
						     stdout=subprocess.PIPE) as process:
		process.stdout.readline()
		status, said = rexec(f"/proc/{process.pid}/root/usr/bin/true", "evil")
		tap.result("in test mode, too, the file of another mount namespace is not started", "evil" not in said, (status, said))
		process.kill()
	shutil.rmtree(others)


def ask_expanded(argv):
	"""Was it started? Its arguments name the session's directory as @DIR@."""
	return keeperclient.Session(run_dir, argv, flags=keeperclient.EXPAND).pid is not None


def expanded():
	"""Patterns are for what the program gets, not for what stands for it."""
	write(f"/usr/bin/true arg={run_dir}/sessions/*/key\n/usr/bin/false arg=@DIR@/key\n/usr/bin/id arg=@*\n")
	with Server() as server:
		tap.result("@DIR@ is matched as the directory that it becomes", ask_expanded(["/usr/bin/true", "@DIR@/key"]), server.said())
		tap.result("and not as its letters", not ask_expanded(["/usr/bin/false", "@DIR@/key"]), server.said())
		tap.result("nor by what begins like them", not ask_expanded(["/usr/bin/id", "@DIR@/key"]), server.said())


def followed():
	"""qtcfg, and a server that follows its list or says why not."""
	config = place + "/etc"
	own_list = config + "/rexec/whitelist"
	os.makedirs(config + "/rexec")
	with open(own_list, "w", encoding="utf-8") as f:
		f.write("true\n")
	os.chmod(own_list, 0o400)

	def qtcfg(*argv):
		result = subprocess.run([BIN + "/qtcfg", "--config-dir", config, "--runtime-dir", run_dir, "-w", "rexec", *argv],
					stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False, timeout=30)
		return result.returncode, result.stdout.decode()

	def does(name, status, words, *argv):
		got, said = qtcfg(*argv)
		tap.result(f"qtcfg {name}", got == status and words in said, (got, said))

	with Server("--test-mode=no", "--whitelist", own_list) as server:
		does("adds a line with a pattern", 0, "", "-x", "echo", "-o", "arg=h*")
		gives("when it is done, the server follows", 0, "hi", "echo", "hi")
		refused("with the pattern", "arguments", "echo", "no")
		does("shows it", 0, "1  echo arg=h*", "-z")
		does("adds a second line for it", 0, "with other options: entry 1", "-x", "echo", "-o", "arg=no")
		gives("which the server follows, too", 0, "no", "echo", "no")
		does("writes no line that is not valid", 2, "colour=red is no option", "-x", "id", "-o", "colour=red")
		gives("so all is as it was", 0, "hi", "echo", "hi")
		does("deletes", 0, "", "-y", "1")
		refused("and the server follows", "arguments", "echo", "hi")
		with open(own_list + ".new", "w", encoding="utf-8") as f:
			f.write("id colour=red\n")
		os.chmod(own_list + ".new", 0o400)
		os.rename(own_list + ".new", own_list)
		server.process.send_signal(signal.SIGHUP)
		tap.result("a bad line of an editor's is told with its number", wait_for(lambda: f"{own_list}:1: colour=red" in server.said() and
										 "stays as it was" in server.said()), server.said())
		mode = os.stat(run_dir + "/rexec_server.reload").st_mode & 0o777
		tap.result("what is wrong with it is for root to read", mode == 0o600, oct(mode))
		gives("and the old list is in force", 0, "no", "echo", "no")
		does("does not add to it", 6, "nothing was changed", "-x", "id")
		does("deletes it", 0, "nothing is allowed", "-y", "0")
		refused("which the server follows", "not on", "echo", "no")
		server.process.send_signal(signal.SIGSTOP)
		does("says when the server does not answer", 7, "no answer in time", "-x", "true")
		server.process.send_signal(signal.SIGCONT)
		tap.result("which it may do later", wait_for(lambda: rexec("true")[0] == 0), server.said())
	tap.result("what it said goes with it", not [name for name in os.listdir(run_dir) if name.startswith("rexec_server")],
		   os.listdir(run_dir))
	write("id\n")
	with Server() as server:
		with open(run_dir + "/rexec_server.pid", encoding="ascii") as f:
			said = f.read()
		tap.result("its pid file holds its pid alone", said == f"{server.process.pid}\n", said)
		write("true\n", 0o444)
		does("says when the server kept its old list, and why", 7, "chmod 0400", "-x", "whoami")
		gives("as it did", 0, "uid=0", "id")


def missing_and_empty():
	for options, text, name, status in (
		([], None, "no whitelist allows nothing", 126),
		(["--test-mode"], None, "no whitelist in test mode allows everything", 0),
		([], "", "an empty whitelist allows nothing", 126),
		(["--test-mode"], "# nothing\n", "in test mode, too", 126),
	):
		write(text)
		with Server(*options) as server:
			gives(name, status, "", "/usr/bin/true")
			if status == 0:
				tap.result("with a warning", "EVERY program" in server.said(), server.said())


def usage():
	for argv, words in ((["surplus"], "surplus"), (["--nonsense"], "nonsense"), (["--log-level", "x"], "--log-level x"),
			    (["--test-mode=x"], "--test-mode x")):
		result = subprocess.run([BIN + "/rexec_server", *argv], stderr=subprocess.PIPE, check=False, timeout=10)
		tap.result(f"rexec_server {' '.join(argv)} is bad usage: 2", result.returncode == 2 and
			   words in result.stderr.decode(), result)


def hostile_clients():
	write("/usr/bin/true\n")
	code = f"""
import socket, sys
s = socket.socket(1); s.connect({run_dir!r} + '/rexec.sock'); s.sendall(bytes.fromhex(sys.argv[1]))
s.shutdown(1); s.settimeout(5); sys.stdout.buffer.write(s.recv(1000))
"""
	with Server() as server:
		for name, words in (("nothing", ""), ("noise", "ff" * 100), ("a length of 4 GiB", "ffffffff01" + "00" * 20),
				    ("a length of 4 MiB and no more", "0040000001"), ("a wrong magic", "0000000801" + "41" * 8)):
			started = time.monotonic()
			subprocess.run([sys.executable, "-c", code, words], stdout=subprocess.PIPE, check=True, timeout=20)
			tap.result(f"a client that sends {name} is hung up on at once", time.monotonic() - started < 2)
		subprocess.run(["setpriv", "--reuid=1000", sys.executable, "-c", code, "ff" * 100], stdout=subprocess.PIPE, check=True,
			       timeout=20)
		tap.result("and what was malformed is logged with who sent it", wait_for(lambda: re.search(
			r"uid 1000 \(pid \d+\): \? refused \(125\): malformed", server.said())), server.said())
		gives("the server serves on", 0, "", "true")
		tap.result("and lives", server.process.poll() is None)


def other_users_server():
	"""A server that is not root's serves its own user."""
	run = place + "/own-run"
	os.mkdir(run)
	os.chown(run, 1000, 1000)
	user = ["setpriv", "--reuid=1000", "--regid=1000", "--clear-groups"]
	server = subprocess.Popen([*user, BIN + "/rexec_server", "--test-mode", "--runtime-dir", run, "--whitelist",
				   place + "/none"], stderr=subprocess.DEVNULL)
	wait_for(lambda: os.path.exists(run + "/rexec.sock"))
	env = {**os.environ, "REXEC_RUNTIME_DIR": run}
	result = subprocess.run([*user, BIN + "/rexec", "--local", "id", "-u"], env=env, stdout=subprocess.PIPE, check=False)
	tap.result("a server of another user's serves that user", (result.returncode, result.stdout) == (0, b"1000\n"), result)
	result = subprocess.run([BIN + "/rexec", "--local", "id", "-u"], env=env, stderr=subprocess.PIPE, check=False)
	tap.result("and nobody else", result.returncode == 126 and b"uid 1000" in result.stderr, result)
	server.terminate()
	server.wait()


def main():
	try:
		bad_files()
		listed()
		arguments()
		who_asks()
		environment()
		digests()
		replaced()
		contested("written", put_in_place)
		contested("replaced", put_anew)
		ways()
		expanded()
		checks()
		followed()
		missing_and_empty()
		usage()
		hostile_clients()
		other_users_server()
	finally:
		shutil.rmtree(place)
		shutil.rmtree(safe)
	tap.done()


main()
