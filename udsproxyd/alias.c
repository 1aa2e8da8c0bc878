/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 *
 * What the kernel says of a socket's name is the string that bind(2) was given. So a thread of its
 * own, the binder, has RUNTIME/names for its root directory: there it makes the directories that a
 * name needs, binds, moves the socket to where it cannot be in the way, and removes the directories
 * again. No other thread ever has another root than the process.
 *
 * Of listening sockets each worker keeps those that were used lately: a client more of the same
 * server costs connect(2) and accept(2). They are the worker's alone, who connects and accepts in
 * one go, so a connection cannot be taken for another. A datagram socket serves one client, and its
 * path is gone before the client knows: nobody else can send to it.
 */
#include "alias.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <semaphore.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "fdpass.h"
#include "proxyreq.h"
#include "runtime.h"
#include "util.h"

#define PATH_OFFSET offsetof(struct sockaddr_un, sun_path)
#define ALIASES_MAX 64	  /* that a worker keeps; the one that was not used for longest goes */
#define ALIAS_IDLE_MS 500 /* after which it goes anyway */
#define BACKLOG 16

struct alias {
	union {
		LIST_ENTRY(alias) entry;
		struct grave grave;
	};
	struct worker *worker;
	struct timer timer;
	bool used; /* since the timer last ran */
	int fd;
	int socktype;
	size_t name_len;
	char name[WIRE_NAME_MAX];
	struct sockaddr_un at; /* where it is connected to */
};

/* ---- the binder ---------------------------------------------------------------------------- */

static struct binder {
	pthread_t thread;
	pthread_mutex_t lock; /* whoever asks has it */
	sem_t asked, answered;
	bool rooted; /* in RUNTIME/names */
	bool stop;

	int fd;
	const struct sockaddr_un *to; /* in the end */
	const char *name;
	size_t name_len;
	int result;
} binder = { .lock = PTHREAD_MUTEX_INITIALIZER };

static void make_dirs(char *path)
{
	for (char *p = path + 1; (p = strchr(p, '/')); p++) {
		*p = '\0';
		mkdir(path, 0700);
		*p = '/';
	}
}

/* Only this thread makes any, and nothing stays in them. */
static void remove_dirs(char *path)
{
	char *p;

	while ((p = strrchr(path, '/')) && p != path) {
		*p = '\0';
		rmdir(path);
	}
}

static int bind_alias(void)
{
	struct {
		struct sockaddr_un sa;
		char end; /* a name may fill sun_path, and who watches for bad accesses looks for a NUL */
	} to = { .sa.sun_family = AF_UNIX };
	char path[WIRE_NAME_MAX + 1] = "";
	int err = -ENOENT;

	if (!binder.rooted || memchr(binder.name + 1, '\0', binder.name_len - 1))
		return -EINVAL;
	memcpy(path, binder.name, binder.name_len);
	if (path[0] == '\0')
		path[0] = PROXYREQ_ABSTRACT;
	memcpy(to.sa.sun_path, path, binder.name_len);
	make_dirs(path);
	if (!bind(binder.fd, (struct sockaddr *)&to.sa, (socklen_t)(PATH_OFFSET + binder.name_len))) {
		err = rename(path, strrchr(binder.to->sun_path, '/')) ? -errno : 0;
		if (err)
			unlink(path);
	}
	remove_dirs(path);
	return err;
}

static void *run_binder(void *arg)
{
	const struct daemon *d = arg;
	char root[128];

	snprintf(root, sizeof(root), "%s/names", d->config.runtime_dir);
	binder.rooted = !unshare(CLONE_FS) && !chroot(root) && !chdir("/");
	sem_post(&binder.answered);
	for (;;) {
		while (sem_wait(&binder.asked))
			;
		if (binder.stop)
			return NULL;
		binder.result = bind_alias();
		sem_post(&binder.answered);
	}
}

static void wait_for_binder(void)
{
	while (sem_wait(&binder.answered)) /* EINTR */
		;
}

void alias_start(struct daemon *d)
{
	if (sem_init(&binder.asked, 0, 0) || sem_init(&binder.answered, 0, 0) ||
	    pthread_create(&binder.thread, NULL, run_binder, d))
		die("cannot start a thread: %m");
	wait_for_binder();
	if (!binder.rooted)
		log_info("getpeername(2) of clients will not give the server's name: no chroot(2)");
}

void alias_stop(void)
{
	binder.stop = true;
	sem_post(&binder.asked);
	pthread_join(binder.thread, NULL);
}

