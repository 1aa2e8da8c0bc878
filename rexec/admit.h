/* SPDX-License-Identifier: Apache-2.0 */
/*
 * admit.h - a client's request, and whether it is granted
 */
#ifndef ADMIT_H
#define ADMIT_H

#include <limits.h>
#include <stdbool.h>

#include "child.h"
#include "fdpass.h"
#include "policy.h"
#include "request.h"

#define ADMIT_TIMEOUT_MS 10000 /* for the whole request to arrive */

struct admission {
	struct request request;
	void *payload;			/* what `request` points into */
	struct fdset passed;		/* [0] is the life line */
	uid_t client;			/* who asks */
	struct child_identity identity; /* as whom the program runs */
	bool switch_user;		/* whether that takes a change of identity */
	bool list;			/* it was a LIST: nothing else is filled in */
	const char **env;		/* the program's environment */
	char path[PATH_MAX];		/* of the program */
	char home[PATH_MAX + 8], user[64], logname[64]; /* parts of `env` */
};

/**
 * admit() - receive an EXEC, or a LIST, on @conn and decide
 *
 * uid, gid and groups are what the kernel says of the other end (SO_PEERCRED, SO_PEERGROUPS in
 * unix(7)), whatever the message says.
 *
 * @a		filled; admission_deinit() whatever comes back
 * @reason	POLICY_REASON_MAX bytes, a sentence when the answer is no
 * Return: 0 granted; an exit status (125, 126, 127) that the client is to be told; a negative errno
 * when there was no request to answer.
 */
int admit(struct admission *a, int conn, const struct policy *policy, char *reason);
/** admission_deinit() - free everything, close what nobody took */
void admission_deinit(struct admission *a);

#endif
