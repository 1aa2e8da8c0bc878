/* SPDX-License-Identifier: Apache-2.0 */
/* Which processes are below this one: by the kernel's lists of children, and without them. */
#include <check.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "proctree.h"

/* No list of children can be read where a file system lies over it. */
static void hide_lists(void)
{
	ck_assert_int_eq(unshare(CLONE_NEWNS), 0);
	ck_assert_int_eq(mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL), 0);
	ck_assert_int_eq(mount("none", "/proc/self/task", "tmpfs", 0, NULL), 0);
}

static void prepare(int hidden)
{
	/* as a keeper is */
	ck_assert_int_eq(prctl(PR_SET_CHILD_SUBREAPER, 1), 0);
	if (hidden)
		hide_lists();
}

static void rest(void)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	for (;;)
		pause();
}

static void *fork_and_tell(void *arg)
{
	const int *told = arg;

	if (!fork()) {
		ck_assert_int_eq(write(told[1], "g", 1), 1);
		pause();
	}
	return NULL;
}

/* A child whose second thread, which stays, has a child of its own. */
static pid_t start_family(int *told)
{
	pid_t pid;

	ck_assert_int_eq(pipe(told), 0);
	pid = fork();
	if (!pid) {
		pthread_t thread;

		pthread_create(&thread, NULL, fork_and_tell, told);
		rest();
	}
	return pid;
}

static void hear(const int *told)
{
	char c;

	ck_assert_int_eq(read(told[0], &c, 1), 1);
}

static int count_one(pid_t pid, void *arg)
{
	(void)pid;
	++*(int *)arg;
	return 0;
}

static int count(void)
{
	int n = 0;

	proctree_each(getpid(), count_one, &n);
	return n;
}

static void end_all(void)
{
	while (count()) {
		proctree_kill(SIGKILL);
		while (waitpid(-1, NULL, WNOHANG) > 0)
			;
	}
	/* LeakSanitizer wants to see our threads. */
	umount2("/proc/self/task", MNT_DETACH);
}

/* @hidden: without the lists, which only root can hide. */
#define HIDDEN_AS_ROOT(hidden)                                                                     \
	do {                                                                                       \
		if ((hidden) && geteuid())                                                         \
			return;                                                                    \
		prepare(hidden);                                                                   \
	} while (0)

START_TEST(all_generations_are_found)
{
	int told[2];

	HIDDEN_AS_ROOT(_i);
	ck_assert_int_eq(count(), 0);
	ck_assert_int_gt(start_family(told), 0);
	hear(told);
	ck_assert_int_eq(count(), 2);
	end_all();
}
END_TEST

START_TEST(orphans_in_sessions_of_their_own_are_found)
{
	int told[2];
	pid_t pid;

	HIDDEN_AS_ROOT(_i);
	ck_assert_int_eq(pipe(told), 0);
	pid = fork();
	if (!pid) {
		if (!fork()) {
			setsid();
			ck_assert_int_eq(write(told[1], "o", 1), 1);
			pause();
		}
		_exit(0);
	}
	ck_assert_int_eq(waitpid(pid, NULL, 0), pid);
	hear(told);
	ck_assert_int_eq(count(), 1);
	end_all();
	ck_assert_int_eq(count(), 0);
}
END_TEST

START_TEST(only_children_are_signalled_when_so_asked)
{
	int told[2], status;
	pid_t pid;

	HIDDEN_AS_ROOT(_i);
	pid = start_family(told);
	hear(told);
	ck_assert_int_eq(proctree_kill_children(SIGUSR1, false), 1);
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert_int_eq(WTERMSIG(status), SIGUSR1);
	/* the grandchild, ours by now */
	ck_assert_int_eq(count(), 1);
	end_all();
}
END_TEST

START_TEST(processes_of_others_are_not_ours)
{
	int told[2];
	pid_t pid;

	HIDDEN_AS_ROOT(_i);
	pid = start_family(told);
	hear(told);
	ck_assert(proctree_has(getpid(), pid));
	ck_assert(!proctree_has(getpid(), getpid()));
	ck_assert(!proctree_has(getpid(), getppid()));
	ck_assert(!proctree_has(getpid(), 1));
	end_all();
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("proctree");
	TCase *tc = tcase_create("proctree");
	SRunner *sr;
	int failed;

	tcase_add_loop_test(tc, all_generations_are_found, 0, 2);
	tcase_add_loop_test(tc, orphans_in_sessions_of_their_own_are_found, 0, 2);
	tcase_add_loop_test(tc, only_children_are_signalled_when_so_asked, 0, 2);
	tcase_add_loop_test(tc, processes_of_others_are_not_ours, 0, 2);
	suite_add_tcase(suite, tc);
	sr = srunner_create(suite);
	srunner_set_tap(sr, "-");
	srunner_run_all(sr, CK_SILENT);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed != 0;
}
