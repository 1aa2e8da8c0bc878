/* SPDX-License-Identifier: Apache-2.0 */
/*
 * shim.c - connect(2) and sendto(2) that also reach the sockets of the peer (libudsproxy(7))
 *
 * How it works, in this order:
 *
 * 1. The call that the program asked for is made, by the libc's function or that of the next
 *    preloaded library. Whatever it gives, other than ENOENT or ECONNREFUSED for a UNIX
 *    socket's name, is the result: a local listener wins, and other families never wait.
 * 2. udsproxyd is asked on a private connection (proxyclient.c). The program's descriptor is
 *    connected last, when the far side has said yes; a refusal leaves it as it was. A datagram
 *    with an address of its own is sent when it is in the far server's queue.
 *
 * It runs inside strangers: in signal handlers, between vfork and exec, in threads that are
 * cancelled. So there is no lock, no allocation and no table of descriptors; the only state
 * is what the constructor found and whether a hint has been printed.
 */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "proxyclient.h"
#include "proxyreq.h"
#include "route.h"
#include "util.h"

#define EXPORT __attribute__((visibility("default")))

/* ---- what is hooked ------------------------------------------------------------------- */

typedef int connect_fn(int fd, const struct sockaddr *to, socklen_t len);
typedef int getpeername_fn(int fd, struct sockaddr *name, socklen_t *len);
typedef ssize_t sendto_fn(int fd, const void *data, size_t size, int flags,
			  const struct sockaddr *to, socklen_t len);
typedef ssize_t sendmsg_fn(int fd, const struct msghdr *msg, int flags);
typedef int sendmmsg_fn(int fd, struct mmsghdr *msgs, unsigned n, int flags);

EXPORT connect_fn connect;
EXPORT getpeername_fn getpeername;
EXPORT sendto_fn sendto;
EXPORT sendmsg_fn sendmsg;
EXPORT sendmmsg_fn sendmmsg;

/*
 * The libc's functions rather than the bare system calls, because they are cancellation points:
 * a thread that waits for a TCP peer must stay cancellable. Another library's constructor may
 * come before ours; it gets the bare ones.
 */
static struct {
	connect_fn *connect;
	getpeername_fn *getpeername;
	sendto_fn *sendto;
	sendmsg_fn *sendmsg;
	sendmmsg_fn *sendmmsg;
} next;

/* dlsym() takes locks: not when a signal handler first connects, but before there is one. */
__attribute__((constructor)) static void find_next(void)
{
	next.connect = (connect_fn *)dlsym(RTLD_NEXT, "connect");
	next.getpeername = (getpeername_fn *)dlsym(RTLD_NEXT, "getpeername");
	next.sendto = (sendto_fn *)dlsym(RTLD_NEXT, "sendto");
	next.sendmsg = (sendmsg_fn *)dlsym(RTLD_NEXT, "sendmsg");
	next.sendmmsg = (sendmmsg_fn *)dlsym(RTLD_NEXT, "sendmmsg");
}

static int local_connect(int fd, const struct sockaddr *to, socklen_t len)
{
	if (next.connect)
		return next.connect(fd, to, len);
	return (int)syscall(SYS_connect, fd, to, len);
}

static int local_getpeername(int fd, struct sockaddr *name, socklen_t *len)
{
	if (next.getpeername)
		return next.getpeername(fd, name, len);
	return (int)syscall(SYS_getpeername, fd, name, len);
}

static ssize_t local_sendto(int fd, const void *data, size_t size, int flags,
			    const struct sockaddr *to, socklen_t len)
{
	if (next.sendto)
		return next.sendto(fd, data, size, flags, to, len);
	return syscall(SYS_sendto, fd, data, size, flags, to, len);
}

static ssize_t local_sendmsg(int fd, const struct msghdr *msg, int flags)
{
	if (next.sendmsg)
		return next.sendmsg(fd, msg, flags);
	return syscall(SYS_sendmsg, fd, msg, flags);
}

static int local_sendmmsg(int fd, struct mmsghdr *msgs, unsigned n, int flags)
{
	if (next.sendmmsg)
		return next.sendmmsg(fd, msgs, n, flags);
	return (int)syscall(SYS_sendmmsg, fd, msgs, n, flags);
}

/* ---- what they have in common ---------------------------------------------------------- */

