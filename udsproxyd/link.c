/* SPDX-License-Identifier: Apache-2.0 */
#include "link.h"

#include <errno.h>
#include <string.h>

#include "channel.h"
#include "session.h"
#include "util.h"

#define REDIAL_FIRST_MS 100
#define REDIAL_MAX_MS 2000
#define GREETING_SECONDS 3 /* for an attempt to get anywhere */
#define DROPPED_MS (2 * WIRE_DEAD_SECONDS * 1000) /* after which the peer has noticed, too */
#define GONE_MS 300	   /* nobody listens there for so long: the peer's udsproxyd has ended */

struct link {
	struct worker *worker;
	struct transport *transport; /* NULL: between two attempts */
	struct timer timer;	     /* the next attempt, or the next look at the silence */
	unsigned redial_ms;
	unsigned silent; /* seconds since the peer said something */
	int64_t refused; /* since when (ms) nobody listens there, 0 */
	bool known;	 /* instance is the peer's latest */
	bool complained; /* about the peer that is not there, once */
	int64_t dropped; /* when (ms) all transports were, unless the peer has dialled its own link since; 0 */
	struct frame_id instance;
	struct frame_id accepted; /* whose link, the other way, was accepted last; all 0: nobody's */
};

/* ---- what is told to all workers --------------------------------------------------------- */

static void tell_workers(struct daemon *d, void (*fn)(struct worker *, void *),
			 const struct frame_id *instance)
{
	for (int i = 0; i < d->config.threads; i++) {
		struct frame_id *copy = malloc(sizeof(*copy));

		if (!copy)
			return;
		*copy = *instance;
		if (worker_post(&d->workers[i], fn, copy))
			free(copy);
	}
}

static bool is_same(const struct frame_id *a, const struct frame_id *b)
{
	return !memcmp(a, b, sizeof(*a));
}

static struct transport *first_to(struct worker *w, const struct frame_id *instance, bool accepted)
{
	struct transport *t;

	/* Our own control link is link.c's to break. */
	LIST_FOREACH(t, &w->transports, entry)
		if (!(t->link && t->dialled) && (t->dialled || accepted) && t->greeted &&
		    is_same(&t->peer_instance, instance))
			return t;
	return NULL;
}

/* A worker lets go of its transports to a run of the peer: the sessions on them are held. Each that breaks may take others
 * with it. */
static void drop(struct worker *w, const struct frame_id *instance, bool accepted)
{
	struct transport *t;

	while ((t = first_to(w, instance, accepted)))
		transport_broken(t, ECONNRESET, "the peer is gone");
}

static void drop_transports(struct worker *w, void *arg)
{
	drop(w, arg, true);
	free(arg);
}

/* Those that the peer dialled it dials again itself. */
static void drop_dialled(struct worker *w, void *arg)
{
	drop(w, arg, false);
	free(arg);
}

/* That run is over: so is whatever it carried. */
static void drop_all(struct worker *w, void *arg)
{
	const struct frame_id instance = *(struct frame_id *)arg;

	drop_transports(w, arg);
	sessions_peer_gone(w, &instance);
}

/* There is none at all. */
static void drop_held(struct worker *w, void *arg)
{
	free(arg);
	sessions_peer_gone(w, NULL);
}

static void redial(struct worker *w, void *arg)
{
	free(arg);
	sessions_redial(w);
}

/* ---- dialling ------------------------------------------------------------------------------ */

/* Nobody listens there, and again nobody: it has ended. (vsock says ECONNRESET.) */
static void note_refusal(struct link *link, int error, bool greeted)
{
	if (greeted || (error != ECONNREFUSED && error != ECONNRESET))
		link->refused = 0;
	else if (!link->refused)
		link->refused = events_now();
	else if (events_now() - link->refused >= GONE_MS)
		tell_workers(link->worker->daemon, drop_held, &link->instance);
}

static void unreachable(struct link *link, int error, const char *why)
{
	struct daemon *d = link->worker->daemon;

	if (!link->complained)
		log_warning("the peer %s is not reachable: %s (%s); trying on", d->config.peer.text,
			    strerror(error), why);
	link->complained = true;
	link->transport = NULL;
	atomic_store(&d->peer_alive, false);
	link->redial_ms = MIN(link->redial_ms * 2, REDIAL_MAX_MS);
	timer_start(&link->worker->events, &link->timer, link->redial_ms);
}

static void dial(struct link *link)
{
	link->silent = 0;
	link->transport = transport_dial_control(link->worker, link);
	if (link->transport)
		timer_start(&link->worker->events, &link->timer, 1000);
	else
		unreachable(link, errno, errno == ENODEV ? "no machine has this CID" : "cannot dial");
}

