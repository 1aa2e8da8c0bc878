/* SPDX-License-Identifier: Apache-2.0 */
/*
 * proctree.c - how descendants are found
 *
 * From the top downwards, by the lists of children that the kernel has: what it costs depends on
 * what is below, not on how many processes the machine has. An orphan that became ours after our
 * own list was read is seen because that is read again, until it says nothing new. A process that
 * is started meanwhile may be missed: who must not miss any (the end of a program) does it again
 * until none is left.
 *
 * A kernel without those lists (CONFIG_PROC_CHILDREN) has one pass over /proc, which notes every
 * process and its parent; then it is asked whose chain of parents leads there.
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

#define PASSES_MAX 8 /* a program that forks without end is not to hold us */

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

static void add(struct table *t, pid_t pid, pid_t parent)
{
	if (t->n == t->size) {
		size_t size = t->size ? 2 * t->size : 16;
		struct process *list = reallocarray(t->list, size, sizeof(*list));

		if (!list)
			return;
		t->list = list;
		t->size = size;
	}
	t->list[t->n++] = (struct process){ pid, parent };
}

static const struct process *find(const struct table *t, pid_t pid)
{
	for (size_t i = 0; i < t->n; i++)
		if (t->list[i].pid == pid)
			return &t->list[i];
	return NULL;
}

/* ---- by the kernel's lists ---- */

static void children_path(char *path, size_t size, pid_t pid, pid_t tid)
{
	snprintf(path, size, "/proc/%d/task/%d/children", pid, tid);
}

static void add_children_of_thread(struct table *t, pid_t pid, pid_t tid)
{
	char path[64];
	FILE *children;
	pid_t child;

	children_path(path, sizeof(path), pid, tid);
	children = fopen(path, "re");
	while (children && fscanf(children, "%d", &child) == 1)
		if (!find(t, child))
			add(t, child, pid);
	if (children)
		fclose(children);
}

static void add_children(struct table *t, pid_t pid)
{
	char path[64];
	const struct dirent *e;
	DIR *tasks;

	snprintf(path, sizeof(path), "/proc/%d/task", pid);
	tasks = opendir(path);
	while (tasks && (e = readdir(tasks)))
		if (atoi(e->d_name) > 0)
			add_children_of_thread(t, pid, (pid_t)atoi(e->d_name));
	if (tasks)
		closedir(tasks);
}

static bool has_children_lists(pid_t top)
{
	char path[64];

	children_path(path, sizeof(path), top, top);
	return !access(path, R_OK);
}

static void walk(struct table *t, pid_t top)
{
	size_t known, pass = 0;

	do {
		known = t->n;
		add_children(t, top);
		for (size_t i = known; i < t->n; i++)
			add_children(t, t->list[i].pid);
	} while (t->n > known && ++pass < PASSES_MAX);
}

/* ---- by all of /proc ---- */

static struct table read_all(void)
{
	struct table t = { 0 };
	DIR *proc = opendir("/proc");
	const struct dirent *e;

	while (proc && (e = readdir(proc)))
		if (atoi(e->d_name) > 0)
			add(&t, (pid_t)atoi(e->d_name), parent_of((pid_t)atoi(e->d_name)));
	if (proc)
		closedir(proc);
	return t;
}

static bool below(const struct table *t, pid_t pid, pid_t top)
{
	const struct process *process = find(t, pid);

	/* Bounded: entries read at different times could form a ring. */
	for (size_t depth = 0; process && depth <= t->n; depth++) {
		if (process->parent == top)
			return true;
		process = find(t, process->parent);
	}
	return false;
}

static void scan(struct table *t, pid_t top)
{
	struct table all = read_all();

	for (size_t i = 0; i < all.n; i++)
		if (below(&all, all.list[i].pid, top))
			add(t, all.list[i].pid, all.list[i].parent);
	free(all.list);
}

/* ---- what is done with them ---- */

/* All that descend from @top. */
static struct table read_table(pid_t top)
{
	struct table t = { 0 };

	if (has_children_lists(top))
		walk(&t, top);
	else
		scan(&t, top);
	return t;
}

int proctree_each(pid_t top, int (*visit)(pid_t pid, void *arg), void *arg)
{
	struct table t = read_table(top);
	int ret = -ESRCH;

	for (size_t i = 0; i < t.n && (!ret || ret == -ESRCH); i++)
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
	pid_t self = getpid();
	struct table t = read_table(self);
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
