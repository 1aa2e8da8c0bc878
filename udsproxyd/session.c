/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 *
 * The local descriptor is registered once, edge-triggered; `readable` and `writable` remember
 * what its events said until a call says EAGAIN, or a read of a stream gives less than was asked for
 * (events.h). session_pump() takes turns: frames from the
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
#include "session_parts.h"

#include <errno.h>
#include <poll.h>
#include <string.h>

#include "accepted.h"
#include "announced.h"
#include "aside.h"
#include "bulk.h"
#include "canon.h"
#include "channel.h"
#include "client.h"
#include "dgram.h"
#include "fdmap.h"
#include "hold.h"
#include "kind.h"
#include "netlink.h"
#include "splice.h"
#include "util.h"

#define PUMP_TURNS 8 /* before others have theirs */
#define ACK_MS 500   /* an ack may wait for company so long */

static void on_local_event(struct io *io, uint32_t events);
static void on_timer(struct timer *t);

/* ---- state ------------------------------------------------------------------------------- */

void session_set_state(struct session *s, enum session_state state)
{
	static const char *const names[] = { "opening", "offered", "connecting",
					     "parked",	"running", "ended" };
	_Static_assert(ARRAY_LEN(names) == SESSION_STATES, "a name for each state");

	log_debug("connection %02x%02x%02x%02x: %s -> %s", s->id.bytes[0], s->id.bytes[1],
		  s->id.bytes[2], s->id.bytes[3], names[s->state], names[state]);
	if (s->state == SESSION_OPENING && s->channel)
		announced_answered(s->channel);
	s->state = state;
}

static void session_free(struct grave *g)
{
	free(CONTAINER_OF(g, struct session, grave));
}

struct session *session_new(struct worker *w, struct transport *t, const struct frame_id *id,
				   enum session_state state)
{
	struct session *s = calloc(1, sizeof(*s));

	if (!s)
		return NULL;
	s->worker = w;
	s->id = *id;
	s->state = state;
	s->fd = -1;
	s->transport = t;
	s->dialled = !t || t->dialled;
	stream_out_init(&s->out, &w->pool);
	if (t)
		t->session = s;
	io_init(&s->io, on_local_event);
	timer_init(&s->timer, on_timer);
	LIST_INSERT_HEAD(&w->sessions, s, entry);
	atomic_fetch_add_explicit(&w->n_sessions, 1, memory_order_relaxed);
	return s;
}

/* The local end has no further use. */
static void close_local(struct session *s)
{
	struct worker *w = s->worker;

	session_end_reader(s);
	if (s->dgram)
		dgram_end(s);
	if (s->channel) {
		io_stop(&w->events, &s->io);
		channel_end(w->daemon->channels, s->channel, w->daemon);
	} else {
		io_close(&w->events, &s->io, s->fd);
	}
	s->fd = -1;
}

void session_stop_waiting(struct session *s)
{
	if (s->waiting)
		LIST_REMOVE(s, waiting_entry);
	s->waiting = false;
}

void session_forget_arriving(struct session *s)
{
	if (s->arriving)
		aside_close_set(s->arriving);
	free(s->arriving);
	s->arriving = NULL;
}

/* Acks go with other frames, or after a while by themselves. */
void session_owe_ack(struct session *s)
{
	struct worker *w = s->worker;

	if (s->owing || s->state == SESSION_ENDED)
		return;
	if (LIST_EMPTY(&w->owing))
		timer_start(&w->events, &w->owing_timer, ACK_MS);
	LIST_INSERT_HEAD(&w->owing, s, owing_entry);
	s->owing = true;
}

static void stop_owing(struct session *s)
{
	if (s->owing)
		LIST_REMOVE(s, owing_entry);
	s->owing = false;
}

/* Nothing is left but END: a client's datagram, if it is one, is in the server's queue. */
void session_tell_done(struct session *s)
{
	if (s->client)
		client_done(s->client);
	s->client = NULL;
}

void session_tell_verdict(struct session *s, const struct frame_opened *o, const char *what)
{
	int error = local_errno(o->error);
	char reason[WIRE_REASON_MAX + 1];

	memcpy(reason, o->reason, o->reason_len);
	reason[o->reason_len] = '\0';
	if (s->client)
		client_refuse(s->client, error, reason);
	else
		log_info("%s: %s", what, *reason ? reason : strerror(error));
	s->client = NULL;
}

