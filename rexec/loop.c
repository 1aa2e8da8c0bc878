/* SPDX-License-Identifier: Apache-2.0 */
/*
 * loop.c - how a turn works
 *
 * The set for poll(2) is built anew from what is started. Stopping something while its turn
 * is under way also takes it out of that set, so a callback never sees what another callback
 * has just freed. Timers fire after descriptors.
 */
#include "loop.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <time.h>

#include "util.h"

void loop_init(struct loop *l)
{
	*l = (struct loop){ 0 };
}

void loop_deinit(struct loop *l)
{
	free(l->polls);
	free(l->polled);
	loop_init(l);
}

uint64_t loop_now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

void loop_io_start(struct loop *l, struct loop_io *io, int fd, short events,
		   void (*ready)(void *arg, short revents), void *arg)
{
	*io = (struct loop_io){
		.fd = fd, .events = events, .ready = ready, .arg = arg, .loop = l, .next = l->ios
	};
	l->ios = io;
}

void loop_io_stop(struct loop_io *io)
{
	struct loop *l = io->loop;
	struct loop_io **at;

	if (!l)
		return;
	for (at = &l->ios; *at != io; at = &(*at)->next)
		;
	*at = io->next;
	for (size_t i = 0; i < l->n_polled; i++)
		if (l->polled[i] == io)
			l->polled[i] = NULL;
	io->loop = NULL;
}

void loop_timer_start(struct loop *l, struct loop_timer *t, uint64_t ms, void (*fired)(void *arg),
		      void *arg)
{
	loop_timer_stop(t);
	*t = (struct loop_timer){
		.at = loop_now() + ms, .fired = fired, .arg = arg, .loop = l, .next = l->timers
	};
	l->timers = t;
}

void loop_timer_stop(struct loop_timer *t)
{
	struct loop_timer **at;

	if (!t->loop)
		return;
	for (at = &t->loop->timers; *at != t; at = &(*at)->next)
		;
	*at = t->next;
	t->loop = NULL;
}

static int collect(struct loop *l)
{
	size_t n = 0;

	for (struct loop_io *io = l->ios; io; io = io->next)
		n++;
	if (n > l->max_polled) {
		struct pollfd *polls = realloc(l->polls, n * sizeof(*polls));
		struct loop_io **polled;

		if (!polls)
			return -ENOMEM;
		l->polls = polls;
		polled = realloc(l->polled, n * sizeof(*polled));
		if (!polled)
			return -ENOMEM;
		l->polled = polled;
		l->max_polled = n;
	}
	l->n_polled = 0;
	for (struct loop_io *io = l->ios; io; io = io->next) {
		if (!io->events)
			continue;
		l->polls[l->n_polled] = (struct pollfd){ .fd = io->fd, .events = io->events };
		l->polled[l->n_polled++] = io;
	}
	return 0;
}

/* The time until the first timer, but @timeout_ms at most. */
static int wait_ms(const struct loop *l, int timeout_ms)
{
	uint64_t now = l->timers ? loop_now() : 0;
	uint64_t wait = timeout_ms < 0 ? UINT64_MAX : (uint64_t)timeout_ms;

	for (const struct loop_timer *t = l->timers; t; t = t->next)
		wait = MIN(wait, t->at > now ? t->at - now : 0);
	return wait == UINT64_MAX ? -1 : (int)MIN(wait, (uint64_t)INT_MAX);
}

static struct loop_timer *due(const struct loop *l, uint64_t now)
{
	struct loop_timer *t = l->timers;

	while (t && t->at > now)
		t = t->next;
	return t;
}

int loop_turn(struct loop *l, int timeout_ms)
{
	struct loop_timer *t;
	uint64_t now;
	int err = collect(l);

	if (err)
		return err;
	if (poll(l->polls, l->n_polled, wait_ms(l, timeout_ms)) < 0) {
		l->n_polled = 0;
		if (errno != EINTR && errno != EAGAIN)
			return -errno;
	}
	for (size_t i = 0; i < l->n_polled; i++) {
		/* What an earlier callback has switched off is not called any more. */
		if (l->polls[i].revents && l->polled[i] && l->polled[i]->events)
			l->polled[i]->ready(l->polled[i]->arg, l->polls[i].revents);
	}
	l->n_polled = 0;
	/* One `now` for all: a timer that starts itself again waits for the next turn. */
	now = l->timers ? loop_now() : 0;
	while ((t = due(l, now))) {
		loop_timer_stop(t);
		t->fired(t->arg);
	}
	return 0;
}