/* A line on stderr, once for each @told; never one that could block or raise SIGPIPE. */
static void tell(atomic_flag *told, const char *text)
{
	static const char name[] = "libudsproxy: ", hush[] = " (UDSPROXY_QUIET=1 silences this)\n";
	struct pollfd err = { .fd = STDERR_FILENO, .events = POLLOUT };
	struct iovec line[] = {
		{ (void *)(uintptr_t)name, sizeof(name) - 1 },
		{ (void *)(uintptr_t)text, strlen(text) },
		{ (void *)(uintptr_t)hush, sizeof(hush) - 1 },
	};

	if (getenv("UDSPROXY_QUIET") || atomic_flag_test_and_set(told))
		return;
	if (poll(&err, 1, 0) == 1 && err.revents == POLLOUT)
		(void)!writev(STDERR_FILENO, line, 3);
}

/* Which of the two is missing; a refusal by the far program itself is for the program to tell. */
static void tell_missing(int answer, const char *reason)
{
	static atomic_flag told_daemon = ATOMIC_FLAG_INIT, told_peer = ATOMIC_FLAG_INIT;

	if (!*reason)
		return;
	if (answer == ENOTCONN || answer == ETIMEDOUT || answer == EPROTO)
		tell(&told_daemon, reason);
	else if (answer == ECONNREFUSED)
		tell(&told_peer, reason);
}

static bool is_for_proxy(const struct sockaddr *to, socklen_t len)
{
	return route_to(to, len, proxyclient_runtime_dir()) == ROUTE_PROXY;
}

static int type_of(int fd)
{
	int type;
	socklen_t size = sizeof(type);

	return getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &size) ? -1 : type;
}

/* ---- connect(2) ------------------------------------------------------------------------ */

/* A program may connect once more to learn whether the first succeeded: EISCONN says yes. */
static bool is_connected_to(int fd, const struct sockaddr *to, socklen_t len)
{
	struct sockaddr_un name;
	struct sockaddr *peer = (struct sockaddr *)&name;
	socklen_t n = sizeof(name);

	if (local_getpeername(fd, peer, &n) || type_of(fd) == SOCK_DGRAM)
		return false;
	n = route_peer(peer, MIN(n, sizeof(name)), n);
	n = MIN(n, sizeof(name)); /* of a path that fills it there is a NUL more */
	return route_is_same(peer, n, to, len) || route_is_own(peer, n, proxyclient_runtime_dir());
}

/* Return: 0, or the errno that the program is to see. */
static int proxy_connect(int fd, const struct sockaddr *to, socklen_t len, int local)
{
	char reason[PROXYREQ_REASON_MAX];
	struct sockaddr_un aligned;
	int answer;

	if (is_connected_to(fd, to, len))
		return EISCONN;
	memcpy(&aligned, to, len);
	answer = -proxyclient_connect(fd, &aligned, len, reason, sizeof(reason));
	if (!answer)
		return 0;
	tell_missing(answer, reason);
	return route_errno(local, answer);
}

int connect(int fd, const struct sockaddr *to, socklen_t len)
{
	int saved = errno, state, err;

	if (local_connect(fd, to, len) == 0)
		return 0;
	err = errno;
	if (route_is_nobody(err) && is_for_proxy(to, len)) {
		/* A thread cancelled while it asks would leave the private descriptor open. */
		pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &state);
		err = proxy_connect(fd, to, len, err);
		pthread_setcancelstate(state, NULL);
	}
	errno = err ? err : saved;
	return err ? -1 : 0;
}

/* May this be read? The kernel does (the eight bytes that it is within), and then finds that it was
 * asked for nothing that it knows: EINVAL. */
static bool is_readable(const void *at)
{
	const void *mask = (const void *)((uintptr_t)at & ~(uintptr_t)7);
	int saved = errno;
	bool readable = syscall(SYS_rt_sigprocmask, -1, mask, NULL, 8) && errno == EINVAL;

	errno = saved;
	return readable;
}

/* The kernel overwrites *len, which has to be known afterwards; but it may not be readable, or not
 * be looked at at all because of another error. */
int getpeername(int fd, struct sockaddr *name, socklen_t *len)
{
	socklen_t size = is_readable(len) ? *len : 0;
	int err = local_getpeername(fd, name, len);

	if (!err)
		*len = route_peer(name, MIN(size, *len), *len);
	return err;
}

/* ---- datagrams with an address ----------------------------------------------------------- */

#define AGAIN_MS 20 /* between attempts that do not wait, of a program that does */

