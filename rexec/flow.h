/* SPDX-License-Identifier: Apache-2.0 */
/*
 * flow.h - bytes, and the descriptors that come with them, in one direction
 *
 * From a socket, pipe, terminal or file to another. What the target does not take at once
 * is queued; nothing more is read while FLOW_HIGH_WATER is queued, so a slow reader stalls
 * its own writer and nothing else. Descriptors' flags are never changed: sockets are used
 * with MSG_DONTWAIT, everything else only after poll(2); give it descriptors that are
 * nonblocking on their own where poll(2) is not enough (flow_reopen()).
 */
#ifndef FLOW_H
#define FLOW_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "fdpass.h"
#include "loop.h"

#define FLOW_READ_MAX 65536u	/* bytes read at a time (packet sockets: FLOW_PACKET_MAX) */
#define FLOW_PACKET_MAX 262144u /* a larger packet ends the flow */
#define FLOW_HIGH_WATER 131072u /* queued bytes at which reading pauses */

struct flow;
struct flow_chunk;

struct flow_hooks {
	/*
	 * Bytes were read. NULL: flow_send() them. Otherwise the hook calls flow_send() itself,
	 * now or later, as often as it likes, with what it likes. @fds: what it does not take or
	 * send is closed after the call. Of a packet socket: one call is one packet.
	 */
	void (*data)(struct flow *f, const void *bytes, size_t n, struct fdset *fds);
	/*
	 * The source ended (@error 0) or broke (-errno); all that was read has been handed on.
	 * NULL: flow_shut(), so that the target sees the end after the last byte. A hook that
	 * keeps the end back calls flow_shut() later.
	 */
	void (*eof)(struct flow *f, int error);
	/*
	 * The target takes no more (-EPIPE and the like). NULL: the flow is over, what is queued is
	 * lost. With a hook it goes on without a target, see flow_retarget().
	 */
	void (*lost)(struct flow *f, int error);
	/*
	 * The flow is over: all was delivered and then shut (@error 0), or the target is gone, or
	 * there was no memory. Called once, at the end of a turn of the loop; may free the flow.
	 * Required.
	 */
	void (*closed)(struct flow *f, int error);
};

struct flow {
	struct loop *loop;
	int from, to; /* borrowed; -1 none */
	bool from_socket, to_socket, from_packets, to_packets, to_nonblocking;
	bool source_ended; /* nothing more is read */
	bool shut;	   /* nothing more is queued; over when the queue is empty */
	bool over;	   /* closed() was, or is about to be called */
	int error;
	size_t queued; /* bytes read and not delivered; when over: never to be delivered */
	size_t hold;   /* see flow_hold() */
	uint64_t dropped;
	struct flow_chunk *head, **tail;
	struct loop_io in, out;
	struct loop_timer ending;
	const struct flow_hooks *hooks;
	void *arg;
};

/**
 * flow_start() - carry bytes @from → @to (both borrowed; the caller closes them in, or after,
 * closed()). @hooks is borrowed for as long; @arg is found in f->arg. @to may be -1, see
 * flow_retarget().
 */
void flow_start(struct flow *f, struct loop *l, int from, int to, const struct flow_hooks *hooks,
		void *arg);
/** flow_stop() - forget everything queued, close descriptors in the queue; closed() is not called
 */
void flow_stop(struct flow *f);

/** flow_send() - queue @n bytes with the descriptors in @fds (may be NULL; they are taken) */
void flow_send(struct flow *f, const void *bytes, size_t n, struct fdset *fds);
/** flow_shut() - the target is to see the end when the queue is empty; closed() follows */
void flow_shut(struct flow *f);

/** flow_hold() - while there is no target go on reading, and keep about the last @bytes of it */
void flow_hold(struct flow *f, size_t bytes);
/** flow_retarget() - deliver to @to from now on, a note of what was dropped first; -1: to nobody
 * for the time being */
void flow_retarget(struct flow *f, int to);
/** flow_put_back() - deliver these @n bytes before what is queued: the former target has not had them */
void flow_put_back(struct flow *f, const void *bytes, size_t n);
/** flow_drain() - read what is there, without waiting; true when the source had no more just now
 * and everything read was delivered (or cannot be) */
bool flow_drain(struct flow *f);

/**
 * flow_reopen() - the same pipe or terminal as @fd with an open file description of its own,
 * nonblocking; @fd's flags stay as they are. Return: a descriptor, or a dup of @fd where the
 * kernel refuses; -errno when even that fails.
 */
int flow_reopen(int fd, int access_mode);

#endif
