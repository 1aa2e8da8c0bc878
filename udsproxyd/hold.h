/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hold.h - a session between two transports, or before its first
 *
 * The side that dialled dials again, at once and then ever more rarely, or when the control link says that
 * the peer can be reached (sessions_redial()). The other side waits. Both do so for the hold time, and
 * then the session is lost.
 *
 * Only so many of a worker's dials may be under way. The peer can take no more at once than its backlog has room for, and what has stood
 * there for too long is given up here, and yet has to be taken there, before what is dialled in its place. So
 * sessions wait for their turn, the first come first.
 */
#ifndef HOLD_H
#define HOLD_H

#include "session.h"

/** hold_init() - when @w is made */
void hold_init(struct worker *w);
/** hold_must_queue() - may no more transports be dialled now, and is none at rest? Not asked of the control link. */
bool hold_must_queue(const struct worker *w);
/** hold_queue() - send the OPEN of @s, which has no transport yet, when its turn comes. Return: 0 or -ENOMEM. */
int hold_queue(struct session *s);
/** hold_next_turn() - a dial has come to an end, or a transport is idle */
void hold_next_turn(struct worker *w);

/** hold_begin() - the transport of @s is broken or to be replaced: let go of it, and keep what came over
 * it and is not delivered. Return: 0, or -ENOMEM and nothing happened. */
int hold_begin(struct session *s);
/** hold_end() - @s goes on over its new transport, after the frame at hand */
void hold_end(struct session *s);
/** hold_forget() - @s ends, or begins anew */
void hold_forget(struct session *s);
/** hold_greeted() - the transport that was dialled for @s is: wait for the answer */
void hold_greeted(struct session *s);
/** hold_redial() - now, if @s is waiting to do so */
void hold_redial(struct session *s);
/** hold_instance() - the run of the peer that @s, which is held, belongs to */
const struct frame_id *hold_instance(const struct session *s);

#endif
