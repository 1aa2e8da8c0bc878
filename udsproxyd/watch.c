/* SPDX-License-Identifier: Apache-2.0 */
#include "watch.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "canon.h"
#include "connector.h"
#include "link.h"
#include "peercred.h"
#include "session.h"
#include "util.h"

#define PROBE_MS 1000
#define PAUSE_MS 100	  /* when there is no descriptor for a connection */
#define TWIN_BACKLOG 4096 /* the kernel lowers it to net.core.somaxconn */

struct watch {
	union {
		LIST_ENTRY(watch) entry;
		struct grave grave;
	};
	struct worker *worker;
	struct channel *channel;
	struct io io;	    /* of the original: connections */
	struct timer timer; /* of the original: a pause; of a twin: the next probe */
	bool blocked;	    /* the original did, when it was passed */
	char dir[108];	    /* of a twin */
};

static void on_connection(struct io *io, uint32_t events);

static void watch_free(struct grave *g)
{
	free(CONTAINER_OF(g, struct watch, grave));
}

/* Return: what it was. */
static bool set_blocking(int fd, bool blocking)
{
	int flags = fcntl(fd, F_GETFL);

	fcntl(fd, F_SETFL, blocking ? flags & ~O_NONBLOCK : flags | O_NONBLOCK);
	return !(flags & O_NONBLOCK);
}

static void watch_end(struct watch *watch)
{
	struct channel *c = watch->channel;
	char path[128];

	LIST_REMOVE(watch, entry);
	io_stop(&watch->worker->events, &watch->io);
	timer_stop(&watch->worker->events, &watch->timer);
	if (watch->dir[0]) {
		snprintf(path, sizeof(path), "%s/socket", watch->dir);
		unlink(path); /* most likely gone: its owner removes it */
		rmdir(watch->dir);
	}
	if (watch->blocked)
		set_blocking(c->fd, true);
	pthread_mutex_lock(&c->lock);
	c->watch = NULL;
	pthread_mutex_unlock(&c->lock);
	channel_end(watch->worker->daemon->channels, c, watch->worker->daemon);
	channel_unref(c);
	worker_bury(watch->worker, &watch->grave, watch_free);
}

static struct watch *watch_new(struct worker *w, struct channel *c, void (*fired)(struct timer *t))
{
	struct watch *watch = calloc(1, sizeof(*watch));

	if (!watch)
		return NULL;
	watch->worker = w;
	watch->channel = channel_ref(c);
	LIST_INSERT_HEAD(&w->watches, watch, entry);
	io_init(&watch->io, on_connection);
	timer_init(&watch->timer, fired);
	pthread_mutex_lock(&c->lock);
	c->watch = watch;
	pthread_mutex_unlock(&c->lock);
	return watch;
}

/* ---- the original ------------------------------------------------------------------------ */

static int start(struct watch *watch)
{
	return io_start(&watch->worker->events, &watch->io, watch->channel->fd, EPOLLIN);
}

static void on_pause(struct timer *t)
{
	struct watch *watch = CONTAINER_OF(t, struct watch, timer);

	if (start(watch))
		timer_start(&watch->worker->events, t, PAUSE_MS);
}

