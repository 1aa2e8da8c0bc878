/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How it works: we hold the master side only. While the slave is open nowhere, poll(2) reports
 * POLLHUP on the master, at once and for ever; then the master is not watched, `open` is false
 * and terminal_look() asks again. The socket to HOST's terminal is always read. When it breaks it
 * is dialled again; whoever has the terminal open notices only that it was silent.
 */
#include "terminal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <termios.h>
#include <unistd.h>

#include "fifo.h"
#include "log.h"
#include "util.h"

#define HOST_PREFIX "/dev/pts/"
#define REDIAL_MS 1000
#define PIECE 4096

struct terminal {
	struct terminal *next;
	struct terminals *all;
	char host[32], local[32];
	int master, remote;  /* remote: -1 while it is not connected */
	bool open;	     /* somebody has the slave */
	struct fifo in, out; /* what was typed; what the guest printed */
	struct loop_io on_master, on_remote;
	struct loop_timer redial;
};

static void update(struct terminal *t)
{
	t->on_master.events =
		(short)((fifo_len(&t->in) ? 0 : POLLIN) | (fifo_len(&t->out) ? POLLOUT : 0));
	if (!t->open)
		t->on_master.events = 0;
	t->on_remote.events =
		(short)((fifo_len(&t->out) ? 0 : POLLIN) | (fifo_len(&t->in) ? POLLOUT : 0));
}

static bool look(struct terminal *t)
{
	struct pollfd p = { .fd = t->master, .events = 0 };

	t->open = poll(&p, 1, 0) >= 0 && !(p.revents & POLLHUP);
	if (!t->open)
		fifo_clear(&t->out);
	return t->open;
}

static void terminal_free(struct terminal *t)
{
	struct terminal **at = &t->all->list;

	while (*at != t)
		at = &(*at)->next;
	*at = t->next;
	t->all->n--;
	loop_io_stop(&t->on_master);
	loop_io_stop(&t->on_remote);
	loop_timer_stop(&t->redial);
	close_keep_errno(t->master);
	close_keep_errno(t->remote);
	fifo_clear(&t->in);
	fifo_clear(&t->out);
	free(t);
}

/* ---- the two sides ---- */

static void write_master(struct terminal *t)
{
	ssize_t n;

	while (fifo_len(&t->out)) {
		n = write(t->master, fifo_peek(&t->out), fifo_len(&t->out));
		if (n < 0) {
			if (errno != EAGAIN && errno != EINTR)
				fifo_clear(&t->out);
			return;
		}
		fifo_skip(&t->out, (size_t)n);
	}
}

static void write_remote(struct terminal *t)
{
	ssize_t n;

	if (!fifo_len(&t->in) || t->remote < 0)
		return;
	n = send(t->remote, fifo_peek(&t->in), fifo_len(&t->in), MSG_DONTWAIT | MSG_NOSIGNAL);
	if (n > 0)
		fifo_skip(&t->in, (size_t)n);
}

static void master_ready(void *arg, short revents)
{
	struct terminal *t = arg;
	char piece[PIECE];
	ssize_t n;

	if (revents & POLLIN) {
		n = read(t->master, piece, sizeof(piece));
		if (n > 0 && fifo_add(&t->in, piece, (size_t)n))
			log_warning("%s: no memory, typed characters are lost", t->local);
		write_remote(t);
	}
	if (revents & POLLOUT)
		write_master(t);
	if (revents & POLLHUP)
		look(t);
	update(t);
}

static void redial(void *arg);

static void remote_lost(struct terminal *t)
{
	loop_io_stop(&t->on_remote);
	replace_fd(&t->remote, -1);
	loop_timer_start(t->all->loop, &t->redial, 20, redial, t);
}

static void remote_ready(void *arg, short revents)
{
	struct terminal *t = arg;
	char piece[PIECE];
	ssize_t n;

	if (revents & (POLLIN | POLLHUP | POLLERR)) {
		n = recv(t->remote, piece, sizeof(piece), MSG_DONTWAIT);
		if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR)) {
			remote_lost(t);
			return;
		}
		if (n > 0 && look(t)) {
			fifo_add(&t->out, piece, (size_t)n);
			write_master(t);
		}
	}
	write_remote(t);
	update(t);
}

static void redial(void *arg)
{
	struct terminal *t = arg;
	int fd = t->all->dial(t->all->arg, t->host);

	if (fd == -ENOENT) {
		terminal_free(t);
		return;
	}
	if (fd < 0) {
		loop_timer_start(t->all->loop, &t->redial, REDIAL_MS, redial, t);
		return;
	}
	t->remote = fd;
	loop_io_start(t->all->loop, &t->on_remote, fd, POLLIN, remote_ready, t);
	write_remote(t);
	update(t);
}

/* ---- making one ---- */

static int make_raw(int master)
{
	_cleanup_close_ int slave = -1;
	struct termios mode;

	if (unlockpt(master))
		return -errno;
	slave = ioctl(master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
	if (slave < 0 || tcgetattr(slave, &mode))
		return -errno;
	cfmakeraw(&mode);
	return tcsetattr(slave, TCSANOW, &mode) ? -errno : 0;
}

static int terminal_open(struct terminal *t)
{
	int ret;

	t->master = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC | O_NONBLOCK);
	if (t->master < 0)
		return -errno;
	ret = make_raw(t->master);
	if (!ret)
		ret = -ptsname_r(t->master, t->local, sizeof(t->local));
	return ret;
}

static bool is_terminal_path(const char *path)
{
	size_t prefix = strlen(HOST_PREFIX), n = strlen(path);

	return n > prefix && n < sizeof(((struct terminal *)0)->host) &&
	       !strncmp(path, HOST_PREFIX, prefix) &&
	       strspn(path + prefix, "0123456789") == n - prefix;
}

static struct terminal *terminal_new(struct terminals *all, const char *path)
{
	struct terminal *t = calloc(1, sizeof(*t));
	int ret;

	if (!t)
		return NULL;
	t->all = all;
	t->remote = -1;
	t->next = all->list;
	all->list = t;
	all->n++;
	strcpy(t->host, path);
	ret = terminal_open(t);
	if (ret) {
		log_warning("no terminal for QEMU's %s: %s", path, strerrordesc_np(-ret));
		terminal_free(t);
		return NULL;
	}
	loop_io_start(all->loop, &t->on_master, t->master, 0, master_ready, t);
	loop_timer_start(all->loop, &t->redial, 0, redial, t);
	return t;
}

const char *terminal_of(struct terminals *all, const char *path)
{
	struct terminal *t;

	if (!is_terminal_path(path))
		return NULL;
	for (t = all->list; t; t = t->next)
		if (!strcmp(t->host, path))
			return t->local;
	t = all->n < TERMINAL_MAX ? terminal_new(all, path) : NULL;
	return t ? t->local : "/dev/null";
}

void terminal_look(struct terminals *all)
{
	for (struct terminal *t = all->list; t; t = t->next) {
		if (t->open || !look(t))
			continue;
		update(t);
	}
}
