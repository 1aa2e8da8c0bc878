/* SPDX-License-Identifier: Apache-2.0 */
/*
 * announced.h - channels that a session's messages have begun, and that have no answer yet
 *
 * The answer comes when the message is delivered (PROTOCOL.md 8.1). Until then each costs descriptors, here and soon there, and a
 * program can pass any number of them before anybody reads. So a session that waits for many answers is not
 * read, and its socket fills up, as one does whose reader is slow. A session that waits for none is read always.
 *
 * All is done on the worker of the session, which is the channels' sessions', too.
 */
#ifndef ANNOUNCED_H
#define ANNOUNCED_H

#include "session.h"

struct channel;

/** announced_init() - @d may have @descriptors open: how many channels may wait for an answer in all */
void announced_init(struct daemon *d, size_t descriptors);
/** announced_add() - a message of @s begins @c. Return: 0 or -ENOMEM. */
int announced_add(struct session *s, struct channel *c);
/** announced_answered() - @c waits for an answer no longer, whatever became of it: who has announced it may be read again */
void announced_answered(struct channel *c);
/** announced_end() - @s ends. @delivered: and all its messages were; else what it announced is lost with it */
void announced_end(struct session *s, bool delivered);
/** announced_are_many() - must @s not be read? */
bool announced_are_many(const struct session *s);

#endif
