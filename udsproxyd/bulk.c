/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 *
 * `ahead` holds, in this order, what is framed and not sent, and what is not framed. `kept` holds what the peer has
 * acknowledged and was not forgotten yet (the stream's `forgotten`), and then the payloads that the
 * stream has outside. Acknowledged ones are forgotten when there is need for the room, or for none of it.
 *
 * tee(2) copies from the beginning of a pipe: so something is framed only when `ahead` has nothing before it, which
 * is when the stream is sent as far as it goes. A piece of the pipe's may hold few bytes; what `kept` has
 * no place for is copied to memory instead.
 */
#include "bulk.h"

#include <errno.h>
#include <limits.h>
#include <sys/ioctl.h>

#include "channel.h"
#include "session.h"
#include "splice.h"
#include "util.h"

#define PAGE 4096u /* what a piece of a pipe usually is */

struct bulk {
	struct splice *ahead, *kept;
	size_t unframed; /* bytes of `ahead` */
};

static struct bulk *bulk_of(struct session *s)
{
	struct bulk *b = s->bulk;

	if (!b)
		b = s->bulk = calloc(1, sizeof(*b));
	if (!b)
		return NULL;
	if (!b->ahead)
		b->ahead = splice_get(s->worker);
	if (!b->kept)
		b->kept = splice_get(s->worker);
	if (b->ahead && b->kept)
		return b;
	splice_put(s->worker, b->ahead);
	splice_put(s->worker, b->kept);
	b->ahead = b->kept = NULL;
	return NULL;
}

/* Bytes that can be read without any descriptors coming with them; 0: none, or the end; -EAGAIN: none now. Asking a pipe
 * costs as much as reading it: either waits for whoever writes to it. */
static ssize_t queued(const struct session *s)
{
	return s->local == SESSION_PIPE ? (ssize_t)WIRE_PAYLOAD_MAX : fd_plain_queued(s->fd);
}

static ssize_t fill(struct session *s, size_t len)
{
	struct splice *ahead = s->bulk->ahead;

	return s->local == SESSION_PIPE ? channel_splice(s->channel, ahead, len)
					: splice_fill(ahead, s->fd, len);
}

bool bulk_waits(const struct session *s)
{
	return s->bulk && s->bulk->unframed;
}

/* Less than that may be less than a packet of a pipe whose writer has set O_DIRECT. */
size_t bulk_room_needed(const struct session *s)
{
	return bulk_waits(s) ? MIN(s->bulk->unframed, PIPE_BUF) : 0;
}

ssize_t bulk_fill(struct session *s, size_t room)
{
	struct bulk *b;
	ssize_t n;

	room = MIN(room, WIRE_PAYLOAD_MAX);
	if (bulk_waits(s))
		return (ssize_t)MIN(s->bulk->unframed, room);
	n = queued(s);
	if (n < (ssize_t)SPLICE_MIN || room < SPLICE_MIN)
		return MIN(n, 0);
	room -= room % PAGE;
	b = bulk_of(s);
	if (!b)
		return 0;
	while (n > 0 && b->unframed < room) {
		n = fill(s, MIN((size_t)n, room - b->unframed));
		if (n > 0)
			b->unframed += (size_t)n;
		if (s->local == SESSION_PIPE)
			break;
		n = n > 0 ? queued(s) : 0;
	}
	/* A copy of what may have come in between would cost more than waiting for its event does. */
	if (n == -EAGAIN && !b->unframed)
		return n;
	if (n == -EAGAIN)
		s->readable = false;
	return (ssize_t)b->unframed;
}

static int forget(struct session *s)
{
	size_t n = s->out.forgotten;

	s->out.forgotten = 0;
	return splice_forget(s->bulk->kept, s->worker->daemon->null_fd, n);
}

/* There is no room for more pieces. */
static int frame_copied(struct session *s, size_t n)
{
	struct bulk *b = s->bulk;
	struct iovec iov = { .iov_base = s->worker->outbound };
	ssize_t got = splice_read_whole(b->ahead, s->worker->outbound, MIN(n, sizeof(s->worker->outbound)));

	if (got < 0)
		return (int)got;
	b->unframed -= (size_t)got;
	iov.iov_len = (size_t)got;
	return stream_add(&s->out, WIRE_DATA, 0, stream_ack(&s->in), &iov, 1);
}

int bulk_frame(struct session *s, size_t n)
{
	struct bulk *b = s->bulk;
	int err = forget(s);
	ssize_t kept;

	if (err)
		return err;
	kept = splice_tee(b->ahead, b->kept, n);
	if (kept <= 0 && splice_widen(s->worker, b->kept))
		kept = splice_tee(b->ahead, b->kept, n);
	if (kept > 0) {
		b->unframed -= (size_t)kept;
		err = stream_add_outside(&s->out, stream_ack(&s->in), (size_t)kept);
	} else {
		err = frame_copied(s, n);
	}
	s->readable |= b->unframed > 0; /* no event will tell of that */
	return err;
}

ssize_t bulk_send(struct session *s, int to)
{
	return splice_drain(s->bulk->ahead, to, stream_unsent_outside(&s->out));
}

int bulk_bring_inside(struct session *s)
{
	struct bulk *b = s->bulk;
	uint8_t *to;
	size_t len;
	int err;

	if (!b || !b->kept)
		return 0;
	err = forget(s);
	/* What is framed and was not sent will be sent from where it is kept. */
	if (!err)
		err = splice_forget(b->ahead, s->worker->daemon->null_fd,
				    b->ahead->filled - b->unframed);
	while (!err && (to = stream_bring_inside(&s->out, &len)))
		err = splice_read(b->kept, to, len);
	return err ? err : len ? -ENOMEM : 0;
}

void bulk_tidy(struct session *s)
{
	struct bulk *b = s->bulk;

	if (!b || !b->kept || s->out.outside || b->ahead->filled)
		return;
	forget(s); /* or it is closed with what it holds */
	splice_put(s->worker, b->ahead);
	splice_put(s->worker, b->kept);
	b->ahead = b->kept = NULL;
}

void bulk_end(struct session *s)
{
	struct bulk *b = s->bulk;

	s->bulk = NULL;
	if (!b)
		return;
	splice_put(s->worker, b->ahead);
	splice_put(s->worker, b->kept);
	free(b);
}
