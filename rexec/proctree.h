/* SPDX-License-Identifier: Apache-2.0 */
/*
 * proctree.h - the processes below one, from /proc
 *
 * A keeper is the subreaper of its program (prctl(2), PR_SET_CHILD_SUBREAPER), so whatever the
 * program starts stays below the keeper, however often it forks or calls setsid(2).
 */
#ifndef PROCTREE_H
#define PROCTREE_H

#include <stdbool.h>
#include <sys/types.h>

/** proctree_kill() - send @signo to every process below this one */
void proctree_kill(int signo);
/** proctree_kill_children() - the same to direct children only, with @group to their groups */
int proctree_kill_children(int signo, bool group);
/** proctree_each() - call @visit for every process below @top until it returns other than 0, which is
 * returned then; -ESRCH: there was none */
int proctree_each(pid_t top, int (*visit)(pid_t pid, void *arg), void *arg);
/** proctree_has() - is @tid a thread of a process below @top? */
bool proctree_has(pid_t top, pid_t tid);
/** proctree_holds_pty() - does a process below this one hold the master of /dev/pts/@index? */
bool proctree_holds_pty(unsigned index);

#endif
