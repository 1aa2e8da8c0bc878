/* SPDX-License-Identifier: Apache-2.0 */
#include "worker.h"

#include <errno.h>
#include <sys/eventfd.h>
#include <sys/random.h>

#include "channel.h"
#include "dgram.h"
#include "hold.h"
#include "session.h"
#include "splice.h"
#include "transport.h"
#include "util.h"

#define TIDY_MS 5000	  /* a pool shrinks to what it needed in so long */
#define UNNOTICED_MORE 2 /* connections than another has: not worth waking it */

struct post {
	STAILQ_ENTRY(post) next;
	void (*fn)(struct worker *w, void *arg);
	void *arg;
};

static void reap(struct worker *w)
{
	struct grave *g;

	while ((g = SLIST_FIRST(&w->graves))) {
		SLIST_REMOVE_HEAD(&w->graves, next);
		g->free(g);
	}
}

void worker_bury(struct worker *w, struct grave *g, void (*free_it)(struct grave *g))
{
	g->free = free_it;
	SLIST_INSERT_HEAD(&w->graves, g, next);
}

static void run_posts(struct io *io, uint32_t events)
{
	struct worker *w = CONTAINER_OF(io, struct worker, posts_io);
	STAILQ_HEAD(, post) posts = STAILQ_HEAD_INITIALIZER(posts);
	eventfd_t count;
	struct post *p;

	(void)events;
	if (eventfd_read(io->fd, &count) && errno != EAGAIN)
		log_error("eventfd: %m");
	pthread_mutex_lock(&w->posts_lock);
	STAILQ_CONCAT(&posts, &w->posts);
	pthread_mutex_unlock(&w->posts_lock);
	while ((p = STAILQ_FIRST(&posts))) {
		STAILQ_REMOVE_HEAD(&posts, next);
		p->fn(w, p->arg);
		free(p);
	}
}

int worker_post(struct worker *w, void (*fn)(struct worker *w, void *arg), void *arg)
{
	struct post *p = malloc(sizeof(*p));

	if (!p)
		return -ENOMEM;
	*p = (struct post){ .fn = fn, .arg = arg };
	pthread_mutex_lock(&w->posts_lock);
	STAILQ_INSERT_TAIL(&w->posts, p, next);
	pthread_mutex_unlock(&w->posts_lock);
	/* Fails only when it is set 2^64 times: then it is readable anyway. */
	eventfd_write(w->posts_io.fd, 1);
	return 0;
}

/* What nobody needs, and what nobody came for. */
static void tidy(struct timer *t)
{
	struct worker *w = CONTAINER_OF(t, struct worker, tidy_timer);

	transport_trim_pool(w);
	channels_tidy(w);
	sessions_tidy(w);
	timer_start(&w->events, t, TIDY_MS);
}

static void pay_acks(struct timer *t)
{
	session_pay_acks(CONTAINER_OF(t, struct worker, owing_timer));
}

static void worker_init(struct worker *w, struct daemon *d, int number)
{
	int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);

	w->daemon = d;
	w->number = number;
	SLIST_INIT(&w->graves);
	STAILQ_INIT(&w->posts);
	LIST_INIT(&w->sessions);
	LIST_INIT(&w->waiting);
	LIST_INIT(&w->expected);
	LIST_INIT(&w->transports);
	LIST_INIT(&w->clients);
	LIST_INIT(&w->watches);
	LIST_INIT(&w->idle);
	LIST_INIT(&w->owing);
	splices_init(w);
	stream_pool_init(&w->pool, &d->budget);
	pthread_mutex_init(&w->posts_lock, NULL);
	io_init(&w->posts_io, run_posts);
	if (fd < 0 || events_init(&w->events) || io_start(&w->events, &w->posts_io, fd, EPOLLIN))
		die("cannot set an event loop up: %m");
	dgrams_init(w);
	hold_init(w);
	timer_init(&w->owing_timer, pay_acks);
	timer_init(&w->tidy_timer, tidy);
	timer_start(&w->events, &w->tidy_timer, TIDY_MS);
}

void workers_init(struct daemon *d)
{
	d->workers = calloc((size_t)d->config.threads, sizeof(*d->workers));
	if (!d->workers)
		die("out of memory");
	for (int i = 0; i < d->config.threads; i++)
		worker_init(&d->workers[i], d, i);
}

void worker_run(struct worker *w)
{
	while (!w->stopped) {
		events_turn(&w->events);
		reap(w);
	}
}

static void stop(struct worker *w, void *arg)
{
	(void)arg;
	w->stopped = true;
}

void workers_stop(struct daemon *d)
{
	for (int i = 0; i < d->config.threads; i++)
		worker_post(&d->workers[i], stop, NULL);
}

void workers_free(struct daemon *d)
{
	for (int i = 0; i < d->config.threads; i++) {
		struct worker *w = &d->workers[i];
		struct post *p;

		channels_forget(w);
		reap(w);
		splices_free(w);
		stream_pool_free(&w->pool);
		io_close(&w->events, &w->posts_io, w->posts_io.fd);
		while ((p = STAILQ_FIRST(&w->posts))) {
			STAILQ_REMOVE_HEAD(&w->posts, next);
			free(p);
		}
		events_deinit(&w->events);
		pthread_mutex_destroy(&w->posts_lock);
	}
	free(d->workers);
}

uint16_t worker_hint(const struct worker *w)
{
	_Static_assert(CONFIG_THREADS_MAX <= 255, "a byte each");

	return (uint16_t)(w->daemon->config.threads << 8 | w->number);
}

struct worker *worker_beside(struct worker *w, uint16_t hint)
{
	int theirs = hint >> 8, which = hint & 0xff;
	int ours = w->daemon->config.threads;
	int number = w->number;

	if (which >= theirs)
		return w;
	/* Each of ours has some of theirs, or each of theirs some of ours, among whom the kernel has chosen already. */
	number = theirs < ours ? number - number % theirs + which : which % ours;
	return &w->daemon->workers[number < ours ? number : which];
}

struct worker *worker_less_busy(struct worker *w)
{
	const struct daemon *d = w->daemon;
	unsigned own = atomic_load_explicit(&w->n_sessions, memory_order_relaxed), least = own;
	struct worker *idlest = w;

	for (int i = 0; i < d->config.threads && least; i++) {
		unsigned n = atomic_load_explicit(&d->workers[i].n_sessions, memory_order_relaxed);

		if (n < least) {
			least = n;
			idlest = &d->workers[i];
		}
	}
	return own > least + UNNOTICED_MORE ? idlest : w;
}

void worker_random_id(struct frame_id *id)
{
	/* Cannot fail for so few bytes once the pool is initialised (getrandom(2)). */
	if (getrandom(id->bytes, sizeof(id->bytes), 0) != (ssize_t)sizeof(id->bytes))
		abort();
}
