/* SPDX-License-Identifier: Apache-2.0 */
/*
 * given.h - what becomes of the descriptors that this process was started with
 *
 *	a listening socket			stays; clients are joined to a twin on the HOST
 *	a regular file with a POSIX lock	stays: it is the pid file, and says who we are. Such
 *						a lock is the process's and goes when *any*
 *descriptor of that file is closed: so none is everything else
 *crosses, at the same number (cross.h)
 */
#ifndef GIVEN_H
#define GIVEN_H

#include <stddef.h>

#include "argv.h"
#include "cross.h"
#include "outlet.h"
#include "session.h"

struct given {
	int *numbers;
	size_t n;
	struct session_fd *fds; /* what the program is to find */
	size_t n_fds;
	int *prepared; /* owned: as many as n_fds, -1 for a listener */
};

/** given_list() - note what is open; call it before anything else opens a descriptor.
 * Return: 0 or a negative errno. */
int given_list(struct given *in);

/**
 * given_prepare() - fill `fds`, and let @outlets listen on the listeners
 * @why		on failure a sentence that names the descriptor, @size bytes
 * Return: 0 or a negative errno. What was prepared stays open until given_release().
 */
int given_prepare(struct given *in, struct crossing *crossing, struct outlets *outlets,
		  const struct argv_plan *plan, char *why, size_t size);

/** given_release() - give up what was prepared for the program, so that the pipes that it wrote can
 * end. The numbers, which the session may know, stand for /dev/null from now on. */
void given_release(struct given *in);

#endif
