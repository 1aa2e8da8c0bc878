/* SPDX-License-Identifier: Apache-2.0 */
/*
 * shim.c - connect(2) that also reaches the listening sockets of the peer (libudsproxy(7))
 *
 * How it works, in this order:
 *
 * 1. The connect that the program asked for is made, by the libc's connect or that of the next
 *    preloaded library. Whatever it gives, other than ENOENT or ECONNREFUSED for a UNIX
 *    socket's name, is the result: a local listener wins, and other families never wait.
 * 2. udsproxyd is asked on a private connection, and the program's descriptor is connected
 *    last, when the far side has said yes (proxyclient.c). A refusal leaves it as it was.
 *
 * It runs inside strangers: in signal handlers, between vfork and exec, in threads that are
 * cancelled. So there is no lock, no allocation and no table of descriptors; the only state
 * is what the constructor found and whether a hint has been printed.
 */
#include <dlfcn.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <unistd.h>

#include "proxyclient.h"
#include "proxyreq.h"
#include "route.h"

#define EXPORT __attribute__((visibility("default")))

typedef int connect_fn(int fd, const struct sockaddr *to, socklen_t len);
typedef int getpeername_fn(int fd, struct sockaddr *name, socklen_t *len);

EXPORT connect_fn connect;
EXPORT getpeername_fn getpeername;

/*
 * The libc's functions rather than the bare system calls, because they are cancellation points:
 * a thread that waits for a TCP peer must stay cancellable. Another library's constructor may
 * come before ours; it gets the bare ones.
 */
static struct {
	connect_fn *connect;
	getpeername_fn *getpeername;
} next;

/* dlsym() takes locks: not when a signal handler first connects, but before there is one. */
__attribute__((constructor)) static void find_next(void)
{
	next.connect = (connect_fn *)dlsym(RTLD_NEXT, "connect");
	next.getpeername = (getpeername_fn *)dlsym(RTLD_NEXT, "getpeername");
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

static int type_of(int fd)
{
	int type;
	socklen_t size = sizeof(type);

	return getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &size) ? -1 : type;
}

/* A program may connect once more to learn whether the first succeeded: EISCONN says yes. */
static bool is_connected_to(int fd, const struct sockaddr *to, socklen_t len)
{
	struct sockaddr_un name;
	struct sockaddr *peer = (struct sockaddr *)&name;
	socklen_t n = sizeof(name);

	return type_of(fd) != SOCK_DGRAM && getpeername(fd, peer, &n) == 0 &&
	       (route_is_same(peer, n, to, len) || route_is_own(peer, n, proxyclient_runtime_dir()));
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
	if (route_connect(to, len, err, proxyclient_runtime_dir()) == ROUTE_PROXY) {
		/* A thread cancelled while it asks would leave the private descriptor open. */
		pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &state);
		err = proxy_connect(fd, to, len, err);
		pthread_setcancelstate(state, NULL);
	}
	errno = err ? err : saved;
	return err ? -1 : 0;
}

int getpeername(int fd, struct sockaddr *name, socklen_t *len)
{
	socklen_t size = len ? *len : 0;
	int err = local_getpeername(fd, name, len);

	if (!err)
		*len = route_peer(name, size < *len ? size : *len, *len);
	return err;
}
