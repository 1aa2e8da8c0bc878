#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""A client of libvirt as oVirt's VDSM is one: an event loop in a thread of its own, lifecycle
callbacks, keepalives, a callback for the end of the connection.

	lifecycle.py URI <machine.xml

Takes a machine from define to undefine, waits for the event of each step, and then for the end of the
connection. Prints a line for each event; exit status 1 when one does not come.
"""

import queue
import sys
import threading

import libvirt

EVENTS = {
	libvirt.VIR_DOMAIN_EVENT_DEFINED: "defined",
	libvirt.VIR_DOMAIN_EVENT_UNDEFINED: "undefined",
	libvirt.VIR_DOMAIN_EVENT_STARTED: "started",
	libvirt.VIR_DOMAIN_EVENT_SUSPENDED: "suspended",
	libvirt.VIR_DOMAIN_EVENT_RESUMED: "resumed",
	libvirt.VIR_DOMAIN_EVENT_STOPPED: "stopped",
}
happened = queue.Queue()


def on_lifecycle(_connection, domain, event, _detail, _opaque):
	if event in EVENTS:
		happened.put(f"{domain.name()} {EVENTS[event]}")


def on_close(_connection, reason, _opaque):
	happened.put(f"connection closed, reason {reason}")


def expect(what):
	"""The next event is @what. A start and a resume tell more than one; others are printed, too."""
	while True:
		try:
			event = happened.get(timeout=10)
		except queue.Empty:
			sys.exit(f"no '{what}' within 10 s")
		print(event, flush=True)
		if event.startswith(what):
			return


def run_events():
	while True:
		libvirt.virEventRunDefaultImpl()


def main():
	libvirt.virEventRegisterDefaultImpl()
	threading.Thread(target=run_events, daemon=True).start()
	connection = libvirt.open(sys.argv[1])
	connection.setKeepAlive(5, 3)
	connection.registerCloseCallback(on_close, None)
	connection.domainEventRegisterAny(
		None, libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE, on_lifecycle, None)
	domain = connection.defineXML(sys.stdin.read())
	name = domain.name()
	expect(f"{name} defined")
	for act, event in (
		(domain.create, "started"),
		(domain.suspend, "suspended"),
		(domain.resume, "resumed"),
		(domain.destroy, "stopped"),
		(domain.undefine, "undefined"),
	):
		act()
		expect(f"{name} {event}")
	print("now end it", flush=True)
	expect("connection closed")


main()
