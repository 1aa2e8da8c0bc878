/* SPDX-License-Identifier: Apache-2.0 */
/*
 * events.h - a thread's events: what epoll(7) tells of descriptors, timers, and what goes on by itself
 *
 * Descriptors that are watched by the edge are registered once. What their events said is remembered by their owner
 * until a call says otherwise: EAGAIN, or of a stream a read that gave less than was asked for (epoll(7), "Questions and
 * answers"), unless an event has told that there is more to come than bytes (EVENTS_LAST).
 *
 * The structs are their owners', embedded, zeroed at first, and must stay where they are while started. A handler may stop and
 * start anything, itself included; what it stops is not called any more, not even for what happened before. Nothing here
 * allocates. One thread.
 */
#ifndef EVENTS_H
#define EVENTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <sys/queue.h>

/* What a set of epoll's bits means to who reads, to who writes, and that a short read need not be the last. */
#define EVENTS_READ (EPOLLIN | EPOLLPRI | EPOLLRDHUP | EPOLLHUP | EPOLLERR)
#define EVENTS_WRITE (EPOLLOUT | EPOLLHUP | EPOLLERR)
#define EVENTS_LAST (EPOLLPRI | EPOLLRDHUP | EPOLLHUP | EPOLLERR)

/* All of a socket, by the edge. (EPOLLPRI: out-of-band data ends a read, and bytes may be behind it.) */
#define EVENTS_EDGE (EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLPRI | EPOLLET)

struct io {
	TAILQ_ENTRY(io) entry; /* of those that go on by themselves */
	void (*ready)(struct io *io, uint32_t events);
	int fd;	    /* -1: not watched */
	bool again; /* is in that list */
};

/* A pairing heap's node. */
struct timer {
	struct timer *child, *next;
	struct timer **link; /* what points here; NULL: not started */
	int64_t at;	     /* ms */
	void (*fired)(struct timer *t);
};

#define EVENTS_BATCH 64

struct events {
	int epoll;
	struct timer *timers; /* the first to fire */
	TAILQ_HEAD(io_list, io) again;
	struct io mark; /* in `again`: those before it have their turn now */
	struct epoll_event batch[EVENTS_BATCH];
	int n, next; /* of the batch, and the first that was not told */
};

/** events_init() - Return: 0 or a negative errno (epoll_create1(2)) */
int events_init(struct events *e);
/** events_deinit() - after all was stopped */
void events_deinit(struct events *e);
/** events_turn() - wait for something to happen, and call the handlers of what has; then of what goes on, and timers */
void events_turn(struct events *e);
/** events_are_many() - has something happened to others as well that was told at once? Then what a handler leaves for
 * io_again() is done with theirs. */
static inline bool events_are_many(const struct events *e)
{
	return e->n > 1;
}
/** events_now() - milliseconds of a clock that only goes forth */
int64_t events_now(void);

/** io_init() - @ready is called with what epoll tells, and with 0 after io_again() */
void io_init(struct io *io, void (*ready)(struct io *io, uint32_t events));
/** io_start() - watch @fd (borrowed) for @events (EPOLL...); Return: 0 or a negative errno (epoll_ctl(2)) */
int io_start(struct events *e, struct io *io, int fd, uint32_t events);
/** io_stop() - forget it; nothing when it was not started */
void io_stop(struct events *e, struct io *io);
/** io_close() - forget it, and close @fd, which is its descriptor if it was started, and must be the only one of its open
 * file: then epoll forgets it by itself (epoll(7)) */
void io_close(struct events *e, struct io *io, int fd);
/** io_again() - call its handler once more, after the others that have something to do */
void io_again(struct events *e, struct io *io);

/** timer_init() - @fired is called once after each start */
void timer_init(struct timer *t, void (*fired)(struct timer *t));
/** timer_start() - in @ms from now, whatever was set before */
void timer_start(struct events *e, struct timer *t, unsigned ms);
/** timer_stop() - nothing when it was not started, or has fired */
void timer_stop(struct events *e, struct timer *t);
/** timer_pending() - was it started, and has it not fired? */
static inline bool timer_pending(const struct timer *t)
{
	return t->link;
}

#endif
