/* SPDX-License-Identifier: Apache-2.0 */
/*
 * proxyclient.c - one request to the local udsproxyd
 *
 * How it works: a private SOCK_SEQPACKET connection carries one request and its answer.
 * The caller's socket goes along with CONNECT, and udsproxyd connects it when the far connect
 * has succeeded, just before it answers. Behind SEND goes the datagram, as it is.
 *
 * It runs in strangers' signal handlers and in vforked children, so it calls nothing that
 * allocates, locks or formats. The kernel bounds the waits (SO_SNDTIMEO, SO_RCVTIMEO):
 * connect(2) to a full backlog waits too, which poll(2) cannot bound.
 */
#include "proxyclient.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#include "fdpass.h"
#include "proxyreq.h"
#include "util.h"

#define PATH_OFFSET offsetof(struct sockaddr_un, sun_path)

/* Where a sentence for a person goes. */
struct reason {
	char *text;
	size_t size;
};

const char *proxyclient_runtime_dir(void)
{
	const char *dir = secure_getenv("UDSPROXYD_RUNTIME_DIR");

	return dir && *dir ? dir : PROXYREQ_RUNTIME_DIR;
}

/* Inside libudsproxy.so connect() is the hook that called us. */
static int raw_connect(int fd, const struct sockaddr_un *to, socklen_t len)
{
	return syscall(SYS_connect, fd, to, len) ? -errno : 0;
}

/* Both strings, joined; what does not fit is cut. */
static void explain(const struct reason *reason, const char *what, const char *which)
{
	size_t n, more;

	if (!reason->text || !reason->size)
		return;
	n = strnlen(what, reason->size - 1);
	more = strnlen(which, reason->size - 1 - n);
	memcpy(reason->text, what, n);
	memcpy(reason->text + n, which, more);
	reason->text[n + more] = '\0';
}

static int64_t now_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

/* Until when a question may wait, and what its socket knows of that. */
struct patience {
	int64_t deadline;
	int64_t left; /* us, that the socket's calls wait at most; 0: nothing was set */
};

#define ROUGHLY_US 100000 /* that a call may wait too long: most questions are answered before that */

