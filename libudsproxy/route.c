/* SPDX-License-Identifier: Apache-2.0 */
#include "route.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>
#include <sys/un.h>

#include "proxyreq.h"

#define PATH_OFFSET offsetof(struct sockaddr_un, sun_path)

/* The bytes of the name in @to, NULL when it has none; an abstract one begins with NUL. */
static const char *unix_name(const struct sockaddr *to, socklen_t len, size_t *n)
{
	sa_family_t family;

	if (!to || len <= PATH_OFFSET || len > sizeof(struct sockaddr_un))
		return NULL;
	/* A program's buffer need not be aligned. */
	memcpy(&family, to, sizeof(family));
	if (family != AF_UNIX)
		return NULL;
	*n = len - PATH_OFFSET;
	return (const char *)to + PATH_OFFSET;
}

/* A path ends with its first NUL, an abstract name with its length (unix(7)). */
static size_t name_size(const char *name, size_t n)
{
	return *name ? strnlen(name, n) : n;
}

bool route_is_same(const struct sockaddr *a, socklen_t a_len, const struct sockaddr *b,
		   socklen_t b_len)
{
	size_t a_size, b_size;
	const char *a_name = unix_name(a, a_len, &a_size), *b_name = unix_name(b, b_len, &b_size);

	if (!a_name || !b_name)
		return false;
	a_size = name_size(a_name, a_size);
	return a_size == name_size(b_name, b_size) && memcmp(a_name, b_name, a_size) == 0;
}

socklen_t route_peer(struct sockaddr *name, socklen_t size, socklen_t len)
{
	socklen_t most = sizeof(struct sockaddr_un);
	size_t n;
	const char *path = unix_name(name, size < most ? size : most, &n);

	if (!path || *path != PROXYREQ_ABSTRACT || len <= PATH_OFFSET + 1)
		return len;
	((char *)name)[PATH_OFFSET] = '\0';
	return len - 1; /* the path's NUL */
}

bool route_is_own(const struct sockaddr *name, socklen_t len, const char *runtime)
{
	size_t n, dir = strlen(runtime);
	const char *path = unix_name(name, len, &n);

	return path && n > dir && memcmp(path, runtime, dir) == 0 && path[dir] == '/';
}

bool route_is_nobody(int error)
{
	return error == ENOENT || error == ECONNREFUSED;
}

enum route route_to(const struct sockaddr *to, socklen_t len, const char *runtime)
{
	size_t n;
	const char *name = unix_name(to, len, &n);

	/* The lists hold absolute paths, and abstract names that are not empty. */
	if (!name || n < 2 || (name[0] != '/' && name[0] != '\0'))
		return ROUTE_LIBC;
	return route_is_own(to, len, runtime) ? ROUTE_LIBC : ROUTE_PROXY;
}

int route_errno(int local, int answer)
{
	switch (answer) {
	case ENETUNREACH:     /* on no list */
	case ENOTCONN:	      /* no udsproxyd */
	case ETIMEDOUT:	      /* it is stuck */
	case EPROTO:	      /* it is of another version */
	case EPROTONOSUPPORT: /* it does not carry this type of socket */
	case EMFILE:	      /* no descriptor or memory to ask it with */
	case ENFILE:
	case ETOOMANYREFS:
	case ENOBUFS:
	case ENOMEM:
		return local;
	default:
		return answer;
	}
}
