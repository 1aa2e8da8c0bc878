/* SPDX-License-Identifier: Apache-2.0 */
/*
 * watch.h - passed listening sockets: the original here, or its twin
 *
 * The original stays open on the side it came from: what connects to it is carried to the twin.
 * The twin's side keeps only its inode and asks once a second whether it is still listened on: a
 * datagram socket's connect says EPROTOTYPE while it is and ECONNREFUSED when it is not, and
 * changes nothing. When nobody listens any more, both sides drop it.
 */
#ifndef WATCH_H
#define WATCH_H

#include "channel.h"

struct watch;

/** watch_original() - accept on @c's descriptor, on worker @w; 0 or a negative errno */
int watch_original(struct worker *w, struct channel *c);
/** watch_make_twin() - a listening socket of @c's type for the program; the watch remembers its
 * inode. Return: the socket, the caller's, or a negative errno. */
int watch_make_twin(struct worker *w, struct channel *c);
/** watch_twin() - an O_PATH descriptor of twin @id, the caller's; -ENOENT: there is none (yet: the
 * message that passes it may be behind the connection that wants it) */
int watch_twin(struct daemon *d, const struct frame_id *id);
/** watch_end_all() - of a worker whose loop has ended */
void watch_end_all(struct worker *w);
/** watch_gone() - nobody listens on the far twin of the original @c; from any thread */
void watch_gone(struct channel *c);

#endif
