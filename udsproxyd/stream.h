/* SPDX-License-Identifier: Apache-2.0 */
/*
 * stream.h - the counted frames of one connection, which outlive the transport that carries them
 *
 * Each direction of a connection is a stream of bytes, those of its counted frames, numbered from 0
 * (PROTOCOL.md, section 6). What goes out is kept until the peer has acknowledged it; what comes
 * in is counted as it leaves the transport. So when a transport breaks, each side knows from which
 * byte on it has to be sent again on the next.
 *
 *	        kept       acked              sent            end
 *	out:     |  frame    |  frame  |  frame |  frame  |  frame |
 *	         freed at    delivered  on its    not yet given to
 *	         frame ends  over there way       the kernel
 *
 *	        told        delivered           received
 *	in:      |            |                   |
 *	         acknowledged  taken by the       off the transport
 *	                       local end
 *
 * The payload of a large frame may lie elsewhere (bulk.h): only its length is known here then, until it is
 * needed a second time.
 *
 * Pure: no I/O, no clock; memory by malloc, counted in a budget.
 */
#ifndef STREAM_H
#define STREAM_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "frame.h"

/* How much all connections of a daemon keep. */
struct stream_budget {
	size_t limit;
	atomic_size_t used;
};

struct stream_chunk;

/* Chunks at rest, and the one that is being read to; a thread's. */
struct stream_pool {
	struct stream_budget *budget;
	struct stream_chunk *rest[2]; /* small ones, large ones */
	unsigned n_rest[2];
	struct stream_chunk *reserved;
};

struct stream_out {
	struct stream_pool *pool;
	struct stream_chunk *first, *last;
	struct stream_chunk *cursor; /* where `sent` is; NULL: before `first`'s first byte */
	uint32_t first_at;	     /* offset of `kept` in `first` */
	uint32_t cursor_at;	     /* of `sent` in `cursor` */
	uint32_t frame_left;	     /* bytes not sent of the frame that `sent` is in the middle of */
	uint32_t outside;	     /* bytes of payload that lie elsewhere */
	uint32_t forgotten;	     /* of those that did, were acknowledged, and may go: the caller's to reset */
	uint64_t kept;		     /* a frame's first byte: those before are acknowledged and gone */
	uint64_t acked;
	uint64_t sent;
	uint64_t reached;	     /* at most, before a rewind that may have gone too far back */
	uint64_t end;
};

struct stream_in {
	uint64_t received;
	uint64_t delivered;
	uint64_t told;
	uint32_t left;	   /* bytes of the current frame that have not come yet */
	uint32_t came;	   /* bytes of it that have */
	bool counted;	   /* it is part of the stream, */
	bool direct;	   /* and each of its bytes counts as it comes: DATA */
	bool packets;	   /* never so: a packet counts when all of it is there */
	bool over;	   /* END or ABORT has come: what follows is another connection's */
	bool aborted;	   /* it was ABORT */
	bool heard;	   /* any frame has come */
	uint8_t head_len;
	uint8_t head[WIRE_HEADER]; /* a header, as far as it has come */
};

/* ---- memory ----------------------------------------------------------------------------- */

/* One read from a local end, and so one DATA frame at most. */
#define STREAM_READ_MAX 131072u
_Static_assert(STREAM_READ_MAX <= WIRE_PAYLOAD_MAX, "a frame holds what is read at once");

void stream_pool_init(struct stream_pool *pool, struct stream_budget *budget);
void stream_pool_free(struct stream_pool *pool);

/* ---- out -------------------------------------------------------------------------------- */

/** stream_out_init() - @pool must be there for longer */
void stream_out_init(struct stream_out *o, struct stream_pool *pool);
/** stream_out_free() - forget all that is kept */
void stream_out_free(struct stream_out *o);

/** stream_room() - how many more bytes may be framed now? 0: not before something is acknowledged (a small rest of a
 * window is not used: what is large goes in large pieces).
 * A connection that keeps nothing may always go on. */
size_t stream_room(const struct stream_out *o);
/** stream_reserve() - room for the payload of the next frame: at most @want bytes (STREAM_READ_MAX at most), as
 * *@len then says; valid until anything else is asked of the pool. NULL: out of memory. */
uint8_t *stream_reserve(struct stream_out *o, size_t want, size_t *len);
/** stream_commit() - the frame whose @n bytes of payload were written there; without it nothing happened */
void stream_commit(struct stream_out *o, uint8_t type, uint64_t ack, size_t n);
/** stream_add() - a frame with a copy of its payload; 0 or -ENOMEM and nothing was added */
int stream_add(struct stream_out *o, uint8_t type, uint16_t count, uint64_t ack, const struct iovec *iov,
	       int n);

/** stream_add_outside() - a DATA frame whose @n bytes of payload lie outside, behind those of the frames before it
 * that do; 0 or -ENOMEM and nothing was added */
int stream_add_outside(struct stream_out *o, uint64_t ack, size_t n);

/** stream_unsent() - what is to be sent next, in at most @max pieces, up to a payload that lies outside; Return: how
 * many */
int stream_unsent(const struct stream_out *o, struct iovec *iov, int max);
/** stream_unsent_outside() - bytes that are to be sent next and lie outside; 0: none do, ask stream_unsent() */
size_t stream_unsent_outside(const struct stream_out *o);
/** stream_ends_outside() - does a payload that lies outside follow what stream_unsent() tells of? */
bool stream_ends_outside(const struct stream_out *o);
/** stream_bring_inside() - make room for the payload that has lain outside for longest.
 * Return: where its *@len bytes have to be written at once, in order; NULL and *@len 0: all are inside; NULL
 * otherwise: out of memory. */
uint8_t *stream_bring_inside(struct stream_out *o, size_t *len);
/** stream_sent() - @n bytes of it were */
void stream_sent(struct stream_out *o, size_t n);
/** stream_frame_left() - bytes not sent of a frame that was begun; 0: an uncounted one may go here */
size_t stream_frame_left(const struct stream_out *o);
/** stream_acked() - the peer has delivered so many; false when they were never sent */
bool stream_acked(struct stream_out *o, uint64_t ack);
/** stream_rewind() - go on sending at byte @received of the stream, all of which is inside; false when that is not one
 * that can be sent (again). An attempt to resume that was given up may be read late: it goes too far back, and the next one
 * forth again. */
bool stream_rewind(struct stream_out *o, uint64_t received);

/* ---- in --------------------------------------------------------------------------------- */

/**
 * stream_walk() - look at @len bytes that came off the transport: count, and take acks into @o
 * Return: 0, or -EPROTO for what no peer may send.
 */
int stream_walk(struct stream_in *in, struct stream_out *o, const uint8_t *data, size_t len);
/** stream_walked() - @n bytes of the current frame's payload came, and are not here to be looked at */
void stream_walked(struct stream_in *in, size_t n);
/** stream_cut() - the transport is broken: Return: how many of the bytes that came last belong to a frame
 * that will be sent again from its beginning, as an END is, which was not acted on. What comes next is a frame's
 * beginning, or the rest of DATA. */
size_t stream_cut(struct stream_in *in);
/** stream_ack() - the value for the next frame's ack, which is told with it */
uint64_t stream_ack(struct stream_in *in);
/** stream_ack_due() - was so much delivered since the last that an ACK should go by itself? */
bool stream_ack_due(const struct stream_in *in);

#endif
