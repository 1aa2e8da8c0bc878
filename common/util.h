/* SPDX-License-Identifier: Apache-2.0 */
/*
 * util.h - the few idioms that every file uses
 *
 * A descriptor variable that holds nothing is -1; 0 is a valid descriptor.
 * Declare it _cleanup_close_ and hand it over with take_fd(): then every early
 * return closes what was not handed over.
 */
#ifndef UTIL_H
#define UTIL_H

#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <unistd.h>

#define ARRAY_LEN(a) (sizeof(a) / sizeof((a)[0]))
#define MIN(a, b) ((a) < (b) ? (a) : (b))
#define MAX(a, b) ((a) > (b) ? (a) : (b))

/** CONTAINER_OF() - the struct of @type whose @member @pointer points to */
#define CONTAINER_OF(pointer, type, member) ((type *)(void *)((char *)(pointer)-offsetof(type, member)))

/** close_keep_errno() - close @fd if it is one, leaving errno as it was */
static inline void close_keep_errno(int fd)
{
	int saved = errno;

	if (fd >= 0)
		close(fd);
	errno = saved;
}

static inline void cleanup_close(int *fd)
{
	close_keep_errno(*fd);
}

static inline void cleanup_free(void *p)
{
	free(*(void **)p);
}

#define _cleanup_close_ __attribute__((cleanup(cleanup_close)))
#define _cleanup_free_ __attribute__((cleanup(cleanup_free)))

/** take_fd() - the descriptor in @fd, which the caller now owns; @fd becomes -1 */
static inline int take_fd(int *fd)
{
	int taken = *fd;

	*fd = -1;
	return taken;
}

/** replace_fd() - close what @fd holds and let it own @value */
static inline void replace_fd(int *fd, int value)
{
	if (*fd != value)
		close_keep_errno(*fd);
	*fd = value;
}

#endif
