/* SPDX-License-Identifier: Apache-2.0 */
/*
 * environ.h - which of a client's environment a program may find
 *
 * Empty but for a list of names that programs need and that cannot make a listed program run
 * something else. Names beyond the list arrive when the client asks for them by name, but those
 * by which a loader, a shell or an interpreter takes code never do. Pure but for malloc.
 */
#ifndef ENVIRON_H
#define ENVIRON_H

#include <stdbool.h>
#include <stddef.h>

#include "request.h"

#define ENVIRON_PATH "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

/** environ_offered() - does @assignment (NAME=VALUE) go along without being asked for? */
bool environ_offered(const char *assignment);
/** environ_forbidden() - can @assignment (or a bare name) not go along in any way? */
bool environ_forbidden(const char *assignment);

/** environ_refused() - the first of the @n entries that is asked for by name and forbidden; NULL
 * none */
const char *environ_refused(const struct request_env *env, size_t n);

/**
 * environ_build() - the program's environment from what the client sent
 * @fixed	NULL-terminated assignments of ours; borrowed
 * Of several of one name the first counts, in this order: named, fixed, offered.
 * Return: a NULL-terminated array (free() it; its strings are borrowed), NULL without memory.
 */
const char **environ_build(const struct request_env *env, size_t n, const char *const *fixed);

#endif
