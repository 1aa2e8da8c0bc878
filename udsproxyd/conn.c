/* SPDX-License-Identifier: Apache-2.0 */
#include "conn.h"

#define BOTH_SHUT (CONN_SHUT_SENT | CONN_SHUT_RECEIVED)
#define BOTH_ENDED (CONN_END_SENT | CONN_END_RECEIVED)

void conn_init(struct conn *c)
{
	*c = (struct conn){ 0 };
}

static bool has(const struct conn *c, unsigned flags)
{
	return (c->flags & flags) == flags;
}

/* Set @flag and return @action, or nothing when it was set before. */
static unsigned once(struct conn *c, enum conn_flag flag, unsigned action)
{
	if (has(c, flag))
		return 0;
	c->flags |= flag;
	return action;
}

/* What follows by itself once both directions are done. */
static unsigned conclude(struct conn *c)
{
	unsigned actions = 0;

	if (has(c, BOTH_SHUT))
		actions |= once(c, CONN_END_SENT, CONN_CLOSE_LOCAL | CONN_SEND_END);
	if (has(c, BOTH_ENDED))
		actions |= CONN_IDLE;
	return actions;
}

unsigned conn_step(struct conn *c, enum conn_event event)
{
	unsigned actions = 0;

	switch (event) {
	case CONN_LOCAL_EOF:
		actions = once(c, CONN_SHUT_SENT, CONN_SEND_SHUT);
		break;
	case CONN_LOCAL_GONE:
		/* After the peer's SHUT nothing more comes that could be stopped. */
		if (!has(c, CONN_SHUT_RECEIVED))
			actions = once(c, CONN_STOP_SENT, CONN_SEND_STOP);
		break;
	case CONN_PEER_SHUT:
		if (has(c, CONN_SHUT_RECEIVED))
			return CONN_VIOLATION;
		actions = once(c, CONN_SHUT_RECEIVED, CONN_SHUT_LOCAL);
		break;
	case CONN_PEER_STOP:
		/* What U still sends nobody reads: our direction ends here too. */
		actions = once(c, CONN_STOP_RECEIVED, CONN_STOP_LOCAL);
		actions |= once(c, CONN_SHUT_SENT, CONN_SEND_SHUT);
		break;
	case CONN_PEER_END:
		if (!has(c, BOTH_SHUT) || has(c, CONN_END_RECEIVED))
			return CONN_VIOLATION;
		actions = once(c, CONN_END_RECEIVED, 0);
		break;
	}
	return actions | conclude(c);
}

bool conn_complete(const struct conn *c)
{
	return has(c, CONN_END_SENT);
}

bool conn_reads(const struct conn *c)
{
	return !has(c, CONN_SHUT_SENT);
}

bool conn_writes(const struct conn *c)
{
	return !has(c, CONN_STOP_SENT) && !has(c, CONN_SHUT_RECEIVED);
}

bool conn_revive(struct conn *c)
{
	if (c->flags & CONN_END_SENT || !(c->flags & (CONN_SHUT_SENT | CONN_STOP_SENT)))
		return false;
	c->flags &= ~(unsigned)(CONN_SHUT_SENT | CONN_STOP_SENT);
	return true;
}
