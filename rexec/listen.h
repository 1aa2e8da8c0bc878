/* SPDX-License-Identifier: Apache-2.0 */
/*
 * listen.h - listening sockets that stay here while the program listens on their twins
 */
#ifndef LISTEN_H
#define LISTEN_H

#include "loop.h"
#include "session.h"

struct listeners;

/** listeners_new() - relay connections for the program of @s (borrowed); NULL without memory */
struct listeners *listeners_new(struct loop *l, struct session *s);
/** listeners_add() - accept on @fd (borrowed) for the program's descriptor @number, from
 * listeners_start() on; 0 or -errno */
int listeners_add(struct listeners *l, int fd, int number);
/** listeners_start() - the program was started, so its twins are there */
void listeners_start(struct listeners *l);
/** listeners_settled() - has every connection got all that the program wrote to it? Only when the
 * program has ended. */
bool listeners_settled(const struct listeners *l);
/** listeners_free() - close every connection and stop accepting; NULL is fine */
void listeners_free(struct listeners *l);

#endif
