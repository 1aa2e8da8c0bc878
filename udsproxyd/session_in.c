/* SPDX-License-Identifier: Apache-2.0 */
#include "session_parts.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include "channel.h"
#include "dgram.h"
#include "fdmap.h"
#include "splice.h"
#include "util.h"

#define PATIENCE_MS 30000 /* for a pass that is said to be under way */
#define DATAGRAMS_MAX 512 /* more than a socket's buffer has (default 277) */
#define READER_BUFFER 400000 /* for a reader that does not keep up; the kernel doubles it, for what it needs itself */
#define READERS_WIDE_MAX 256 /* that are written to at once and have it: some 200 MiB of the kernel's memory */

static atomic_uint readers_wide;

bool session_passes_on(const struct session *s, uint8_t type)
{
	return type == WIRE_DATA && !session_has_packets(s) && s->state == SESSION_RUNNING && !s->resuming;
}

/* @n bytes of the peer's stream are done with. */
static void delivered(struct session *s, size_t n)
{
	s->in.delivered += n;
	session_owe_ack(s);
}

ssize_t session_data_begins(struct session *s)
{
	if (s->conn.flags & CONN_SHUT_RECEIVED)
		return -EPROTO;
	delivered(s, WIRE_HEADER);
	return WIRE_HEADER;
}

static ssize_t write_local(struct session *s, const void *data, size_t len)
{
	ssize_t n;

	if (s->local == SESSION_DATAGRAM)
		return dgram_write(s, data, len);
	if (s->local == SESSION_PIPE) {
		n = write(s->fd, data, len);
		return n < 0 ? -errno : n;
	}
	return fd_sendmsg(s->fd, data, len, MSG_DONTWAIT, s->arriving,
			  s->explicit ? &s->credentials : NULL);
}

/* The kernel tells of room when a quarter of the buffer is left. Of the usual one (208 KiB) a busy reader has read that before we
 * are running, and sleeps. So, the first time that it is full, it becomes larger; but that of a socket which was
 * passed to us is its owner's. Return: is there more room now? */
static bool widen(struct session *s)
{
	int size = READER_BUFFER, present = 0;
	socklen_t len = sizeof(present);

	if (s->wide || s->local != SESSION_STREAM || (s->channel && s->channel->ours))
		return false;
	if (getsockopt(s->fd, SOL_SOCKET, SO_SNDBUF, &present, &len) || present >= 2 * size)
		return false;
	s->wide = atomic_fetch_add(&readers_wide, 1) < READERS_WIDE_MAX &&
		  (!setsockopt(s->fd, SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof(size)) || /* or as much as anybody may */
		   !setsockopt(s->fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size)));
	if (!s->wide)
		atomic_fetch_sub(&readers_wide, 1);
	return s->wide;
}

void session_end_reader(struct session *s)
{
	if (s->wide)
		atomic_fetch_sub(&readers_wide, 1);
	s->wide = false;
}

/* When a send finds a datagram socket closed, the kernel throws away what that had sent before: so that
 * is read first, as much as there can be. */
static void read_before_sending(struct session *s)
{
	for (int i = 0; i < DATAGRAMS_MAX && s->state == SESSION_RUNNING && session_has_event(s, POLLIN); i++) {
		transport_flush(s->transport); /* or no more is read */
		s->readable = true;
		if (!session_read_local(s) || !s->transport)
			return;
	}
}

/* Bytes (a packet may have none) for the local end. Return: how many are done with, or -EAGAIN when
 * it takes none now. */
