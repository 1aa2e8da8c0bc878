/* SPDX-License-Identifier: Apache-2.0 */
#include "aside.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include <linux/openat2.h>

#include "util.h"

struct job {
	struct worker *worker; /* NULL: nobody waits */
	void (*work)(void *arg);
	void (*done)(struct worker *w, void *arg);
	void *arg;
};

static atomic_int running;

static void *run(void *arg)
{
	struct job *job = arg;

	job->work(job->arg);
	if (job->worker && worker_post(job->worker, job->done, job->arg))
		log_error("out of memory: a connection hangs");
	free(job);
	atomic_fetch_sub(&running, 1);
	return NULL;
}

static int start(const struct job *template)
{
	struct job *job = malloc(sizeof(*job));
	pthread_attr_t attr;
	pthread_t thread;
	int err;

	if (!job)
		return -ENOMEM;
	*job = *template;
	pthread_attr_init(&attr);
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	atomic_fetch_add(&running, 1);
	err = pthread_create(&thread, &attr, run, job);
	pthread_attr_destroy(&attr);
	if (err) {
		atomic_fetch_sub(&running, 1);
		free(job);
	}
	return -err;
}

int aside_run(struct worker *w, void (*work)(void *arg), void (*done)(struct worker *w, void *arg),
	      void *arg)
{
	return start(&(struct job){ .worker = w, .work = work, .done = done, .arg = arg });
}

static void close_file(void *arg)
{
	close((int)(intptr_t)arg);
}

void aside_close(int fd)
{
	struct statx st;
	bool harmless;

	if (fd < 0)
		return;
	/* A stranger's FUSE does not even say what it is (EACCES): it may be a file, and its close
	 * may take as long as the stranger likes. What can have seals is memory. */
	harmless = !statx(fd, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC, STATX_TYPE, &st) &&
		   (!S_ISREG(st.stx_mode) || fcntl(fd, F_GET_SEALS) >= 0);
	if (harmless || start(&(struct job){ .work = close_file, .arg = (void *)(intptr_t)fd }))
		close_keep_errno(fd);
}

void aside_close_set(struct fdset *set)
{
	for (int i = 0; i < set->n; i++)
		aside_close(fdset_take(set, i));
	set->n = 0;
}

/*
 * Without openat2(2): kernels before 5.6, valgrind (ENOSYS), seccomp filters (any errno). The same
 * by steps, none of which follows a link or leaves for the parent.
 */
static bool has_openat2;

static void look_for_openat2(void)
{
	struct open_how how = { .flags = O_PATH | O_CLOEXEC };
	int fd = (int)syscall(SYS_openat2, AT_FDCWD, "/", &how, sizeof(how));

	has_openat2 = fd >= 0;
	if (!has_openat2)
		log_info("no openat2(2) here (%m): every name is opened aside");
	close_keep_errno(fd);
}

static int open_beneath_by_steps(int dir, const char *path, int flags)
{
	_cleanup_close_ int at = -1;
	struct stat st;

	for (;;) {
		size_t n = strcspn(path, "/"), rest = n + strspn(path + n, "/");
		bool last = !path[rest];
		char name[NAME_MAX + 1];
		int fd;

		if (n > NAME_MAX)
			return -ENAMETOOLONG;
		memcpy(name, path, n);
		name[n] = '\0';
		if (!n || !strcmp(name, ".."))
			return -EXDEV;
		/* What ends with a slash is a directory. */
		fd = openat(at >= 0 ? at : dir, name,
			    (last ? flags | (rest > n ? O_DIRECTORY : 0) : O_PATH) | O_NOFOLLOW |
				    O_CLOEXEC);
		if (fd < 0)
			return -errno;
		if (at >= 0)
			close(at);
		at = fd;
		if (fstat(at, &st))
			return -errno;
		if (S_ISLNK(st.st_mode))
			return -ELOOP;
		if (last)
			return take_fd(&at);
		path += rest;
	}
}

static int open_resolving(int dir, const char *path, int flags, uint64_t resolve)
{
	/* openat2 refuses what O_PATH would only ignore. */
	int more = flags & O_PATH ? O_CLOEXEC : O_CLOEXEC | O_NOCTTY;
	struct open_how how = { .flags = (uint64_t)(flags | more), .resolve = resolve };
	static pthread_once_t looked = PTHREAD_ONCE_INIT;
	long fd;

	pthread_once(&looked, look_for_openat2);
	if (has_openat2) {
		fd = syscall(SYS_openat2, dir, path, &how, sizeof(how));
		return fd < 0 ? -errno : (int)fd;
	}
	if (resolve & RESOLVE_CACHED)
		return -EAGAIN;
	if (resolve & RESOLVE_BENEATH)
		return open_beneath_by_steps(dir, path, flags | more);
	fd = openat(dir, path, flags | more);
	return fd < 0 ? -errno : (int)fd;
}

int aside_open(const char *path, int flags, bool cached)
{
	return open_resolving(AT_FDCWD, path, flags, cached ? RESOLVE_CACHED : 0);
}

int aside_open_beneath(int dir, const char *path, int flags, bool cached)
{
	return open_resolving(dir, path, flags,
			      RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS |
				      (cached ? RESOLVE_CACHED : 0));
}

bool aside_busy(void)
{
	return atomic_load(&running) > 0;
}
