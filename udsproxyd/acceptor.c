/* SPDX-License-Identifier: Apache-2.0 */
#include "acceptor.h"

#include <errno.h>
#include <sys/socket.h>

#include "util.h"

#define PAUSE_MS 100
#define ACCEPTS_A_TURN 64

struct acceptor {
	struct worker *worker;
	struct event event;
	struct event pause;
	void (*accepted)(struct worker *w, int fd);
};

static void on_connection(evutil_socket_t listening, short what, void *arg)
{
	static const struct timeval pause = { .tv_usec = PAUSE_MS * 1000 };
	struct acceptor *a = arg;

	(void)what;
	for (int i = 0; i < ACCEPTS_A_TURN; i++) {
		int fd = accept4(listening, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

		if (fd >= 0) {
			a->accepted(a->worker, fd);
			continue;
		}
		/* ECONNABORTED and the network's errors concern the one that is gone (accept(2)). */
		if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
			log_warning("cannot accept: %m; waiting");
			event_del(&a->event);
			event_add(&a->pause, &pause);
			return;
		}
		if (errno == EAGAIN)
			return;
	}
}

static void on_pause(evutil_socket_t fd, short what, void *arg)
{
	struct acceptor *a = arg;

	(void)fd;
	(void)what;
	event_add(&a->event, NULL);
}

struct acceptor *acceptor_new(struct worker *w, int fd, void (*accepted)(struct worker *w, int fd))
{
	struct acceptor *a = calloc(1, sizeof(*a));

	if (!a)
		die("out of memory");
	a->worker = w;
	a->accepted = accepted;
	event_assign(&a->event, w->base, fd, EV_READ | EV_PERSIST, on_connection, a);
	event_assign(&a->pause, w->base, -1, 0, on_pause, a);
	if (event_add(&a->event, NULL))
		die("cannot watch a listening socket: %m");
	return a;
}

void acceptor_free(struct acceptor *a)
{
	event_del(&a->event);
	event_del(&a->pause);
	free(a);
}
