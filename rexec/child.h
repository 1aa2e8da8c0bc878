/* SPDX-License-Identifier: Apache-2.0 */
/*
 * child.h - start a program exactly as asked: identity, descriptors, limits, signals
 */
#ifndef CHILD_H
#define CHILD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "request.h"

struct child_fd {
	int number; /* in the program */
	int fd;	    /* borrowed; may stand more than once */
};

struct child_identity {
	uid_t uid;
	gid_t gid;
	gid_t *groups;
	size_t n_groups;
};

struct child_spec {
	const char *path;
	int program; /* -1, or a descriptor (borrowed) that is executed instead of the path */
	const char *const *argv, *const *env;
	const char *cwd;
	mode_t umask;
	uint64_t ignored, blocked;	    /* local signal n is bit n - 1 */
	const struct request_limit *limits; /* REQUEST_LIMITS of them */
	const struct child_fd *fds;
	size_t n_fds;
	const struct child_identity *identity; /* NULL: as we are */
	int terminal; /* its controlling terminal, which it also leads a session for; -1: none */
};

/** child_become() - take on @as for good; 0 or -errno */
int child_become(const struct child_identity *as);

/**
 * child_spawn() - fork, become @spec and execve(2)
 *
 * The program leads a process group of its own in our session, or with a terminal a session of its own, and dies
 * with us (prctl(2), PR_SET_PDEATHSIG). Descriptors 0 to 2 that @spec does not name are /dev/null; of the others
 * it has none but those of @spec. Limits are bounded by our own hard ones.
 *
 * @failed	on failure what failed, a static text ("execve", "chdir", ...)
 * Return: its pid once execve(2) succeeded, or a negative errno; then there is no child.
 */
pid_t child_spawn(const struct child_spec *spec, const char **failed);

#endif
