/* SPDX-License-Identifier: Apache-2.0 */
/*
 * child.c - what happens between fork and execve
 *
 * In this order: process group or session, signals, descriptors, limits, identity, working directory (as
 * the user), mask. A pipe that execve closes tells the parent how it went: nothing in it means
 * the program runs, else the step that failed and errno. All other descriptors are CLOEXEC.
 */
#include "child.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "util.h"

enum step {
	STEP_TERMINAL,
	STEP_DESCRIPTORS,
	STEP_LIMITS,
	STEP_IDENTITY,
	STEP_CWD,
	STEP_EXECVE,
};

static const char *const step_names[] = { "terminal", "descriptors", "limits",
					 "identity", "chdir", "execve" };

struct failure {
	int step, error;
};

static void set_signals(const struct child_spec *spec)
{
	for (int signo = 1; signo < NSIG; signo++) {
		bool ignore = signo <= 64 && spec->ignored >> (signo - 1) & 1;
		struct sigaction action = { .sa_handler = ignore ? SIG_IGN : SIG_DFL };

		sigaction(signo, &action, NULL);
	}
}

static void set_mask(const struct child_spec *spec)
{
	sigset_t mask;

	sigemptyset(&mask);
	for (int signo = 1; signo <= 64; signo++)
		if (spec->blocked >> (signo - 1) & 1)
			sigaddset(&mask, signo);
	sigprocmask(SIG_SETMASK, &mask, NULL);
}

/* Every descriptor at its number: first all copies above the highest, so that none is overwritten
 * before it is used; @status and @program go up there, too. The copies are CLOEXEC. */
static int set_descriptors(const struct child_spec *spec, int *status, int *program)
{
	int copies[REQUEST_FDS_MAX];
	int above = 3, null = open("/dev/null", O_RDWR | O_CLOEXEC);

	for (size_t i = 0; i < spec->n_fds; i++)
		above = MAX(above, spec->fds[i].number + 1);
	*status = fcntl(*status, F_DUPFD_CLOEXEC, above);
	null = fcntl(null, F_DUPFD_CLOEXEC, above);
	if (*program >= 0)
		*program = fcntl(*program, F_DUPFD_CLOEXEC, above);
	if (*status < 0 || null < 0 || (spec->program >= 0 && *program < 0))
		return -errno;
	for (size_t i = 0; i < spec->n_fds; i++) {
		copies[i] = fcntl(spec->fds[i].fd, F_DUPFD_CLOEXEC, above);
		if (copies[i] < 0)
			return -errno;
	}
	for (int number = STDIN_FILENO; number <= STDERR_FILENO; number++)
		if (dup2(null, number) < 0)
			return -errno;
	for (size_t i = 0; i < spec->n_fds; i++)
		if (dup2(copies[i], spec->fds[i].number) < 0)
			return -errno;
	return 0;
}

static rlim_t bounded(uint64_t value, rlim_t hard)
{
	rlim_t v = value == UINT64_MAX ? RLIM_INFINITY : (rlim_t)value;

	/* RLIM_INFINITY is the largest number on Linux. */
	return MIN(v, hard);
}

static int set_limits(const struct request_limit *limits)
{
	for (unsigned i = 0; i < REQUEST_LIMITS; i++) {
		int resource = request_limit_resource(i);
		struct rlimit own, limit;

		if (getrlimit((__rlimit_resource_t)resource, &own))
			continue;
		limit.rlim_max = bounded(limits[i].hard, own.rlim_max);
		limit.rlim_cur = bounded(limits[i].soft, limit.rlim_max);
		if (setrlimit((__rlimit_resource_t)resource, &limit))
			return -errno;
	}
	return 0;
}

int child_become(const struct child_identity *as)
{
	if (setgroups(as->n_groups, as->groups) || setresgid(as->gid, as->gid, as->gid) ||
	    setresuid(as->uid, as->uid, as->uid))
		return -errno;
	return 0;
}

/* Return: only when a step failed. */
static struct failure become(const struct child_spec *spec, pid_t parent, int *status)
{
	int program = spec->program;
	int err;

	if (spec->terminal < 0)
		setpgid(0, 0);
	else if (setsid() < 0 || ioctl(spec->terminal, TIOCSCTTY, 0))
		return (struct failure){ STEP_TERMINAL, errno };
	set_signals(spec);
	err = set_descriptors(spec, status, &program);
	if (err)
		return (struct failure){ STEP_DESCRIPTORS, -err };
	err = set_limits(spec->limits);
	if (err)
		return (struct failure){ STEP_LIMITS, -err };
	err = spec->identity ? child_become(spec->identity) : 0;
	if (err)
		return (struct failure){ STEP_IDENTITY, -err };
	/* After the change of identity, which clears it; the parent may have ended before. */
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(1);
	if (chdir(spec->cwd))
		return (struct failure){ STEP_CWD, errno };
	umask(spec->umask);
	set_mask(spec);
	if (program >= 0)
		execveat(program, "", (char *const *)(uintptr_t)spec->argv,
			 (char *const *)(uintptr_t)spec->env, AT_EMPTY_PATH);
	else
		execve(spec->path, (char *const *)(uintptr_t)spec->argv,
		       (char *const *)(uintptr_t)spec->env);
	return (struct failure){ STEP_EXECVE, errno };
}

pid_t child_spawn(const struct child_spec *spec, const char **failed)
{
	struct failure failure = { STEP_DESCRIPTORS, 0 };
	_cleanup_close_ int ours = -1, theirs = -1;
	pid_t parent = getpid(), pid;
	int pipefd[2];
	ssize_t n;

	*failed = "fork";
	if (pipe2(pipefd, O_CLOEXEC))
		return -errno;
	ours = pipefd[0];
	theirs = pipefd[1];
	pid = fork();
	if (pid < 0)
		return -errno;
	if (!pid) {
		failure = become(spec, parent, &theirs);
		n = write(theirs, &failure, sizeof(failure));
		_exit(n < 0);
	}
	close(take_fd(&theirs));
	do
		n = read(ours, &failure, sizeof(failure));
	while (n < 0 && errno == EINTR);
	if (n <= 0)
		return pid;
	waitpid(pid, NULL, 0);
	*failed = step_names[failure.step];
	return -failure.error;
}
