/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 *
 * The local descriptor is registered once, edge-triggered; `readable` and `writable` remember
 * what its events said until a call says EAGAIN. session_pump() takes turns: frames from the
 * transport to the local end (transport_receive() calls session_frame(), session_data() and
 * session_splice()), bytes from the local end to the transport (read_local()), and what is queued
 * to the kernel. Nothing is read from the local end while the kernel has not taken all that was,
 * or as long as the peer has too much to acknowledge; no frame is taken from the transport that the
 * local end has no room for: so both directions are bounded, and neither can block the other.
 *
 * What is read is kept until it is acknowledged, in `out` (stream.h) or, when it is much, outside of it (bulk.h). When
 * the transport breaks, the session is held (hold.h) and goes on over the next where the peer says that it stopped.
 *
 * What ends and how is decided by conn.c; apply() carries its actions out.
 */
#include "session.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>

#include "accepted.h"
#include "aside.h"
#include "bulk.h"
#include "canon.h"
#include "channel.h"
#include "client.h"
#include "connector.h"
#include "dgram.h"
#include "fdmap.h"
#include "hold.h"
#include "kind.h"
#include "netlink.h"
#include "splice.h"
#include "util.h"

#define PUMP_TURNS 8		 /* before others have theirs */
#define GREETING_MS 900		 /* a peer that is not there is told of within a second */
#define GREETING_ALIVE_MS 5000	 /* but one that is known to be there may be busy */
#define OPENING_MS 9000		 /* for its answer */
#define PATIENCE_MS 30000	 /* for a pass that is said to be under way */
#define DATAGRAMS_MAX 512	 /* more than a socket's buffer has (default 277) */
#define CONNECT_FIRST_MS 1	 /* a full backlog, no descriptor, or a twin that is still under way */
#define CONNECT_LAST_MS 64	 /* doubled up to this */
#define CONNECT_TRIES 128	 /* some 8 s */
#define TWIN_TRIES 32		 /* some 2 s */
#define READ_SMALL 8128		 /* where no more is expected; with a frame's and a chunk's heads some 8 KiB */
#define ACK_MS 500		 /* an ack may wait for company so long */

static void on_local_event(evutil_socket_t fd, short what, void *arg);
static void on_timer(evutil_socket_t fd, short what, void *arg);
static void forget_connecting(struct session *s);

/* A pipe's read end here that was passed over a session: what ORDER tells of. */
struct passed {
	struct passed *next;
	struct channel *channel;
	uint64_t told;
};

/* ---- state --------------------------------------------------------------------------- */

static void set_state(struct session *s, enum session_state state)
{
	static const char *const names[] = { "opening", "offered", "connecting",
					     "parked",	"running", "ended" };
	_Static_assert(ARRAY_LEN(names) == SESSION_STATES, "a name for each state");

	log_debug("connection %02x%02x%02x%02x: %s -> %s", s->id.bytes[0], s->id.bytes[1],
		  s->id.bytes[2], s->id.bytes[3], names[s->state], names[state]);
	s->state = state;
}

static void session_free(struct grave *g)
{
	free((struct session *)((char *)g - offsetof(struct session, grave)));
}

static struct session *session_new(struct worker *w, struct transport *t, const struct frame_id *id,
				   enum session_state state)
{
	struct session *s = calloc(1, sizeof(*s));

	if (!s)
		return NULL;
	s->worker = w;
	s->id = *id;
	s->state = state;
	s->fd = -1;
	s->grave.free = session_free;
	s->transport = t;
	s->dialled = t->dialled;
	stream_out_init(&s->out, &w->pool);
	t->session = s;
	event_assign(&s->timer, w->base, -1, 0, on_timer, s);
	LIST_INSERT_HEAD(&w->sessions, s, entry);
	return s;
}

static void arm(struct session *s, unsigned ms)
{
	struct timeval tv = { .tv_sec = ms / 1000, .tv_usec = (suseconds_t)(ms % 1000) * 1000 };

	event_add(&s->timer, &tv);
}

/* The local end has no further use. */
static void close_local(struct session *s)
{
	if (s->dgram)
		dgram_end(s);
	if (s->watched)
		event_del(&s->event);
	s->watched = false;
	if (s->channel)
		channel_end(s->worker->daemon->channels, s->channel, s->worker->daemon);
	else
		close_keep_errno(s->fd);
	s->fd = -1;
}

static void stop_waiting(struct session *s)
{
	if (s->waiting)
		LIST_REMOVE(s, waiting_entry);
	s->waiting = false;
}

static void forget_arriving(struct session *s)
{
	if (s->arriving)
		aside_close_set(s->arriving);
	free(s->arriving);
	s->arriving = NULL;
}

/* Acks go with other frames, or after a while by themselves. */
static void owe_ack(struct session *s)
{
	static const struct timeval soon = { .tv_usec = ACK_MS * 1000 };
	struct worker *w = s->worker;

	if (s->owing || s->state == SESSION_ENDED)
		return;
	if (LIST_EMPTY(&w->owing))
		event_add(&w->owing_event, &soon);
	LIST_INSERT_HEAD(&w->owing, s, owing_entry);
	s->owing = true;
}

static void stop_owing(struct session *s)
{
	if (s->owing)
		LIST_REMOVE(s, owing_entry);
	s->owing = false;
}

/* Its session was begun by a message of this worker's, and has no answer yet. */
static bool is_opening(const struct channel *c)
{
	return c->session && c->session->state == SESSION_OPENING;
}

/* Nothing is left but END: a client's datagram, if it is one, is in the server's queue. */
static void tell_done(struct session *s)
{
	if (s->client)
		client_done(s->client);
	s->client = NULL;
}

