/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sessiondir.h - RUNTIME/sessions/ID: a program's private directory and what lies in it
 *
 * It belongs to the program's user (0700), who may do there what he likes while it runs; its
 * parent to the server. So it is only ever entered by descriptor, and no link in it is followed.
 * What others are to find, root among them, is beside it: ID.keeper, the keeper's socket.
 */
#ifndef SESSIONDIR_H
#define SESSIONDIR_H

#include <stddef.h>
#include <sys/types.h>

#include "request.h"

/* Initialise with SESSIONDIR_NONE. */
struct sessiondir {
	int parent; /* borrowed: RUNTIME/sessions */
	int fd;	    /* -1: not made */
	uid_t uid;
	gid_t gid;
	char id[REQUEST_ID_SIZE];
	char path[108]; /* absolute, short enough for sockets in it */
};

#define SESSIONDIR_NONE                                                                            \
	{                                                                                          \
		.fd = -1                                                                           \
	}

/**
 * sessiondir_make() - make the directory for session @id (REQUEST_ID_SIZE bytes), to be owned by @uid and
 * @gid
 * @parent	RUNTIME/sessions, borrowed for as long as @d is used; @runtime its parent's path
 * Return: 0 or -errno (-EEXIST: there is such a session)
 */
int sessiondir_make(struct sessiondir *d, int parent, const char *runtime, const char *id,
		    uid_t uid, gid_t gid);
/** sessiondir_give() - the directory is the user's from now on: make nothing in it by name after
 * this, for what stands there may be the user's link; 0 or -errno */
int sessiondir_give(const struct sessiondir *d);
/** sessiondir_write() - a file of mode 0600 in it; 0 or -errno */
int sessiondir_write(const struct sessiondir *d, const struct request_file *file);
/** sessiondir_listen() - a listening socket @name in it, connectable by its owner; the descriptor
 * (CLOEXEC, blocking) or -errno */
int sessiondir_listen(const struct sessiondir *d, const char *name, int socktype);
/** sessiondir_listen_beside() - the same of ID.keeper, SOCK_STREAM, connectable by @client, who cannot put anything in its
 * place */
int sessiondir_listen_beside(const struct sessiondir *d, uid_t client);
/** sessiondir_connect() - connect @sock, SOCK_STREAM, to the keeper of @id, whose directory is in @parent. Return: 0 or -errno;
 * -ECONNREFUSED, -ENOENT: none listens */
int sessiondir_connect(int sock, int parent, const char *id);
/** sessiondir_remove() - remove it and everything in it; no-op when it was not made */
void sessiondir_remove(struct sessiondir *d);
/** sessiondir_sweep() - remove directories in @parent whose keeper does not listen any more */
void sessiondir_sweep(int parent);

#endif
