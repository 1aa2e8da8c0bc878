/* SPDX-License-Identifier: Apache-2.0 */
#include "fdpass.h"

#include <errno.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/time.h>

#include "util.h"

/* Aligned as CMSG_FIRSTHDR() needs it, large enough for all that may arrive. */
union control {
	struct cmsghdr align;
	char space[CMSG_SPACE(sizeof(int) * FDSET_MAX) + CMSG_SPACE(sizeof(struct ucred))];
};

void fdset_close(struct fdset *set)
{
	for (int i = 0; i < set->n; i++)
		close_keep_errno(set->fd[i]);
	set->n = 0;
}

int fdset_take(struct fdset *set, int i)
{
	return take_fd(&set->fd[i]);
}

/* Everything is collected before anything is judged, so that nothing is left open. */
static void collect(struct msghdr *msg, struct fdset *set)
{
	for (struct cmsghdr *c = CMSG_FIRSTHDR(msg); c; c = CMSG_NXTHDR(msg, c)) {
		size_t n;

		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		for (size_t i = 0; i < n; i++) {
			int fd;

			memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(fd));
			if (set->n < FDSET_MAX)
				set->fd[set->n++] = fd;
			else
				close_keep_errno(fd);
		}
	}
}

int fd_peer(int sock, struct ucred *who)
{
	socklen_t size = sizeof(*who);

	return getsockopt(sock, SOL_SOCKET, SO_PEERCRED, who, &size) ? -errno : 0;
}

static ssize_t receive(int sock, struct iovec *iov, size_t n_iov, int flags, struct fdset *set)
{
	union control control;
	struct msghdr msg;
	ssize_t n;

	set->n = 0;
	do {
		msg = (struct msghdr){
			.msg_iov = iov,
			.msg_iovlen = n_iov,
			.msg_control = control.space,
			.msg_controllen = sizeof(control.space),
		};
		n = recvmsg(sock, &msg, flags | MSG_CMSG_CLOEXEC);
	} while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;
	collect(&msg, set);
	if (msg.msg_flags & MSG_CTRUNC) {
		/* The kernel dropped descriptors (also when we ran out of them): the
		 * message cannot be passed on as it was meant. */
		fdset_close(set);
		return -EPROTO;
	}
	return n;
}

ssize_t fd_recvmsg(int sock, void *data, size_t len, int flags, struct fdset *set)
{
	struct iovec iov = { .iov_base = data, .iov_len = len };

	return receive(sock, &iov, 1, flags, set);
}

/*
 * How fd_recv_tied() finds the byte: a peek without room for descriptors says MSG_CTRUNC when a
 * message with some is anywhere in the queue, for it looks at the whole queue up to there,
 * whatever it was asked to copy; and it loses none. Without MSG_CTRUNC, what was there can be read at
 * once, and no more than that. With it, the peek ends where that message ends. Where it begins no
 * call tells; but a read for which the last of these bytes cannot be written ends before the message
 * that it belongs to, all of which stays in the queue, and what it has read has none.
 */
#define PEEK_MAX 8192 /* copied for nothing: where more is wanted it is asked for without copying */

static ssize_t peek(int sock, void *data, size_t len, bool *with)
{
	struct iovec iov = { .iov_base = data, .iov_len = len };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };
	ssize_t n;

	do
		n = recvmsg(sock, &msg, MSG_PEEK | MSG_DONTWAIT);
	while (n < 0 && errno == EINTR);
	*with = n > 0 && msg.msg_flags & MSG_CTRUNC;
	return n < 0 ? -errno : n;
}

/* Bytes that can be read if there is no message with descriptors; @with: there is one. */
static ssize_t plain_queued(int sock, bool *with)
{
	uint8_t byte;
	int queued;
	ssize_t n;

	/* How many first, then whether: what comes in between is not counted. */
	if (ioctl(sock, FIONREAD, &queued))
		return -errno;
	n = peek(sock, &byte, 1, with);
	return n > 0 ? MAX(queued, 1) : n;
}

/* The same, at most @len, and perhaps copied to @data. */
static ssize_t plain_bytes(int sock, void *data, size_t len, bool *with)
{
	ssize_t n;

	if (len <= PEEK_MAX)
		return peek(sock, data, len, with);
	n = plain_queued(sock, with);
	return MIN(n, (ssize_t)len);
}

