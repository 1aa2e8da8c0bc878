# SPDX-License-Identifier: Apache-2.0
"""Descriptors of every kind that does not cross, and what udsproxyd calls them."""

import contextlib
import ctypes
import fcntl
import os
import pty
import select
import socket
import tempfile

F_ADD_SEALS, F_GET_SEALS = 1033, 1034
F_SEAL_SEAL, F_SEAL_SHRINK, F_SEAL_GROW, F_SEAL_WRITE, F_SEAL_FUTURE_WRITE, F_SEAL_EXEC = 1, 2, 4, 8, 16, 32
UNCHANGEABLE = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE

libc = ctypes.CDLL(None, use_errno=True)


def called(name, *args):
	"""A descriptor by a system call that this Python does not know."""
	fd = getattr(libc, name)(*args)
	if fd < 0:
		raise OSError(ctypes.get_errno(), name)
	return fd


def memfd(data, seals=0, name="memory"):
	"""A memfd that may be sealed, with these bytes, at their beginning."""
	fd = os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
	os.write(fd, data)
	os.lseek(fd, 0, os.SEEK_SET)
	if seals:
		fcntl.fcntl(fd, F_ADD_SEALS, seals)
	return fd


@contextlib.contextmanager
def refused():
	"""Pairs of what it is called and a descriptor. All are closed afterwards."""
	with contextlib.ExitStack() as stack:
		def opened(fd):
			stack.callback(os.close, fd)
			return fd

		def kept(thing):
			return stack.enter_context(thing).fileno()

		place = stack.enter_context(tempfile.TemporaryDirectory(dir="/var/tmp"))
		os.mkfifo(place + "/fifo")
		bound = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
		bound.bind(place + "/bound")
		master, slave = map(opened, pty.openpty())
		epoll = stack.enter_context(contextlib.closing(select.epoll()))
		pidfd = opened(os.pidfd_open(os.getpid()))
		yield [
			("a terminal", slave),
			("a terminal", master),
			("a device that is not listed (--device)", opened(os.open("/dev/random", os.O_RDONLY))),
			("anon_inode:[eventfd]", opened(os.eventfd(0))),
			("anon_inode:[eventpoll]", epoll.fileno()),
			("anon_inode:[timerfd]", opened(called("timerfd_create", 1, 0))),
			("anon_inode:[signalfd]", opened(called("signalfd", -1, bytes(128), 0))),
			("anon_inode:inotify", opened(called("inotify_init1", 0))),
			("pidfd", pidfd),
			("net:[", opened(os.open("/proc/self/ns/net", os.O_RDONLY))),
			("opened with O_PATH", opened(os.open("/etc", os.O_PATH))),
			("a FIFO opened for both reading and writing", opened(os.open(place + "/fifo", os.O_RDWR))),
			("a socket that is not a UNIX socket", kept(socket.socket())),
			("a socket that is not a UNIX socket", kept(socket.socket(socket.AF_NETLINK, socket.SOCK_RAW))),
			("an unconnected socket", kept(socket.socket(socket.AF_UNIX))),
			("an unconnected socket", kept(socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET))),
			("an unconnected socket", bound.fileno()),
			("an unconnected socket", kept(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))),
			("a directory below no share (--share)", opened(os.open("/etc", os.O_RDONLY))),
			("a file below no share (--share), open for writing",
			 opened(os.open(place + "/rw", os.O_RDWR | os.O_CREAT))),
			("a file below no share (--share), open for writing",
			 opened(os.open(place + "/w", os.O_WRONLY | os.O_CREAT))),
			*(("a memfd that is not sealed", opened(memfd(b"memory", seals))) for seals in (
				0, F_SEAL_WRITE, F_SEAL_WRITE | F_SEAL_GROW, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_FUTURE_WRITE)),
		]
