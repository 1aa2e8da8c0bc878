# SPDX-License-Identifier: Apache-2.0
"""tap and tun interfaces: of the network namespace that makes them."""

import fcntl
import json
import os
import struct
import subprocess

DEVICE = "/dev/net/tun"
IFF_TUN, IFF_TAP, IFF_MULTI_QUEUE, IFF_NO_PI, IFF_VNET_HDR = 1, 2, 0x100, 0x1000, 0x4000
TUNSETIFF, TUNGETIFF, TUNGETVNETHDRSZ, TUNSETVNETHDRSZ = 0x400454ca, 0x800454d2, 0x800454d7, 0x400454d8


def there_is_tun():
	try:
		os.close(os.open(DEVICE, os.O_RDWR))
		return True
	except OSError:
		return False


def interface(name, flags, header=0, nonblocking=False):
	"""The descriptor of a new interface, or another queue of it."""
	fd = os.open(DEVICE, os.O_RDWR | (os.O_NONBLOCK if nonblocking else 0))
	try:
		fcntl.ioctl(fd, TUNSETIFF, struct.pack("16sH22x", name.encode(), flags))
		if header:
			fcntl.ioctl(fd, TUNSETVNETHDRSZ, struct.pack("i", header))
	except OSError:
		os.close(fd)
		raise
	return fd


def seen(fd):
	"""Its name, flags (but IFF_NO_PI, whose bit says something else there), and the size of its vnet header."""
	name, flags = struct.unpack("16sH22x", fcntl.ioctl(fd, TUNGETIFF, bytes(40)))
	header = struct.unpack("i", fcntl.ioctl(fd, TUNGETVNETHDRSZ, bytes(4)))[0]
	return name.rstrip(b"\0").decode(), flags & ~IFF_NO_PI, header


def has_pi(name):
	"""Does what is read from this network's interface begin with four bytes of packet information?"""
	said = subprocess.run(["ip", "-json", "-details", "link", "show", name], capture_output=True, check=True)
	return json.loads(said.stdout)[0]["linkinfo"]["info_data"]["pi"]