/* The messages before the one that the last of @len bytes belongs to; -EFAULT: it is the first. */
static ssize_t recv_before_last(int sock, void *data, size_t len, struct fdset *set)
{
	static const uint8_t unwritable = 0;
	struct iovec iov[2] = {
		{ .iov_base = data, .iov_len = len - 1 },
		{ .iov_base = (void *)(uintptr_t)&unwritable, .iov_len = 1 },
	};

	return receive(sock, iov, ARRAY_LEN(iov), MSG_DONTWAIT, set);
}

ssize_t fd_recv_tied(int sock, void *data, size_t len, struct fdset *set, bool *drained)
{
	bool with;
	ssize_t n = plain_bytes(sock, data, len, &with), before;

	set->n = 0;
	*drained = n > 0 && (size_t)n < len && !with;
	if (n <= 0)
		return n;
	if (!with)
		return fd_recvmsg(sock, data, (size_t)n, MSG_DONTWAIT, set);
	if (len > PEEK_MAX)
		n = peek(sock, data, len, &with);
	if (n <= 0)
		return n;
	before = n > 1 ? recv_before_last(sock, data, (size_t)n, set) : -EFAULT;
	return before == -EFAULT ? fd_recvmsg(sock, data, (size_t)n, MSG_DONTWAIT, set) : before;
}

ssize_t fd_plain_queued(int sock)
{
	bool with = false;
	ssize_t n = plain_queued(sock, &with);

	return with ? 0 : n;
}

bool fd_peek_plain(int sock, void *byte)
{
	bool with;

	return peek(sock, byte, 1, &with) == 1 && !with;
}

bool fd_reads_behind(int sock)
{
	uint8_t byte;
	int queued = 0;
	ssize_t n = -1;

	if (!ioctl(sock, FIONREAD, &queued) && queued > 1)
		return true;
	if (!setsockopt(sock, SOL_SOCKET, SO_PEEK_OFF, &(int){ 1 }, sizeof(int)))
		n = recv(sock, &byte, 1, MSG_PEEK | MSG_DONTWAIT);
	setsockopt(sock, SOL_SOCKET, SO_PEEK_OFF, &(int){ -1 }, sizeof(int));
	return n >= 0;
}

bool fd_has_packet(int sock)
{
	union {
		struct cmsghdr align;
		char space[CMSG_SPACE(sizeof(struct timeval))]; /* and none for descriptors */
	} control;
	struct msghdr msg = { .msg_control = control.space, .msg_controllen = sizeof(control.space) };
	int stamped = 0;
	socklen_t len = sizeof(stamped);
	ssize_t n;

	if (getsockopt(sock, SOL_SOCKET, SO_TIMESTAMP, &stamped, &len) ||
	    setsockopt(sock, SOL_SOCKET, SO_TIMESTAMP, &(int){ 1 }, sizeof(int)))
		return false;
	n = recvmsg(sock, &msg, MSG_PEEK | MSG_DONTWAIT);
	setsockopt(sock, SOL_SOCKET, SO_TIMESTAMP, &stamped, sizeof(stamped));
	return n >= 0 && (msg.msg_controllen || msg.msg_flags & MSG_CTRUNC);
}

static void append(struct msghdr *msg, int type, const void *data, size_t len)
{
	struct cmsghdr *c = (struct cmsghdr *)((char *)msg->msg_control + msg->msg_controllen);

	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = type;
	c->cmsg_len = CMSG_LEN(len);
	memcpy(CMSG_DATA(c), data, len);
	msg->msg_controllen += CMSG_SPACE(len);
}

/* What most messages are. sendmsg(2) would fetch two structs for it first. */
static ssize_t send_bytes(int sock, const void *data, size_t len, int flags)
{
	ssize_t n;

	do
		n = send(sock, data, len, flags | MSG_NOSIGNAL);
	while (n < 0 && errno == EINTR);
	return n < 0 ? -errno : n;
}

ssize_t fd_sendmsg(int sock, const void *data, size_t len, int flags, const struct fdset *set,
		   const struct ucred *as)
{
	union control control;
	struct iovec iov = { .iov_base = (void *)(uintptr_t)data, .iov_len = len };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control.space };
	ssize_t n;

	if (!(set && set->n) && !as)
		return send_bytes(sock, data, len, flags);
	memset(&control, 0, sizeof(control));
	if (set && set->n)
		append(&msg, SCM_RIGHTS, set->fd, sizeof(int) * (size_t)set->n);
	if (as)
		append(&msg, SCM_CREDENTIALS, as, sizeof(*as));
	do
		n = sendmsg(sock, &msg, flags | MSG_NOSIGNAL);
	while (n < 0 && errno == EINTR);
	return n < 0 ? -errno : n;
}
