/* SPDX-License-Identifier: Apache-2.0 */
/*
 * runtime.h - the runtime directory: lock, sockets, and the directories of those made for one use
 *
 *	DIR/lock             locked by the daemon that owns the directory; its pid is in it
 *	DIR/udsproxyd.sock   requests, for everybody
 *	DIR/control.sock     requests of root
 *	DIR/once/            sockets of one connection, which its server answers to (connector.c)
 *	DIR/names/           sockets that clients' are connected to (alias.c); nobody else may look there
 *	DIR/twins/           twins of the peer's listening sockets
 */
#ifndef RUNTIME_H
#define RUNTIME_H

#include <sys/un.h>

/** runtime_open() - make @dir what it has to be, and ours; exits when another daemon has it.
 * Return: the lock, held until it is closed. */
int runtime_open(const char *dir);
/** runtime_listen() - a listening SOCK_SEQPACKET at @dir/@name with @mode; exits on failure */
int runtime_listen(const char *dir, const char *name, unsigned mode);
/** runtime_fresh() - a name below @dir/@sub, "once" or "names", that nothing has */
void runtime_fresh(const char *dir, const char *sub, struct sockaddr_un *to);
/** runtime_close() - remove what is in it, and let the lock go */
void runtime_close(const char *dir, int lock);

#endif