/* How long a send may wait (SO_SNDTIMEO): -1, for ever; 0, not at all. */
static int64_t patience_us(int fd, int flags)
{
	struct timeval limit = { 0 };
	socklen_t size = sizeof(limit);

	if (flags & MSG_DONTWAIT || fcntl(fd, F_GETFL) & O_NONBLOCK)
		return 0;
	if (getsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, &size) ||
	    (!limit.tv_sec && !limit.tv_usec))
		return -1;
	return (int64_t)limit.tv_sec * 1000000 + limit.tv_usec;
}

static int64_t now_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

/* Return: bytes sent, or the negative errno that the program is to see. */
static ssize_t ask_to_send(const struct msghdr *msg, bool wait, int local)
{
	char reason[PROXYREQ_REASON_MAX];
	ssize_t n;
	int state;

	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &state);
	n = proxyclient_send(msg, wait, reason, sizeof(reason));
	if (n < 0) {
		tell_missing((int)-n, reason);
		n = -route_errno(local, (int)-n);
	}
	pthread_setcancelstate(state, NULL);
	return n;
}

/* Would a send that waits, and that any of the program's signals interrupts, say so? Which of them
 * it was is not known; a program that has a handler without SA_RESTART is prepared for it. */
static bool is_interruptible(void)
{
	struct sigaction action;

	for (int signo = 1; signo < NSIG; signo++)
		if (!sigaction(signo, NULL, &action) && action.sa_handler != SIG_DFL &&
		    action.sa_handler != SIG_IGN && !(action.sa_flags & SA_RESTART))
			return true;
	return false;
}

/* As long as the server has no room and the program has patience. The peer waits for some seconds
 * itself, but knows of no other limits. Between the attempts signals interrupt it, as they do a
 * local send: with SO_SNDTIMEO all do (signal(7)). */
static ssize_t send_patiently(int fd, const struct msghdr *msg, int flags, int local)
{
	int64_t patience = patience_us(fd, flags), since = now_us();
	ssize_t n;

	for (;;) {
		n = ask_to_send(msg, patience < 0, local);
		if (n != -EAGAIN && n != -EINTR)
			return n;
		if (patience >= 0 && now_us() - since >= patience)
			return -EAGAIN;
		pthread_testcancel();
		if (poll(NULL, 0, AGAIN_MS))
			n = -EINTR;
		if (n == -EINTR && (patience > 0 || is_interruptible()))
			return n;
	}
}

/* After the local send has failed with errno, before which it was @saved. */
static ssize_t proxy_send(int fd, const struct msghdr *msg, int flags, int saved)
{
	ssize_t n = -errno;

	if (type_of(fd) == SOCK_DGRAM)
		n = send_patiently(fd, msg, flags, (int)-n);
	errno = n < 0 ? (int)-n : saved;
	return n < 0 ? -1 : n;
}

ssize_t sendto(int fd, const void *data, size_t size, int flags, const struct sockaddr *to,
	       socklen_t len)
{
	struct iovec iov = { .iov_base = (void *)(uintptr_t)data, .iov_len = size };
	struct msghdr msg = { .msg_name = (void *)(uintptr_t)to,
			      .msg_namelen = len,
			      .msg_iov = &iov,
			      .msg_iovlen = 1 };
	int saved = errno;
	ssize_t n = local_sendto(fd, data, size, flags, to, len);

	if (n < 0 && route_is_nobody(errno) && is_for_proxy(to, len))
		n = proxy_send(fd, &msg, flags, saved);
	return n;
}

ssize_t sendmsg(int fd, const struct msghdr *msg, int flags)
{
	int saved = errno;
	ssize_t n = local_sendmsg(fd, msg, flags);

	if (n < 0 && route_is_nobody(errno) && is_for_proxy(msg->msg_name, msg->msg_namelen))
		n = proxy_send(fd, msg, flags, saved);
	return n;
}

/* The kernel stops at the first that fails, and fails if that is the first of all. */
int sendmmsg(int fd, struct mmsghdr *msgs, unsigned n, int flags)
{
	int saved = errno, sent;
	unsigned done = 0;

	while ((sent = local_sendmmsg(fd, msgs + done, n - done, flags)) < 0 &&
	       route_is_nobody(errno)) {
		const struct msghdr *msg = &msgs[done].msg_hdr;
		ssize_t size = is_for_proxy(msg->msg_name, msg->msg_namelen)
				       ? proxy_send(fd, msg, flags, saved)
				       : -1;

		if (size < 0)
			break;
		msgs[done].msg_len = (unsigned)size;
		if (++done == n)
			return (int)n;
	}
	if (sent < 0 && !done)
		return -1;
	errno = saved;
	return (int)done + MAX(sent, 0);
}
