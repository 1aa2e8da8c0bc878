/* SPDX-License-Identifier: Apache-2.0 */
/*
 * outlet.h - a listening socket here that stands for one of QEMU's on the HOST
 *
 * Inherited, or made at the path at which others look for it. Each client that it accepts is
 * joined to QEMU by a connection of its own; that QEMU serves them one after the other is
 * QEMU's business.
 */
#ifndef OUTLET_H
#define OUTLET_H

#include <stdbool.h>

#include "connection.h"

#define OUTLET_CLIENTS_MAX 64 /* more wait in the backlog */

struct outlet;

struct outlets {
	struct connection_setting setting;
	/** a socket to QEMU's twin of inherited descriptor @number, or to its own socket @name
	 * (when not NULL); a negative errno */
	int (*dial)(void *arg, int number, const char *name);
	void *arg;
	struct outlet *list;
};

/** outlet_inherited() - listen on @fd (borrowed), known to QEMU as descriptor @number. 0 or -ENOMEM
 */
int outlet_inherited(struct outlets *all, int fd, int number, enum argv_channel channel);

/**
 * outlet_at_path() - listen at @path for QEMU's @name (both copied)
 * A socket that is there is replaced, as QEMU does. Return: 0, or a negative errno.
 */
int outlet_at_path(struct outlets *all, const char *path, const char *name,
		   enum argv_channel channel);

/**
 * outlets_await_monitor() - give libvirt the time to connect to its monitor, at most @timeout_ms
 * When QEMU fails at once, libvirt reports QEMU's words only if it was connected and then sees the
 * end. No-op without an inherited monitor, or when it had a client already.
 */
void outlets_await_monitor(const struct outlets *all, int timeout_ms);

/** outlets_finish() - QEMU has ended: accept nobody, unlink what was made, finish the connections
 */
void outlets_finish(struct outlets *all);
/** outlets_idle() - no connection is left */
bool outlets_idle(const struct outlets *all);
/** outlets_free() - hang up on everybody; only after outlets_finish() */
void outlets_free(struct outlets *all);

#endif
