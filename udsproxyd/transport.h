/* SPDX-License-Identifier: Apache-2.0 */
/*
 * transport.h - one TCP or vsock connection to the peer, and the pool of those at rest
 *
 * A transport carries one proxied connection at a time (its session), or is the control
 * link. Bytes come in as frames (frame.h), which go to whoever it carries. Bytes that the
 * receiver cannot take yet stay in `in`, and nothing more is read (but for the acks behind them,
 * when the session needs those: WIRE_WINDOW bounds it): so the kernel's flow control
 * reaches the sender. `out` holds uncounted frames that the kernel did not take; counted ones are
 * the session's (stream.h), and are sent from there.
 */
#ifndef TRANSPORT_H
#define TRANSPORT_H

#include <sys/uio.h>

#include "fifo.h"
#include "worker.h"

struct link;
struct session;

struct transport {
	union {
		LIST_ENTRY(transport) entry;
		struct grave grave;
	};
	LIST_ENTRY(transport) idle_entry;
	struct worker *worker;
	struct io io;
	struct timer timer; /* a HELLO that does not come; an ack that does not; a peer that does not close */
	bool readable;
	bool writable;
	bool ending;	/* there is an end to be read, perhaps behind other bytes */
	bool dialled;	/* by us: we may send OPEN on it */
	bool greeted;	/* HELLO received */
	bool dialling;	/* counts among the worker's n_dialling */
	bool pooled;	/* carried a connection before */
	bool in_pool;
	bool feeding; /* its frames are being handed out */
	bool doomed;  /* when `out` is empty it is shut down, and the peer closes it: transport_abort() */
	bool bulk;    /* the last DATA was large: the next may be spliced */
	bool stuck;   /* the acks that the session waits for are behind what its local end does not take */
	int fd;		    /* -1: closed, about to be freed */
	int error;	    /* errno of a write that failed, 0 */
	uint32_t data_left; /* of a DATA frame that is passed on in pieces */
	uint32_t wanted;    /* bytes that the frame at the head of `in` has in all; 0: not known */
	uint32_t acked_before; /* of what the session sent (modulo 2^32), when the timer was started for it */
	struct frame_id peer_instance;
	struct session *session; /* whom it carries, or */
	struct link *link;	 /* the control link it is */
	struct fifo in, out;
	struct fifo older; /* comes before `in`: of the transport that broke before this one */
};

/** transport_dial() - a transport of ours to the peer: a pooled one, or one that is being
 * connected. @fresh: not a pooled one. NULL with errno. */
struct transport *transport_dial(struct worker *w, bool fresh);
/** transport_dial_control() - the same for the control link */
struct transport *transport_dial_control(struct worker *w, struct link *link);
/** transport_accept() - take the accepted socket @fd, from the peer's host */
void transport_accept(struct worker *w, int fd);
/** transport_trim_pool() - let go of what the pool has not needed since the last call */
void transport_trim_pool(struct worker *w);
/** transport_release() - its connection has ended in order: back to the pool, or await OPEN */
void transport_release(struct transport *t);
/** transport_close() - close it; whom it carries is told nothing */
void transport_close(struct transport *t);
/** transport_abort() - tell the peer that the connection it carried has ended, and why; it closes it then, or the timer
 * does */
void transport_abort(struct transport *t, int error, const char *why);
/** transport_again() - have it and what it carries pumped once more, after the others */
void transport_again(struct transport *t);
/** transport_move() - let another worker have it, with this frame of the peer's, which is handled there as if it had just come,
 * and what was read behind it. Return: 0, also when it is lost for want of memory; or a negative errno and it stays here. */
int transport_move(struct transport *t, struct worker *to, const struct frame_header *h,
		   const uint8_t *payload);
/** transport_broken() - close it because of @error (errno); whom it carries is told */
void transport_broken(struct transport *t, int error, const char *why);

/**
 * transport_send() - queue an uncounted frame
 * @payload, @size	its payload, if it has one
 * It goes with the next transport_flush(), at the next boundary between counted frames. A
 * failure shows as transport_broken() at the next turn, never here.
 */
void transport_send(struct transport *t, uint8_t type, const void *payload, size_t size);
/** transport_flush() - give the kernel what is queued, here and in the session; true when some went */
bool transport_flush(struct transport *t);
/** transport_receive() - hand frames out as long as they are taken; true when some were */
bool transport_receive(struct transport *t);

#endif