/* Lets the next call on @sock wait until the deadline and no longer; false when that has passed. */
static bool limit_wait(int sock, struct patience *p)
{
	int64_t left = p->deadline - now_us();
	struct timeval limit = { .tv_sec = left / 1000000, .tv_usec = left % 1000000 };

	/* Zero would mean for ever. */
	if (left <= 0)
		return false;
	if (p->left && p->left <= left + ROUGHLY_US)
		return true;
	setsockopt(sock, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
	setsockopt(sock, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	p->left = left;
	return true;
}

/* A private connection to udsproxyd, or a negative errno. */
static int dial(struct patience *patience, const struct reason *reason)
{
	_cleanup_close_ int sock = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	struct sockaddr_un to = { .sun_family = AF_UNIX };
	const struct reason path = { to.sun_path, sizeof(to.sun_path) };
	const char *dir = proxyclient_runtime_dir();
	int err = -EINTR;

	if (sock < 0) {
		err = -errno;
		explain(reason, "no socket to ask udsproxyd with: ", strerrordesc_np(-err));
		return err;
	}
	if (strlen(dir) + sizeof("/" PROXYREQ_SOCKET) > sizeof(to.sun_path)) {
		explain(reason, "UDSPROXYD_RUNTIME_DIR is too long for a socket in it: ", dir);
		return -ENOTCONN;
	}
	explain(&path, dir, "/" PROXYREQ_SOCKET);
	while (err == -EINTR && limit_wait(sock, patience))
		err = raw_connect(sock, &to, sizeof(to));
	switch (-err) {
	case 0:
		return take_fd(&sock);
	case EAGAIN: /* the backlog stayed full all that time */
	case EINTR:
		explain(reason, "udsproxyd does not answer at ", to.sun_path);
		return -ETIMEDOUT;
	case ENOENT:
	case ECONNREFUSED:
		explain(reason, "udsproxyd is not running: nobody listens on ", to.sun_path);
		return -ENOTCONN;
	default:
		explain(reason, "udsproxyd cannot be asked: ", strerrordesc_np(-err));
		return -ENOTCONN;
	}
}

/* What is asked: with these descriptors, and for SEND the datagram. */
struct question {
	struct proxyreq req;
	struct fdset set;
	const struct msghdr *datagram;
	ssize_t sent;	  /* of it */
	bool interrupted; /* by a signal, while the answer was waited for */
};

/* A user may have so many descriptors under way and no more (unix(7)): they arrive soon. */
static bool is_worth_waiting(ssize_t error, int64_t deadline)
{
	return error == -ETOOMANYREFS && now_us() < deadline && poll(NULL, 0, 1) <= 0;
}

static ssize_t send_request(int sock, int64_t deadline, const struct question *q, void *packet)
{
	size_t size = proxyreq_encode(&q->req, packet, PROXYREQ_MAX);
	ssize_t n;

	do
		n = fd_sendmsg(sock, packet, size, 0, &q->set, NULL);
	while (is_worth_waiting(n, deadline));
	return n;
}

/* As the program has it, but for the address. */
static ssize_t send_datagram(int sock, int64_t deadline, const struct msghdr *datagram)
{
	struct msghdr msg = *datagram;
	ssize_t n;

	msg.msg_name = NULL;
	msg.msg_namelen = 0;
	do {
		n = syscall(SYS_sendmsg, sock, &msg, MSG_NOSIGNAL);
		n = n < 0 ? -errno : n;
	} while ((n == -EINTR && now_us() < deadline) || is_worth_waiting(n, deadline));
	return n;
}

/* Return: bytes of the answer, which is in @packet (PROXYREQ_MAX bytes), or -errno. */
static ssize_t exchange(int sock, struct patience *patience, struct question *q, void *packet)
{
	ssize_t n = send_request(sock, patience->deadline, q, packet);

	if (n > 0 && q->datagram)
		n = q->sent = send_datagram(sock, patience->deadline, q->datagram);
	if (n < 0)
		return n;
	do {
		if (!limit_wait(sock, patience))
			return -ETIMEDOUT;
		n = recv(sock, packet, PROXYREQ_MAX, 0);
		q->interrupted |= n < 0 && errno == EINTR;
	} while (n < 0 && errno == EINTR);
	return n < 0 ? -errno : n;
}

/* Return: 0 when the answer is yes, or a negative errno. */
static int ask(struct question *q, const struct reason *reason)
{
	struct patience patience = { .deadline = now_us() + (int64_t)PROXYCLIENT_TIMEOUT_MS * 1000 };
	uint8_t packet[PROXYREQ_MAX];
	_cleanup_close_ int sock = -1;
	struct proxyreply reply;
	ssize_t n;

	explain(reason, "", "");
	sock = dial(&patience, reason);
	if (sock < 0)
		return sock;
	n = exchange(sock, &patience, q, packet);
	if (n == -EAGAIN || n == -ETIMEDOUT) {
		explain(reason, "udsproxyd does not answer", "");
		return -ETIMEDOUT;
	}
	if (n == 0 || n == -EPIPE || n == -ECONNRESET) {
		explain(reason, "udsproxyd ended while it was asked", "");
		return -ENOTCONN;
	}
	if (n < 0)
		return (int)n;
	if (proxyreply_decode(&reply, packet, (size_t)n)) {
		explain(reason, "udsproxyd is of another version", "");
		return -EPROTO;
	}
	explain(reason, reply.reason, "");
	return -reply.error;
}

/* What connect(2) would look up, as the request has it: no trailing NUL of a path. */
static int put_target(struct proxyreq *req, const struct sockaddr_un *to, socklen_t len)
{
	if (len <= PATH_OFFSET || len > sizeof(*to))
		return -EINVAL;
	req->name_len = len - PATH_OFFSET;
	if (to->sun_path[0])
		req->name_len = strnlen(to->sun_path, req->name_len);
	memcpy(req->name, to->sun_path, req->name_len);
	return 0;
}

/* What stands for the path that @fd is bound to, if it is a socket of datagrams and has one; else
 * -1. */
static int open_own_path(int fd)
{
	struct sockaddr_un name;
	char path[sizeof(name.sun_path) + 1] = "";
	socklen_t len = sizeof(name), size = sizeof(int);
	int type;

	if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &size) || type != SOCK_DGRAM ||
	    getsockname(fd, (struct sockaddr *)&name, &len) || len <= PATH_OFFSET ||
	    !name.sun_path[0])
		return -1;
	memcpy(path, name.sun_path, MIN(len - PATH_OFFSET, sizeof(name.sun_path)));
	return (int)syscall(SYS_openat, AT_FDCWD, path, O_PATH | O_NOFOLLOW | O_CLOEXEC);
}

static int connect_by_proxy(int fd, const struct sockaddr_un *to, socklen_t len,
			    const struct reason *reason)
{
	_cleanup_close_ int path = open_own_path(fd);
	struct question q = {
		.req = { .op = PROXYREQ_CONNECT },
		.set = { .n = path < 0 ? 1 : 2, .fd = { fd, path } },
	};
	int err = put_target(&q.req, to, len);

	return err ? err : ask(&q, reason);
}

int proxyclient_connect(int fd, const struct sockaddr_un *to, socklen_t len, char *reason,
			size_t size)
{
	int saved = errno;
	int err = connect_by_proxy(fd, to, len, &(struct reason){ reason, size });

	errno = saved;
	return err;
}

ssize_t proxyclient_send(const struct msghdr *msg, bool wait, char *reason, size_t size)
{
	struct question q = {
		.req = { .op = PROXYREQ_SEND, .flags = wait ? 0 : PROXYREQ_NOWAIT },
		.datagram = msg,
	};
	struct sockaddr_un aligned;
	int saved = errno;
	int err = -EINVAL;

	if (msg->msg_namelen <= sizeof(aligned)) {
		memcpy(&aligned, msg->msg_name, msg->msg_namelen);
		err = put_target(&q.req, &aligned, msg->msg_namelen);
	}
	if (!err)
		err = ask(&q, &(struct reason){ reason, size });
	errno = saved;
	if (err == -EAGAIN && q.interrupted)
		return -EINTR;
	return err ? err : q.sent;
}

int proxyclient_crosses(int fd, char *reason, size_t size)
{
	struct question q = {
		.req = { .op = PROXYREQ_CROSSES },
		.set = { .n = 1, .fd = { fd } },
	};
	int saved = errno;
	int err = ask(&q, &(struct reason){ reason, size });

	errno = saved;
	return err;
}
