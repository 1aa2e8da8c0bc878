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

#include <sys/un.h>

#include "session.h"

struct dgram;

/** dgram_flags() - what OPEN says of a client's socket: WIRE_OPEN_PATH or WIRE_OPEN_ABSTRACT, or 0
 */
uint16_t dgram_flags(int client);

/* A client's socket and ours, while they are being connected to each other. */
struct dgram_pair {
	int fd;			 /* ours */
	int path;		 /* O_PATH of the name that the client says its socket has, or -1 */
	struct sockaddr_un at;	 /* where ours is found, */
	struct sockaddr_un name; /* and the client's */
	socklen_t name_len;
	bool answers; /* ours is connected to that name */
};

/**
 * dgram_pair_begin() - connect @client, a socket of datagrams, to a fresh one of ours
 * @path	O_PATH of the name that @client says it has, or -1; taken, also on failure
 * @name, @len	what the client asked for
 * Return: 0, and dgram_pair_end() is due; or a negative errno, as connect(2) gives it. */
int dgram_pair_begin(struct dgram_pair *p, struct worker *w, int client, int path, const char *name,
		     size_t len);
/** dgram_pair_back() - connect ours to the client's name, if it has one
 * @p->path	when it is not -1 this may wait for a file system: not on a worker (aside.h) */
void dgram_pair_back(struct dgram_pair *p);
/** dgram_pair_end() - was that the client's name? @s is going to have ours as its local end
 * Return: ours, the caller's, or a negative errno. */
int dgram_pair_end(struct dgram_pair *p, int client, struct session *s);
/** dgram_pair_drop() - instead, when nobody wants it any more */
void dgram_pair_drop(struct dgram_pair *p);

/**
 * dgram_server() - @s is going to have @fd as its local end, a socket that is connected to a server
 * @flags	those of the OPEN
 * Return: @fd, or a negative errno and it is closed. */
int dgram_server(struct session *s, int fd, uint16_t flags);
/** dgram_end() - before the local end is closed */
void dgram_end(struct session *s);

/** dgram_write() - a datagram for the local end, whichever, with the descriptors of s->arriving
 * Return: @len when it is done with (be it thrown away; the session may have ended), -EAGAIN, or
 * -ECONNREFUSED when nobody is there. */
ssize_t dgram_write(struct session *s, const void *data, size_t len);
/** dgrams_init() - of a worker that is being made */
void dgrams_init(struct worker *w);

#endif