static ssize_t deliver(struct session *s, const void *data, size_t len)
{
	ssize_t n = -EPIPE;

	if (s->local == SESSION_DATAGRAM)
		read_before_sending(s);
	session_notice_pass(s);
	if (s->fd >= 0 && conn_writes(&s->conn)) {
		n = s->writable ? write_local(s, data, len) : -EAGAIN;
		if (n == -EAGAIN && s->writable && widen(s))
			n = write_local(s, data, len);
		if (n == -EAGAIN) {
			s->writable = false;
			return n;
		}
		if (n < 0)
			log_debug("the local end takes no more: %s", strerror((int)-n));
		if (s->local == SESSION_DATAGRAM && (n == -ECONNREFUSED || n == -ENOTCONN))
			session_other_end_closed(s);
		else if (n < 0)
			session_reader_gone(s);
	}
	/* Nobody reads it, as when a local reader is gone; a pipe keeps what it can. */
	if (n < 0 && s->fd >= 0 && s->local == SESSION_PIPE)
		n = write_local(s, data, len);
	if (n < 0)
		n = (ssize_t)len;
	session_forget_arriving(s);
	if (s->channel)
		channel_delivered(s->channel, (size_t)n, s->worker->daemon);
	return n;
}

ssize_t session_data(struct session *s, const void *data, size_t len)
{
	ssize_t n = deliver(s, data, len);

	if (n < 0)
		return 0;
	delivered(s, (size_t)n);
	return n;
}

/* ---- splice ------------------------------------------------------------------------------ */

/* @n bytes went to the local end, or nowhere for want of a reader. */
static void passed_on(struct session *s, size_t n)
{
	delivered(s, n);
	if (s->channel)
		channel_delivered(s->channel, n, s->worker->daemon);
}

bool session_can_splice(struct session *s, size_t len)
{
	/* Into a pipe the rest of a payload, too: that is one call, as write(2) would be. */
	if (len < SPLICE_MIN && s->local != SESSION_PIPE)
		return false;
	if (s->state != SESSION_RUNNING || s->fd < 0 || s->explicit || s->arriving || !session_is_sink(s) ||
	    session_has_packets(s))
		return false;
	/* One that was passed to us is its owner's, and may be one that blocks; so would splice(2). */
	if (s->local == SESSION_STREAM && s->channel && s->channel->ours)
		return false;
	if (!s->splice && s->local == SESSION_STREAM)
		s->splice = splice_get(s->worker);
	return s->splice || s->local == SESSION_PIPE;
}

/* Bytes, the end, or an error. */
static bool is_there(int sock)
{
	uint8_t byte;

	return recv(sock, &byte, 1, MSG_PEEK | MSG_DONTWAIT) >= 0 || errno != EAGAIN;
}

/* Into a pipe, which is a splice's end itself: then EAGAIN is said of either side, and asking them would be too late.
 * But where there was something to read before, it can only be the pipe. */
static ssize_t splice_to_pipe(struct session *s, int from, size_t len)
{
	bool was_there = false;
	ssize_t n;

	channel_widen(s->channel);
	while ((n = splice_through(from, s->fd, len)) == -EAGAIN) {
		if (was_there) {
			s->writable = false;
			return -EBUSY;
		}
		was_there = is_there(from);
		if (!was_there)
			return n;
	}
	if (n > 0) {
		stream_walked(&s->in, (size_t)n);
		passed_on(s, (size_t)n);
	} else if (n == -EPIPE) {
		session_reader_gone(s);
		return -EBUSY;
	}
	return n;
}

ssize_t session_splice(struct session *s, int from, size_t len)
{
	ssize_t n;

	session_notice_pass(s);
	if (!s->writable)
		return -EBUSY;
	if (s->local == SESSION_PIPE)
		return splice_to_pipe(s, from, len);
	n = splice_fill(s->splice, from, len);
	if (n > 0) {
		stream_walked(&s->in, (size_t)n);
		session_drain(s);
	}
	return n;
}

bool session_drain(struct session *s)
{
	struct splice *p = s->splice;
	ssize_t n = 0;

	if (!p)
		return true;
	while (p->filled && s->writable && n >= 0) {
		n = splice_drain(p, s->fd, p->filled);
		if (n == -EAGAIN && widen(s))
			n = splice_drain(p, s->fd, p->filled);
		if (n == -EAGAIN)
			s->writable = false;
		else if (n > 0)
			passed_on(s, (size_t)n);
	}
	if (p->filled && (n >= 0 || n == -EAGAIN))
		return false;
	if (p->filled) {
		log_debug("the local end takes no more: %s", strerror((int)-n));
		passed_on(s, p->filled);
		session_reader_gone(s);
	}
	splice_put(s->worker, p);
	s->splice = NULL;
	return true;
}

