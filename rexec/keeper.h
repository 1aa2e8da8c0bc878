/* SPDX-License-Identifier: Apache-2.0 */
/*
 * keeper.h - the process beside each program: starts it, watches it, tells its client
 */
#ifndef KEEPER_H
#define KEEPER_H

#include <sys/types.h>

#include "policy.h"

struct keeper_setup {
	int conn;		     /* the client's connection; taken */
	int sessions;		     /* RUNTIME/sessions */
	const char *runtime;	     /* RUNTIME, absolute */
	const struct policy *policy; /* a copy that stays as it was when the client came */
};

/**
 * keeper_run() - serve one connection until its program, and all that it started, has ended
 *
 * Called in a process forked for this alone, with SIGCHLD and SIGTERM blocked; the caller exits
 * when it returns. SIGTERM ends the program.
 */
void keeper_run(const struct keeper_setup *setup);

/** keeper_tell_refused() - answer whoever is at @fd that there will be no program: the exit status @status (126, ...), and why */
void keeper_tell_refused(int fd, int status, const char *reason);

#endif
