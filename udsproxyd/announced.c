/* SPDX-License-Identifier: Apache-2.0 */
#include "announced.h"

#include <errno.h>

#include "channel.h"
#include "session_parts.h"
#include "util.h"

#define ANNOUNCED_SHARE 8 /* of all descriptors: each takes two, the peer's take as many, and others want some */

struct announcement {
	LIST_ENTRY(announcement) entry;
	struct session *session;
	struct channel *channel;
};

void announced_init(struct daemon *d, size_t descriptors)
{
	d->announced_max = (unsigned)MIN(descriptors / ANNOUNCED_SHARE, UINT32_MAX);
}

int announced_add(struct session *s, struct channel *c)
{
	struct announcement *a = malloc(sizeof(*a));

	if (!a)
		return -ENOMEM;
	a->session = s;
	a->channel = channel_ref(c);
	c->announcement = a;
	LIST_INSERT_HEAD(&s->announced, a, entry);
	s->n_announced++;
	atomic_fetch_add(&s->worker->daemon->announced, 1);
	return 0;
}

static void forget(struct announcement *a)
{
	LIST_REMOVE(a, entry);
	a->session->n_announced--;
	atomic_fetch_sub(&a->session->worker->daemon->announced, 1);
	a->channel->announcement = NULL;
	channel_unref(a->channel);
	free(a);
}

/* Those of others may be why it waits; it looks again at each of its own. */
bool announced_are_many(const struct session *s)
{
	const struct daemon *d = s->worker->daemon;

	return s->n_announced &&
	       (s->n_announced >= WIRE_DESCRIPTORS_MAX || atomic_load(&d->announced) >= d->announced_max);
}

void announced_answered(struct channel *c)
{
	struct session *s;

	if (!c->announcement)
		return;
	s = c->announcement->session;
	forget(c->announcement);
	if (s->readable && s->transport && !announced_are_many(s))
		transport_again(s->transport);
}

void announced_end(struct session *s, bool delivered)
{
	struct announcement *a;

	while ((a = LIST_FIRST(&s->announced))) {
		struct session *waits = a->channel->session;

		forget(a);
		if (!delivered && waits)
			session_forsake(waits);
	}
}
