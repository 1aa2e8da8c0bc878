/* SPDX-License-Identifier: Apache-2.0 */
/*
 * proxyclient.h - ask the local udsproxyd to connect a socket to the peer's side, or to send there
 *
 * Used by libudsproxy.so inside strangers' programs and by rexec: libc only,
 * async-signal-safe, no allocation, no state, errno untouched, and every wait is
 * bounded. The daemon's runtime directory is PROXYREQ_RUNTIME_DIR, or the
 * environment's UDSPROXYD_RUNTIME_DIR unless the program is set-user-id
 * (secure_getenv(3)).
 */
#ifndef PROXYCLIENT_H
#define PROXYCLIENT_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/socket.h>
#include <sys/un.h>

/* The longest that a stuck udsproxyd can hold a program up; its own answer to a peer
 * that is not there comes within a second. */
#define PROXYCLIENT_TIMEOUT_MS 10000

/** proxyclient_runtime_dir() - where udsproxyd is asked, as above (borrowed) */
const char *proxyclient_runtime_dir(void);

/**
 * proxyclient_connect() - connect @fd to the socket that @to names on the peer
 * @fd		an unconnected AF_UNIX socket of any type, blocking or not; stays the caller's.
 *		udsproxyd has it meanwhile; nothing is read from it, written to it or changed
 *		on it. After a failure it is as it was and can be connected again. (One of
 *		datagrams, which always can be, may be connected to nobody after -ETIMEDOUT.)
 * @to, @len	as for connect(2)
 * @reason	where a sentence for a person goes on failure ("" when none), @size bytes; may be NULL
 *
 * Return: 0 connected, or a negative errno: -ENOTCONN when no udsproxyd runs here;
 * -ECONNREFUSED when the peer is not reachable; -ENOENT, -ECONNREFUSED, -EACCES, ... the peer's
 * own answer as a local connect(2) would give it; -ENETUNREACH when the path is on no list;
 * -ETIMEDOUT when udsproxyd does not answer in time.
 */
int proxyclient_connect(int fd, const struct sockaddr_un *to, socklen_t len, char *reason,
			size_t size);

/**
 * proxyclient_send() - send one datagram to the socket on the peer that msg_name names
 * @msg		as for sendmsg(2), with an AF_UNIX name; descriptors go along
 * @wait	for the server to make room for it, for some seconds; else not at all
 * @reason	as above
 *
 * Return: the bytes of it, when it is in the server's queue; or a negative errno: as above, and
 * -EAGAIN when there was no room, -EINTR when there was none and a signal handler ran while that
 * was waited for (whether or not it has SA_RESTART); -EMSGSIZE when it is too large, -EOPNOTSUPP when one
 * of its descriptors does not cross.
 */
ssize_t proxyclient_send(const struct msghdr *msg, bool wait, char *reason, size_t size);

/**
 * proxyclient_crosses() - would a descriptor passed to the peer be remade there?
 * @fd		any descriptor; only looked at
 * Return: 0 when it would; -EXDEV when only a copy of the file would, as it is now; another negative
 * errno when it would be refused or nobody could be asked; @reason as above.
 */
int proxyclient_crosses(int fd, char *reason, size_t size);

#endif
