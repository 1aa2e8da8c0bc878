/* SPDX-License-Identifier: Apache-2.0 */
#include "hold.h"

#include <errno.h>

#include "link.h"
#include "util.h"

#define REDIAL_FIRST_MS 100
#define REDIAL_LAST_MS 5000   /* the control link tells earlier */
#define ATTEMPT_MS 3000	      /* for a transport, its greeting and the answer */
#define UNHEARD_SECONDS 10    /* where nobody may be left who wants it: the dialler's client gives up earlier */

struct held {
	struct session *session;
	struct timer timer; /* the next attempt, the end of this one, or the end of it all */
	int64_t deadline;   /* ms */
	unsigned wait_ms;   /* before the next attempt */
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

static void dial(struct session *s)
{
	struct held *h = s->held;
	struct transport *t = transport_dial(s->worker, true);

	if (!t) {
		arm_next(h);
		return;
	}
	t->session = s;
	s->transport = t;
	arm(h, ATTEMPT_MS);
	session_dialled_again(s);
}

static void on_timer(struct timer *t)
{
	struct session *s = CONTAINER_OF(t, struct held, timer)->session;

	if (s->state == SESSION_OPENING && s->transport && s->transport->greeted)
		hold_forget(s); /* its OPEN is with the peer, as the first was: that may take long */
	else if (events_now() >= s->held->deadline)
		session_lost(s, ETIMEDOUT, "the link was broken for longer than --hold-time");
	else if (s->transport)
		transport_broken(s->transport, ETIMEDOUT, "no answer");
	else if (s->dialled)
		dial(s);
	else
		arm(s->held, INT32_MAX);
}

static struct held *held_new(struct session *s)
{
	struct held *h = calloc(1, sizeof(*h));
	int64_t seconds = s->worker->daemon->config.hold_seconds;

	if (!h)
		return NULL;
	/* If OPENED was lost, too, there may be nobody who wants it. */
	if (!s->dialled && !s->in.heard)
		seconds = MIN(seconds, UNHEARD_SECONDS);
	h->deadline = events_now() + seconds * 1000;
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

int hold_begin(struct session *s)
{
	struct transport *t = s->transport;

	if (!s->held) {
		s->held = held_new(s);
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
	timer_stop(&s->worker->events, &h->timer);
	fifo_clear(&h->in);
	free(h);
}

void hold_redial(struct session *s)
{
	if (!s->held || s->transport || !s->dialled)
		return;
	s->held->wait_ms = REDIAL_FIRST_MS;
	arm(s->held, 0);
}

const struct frame_id *hold_instance(const struct session *s)
{
	return &s->held->instance;
}
