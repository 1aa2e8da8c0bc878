/* SPDX-License-Identifier: Apache-2.0 */
/*
 * conn.h - the state of one proxied connection, as one side sees it
 *
 * Pure: an event goes in, the actions to take come out; no I/O, no clock, no allocation.
 *
 *   local socket (U)                 this side                    the peer
 *   reads EOF         LOCAL_EOF  ->  SEND_SHUT                ->  shuts its U for writing
 *   cannot be written LOCAL_GONE ->  SEND_STOP                ->  shuts its U for reading
 *   SHUT_LOCAL        <-             PEER_SHUT                <-  its U read EOF
 *   STOP_LOCAL        <-             PEER_STOP                <-  its U cannot be written
 *
 * Half-close is one SHUT. When SHUT has gone both ways each side says END, and after both
 * ENDs the transport is free for the next connection. An end of the transport before that
 * is never success.
 */
#ifndef CONN_H
#define CONN_H

#include <stdbool.h>

enum conn_event {
	CONN_LOCAL_EOF,	 /* U will give no more bytes */
	CONN_LOCAL_GONE, /* U takes no more bytes: its reader is gone */
	CONN_PEER_SHUT,	 /* frames */
	CONN_PEER_STOP,
	CONN_PEER_END,
};

/* Actions, to be carried out in this order. */
enum conn_action {
	CONN_SHUT_LOCAL = 1,  /* no more bytes will be written to U: pass the EOF on */
	CONN_STOP_LOCAL = 2,  /* nobody reads what U sends: let its writers see that */
	CONN_CLOSE_LOCAL = 4, /* U has no further use */
	CONN_SEND_SHUT = 8,
	CONN_SEND_STOP = 16,
	CONN_SEND_END = 32,
	CONN_IDLE = 64,	       /* the transport is free */
	CONN_VIOLATION = 128,  /* the peer broke the protocol; nothing else that is set counts */
};

enum conn_flag {
	CONN_SHUT_SENT = 1,
	CONN_SHUT_RECEIVED = 2,
	CONN_STOP_SENT = 4,
	CONN_STOP_RECEIVED = 8,
	CONN_END_SENT = 16,
	CONN_END_RECEIVED = 32,
};

struct conn {
	unsigned flags;
};

/** conn_init() - a fresh connection */
void conn_init(struct conn *c);
/** conn_step() - one event; Return: enum conn_action bits */
unsigned conn_step(struct conn *c, enum conn_event event);
/** conn_complete() - has everything been decided, so that only ENDs are to be exchanged? */
bool conn_complete(const struct conn *c);
/** conn_reads(), conn_writes() - is U still to be read? may it still be written? */
bool conn_reads(const struct conn *c);
bool conn_writes(const struct conn *c);
/** conn_revive() - a pipe whose far end was gone was passed again, and what we said of that
 * (SHUT or STOP) crossed the pass and is void; true when anything had been said */
bool conn_revive(struct conn *c);

#endif
