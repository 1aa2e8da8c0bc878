/* SPDX-License-Identifier: Apache-2.0 */
#include "session_parts.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "accepted.h"
#include "bulk.h"
#include "canon.h"
#include "client.h"
#include "hold.h"
#include "util.h"

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

/* A pooled transport may have died at rest (the peer was restarted), and the peer drops one that stands when our control link is a
 * new one (link.c): a client gets one more try. */
static bool retry_open(struct session *s, int error)
{
	struct transport *t;

	if (s->retried || (!s->transport->pooled && error != ECONNRESET))
		return false;
	t = transport_dial(s->worker, true);
	if (!t)
		return false;
	s->retried = true;
	stream_cut(&s->in); /* of its answer */
	s->transport->session = NULL;
	s->transport = t;
	t->session = s;
	session_send_open(s);
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
		if (!retry_open(s, error))
			session_lost(s, error, why);
	} else if (is_done(s)) {
		session_tell_done(s);
		session_end(s);
	} else if (!is_worth_holding(s, error) || hold_begin(s)) {
		session_lost(s, error, why);
	} else {
		log_debug("a connection is held: %s", why);
	}
}

/* It may have stood in the backlog for long: the time for the answer begins now. */
void session_greeted(struct session *s)
{
	if (s->held)
		hold_greeted(s);
	else if (s->forsaken)
		session_forsake(s);
}

/* ---- we dialled -------------------------------------------------------------------------- */

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

/* The peer has received so much of what was sent. Return: 0, or a negative errno: it cannot have (-EPROTO), or the
 * session is lost. */
static int rewind_out(struct session *s, uint64_t received)
{
	int err = bulk_bring_inside(s);

	if (err) {
		session_lost(s, -err, "what was sent cannot be sent again");
		return err;
	}
	return stream_rewind(&s->out, received) ? 0 : -EPROTO;
}

/* What was acknowledged may have been lost with the former transport. */
static void go_on(struct session *s)
{
	log_debug("a connection goes on");
	s->in.told = 0;
	session_owe_ack(s);
	hold_end(s);
}

ssize_t session_resumed(struct session *s, const struct frame_header *h, const uint8_t *payload)
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
	session_release_transport(s);
	/* A peer that has forgotten it had our END, and before that all the rest. */
	if (conn_complete(&s->conn)) {
		session_tell_done(s);
		session_end(s);
	} else {
		session_lost(s, ECONNRESET, "the peer does not know it any more");
	}
	return (ssize_t)(WIRE_HEADER + h->length);
}

/* ---- the peer dialled -------------------------------------------------------------------- */

static void send_resumed(struct transport *t, int error, uint64_t received)
{
	uint8_t payload[16];
	struct frame_resumed r = { .error = canon_errno(error), .received = received };
	struct buf b;

	buf_init(&b, payload, sizeof(payload));
	frame_put_resumed(&b, &r);
	transport_send(t, WIRE_RESUMED, payload, b.pos);
}

/* The peer has dialled @t for it, perhaps before the break was seen here. */
static int go_on_over(struct session *s, struct transport *t)
{
	struct transport *old = s->transport;

	if (old) {
		if (hold_begin(s)) {
			session_lost(s, ENOMEM, "out of memory");
			return -ENOMEM;
		}
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
int session_accept_again(struct session *s, struct transport *t)
{
	if (s->in.heard || rewind_out(s, 0))
		return -EPROTO;
	if (go_on_over(s, t))
		return -ENOMEM;
	if (s->state == SESSION_RUNNING)
		session_send_opened(t, 0, "");
	hold_end(s);
	return 0;
}

/* ---- of a worker ------------------------------------------------------------------------- */

void sessions_redial(struct worker *w)
{
	struct session *s;

	LIST_FOREACH(s, &w->sessions, entry)
		hold_redial(s);
}

static struct session *first_held_of(struct worker *w, const struct frame_id *instance)
{
	struct session *s;

	LIST_FOREACH(s, &w->sessions, entry)
		if (s->held && (!instance || !memcmp(hold_instance(s), instance, sizeof(*instance))))
			return s;
	return NULL;
}

void sessions_peer_gone(struct worker *w, const struct frame_id *instance)
{
	struct session *s;

	/* Each may take others with it. */
	while ((s = first_held_of(w, instance)))
		session_lost(s, ECONNRESET, "the peer's udsproxyd has ended");
}
