/* SPDX-License-Identifier: Apache-2.0 */
#include "acceptor.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include "util.h"

#define PAUSE_MS 100
#define ACCEPTS_A_TURN 64
#define RESERVE 64 /* descriptors, for connections that are being made already */

struct acceptor {
	struct worker *worker;
	struct event event;
	struct event pause;
	bool complained;
	void (*accepted)(struct worker *w, int fd);
};

/* The kernel gives out the lowest free number. */
static bool is_among_the_last(int fd)
{
	struct rlimit limit;

	return !getrlimit(RLIMIT_NOFILE, &limit) &&
	       (rlim_t)fd + MIN(RESERVE, limit.rlim_cur / 4) >= limit.rlim_cur;
}

static bool is_short_of_descriptors(void)
{
	int fd = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 0);

	if (fd < 0)
		return true;
	close(fd);
	return is_among_the_last(fd);
}

/* Who waits in the backlog loses nothing. */
static void pause_accepting(struct acceptor *a, int why)
{
	static const struct timeval pause = { .tv_usec = PAUSE_MS * 1000 };

	if (!a->complained)
		log_warning("cannot accept: %s; waiting", strerror(why));
	a->complained = true;
	event_del(&a->event);
	event_add(&a->pause, &pause);
}

static int accept_one(int listening)
{
	return accept4(listening, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
}

/* Look before, which costs two calls; and alone, or threads that look at the same time would each take one of the
 * reserve. */
static int accept_unless_short(int listening)
{
	static pthread_mutex_t looking = PTHREAD_MUTEX_INITIALIZER;
	int fd = -1, error = EMFILE;

	pthread_mutex_lock(&looking);
	if (!is_short_of_descriptors()) {
		fd = accept_one(listening);
		error = errno;
	}
	pthread_mutex_unlock(&looking);
	errno = error;
	return fd;
}

static void on_connection(evutil_socket_t listening, short what, void *arg)
{
	struct acceptor *a = arg;

	(void)what;
	for (int i = 0; i < ACCEPTS_A_TURN; i++) {
		int fd = a->complained ? accept_unless_short(listening) : accept_one(listening);

		if (fd >= 0) {
			bool last = is_among_the_last(fd);

			a->accepted(a->worker, fd);
			if (!last)
				continue;
			pause_accepting(a, EMFILE);
			return;
		}
		/* ECONNABORTED and the network's errors concern the one that is gone (accept(2)). */
		if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
			pause_accepting(a, errno);
			return;
		}
		if (errno == EAGAIN) {
			a->complained = false;
			return;
		}
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