/* The session is over; its transport was released, or is closed by the caller. */
void session_end(struct session *s)
{
	const unsigned ended = CONN_END_SENT | CONN_END_RECEIVED;
	struct passed *p;

	if (s->state == SESSION_ENDED)
		return;
	session_set_state(s, SESSION_ENDED);
	close_local(s);
	timer_stop(&s->worker->events, &s->timer);
	session_stop_waiting(s);
	stop_owing(s);
	hold_forget(s);
	if (!s->dialled)
		accepted_remove(s->worker->daemon->accepted, s);
	splice_put(s->worker, s->splice);
	bulk_end(s);
	stream_out_free(&s->out);
	session_forget_arriving(s);
	fdmap_forget_files(s);
	kind_forget_feeding(s);
	session_forget_connecting(s);
	while ((p = s->passed)) {
		s->passed = p->next;
		channel_unref(p->channel);
		free(p);
	}
	announced_end(s, (s->conn.flags & ended) == ended);
	if (s->channel)
		channel_unref(s->channel);
	s->channel = NULL;
	free(s->open_payload);
	s->open_payload = NULL;
	s->transport = NULL;
	LIST_REMOVE(s, entry);
	atomic_fetch_sub_explicit(&s->worker->n_sessions, 1, memory_order_relaxed);
	worker_bury(s->worker, &s->grave, session_free);
}

