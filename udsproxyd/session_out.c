/* SPDX-License-Identifier: Apache-2.0 */
#include "session_parts.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <string.h>
#include <sys/ioctl.h>

#include "announced.h"
#include "aside.h"
#include "bulk.h"
#include "channel.h"
#include "fdmap.h"
#include "netlink.h"
#include "util.h"

#define STICKY_MS 20 /* a byte that stays may be in its writer's way so long, once */
#define TINY 64	     /* bytes that are in nobody's way */
#define READ_SMALL 8128 /* where no more is expected; with a frame's and a chunk's heads some 8 KiB */

/* The byte that is done with makes way for others. */
static void take_primed(struct session *s)
{
	char byte;

	if (recv(s->fd, &byte, 1, MSG_DONTWAIT) != 1)
		log_debug("the first byte is gone: %m");
	s->primed = false;
}

void session_make_way(struct session *s)
{
	if (!s->primed || !s->sticky || netlink_peer_cannot_write(s->fd) != 1)
		return;
	take_primed(s);
	s->sticky = false;
}

/* Will nothing more come from it? An empty packet reads like the end: there must be nothing behind. */
static bool sent_its_last(const struct session *s)
{
	return session_has_event(s, POLLRDHUP) && !fd_has_packet(s->fd);
}

/* What was written to passed pipes before what comes now must be read before it. */
static void send_order(struct session *s)
{
	uint8_t payload[64 * (WIRE_ID_SIZE + 8)];
	struct iovec iov = { .iov_base = payload };
	struct passed **link = &s->passed;
	uint16_t count = 0;
	struct passed *p;
	struct buf b;

	buf_init(&b, payload, sizeof(payload));
	while ((p = *link)) {
		bool ended = atomic_load(&p->channel->ended);
		uint64_t bytes = ended ? p->told : channel_position(p->channel);

		if (bytes != p->told) {
			frame_put_id(&b, &p->channel->id);
			buf_put_u64(&b, bytes);
			p->told = bytes;
			count++;
		}
		if (ended) { /* the peer has confirmed its last byte */
			*link = p->next;
			channel_unref(p->channel);
			free(p);
		} else {
			link = &p->next;
		}
		if (count && (buf_left(&b) < WIRE_ID_SIZE + 8 || !*link)) {
			iov.iov_len = b.pos;
			session_send_counted(s, WIRE_ORDER, count, &iov, 1);
			buf_init(&b, payload, sizeof(payload));
			count = 0;
		}
	}
}

static void forward_bytes(struct session *s, uint8_t *data, size_t len)
{
	struct iovec iov = { .iov_base = data, .iov_len = len };

	session_send_counted(s, WIRE_DATA, 0, &iov, 1);
}

static void forward_message(struct session *s, uint8_t *data, size_t len, struct fdset *set)
{
	struct iovec iov[3] = { [2] = { .iov_base = data, .iov_len = len } };
	char reason[FDMAP_REASON_MAX];
	uint16_t count = (uint16_t)set->n;
	struct fdmap_text text;
	int err = fdmap_describe(s, set, &text, reason);

	if (err) {
		log_warning("a connection is ended: %s", reason);
		session_abort(s, -err, reason);
		return;
	}
	iov[0] = (struct iovec){ .iov_base = text.length, .iov_len = sizeof(text.length) };
	iov[1] = (struct iovec){ .iov_base = text.bytes, .iov_len = text.size };
	session_send_counted(s, WIRE_MSG, count, iov, 3);
	free(text.bytes);
}

void session_send_once(struct session *s, uint8_t *data, size_t len, struct fdset *set)
{
	session_set_state(s, SESSION_RUNNING);
	if (set->n)
		forward_message(s, data, len, set);
	else
		forward_bytes(s, data, len);
	/* Nothing else is sent, and no answer can come. */
	if (s->state != SESSION_ENDED)
		session_step(s, CONN_LOCAL_EOF);
	if (s->state != SESSION_ENDED)
		session_step(s, CONN_LOCAL_GONE);
}

/* Read, but leave the last byte where it is: the next one at the head that is done with. (Descriptors
 * that came with it cannot be left: then there is none until more comes.) */
static ssize_t read_sticky(struct session *s, uint8_t *data, size_t len, struct fdset *set)
{
	bool drained;
	int queued = 0;
	ssize_t n = 0, most;

	if (!ioctl(s->fd, FIONREAD, &queued) && queued > 1) {
		most = (ssize_t)MIN((size_t)queued, len) - 1;
		n = fd_recv_tied(s->fd, data, (size_t)most, set, &drained);
		if (n <= 0 || (set->n && n < most)) /* behind a message with descriptors begins another */
			return n;
	}
	s->primed = fd_peek_plain(s->fd, data + n);
	if (!s->primed)
		return n ? n : fd_recv_tied(s->fd, data, 1, set, &drained);
	/* It holds all the memory that it came with. To a writer whose buffer is small that may be all that there is. */
	if (n >= TINY)
		timer_start(&s->worker->events, &s->timer, STICKY_MS);
	return n + 1;
}

/* Return: bytes, 0 for the end of file, or a negative errno. An empty packet is forwarded. */
static ssize_t read_bytes(struct session *s, uint8_t *data, size_t len, struct fdset *set)
{
	bool drained;
	ssize_t n;

	set->n = 0;
	switch (s->local) {
	case SESSION_PIPE:
		return channel_read(s->channel, data, len);
	case SESSION_STREAM:
		if (s->sticky)
			return read_sticky(s, data, len, set);
		n = fd_recv_tied(s->fd, data, len, set, &drained);
		s->readable &= s->unsure || !drained;
		return n;
	case SESSION_PACKET:
	case SESSION_DATAGRAM:
		n = fd_recvmsg(s->fd, data, len, MSG_DONTWAIT | MSG_TRUNC, set);
		return n > (ssize_t)len ? -EMSGSIZE : n;
	}
	return -EINVAL;
}