/* ---- frames ------------------------------------------------------------------------------ */

static ssize_t frame_abort(struct session *s, const struct frame_header *h, const uint8_t *payload)
{
	struct transport *t = s->transport;
	struct frame_opened o;

	if (frame_get_opened(&o, payload, h->length))
		return -EPROTO;
	session_tell_verdict(s, &o, "the peer ended a connection");
	session_end(s);
	transport_close(t);
	return (ssize_t)(WIRE_HEADER + h->length);
}

/* Descriptors, then the bytes they came with: make the former once, then it is like DATA. */
static ssize_t frame_msg(struct session *s, const struct frame_header *h, const uint8_t *payload)
{
	struct buf b;
	char reason[FDMAP_REASON_MAX];
	size_t text_size, len;
	const char *text;
	ssize_t n;
	int err;

	buf_init_const(&b, payload, h->length);
	text = buf_get_str(&b, &text_size);
	len = buf_left(&b);
	if (b.bad || (!len && !session_has_packets(s)) || !h->count || h->count > WIRE_DESCRIPTORS_MAX)
		return -EPROTO;
	if (!s->arriving) {
		err = fdmap_open_files(s, text, text_size, h->count);
		if (err <= 0)
			return err;
		s->arriving = calloc(1, sizeof(*s->arriving));
		if (!s->arriving)
			return -ENOMEM;
		err = fdmap_make(s, text, text_size, h->count, s->arriving, reason);
		fdmap_forget_files(s);
		if (err == -EPROTO)
			return err;
		if (err) {
			log_warning("a connection is ended: %s", reason);
			session_abort(s, -err, reason);
			return (ssize_t)(WIRE_HEADER + h->length);
		}
	}
	n = deliver(s, payload + b.pos, len);
	if (n < 0)
		return 0;
	n += (ssize_t)(WIRE_HEADER + b.pos);
	delivered(s, (size_t)n);
	return n;
}

static ssize_t frame_packet(struct session *s, const struct frame_header *h, const uint8_t *payload)
{
	if (deliver(s, payload, h->length) < 0)
		return 0;
	delivered(s, WIRE_HEADER + h->length);
	return (ssize_t)(WIRE_HEADER + h->length);
}

static bool order_is_fulfilled(struct session *s, const struct frame_header *h, struct buf *b)
{
	struct channel_table *channels = s->worker->daemon->channels;
	bool fulfilled = true;

	for (unsigned i = 0; i < h->count && fulfilled; i++) {
		struct frame_id id;
		struct channel *c;
		uint64_t bytes;

		frame_get_id(b, &id);
		bytes = buf_get_u64(b);
		/* One that is not there any more has delivered all. */
		c = channel_by_id(channels, &id);
		if (c) {
			fulfilled = channel_has_delivered(c, bytes, s->worker);
			channel_unref(c);
		}
	}
	return fulfilled;
}

static ssize_t frame_order(struct session *s, const struct frame_header *h, const uint8_t *payload)
{
	struct buf b;

	if (h->count > WIRE_ORDER_MAX || h->length != h->count * (WIRE_ID_SIZE + 8u))
		return -EPROTO;
	buf_init_const(&b, payload, h->length);
	if (!order_is_fulfilled(s, h, &b)) {
		if (!s->waiting)
			LIST_INSERT_HEAD(&s->worker->waiting, s, waiting_entry);
		s->waiting = true;
		return 0;
	}
	session_stop_waiting(s);
	delivered(s, WIRE_HEADER + h->length);
	return (ssize_t)(WIRE_HEADER + h->length);
}

/* SHUT and STOP of a pipe that was passed from here count how often it had been passed when they were said; one that crossed a
 * further pass is void. Of a socket they tell whether it was closed. */