/* Give the transport back, whatever is still queued on it. */
void session_release_transport(struct session *s)
{
	struct transport *t = s->transport;

	s->transport = NULL;
	transport_flush(t);
	transport_release(t);
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

/* ---- the local end ----------------------------------------------------------------------- */

/* Start looking at the local end @fd (taken). */
void session_attach(struct session *s, int fd)
{
	s->fd = fd;
	s->writable = true; /* until a call says otherwise; what there is to read is told at once */
	/* Somebody else who reads an out-of-band byte leaves a mark that no event tells of. */
	s->unsure = s->channel && s->channel->ours;
	session_set_state(s, SESSION_RUNNING);
	if (io_start(&s->worker->events, &s->io, fd, EVENTS_EDGE))
		session_abort(s, ENOMEM, "a descriptor cannot be watched");
}

bool session_has_event(const struct session *s, short events)
{
	struct pollfd p = { .fd = s->fd, .events = events };

	return poll(&p, 1, 0) > 0 && p.revents & (events | POLLHUP | POLLERR);
}

/* Has everybody at the other end of it gone for good? */
bool session_hung_up(const struct session *s)
{
	return s->gone || session_has_event(s, 0);
}

/* Is there anything (more) to read from the local end? */
bool session_is_source(const struct session *s)
{
	return conn_reads(&s->conn) && (s->local != SESSION_PIPE || channel_reads(s->channel));
}

/* May anything (more) be written to the local end? */
bool session_is_sink(const struct session *s)
{
	return conn_writes(&s->conn) && (s->local != SESSION_PIPE || !channel_reads(s->channel));
}

void session_other_end_closed(struct session *s)
{
	s->gone = s->readable = true;
	if (s->transport)
		transport_again(s->transport);
}

/* Before an orderly close: what is unread would turn it into a reset (unix(7)), be it an urgent byte that a look at the queue does
 * not show, or what was on its way to a reader that is gone. Nothing can follow: its writer has ended, or STOP has
 * shut it down. */
static void discard_unread(struct session *s)
{
	struct fdset set;
	bool more;

	if (s->fd < 0 || s->closed_there || !session_is_connection(s))
		return;
	do {
		more = fd_recvmsg(s->fd, s->worker->outbound, sizeof(s->worker->outbound),
				  MSG_DONTWAIT, &set) > 0 || set.n;
		aside_close_set(&set);
	} while (more);
}

/* ---- what is sent ------------------------------------------------------------------------ */

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

void session_send_counted(struct session *s, uint8_t type, uint16_t count, const struct iovec *iov, int n)
{
	if (stream_add(&s->out, type, count, stream_ack(&s->in), iov, n))
		session_abort(s, ENOMEM, "out of memory");
}

bool session_ends_soon(const struct session *s)
{
	return conn_complete(&s->conn) && !s->end_sent;
}

/* The last END of a connection that was dialled is in no hurry: nobody waits for it but a session over there that has nothing left,
 * and the next OPEN on that transport takes it along. */
bool session_has_more(const struct session *s)
{
	return session_ends_soon(s) || (s->dialled && s->end_sent && s->conn.flags & CONN_END_RECEIVED);
}

/* END goes when all that counts has gone, and again on a transport that comes after. */
bool session_send_end(struct session *s)
{
	if (!session_ends_soon(s) || !s->transport || s->resuming || s->out.sent != s->out.end)
		return false;
	transport_send(s->transport, WIRE_END, NULL, 0);
	s->end_sent = true;
	return true;
}

static bool flush(struct session *s)
{
	bool any = transport_flush(s->transport);

	return session_send_end(s) ? transport_flush(s->transport) || any : any;
}

void session_send_opened(struct transport *t, int error, const char *reason)
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

/* ---- how it ends ------------------------------------------------------------------------- */

static void shut_local(struct session *s, unsigned actions)
{
	bool closes = actions & CONN_CLOSE_LOCAL;
	bool shut = actions & CONN_SHUT_LOCAL && s->local != SESSION_DATAGRAM;
	/* A sender of datagrams sees EPIPE then; but not when this was a close, that is ECONNREFUSED. */
	bool stop = actions & CONN_STOP_LOCAL && !(s->local == SESSION_DATAGRAM && closes);

	if (s->fd < 0 || s->closed_there || s->local == SESSION_PIPE)
		return;
	/* Also before a close: what is written between discard_unread() and that would be a reset. But for the other direction
	 * a close does, if nobody else has the socket, and wakes who is at the other end once rather than twice. */
	if (stop)
		shutdown(s->fd, shut ? SHUT_RDWR : SHUT_RD);
	else if (shut && (!closes || s->channel))
		shutdown(s->fd, SHUT_WR);
}

/* What conn.c decided. The session may have ended afterwards. */
static void apply(struct session *s, unsigned actions)
{
	struct transport *t = s->transport;

	if (actions & CONN_VIOLATION) {
		transport_broken(t, EPROTO, "the peer broke the protocol");
		return;
	}
	shut_local(s, actions);
	if (actions & CONN_SEND_SHUT)
		session_send_counted(s, WIRE_SHUT, s->seen, NULL, 0);
	if (actions & CONN_SEND_STOP)
		session_send_counted(s, WIRE_STOP, s->seen, NULL, 0);
	if (s->state == SESSION_ENDED)
		return;
	if (actions & CONN_CLOSE_LOCAL) {
		discard_unread(s);
		close_local(s);
	}
	if (actions & CONN_SEND_END)
		session_send_end(s);
	if (actions & CONN_IDLE) {
		session_tell_done(s);
		session_release_transport(s);
		session_end(s);
	}
}

void session_step(struct session *s, enum conn_event event)
{
	apply(s, conn_step(&s->conn, event));
}

void session_steps(struct session *s, enum conn_event first, enum conn_event second)
{
	unsigned actions = conn_step(&s->conn, first);

	apply(s, actions | conn_step(&s->conn, second));
}

/* ---- passed pipes ------------------------------------------------------------------------ */

/* Before the state of a pipe made here is looked at: if it was passed again, what we said of it before
 * is void. What we say next is said knowing of so many passes, whatever happens meanwhile. */
void session_notice_pass(struct session *s)
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

/* Of a pipe that was passed from here it is said with how many passes the peer has to expect; of a socket made here, whether its
 * holders have closed it. When that cannot be told of one that hung up: nearly always they have. */
void session_notice_end(struct session *s)
{
	if (s->local == SESSION_PIPE && s->channel->ours)
		s->seen = channel_retire(s->worker->daemon->channels, s->channel);
	else if (s->channel && !s->channel->ours && session_is_connection(s))
		s->seen = session_hung_up(s) && netlink_peer_closed(s->fd) != 0;
}

/* Nobody reads here any more. A pipe made here may be passed again, and should have its bytes then. */
void session_reader_gone(struct session *s)
{
	session_notice_end(s);
	if (s->local == SESSION_PIPE && !s->channel->ours)
		channel_keep(s->channel, true);
	session_step(s, CONN_LOCAL_GONE);
}

int session_pass(struct session *s, struct channel *channel)
{
	struct passed *p;

	for (p = s->passed; p; p = p->next)
		if (p->channel == channel)
			return 0;
	p = calloc(1, sizeof(*p));
	if (!p)
		return -ENOMEM;
	p->channel = channel_ref(channel);
	p->next = s->passed;
	s->passed = p;
	return 0;
}

/* ---- turns ------------------------------------------------------------------------------- */

void session_pump(struct session *s)
{
	struct transport *t = s->transport;
	bool more = true;

	for (int turn = 0; turn < PUMP_TURNS && more && t; turn++) {
		more = transport_receive(t);
		if (s->transport != t)
			return;
		more |= session_read_local(s);
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
		transport_again(t);
}

void session_revive(struct session *s)
{
	if (s->state == SESSION_RUNNING)
		session_pump(s);
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
		session_stop_waiting(s);
		session_pump(s);
	}
}

/* When several have something to say, all are read before any of it is sent: then the many sends that TCP makes of it come in
 * a row, with its code in the cache, and wake the peer less often. What is large is busy enough by itself. */
static bool only_read(struct session *s)
{
	if (!events_are_many(&s->worker->events) || s->large || !s->transport || !session_read_local(s))
		return false;
	if (s->transport)
		transport_again(s->transport);
	return true;
}

static void on_local_event(struct io *io, uint32_t events)
{
	struct session *s = CONTAINER_OF(io, struct session, io);

	s->readable |= events & EVENTS_READ;
	s->writable |= events & EVENTS_WRITE;
	s->unsure |= events & EVENTS_LAST;
	if (!only_read(s))
		session_pump(s);
}

static void on_timer(struct timer *t)
{
	struct session *s = CONTAINER_OF(t, struct session, timer);

	switch (s->state) {
	case SESSION_OPENING:
		session_answer_is_late(s);
		return;
	case SESSION_CONNECTING:
		session_attempt_connect(s);
		if (s->state == SESSION_RUNNING)
			session_pump(s);
		return;
	case SESSION_RUNNING:
		s->patient = false;
		session_make_way(s);
		session_pump(s);
		return;
	case SESSION_PARKED:
	case SESSION_OFFERED:
	case SESSION_ENDED:
	case SESSION_STATES:
		return;
	}
}
