/* SPDX-License-Identifier: Apache-2.0 */
#include "outputs.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <unistd.h>

#include "util.h"

static void close_output(struct output *o)
{
	loop_timer_stop(&o->orphan);
	flow_stop(&o->flow);
	replace_fd(&o->from, -1);
	replace_fd(&o->to, -1);
}

/* No reader, and no word of a lost link: the program gets its EPIPE. */
static void on_orphan(void *arg)
{
	close_output(arg);
}

/* We are root, and read what the client can perhaps only write: of pipes without a name it has the other end, or has
 * it from who made them; a FIFO's content may be others'. */
static bool may_read(int fd)
{
	struct stat st;
	struct statfs fs;

	return !fstat(fd, &st) && S_ISFIFO(st.st_mode) && !fstatfs(fd, &fs) && fs.f_type == PIPEFS_MAGIC;
}

/* What is still in the pipe is not lost with its reader: whoever has the other end can read it. */
static void take_back(struct output *o)
{
	_cleanup_close_ int from = -1;
	_cleanup_free_ void *bytes = NULL;
	int size = 0;
	ssize_t n;

	if (o->to < 0 || !may_read(o->to) || ioctl(o->to, FIONREAD, &size) || !size)
		return;
	from = flow_reopen(o->to, O_RDONLY);
	bytes = malloc((size_t)size);
	n = from < 0 || !bytes ? -1 : read(from, bytes, (size_t)size);
	if (n > 0)
		flow_put_back(&o->flow, bytes, (size_t)n);
}

static void on_lost(struct flow *f, int error)
{
	struct output *o = f->arg;

	(void)error;
	take_back(o);
	replace_fd(&o->to, -1);
	loop_timer_start(f->loop, &o->orphan, OUTPUTS_ORPHAN_MS, on_orphan, o);
}

/* All is in the pipe. Should its reader be lost before it has read it, we can: a read end of ours keeps
 * nobody from seeing the end. */
static void on_closed(struct flow *f, int error)
{
	struct output *o = f->arg;
	int rest = error || o->to < 0 || !may_read(o->to) ? -1 : flow_reopen(o->to, O_RDONLY);

	close_output(o);
	o->from = MAX(rest, -1);
}

static const struct flow_hooks hooks = { .lost = on_lost, .closed = on_closed };

int outputs_init(struct outputs *o, struct loop *l, size_t max)
{
	*o = (struct outputs){ .loop = l, .list = calloc(max + 1, sizeof(*o->list)) };
	return o->list ? 0 : -ENOMEM;
}

/* Of our own, so that its flags are not ours; but we are root, and /proc gives root what the client
 * could not open. So only a pipe that was opened for writing. */
static int own_end(int fd)
{
	struct stat st;
	int flags = fcntl(fd, F_GETFL);

	if (flags < 0 || fstat(fd, &st))
		return -errno;
	if ((flags & O_ACCMODE) == O_RDONLY) /* O_PATH, too */
		return -EBADF;
	if (S_ISFIFO(st.st_mode))
		return flow_reopen(fd, O_WRONLY);
	fd = fcntl(fd, F_DUPFD_CLOEXEC, 3);
	return fd < 0 ? -errno : fd;
}

int outputs_add(struct outputs *o, int to, int number)
{
	struct output *out = &o->list[o->n];
	int pipefd[2];

	if (pipe2(pipefd, O_CLOEXEC)) {
		int err = -errno;

		close_keep_errno(to);
		return err;
	}
	o->n++;
	out->from = pipefd[0];
	out->program = pipefd[1];
	out->number = number;
	/* The passed pipe may be the client's own: its flags are not ours. */
	out->to = to < 0 ? -1 : own_end(to);
	close_keep_errno(to);
	return out->program;
}

void outputs_start(struct outputs *o)
{
	for (size_t i = 0; i < o->n; i++) {
		struct output *out = &o->list[i];

		replace_fd(&out->program, -1);
		flow_start(&out->flow, o->loop, out->from, MAX(out->to, -1), &hooks, out);
		flow_hold(&out->flow, OUTPUTS_HOLD);
	}
}

bool outputs_drain(struct outputs *o)
{
	bool drained = true;

	for (size_t i = 0; i < o->n; i++)
		if (!flow_drain(&o->list[i].flow) && o->list[i].to >= 0)
			drained = false;
	return drained;
}

void outputs_detach(struct outputs *o, bool lost)
{
	for (size_t i = 0; i < o->n; i++) {
		loop_timer_stop(&o->list[i].orphan);
		if (lost)
			take_back(&o->list[i]);
		flow_retarget(&o->list[i].flow, -1);
		replace_fd(&o->list[i].to, -1);
	}
}

/* What there is for @number, or -1. */
static int take(struct fdset *fds, int first, const uint32_t *numbers, int number)
{
	for (int i = first; i < fds->n; i++)
		if (numbers[i - first] == (uint32_t)number)
			return fdset_take(fds, i);
	return -1;
}

void outputs_attach(struct outputs *o, struct fdset *fds, int first, const uint32_t *numbers)
{
	for (size_t i = 0; i < o->n; i++) {
		struct output *out = &o->list[i];
		_cleanup_close_ int to = take(fds, first, numbers, out->number);

		/* The program closed it, and all it wrote there was taken. */
		if (to < 0 || (out->flow.over && out->from < 0))
			continue;
		out->to = own_end(to);
		if (out->flow.over) /* but perhaps not read */
			flow_start(&out->flow, o->loop, out->from, MAX(out->to, -1), &hooks, out);
		else
			flow_retarget(&out->flow, MAX(out->to, -1));
	}
}

void outputs_deinit(struct outputs *o)
{
	for (size_t i = 0; i < o->n; i++)
		close_output(&o->list[i]);
	free(o->list);
}
