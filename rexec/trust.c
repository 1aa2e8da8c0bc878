/* SPDX-License-Identifier: Apache-2.0 */
#include "trust.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define LINKS_MAX 40 /* as the kernel's */

struct walk {
	char done[PATH_MAX]; /* the way so far, without links or a slash at its end: "" is / */
	char rest[PATH_MAX]; /* what is to come */
	int links;
};

bool trust_stat(const char *path, const struct stat *st, char *reason, size_t size)
{
	/* Who owns a link does not matter, who owns its directory does; and it has no mode. */
	if (S_ISLNK(st->st_mode) ||
	    ((!st->st_uid || st->st_uid == geteuid()) && !(st->st_mode & 022)))
		return true;
	snprintf(reason, size,
		 "%.300s can be changed by others than root (owner %u, mode %04o): chown root, "
		 "chmod go-w",
		 path, st->st_uid, st->st_mode & 07777u);
	return false;
}

/* Puts what the link at @w->done, whose directory is @parent bytes of that, says before the rest.
 */
static bool follow(struct walk *w, size_t parent)
{
	char target[PATH_MAX], rest[PATH_MAX];
	ssize_t n = readlink(w->done, target, sizeof(target) - 1);
	int len;

	if (n <= 0 || ++w->links > LINKS_MAX) {
		errno = n < 0 ? errno : ELOOP;
		return false;
	}
	target[n] = '\0';
	w->done[*target == '/' ? 0 : parent] = '\0';
	len = snprintf(rest, sizeof(rest), "%s/%s", target, w->rest);
	if (len < 0 || (size_t)len >= sizeof(rest)) {
		errno = ENAMETOOLONG;
		return false;
	}
	memcpy(w->rest, rest, (size_t)len + 1);
	return true;
}

/* Takes the next component of the rest; false with errno, or with 0 and a @reason. */
static bool step(struct walk *w, char *reason, size_t size)
{
	size_t parent = strlen(w->done), len = strcspn(w->rest, "/");
	struct stat st;

	if (len == 2 && !memcmp(w->rest, "..", 2)) {
		w->done[parent ? (size_t)(strrchr(w->done, '/') - w->done) : 0] = '\0';
	} else if (len && !(len == 1 && *w->rest == '.')) {
		if (parent + 1 + len >= sizeof(w->done)) {
			errno = ENAMETOOLONG;
			return false;
		}
		w->done[parent] = '/';
		memcpy(w->done + parent + 1, w->rest, len);
		w->done[parent + 1 + len] = '\0';
	}
	memmove(w->rest, w->rest + len, strlen(w->rest + len) + 1);
	memmove(w->rest, w->rest + strspn(w->rest, "/"),
		strlen(w->rest + strspn(w->rest, "/")) + 1);
	if (lstat(*w->done ? w->done : "/", &st))
		return false;
	if (!trust_stat(*w->done ? w->done : "/", &st, reason, size)) {
		errno = 0;
		return false;
	}
	return !S_ISLNK(st.st_mode) || follow(w, parent);
}

bool trust_path(const char *path, char *reason, size_t size)
{
	struct walk w = { .links = 0 };
	bool trusted = true;
	int len = snprintf(w.rest, sizeof(w.rest), "/%s", path);

	errno = len < 0 || (size_t)len >= sizeof(w.rest) ? ENAMETOOLONG : 0;
	if (errno)
		trusted = false;
	while (trusted && *w.rest)
		trusted = step(&w, reason, size);
	if (!trusted && errno)
		snprintf(reason, size, "%.300s: %s", path, strerrordesc_np(errno));
	return trusted;
}
