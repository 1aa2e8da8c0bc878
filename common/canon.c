/* SPDX-License-Identifier: Apache-2.0 */
#include "canon.h"

#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/socket.h>

#include "util.h"

struct pair {
	int local;
	uint16_t canon;
};

/* clang-format off */
static const struct pair errnos[] = {
	{ 0, 0 }, { EPERM, 1 }, { ENOENT, 2 }, { ESRCH, 3 }, { EINTR, 4 }, { EIO, 5 }, { ENXIO, 6 },
	{ E2BIG, 7 }, { ENOEXEC, 8 }, { EBADF, 9 }, { ECHILD, 10 }, { EAGAIN, 11 }, { ENOMEM, 12 },
	{ EACCES, 13 }, { EFAULT, 14 }, { EBUSY, 16 }, { EEXIST, 17 }, { EXDEV, 18 }, { ENODEV, 19 },
	{ ENOTDIR, 20 }, { EISDIR, 21 }, { EINVAL, 22 }, { ENFILE, 23 }, { EMFILE, 24 }, { ENOTTY, 25 },
	{ ETXTBSY, 26 }, { EFBIG, 27 }, { ENOSPC, 28 }, { ESPIPE, 29 }, { EROFS, 30 }, { EMLINK, 31 },
	{ EPIPE, 32 }, { EDOM, 33 }, { ERANGE, 34 }, { EDEADLK, 35 }, { ENAMETOOLONG, 36 }, { ENOLCK, 37 },
	{ ENOSYS, 38 }, { ENOTEMPTY, 39 }, { ELOOP, 40 }, { ENODATA, 61 }, { ETIME, 62 }, { EPROTO, 71 },
	{ EBADMSG, 74 }, { EOVERFLOW, 75 }, { ENOTSOCK, 88 }, { EDESTADDRREQ, 89 }, { EMSGSIZE, 90 },
	{ EPROTOTYPE, 91 }, { ENOPROTOOPT, 92 }, { EPROTONOSUPPORT, 93 }, { ESOCKTNOSUPPORT, 94 },
	{ EOPNOTSUPP, 95 }, { EAFNOSUPPORT, 97 }, { EADDRINUSE, 98 }, { EADDRNOTAVAIL, 99 },
	{ ENETDOWN, 100 }, { ENETUNREACH, 101 }, { ECONNABORTED, 103 }, { ECONNRESET, 104 },
	{ ENOBUFS, 105 }, { EISCONN, 106 }, { ENOTCONN, 107 }, { ESHUTDOWN, 108 }, { ETOOMANYREFS, 109 },
	{ ETIMEDOUT, 110 }, { ECONNREFUSED, 111 }, { EHOSTDOWN, 112 }, { EHOSTUNREACH, 113 },
	{ EALREADY, 114 }, { EINPROGRESS, 115 }, { ESTALE, 116 }, { EDQUOT, 122 }, { ECANCELED, 125 },
};

static const struct pair signals[] = {
	{ SIGHUP, 1 }, { SIGINT, 2 }, { SIGQUIT, 3 }, { SIGILL, 4 }, { SIGTRAP, 5 }, { SIGABRT, 6 },
	{ SIGBUS, 7 }, { SIGFPE, 8 }, { SIGKILL, 9 }, { SIGUSR1, 10 }, { SIGSEGV, 11 }, { SIGUSR2, 12 },
	{ SIGPIPE, 13 }, { SIGALRM, 14 }, { SIGTERM, 15 }, { SIGCHLD, 17 }, { SIGCONT, 18 },
	{ SIGSTOP, 19 }, { SIGTSTP, 20 }, { SIGTTIN, 21 }, { SIGTTOU, 22 }, { SIGURG, 23 },
	{ SIGXCPU, 24 }, { SIGXFSZ, 25 }, { SIGVTALRM, 26 }, { SIGPROF, 27 }, { SIGWINCH, 28 },
	{ SIGIO, 29 }, { SIGPWR, 30 }, { SIGSYS, 31 },
#ifdef SIGSTKFLT
	{ SIGSTKFLT, 16 },
#endif
};

/* The kernel's real-time signals, the two that libc keeps for itself included: the same on every CPU, but for
 * those of MIPS beyond the last. */
#define REALTIME_FIRST 32
#define REALTIME_LAST 64

static const struct pair socktypes[] = {
	{ SOCK_STREAM, 1 }, { SOCK_DGRAM, 2 }, { SOCK_SEQPACKET, 3 },
};
/* clang-format on */

static int to_canon(const struct pair *table, size_t n, int local, int unknown)
{
	for (size_t i = 0; i < n; i++)
		if (table[i].local == local)
			return table[i].canon;
	return unknown;
}

static int to_local(const struct pair *table, size_t n, int canon, int unknown)
{
	for (size_t i = 0; i < n; i++)
		if (table[i].canon == canon)
			return table[i].local;
	return unknown;
}

uint16_t canon_errno(int local)
{
	return (uint16_t)to_canon(errnos, ARRAY_LEN(errnos), local, 5);
}

int local_errno(uint16_t canon)
{
	return to_local(errnos, ARRAY_LEN(errnos), canon, EIO);
}

static bool is_realtime(int number)
{
	return number >= REALTIME_FIRST && number <= REALTIME_LAST;
}

uint8_t canon_signal(int local)
{
	if (is_realtime(local))
		return (uint8_t)local;
	return (uint8_t)to_canon(signals, ARRAY_LEN(signals), local, 0);
}

int local_signal(uint8_t canon)
{
	if (is_realtime(canon))
		return canon;
	return to_local(signals, ARRAY_LEN(signals), canon, 0);
}

uint8_t canon_socktype(int local)
{
	return (uint8_t)to_canon(socktypes, ARRAY_LEN(socktypes), local, 0);
}

int local_socktype(uint8_t canon)
{
	return to_local(socktypes, ARRAY_LEN(socktypes), canon, 0);
}
