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
#define ADMIT_ENV_MAX 4096     /* variables of a request */

struct admission {
	struct request request;
	void *payload;			/* what `request` points into */
	struct fdset passed;		/* [0] is the life line */
	uid_t client;			/* who asks: what the kernel says of the other end, */
	pid_t client_pid;		/* behind a udsproxyd that one's */
	struct child_identity peer;	/* the same with its groups */
	struct child_identity identity; /* as whom the program runs; groups may be the peer's */
	bool switch_user;		/* whether that takes a change of identity */
	bool list;			/* it was a LIST: nothing else is filled in */
	const char **env;		/* the program's environment */
	char path[PATH_MAX];		/* of the program */
	int program;			/* -1, or what is executed instead (pin.h): close it then */
	char *arguments;		/* expanded, one behind the other; NULL: as they came */
	char home[PATH_MAX + 8], user[64], logname[64]; /* parts of `env` */
};

/**
 * admit() - receive an EXEC, or a LIST, on @conn and decide
 *
 * uid, gid and groups are what the kernel says of the other end (SO_PEERCRED, SO_PEERGROUPS in
 * unix(7)), whatever the message says.
 *
 * The arguments are decided upon as the program gets them: REXEC_DIR_MARK is expanded before.
 *
 * @runtime	the server's directory, in which the session's will be
 * @a		filled; admission_deinit() whatever comes back
 * @reason	POLICY_REASON_MAX bytes, a sentence when the answer is no
 * Return: 0 granted; an exit status (125, 126, 127) that the client is to be told; a negative errno
 * when there was no request to answer.
 */
int admit(struct admission *a, int conn, const struct policy *policy, const char *runtime,
	  char *reason);
/** admission_deinit() - free everything, close what nobody took */
void admission_deinit(struct admission *a);

#endif
