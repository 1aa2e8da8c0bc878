/* SPDX-License-Identifier: Apache-2.0 */
/* connector.h - connect to a local server as the peer's client, and no other way */
#ifndef CONNECTOR_H
#define CONNECTOR_H

#include <sys/socket.h>

#include "worker.h"

struct connector_result {
	int fd; /* connected, non-blocking, the caller's; or a negative errno: -EAGAIN: full backlog,
		   -EINPROGRESS: the name is not at hand */
	bool explicit_credentials; /* every message must carry `credentials` */
	struct ucred credentials;
	char reason[WIRE_REASON_MAX];
};

/**
 * connector_connect() - what an OPEN asks for: a name that udsaccept allows, or a twin
 *
 * The path is looked up and connected to with the client's uid, gid and groups (mapped), so
 * permissions and the server's SO_PEERCRED are the client's; no symbolic link is followed
 * below the rule's root. For datagrams `fd` has a name, if the OPEN says that the client's socket has.
 * @cached	on a worker: never wait for a file system (aside.h)
 */
void connector_connect(struct daemon *d, const struct frame_open *o, bool cached,
		       struct connector_result *r);

/** connector_connect_inode() - connect @fd to the socket that the O_PATH descriptor @path_fd stands for,
 * whatever its name is by now. May wait for its file system. Return: 0 or a negative errno. */
int connector_connect_inode(int fd, int path_fd);
/** connector_drop() - a result that nobody wants */
void connector_drop(const struct connector_result *r);
/** connector_remove_name() - before a socket of datagrams with a path is closed */
void connector_remove_name(int fd);

#endif
