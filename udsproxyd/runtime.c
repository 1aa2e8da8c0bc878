/* SPDX-License-Identifier: Apache-2.0 */
#include "runtime.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "log.h"
#include "proxyreq.h"
#include "util.h"
#include "worker.h"

#define PATH_SIZE 108
#define BACKLOG 4096
#define DIGITS (2 * WIRE_ID_SIZE)

static const char *const entries[] = { PROXYREQ_SOCKET, PROXYREQ_CONTROL };

static void join(char *path, const char *dir, const char *name)
{
	snprintf(path, PATH_SIZE, "%s/%s", dir, name);
}

static void make_dir(const char *path, mode_t mode)
{
	if ((mkdir(path, mode) && errno != EEXIST) || chmod(path, mode))
		die("cannot make the directory %s: %m", path);
}

static int remove_leftover(const char *path, const struct stat *st, int type, struct FTW *at)
{
	(void)st;
	(void)type;
	if (at->level && remove(path))
		log_debug("%s: %m", path);
	return 0;
}

/* Of a run that was killed: a socket that was to bear a peer's name may lie below directories. */
static void empty_dir(const char *dir, const char *name)
{
	char path[PATH_SIZE];

	join(path, dir, name);
	nftw(path, remove_leftover, 8, FTW_DEPTH | FTW_MOUNT | FTW_PHYS);
}

static int take_lock(const char *dir)
{
	char path[PATH_SIZE], pid[16] = "";
	struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
	int fd;

	join(path, dir, "lock");
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0644);
	if (fd < 0)
		die("cannot open %s: %m", path);
	/* Not ours alone to the descriptor: an open-file lock, which no close(2) elsewhere drops. */
	if (fcntl(fd, F_OFD_SETLK, &lock)) {
		ssize_t n = pread(fd, pid, sizeof(pid) - 1, 0);

		pid[n > 0 ? strcspn(pid, "\n") : 0] = '\0';
		die("udsproxyd runs already in %s, as process %s; stop it, or give --runtime-dir", dir,
		    *pid ? pid : "(unknown)");
	}
	if (ftruncate(fd, 0) || dprintf(fd, "%d\n", (int)getpid()) < 0)
		die("cannot write %s: %m", path);
	return fd;
}

int runtime_open(const char *dir)
{
	char path[PATH_SIZE];
	int lock;

	/* The longest names are runtime_fresh()'s. */
	if (strlen(dir) + sizeof("/names/") + DIGITS > PATH_SIZE)
		die("--runtime-dir %s: too long, %zu bytes at most", dir,
		    PATH_SIZE - DIGITS - sizeof("/names/"));
	make_dir(dir, 0755);
	lock = take_lock(dir);
	join(path, dir, "once");
	make_dir(path, 0711);
	join(path, dir, "twins");
	make_dir(path, 0711);
	join(path, dir, "names");
	make_dir(path, 0700);
	empty_dir(dir, "once");
	empty_dir(dir, "names");
	empty_dir(dir, "twins");
	return lock;
}

int runtime_listen(const char *dir, const char *name, unsigned mode)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	char path[PATH_SIZE];
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	join(path, dir, name);
	memcpy(sa.sun_path, path, strlen(path));
	unlink(path);
	if (fd < 0 || bind(fd, (struct sockaddr *)&sa, sizeof(sa)) || chmod(path, mode) ||
	    listen(fd, BACKLOG))
		die("cannot listen on %s: %m", path);
	return fd;
}

void runtime_fresh(const char *dir, const char *sub, struct sockaddr_un *to)
{
	struct frame_id id;
	size_t n;

	worker_random_id(&id);
	*to = (struct sockaddr_un){ .sun_family = AF_UNIX };
	n = (size_t)snprintf(to->sun_path, sizeof(to->sun_path) - DIGITS, "%s/%s/", dir, sub);
	for (size_t i = 0; i < sizeof(id.bytes); i++)
		snprintf(to->sun_path + n + 2 * i, 3, "%02x", id.bytes[i]);
}

void runtime_close(const char *dir, int lock)
{
	char path[PATH_SIZE];

	for (size_t i = 0; i < ARRAY_LEN(entries); i++) {
		join(path, dir, entries[i]);
		unlink(path);
	}
	empty_dir(dir, "once");
	empty_dir(dir, "names");
	empty_dir(dir, "twins");
	close(lock); /* the file stays: removing a lock lets two have it */
}
