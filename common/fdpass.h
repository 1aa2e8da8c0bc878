/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fdpass.h - bytes with descriptors over a UNIX socket (unix(7), SCM_RIGHTS)
 *
 * The one place that builds and reads control messages. What is received is born
 * CLOEXEC; a truncated control message (MSG_CTRUNC: descriptors were lost) is an
 * error and what did arrive is closed.
 */
#ifndef FDPASS_H
#define FDPASS_H

#include <stdbool.h>
#include <sys/socket.h>
#include <sys/types.h>

/* The kernel's SCM_MAX_FD: a message may carry so many descriptors (unix(7)). */
#define FDSET_MAX 253

/* A set of descriptors, in order. It owns them; fdset_close() closes what nobody took. */
struct fdset {
	int n;
	int fd[FDSET_MAX];
};

/** fdset_close() - close every descriptor in @set (those taken are -1) and empty it */
void fdset_close(struct fdset *set);
/** fdset_take() - descriptor number @i of @set; the caller owns it, the set holds -1 there */
int fdset_take(struct fdset *set, int i);

/** fd_peer() - who has connected, or listens, at the other end of a UNIX socket (unix(7): SO_PEERCRED); 0 or -errno */
int fd_peer(int sock, struct ucred *who);

/**
 * fd_recvmsg() - recvmsg(2) of up to @len bytes with the descriptors that came with them
 * @flags	MSG_DONTWAIT and the like; MSG_CMSG_CLOEXEC is added
 * @set		initialised by this call; owns what arrived, also when there were no bytes
 *
 * Return: number of bytes (0: end of file, or an empty packet), or a negative errno;
 * -EPROTO when descriptors were truncated. EINTR is retried. @set is empty on error.
 */
ssize_t fd_recvmsg(int sock, void *data, size_t len, int flags, struct fdset *set);

/**
 * fd_recv_tied() - the same for a stream, without waiting, with the descriptors tied to their byte: either bytes that came
 * without any, or of one message that has some, its first byte first
 * @drained	nothing was left behind it; false: that is not known
 *
 * One recvmsg(2) glues bytes that were sent without descriptors to a later message that has some,
 * and then nobody can tell which of them the descriptors belong to.
 * Return: as fd_recvmsg().
 */
ssize_t fd_recv_tied(int sock, void *data, size_t len, struct fdset *set, bool *drained);

/** fd_plain_queued() - how many bytes of a stream can be read with no descriptors among them, however they are
 * read. Return: bytes; 0: at the end of file, or a message with descriptors is queued; or a negative errno (-EAGAIN:
 * nothing is). */
ssize_t fd_plain_queued(int sock);

/** fd_peek_plain() - copy the next byte of a stream, which stays there; false when there is none now, or
 * descriptors come with it */
bool fd_peek_plain(int sock, void *byte);

/** fd_reads_behind() - is there anything, be it an empty packet or the end, behind the first byte of a stream, or behind the first packet
 * of one byte? */
bool fd_reads_behind(int sock);

/** fd_has_packet() - is there another packet, be it without bytes and descriptors? recv(2) gives 0 for that and for the end; but only
 * a packet has a time (socket(7), SO_TIMESTAMP) */
bool fd_has_packet(int sock);

/**
 * fd_sendmsg() - sendmsg(2) of @len bytes with the descriptors of @set attached to the first
 * @set		may be NULL or empty; stays the caller's, sent or not
 * @as		SCM_CREDENTIALS to attach, or NULL for the kernel's own choice
 *
 * Return: bytes sent, or a negative errno (-EAGAIN with MSG_DONTWAIT). When it is > 0 the
 * descriptors went with them. MSG_NOSIGNAL is added. EINTR is retried.
 */
ssize_t fd_sendmsg(int sock, const void *data, size_t len, int flags, const struct fdset *set,
		   const struct ucred *as);

#endif
