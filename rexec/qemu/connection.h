/* SPDX-License-Identifier: Apache-2.0 */
/*
 * connection.h - a client here, joined to a socket that QEMU listens on
 *
 * While QEMU lives the client's end stays open: a broken link is dialled again until it is
 * there, see talk.h for what that means to QMP. Other bytes that were under way are lost.
 */
#ifndef CONNECTION_H
#define CONNECTION_H

#include <stdbool.h>

#include "argv.h"
#include "cross.h"
#include "loop.h"
#include "qmp.h"

struct connection;

struct connection_hooks {
	/** a blocking socket to QEMU's, or a negative errno: asked again soon */
	int (*dial)(void *arg);
	/** the connection is closed and freed on return */
	void (*closed)(void *arg, struct connection *c);
	void *arg;
};

/* What all connections of a process share. */
struct connection_setting {
	struct loop *loop;
	struct crossing *crossing; /* for descriptors that a client sends */
	const struct qmp_names *names;
};

/**
 * connection_new() - join @client (taken, also on failure) to QEMU
 * Everything else is borrowed. Return: NULL without memory.
 */
struct connection *connection_new(const struct connection_setting *setting, int client,
				  enum argv_channel channel, const struct connection_hooks *hooks);

/**
 * connection_finish() - QEMU has ended: what it still said is delivered, then both sides are hung
 * up and closed() is called, perhaps at once
 */
void connection_finish(struct connection *c);

/** connection_close() - hang up now; closed() is called */
void connection_close(struct connection *c);

#endif
