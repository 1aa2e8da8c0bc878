/* SPDX-License-Identifier: Apache-2.0 */
/*
 * alias.h - sockets here that bear the names of the peer's servers
 *
 * A client's own socket has to be connected to something here; getpeername(2) then gives the name
 * that that was bound to. So it is bound to the very name that the client asked for, where nobody
 * but this daemon finds it. An abstract name is borne as a path that begins with PROXYREQ_ABSTRACT
 * in the place of its NUL, which libudsproxy undoes. What cannot be had so is a name below
 * RUNTIME/names.
 */
#ifndef ALIAS_H
#define ALIAS_H

#include <sys/un.h>

#include "worker.h"

struct alias;

/** alias_start() - before a worker runs; exits on failure */
void alias_start(struct daemon *d);
/** alias_stop() - when all have ended */
void alias_stop(void);

/**
 * alias_connect() - connect a client's stream or packet socket to a fresh one of ours
 * @client	an AF_UNIX socket of type @socktype, which stays the caller's
 * @name, @len	what the client asked for
 * Never waits for a client or a file system.
 * Return: our end, non-blocking, the caller's; or a negative errno, as connect(2) gives it, and
 * @client is as it was. (Only if another thread takes the last descriptor, or memory is out, in
 * between, @client stays connected, to nobody.)
 */
int alias_connect(struct worker *w, int client, int socktype, const char *name, size_t len);
/**
 * alias_datagrams() - a fresh socket of datagrams for one client
 * @at		where the client's is to be connected to; the caller removes the file
 * Return: it, non-blocking, the caller's; or a negative errno and there is no file. */
int alias_datagrams(struct worker *w, const char *name, size_t len, struct sockaddr_un *at);

/** alias_end_all() - let go of what is kept for the next; of a worker whose loop has ended */
void alias_end_all(struct worker *w);

#endif
