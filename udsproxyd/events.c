/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 *
 * epoll's data is the io itself. One that is stopped is taken out of the batch under way, too: so nothing is called that
 * is not there any more, and its owner may free it at once.
 *
 * Timers are in a pairing heap: each node fires no later than its children, who are a list. A start costs one comparison; a
 * stop or the first one's end melds its children by pairs.
 */
#include "events.h"

#include <errno.h>
#include <limits.h>
#include <time.h>
#include <unistd.h>

#include "util.h"

int64_t events_now(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

int events_init(struct events *e)
{
	*e = (struct events){ .epoll = epoll_create1(EPOLL_CLOEXEC) };
	TAILQ_INIT(&e->again);
	return e->epoll < 0 ? -errno : 0;
}

void events_deinit(struct events *e)
{
	close(e->epoll);
}

/* ---- descriptors -------------------------------------------------------------------------- */

void io_init(struct io *io, void (*ready)(struct io *io, uint32_t events))
{
	*io = (struct io){ .ready = ready, .fd = -1 };
}

int io_start(struct events *e, struct io *io, int fd, uint32_t events)
{
	struct epoll_event event = { .events = events, .data.ptr = io };

	if (epoll_ctl(e->epoll, EPOLL_CTL_ADD, fd, &event))
		return -errno;
	io->fd = fd;
	return 0;
}

static void forget(struct events *e, struct io *io)
{
	for (int i = e->next; i < e->n; i++)
		if (e->batch[i].data.ptr == io)
			e->batch[i].data.ptr = NULL;
	if (io->again)
		TAILQ_REMOVE(&e->again, io, entry);
	io->again = false;
	io->fd = -1;
}

void io_stop(struct events *e, struct io *io)
{
	if (io->fd < 0)
		return;
	epoll_ctl(e->epoll, EPOLL_CTL_DEL, io->fd, NULL);
	forget(e, io);
}

void io_close(struct events *e, struct io *io, int fd)
{
	if (io->fd >= 0)
		forget(e, io);
	close_keep_errno(fd);
}

void io_again(struct events *e, struct io *io)
{
	if (!io->again)
		TAILQ_INSERT_TAIL(&e->again, io, entry);
	io->again = true;
}

/* ---- timers ------------------------------------------------------------------------------- */

static void put(struct timer **link, struct timer *t)
{
	*link = t;
	if (t)
		t->link = link;
}

/* Two heaps, none of them empty, become one: its root has no place yet. */
static struct timer *meld(struct timer *a, struct timer *b)
{
	struct timer *first = b->at < a->at ? b : a, *second = first == a ? b : a;

	put(&second->next, first->child);
	put(&first->child, second);
	return first;
}

/* The children of one that leaves. */
static struct timer *meld_all(struct timer *list)
{
	struct timer *pairs = NULL, *all = NULL;

	while (list) {
		struct timer *a = list, *b = a->next;

		list = b ? b->next : NULL;
		a = b ? meld(a, b) : a;
		a->next = pairs;
		pairs = a;
	}
	while (pairs) {
		struct timer *next = pairs->next;

		all = all ? meld(all, pairs) : pairs;
		pairs = next;
	}
	return all;
}

void timer_init(struct timer *t, void (*fired)(struct timer *t))
{
	*t = (struct timer){ .fired = fired };
}

static void insert(struct events *e, struct timer *t)
{
	struct timer *root = e->timers ? meld(e->timers, t) : t;

	root->next = NULL;
	put(&e->timers, root);
}

void timer_stop(struct events *e, struct timer *t)
{
	struct timer *children;

	if (!t->link)
		return;
	children = meld_all(t->child);
	put(t->link, t->next);
	t->link = NULL;
	t->child = t->next = NULL;
	if (children)
		insert(e, children);
}

void timer_start(struct events *e, struct timer *t, unsigned ms)
{
	timer_stop(e, t);
	t->at = events_now() + ms;
	insert(e, t);
}

/* ---- turns -------------------------------------------------------------------------------- */

/* For epoll_wait(2): 0 at once, -1 for ever. */
static int wait_ms(const struct events *e)
{
	int64_t ms;

	if (!TAILQ_EMPTY(&e->again))
		return 0;
	if (!e->timers)
		return -1;
	ms = e->timers->at - events_now();
	return (int)MIN(MAX(ms, 0), INT_MAX);
}

/* Those that were in the list before: what comes to it meanwhile waits until the kernel was asked again. */
static void go_on(struct events *e)
{
	struct io *io;

	if (TAILQ_EMPTY(&e->again))
		return;
	TAILQ_INSERT_TAIL(&e->again, &e->mark, entry);
	while ((io = TAILQ_FIRST(&e->again)) != &e->mark) {
		TAILQ_REMOVE(&e->again, io, entry);
		io->again = false;
		io->ready(io, 0);
	}
	TAILQ_REMOVE(&e->again, &e->mark, entry);
}

static void fire(struct events *e)
{
	struct timer *t;
	int64_t now;

	if (!e->timers)
		return;
	now = events_now();
	while ((t = e->timers) && t->at <= now) {
		timer_stop(e, t);
		t->fired(t);
	}
}

void events_turn(struct events *e)
{
	e->n = epoll_wait(e->epoll, e->batch, EVENTS_BATCH, wait_ms(e));
	e->next = 0;
	while (e->next < e->n) {
		const struct epoll_event *event = &e->batch[e->next++];
		struct io *io = event->data.ptr;

		if (io)
			io->ready(io, event->events);
	}
	go_on(e);
	fire(e);
}
