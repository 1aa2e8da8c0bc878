/* SPDX-License-Identifier: Apache-2.0 */
/*
 * flow.c - how bytes get from one descriptor to another
 *
 * read_once() takes what is there, the data hook (or flow_send()) hands it on: what the target
 * takes at once is never queued, the rest waits in chunks, descriptors with the first byte of
 * the chunk that they came with. What poll(2) waits for is computed by update() from the
 * state, after every step. Nothing is freed under a caller's feet: the end is a timer that
 * fires when the turn's callbacks are done.
 */
#include "flow.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "util.h"

struct flow_chunk {
	struct flow_chunk *next;
	struct fdset *fds; /* NULL: none, or sent */
	size_t size, sent;
	uint8_t data[];
};

/* One loop, one thread: what is read stays here until it is sent or copied into a chunk. */
static uint8_t read_buffer[FLOW_PACKET_MAX + 1];

static void on_readable(void *arg, short revents);
static void on_writable(void *arg, short revents);

/* SO_TYPE, 0 when @fd is no socket. */
static int socket_type(int fd)
{
	int type = 0;
	socklen_t len = sizeof(type);

	return fd >= 0 && !getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &len) ? type : 0;
}

static bool poll_now(int fd, short events)
{
	struct pollfd p = { .fd = fd, .events = events };

	return poll(&p, 1, 0) > 0;
}

static void update(struct flow *f)
{
	bool holding = f->hold && f->to < 0;

	if (f->in.loop)
		f->in.events = !f->source_ended && !f->shut && !f->over &&
					       (holding || f->queued < FLOW_HIGH_WATER)
				       ? POLLIN
				       : 0;
	/* POLLPRI never comes: it stands for POLLHUP and POLLERR alone, by which a target that
	 * takes no more is known before there is something to write. */
	if (f->out.loop)
		f->out.events = f->head ? POLLOUT : POLLPRI;
}

static void drop_head(struct flow *f)
{
	struct flow_chunk *c = f->head;

	f->head = c->next;
	if (!f->head)
		f->tail = &f->head;
	if (c->fds)
		fdset_close(c->fds);
	free(c->fds);
	free(c);
}

static void on_ending(void *arg)
{
	struct flow *f = arg;

	f->hooks->closed(f, f->error);
}

static void end(struct flow *f, int error)
{
	if (f->over)
		return;
	f->over = true;
	f->error = error;
	while (f->head)
		drop_head(f);
	loop_io_stop(&f->in);
	loop_io_stop(&f->out);
	loop_timer_start(f->loop, &f->ending, 0, on_ending, f);
}

static void target_lost(struct flow *f, int error)
{
	if (!f->hooks->lost) {
		end(f, error);
		return;
	}
	flow_retarget(f, -1);
	f->hooks->lost(f, error);
}

/* The end of the source, shown to the target behind the last byte. */
static void finish_if_shut(struct flow *f)
{
	if (!f->shut || f->head || f->over)
		return;
	if (f->to_socket)
		shutdown(f->to, SHUT_WR);
	end(f, 0);
}

/* Return: bytes that the target took, -EAGAIN, or a negative errno. */
static ssize_t write_some(struct flow *f, const void *data, size_t n, const struct fdset *fds)
{
	ssize_t done;

	if (f->to_socket)
		return fd_sendmsg(f->to, data, n, MSG_DONTWAIT, fds, NULL);
	/* Room for PIPE_BUF bytes is what poll(2) promises; more could block. */
	if (!f->to_nonblocking) {
		n = MIN(n, (size_t)PIPE_BUF);
		if (!poll_now(f->to, POLLOUT))
			return -EAGAIN;
	}
	do
		done = write(f->to, data, n);
	while (done < 0 && errno == EINTR);
	return done < 0 ? -errno : done;
}

/* Writes [*sent, n); the descriptors go with the first byte. 0 all written, or a negative errno. */
static int write_all(struct flow *f, const uint8_t *data, size_t n, size_t *sent, struct fdset *fds)
{
	do {
		ssize_t done = write_some(f, data + *sent, n - *sent, fds);

		if (done < 0)
			return (int)done;
		if (fds)
			fdset_close(fds);
		*sent += (size_t)done;
	} while (*sent < n);
	return 0;
}

static void enqueue(struct flow *f, const uint8_t *data, size_t n, struct fdset *fds)
{
	struct flow_chunk *c = malloc(sizeof(*c) + n);

	if (c && fds && fds->n) {
		c->fds = malloc(sizeof(*fds));
		if (!c->fds) {
			free(c);
			c = NULL;
		} else {
			*c->fds = *fds;
			fds->n = 0;
		}
	} else if (c) {
		c->fds = NULL;
	}
	if (!c) {
		end(f, -ENOMEM);
		return;
	}
	c->next = NULL;
	c->size = n;
	c->sent = 0;
	memcpy(c->data, data, n);
	*f->tail = c;
	f->tail = &c->next;
	f->queued += n;
	while (f->to < 0 && f->hold && f->queued > f->hold && f->head->next) {
		f->dropped += f->head->size - f->head->sent;
		f->queued -= f->head->size - f->head->sent;
		drop_head(f);
	}
}

void flow_send(struct flow *f, const void *bytes, size_t n, struct fdset *fds)
{
	size_t sent = 0;
	int err = -EAGAIN;

	/* Neither a terminal nor a pipe can carry them. */
	if (fds && !f->to_socket && f->to >= 0)
		fdset_close(fds);
	if (!f->over && !f->shut && (n || f->to_packets)) {
		if (!f->head && f->to >= 0)
			err = write_all(f, bytes, n, &sent, fds);
		if (err)
			enqueue(f, (const uint8_t *)bytes + sent, n - sent, fds);
		if (err && err != -EAGAIN)
			target_lost(f, err);
	}
	if (fds)
		fdset_close(fds);
	update(f);
}

