/* SPDX-License-Identifier: Apache-2.0 */
#include "edit.h"

#include <fcntl.h>
#include <libgen.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>

#include "listfile.h"
#include "util.h"

#define LOCK_RETRY_MS 10

static int say(char *err, const char *what, const char *name, int rc)
{
	snprintf(err, LISTFILE_ERROR_MAX, "cannot %s %s: %s%s", what, name, strerror(-rc),
		 (rc == -EACCES || rc == -EPERM) && geteuid() != 0 ? ": run qtcfg as root" : "");
	return rc;
}

static int open_dir(const char *name)
{
	const int flags = O_RDONLY | O_DIRECTORY | O_CLOEXEC;
	int fd = open(name, flags);

	if (fd < 0 && errno == ENOENT && (mkdir(name, 0755) == 0 || errno == EEXIST))
		fd = open(name, flags);
	return fd < 0 ? -errno : fd;
}

/* Everybody may lock a directory that they can read, so the wait has an end. */
static int lock_dir(int dir)
{
	const struct timespec pause = { .tv_nsec = LOCK_RETRY_MS * 1000000L };

	for (int waited = 0; flock(dir, LOCK_EX | LOCK_NB) < 0; waited += LOCK_RETRY_MS) {
		if (errno != EWOULDBLOCK)
			return -errno;
		if (waited >= EDIT_LOCK_SECONDS * 1000)
			return -EBUSY;
		nanosleep(&pause, NULL);
	}
	return 0;
}

int edit_begin(struct edit *edit, const char *file, char *err)
{
	int rc;

	edit->file = strdup(file);
	edit->dir_name = strdup(file);
	if (!edit->file || !edit->dir_name)
		return say(err, "edit", file, -ENOMEM);
	dirname(edit->dir_name); /* cuts it in place: it holds a slash */
	edit->dir = open_dir(edit->dir_name);
	if (edit->dir < 0)
		return say(err, "open the directory", edit->dir_name, edit->dir);
	rc = lock_dir(edit->dir);
	return rc < 0 ? say(err, "lock the directory", edit->dir_name, rc) : 0;
}

void edit_end(struct edit *edit)
{
	close_keep_errno(edit->dir);
	free(edit->dir_name);
	free(edit->file);
	*edit = (struct edit)EDIT_NULL;
}

static int write_all(int fd, const char *text, size_t size)
{
	while (size > 0) {
		ssize_t n = write(fd, text, size);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		text += n;
		size -= (size_t)n;
	}
	return 0;
}

/* Make @fd the equal of the file that it will replace. */
static int copy_owner_and_mode(int fd, const char *file, mode_t mode)
{
	struct stat st;

	if (lstat(file, &st) < 0)
		return errno == ENOENT && fchmod(fd, mode) == 0 ? 0 : -errno;
	/* Owner first: a change of owner may clear mode bits. */
	if ((st.st_uid != geteuid() || st.st_gid != getegid()) &&
	    fchown(fd, st.st_uid, st.st_gid) < 0)
		return -errno;
	return fchmod(fd, st.st_mode & 07777) < 0 ? -errno : 0;
}

static int write_new(const struct edit *edit, const char *new_file, const char *text, size_t size,
		     mode_t mode)
{
	_cleanup_close_ int fd = -1;
	int rc;

	fd = open(new_file, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0)
		return -errno;
	rc = write_all(fd, text, size);
	if (rc == 0)
		rc = copy_owner_and_mode(fd, edit->file, mode);
	if (rc == 0 && fsync(fd) < 0)
		rc = -errno;
	return rc;
}

int edit_save(const struct edit *edit, const char *text, size_t size, mode_t mode, char *err)
{
	_cleanup_free_ char *new_file = NULL;
	int rc;

	if (asprintf(&new_file, "%s.qtcfg~", edit->file) < 0) {
		new_file = NULL;
		return say(err, "write", edit->file, -ENOMEM);
	}
	unlink(new_file); /* left by a qtcfg that was killed: the lock is ours */
	rc = write_new(edit, new_file, text, size, mode);
	if (rc == 0 && rename(new_file, edit->file) < 0)
		rc = -errno;
	if (rc == 0 && fsync(edit->dir) < 0)
		rc = -errno;
	if (rc < 0)
		unlink(new_file);
	return rc < 0 ? say(err, "write", edit->file, rc) : 0;
}