static void on_timer(struct timer *t)
{
	struct link *link = CONTAINER_OF(t, struct link, timer);

	if (!link->transport) {
		dial(link);
		return;
	}
	link->silent++;
	timer_start(&link->worker->events, &link->timer, 1000);
	if (link->silent >= WIRE_DEAD_SECONDS) {
		link->dropped = events_now();
		tell_workers(link->worker->daemon, drop_transports, &link->instance);
		transport_broken(link->transport, ETIMEDOUT, "the peer is silent");
	} else if (link->silent >= GREETING_SECONDS && !link->transport->greeted) {
		transport_broken(link->transport, ETIMEDOUT, "no greeting came");
	} else if (link->silent >= WIRE_PING_SECONDS && link->transport->greeted) {
		transport_send(link->transport, WIRE_PING, NULL, 0);
		transport_flush(link->transport);
	}
}

struct link *link_new(struct worker *w)
{
	struct link *link = calloc(1, sizeof(*link));

	if (!link)
		die("out of memory");
	link->worker = w;
	link->redial_ms = REDIAL_FIRST_MS;
	timer_init(&link->timer, on_timer);
	dial(link);
	return link;
}

void link_free(struct link *link)
{
	timer_stop(&link->worker->events, &link->timer);
	if (link->transport)
		transport_close(link->transport);
	free(link);
}

/* A peer that dials its link anew may have let go of all transports. Those that we had dialled need not show it:
 * a reset that was lost is not repeated, and an end may be behind bytes that nobody takes. */
static void peer_dialled(struct worker *w, void *arg)
{
	struct frame_id *instance = arg;
	struct link *link = w->daemon->link;
	bool both = link->dropped && events_now() - link->dropped < DROPPED_MS; /* by the same silence */

	if (is_same(&link->accepted, instance) && !both)
		tell_workers(w->daemon, drop_dialled, instance);
	link->dropped = 0;
	link->accepted = *instance;
	free(instance);
}

void link_accepted(struct transport *t)
{
	struct daemon *d = t->worker->daemon;
	struct frame_id *instance = malloc(sizeof(*instance));

	/* Any worker may hold the peer's link: nothing of ours is touched by it. */
	t->link = d->link;
	if (!instance)
		return;
	*instance = t->peer_instance;
	if (worker_post(&d->workers[0], peer_dialled, instance))
		free(instance);
}

void link_greeted(struct link *link, struct transport *t)
{
	struct daemon *d = link->worker->daemon;

	if (link->known && !is_same(&link->instance, &t->peer_instance)) {
		log_info("the peer's udsproxyd was restarted");
		tell_workers(d, drop_all, &link->instance);
	}
	link->known = true;
	link->refused = 0;
	link->complained = false;
	link->silent = 0;
	link->redial_ms = REDIAL_FIRST_MS;
	link->instance = t->peer_instance;
	atomic_store(&d->peer_alive, true);
	log_info("the peer %s is up", d->config.peer.text);
	tell_workers(d, redial, &link->instance);
}

int link_frame(struct link *link, struct transport *t, const struct frame_header *h,
	       const uint8_t *payload)
{
	struct frame_id id;
	struct buf b;

	if (t->dialled)
		link->silent = 0;
	switch (h->type) {
	case WIRE_PING:
		transport_send(t, WIRE_PONG, NULL, 0);
		return 0;
	case WIRE_PONG:
		return 0;
	case WIRE_GONE:
		buf_init_const(&b, payload, h->length);
		frame_get_id(&b, &id);
		if (!buf_done(&b))
			return -EPROTO;
		channel_listener_gone(t->worker->daemon->channels, &id);
		return 0;
	}
	return -EPROTO;
}

void link_transport_broken(struct link *link, struct transport *t, int error, const char *why)
{
	if (!t->dialled)
		return;
	note_refusal(link, error, t->greeted);
	unreachable(link, error, why);
}

static void hurry(struct worker *w, void *arg)
{
	struct link *link = w->daemon->link;

	(void)arg;
	if (!link || link->transport)
		return;
	link->redial_ms = REDIAL_FIRST_MS;
	dial(link);
}

void link_hurry(struct daemon *d)
{
	worker_post(&d->workers[0], hurry, NULL);
}

static void send_gone(struct worker *w, void *arg)
{
	struct frame_id *id = arg;
	struct transport *t = w->daemon->link->transport;

	/* Without a link the peer learns it when it next tries the twin. */
	if (t && t->greeted) {
		transport_send(t, WIRE_GONE, id->bytes, sizeof(id->bytes));
		transport_flush(t);
	}
	free(id);
}

void link_send_gone(struct daemon *d, const struct frame_id *id)
{
	struct frame_id *copy = malloc(sizeof(*copy));

	if (!copy)
		return;
	*copy = *id;
	if (worker_post(&d->workers[0], send_gone, copy))
		free(copy);
}
