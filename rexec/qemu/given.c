/* SPDX-License-Identifier: Apache-2.0 */
#include "given.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/kcmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include "locked.h"
#include "util.h"

int given_list(struct given *in)
{
	DIR *dir = opendir("/proc/self/fd");
	const struct dirent *entry;
	int ret = 0, *grown, fd;

	*in = (struct given){ 0 };
	if (!dir)
		return -errno;
	while (!ret && (entry = readdir(dir))) {
		fd = (int)strtol(entry->d_name, NULL, 10);
		if (*entry->d_name == '.' || fd == dirfd(dir))
			continue;
		grown = realloc(in->numbers, (in->n + 1) * sizeof(*grown));
		if (!grown) {
			ret = -ENOMEM;
			break;
		}
		in->numbers = grown;
		in->numbers[in->n++] = fd;
	}
	closedir(dir);
	return ret;
}

static bool is_listener(int fd, int *type)
{
	struct sockaddr_un name;
	socklen_t len = sizeof(name), size = sizeof(int);
	int listening = 0;

	if (getsockname(fd, (struct sockaddr *)&name, &len) || name.sun_family != AF_UNIX ||
	    getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listening, &size) || !listening)
		return false;
	size = sizeof(*type);
	return !getsockopt(fd, SOL_SOCKET, SO_TYPE, type, &size);
}

static const char *describe(int fd, char *name, size_t size)
{
	char path[64];
	ssize_t n;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	n = readlink(path, name, size - 1);
	name[n < 0 ? 0 : n] = '\0';
	return name;
}

/* Are these duplicates of one open file? Where the kernel does not tell (no kcmp(2)), the same
 * pipe, socket or device open in the same way is taken for one; that makes no difference. */
static bool same_file(int a, int b)
{
	long ret = syscall(SYS_kcmp, getpid(), getpid(), KCMP_FILE, a, b);
	struct stat sa, sb;

	if (ret >= 0)
		return ret == 0;
	return !fstat(a, &sa) && !fstat(b, &sb) && !S_ISREG(sa.st_mode) && sa.st_dev == sb.st_dev &&
	       sa.st_ino == sb.st_ino && fcntl(a, F_GETFL) == fcntl(b, F_GETFL);
}

/* The entry of an earlier descriptor that @fd duplicates, or -1. A terminal as 0 and as 1 makes
 * two: one is read, the other written. */
static int earlier(const struct given *in, int fd)
{
	for (size_t i = 0; i < in->n_fds; i++)
		if (in->fds[i].kind == SESSION_FD_PASS && !in->fds[i].number == !fd &&
		    same_file(in->fds[i].number, fd))
			return (int)i;
	return -1;
}

static enum cross_use use_of(int number)
{
	if (number > 2)
		return CROSS_UNKNOWN;
	return number ? CROSS_OUTPUT : CROSS_INPUT;
}

static int prepare_passed(struct given *in, struct session_fd *f, int *prepared,
			  struct crossing *crossing, char *why, size_t size)
{
	char reason[256], name[128];
	int same = earlier(in, f->number);

	if (same >= 0) {
		f->fd = in->fds[same].fd;
		return 0;
	}
	f->fd = cross_prepare(crossing, f->number, use_of(f->number), reason, sizeof(reason));
	if (f->fd < 0) {
		snprintf(why, size, "descriptor %d (%s) cannot be passed to the HOST: %s",
			 f->number, describe(f->number, name, sizeof(name)), reason);
		return f->fd;
	}
	*prepared = f->fd;
	return 0;
}

int given_prepare(struct given *in, struct crossing *crossing, struct outlets *outlets,
		  const struct argv_plan *plan, char *why, size_t size)
{
	int ret = 0;

	in->fds = calloc(in->n + 1, sizeof(*in->fds));
	in->prepared = malloc((in->n + 1) * sizeof(*in->prepared));
	if (!in->fds || !in->prepared)
		return -ENOMEM;
	for (size_t i = 0; i < in->n && !ret; i++) {
		struct session_fd f = { .number = in->numbers[i], .fd = -1 };
		int *prepared = &in->prepared[in->n_fds];

		*prepared = -1;
		if (locked_by_us(f.number))
			continue;
		if (is_listener(f.number, &f.socktype)) {
			f.kind = SESSION_FD_LISTENER;
			ret = outlet_inherited(outlets, f.number, f.number,
					       argv_is_monitor(plan, f.number) ? ARGV_MONITOR
									       : ARGV_DEVICE);
		} else {
			f.kind = SESSION_FD_PASS;
			ret = prepare_passed(in, &f, prepared, crossing, why, size);
		}
		if (!ret)
			in->fds[in->n_fds++] = f;
	}
	return ret;
}

void given_release(struct given *in)
{
	_cleanup_close_ int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	for (size_t i = 0; null >= 0 && i < in->n_fds; i++)
		if (in->prepared[i] >= 0)
			dup3(null, in->prepared[i], O_CLOEXEC);
}
