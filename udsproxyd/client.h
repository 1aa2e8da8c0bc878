/* SPDX-License-Identifier: Apache-2.0 */
/*
 * client.h - local programs and what they ask for (proxyreq.h)
 *
 * A client that wants to be connected sends its socket along and waits on its private connection until
 * the peer's side is connected; then its socket is, to one of ours (alias.h), which becomes the
 * session's local end. One that wants a single datagram to be sent waits until it is delivered.
 */
#ifndef CLIENT_H
#define CLIENT_H

#include "worker.h"

struct client;

/** client_accept() - take @fd, accepted on udsproxyd.sock */
void client_accept(struct worker *w, int fd);
/** client_accept_control() - take @fd, accepted on control.sock */
void client_accept_control(struct worker *w, int fd);
/** client_end_all() - of a worker whose loop and sessions have ended */
void client_end_all(struct worker *w);

/* From session.c; the client is freed by both sooner or later. */
/** client_offer() - the far side is connected: now its socket is, perhaps after a while, or the session
 * ends */
void client_offer(struct client *c);
/** client_done() - the datagram that it had sent has been delivered */
void client_done(struct client *c);
/** client_refuse() - it cannot be: @error is what its connect(2) shall say, @reason for a person */
void client_refuse(struct client *c, int error, const char *reason);

#endif
