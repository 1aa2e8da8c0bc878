/* SPDX-License-Identifier: Apache-2.0 */
#include "outlet.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "log.h"
#include "util.h"

#define ACCEPT_PAUSE_MS 1000

struct outlet {
	struct outlet *next;
	struct outlets *all;
	enum argv_channel kind;
	int fd;
	int number;
	char *name, *path; /* NULL for an inherited one */
	struct loop_io io;
	struct loop_timer pause;
	struct connection_hooks hooks;
	struct connection *clients[OUTLET_CLIENTS_MAX];
	size_t n;
	bool used; /* there was a client */
};

static int outlet_dial(void *arg)
{
	struct outlet *o = arg;

	return o->all->dial(o->all->arg, o->number, o->name);
}

static void outlet_closed(void *arg, struct connection *c)
{
	struct outlet *o = arg;
	size_t i = 0;

	while (o->clients[i] != c)
		i++;
	o->clients[i] = o->clients[--o->n];
	o->io.events = POLLIN;
}

static void resume(void *arg)
{
	struct outlet *o = arg;

	o->io.events = POLLIN;
}

static void outlet_ready(void *arg, short revents)
{
	struct outlet *o = arg;
	struct connection *c;
	int fd = accept4(o->fd, NULL, NULL, SOCK_CLOEXEC);

	(void)revents;
	if (fd < 0) {
		if (errno == EAGAIN || errno == EINTR || errno == ECONNABORTED)
			return;
		/* Out of descriptors, most likely: not to be asked again at once. */
		log_warning("cannot accept a client of QEMU's: %s", strerrordesc_np(errno));
		o->io.events = 0;
		loop_timer_start(o->all->setting.loop, &o->pause, ACCEPT_PAUSE_MS, resume, o);
		return;
	}
	c = connection_new(&o->all->setting, fd, o->kind, &o->hooks);
	if (!c)
		return;
	o->used = true;
	o->clients[o->n++] = c;
	if (o->n == OUTLET_CLIENTS_MAX)
		o->io.events = 0;
}

static struct outlet *outlet_new(struct outlets *all, enum argv_channel kind)
{
	struct outlet *o = calloc(1, sizeof(*o));

	if (!o)
		return NULL;
	o->all = all;
	o->kind = kind;
	o->fd = o->number = -1;
	o->hooks = (struct connection_hooks){ outlet_dial, outlet_closed, o };
	o->next = all->list;
	all->list = o;
	return o;
}

static void outlet_listen(struct outlet *o, int fd)
{
	o->fd = fd;
	loop_io_start(o->all->setting.loop, &o->io, fd, POLLIN, outlet_ready, o);
}

int outlet_inherited(struct outlets *all, int fd, int number, enum argv_channel kind)
{
	struct outlet *o = outlet_new(all, kind);

	if (!o)
		return -ENOMEM;
	o->number = number;
	outlet_listen(o, fd);
	return 0;
}

static int listen_at(const char *path)
{
	_cleanup_close_ int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	struct sockaddr_un at = { .sun_family = AF_UNIX };
	struct stat st;

	if (fd < 0)
		return -errno;
	if (strlen(path) >= sizeof(at.sun_path))
		return -ENAMETOOLONG;
	strcpy(at.sun_path, path);
	if (!lstat(path, &st) && S_ISSOCK(st.st_mode))
		unlink(path);
	if (bind(fd, (const struct sockaddr *)&at, sizeof(at)) || listen(fd, SOMAXCONN))
		return -errno;
	return take_fd(&fd);
}

int outlet_at_path(struct outlets *all, const char *path, const char *name, enum argv_channel kind)
{
	struct outlet *o = outlet_new(all, kind);
	int fd;

	if (!o)
		return -ENOMEM;
	o->name = strdup(name);
	if (!o->name)
		return -ENOMEM;
	fd = listen_at(path);
	if (fd < 0)
		return fd;
	outlet_listen(o, fd);
	o->path = strdup(path);
	return o->path ? 0 : -ENOMEM;
}

void outlets_await_monitor(const struct outlets *all, int timeout_ms)
{
	for (const struct outlet *o = all->list; o; o = o->next) {
		struct pollfd p = { .fd = o->fd, .events = POLLIN };

		if (o->name || o->kind != ARGV_MONITOR || o->used)
			continue;
		if (poll(&p, 1, timeout_ms) > 0)
			close_keep_errno(accept4(o->fd, NULL, NULL, SOCK_CLOEXEC));
	}
}

static void outlet_finish(struct outlet *o)
{
	loop_io_stop(&o->io);
	loop_timer_stop(&o->pause);
	if (o->path)
		unlink(o->path);
	for (size_t i = o->n; i > 0; i--)
		connection_finish(o->clients[i - 1]);
}

void outlets_finish(struct outlets *all)
{
	for (struct outlet *o = all->list; o; o = o->next)
		outlet_finish(o);
}

bool outlets_idle(const struct outlets *all)
{
	for (const struct outlet *o = all->list; o; o = o->next)
		if (o->n)
			return false;
	return true;
}

void outlets_free(struct outlets *all)
{
	struct outlet *o;

	while ((o = all->list)) {
		all->list = o->next;
		while (o->n)
			connection_close(o->clients[0]);
		if (o->path)
			close_keep_errno(o->fd);
		free(o->name);
		free(o->path);
		free(o);
	}
}
