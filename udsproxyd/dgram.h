/* SPDX-License-Identifier: Apache-2.0 */
/*
 * dgram.h - what sessions of datagrams have that others have not
 *
 * A datagram socket sees no end of file and no loss of its peer, and it may be answered at its
 * name. So both are looked for: who is still connected to our socket here, and whether the server
 * there still has its own. What ends a session then lets the other side's socket be closed: the
 * program's next datagram is refused, as it is locally after the server went.
 */
#ifndef DGRAM_H
#define DGRAM_H

#include "session.h"

struct dgram;

/** dgram_flags() - what OPEN says of a client's socket: WIRE_OPEN_PATH or WIRE_OPEN_ABSTRACT, or 0
 */
uint16_t dgram_flags(int client);
/**
 * dgram_client() - @s is going to have @fd as its local end
 * @client	the client's socket, which is connected to @fd
 * @path	O_PATH of the name that the client says its socket has, or -1
 * @who		the client
 * Return: 0 or a negative errno. */
int dgram_client(struct session *s, int fd, int client, int path, const struct ucred *who);
/**
 * dgram_server() - @s is going to have @fd as its local end, a socket that is connected to a server
 * @server	O_PATH of the server's name, taken, also on failure; -1 when it is abstract
 * @flags	those of the OPEN
 * Return: @fd, or a negative errno and it is closed. */
int dgram_server(struct session *s, int fd, int server, uint16_t flags);
/** dgram_end() - before the local end is closed */
void dgram_end(struct session *s);

/** dgram_write() - a datagram for the local end, with the descriptors of s->arriving
 * Return: @len when it is done with (be it thrown away; the session may have ended), -EAGAIN, or
 * -ECONNREFUSED when nobody is there. */
ssize_t dgram_write(struct session *s, const void *data, size_t len);
/** dgram_is_ours() - was this datagram, read from the local end, sent by dgram_client()? */
bool dgram_is_ours(struct session *s, const void *data, size_t len);
/** dgrams_init() - of a worker that is being made */
void dgrams_init(struct worker *w);

#endif
