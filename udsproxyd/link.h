/* SPDX-License-Identifier: Apache-2.0 */
/*
 * link.h - the control link: is the peer there, and is it still the same one?
 *
 * Each daemon dials one to its peer and keeps it, on worker 0; the peer's comes in like any
 * transport and only answers. A link that was silent is asked (PING); one that stays silent is
 * broken, and with it, all transports to the peer: a machine that vanished sends no reset, and
 * vsock shows none (PROTOCOL.md). So idle connections need no traffic of their own.
 */
#ifndef LINK_H
#define LINK_H

#include "transport.h"

struct link;

/** link_new() - start dialling, from worker 0; exits when there is no memory */
struct link *link_new(struct worker *w);
/** link_free() - stop it */
void link_free(struct link *link);
/** link_hurry() - a transport is broken: is the peer there? From any thread */
void link_hurry(struct daemon *d);
/** link_send_gone() - tell the peer that nobody listens on twin @id any more; from any thread */
void link_send_gone(struct daemon *d, const struct frame_id *id);

/* From transport.c: */
void link_accepted(struct transport *t);
void link_greeted(struct link *link, struct transport *t);
int link_frame(struct link *link, struct transport *t, const struct frame_header *h,
	       const uint8_t *payload);
void link_transport_broken(struct link *link, struct transport *t, int error, const char *why);

#endif
