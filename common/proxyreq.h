/* SPDX-License-Identifier: Apache-2.0 */
/*
 * proxyreq.h - what local programs say to their udsproxyd (PROTOCOL.md, "Local requests")
 *
 * One SOCK_SEQPACKET connection a request, one packet each way (but for SEND). Asked on
 * RUNTIME_DIR/udsproxyd.sock by anybody (the client is who SO_PEERCRED says it is)
 * and on RUNTIME_DIR/control.sock by root. Pure: bytes in, struct out.
 */
#ifndef PROXYREQ_H
#define PROXYREQ_H

#include <stddef.h>
#include <stdint.h>
#include <sys/un.h>

#define PROXYREQ_MAGIC 0x55445351u /* "UDSQ" */
#define PROXYREQ_VERSION 2
#define PROXYREQ_RUNTIME_DIR "/run/udsproxyd"
#define PROXYREQ_SOCKET "udsproxyd.sock"
#define PROXYREQ_CONTROL "control.sock"
#define PROXYREQ_REASON_MAX 256
#define PROXYREQ_MAX 1024 /* a packet's size, either way */
#define PROXYREQ_ABSTRACT 1 /* in getpeername(2)'s path: the first byte of an abstract name */

enum proxyreq_op {
	/* Connect the AF_UNIX socket that comes with this packet to the peer's socket `name`.
	 * (Behind one of datagrams that is bound to a path comes an O_PATH descriptor of that.)
	 * Answer: error 0, and it is; or what connect(2) shall say, and it is as it was (ENETUNREACH: the
	 * name is on no list). */
	PROXYREQ_CONNECT = 1,
	/* Would the descriptor that comes with this request cross to the peer? Answer: error 0,
	 * or why not. */
	PROXYREQ_CROSSES = 2,
	/* Send the datagram that the next packet is, with the descriptors that come with it, to the
	 * peer's socket `name`. Answer: error 0, and it is in the server's queue; or what
	 * sendto(2) shall say; EAGAIN: there was no room in that for some seconds, or at all. */
	PROXYREQ_SEND = 3,
	/* control.sock only: read the lists again; error 0 when the new ones are in force. */
	PROXYREQ_RELOAD = 16,
};

enum proxyreq_flags {
	PROXYREQ_NOWAIT = 1, /* of SEND: not even for a moment */
};

struct proxyreq {
	uint16_t op;
	uint16_t flags;
	size_t name_len;
	char name[sizeof(((struct sockaddr_un *)0)->sun_path)]; /* abstract when it begins with NUL */
};

struct proxyreply {
	int error; /* errno, 0 for success */
	char reason[PROXYREQ_REASON_MAX]; /* for a person; "" when there is nothing to say */
};

/** proxyreq_encode() - @r as a packet in @data; Return: its size, 0 when it does not fit */
size_t proxyreq_encode(const struct proxyreq *r, void *data, size_t size);
/** proxyreq_decode() - Return: 0, -EPROTO when malformed, -EPROTONOSUPPORT for another version */
int proxyreq_decode(struct proxyreq *r, const void *data, size_t size);
/** proxyreply_encode(), proxyreply_decode() - the same for the answer; a long reason is cut */
size_t proxyreply_encode(const struct proxyreply *r, void *data, size_t size);
int proxyreply_decode(struct proxyreply *r, const void *data, size_t size);

#endif
