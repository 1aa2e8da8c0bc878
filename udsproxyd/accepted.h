/* SPDX-License-Identifier: Apache-2.0 */
/*
 * accepted.h - which worker has the session that the peer dialled under an id
 *
 * A transport that resumes a connection may be accepted by any worker. The table is shared by all.
 */
#ifndef ACCEPTED_H
#define ACCEPTED_H

#include "session.h"

struct accepted;

struct accepted *accepted_new(void);
void accepted_free(struct accepted *table);
/** accepted_add() - @s is there now; 0, -EEXIST or -ENOMEM */
int accepted_add(struct accepted *table, struct session *s);
/** accepted_remove() - it is not any more (or was not) */
void accepted_remove(struct accepted *table, struct session *s);
/** accepted_find() - whom @id belongs to; only worker @w, which it is given with, may touch it. NULL: nobody */
struct session *accepted_find(struct accepted *table, const struct frame_id *id, struct worker **w);

#endif
