/* SPDX-License-Identifier: Apache-2.0 */
#include "inherit.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/kcmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "proxyclient.h"
#include "util.h"

/* ---- collecting ---- */

static int add(struct inherit_list *l, int number, enum inherit_kind kind)
{
	if (l->n == l->size) {
		size_t size = l->size ? 2 * l->size : 16;
		struct inherited *list = reallocarray(l->list, size, sizeof(*list));

		if (!list)
			return -ENOMEM;
		l->list = list;
		l->size = size;
	}
	l->list[l->n++] = (struct inherited){ .number = number, .first = number, .kind = kind };
	return 0;
}

static int add_if_inherited(struct inherit_list *l, int number)
{
	int flags = fcntl(number, F_GETFD);

	return flags < 0 || flags & FD_CLOEXEC ? 0 : add(l, number, INHERIT_PASS);
}

static int by_number(const void *a, const void *b)
{
	return ((const struct inherited *)a)->number - ((const struct inherited *)b)->number;
}

/* Without /proc (a bare chroot) every number is tried. */
static int collect_by_trying(struct inherit_list *l)
{
	struct rlimit limit = { .rlim_cur = 1024 };
	int err = 0;

	getrlimit(RLIMIT_NOFILE, &limit);
	for (int number = 0; !err && (rlim_t)number < limit.rlim_cur; number++)
		err = add_if_inherited(l, number);
	return err;
}

int inherit_collect(struct inherit_list *l)
{
	DIR *dir = opendir("/proc/self/fd");
	const struct dirent *e;
	int err = 0;

	if (!dir)
		return collect_by_trying(l);
	/* The directory's own descriptor is CLOEXEC. */
	while (!err && (e = readdir(dir)))
		if (isdigit((unsigned char)*e->d_name))
			err = add_if_inherited(l, atoi(e->d_name));
	closedir(dir);
	if (!err && l->n)
		qsort(l->list, l->n, sizeof(*l->list), by_number);
	return err;
}

static struct inherited *find(const struct inherit_list *l, int number)
{
	for (size_t i = 0; i < l->n; i++)
		if (l->list[i].number == number)
			return &l->list[i];
	return NULL;
}

bool inherit_drop(struct inherit_list *l, int number)
{
	struct inherited *at = find(l, number);

	if (!at)
		return false;
	l->n--;
	for (; at < l->list + l->n; at++)
		*at = at[1];
	return true;
}

int inherit_as(struct inherit_list *l, int number, enum inherit_kind kind)
{
	struct inherited *at = find(l, number);

	if (!at)
		return add(l, number, kind);
	at->kind = kind;
	return 0;
}

void inherit_keep(struct inherit_list *l, const int *numbers, size_t n)
{
	for (size_t i = l->n; i-- > 0;) {
		int number = l->list[i].number;
		size_t at = 0;

		while (at < n && numbers[at] != number)
			at++;
		if (number > STDERR_FILENO && at == n)
			inherit_drop(l, number);
	}
}

static bool is_decided(const struct inherited *fd)
{
	return fd->kind == INHERIT_NULL || fd->kind == INHERIT_TTY || fd->kind == INHERIT_HELD;
}

/* ---- deciding ---- */

static bool is_listener(int fd, int *type)
{
	int domain = 0, listening = 0;
	socklen_t len = sizeof(int);

	*type = 0;
	if (getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &len) || domain != AF_UNIX)
		return false;
	getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listening, &len);
	getsockopt(fd, SOL_SOCKET, SO_TYPE, type, &len);
	return listening;
}

/* null, zero, full, random and urandom are the same device everywhere. */
static bool is_common_device(const struct stat *st)
{
	unsigned n = minor(st->st_rdev);

	return major(st->st_rdev) == 1 && (n == 3 || n == 5 || n == 7 || n == 8 || n == 9);
}

/* Which way a relayed descriptor goes; terminals are mostly open for both, so the standard
 * ones go by their number. -EINVAL: cannot be told. */
