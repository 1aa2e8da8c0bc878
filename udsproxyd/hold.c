/* SPDX-License-Identifier: Apache-2.0 */
#include "hold.h"

#include <errno.h>

#include "link.h"
#include "session_parts.h"
#include "util.h"

#define REDIAL_FIRST_MS 100
#define REDIAL_LAST_MS 5000   /* the control link tells earlier */
#define ATTEMPT_MS 3000	      /* for a transport to be greeted, and for the answer */
#define UNHEARD_SECONDS 10    /* where nobody may be left who wants it: the dialler's client gives up earlier */
#define DIALS_MAX 64	      /* of a worker, under way at once */
#define TURN_MS 1000	      /* to wait for a turn, before looking whether the peer is still there */

struct held {
	struct session *session;
	TAILQ_ENTRY(held) turn;
	struct timer timer; /* the next attempt, the end of this one, or the end of it all */
	int64_t deadline;   /* ms */
	unsigned wait_ms;   /* before the next attempt */
	bool first;	    /* it has not had a transport yet */
	bool queued;	    /* for its turn to dial */
	bool clients;	    /* among those who are a client's */
	struct frame_id instance;
	struct fifo in; /* what came and is not delivered, */
	uint32_t data_left; /* the first bytes of which may be a frame's last */
};

static void arm(struct held *h, int64_t ms)
{
	timer_start(&h->session->worker->events, &h->timer, (unsigned)MAX(MIN(ms, h->deadline - events_now()), 0));
}

static void arm_next(struct held *h)
{
	arm(h, h->wait_ms);
	h->wait_ms = MIN(MAX(h->wait_ms * 2, REDIAL_FIRST_MS), REDIAL_LAST_MS);
}

/* ms; of one whose transport is broken now */
static int64_t hold_deadline(const struct session *s)
{
	int64_t seconds = s->worker->daemon->config.hold_seconds;

	/* If OPENED was lost, too, there may be nobody who wants it. */
	if (!s->dialled && !s->in.heard)
		seconds = MIN(seconds, UNHEARD_SECONDS);
	return events_now() + seconds * 1000;
}

/* ---- turns ------------------------------------------------------------------------------- */

/* A client waits in a queue of its own: one program's pipes, thousands perhaps, are not before everybody's. */
static struct turns *queue_of(const struct held *h)
{
	return &h->session->worker->turns[!h->clients];
}

static void queue(struct held *h)
{
	h->clients = h->session->client;
	TAILQ_INSERT_TAIL(queue_of(h), h, turn);
	h->queued = true;
	arm(h, TURN_MS);
}

static void leave_queue(struct held *h)
{
	if (h->queued)
		TAILQ_REMOVE(queue_of(h), h, turn);
	h->queued = false;
}

static bool nobody_waits(const struct worker *w)
{
	return TAILQ_EMPTY(&w->turns[0]) && TAILQ_EMPTY(&w->turns[1]);
}

/* The queues take turns. */
static struct held *next_of(struct worker *w)
{
	struct held *h = TAILQ_FIRST(&w->turns[w->turn]);

	w->turn = !w->turn;
	return h ?: TAILQ_FIRST(&w->turns[w->turn]);
}

/* A peer that is not there is found out at once by all. What broke a transport may have broken those at rest, too: they are for
 * @first, who can begin anew. */
static bool must_queue(const struct worker *w, bool first)
{
	return (w->n_dialling >= DIALS_MAX || !nobody_waits(w)) && !(first && !LIST_EMPTY(&w->idle)) &&
	       worker_peer_is_alive(w);
}

bool hold_must_queue(const struct worker *w)
{
	return must_queue(w, true);
}

static void dial(struct session *s)
{
	struct held *h = s->held;
	bool first = h->first;
	struct transport *t = transport_dial(s->worker, !first);

	leave_queue(h);
	if (!t && s->client) {
		session_lost(s, errno, "cannot dial");
		return;
	}
	if (!t) {
		h->deadline = MIN(h->deadline, hold_deadline(s));
		arm_next(h);
		return;
	}
	t->session = s;
	s->transport = t;
	if (first) {
		hold_forget(s);
		session_send_open(s);
	} else {
		arm(h, ATTEMPT_MS);
		session_dialled_again(s);
	}
}

