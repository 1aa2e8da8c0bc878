/* SPDX-License-Identifier: Apache-2.0 */
/*
 * loop.h - a small poll(2) loop: descriptors and timers, libc only
 *
 * For a few descriptors whose events change all the time, and some of which are files, of which
 * epoll(7) takes none. The structs are embedded in their users and must stay where they are
 * while started. Callbacks may start and stop anything, themselves included. One thread.
 */
#ifndef LOOP_H
#define LOOP_H

#include <poll.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct loop;

struct loop_io {
	int fd;	      /* borrowed */
	short events; /* POLLIN, POLLOUT, POLLRDHUP; may be set at any time. 0: not watched at all,
		       * not even for POLLHUP, which else would be reported for ever */
	void (*ready)(void *arg, short revents);
	void *arg;
	struct loop *loop; /* NULL: not started */
	struct loop_io *next;
};

struct loop_timer {
	uint64_t at; /* CLOCK_MONOTONIC milliseconds */
	void (*fired)(void *arg);
	void *arg;
	struct loop *loop; /* NULL: not started, or fired */
	struct loop_timer *next;
};

struct loop {
	struct loop_io *ios;
	struct loop_timer *timers;
	struct pollfd *polls; /* of the turn under way; parallel to `polled` */
	struct loop_io **polled;
	size_t n_polled, max_polled;
};

/** loop_init() - an empty loop */
void loop_init(struct loop *l);
/** loop_deinit() - free what the loop allocated; what is still started is forgotten */
void loop_deinit(struct loop *l);
/** loop_now() - CLOCK_MONOTONIC in milliseconds */
uint64_t loop_now(void);

/** loop_io_start() - call @ready when poll(2) reports one of @events, POLLERR or POLLHUP on @fd */
void loop_io_start(struct loop *l, struct loop_io *io, int fd, short events,
		   void (*ready)(void *arg, short revents), void *arg);
/** loop_io_stop() - forget @io; its callback is not called again. No-op when not started. */
void loop_io_stop(struct loop_io *io);

/** loop_timer_start() - call @fired once, @ms from now; a started timer is moved */
void loop_timer_start(struct loop *l, struct loop_timer *t, uint64_t ms, void (*fired)(void *arg),
		      void *arg);
/** loop_timer_stop() - no-op when not started */
void loop_timer_stop(struct loop_timer *t);

/**
 * loop_turn() - wait for something to happen, at most @timeout_ms (-1: for ever), and call
 * the callbacks. Return: 0, or -errno (-ENOMEM). EINTR ends the wait early and is no error.
 */
int loop_turn(struct loop *l, int timeout_ms);

#endif