static void end_of_file(struct session *s)
{
	s->readable = false;
	session_notice_end(s);
	if (s->passed)
		send_order(s);
	if (session_hung_up(s) && session_is_connection(s))
		session_step(s, CONN_LOCAL_GONE);
	if (s->state != SESSION_ENDED)
		session_step(s, CONN_LOCAL_EOF);
	/* In this order: a close, see shut_local(). */
	if (s->state != SESSION_ENDED && s->gone)
		session_step(s, CONN_LOCAL_GONE);
}

/* Nothing can be read and framed while there is less room than that. Of a pipe whose writer has set O_DIRECT, what is cut
 * of a packet would be lost. */
static size_t room_needed(const struct session *s)
{
	if (bulk_waits(s))
		return bulk_room_needed(s);
	return s->local == SESSION_PIPE ? PIPE_BUF : 1;
}

bool session_needs_ack(const struct session *s)
{
	return s->state == SESSION_RUNNING && session_is_source(s) && stream_room(&s->out) < room_needed(s);
}

/* Where to read to: to where it is kept, when nothing has to be framed before it. */
static uint8_t *reading_room(struct session *s, size_t room, size_t *len)
{
	struct worker *w = s->worker;
	uint8_t *data;

	if (session_has_packets(s) || s->passed) {
		*len = session_has_packets(s) ? sizeof(w->outbound) : MIN(room, sizeof(w->outbound));
		return w->outbound;
	}
	data = stream_reserve(&s->out, MIN(room, s->large ? STREAM_READ_MAX : READ_SMALL), len);
	if (!data || s->local != SESSION_PIPE || *len >= PIPE_BUF)
		return data;
	*len = MIN(room, READ_SMALL);
	return w->outbound;
}

/* @n bytes at @data, and the descriptors that came with them. */
static void forward(struct session *s, uint8_t *data, size_t n, struct fdset *set)
{
	uint8_t *passing = s->worker->outbound;

	if (s->passed)
		send_order(s);
	if (s->state == SESSION_ENDED)
		return;
	if (!set->n && data != passing) {
		stream_commit(&s->out, WIRE_DATA, stream_ack(&s->in), n);
		return;
	}
	if (data != passing)
		memcpy(passing, data, n); /* before something else is framed there */
	if (set->n)
		forward_message(s, passing, n, set);
	else
		forward_bytes(s, passing, n);
}

/* Is much to be expected, and can it go past us? From a socket that was passed to us somebody else may read, too, between
 * the look at what is queued and splice(2). Of a sticky one, a byte has to stay where it is. And to a vsock socket splice(2)
 * copies, page by page. */
static bool is_bulk(const struct session *s)
{
	bool others = s->channel && s->channel->ours;

	if (bulk_waits(s))
		return true;
	if (!s->large || addr_is_vsock(&s->worker->daemon->config.addr))
		return false;
	return s->local == SESSION_PIPE || (s->local == SESSION_STREAM && !s->sticky && !others);
}

/* What is large goes past this program's memory. Return: as bulk_fill(). */
static ssize_t read_bulk(struct session *s, size_t room)
{
	ssize_t n = bulk_fill(s, room);

	if (n <= 0)
		return n;
	s->large = n >= (ssize_t)SPLICE_MIN;
	if (s->passed)
		send_order(s);
	if (s->state != SESSION_ENDED && bulk_frame(s, (size_t)n))
		session_abort(s, ENOMEM, "out of memory");
	return n;
}

/* One read; true when it got anywhere. */
bool session_read_local(struct session *s)
{
	struct fdset set;
	uint8_t *data;
	size_t room, len;
	ssize_t n;

	if (s->state != SESSION_RUNNING || s->fd < 0)
		return false;
	session_notice_pass(s);
	if (!s->readable)
		return false;
	if (!session_is_source(s)) {
		/* Nothing is read from it; an event can only mean that it hung up. */
		s->readable = false;
		if (session_is_sink(s) && session_hung_up(s))
			session_reader_gone(s);
		return false;
	}
	if (s->resuming || s->out.sent != s->out.end || s->feeding || announced_are_many(s))
		return false;
	room = stream_room(&s->out);
	if (room < room_needed(s))
		return false;
	if (is_bulk(s)) {
		n = read_bulk(s, room);
		s->readable &= n != -EAGAIN;
		if (n > 0 || n == -EAGAIN)
			return n > 0;
	}
	data = reading_room(s, room, &len);
	if (!data)
		return false;
	if (s->primed) {
		s->readable = fd_reads_behind(s->fd);
		if (!s->readable)
			return false;
		take_primed(s);
	}
	n = read_bytes(s, data, len, &set);
	if (n == -EAGAIN && !s->gone) {
		s->readable = false;
		return false;
	}
	/* A datagram socket's other end has disconnected from ours, which ends nothing, and what it had sent is there. */
	if (n == -ECONNRESET && s->local == SESSION_DATAGRAM)
		return true;
	if (n == -EPROTO || n == -EMSGSIZE) {
		session_abort(s, (int)-n, n == -EPROTO ? "descriptors were lost: too many are open"
						       : "a message is too large");
		aside_close_set(&set);
		return false;
	}
	if (n < 0 || (n == 0 && !set.n && (!session_has_packets(s) || sent_its_last(s)))) {
		end_of_file(s);
		return true;
	}
	s->large = (size_t)n == len || (s->large && n > READ_SMALL);
	forward(s, data, (size_t)n, &set);
	aside_close_set(&set);
	return true;
}
