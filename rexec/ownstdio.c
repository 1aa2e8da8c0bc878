/* SPDX-License-Identifier: Apache-2.0 */
#include "ownstdio.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "util.h"

/* A file's offset is the caller's: it must be the same open file. A terminal has none, and one
 * of our own does not block us when somebody else reads what poll(2) told of. */
static int own_descriptor(int fd, bool input)
{
	if (isatty(fd))
		return flow_reopen(fd, input ? O_RDONLY : O_WRONLY);
	fd = fcntl(fd, F_DUPFD_CLOEXEC, 3);
	return fd < 0 ? -errno : fd;
}

static int open_relay(struct stdio_relay *r, int fd)
{
	int pipefd[2];

	if (pipe2(pipefd, O_CLOEXEC))
		return -errno;
	r->pipe = pipefd[r->input];
	r->passed = pipefd[!r->input];
	/* Each end of a pipe has flags of its own: the program's stay. */
	if (fcntl(r->pipe, F_SETFL, O_NONBLOCK))
		return -errno;
	r->own = own_descriptor(fd, r->input);
	r->rewinds = r->input && !isatty(fd);
	return MIN(r->own, 0);
}

static void close_all(struct stdio_relay *r)
{
	replace_fd(&r->passed, -1);
	replace_fd(&r->pipe, -1);
	replace_fd(&r->own, -1);
}

int stdio_add(struct stdio_relay **list, int fd, bool input)
{
	struct stdio_relay *r = calloc(1, sizeof(*r));
	int err;

	if (!r)
		return -ENOMEM;
	*r = (struct stdio_relay){
		.passed = -1, .pipe = -1, .number = fd, .own = -1, .input = input
	};
	err = open_relay(r, fd);
	if (err) {
		close_all(r);
		free(r);
		return err;
	}
	r->next = *list;
	*list = r;
	return r->passed;
}

/* What the program has not read goes back to the file. */
static void unread(struct stdio_relay *r)
{
	int in_pipe = 0;

	ioctl(r->passed, FIONREAD, &in_pipe);
	lseek(r->own, -(off_t)(r->flow.queued + (size_t)in_pipe), SEEK_CUR);
}

static void on_closed(struct flow *f, int error)
{
	struct stdio_relay *r = f->arg;

	(void)error;
	/* Closing our end is the program's end of file, or its EPIPE. */
	replace_fd(&r->pipe, -1);
	if (!r->rewinds)
		close_all(r);
}

static const struct flow_hooks hooks = { .closed = on_closed };

void stdio_start(struct stdio_relay *list, struct loop *l, bool keep)
{
	for (struct stdio_relay *r = list; r; r = r->next) {
		/* By the end that the program reads is known how much it has not read. */
		if (!r->rewinds && !(keep && !r->input))
			replace_fd(&r->passed, -1);
		if (r->input)
			flow_start(&r->flow, l, r->own, r->pipe, &hooks, r);
		else
			flow_start(&r->flow, l, r->pipe, r->own, &hooks, r);
	}
}

bool stdio_drained(struct stdio_relay *list)
{
	bool drained = true;

	for (struct stdio_relay *r = list; r; r = r->next)
		if (!r->input && !flow_drain(&r->flow))
			drained = false;
	return drained;
}

int stdio_lost(struct stdio_relay *list, int *error)
{
	for (struct stdio_relay *r = list; r; r = r->next) {
		if (r->input || !r->flow.over || !r->flow.error)
			continue;
		*error = r->flow.error;
		r->flow.error = 0;
		return r->number;
	}
	return -1;
}

void stdio_finish(struct stdio_relay *list)
{
	while (list) {
		struct stdio_relay *r = list;

		list = r->next;
		if (r->rewinds)
			unread(r);
		flow_stop(&r->flow);
		close_all(r);
		free(r);
	}
}