static void flush(struct flow *f)
{
	while (f->head && !f->over && f->to >= 0) {
		struct flow_chunk *c = f->head;
		size_t before = c->sent;
		int err = write_all(f, c->data, c->size, &c->sent, c->fds);

		f->queued -= c->sent - before;
		if (err == -EAGAIN)
			break;
		if (err)
			target_lost(f, err);
		else
			drop_head(f);
	}
	finish_if_shut(f);
	update(f);
}

void flow_shut(struct flow *f)
{
	f->shut = true;
	finish_if_shut(f);
	update(f);
}

static void source_end(struct flow *f, int error)
{
	f->source_ended = true;
	update(f);
	if (f->hooks->eof)
		f->hooks->eof(f, error);
	else
		flow_shut(f);
}

/* Return: bytes in read_buffer; 0 the end (of a packet socket also an empty packet); -errno. */
static ssize_t read_some(struct flow *f, struct fdset *fds)
{
	size_t max = f->from_packets ? sizeof(read_buffer) : FLOW_READ_MAX;
	ssize_t n;

	fds->n = 0;
	if (f->from_socket) {
		n = fd_recvmsg(f->from, read_buffer, max, MSG_DONTWAIT, fds);
	} else {
		if (!poll_now(f->from, POLLIN))
			return -EAGAIN;
		n = read(f->from, read_buffer, max);
		n = n < 0 ? -errno : n;
	}
	if (n > (ssize_t)FLOW_PACKET_MAX) {
		fdset_close(fds);
		return -EMSGSIZE;
	}
	return n;
}

/* Reads once and hands on what came, the end included; false when there was nothing. */
static bool read_once(struct flow *f)
{
	struct fdset fds;
	ssize_t n = read_some(f, &fds);

	if (n == -EAGAIN || n == -EINTR)
		return false;
	if (n < 0) {
		source_end(f, (int)n);
		return true;
	}
	if (n == 0 && !(f->from_packets && !poll_now(f->from, POLLRDHUP))) {
		source_end(f, 0);
		return true;
	}
	if (f->hooks->data)
		f->hooks->data(f, read_buffer, (size_t)n, &fds);
	else
		flow_send(f, read_buffer, (size_t)n, &fds);
	fdset_close(&fds);
	return true;
}

static void on_readable(void *arg, short revents)
{
	(void)revents;
	read_once(arg);
}

static void on_writable(void *arg, short revents)
{
	struct flow *f = arg;

	if (!f->head && revents & (POLLERR | POLLHUP))
		target_lost(f, -EPIPE);
	else
		flush(f);
}

static void set_target(struct flow *f, int to)
{
	int type = socket_type(to);

	loop_io_stop(&f->out);
	f->to = to;
	f->to_socket = type != 0;
	f->to_packets = type == SOCK_SEQPACKET || type == SOCK_DGRAM;
	f->to_nonblocking = to >= 0 && fcntl(to, F_GETFL) & O_NONBLOCK;
	if (to >= 0)
		loop_io_start(f->loop, &f->out, to, 0, on_writable, f);
}

void flow_start(struct flow *f, struct loop *l, int from, int to, const struct flow_hooks *hooks,
		void *arg)
{
	int type = socket_type(from);

	*f = (struct flow){ .loop = l,
			    .from = from,
			    .from_socket = type != 0,
			    .from_packets = type == SOCK_SEQPACKET || type == SOCK_DGRAM,
			    .hooks = hooks,
			    .arg = arg };
	f->tail = &f->head;
	set_target(f, to);
	loop_io_start(l, &f->in, from, 0, on_readable, f);
	update(f);
}

void flow_stop(struct flow *f)
{
	while (f->head)
		drop_head(f);
	loop_io_stop(&f->in);
	loop_io_stop(&f->out);
	loop_timer_stop(&f->ending);
	f->over = true;
}

void flow_hold(struct flow *f, size_t bytes)
{
	f->hold = bytes;
	update(f);
}

void flow_put_back(struct flow *f, const void *bytes, size_t n)
{
	struct flow_chunk *c = f->over ? NULL : malloc(sizeof(*c) + n);

	if (!c)
		return;
	*c = (struct flow_chunk){ .next = f->head, .size = n };
	memcpy(c->data, bytes, n);
	if (!f->head)
		f->tail = &c->next;
	f->head = c;
	f->queued += n;
}

static void put_note(struct flow *f)
{
	char note[96];
	int n = snprintf(note, sizeof(note), "\n[rexec: %llu bytes of output dropped here]\n",
			 (unsigned long long)f->dropped);

	f->dropped = 0;
	flow_put_back(f, note, (size_t)n);
}

void flow_retarget(struct flow *f, int to)
{
	if (f->over)
		return;
	set_target(f, to);
	if (to >= 0 && f->dropped)
		put_note(f);
	flush(f);
}

bool flow_drain(struct flow *f)
{
	bool empty = false;

	flush(f);
	while (!f->over && !f->source_ended && !f->shut && !empty && f->queued < FLOW_HIGH_WATER)
		empty = !read_once(f);
	return f->over || (!f->queued && (empty || f->source_ended || f->shut));
}

int flow_reopen(int fd, int access_mode)
{
	char path[32];
	int again;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	again = open(path, access_mode | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	if (again < 0)
		again = fcntl(fd, F_DUPFD_CLOEXEC, 3);
	return again < 0 ? -errno : again;
}