/* A socket that is bound to @name as far as anybody can see, and is found at @at. */
static int make_socket(struct worker *w, int socktype, const char *name, size_t len,
		       struct sockaddr_un *at)
{
	_cleanup_close_ int fd = socket(AF_UNIX, socktype | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	int err;

	/* The file that bind(2) makes has the mode of the socket. */
	if (fd < 0 || fchmod(fd, 0600))
		return -errno;
	runtime_fresh(w->daemon->config.runtime_dir, "names", at);
	pthread_mutex_lock(&binder.lock);
	binder.fd = fd;
	binder.to = at;
	binder.name = name;
	binder.name_len = len;
	sem_post(&binder.asked);
	wait_for_binder();
	err = binder.result;
	pthread_mutex_unlock(&binder.lock);
	/* A name of its own is better than none. */
	if (err && bind(fd, (struct sockaddr *)at, sizeof(*at)))
		return -errno;
	return take_fd(&fd);
}

/* ---- for clients ----------------------------------------------------------------------------- */

static int connect_to(int client, const struct sockaddr_un *at)
{
	return connect(client, (const struct sockaddr *)at, sizeof(*at)) ? -errno : 0;
}

int alias_datagrams(struct worker *w, const char *name, size_t len, struct sockaddr_un *at)
{
	return make_socket(w, SOCK_DGRAM, name, len, at);
}

static void alias_free(struct grave *g)
{
	free(CONTAINER_OF(g, struct alias, grave));
}

static void alias_end(struct alias *a)
{
	LIST_REMOVE(a, entry);
	timer_stop(&a->worker->events, &a->timer);
	close(a->fd);
	unlink(a->at.sun_path);
	worker_bury(a->worker, &a->grave, alias_free);
}

static void on_timer(struct timer *t)
{
	struct alias *a = CONTAINER_OF(t, struct alias, timer);

	if (!a->used) {
		alias_end(a);
		return;
	}
	a->used = false;
	timer_start(&a->worker->events, t, ALIAS_IDLE_MS);
}

static struct alias *alias_new(struct worker *w, int socktype, const char *name, size_t len)
{
	struct alias *a = calloc(1, sizeof(*a));

	if (!a) {
		errno = ENOMEM;
		return NULL;
	}
	a->fd = make_socket(w, socktype, name, len, &a->at);
	if (a->fd < 0 || listen(a->fd, BACKLOG)) {
		errno = a->fd < 0 ? -a->fd : errno;
		close_keep_errno(a->fd);
		free(a);
		return NULL;
	}
	a->worker = w;
	a->socktype = socktype;
	a->name_len = len;
	memcpy(a->name, name, len);
	timer_init(&a->timer, on_timer);
	timer_start(&w->events, &a->timer, ALIAS_IDLE_MS);
	LIST_INSERT_HEAD(&w->aliases, a, entry);
	return a;
}

/* The one that was made before, which comes to the head, or a new one in the place of the last. */
static struct alias *alias_for(struct worker *w, int socktype, const char *name, size_t len)
{
	struct alias *a, *last = NULL;
	int n = 0;

	LIST_FOREACH(a, &w->aliases, entry)
	{
		if (a->socktype == socktype && a->name_len == len && !memcmp(a->name, name, len)) {
			LIST_REMOVE(a, entry);
			LIST_INSERT_HEAD(&w->aliases, a, entry);
			return a;
		}
		last = a;
		n++;
	}
	if (n >= ALIASES_MAX)
		alias_end(last);
	return alias_new(w, socktype, name, len);
}

static bool is_our_own(const struct alias *a, int fd)
{
	struct ucred who;

	return !fd_peer(fd, &who) && who.pid == a->worker->daemon->self.pid;
}

/* What connect_to() has put there. Only root finds the socket, but root may try anything. */
static int take(const struct alias *a)
{
	for (;;) {
		_cleanup_close_ int fd = accept4(a->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

		if (fd < 0)
			return -errno;
		if (is_our_own(a, fd))
			return take_fd(&fd);
	}
}

static int connect_and_take(struct alias *a, int client)
{
	/* What is accepted needs a number: before the client's socket is connected. */
	int spare = fcntl(a->fd, F_DUPFD_CLOEXEC, 0);
	int fd;

	if (spare < 0)
		return -errno;
	fd = connect_to(client, &a->at);
	close(spare);
	if (fd)
		return fd;
	fd = take(a);
	/* What is still there must not be the next client's. */
	if (fd < 0)
		alias_end(a);
	return fd;
}

int alias_connect(struct worker *w, int client, int socktype, const char *name, size_t len)
{
	struct alias *a = alias_for(w, socktype, name, len);
	int fd;

	if (!a)
		return -errno;
	a->used = true;
	fd = connect_and_take(a, client);
	if (fd != -ENOENT && fd != -ECONNREFUSED)
		return fd;
	/* Somebody has removed its file. */
	alias_end(a);
	a = alias_new(w, socktype, name, len);
	return a ? connect_and_take(a, client) : -errno;
}

void alias_end_all(struct worker *w)
{
	struct alias *a;

	while ((a = LIST_FIRST(&w->aliases)))
		alias_end(a);
}
