/* SPDX-License-Identifier: Apache-2.0 */
#include "route.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>
#include <sys/un.h>

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

bool route_is_own(const struct sockaddr *name, socklen_t len, const char *runtime)
{
	size_t n, dir = strlen(runtime);
	const char *path = unix_name(name, len, &n);

	return path && n > dir && memcmp(path, runtime, dir) == 0 && path[dir] == '/';
}

enum route route_connect(const struct sockaddr *to, socklen_t len, int error, const char *runtime)
{
	const char *name;
	size_t n;

	/* First of all: with any other errno @to need not even be readable. */
	if (error != ENOENT && error != ECONNREFUSED)
		return ROUTE_LIBC;
	name = unix_name(to, len, &n);
	/* The lists hold absolute paths, and abstract names that are not empty. */
	if (!name || n < 2 || (name[0] != '/' && name[0] != '\0'))
		return ROUTE_LIBC;
	return route_is_own(to, len, runtime) ? ROUTE_LIBC : ROUTE_PROXY;
}

int route_errno(int local, int answer)
{
	switch (answer) {
	case EPERM:	      /* on no list */
	case ENOTCONN:	      /* no udsproxyd */
	case ETIMEDOUT:	      /* it is stuck */
	case EPROTO:	      /* it is of another version */
	case EPROTONOSUPPORT: /* it does not carry this type of socket */
	case EMFILE:	      /* no descriptor or memory to ask it with */
	case ENFILE:
	case ENOBUFS:
	case ENOMEM:
		return local;
	default:
		return answer;
	}
}
