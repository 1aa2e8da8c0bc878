/* SPDX-License-Identifier: Apache-2.0 */
#include "sessiondir.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "log.h"
#include "util.h"

#define BACKLOG 128
#define REMOVE_DEPTH_MAX 16
#define KEEPER_NAME_SIZE (REQUEST_ID_SIZE + sizeof(REXEC_KEEPER_FORMAT))

static int open_dir(int at, const char *name)
{
	int fd = openat(at, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

	return fd < 0 ? -errno : fd;
}

int sessiondir_make(struct sessiondir *d, int parent, const char *runtime, const char *id,
		    uid_t uid, gid_t gid)
{
	int n = snprintf(d->path, sizeof(d->path), "%s/" REXEC_SESSIONS "/%s", runtime, id);

	d->parent = parent;
	d->uid = uid;
	d->gid = gid;
	if (n < 0 || (size_t)n >= sizeof(d->path))
		return -ENAMETOOLONG;
	if (mkdirat(parent, id, 0700))
		return -errno;
	memcpy(d->id, id, sizeof(d->id));
	d->fd = open_dir(parent, id);
	if (d->fd < 0 || fchmod(d->fd, 0700)) {
		int err = d->fd < 0 ? d->fd : -errno;

		sessiondir_remove(d);
		return err;
	}
	return 0;
}

int sessiondir_give(const struct sessiondir *d)
{
	return fchown(d->fd, d->uid, d->gid) ? -errno : 0;
}

int sessiondir_write(const struct sessiondir *d, const struct request_file *file)
{
	_cleanup_close_ int fd = openat(d->fd, file->name,
					O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	size_t done = 0;

	if (fd < 0 || fchown(fd, d->uid, d->gid) || fchmod(fd, 0600))
		return -errno;
	while (done < file->size) {
		ssize_t n = write(fd, (const char *)file->data + done, file->size - done);

		if (n < 0 && errno != EINTR)
			return -errno;
		done += n > 0 ? (size_t)n : 0;
	}
	return 0;
}

/* At @path, which is @name in @dir, to be owned by @uid and @gid. */
static int listen_at(const char *path, int dir, const char *name, int socktype, uid_t uid, gid_t gid)
{
	_cleanup_close_ int fd = socket(AF_UNIX, socktype | SOCK_CLOEXEC, 0);
	struct sockaddr_un to = { .sun_family = AF_UNIX };

	if (fd < 0)
		return -errno;
	if (strlen(path) >= sizeof(to.sun_path))
		return -ENAMETOOLONG;
	strcpy(to.sun_path, path);
	if (bind(fd, (const struct sockaddr *)&to, sizeof(to)))
		return -errno;
	if (fchownat(dir, name, uid, gid, AT_SYMLINK_NOFOLLOW) || fchmodat(dir, name, 0600, 0) ||
	    listen(fd, BACKLOG))
		return -errno;
	return take_fd(&fd);
}

int sessiondir_listen(const struct sessiondir *d, const char *name, int socktype)
{
	char path[sizeof(d->path) + REQUEST_NAME_MAX];

	/* By its real name: it is what getsockname(2) tells the program, which may unlink it. */
	snprintf(path, sizeof(path), "%s/%s", d->path, name);
	return listen_at(path, d->fd, name, socktype, d->uid, d->gid);
}

static void name_keeper(char name[KEEPER_NAME_SIZE], const char *id)
{
	snprintf(name, KEEPER_NAME_SIZE, REXEC_KEEPER_FORMAT, id);
}

int sessiondir_listen_beside(const struct sessiondir *d, uid_t client)
{
	char name[KEEPER_NAME_SIZE], path[sizeof(d->path) + KEEPER_NAME_SIZE];

	name_keeper(name, d->id);
	snprintf(path, sizeof(path), REXEC_KEEPER_FORMAT, d->path);
	return listen_at(path, d->parent, name, SOCK_STREAM, client, (gid_t)-1);
}

/* The whole path may be too long for a socket's: go by descriptor. */
static int connect_to(int sock, int dir, const char *name)
{
	struct sockaddr_un to = { .sun_family = AF_UNIX };

	snprintf(to.sun_path, sizeof(to.sun_path), "/proc/self/fd/%d/%s", dir, name);
	return connect(sock, (const struct sockaddr *)&to, sizeof(to)) ? -errno : 0;
}

int sessiondir_connect(int sock, int parent, const char *id)
{
	char name[KEEPER_NAME_SIZE];

	name_keeper(name, id);
	return connect_to(sock, parent, name);
}

static void remove_content(int fd, int depth)
{
	_cleanup_close_ int copy = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	const struct dirent *e;
	DIR *dir = copy < 0 || depth > REMOVE_DEPTH_MAX ? NULL : fdopendir(copy);

	if (!dir)
		return;
	take_fd(&copy);
	while ((e = readdir(dir))) {
		_cleanup_close_ int sub = -1;

		if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, ".."))
			continue;
		if (!unlinkat(fd, e->d_name, 0))
			continue;
		sub = open_dir(fd, e->d_name);
		if (sub < 0)
			continue;
		remove_content(sub, depth + 1);
		unlinkat(fd, e->d_name, AT_REMOVEDIR);
	}
	closedir(dir);
}

void sessiondir_remove(struct sessiondir *d)
{
	char keeper[KEEPER_NAME_SIZE];

	name_keeper(keeper, d->id);
	if (*d->id)
		unlinkat(d->parent, keeper, 0);
	if (d->fd >= 0)
		remove_content(d->fd, 0);
	replace_fd(&d->fd, -1);
	if (*d->id && unlinkat(d->parent, d->id, AT_REMOVEDIR) && errno != ENOENT)
		log_warning("session %s: its directory cannot be removed: %s", d->id,
			    strerrordesc_np(errno));
	*d->id = '\0';
}

static bool keeper_lives(const struct sessiondir *d)
{
	_cleanup_close_ int sock = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	int err = sock < 0 ? 0 : sessiondir_connect(sock, d->parent, d->id);

	/* Those that were started before an upgrade listen in the directory, as request version 2 had it. */
	if (err == -ENOENT)
		err = connect_to(sock, d->fd, "keeper.sock");
	return err != -ECONNREFUSED && err != -ENOENT;
}

void sessiondir_sweep(int parent)
{
	int copy = open_dir(parent, ".");
	const struct dirent *e;
	DIR *dir = copy < 0 ? NULL : fdopendir(copy);

	if (!dir) {
		close_keep_errno(copy);
		return;
	}
	while ((e = readdir(dir))) {
		struct sessiondir d = { .parent = parent };

		if (strlen(e->d_name) != REQUEST_ID_SIZE - 1)
			continue;
		d.fd = open_dir(parent, e->d_name);
		if (d.fd < 0)
			continue;
		memcpy(d.id, e->d_name, sizeof(d.id));
		if (keeper_lives(&d)) {
			close(d.fd);
			continue;
		}
		log_info("session %s: removed what a dead keeper left behind", d.id);
		sessiondir_remove(&d);
	}
	closedir(dir);
}