static void take_turns(struct timer *t)
{
	struct worker *w = CONTAINER_OF(t, struct worker, turns_timer);
	struct held *h;

	while ((h = next_of(w)) &&
	       (w->n_dialling < DIALS_MAX || (h->first && !LIST_EMPTY(&w->idle))))
		dial(h->session);
}

void hold_init(struct worker *w)
{
	TAILQ_INIT(&w->turns[0]);
	TAILQ_INIT(&w->turns[1]);
	timer_init(&w->turns_timer, take_turns);
}

/* Not at once: whoever makes room may be in the midst of something. */
void hold_next_turn(struct worker *w)
{
	if (!nobody_waits(w))
		timer_start(&w->events, &w->turns_timer, 0);
}

/* ---- attempts ---------------------------------------------------------------------------- */

/* Does it wait for its turn, or in the backlog of a peer that is there? */
static bool waits_well(const struct session *s)
{
	return worker_peer_is_alive(s->worker) &&
	       (s->held->queued || (s->transport && !s->transport->greeted));
}

static void on_timer(struct timer *t)
{
	struct held *h = CONTAINER_OF(t, struct held, timer);
	struct session *s = h->session;

	if (s->state == SESSION_OPENING && s->transport && s->transport->greeted)
		hold_forget(s); /* its OPEN is with the peer, as the first was: that may take long */
	else if (events_now() >= h->deadline)
		session_lost(s, ETIMEDOUT, "the link was broken for longer than --hold-time");
	else if (waits_well(s))
		arm(h, TURN_MS);
	else if (s->transport)
		transport_broken(s->transport, ETIMEDOUT, "no answer");
	else if (s->dialled && must_queue(s->worker, h->first))
		queue(h);
	else if (s->dialled)
		dial(s);
	else
		arm(h, INT32_MAX);
}

static struct held *held_new(struct session *s, int64_t deadline)
{
	struct held *h = calloc(1, sizeof(*h));

	if (!h)
		return NULL;
	h->deadline = deadline;
	h->session = s;
	timer_init(&h->timer, on_timer);
	return h;
}

/* What is complete, and what came of a DATA; the rest will come again. */
static void keep_undelivered(struct held *h, struct session *s, struct transport *t)
{
	h->instance = t->peer_instance;
	h->in = t->in;
	t->in = (struct fifo){ 0 };
	fifo_cut(&h->in, stream_cut(&s->in));
	h->data_left = t->data_left;
}

int hold_queue(struct session *s)
{
	s->held = held_new(s, INT64_MAX); /* nothing is broken */
	if (!s->held)
		return -ENOMEM;
	s->held->first = true;
	queue(s->held);
	return 0;
}

int hold_begin(struct session *s)
{
	struct transport *t = s->transport;

	if (!s->held) {
		s->held = held_new(s, hold_deadline(s));
		if (!s->held)
			return -ENOMEM;
		keep_undelivered(s->held, s, t);
		link_hurry(s->worker->daemon);
	} else {
		stream_cut(&s->in); /* of an OPENED */
	}
	s->transport = NULL;
	s->resuming = false;
	t->session = NULL;
	/* What a pipe waits for waits, too: its patience begins anew, with the frame that is early. */
	if (s->local == SESSION_PIPE && s->state == SESSION_RUNNING)
		timer_stop(&s->worker->events, &s->timer);
	if (s->dialled)
		arm_next(s->held);
	else
		arm(s->held, INT32_MAX);
	return 0;
}

void hold_end(struct session *s)
{
	struct held *h = s->held;
	struct transport *t = s->transport;

	s->resuming = s->end_sent = false;
	if (h) {
		t->older = h->in;
		t->data_left = h->data_left;
		h->in = (struct fifo){ 0 };
	}
	hold_forget(s);
	transport_again(t);
}

void hold_forget(struct session *s)
{
	struct held *h = s->held;

	s->held = NULL;
	if (!h)
		return;
	leave_queue(h);
	timer_stop(&s->worker->events, &h->timer);
	fifo_clear(&h->in);
	free(h);
}

void hold_greeted(struct session *s)
{
	arm(s->held, ATTEMPT_MS);
}

void hold_redial(struct session *s)
{
	if (!s->held || s->held->queued || s->transport || !s->dialled)
		return;
	s->held->wait_ms = REDIAL_FIRST_MS;
	arm(s->held, 0);
}

const struct frame_id *hold_instance(const struct session *s)
{
	return &s->held->instance;
}
