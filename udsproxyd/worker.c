/* SPDX-License-Identifier: Apache-2.0 */
#include "worker.h"

#include <errno.h>
#include <sys/eventfd.h>
#include <sys/random.h>

#include "channel.h"
#include "dgram.h"
#include "session.h"
#include "splice.h"
#include "transport.h"
#include "util.h"

/* An event that makes itself active again (a busy connection) lets this many others run before
 * the kernel is asked for new ones. */
#define CALLBACKS_A_POLL 64

#define TIDY_SECONDS 5 /* a pool shrinks to what it needed in so long */

struct post {
	STAILQ_ENTRY(post) next;
	void (*fn)(struct worker *w, void *arg);
	void *arg;
};

static void reap(evutil_socket_t fd, short what, void *arg)
{
	struct worker *w = arg;
	struct grave *g;

	(void)fd;
	(void)what;
	while ((g = SLIST_FIRST(&w->graves))) {
		SLIST_REMOVE_HEAD(&w->graves, next);
		g->free(g);
	}
}

void worker_bury(struct worker *w, struct grave *g)
{
	if (SLIST_EMPTY(&w->graves))
		event_active(&w->reap_event, EV_TIMEOUT, 0);
	SLIST_INSERT_HEAD(&w->graves, g, next);
}

static void run_posts(evutil_socket_t fd, short what, void *arg)
{
	struct worker *w = arg;
	STAILQ_HEAD(, post) posts = STAILQ_HEAD_INITIALIZER(posts);
	eventfd_t count;
	struct post *p;

	(void)what;
	if (eventfd_read(fd, &count) && errno != EAGAIN)
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
	eventfd_write(event_get_fd(&w->posts_event), 1);
	return 0;
}

/* What nobody needs, and what nobody came for. */
static void tidy(evutil_socket_t fd, short what, void *arg)
{
	struct worker *w = arg;

	(void)fd;
	(void)what;
	transport_trim_pool(w);
	channels_tidy(w);
	sessions_tidy(w);
}

static void pay_acks(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	session_pay_acks(arg);
}

static void worker_init(struct worker *w, struct daemon *d, int number)
{
	static const struct timeval tidy_time = { .tv_sec = TIDY_SECONDS };
	struct event_config *config = event_config_new();
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
	/* Edge-triggered: a socket is registered once and never changed again. */
	if (!config || fd < 0 || event_config_require_features(config, EV_FEATURE_ET))
		die("cannot set an event loop up: %m");
	event_config_set_flag(config, EVENT_BASE_FLAG_NOLOCK);
	event_config_set_max_dispatch_interval(config, NULL, CALLBACKS_A_POLL, 0);
	w->base = event_base_new_with_config(config);
	event_config_free(config);
	if (!w->base || event_base_priority_init(w->base, 2))
		die("cannot set an event loop up: %m");
	event_assign(&w->posts_event, w->base, fd, EV_READ | EV_PERSIST, run_posts, w);
	event_priority_set(&w->posts_event, 0);
	event_add(&w->posts_event, NULL);
	event_assign(&w->reap_event, w->base, -1, 0, reap, w);
	event_priority_set(&w->reap_event, 1);
	dgrams_init(w);
	event_assign(&w->tidy_event, w->base, -1, EV_PERSIST, tidy, w);
	event_add(&w->tidy_event, &tidy_time);
	event_assign(&w->owing_event, w->base, -1, 0, pay_acks, w);
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
	event_base_dispatch(w->base);
}

static void stop(struct worker *w, void *arg)
{
	(void)arg;
	event_base_loopbreak(w->base);
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
		reap(-1, 0, w);
		splices_free(w);
		stream_pool_free(&w->pool);
		event_del(&w->owing_event);
		event_del(&w->tidy_event);
		event_del(&w->dgrams_event);
		event_del(&w->posts_event);
		close(event_get_fd(&w->posts_event));
		while ((p = STAILQ_FIRST(&w->posts))) {
			STAILQ_REMOVE_HEAD(&w->posts, next);
			free(p);
		}
		event_base_free(w->base);
		pthread_mutex_destroy(&w->posts_lock);
	}
	free(d->workers);
}

int64_t worker_now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

void worker_arm(struct event *timer, unsigned ms)
{
	struct timeval tv = { .tv_sec = ms / 1000, .tv_usec = (suseconds_t)(ms % 1000) * 1000 };

	event_add(timer, &tv);
}

void worker_random_id(struct frame_id *id)
{
	/* Cannot fail for so few bytes once the pool is initialised (getrandom(2)). */
	if (getrandom(id->bytes, sizeof(id->bytes), 0) != (ssize_t)sizeof(id->bytes))
		abort();
}
