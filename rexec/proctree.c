/* SPDX-License-Identifier: Apache-2.0 */
/*
 * proctree.c - how descendants are found
 *
 * One pass over /proc notes every process and its parent; then those whose chain of parents
 * leads to us are visited. A process that is started meanwhile is missed: who must not miss
 * any (the end of a program) does it again until none is left.
 */
#include "proctree.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "util.h"

struct process {
	pid_t pid, parent;
};

struct table {
	struct process *list;
	size_t n, size;
};

static ssize_t read_file(const char *path, char *text, size_t size)
{
	_cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, text, size - 1);

	text[n > 0 ? n : 0] = '\0';
	return n;
}

/* A field of /proc/@pid/status, 0 when there is none. */
static pid_t status_field(pid_t pid, const char *name)
{
	char path[64], text[4096];
	const char *at;

	snprintf(path, sizeof(path), "/proc/%d/status", pid);
	read_file(path, text, sizeof(text));
	at = strstr(text, name);
	return at ? (pid_t)atoi(at + strlen(name)) : 0;
}

static pid_t parent_of(pid_t pid)
{
	return status_field(pid, "\nPPid:\t");
}

static void add(struct table *t, pid_t pid)
{
	if (t->n == t->size) {
		size_t size = t->size ? 2 * t->size : 256;
		struct process *list = reallocarray(t->list, size, sizeof(*list));

		if (!list)
			return;
		t->list = list;
		t->size = size;
	}
	t->list[t->n++] = (struct process){ pid, parent_of(pid) };
}

static struct table read_table(void)
{
	struct table t = { 0 };
	DIR *proc = opendir("/proc");
	const struct dirent *e;

	while (proc && (e = readdir(proc)))
		if (atoi(e->d_name) > 0)
			add(&t, (pid_t)atoi(e->d_name));
	if (proc)
		closedir(proc);
	return t;
}

static pid_t parent_in(const struct table *t, pid_t pid)
{
	for (size_t i = 0; i < t->n; i++)
		if (t->list[i].pid == pid)
			return t->list[i].parent;
	return 0;
}

static bool below(const struct table *t, pid_t pid, pid_t top)
{
	/* Bounded: entries read at different times could form a ring. */
	for (size_t depth = 0; pid > 0 && depth <= t->n; depth++) {
		pid = parent_in(t, pid);
		if (pid == top)
			return true;
	}
	return false;
}

int proctree_each(pid_t top, int (*visit)(pid_t pid, void *arg), void *arg)
{
	struct table t = read_table();
	int ret = -ESRCH;

	for (size_t i = 0; i < t.n && (!ret || ret == -ESRCH); i++)
		if (below(&t, t.list[i].pid, top))
			ret = visit(t.list[i].pid, arg);
	free(t.list);
	return ret;
}

static int kill_one(pid_t pid, void *arg)
{
	kill(pid, *(const int *)arg);
	return 0;
}

void proctree_kill(int signo)
{
	proctree_each(getpid(), kill_one, &signo);
}

int proctree_kill_children(int signo, bool group)
{
	struct table t = read_table();
	pid_t self = getpid();
	int n = 0;

	for (size_t i = 0; i < t.n; i++) {
		if (t.list[i].parent != self)
			continue;
		if (!group || getpgid(t.list[i].pid) != t.list[i].pid)
			kill(t.list[i].pid, signo);
		else
			kill(-t.list[i].pid, signo);
		n++;
	}
	free(t.list);
	return n;
}

bool proctree_has(pid_t top, pid_t tid)
{
	pid_t pid = status_field(tid, "\nTgid:\t");

	while (pid > 1 && pid != top)
		pid = parent_of(pid);
	return pid == top && status_field(tid, "\nTgid:\t") != top;
}

/* Is descriptor @fd of @pid the master of /dev/pts/@index? */
static bool is_master(pid_t pid, const char *fd, unsigned index)
{
	char path[64], text[1024];
	const char *at;

	snprintf(path, sizeof(path), "/proc/%d/fdinfo/%.12s", pid, fd);
	read_file(path, text, sizeof(text));
	at = strstr(text, "tty-index:");
	return at && strtoul(at + strlen("tty-index:"), NULL, 10) == index;
}

static bool holds_pty(pid_t pid, unsigned index)
{
	char path[64];
	const struct dirent *e;
	bool found = false;
	DIR *dir;

	snprintf(path, sizeof(path), "/proc/%d/fd", pid);
	dir = opendir(path);
	while (dir && !found && (e = readdir(dir)))
		found = *e->d_name != '.' && is_master(pid, e->d_name, index);
	if (dir)
		closedir(dir);
	return found;
}

static int look_for_pty(pid_t pid, void *arg)
{
	return holds_pty(pid, *(const unsigned *)arg);
}

bool proctree_holds_pty(unsigned index)
{
	return proctree_each(getpid(), look_for_pty, &index) > 0;
}
