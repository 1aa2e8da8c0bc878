/* SPDX-License-Identifier: Apache-2.0 */
/*
 * route.h - which failed connects and sends are taken to udsproxyd, and what its answer means
 *
 * Pure: looks at what it is given, does nothing, keeps nothing.
 */
#ifndef ROUTE_H
#define ROUTE_H

#include <stdbool.h>
#include <sys/socket.h>

enum route {
	ROUTE_LIBC,  /* the local result stands */
	ROUTE_PROXY, /* ask udsproxyd whether the peer has such a socket */
};

/** route_is_nobody() - did a local connect or send fail because nobody is there? With any other
 * errno the program's address need not even be readable. */
bool route_is_nobody(int error);

/**
 * route_to() - what to do after that
 * @to, @len	what the program passed to connect(2) or sendto(2); never read beyond @len
 * @runtime	udsproxyd's directory: its own sockets are never looked for on the peer
 */
enum route route_to(const struct sockaddr *to, socklen_t len, const char *runtime);

/**
 * route_is_own() - does @name, of @len bytes, name a socket below @runtime?
 * True for the peer name (getpeername(2)) of a descriptor that the proxy connected to a server
 * whose name cannot be told.
 */
bool route_is_own(const struct sockaddr *name, socklen_t len, const char *runtime);

/** route_is_same() - are these two names of the same UNIX socket, byte by byte? */
bool route_is_same(const struct sockaddr *a, socklen_t a_len, const struct sockaddr *b,
		   socklen_t b_len);

/**
 * route_peer() - what getpeername(2) has given, as the program shall see it
 * @name	where udsproxyd has told an abstract name as a path (PROXYREQ_ABSTRACT), that is
 * undone
 * @size	bytes that there are at @name
 * @len		the name's length as the kernel says it, which may be more
 * Return: the name's length.
 */
socklen_t route_peer(struct sockaddr *name, socklen_t size, socklen_t len);

/**
 * route_errno() - the errno that the program sees after udsproxyd failed
 * @local	the local call's
 * @answer	proxyclient_connect()'s or proxyclient_send()'s, as a positive number
 *
 * The peer's own answer is passed on. When there is none (the path is on no list, no udsproxyd)
 * the program sees what it would see without the proxy: @local.
 */
int route_errno(int local, int answer);

#endif