/* The session is over; its transport was released, or is closed by the caller. */
static void session_end(struct session *s)
{
	const unsigned ended = CONN_END_SENT | CONN_END_RECEIVED;
	struct passed *p;

	if (s->state == SESSION_ENDED)
		return;
	set_state(s, SESSION_ENDED);
	close_local(s);
	event_del(&s->timer);
	stop_waiting(s);
	stop_owing(s);
	hold_forget(s);
	if (!s->dialled)
		accepted_remove(s->worker->daemon->accepted, s);
	splice_put(s->worker, s->splice);
	bulk_end(s);
	stream_out_free(&s->out);
	forget_arriving(s);
	fdmap_forget_files(s);
	kind_forget_feeding(s);
	forget_connecting(s);
	while ((p = s->passed)) {
		s->passed = p->next;
		channel_unref(p->channel);
		free(p);
	}
	/* The messages that announce these are lost with us: nobody will answer. */
	while ((p = s->announced)) {
		s->announced = p->next;
		if ((s->conn.flags & ended) != ended && is_opening(p->channel))
			session_abort(p->channel->session, ECONNRESET,
				      "the connection that announces it is lost");
		channel_unref(p->channel);
		free(p);
	}
	if (s->channel)
		channel_unref(s->channel);
	s->channel = NULL;
	free(s->open_payload);
	s->open_payload = NULL;
	s->transport = NULL;
	LIST_REMOVE(s, entry);
	worker_bury(s->worker, &s->grave);
}

/* Give the transport back, whatever is still queued on it. */
static void release_transport(struct session *s)
{
	struct transport *t = s->transport;

	s->transport = NULL;
	transport_flush(t);
	transport_release(t);
}

static void send_counted(struct session *s, uint8_t type, uint16_t count, const struct iovec *iov, int n)
{
	if (stream_add(&s->out, type, count, stream_ack(&s->in), iov, n))
		session_abort(s, ENOMEM, "out of memory");
}

/* END goes when all that counts has gone, and again on a transport that comes after. */
static bool send_end(struct session *s)
{
	if (!conn_complete(&s->conn) || s->end_sent || !s->transport || s->resuming ||
	    s->out.sent != s->out.end)
		return false;
	transport_send(s->transport, WIRE_END, NULL, 0);
	s->end_sent = true;
	return true;
}

static bool flush(struct session *s)
{
	bool any = transport_flush(s->transport);

	return send_end(s) ? transport_flush(s->transport) || any : any;
}

static void send_opened(struct transport *t, int error, const char *reason)
{
	uint8_t payload[WIRE_REASON_MAX + 8];
	struct frame_opened o = {
		.error = canon_errno(error), .reason = reason, .reason_len = strlen(reason)
	};
	struct buf b;

	buf_init(&b, payload, sizeof(payload));
	frame_put_opened(&b, &o);
	transport_send(t, WIRE_OPENED, payload, b.pos);
	transport_flush(t);
}

static void send_resumed(struct transport *t, int error, uint64_t received)
{
	uint8_t payload[16];
	struct frame_resumed r = { .error = canon_errno(error), .received = received };
	struct buf b;

	buf_init(&b, payload, sizeof(payload));
	frame_put_resumed(&b, &r);
	transport_send(t, WIRE_RESUMED, payload, b.pos);
}

void session_abort(struct session *s, int error, const char *why)
{
	if (s->state == SESSION_ENDED)
		return;
	if (s->client)
		client_refuse(s->client, error, why);
	s->client = NULL;
	if (s->transport && bulk_bring_inside(s))
		transport_close(s->transport);
	else if (s->transport)
		transport_abort(s->transport, error, why);
	session_end(s);
}

/* ---- the local end -------------------------------------------------------------------- */

/* Start looking at the local end @fd (taken). */
static void attach(struct session *s, int fd)
{
	s->fd = fd;
	s->readable = s->writable = true; /* until a call says otherwise */
	event_assign(&s->event, s->worker->base, fd, EV_READ | EV_WRITE | EV_ET | EV_PERSIST,
		     on_local_event, s);
	s->watched = !event_add(&s->event, NULL);
	set_state(s, SESSION_RUNNING);
	if (!s->watched)
		session_abort(s, ENOMEM, "a descriptor cannot be watched");
}

static bool has_packets(const struct session *s)
{
	return s->local == SESSION_PACKET || s->local == SESSION_DATAGRAM;
}

/* Does the other end of it see a shutdown? */
static bool is_connection(const struct session *s)
{
	return s->local == SESSION_STREAM || s->local == SESSION_PACKET;
}

static bool has_event(const struct session *s, short events)
{
	struct pollfd p = { .fd = s->fd, .events = events };

	return poll(&p, 1, 0) > 0 && p.revents & (events | POLLHUP | POLLERR);
}

/* Has everybody at the other end of it gone for good? */
static bool hung_up(const struct session *s)
{
	return s->gone || has_event(s, 0);
}

/* Will nothing more come from it? An empty packet reads like the end: there must be nothing behind. */
static bool sent_its_last(const struct session *s)
{
	int n = 0;

	return has_event(s, POLLRDHUP) && !ioctl(s->fd, FIONREAD, &n) && !n;
}

/* Before an orderly close: what is unread would turn it into a reset (unix(7)), be it the byte of
 * ours or what was on its way to a reader that is gone. */
static void discard_unread(struct session *s)
{
	struct fdset set;
	bool more;

	if (s->fd < 0 || !is_connection(s))
		return;
	shutdown(s->fd, SHUT_RD);
	do {
		more = fd_recvmsg(s->fd, s->worker->outbound, sizeof(s->worker->outbound),
				  MSG_DONTWAIT, &set) > 0 || set.n;
		aside_close_set(&set);
	} while (more);
}

/* The byte that is done with makes way for others. */
static void take_primed(struct session *s)
{
	char byte;

	if (recv(s->fd, &byte, 1, MSG_DONTWAIT) != 1)
		log_debug("the first byte is gone: %m");
	s->primed = false;
}

