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
	struct io io;
	struct timer pause;
	int fd; /* borrowed */
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
	if (!a->complained)
		log_warning("cannot accept: %s; waiting", strerror(why));
	a->complained = true;
	io_stop(&a->worker->events, &a->io);
	timer_start(&a->worker->events, &a->pause, PAUSE_MS);
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

/* What is left of it is told again at once; and to ask costs half as much as to accept. So one by one, unless there is much
 * to do anyway: then it goes faster in one go. */
static void on_connection(struct io *io, uint32_t events)
{
	struct acceptor *a = CONTAINER_OF(io, struct acceptor, io);
	int turns = a->worker->events.n > 1 || a->complained ? ACCEPTS_A_TURN : 1;

	(void)events;
	while (turns-- > 0) {
		int fd = a->complained ? accept_unless_short(a->fd) : accept_one(a->fd);

		if (fd >= 0) {
			bool last = is_among_the_last(fd);

			a->accepted(a->worker, fd);
			if (last) {
				pause_accepting(a, EMFILE);
				return;
			}
			continue;
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

static int start(struct acceptor *a)
{
	return io_start(&a->worker->events, &a->io, a->fd, EPOLLIN);
}

static void on_pause(struct timer *t)
{
	struct acceptor *a = CONTAINER_OF(t, struct acceptor, pause);

	if (start(a))
		timer_start(&a->worker->events, t, PAUSE_MS);
}

struct acceptor *acceptor_new(struct worker *w, int fd, void (*accepted)(struct worker *w, int fd))
{
	struct acceptor *a = calloc(1, sizeof(*a));

	if (!a)
		die("out of memory");
	a->worker = w;
	a->accepted = accepted;
	a->fd = fd;
	io_init(&a->io, on_connection);
	timer_init(&a->pause, on_pause);
	if (start(a))
		die("cannot watch a listening socket: %m");
	return a;
}

void acceptor_free(struct acceptor *a)
{
	io_stop(&a->worker->events, &a->io);
	timer_stop(&a->worker->events, &a->pause);
	free(a);
}
