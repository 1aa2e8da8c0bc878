/* SPDX-License-Identifier: Apache-2.0 */
/*
 * relay.h - two connected sockets made one: two flows, half-close, descriptors, packets
 *
 * An end of file of one side is shown to the other as shutdown(SHUT_WR) after the last byte;
 * the other direction goes on. When a side takes no more bytes, the other side's writer is
 * told by shutdown(SHUT_RD). When both directions are over both descriptors are closed and
 * closed() is called.
 */
#ifndef RELAY_H
#define RELAY_H

#include <stdbool.h>
#include <stddef.h>

#include "fdpass.h"
#include "flow.h"
#include "loop.h"

enum relay_side {
	RELAY_CLIENT = 0,
	RELAY_SERVER = 1,
};

struct relay;

struct relay_hooks {
	/* Bytes (of a packet socket: one packet) came from @from. NULL: relay_send() to the other
	 * side, all of it. Otherwise the hook sends what it likes, when it likes. */
	void (*data)(struct relay *r, enum relay_side from, const void *bytes, size_t n,
		     struct fdset *fds);
	/* @from sends no more (@error 0) or broke. NULL: relay_shut() of the other side. A hook
	 * may keep it back and call relay_shut() or relay_close() later. */
	void (*eof)(struct relay *r, enum relay_side from, int error);
	/* Both directions are over and both descriptors closed; the relay is freed on return. */
	void (*closed)(struct relay *r);
};

struct relay {
	struct loop *loop;
	int fd[2]; /* owned, by enum relay_side */
	struct flow from[2];
	const struct relay_hooks *hooks;
	void *arg;
	bool over[2];
};

/**
 * relay_new() - join @client and @server (taken, also on failure; sockets, or a terminal on
 * either side). @hooks may be NULL, as may each hook; borrowed.
 * Return: the relay, or NULL without memory.
 */
struct relay *relay_new(struct loop *l, int client, int server, const struct relay_hooks *hooks,
			void *arg);
/** relay_send() - queue bytes, with descriptors (may be NULL; taken), to @to */
void relay_send(struct relay *r, enum relay_side to, const void *bytes, size_t n,
		struct fdset *fds);
/** relay_shut() - show @to an end of file after what is queued for it */
void relay_shut(struct relay *r, enum relay_side to);
/** relay_close() - close both ends now and free; closed() is not called; what is queued is lost */
void relay_close(struct relay *r);
/** relay_queued() - bytes waiting for @to */
size_t relay_queued(const struct relay *r, enum relay_side to);

#endif