static int direction(int number, int flags)
{
	if (number == STDIN_FILENO || (number > STDERR_FILENO && (flags & O_ACCMODE) == O_RDONLY))
		return INHERIT_RELAY_IN;
	if (number <= STDERR_FILENO || (flags & O_ACCMODE) == O_WRONLY)
		return INHERIT_RELAY_OUT;
	return -EINVAL;
}

/* What needs no question. */
static bool surely_crosses(const struct stat *st, int flags)
{
	if (flags & O_PATH)
		return false;
	return S_ISFIFO(st->st_mode) ? (flags & O_ACCMODE) != O_RDWR
				     : S_ISCHR(st->st_mode) && is_common_device(st);
}

static const char *kind_name(const struct stat *st, int fd)
{
	if (fcntl(fd, F_GETFL) & O_PATH)
		return "a mere path (O_PATH)";
	switch (st->st_mode & S_IFMT) {
	case S_IFREG:
		return "a file open for reading and writing";
	case S_IFDIR:
		return "a directory";
	case S_IFBLK:
		return "a block device";
	case S_IFCHR:
		return isatty(fd) ? "a terminal open for reading and writing" : "a device";
	case S_IFSOCK:
		return "a socket";
	case S_IFIFO:
		return "a FIFO";
	default:
		return "an object of the kernel";
	}
}

static int refuse(int number, const struct stat *st, const char *why, char *reason)
{
	snprintf(reason, INHERIT_REASON_MAX,
		 "descriptor %d is %s and cannot cross%s%.256s; --drop-fd %d keeps it back", number,
		 kind_name(st, number), *why ? ": " : "", why, number);
	return -EOPNOTSUPP;
}

/* Of a copy nothing is taken ahead of the program, as of what goes through a pipe, and it can seek
 * in it. What has no size is made up while it is read (/proc). */
static bool copies(const struct stat *st, int err)
{
	return err == -EXDEV && S_ISREG(st->st_mode) && st->st_size > 0 &&
	       st->st_size <= INHERIT_COPY_MAX;
}

static int classify(struct inherited *fd, bool local, char *reason)
{
	char why[INHERIT_REASON_MAX] = "";
	struct stat st;
	int flags, to;

	if (is_decided(fd))
		return 0;
	flags = fcntl(fd->number, F_GETFL);
	if (flags < 0 || fstat(fd->number, &st))
		return -errno;
	if (is_listener(fd->number, &fd->socktype)) {
		fd->kind = INHERIT_LISTENER;
		return 0;
	}
	if (surely_crosses(&st, flags))
		return 0;
	if (!isatty(fd->number)) {
		int err = local ? 0 : proxyclient_crosses(fd->number, why, sizeof(why));

		if (!err || copies(&st, err))
			return 0;
	}
	to = (S_ISREG(st.st_mode) && !(flags & O_PATH)) || isatty(fd->number)
		     ? direction(fd->number, flags)
		     : -EINVAL;
	if (to < 0)
		return refuse(fd->number, &st, why, reason);
	fd->kind = (enum inherit_kind)to;
	return 0;
}

static bool same_file(int a, int b)
{
	long differ = syscall(SYS_kcmp, getpid(), getpid(), KCMP_FILE, a, b);
	struct stat sa, sb;

	if (differ >= 0)
		return differ == 0;
	/* A kernel without kcmp(2): as near as can be. */
	return !fstat(a, &sa) && !fstat(b, &sb) && sa.st_dev == sb.st_dev &&
	       sa.st_ino == sb.st_ino && fcntl(a, F_GETFL) == fcntl(b, F_GETFL);
}

static void find_equal(const struct inherit_list *l, struct inherited *fd)
{
	for (const struct inherited *at = l->list; at < fd; at++) {
		if (at->kind != fd->kind || at->first != at->number || is_decided(fd) ||
		    !same_file(at->number, fd->number))
			continue;
		fd->first = at->number;
		return;
	}
}

int inherit_classify(struct inherit_list *l, bool local, char *reason)
{
	int err = 0;

	for (size_t i = 0; !err && i < l->n; i++) {
		err = classify(&l->list[i], local, reason);
		find_equal(l, &l->list[i]);
	}
	return err;
}
