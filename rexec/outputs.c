/* SPDX-License-Identifier: Apache-2.0 */
#include "outputs.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
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

static void on_lost(struct flow *f, int error)
{
	struct output *o = f->arg;

	(void)error;
	replace_fd(&o->to, -1);
	loop_timer_start(f->loop, &o->orphan, OUTPUTS_ORPHAN_MS, on_orphan, o);
}

static void on_closed(struct flow *f, int error)
{
	(void)error;
	close_output(f->arg);
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

int outputs_add(struct outputs *o, int to)
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
	/* The passed pipe may be the client's own: its flags are not ours. */
	out->to = own_end(to);
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

void outputs_detach(struct outputs *o)
{
	for (size_t i = 0; i < o->n; i++) {
		loop_timer_stop(&o->list[i].orphan);
		flow_retarget(&o->list[i].flow, -1);
		replace_fd(&o->list[i].to, -1);
	}
}

void outputs_attach(struct outputs *o, struct fdset *fds, int first)
{
	for (size_t i = 0; i < o->n; i++) {
		struct output *out = &o->list[i];
		_cleanup_close_ int to = fdset_take(fds, first + (int)i);

		/* The program closed it, and all it wrote there was delivered. */
		if (out->flow.over)
			continue;
		out->to = own_end(to);
		flow_retarget(&out->flow, MAX(out->to, -1));
	}
}

void outputs_deinit(struct outputs *o)
{
	for (size_t i = 0; i < o->n; i++)
		close_output(&o->list[i]);
	free(o->list);
}