/* With that byte at the head: is there something to read, behind it? */
static bool primed_is_readable(struct session *s)
{
	int n = 0;

	if (ioctl(s->fd, FIONREAD, &n))
		return false;
	return n > 1 || has_event(s, POLLRDHUP);
}

/* What conn.c decided. The session may have ended afterwards. */
static void apply(struct session *s, unsigned actions)
{
	struct transport *t = s->transport;

	if (actions & CONN_VIOLATION) {
		transport_broken(t, EPROTO, "the peer broke the protocol");
		return;
	}
	if (actions & CONN_SHUT_LOCAL && s->fd >= 0 && is_connection(s))
		shutdown(s->fd, SHUT_WR);
	/* A sender of datagrams sees EPIPE then; but not when this was a close, that is ECONNREFUSED. */
	if (actions & CONN_STOP_LOCAL && s->fd >= 0 &&
	    (is_connection(s) || (s->local == SESSION_DATAGRAM && !(actions & CONN_CLOSE_LOCAL))))
		shutdown(s->fd, SHUT_RD);
	if (actions & CONN_SEND_SHUT)
		send_counted(s, WIRE_SHUT, s->seen, NULL, 0);
	if (actions & CONN_SEND_STOP)
		send_counted(s, WIRE_STOP, s->seen, NULL, 0);
	if (s->state == SESSION_ENDED)
		return;
	if (actions & CONN_CLOSE_LOCAL) {
		discard_unread(s);
		close_local(s);
	}
	if (actions & CONN_SEND_END)
		send_end(s);
	if (actions & CONN_IDLE) {
		tell_done(s);
		release_transport(s);
		session_end(s);
	}
}

static void step(struct session *s, enum conn_event event)
{
	apply(s, conn_step(&s->conn, event));
}

/* Before the state of a pipe made here is looked at: if it was passed again, what we said of it before
 * is void. What we say next is said knowing of so many passes, whatever happens meanwhile. */
static void notice_pass(struct session *s)
{
	uint16_t passed;

	if (s->local != SESSION_PIPE || s->channel->ours)
		return;
	passed = (uint16_t)atomic_load(&s->channel->passed);
	if (passed == s->seen)
		return;
	s->seen = passed;
	if (conn_revive(&s->conn))
		s->readable = s->writable = true;
	channel_keep(s->channel, false);
}

/* Of a pipe that was passed from here it is said with how many passes the peer has to expect. */
static void retire_pipe(struct session *s)
{
	if (s->local == SESSION_PIPE && s->channel->ours)
		s->seen = channel_retire(s->worker->daemon->channels, s->channel);
}

/* Nobody reads here any more. A pipe made here may be passed again, and should have its bytes then. */
static void reader_gone(struct session *s)
{
	retire_pipe(s);
	if (s->local == SESSION_PIPE && !s->channel->ours)
		channel_keep(s->channel, true);
	step(s, CONN_LOCAL_GONE);
}

/* ---- towards the transport ------------------------------------------------------------- */

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
			send_counted(s, WIRE_ORDER, count, &iov, 1);
			buf_init(&b, payload, sizeof(payload));
			count = 0;
		}
	}
}

static void forward_bytes(struct session *s, uint8_t *data, size_t len)
{
	struct iovec iov = { .iov_base = data, .iov_len = len };

	send_counted(s, WIRE_DATA, 0, &iov, 1);
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
	send_counted(s, WIRE_MSG, count, iov, 3);
	free(text.bytes);
}

/* Read, but leave the last byte where it is: the next one at the head that is done with. (Descriptors
 * that came with it cannot be left: then there is none until more comes.) */
static ssize_t read_sticky(struct session *s, uint8_t *data, size_t len, struct fdset *set, size_t *tied)
{
	int queued = 0;
	ssize_t n = 0;

	if (!ioctl(s->fd, FIONREAD, &queued) && queued > 1) {
		n = fd_recv_tied(s->fd, data, MIN((size_t)queued, len) - 1, set, tied);
		if (n <= 0 || set->n)
			return n;
	}
	s->primed = fd_peek_plain(s->fd, data + n);
	if (s->primed)
		return n + 1;
	return n ? n : fd_recv_tied(s->fd, data, 1, set, tied);
}

