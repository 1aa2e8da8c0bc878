/* SPDX-License-Identifier: Apache-2.0 */
#include "session_parts.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "accepted.h"
#include "aside.h"
#include "canon.h"
#include "channel.h"
#include "client.h"
#include "connector.h"
#include "dgram.h"
#include "hold.h"
#include "kind.h"
#include "util.h"

#define GREETING_MS 900        /* a peer that is not there is told of within a second */
#define GREETING_ALIVE_MS 5000 /* but one that is known to be there may be busy */
#define OPENING_MS 9000        /* for its answer */
#define CONNECT_FIRST_MS 1     /* a full backlog, no descriptor, or a twin that is still under way */
#define CONNECT_LAST_MS 64     /* doubled up to this */
#define CONNECT_TRIES 128      /* some 8 s */
#define TWIN_TRIES 32          /* some 2 s */

/* ---- we dial ----------------------------------------------------------------------------- */

static void await_greeting(struct session *s)
{
	timer_start(&s->worker->events, &s->timer,
		    worker_peer_is_alive(s->worker) ? GREETING_ALIVE_MS : GREETING_MS);
}

void session_send_open(struct session *s)
{
	transport_send(s->transport, WIRE_OPEN, s->open_payload, s->open_size);
	transport_flush(s->transport);
	await_greeting(s);
}

static int remember_open(struct session *s, const struct frame_open *o)
{
	_Static_assert(64 + WIRE_NAME_MAX + sizeof(uint32_t) * WIRE_GROUPS_MAX <= UINT16_MAX, "open_size holds it");

	size_t size = 64 + o->name_len + sizeof(uint32_t) * o->credentials.n_groups;
	struct buf b;

	s->open_payload = malloc(size);
	if (!s->open_payload)
		return -ENOMEM;
	buf_init(&b, s->open_payload, size);
	frame_put_open(&b, o);
	s->open_size = (uint16_t)b.pos;
	return b.bad ? -EINVAL : 0;
}

struct session *session_open(struct worker *w, const struct frame_open *o, enum session_local local,
			     struct client *client, struct channel *channel, int fd)
{
	bool queued = hold_must_queue(w);
	struct transport *t = queued ? NULL : transport_dial(w, false);
	struct session *s = t || queued ? session_new(w, t, &o->id, SESSION_OPENING) : NULL;

	if (s)
		s->client = client; /* hold_queue() asks */
	if (!s || remember_open(s, o) || (queued && hold_queue(s))) {
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
	s->channel = channel ? channel_ref(channel) : NULL;
	s->local = local;
	s->in.packets = session_has_packets(s);
	s->fd = fd;
	conn_init(&s->conn);
	if (queued)
		await_greeting(s);
	else
		session_send_open(s);
	return s;
}

void session_forsake(struct session *s)
{
	s->forsaken = true;
	timer_start(&s->worker->events, &s->timer, OPENING_MS);
}

void session_answer_is_late(struct session *s)
{
	struct transport *t = s->transport;
	bool greeted = t && t->greeted;

	/* In the peer's backlog it loses nothing. Another in its place would only come later. */
	if (!greeted && !s->client && worker_peer_is_alive(s->worker)) {
		await_greeting(s);
		return;
	}
	if (s->forsaken) {
		session_abort(s, ECONNRESET, "the connection that announces it is lost");
		return;
	}
	/* A channel's answer waits for the message, which may be behind a slow reader. */
	if (!s->client && (!t || (greeted && s->channel)))
		return;
	if (greeted && s->connect_tries++ == 0)
		timer_start(&s->worker->events, &s->timer, OPENING_MS);
	else if (s->client || greeted)
		session_lost(s, ETIMEDOUT, "no answer");
	else
		transport_broken(t, ETIMEDOUT, "no greeting");
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

ssize_t session_opened(struct session *s, const struct frame_header *h, const uint8_t *payload)
{
	struct client *client = s->client;
	struct frame_opened o;

	if (s->state != SESSION_OPENING || frame_get_opened(&o, payload, h->length))
		return -EPROTO;
	timer_stop(&s->worker->events, &s->timer);
	hold_forget(s);
	if (o.error)
		note_refusal(s, local_errno(o.error));
	free(s->open_payload);
	s->open_payload = NULL;
	if (!o.error)
		session_owe_ack(s); /* which tells the peer that OPENED has come */
	if (!o.error && !client) {
		session_attach(s, s->fd);
		return (ssize_t)(WIRE_HEADER + h->length);
	}
	if (!o.error) {
		session_set_state(s, SESSION_OFFERED);
		client_offer(client); /* may end the session */
		return (ssize_t)(WIRE_HEADER + h->length);
	}
	session_tell_verdict(s, &o, "the peer does not take a connection");
	session_release_transport(s);
	session_end(s);
	return (ssize_t)(WIRE_HEADER + h->length);
}

void session_client_connected(struct session *s, int fd)
{
	s->client = NULL;
	session_attach(s, fd);
	if (s->state == SESSION_RUNNING)
		session_pump(s);
}

void session_client_gone(struct session *s)
{
	s->client = NULL;
	session_abort(s, ECANCELED, "the client left");
}

/* ---- the peer dials ---------------------------------------------------------------------- */

static void answer(struct session *s, int error, const char *reason)
{
	struct transport *t = s->transport;

	timer_stop(&s->worker->events, &s->timer);
	if (t)
		session_send_opened(t, error, reason);
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
		timer_start(&s->worker->events, &s->timer,
			    MIN(CONNECT_FIRST_MS << MIN(s->connect_tries, 6u), CONNECT_LAST_MS));
		s->connect_tries++;
		return;
	}
	s->local = session_local_of(o->socktype);
	s->in.packets = session_has_packets(s);
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
	session_attach(s, r->fd);
}

/* An attempt that has to wait for a file system (aside.h). Its session may end meanwhile. */
struct connecting {
	struct session *session; /* NULL: it did */
	struct daemon *daemon;
	struct frame_open open;
	struct connector_result result;
	uint8_t payload[]; /* what `open` points into */
};

void session_forget_connecting(struct session *s)
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

static void attempt_connect(struct session *s, const struct frame_open *o)
{
	struct connector_result r;

	connector_connect(s->worker->daemon, o, true, &r);
	if (r.fd == -EINPROGRESS)
		r.fd = start_aside(s);
	if (!s->connecting)
		connected(s, o, &r);
}

/* The OPEN is kept for as long as the server's backlog is full. */
void session_attempt_connect(struct session *s)
{
	struct frame_open o;

	if (frame_get_open(&o, s->open_payload, s->open_size))
		abort(); /* it was read before */
	attempt_connect(s, &o);
}

static int accept_channel(struct session *s, const struct frame_open *o)
{
	struct frame_id id;

	memcpy(id.bytes, o->name, sizeof(id.bytes));
	/* No timer: the dialler takes it back when the message cannot come any more. */
	session_set_state(s, SESSION_PARKED);
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
		return session_accept_again(s, t);
	w = worker_beside(t->worker, h->count);
	if (w != t->worker && !transport_move(t, w, h, payload))
		return 0;
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
	s->open_size = (uint16_t)h->length;
	attempt_connect(s, &o);
	return 0;
}

void session_adopt(struct session *s, int fd, enum session_local local, bool primed)
{
	s->local = local;
	s->in.packets = session_has_packets(s);
	s->primed = primed;
	s->sticky = primed && local == SESSION_STREAM;
	s->patient = true;
	answer(s, 0, "");
	session_attach(s, fd);
}
