/* SPDX-License-Identifier: Apache-2.0 */
#include "cross.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "flow.h"
#include "log.h"
#include "proxyclient.h"
#include "util.h"

/* Bytes between a descriptor of ours and the pipe that the program has in its place. */
struct stream {
	struct stream *next;
	struct crossing *crossing;
	struct flow flow;
	int fd, pipe; /* owned */
	bool input;   /* the program reads */
};

static void stream_closed(struct flow *f, int error)
{
	struct stream *s = f->arg, **at = &s->crossing->streams;

	/* A program that reads no further ends the pipe; nothing is wrong with that. */
	if (error && !(s->input && error == -EPIPE))
		log_warning("a file of this machine: %s", strerrordesc_np(-error));
	while (*at != s)
		at = &(*at)->next;
	*at = s->next;
	close(s->fd);
	close(s->pipe);
	free(s);
}

static const struct flow_hooks stream_hooks = { .closed = stream_closed };

/* Return: the program's end of the pipe, or a negative errno. */
static int stream_start(struct crossing *x, int fd, bool input)
{
	_cleanup_close_ int theirs = -1, ours = -1, copy = fcntl(fd, F_DUPFD_CLOEXEC, 3);
	struct stream *s;
	int ends[2];

	if (copy < 0 || pipe2(ends, O_CLOEXEC))
		return -errno;
	theirs = ends[!input];
	ours = ends[input];
	/* Each end has flags of its own: the program's stays a blocking one. */
	if (fcntl(ours, F_SETFL, O_NONBLOCK))
		return -errno;
	s = calloc(1, sizeof(*s));
	if (!s)
		return -ENOMEM;
	s->crossing = x;
	s->input = input;
	s->fd = take_fd(&copy);
	s->pipe = take_fd(&ours);
	s->next = x->streams;
	x->streams = s;
	flow_start(&s->flow, x->loop, input ? s->fd : s->pipe, input ? s->pipe : s->fd,
		   &stream_hooks, s);
	return take_fd(&theirs);
}

/* Can a pipe stand for @fd? In which direction, in the place of CROSS_UNKNOWN. */
static enum cross_use piped_use(int fd, enum cross_use use)
{
	struct stat st;

	if (!isatty(fd) && (fstat(fd, &st) || !S_ISREG(st.st_mode)))
		return CROSS_UNKNOWN;
	switch (fcntl(fd, F_GETFL) & O_ACCMODE) {
	case O_RDONLY:
		return CROSS_INPUT;
	case O_WRONLY:
		return CROSS_OUTPUT;
	default:
		return use;
	}
}

int cross_prepare(struct crossing *x, int fd, enum cross_use use, char *why, size_t size)
{
	int ret;

	*why = '\0';
	if (isatty(fd) || (!x->local && proxyclient_crosses(fd, why, size))) {
		use = piped_use(fd, use);
		ret = use == CROSS_UNKNOWN ? -EPERM : stream_start(x, fd, use == CROSS_INPUT);
	} else {
		ret = fcntl(fd, F_DUPFD_CLOEXEC, 3);
		ret = ret < 0 ? -errno : ret;
	}
	if (ret < 0 && !*why)
		snprintf(why, size, "%s", strerrordesc_np(-ret));
	return ret;
}

bool cross_idle(const struct crossing *x)
{
	for (const struct stream *s = x->streams; s; s = s->next)
		if (!s->input)
			return false;
	return true;
}