/* Return: bytes, 0 for the end of file, or a negative errno. An empty packet is forwarded. */
static ssize_t read_bytes(struct session *s, uint8_t *data, size_t len, struct fdset *set, size_t *tied)
{
	ssize_t n;

	set->n = 0;
	*tied = 0;
	switch (s->local) {
	case SESSION_PIPE:
		return channel_read(s->channel, data, len);
	case SESSION_STREAM:
		if (s->sticky)
			return read_sticky(s, data, len, set, tied);
		return fd_recv_tied(s->fd, data, len, set, tied);
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
	retire_pipe(s);
	if (s->passed)
		send_order(s);
	if (hung_up(s) && is_connection(s))
		step(s, CONN_LOCAL_GONE);
	if (s->state != SESSION_ENDED)
		step(s, CONN_LOCAL_EOF);
	/* In this order: a close, see apply(). */
	if (s->state != SESSION_ENDED && s->gone)
		step(s, CONN_LOCAL_GONE);
}

void session_other_end_closed(struct session *s)
{
	s->gone = s->readable = true;
	if (s->transport)
		event_active(&s->transport->event, 0, 0); /* to be pumped */
}

/* Is there anything (more) to read from the local end? */
static bool is_source(const struct session *s)
{
	return conn_reads(&s->conn) && (s->local != SESSION_PIPE || channel_reads(s->channel));
}

/* May anything (more) be written to the local end? */
static bool is_sink(const struct session *s)
{
	return conn_writes(&s->conn) && (s->local != SESSION_PIPE || !channel_reads(s->channel));
}

/* Where to read to: to where it is kept, when nothing has to be framed before it. */
static uint8_t *reading_room(struct session *s, size_t *len)
{
	struct worker *w = s->worker;
	size_t room = stream_room(&s->out);

	if (!room)
		return NULL;
	if (has_packets(s) || s->passed) {
		*len = has_packets(s) ? sizeof(w->outbound) : MIN(room, sizeof(w->outbound));
		return w->outbound;
	}
	return stream_reserve(&s->out, MIN(room, s->large ? STREAM_READ_MAX : READ_SMALL), len);
}

/* @n bytes at @data, the first @tied of them without descriptors where there are any. */
static void forward(struct session *s, uint8_t *data, size_t n, struct fdset *set, size_t tied)
{
	uint8_t *passing = s->worker->outbound;
	size_t plain = set->n ? tied : n;

	if (s->passed)
		send_order(s);
	if (set->n && data != passing)
		memcpy(passing, data + tied, n - tied); /* before something else is framed there */
	if (plain || !set->n) {
		if (data == passing)
			forward_bytes(s, data, plain);
		else
			stream_commit(&s->out, WIRE_DATA, stream_ack(&s->in), plain);
	}
	if (set->n && s->state != SESSION_ENDED)
		forward_message(s, data == passing ? data + tied : passing, n - tied, set);
}

/* Is it to be expected that much can be read? (Of a sticky one, a byte has to stay where it is.) */
static bool is_bulk(const struct session *s)
{
	if (bulk_waits(s))
		return true;
	return s->large && (s->local == SESSION_PIPE || (s->local == SESSION_STREAM && !s->sticky));
}

/* What is large goes past this program's memory. Return: as bulk_fill(). */
static ssize_t read_bulk(struct session *s)
{
	ssize_t n = bulk_fill(s, stream_room(&s->out));

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
static bool read_local(struct session *s)
{
	struct fdset set;
	uint8_t *data;
	size_t tied, len;
	ssize_t n;

	if (s->state != SESSION_RUNNING || s->fd < 0)
		return false;
	notice_pass(s);
	if (!s->readable)
		return false;
	if (!is_source(s)) {
		/* Nothing is read from it; an event can only mean that it hung up. */
		s->readable = false;
		if (is_sink(s) && hung_up(s))
			reader_gone(s);
		return false;
	}
	if (s->resuming || s->out.sent != s->out.end || s->feeding)
		return false;
	if (is_bulk(s)) {
		n = read_bulk(s);
		if (n > 0)
			return true;
		if (n == -EAGAIN) {
			s->readable = false;
			return false;
		}
	}
	data = reading_room(s, &len);
	if (!data)
		return false;
	if (s->primed) {
		s->readable = primed_is_readable(s);
		if (!s->readable)
			return false;
		take_primed(s);
	}
	n = read_bytes(s, data, len, &set, &tied);
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
	if (n < 0 || (n == 0 && !set.n && (!has_packets(s) || sent_its_last(s)))) {
		end_of_file(s);
		return true;
	}
	s->large = (size_t)n == len || (s->large && n > READ_SMALL);
	forward(s, data, (size_t)n, &set, tied);
	aside_close_set(&set);
	return true;
}

/* ---- from the transport ---------------------------------------------------------------- */

bool session_passes_on(const struct session *s, uint8_t type)
{
	return type == WIRE_DATA && !has_packets(s) && s->state == SESSION_RUNNING && !s->resuming;
}

struct stream_out *session_may_send(struct session *s)
{
	return s->resuming ? NULL : &s->out;
}

ssize_t session_send_outside(struct session *s, int to)
{
	return bulk_send(s, to);
}

bool session_walks(const struct session *s)
{
	return !s->resuming;
}

bool session_needs_ack(const struct session *s)
{
	return s->state == SESSION_RUNNING && is_source(s) && !stream_room(&s->out);
}

/* @n bytes of the peer's stream are done with. */
static void delivered(struct session *s, size_t n)
{
	s->in.delivered += n;
	owe_ack(s);
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

/* When a send finds a datagram socket closed, the kernel throws away what that had sent before: so that
 * is read first, as much as there can be. */
static void read_before_sending(struct session *s)
{
	for (int i = 0; i < DATAGRAMS_MAX && s->state == SESSION_RUNNING && has_event(s, POLLIN); i++) {
		s->readable = true;
		if (!read_local(s) || !s->transport)
			return;
		transport_flush(s->transport);
	}
}

/* Bytes (a packet may have none) for the local end. Return: how many are done with, or -EAGAIN when
 * it takes none now. */
static ssize_t deliver(struct session *s, const void *data, size_t len)
{
	ssize_t n = -EPIPE;

	if (s->local == SESSION_DATAGRAM)
		read_before_sending(s);
	notice_pass(s);
	if (s->fd >= 0 && conn_writes(&s->conn)) {
		n = s->writable ? write_local(s, data, len) : -EAGAIN;
		if (n == -EAGAIN) {
			s->writable = false;
			return n;
		}
		if (n < 0)
			log_debug("the local end takes no more: %s", strerror((int)-n));
		if (s->local == SESSION_DATAGRAM && (n == -ECONNREFUSED || n == -ENOTCONN))
			session_other_end_closed(s);
		else if (n < 0)
			reader_gone(s);
	}
	/* Nobody reads it, as when a local reader is gone; a pipe keeps what it can. */
	if (n < 0 && s->fd >= 0 && s->local == SESSION_PIPE)
		n = write_local(s, data, len);
	if (n < 0)
		n = (ssize_t)len;
	forget_arriving(s);
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
	if (s->state != SESSION_RUNNING || s->fd < 0 || s->explicit || s->arriving || !is_sink(s) ||
	    has_packets(s))
		return false;
	/* One that was passed to us is its owner's, and may be one that blocks; so would splice(2). */
	if (s->local == SESSION_STREAM && s->channel && s->channel->ours)
		return false;
	if (!s->splice && s->local == SESSION_STREAM)
		s->splice = splice_get(s->worker);
	return s->splice || s->local == SESSION_PIPE;
}

static bool is_there(int sock)
{
	uint8_t byte;

	return recv(sock, &byte, 1, MSG_PEEK | MSG_DONTWAIT) > 0;
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
		reader_gone(s);
		return -EBUSY;
	}
	return n;
}

ssize_t session_splice(struct session *s, int from, size_t len)
{
	ssize_t n;

	notice_pass(s);
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
		reader_gone(s);
	}
	splice_put(s->worker, p);
	s->splice = NULL;
	return true;
}

/* A twin that refuses is gone, should the peer's word of it have been lost. */
static void note_refusal(struct session *s, int error)
{
	struct frame_open o;
	struct frame_id id;

	if (error != ECONNREFUSED || frame_get_open(&o, s->open_payload, s->open_size) ||
	    o.target != WIRE_TARGET_LISTENER)
		return;
	memcpy(id.bytes, o.name, sizeof(id.bytes));
	channel_listener_gone(s->worker->daemon->channels, &id);
}

static ssize_t frame_opened(struct session *s, const struct frame_header *h, const uint8_t *payload)
{
	struct client *client = s->client;
	struct frame_opened o;
	char reason[WIRE_REASON_MAX + 1];

	if (s->state != SESSION_OPENING || frame_get_opened(&o, payload, h->length))
		return -EPROTO;
	event_del(&s->timer);
	hold_forget(s);
	if (o.error)
		note_refusal(s, local_errno(o.error));
	free(s->open_payload);
	s->open_payload = NULL;
	if (!o.error)
		owe_ack(s); /* which tells the peer that OPENED has come */
	if (!o.error && !client) {
		attach(s, s->fd);
		return (ssize_t)(WIRE_HEADER + h->length);
	}
	if (!o.error) {
		set_state(s, SESSION_OFFERED);
		client_offer(client); /* may end the session */
		return (ssize_t)(WIRE_HEADER + h->length);
	}
	memcpy(reason, o.reason, o.reason_len);
	reason[o.reason_len] = '\0';
	s->client = NULL;
	if (client)
		client_refuse(client, local_errno(o.error), reason);
	else
		log_info("the peer does not take a connection: %s",
			 *reason ? reason : strerror(local_errno(o.error)));
	release_transport(s);
	session_end(s);
	return (ssize_t)(WIRE_HEADER + h->length);
}

static ssize_t frame_abort(struct session *s, const struct frame_header *h, const uint8_t *payload)
{
	struct transport *t = s->transport;
	struct client *client = s->client;
	struct frame_opened o;
	char reason[WIRE_REASON_MAX + 1];

	if (frame_get_opened(&o, payload, h->length))
		return -EPROTO;
	memcpy(reason, o.reason, o.reason_len);
	reason[o.reason_len] = '\0';
	s->client = NULL;
	if (client)
		client_refuse(client, local_errno(o.error), reason);
	else
		log_info("the peer ended a connection: %s", reason);
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
	if (b.bad || (!len && !has_packets(s)) || !h->count || h->count > WIRE_DESCRIPTORS_MAX)
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
	stop_waiting(s);
	delivered(s, WIRE_HEADER + h->length);
	return (ssize_t)(WIRE_HEADER + h->length);
}

/* SHUT and STOP of a pipe count how often it had been passed when they were said; one that crossed a
 * further pass is void. */
static bool is_stale(struct session *s, const struct frame_header *h)
{
	if (s->local != SESSION_PIPE || !s->channel->ours)
		return false;
	s->seen = h->count;
	return !channel_settle(s->worker->daemon->channels, s->channel, h->count);
}

/* SHUT and STOP of a pipe made here count how often it was passed in all: should a pass still be under
 * way, it must find the pipe. */
static bool is_early(struct session *s, const struct frame_header *h)
{
	if (s->local != SESSION_PIPE || s->channel->ours)
		return false;
	notice_pass(s);
	if ((int16_t)(h->count - s->seen) <= 0 || !s->patient)
		return false;
	if (!event_pending(&s->timer, EV_TIMEOUT, NULL))
		arm(s, PATIENCE_MS);
	return true;
}

/* The peer has received so much of what was sent. Return: 0, or a negative errno: it cannot have (-EPROTO), or we
 * cannot go on there. */
static int rewind_out(struct session *s, uint64_t received)
{
	int err = bulk_bring_inside(s);

	if (err)
		return err;
	return stream_rewind(&s->out, received) ? 0 : -EPROTO;
}

/* What was acknowledged may have been lost with the former transport. */
static void go_on(struct session *s)
{
	log_debug("a connection goes on");
	s->in.told = 0;
	owe_ack(s);
	hold_end(s);
}

static ssize_t frame_resumed(struct session *s, const struct frame_header *h, const uint8_t *payload)
{
	struct frame_resumed r;
	int err;

	if (frame_get_resumed(&r, payload, h->length))
		return -EPROTO;
	err = r.error ? 0 : rewind_out(s, r.received);
	if (err)
		return err;
	if (!r.error) {
		go_on(s);
		return (ssize_t)(WIRE_HEADER + h->length);
	}
	release_transport(s);
	/* A peer that has forgotten it had our END, and before that all the rest. */
	if (conn_complete(&s->conn)) {
		tell_done(s);
		session_end(s);
	} else {
		session_lost(s, ECONNRESET, "the peer does not know it any more");
	}
	return (ssize_t)(WIRE_HEADER + h->length);
}

ssize_t session_frame(struct session *s, const struct frame_header *h, const uint8_t *payload)
{
	ssize_t whole = (ssize_t)(WIRE_HEADER + h->length);

	if (s->resuming)
		return h->type == WIRE_RESUMED ? frame_resumed(s, h, payload) : -EPROTO;
	if (h->type == WIRE_OPENED)
		return frame_opened(s, h, payload);
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
			step(s, CONN_LOCAL_EOF);
		step(s, CONN_PEER_SHUT);
		return whole;
	case WIRE_STOP:
		if (is_early(s, h))
			return 0;
		delivered(s, WIRE_HEADER);
		if (!is_stale(s, h))
			step(s, CONN_PEER_STOP);
		return whole;
	case WIRE_END:
		/* Ours goes first, and before that what it comes behind: perhaps a STOP. */
		if (conn_complete(&s->conn) && !s->end_sent && !send_end(s))
			return 0;
		step(s, CONN_PEER_END);
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

/* ---- turns ------------------------------------------------------------------------------ */

void session_pump(struct session *s)
{
	struct transport *t = s->transport;
	bool more = true;

	for (int turn = 0; turn < PUMP_TURNS && more && t; turn++) {
		more = transport_receive(t);
		if (s->transport != t)
			return;
		more |= read_local(s);
		if (s->transport != t)
			return;
		if (stream_ack_due(&s->in) && !conn_complete(&s->conn))
			transport_send(t, WIRE_ACK, NULL, 0);
		more |= flush(s);
		if (s->transport != t)
			return;
	}
	bulk_tidy(s);
	if (more && t)
		event_active(&t->event, 0, 0);
}

void session_pay_acks(struct worker *w)
{
	struct session *s;

	while ((s = LIST_FIRST(&w->owing))) {
		bool unheard = s->dialled && !s->out.sent && !s->in.told;

		stop_owing(s);
		if (!s->transport || s->resuming || s->state == SESSION_OPENING || conn_complete(&s->conn) ||
		    (s->in.delivered == s->in.told && !unheard))
			continue;
		transport_send(s->transport, WIRE_ACK, NULL, 0);
		transport_flush(s->transport);
	}
}

void sessions_tidy(struct worker *w)
{
	struct session *s;

	LIST_FOREACH(s, &w->sessions, entry)
	{
		if (s->local != SESSION_DATAGRAM || s->dgram || s->state != SESSION_RUNNING || s->fd < 0 ||
		    s->gone || netlink_peer_closed(s->fd) != 1)
			continue;
		session_other_end_closed(s);
	}
}

void session_kick_waiting(struct worker *w)
{
	LIST_HEAD(, session) ready = LIST_HEAD_INITIALIZER(ready);
	struct session *s;

	/* Those that still have to wait put themselves into the worker's list again. */
	while ((s = LIST_FIRST(&w->waiting))) {
		LIST_REMOVE(s, waiting_entry);
		LIST_INSERT_HEAD(&ready, s, waiting_entry);
	}
	while ((s = LIST_FIRST(&ready))) {
		stop_waiting(s);
		session_pump(s);
	}
}

static void on_local_event(evutil_socket_t fd, short what, void *arg)
{
	struct session *s = arg;

	(void)fd;
	s->readable |= what & EV_READ;
	s->writable |= what & EV_WRITE;
	session_pump(s);
}

/* ---- beginning: we dial ------------------------------------------------------------------ */

static void send_open(struct session *s)
{
	transport_send(s->transport, WIRE_OPEN, s->open_payload, s->open_size);
	transport_flush(s->transport);
	arm(s, atomic_load(&s->worker->daemon->peer_alive) ? GREETING_ALIVE_MS : GREETING_MS);
}

static int remember_open(struct session *s, const struct frame_open *o)
{
	size_t size = 64 + o->name_len + sizeof(uint32_t) * o->credentials.n_groups;
	struct buf b;

	s->open_payload = malloc(size);
	if (!s->open_payload)
		return -ENOMEM;
	buf_init(&b, s->open_payload, size);
	frame_put_open(&b, o);
	s->open_size = b.pos;
	return b.bad ? -EINVAL : 0;
}

struct session *session_open(struct worker *w, const struct frame_open *o, enum session_local local,
			     struct client *client, struct channel *channel, int fd)
{
	struct transport *t = transport_dial(w, false);
	struct session *s = t ? session_new(w, t, &o->id, SESSION_OPENING) : NULL;

	if (!s || remember_open(s, o)) {
		int error = errno;

		if (!channel)
			close_keep_errno(fd);
		if (s)
			session_end(s);
		if (t)
			transport_close(t);
		errno = error;
		return NULL;
	}
	s->client = client;
	s->channel = channel ? channel_ref(channel) : NULL;
	s->local = local;
	s->in.packets = has_packets(s);
	s->fd = fd;
	conn_init(&s->conn);
	send_open(s);
	return s;
}

void session_client_connected(struct session *s, int fd)
{
	s->client = NULL;
	attach(s, fd);
	if (s->state == SESSION_RUNNING)
		session_pump(s);
}

void session_send_once(struct session *s, uint8_t *data, size_t len, struct fdset *set)
{
	set_state(s, SESSION_RUNNING);
	if (set->n)
		forward_message(s, data, len, set);
	else
		forward_bytes(s, data, len);
	/* Nothing else is sent, and no answer can come. */
	if (s->state != SESSION_ENDED)
		step(s, CONN_LOCAL_EOF);
	if (s->state != SESSION_ENDED)
		step(s, CONN_LOCAL_GONE);
}

void session_client_gone(struct session *s)
{
	s->client = NULL;
	session_abort(s, ECANCELED, "the client left");
}

/* ---- when the transport breaks ------------------------------------------------------------- */

void session_lost(struct session *s, int error, const char *why)
{
	char reason[WIRE_REASON_MAX];
	struct client *client = s->client;

	if (s->state == SESSION_ENDED)
		return;
	s->client = NULL;
	if (client) {
		snprintf(reason, sizeof(reason), "the peer's udsproxyd (%s) is not reachable: %s",
			 s->worker->daemon->config.peer.text, strerror(error));
		client_refuse(client, ECONNREFUSED, reason);
	} else {
		log_info("a connection is lost: %s", why);
	}
	if (s->transport)
		transport_close(s->transport);
	session_end(s);
}

/* A pooled transport may have died at rest (the peer was restarted): a client gets one more try. */
static bool retry_open(struct session *s)
{
	struct transport *t;

	if (!s->transport->pooled || s->retried)
		return false;
	t = transport_dial(s->worker, true);
	if (!t)
		return false;
	s->retried = true;
	stream_cut(&s->in); /* of its answer */
	s->transport->session = NULL;
	s->transport = t;
	t->session = s;
	send_open(s);
	return true;
}

/* Is there nothing left to be sent again, either way? (The END that is missing says no more than that.) */
static bool is_done(const struct session *s)
{
	return conn_complete(&s->conn) && s->out.acked == s->out.end;
}

static bool is_worth_holding(const struct session *s, int error)
{
	if (!s->worker->daemon->config.hold_seconds || s->state == SESSION_CONNECTING || s->in.aborted ||
	    error == EPROTO || error == ENOMEM)
		return false;
	return s->held || s->transport->greeted || s->state == SESSION_OPENING;
}

void session_transport_broken(struct session *s, int error, const char *why)
{
	if (s->state == SESSION_OPENING && s->client) {
		if (!retry_open(s))
			session_lost(s, error, why);
	} else if (is_done(s)) {
		tell_done(s);
		session_end(s);
	} else if (!is_worth_holding(s, error) || hold_begin(s)) {
		session_lost(s, error, why);
	} else {
		log_debug("a connection is held: %s", why);
	}
}

void session_dialled_again(struct session *s)
{
	uint8_t payload[WIRE_ID_SIZE + 8];
	struct frame_resume r = { .id = s->id, .received = s->in.received };
	struct buf b;

	if (s->state == SESSION_OPENING) {
		transport_send(s->transport, WIRE_OPEN, s->open_payload, s->open_size);
	} else {
		s->resuming = true;
		buf_init(&b, payload, sizeof(payload));
		frame_put_resume(&b, &r);
		transport_send(s->transport, WIRE_RESUME, payload, b.pos);
	}
	transport_flush(s->transport);
}

/* The peer has dialled @t for it, perhaps before the break was seen here. */
static int go_on_over(struct session *s, struct transport *t)
{
	struct transport *old = s->transport;

	if (old) {
		if (hold_begin(s))
			return -ENOMEM;
		transport_close(old);
	}
	s->transport = t;
	t->session = s;
	return 0;
}

int session_resume(struct transport *t, const struct frame_header *h, const uint8_t *payload)
{
	struct frame_resume r;
	struct worker *w;
	struct session *s;
	int err;

	if (frame_get_resume(&r, payload, h->length))
		return -EPROTO;
	s = accepted_find(t->worker->daemon->accepted, &r.id, &w);
	if (s && w != t->worker)
		return transport_move(t, w, h, payload);
	if (!s || s->state != SESSION_RUNNING) {
		send_resumed(t, ENOTCONN, 0);
		return 0;
	}
	/* The answer goes before the rest of a frame, and there is room for it when the peer listens. One that does
	 * not may have given up this attempt, and be served on another transport: for that nothing has changed. */
	send_resumed(t, 0, s->in.received);
	transport_flush(t);
	if (fifo_len(&t->out))
		return -EPROTO;
	err = rewind_out(s, r.received);
	if (err)
		return err;
	if (go_on_over(s, t))
		return -ENOMEM;
	go_on(s);
	return 0;
}

/* The answer to its OPEN was lost with its transport, or will have to come over this one. */
static int accept_again(struct session *s, struct transport *t)
{
	if (s->in.heard || rewind_out(s, 0))
		return -EPROTO;
	if (go_on_over(s, t))
		return -ENOMEM;
	if (s->state == SESSION_RUNNING)
		send_opened(t, 0, "");
	hold_end(s);
	return 0;
}

void sessions_redial(struct worker *w)
{
	struct session *s;

	LIST_FOREACH(s, &w->sessions, entry)
		hold_redial(s);
}

void sessions_peer_gone(struct worker *w, const struct frame_id *instance)
{
	struct session *next;

	for (struct session *s = LIST_FIRST(&w->sessions); s; s = next) {
		const struct frame_id *theirs = s->held ? hold_instance(s) : NULL;

		next = LIST_NEXT(s, entry);
		if (theirs && (!instance || !memcmp(theirs, instance, sizeof(*instance))))
			session_lost(s, ECONNRESET, "the peer's udsproxyd has ended");
	}
}

/* ---- beginning: the peer dials ------------------------------------------------------------ */

static void answer(struct session *s, int error, const char *reason)
{
	struct transport *t = s->transport;

	event_del(&s->timer);
	if (t)
		send_opened(t, error, reason);
	if (!error)
		return;
	session_end(s);
	transport_release(t);
}

/* The server is connected to, or cannot be, or has to be tried again. */
static void connected(struct session *s, const struct frame_open *o, struct connector_result *r)
{
	if (r->fd == -ENOENT && o->target == WIRE_TARGET_LISTENER)
		r->fd = s->connect_tries < TWIN_TRIES ? -EAGAIN : -ECONNREFUSED;
	if (r->fd == -EAGAIN && s->connect_tries < CONNECT_TRIES) {
		arm(s, MIN(CONNECT_FIRST_MS << MIN(s->connect_tries, 6u), CONNECT_LAST_MS));
		s->connect_tries++;
		return;
	}
	s->local = session_local_of(o->socktype);
	s->in.packets = has_packets(s);
	free(s->open_payload);
	s->open_payload = NULL;
	if (r->fd >= 0 && o->socktype == WIRE_DGRAM)
		r->fd = dgram_server(s, r->fd, o->flags);
	if (r->fd < 0) {
		answer(s, -r->fd, r->reason);
		return;
	}
	s->explicit = r->explicit_credentials;
	s->credentials = r->credentials;
	answer(s, 0, "");
	attach(s, r->fd);
}

/* An attempt that has to wait for a file system (aside.h). Its session may end meanwhile. */
struct connecting {
	struct session *session; /* NULL: it did */
	struct daemon *daemon;
	struct frame_open open;
	struct connector_result result;
	uint8_t payload[]; /* what `open` points into */
};

static void forget_connecting(struct session *s)
{
	if (s->connecting)
		s->connecting->session = NULL;
	s->connecting = NULL;
}

static void connect_aside(void *arg)
{
	struct connecting *c = arg;

	connector_connect(c->daemon, &c->open, false, &c->result);
}

static void connected_aside(struct worker *w, void *arg)
{
	struct connecting *c = arg;
	struct session *s = c->session;

	(void)w;
	if (s) {
		s->connecting = NULL;
		connected(s, &c->open, &c->result);
		if (s->state == SESSION_RUNNING)
			session_pump(s);
	} else {
		connector_drop(&c->result);
	}
	free(c);
}

static int start_aside(struct session *s)
{
	struct connecting *c = malloc(sizeof(*c) + s->open_size);
	int err;

	if (!c)
		return -ENOMEM;
	c->session = s;
	c->daemon = s->worker->daemon;
	memcpy(c->payload, s->open_payload, s->open_size);
	err = frame_get_open(&c->open, c->payload, s->open_size);
	if (!err)
		err = aside_run(s->worker, connect_aside, connected_aside, c);
	if (err)
		free(c);
	else
		s->connecting = c;
	return err;
}

/* The OPEN is kept for as long as the server's backlog is full. */
static void attempt_connect(struct session *s)
{
	struct connector_result r;
	struct frame_open o;

	if (frame_get_open(&o, s->open_payload, s->open_size))
		abort(); /* it was read before */
	connector_connect(s->worker->daemon, &o, true, &r);
	if (r.fd == -EINPROGRESS)
		r.fd = start_aside(s);
	if (!s->connecting)
		connected(s, &o, &r);
}

static int accept_channel(struct session *s, const struct frame_open *o)
{
	struct frame_id id;

	memcpy(id.bytes, o->name, sizeof(id.bytes));
	/* No timer: the dialler takes it back when the message cannot come any more. */
	set_state(s, SESSION_PARKED);
	return kind_adopt_channel(s, &id);
}

int session_accept(struct transport *t, const struct frame_header *h, const uint8_t *payload)
{
	struct accepted *accepted = t->worker->daemon->accepted;
	struct frame_open o;
	struct worker *w;
	struct session *s;
	int err;

	if (frame_get_open(&o, payload, h->length))
		return -EPROTO;
	s = accepted_find(accepted, &o.id, &w);
	if (s && w != t->worker)
		return transport_move(t, w, h, payload);
	if (s)
		return accept_again(s, t);
	s = session_new(t->worker, t, &o.id, SESSION_CONNECTING);
	if (!s)
		return -ENOMEM;
	err = accepted_add(accepted, s);
	if (err)
		return err == -EEXIST ? -EPROTO : err;
	if (o.target == WIRE_TARGET_CHANNEL)
		return accept_channel(s, &o);
	s->open_payload = malloc(h->length);
	if (!s->open_payload) {
		session_abort(s, ENOMEM, "out of memory");
		return 0;
	}
	memcpy(s->open_payload, payload, h->length);
	s->open_size = h->length;
	attempt_connect(s);
	return 0;
}

void session_adopt(struct session *s, int fd, enum session_local local, bool primed)
{
	s->local = local;
	s->in.packets = has_packets(s);
	s->primed = primed;
	s->sticky = primed && local == SESSION_STREAM;
	s->patient = true;
	answer(s, 0, "");
	attach(s, fd);
}

void session_revive(struct session *s)
{
	if (s->state == SESSION_RUNNING)
		session_pump(s);
}

static int remember(struct passed **list, struct channel *channel)
{
	struct passed *p = calloc(1, sizeof(*p));

	if (!p)
		return -ENOMEM;
	p->channel = channel_ref(channel);
	p->next = *list;
	*list = p;
	return 0;
}

int session_pass(struct session *s, struct channel *channel)
{
	for (const struct passed *p = s->passed; p; p = p->next)
		if (p->channel == channel)
			return 0;
	return remember(&s->passed, channel);
}

int session_announce(struct session *s, struct channel *channel)
{
	struct passed **link = &s->announced;
	struct passed *p;

	while ((p = *link)) { /* what was answered needs no remembering */
		if (is_opening(p->channel)) {
			link = &p->next;
			continue;
		}
		*link = p->next;
		channel_unref(p->channel);
		free(p);
	}
	return remember(&s->announced, channel);
}

static void on_timer(evutil_socket_t fd, short what, void *arg)
{
	struct session *s = arg;
	struct transport *t = s->transport;

	(void)fd;
	(void)what;
	switch (s->state) {
	case SESSION_OPENING:
		/* A channel's answer waits for the message, which may be behind a slow reader. */
		if (!t || (t->greeted && s->channel))
			return;
		if (t->greeted && s->connect_tries++ == 0) {
			arm(s, OPENING_MS);
			return;
		}
		if (s->client || t->greeted) {
			session_lost(s, ETIMEDOUT, "no answer");
		} else {
			transport_broken(t, ETIMEDOUT, "no greeting");
		}
		return;
	case SESSION_CONNECTING:
		attempt_connect(s);
		if (s->state == SESSION_RUNNING)
			session_pump(s);
		return;
	case SESSION_RUNNING:
		s->patient = false;
		session_pump(s);
		return;
	case SESSION_PARKED:
	case SESSION_OFFERED:
	case SESSION_ENDED:
	case SESSION_STATES:
		return;
	}
}