static void on_connection(struct io *io, uint32_t events)
{
	struct watch *watch = CONTAINER_OF(io, struct watch, io);
	struct channel *c = watch->channel;
	struct frame_open o = {
		.target = WIRE_TARGET_LISTENER,
		.socktype = c->socktype,
		.name = (const char *)c->id.bytes,
		.name_len = sizeof(c->id.bytes),
	};
	int fd = accept4(io->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	(void)events;
	if (fd < 0 && errno == EINVAL) { /* shut down: nobody will ever come */
		watch_end(watch);
		return;
	}
	if (fd < 0 && errno != EAGAIN && errno != ECONNABORTED) {
		log_warning("cannot accept on a passed listening socket: %m; waiting");
		io_stop(&watch->worker->events, io);
		timer_start(&watch->worker->events, &watch->timer, PAUSE_MS);
	}
	if (fd < 0)
		return;
	if (peercred_get(fd, &o.credentials)) {
		close(fd);
		return;
	}
	worker_random_id(&o.id);
	if (!session_open(watch->worker, &o, session_local_of(c->socktype), NULL, NULL, fd))
		log_warning("a connection to a passed listening socket is lost: %m");
}

int watch_original(struct worker *w, struct channel *c)
{
	struct watch *watch = watch_new(w, c, on_pause);

	if (!watch)
		return -ENOMEM;
	/* The flag is the socket's, not ours alone (documented): but two processes may accept
	 * here, and the one that comes too late must not hang. */
	watch->blocked = set_blocking(c->fd, false);
	if (start(watch)) {
		watch_end(watch);
		return -ENOMEM;
	}
	return 0;
}

void watch_end_all(struct worker *w)
{
	struct watch *watch;

	while ((watch = LIST_FIRST(&w->watches)))
		watch_end(watch);
}

static void end_posted(struct worker *w, void *arg)
{
	struct channel *c = arg;

	(void)w;
	if (c->watch)
		watch_end(c->watch);
	channel_unref(c);
}

void watch_gone(struct channel *c)
{
	struct worker *w;

	pthread_mutex_lock(&c->lock);
	w = c->watch ? c->watch->worker : NULL;
	pthread_mutex_unlock(&c->lock);
	if (w && worker_post(w, end_posted, channel_ref(c)))
		channel_unref(c);
}

/* ---- the twin ---------------------------------------------------------------------------- */

static bool is_listened_on(int path_fd)
{
	_cleanup_close_ int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	return fd < 0 || connector_connect_inode(fd, path_fd) != -ECONNREFUSED;
}

static void on_probe(struct timer *t)
{
	struct watch *watch = CONTAINER_OF(t, struct watch, timer);

	if (is_listened_on(watch->channel->fd)) {
		timer_start(&watch->worker->events, t, PROBE_MS);
		return;
	}
	log_debug("nobody listens on a twin any more");
	link_send_gone(watch->worker->daemon, &watch->channel->id);
	watch_end(watch);
}

/* A directory of its own, so that nobody but the two daemons finds the name. */
static int bind_twin(struct watch *watch, int fd)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	const char *runtime = watch->worker->daemon->config.runtime_dir;

	snprintf(watch->dir, sizeof(watch->dir), "%.60s/twins/XXXXXX", runtime);
	if (!mkdtemp(watch->dir)) {
		watch->dir[0] = '\0';
		return -errno;
	}
	snprintf(sa.sun_path, sizeof(sa.sun_path), "%.90s/socket", watch->dir);
	if (bind(fd, (struct sockaddr *)&sa, sizeof(sa)) || listen(fd, TWIN_BACKLOG))
		return -errno;
	watch->channel->fd = open(sa.sun_path, O_PATH | O_CLOEXEC | O_NOFOLLOW);
	return watch->channel->fd < 0 ? -errno : 0;
}

int watch_make_twin(struct worker *w, struct channel *c)
{
	_cleanup_close_ int fd = socket(AF_UNIX, local_socktype(c->socktype) | SOCK_CLOEXEC, 0);
	struct watch *watch;
	int err;

	if (fd < 0)
		return -errno;
	watch = watch_new(w, c, on_probe);
	if (!watch)
		return -ENOMEM;
	err = bind_twin(watch, fd);
	if (err) {
		watch_end(watch);
		return err;
	}
	timer_start(&w->events, &watch->timer, PROBE_MS);
	return take_fd(&fd);
}

int watch_twin(struct daemon *d, const struct frame_id *id)
{
	struct channel *c = channel_by_id(d->channels, id);
	int fd = -1;

	if (c && c->kind == WIRE_FD_LISTENER && !c->ours) {
		pthread_mutex_lock(&c->lock);
		fd = fcntl(c->fd, F_DUPFD_CLOEXEC, 0);
		pthread_mutex_unlock(&c->lock);
	}
	if (c)
		channel_unref(c);
	return fd < 0 ? -ENOENT : fd;
}
