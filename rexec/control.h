/* SPDX-License-Identifier: Apache-2.0 */
/*
 * control.h - what may be set of processes that run, as taskset(1), chrt(1), renice(1) and prlimit(1) do
 *
 *	affinity=CPULIST		sched_setaffinity(2); 0-3,5
 *	scheduler=POLICY[:PRIORITY]	sched_setscheduler(2); other, batch, idle, fifo:N, rr:N
 *	nice=N				setpriority(2)
 *	limit.NAME=SOFT[:HARD]		prlimit(2); NAME as in prlimit(1), values or unlimited
 */
#ifndef CONTROL_H
#define CONTROL_H

#include <sched.h>
#include <stdint.h>
#include <sys/resource.h>
#include <sys/types.h>

enum control_what {
	CONTROL_AFFINITY,
	CONTROL_SCHEDULER,
	CONTROL_NICE,
	CONTROL_LIMIT,
};

struct control {
	enum control_what what;
	cpu_set_t cpus;
	int policy, priority; /* priority: of the policy, or the nice value */
	int resource;
	struct rlimit limit;
};

/** control_parse() - @text, NAME=VALUE, into @c; NULL, or what is wrong with it (a static text). Pure. */
const char *control_parse(struct control *c, const char *text);

/**
 * control_apply() - to thread @tid (its process, for a limit), which must be below process @top, or, with 0, to
 * all that are below it
 * With the caller's rights. Return: 0 or -errno, -ESRCH when there is none.
 */
int control_apply(const struct control *c, pid_t top, pid_t tid);

#endif