static bool is_stale(struct session *s, const struct frame_header *h)
{
	if (!s->channel || !s->channel->ours)
		return false;
	if (s->local != SESSION_PIPE) {
		s->closed_there = h->count && session_is_connection(s);
		return false;
	}
	s->seen = h->count;
	return !channel_settle(s->worker->daemon->channels, s->channel, h->count);
}

/* SHUT and STOP of a pipe made here count how often it was passed in all: should a pass still be under
 * way, it must find the pipe. */
static bool is_early(struct session *s, const struct frame_header *h)
{
	if (s->local != SESSION_PIPE || s->channel->ours)
		return false;
	session_notice_pass(s);
	if ((int16_t)(h->count - s->seen) <= 0 || !s->patient)
		return false;
	if (!timer_pending(&s->timer))
		timer_start(&s->worker->events, &s->timer, PATIENCE_MS);
	return true;
}

/* A close is STOP and SHUT, one right behind the other. (Of a passed descriptor each has its own count. And behind
 * much data, which is spliced up to the next header, SHUT has not been read yet.) */
static bool is_close(const struct session *s, const uint8_t *behind)
{
	struct frame_header next;

	return !s->channel && s->worker->behind >= WIRE_HEADER && !frame_get_header(&next, behind) &&
	       next.type == WIRE_SHUT;
}

ssize_t session_frame(struct session *s, const struct frame_header *h, const uint8_t *payload)
{
	ssize_t whole = (ssize_t)(WIRE_HEADER + h->length);

	if (s->resuming)
		return h->type == WIRE_RESUMED ? session_resumed(s, h, payload) : -EPROTO;
	if (h->type == WIRE_OPENED)
		return session_opened(s, h, payload);
	if (h->type == WIRE_ABORT)
		return frame_abort(s, h, payload);
	if (s->state == SESSION_OFFERED)
		return 0; /* until the client is there */
	if (s->state != SESSION_RUNNING)
		return -EPROTO;
	if (s->conn.flags & CONN_SHUT_RECEIVED &&
	    (h->type == WIRE_DATA || h->type == WIRE_MSG || h->type == WIRE_ORDER))
		return -EPROTO;
	switch ((enum wire_type)h->type) {
	case WIRE_DATA:
		return frame_packet(s, h, payload);
	case WIRE_MSG:
		return s->local == SESSION_PIPE ? -EPROTO : frame_msg(s, h, payload);
	case WIRE_ORDER:
		return frame_order(s, h, payload);
	case WIRE_SHUT:
		if (is_early(s, h))
			return 0;
		delivered(s, WIRE_HEADER);
		if (is_stale(s, h))
			return whole;
		/* A pipe has no other direction: its end is confirmed by ours, and only then does
		 * the reading side let go of it (it may be passed again until then). */
		if (s->local == SESSION_PIPE && !channel_reads(s->channel))
			session_step(s, CONN_LOCAL_EOF);
		session_step(s, CONN_PEER_SHUT);
		return whole;
	case WIRE_STOP:
		if (is_early(s, h))
			return 0;
		delivered(s, WIRE_HEADER);
		if (is_stale(s, h))
			return whole;
		if (!is_close(s, payload)) {
			session_step(s, CONN_PEER_STOP);
			return whole;
		}
		delivered(s, WIRE_HEADER);
		session_steps(s, CONN_PEER_STOP, CONN_PEER_SHUT);
		return whole + WIRE_HEADER;
	case WIRE_END:
		/* Ours goes first, and before that what it comes behind: perhaps a STOP. */
		if (session_ends_soon(s) && !session_send_end(s))
			return 0;
		session_step(s, CONN_PEER_END);
		return whole;
	case WIRE_ACK:
		return whole;
	case WIRE_HELLO:
	case WIRE_PING:
	case WIRE_PONG:
	case WIRE_OPEN:
	case WIRE_OPENED:
	case WIRE_ABORT:
	case WIRE_RETIRE:
	case WIRE_RESUME:
	case WIRE_RESUMED:
	case WIRE_GONE:
		break;
	}
	return -EPROTO;
}
