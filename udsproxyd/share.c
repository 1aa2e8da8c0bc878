/* SPDX-License-Identifier: Apache-2.0 */
#include "share.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "aside.h"
#include "util.h"
#include "wire.h"

/* A place: a file system, and a path within it whatever part of it is mounted where. */
struct place {
	dev_t dev;
	char path[WIRE_PATH_MAX];
};

/* What of @path lies below @dir ("" for itself), or NULL. Both without trailing slashes. */
static const char *below(const char *path, const char *dir)
{
	size_t n = strlen(dir);

	while (n && dir[n - 1] == '/')
		n--;
	if (strncmp(path, dir, n) || (path[n] && path[n] != '/'))
		return NULL;
	return path[n] ? path + n + 1 : path + n;
}

/* mountinfo writes a blank, tab, newline and backslash as \ooo. */
static void unescape(char *s)
{
	char *to = s;

	for (; *s; s++, to++) {
		if (s[0] == '\\' && s[1] >= '0' && s[1] <= '3' && s[2] && s[3]) {
			*to = (char)((s[1] - '0') << 6 | (s[2] - '0') << 3 | (s[3] - '0'));
			s += 3;
		} else {
			*to = *s;
		}
	}
	*to = '\0';
}

/* File system, root (within it) and mount point of mount @id. Not stat's device: overlayfs and btrfs
 * have several. */
static bool find_mount(uint64_t id, dev_t *dev, char *root, char *point)
{
	FILE *f = fopen("/proc/self/mountinfo", "re");
	unsigned long long this;
	unsigned major, minor;
	bool found = false;
	char *line = NULL;
	size_t size = 0;

	while (f && !found && getline(&line, &size, f) > 0)
		found = sscanf(line, "%llu %*s %u:%u %4095s %4095s", &this, &major, &minor, root,
			       point) == 5 &&
			this == id;
	free(line);
	if (f)
		fclose(f);
	if (!found)
		return false;
	*dev = makedev(major, minor);
	unescape(root);
	unescape(point);
	return true;
}

static int locate(int fd, struct place *place)
{
	char link[32], path[WIRE_PATH_MAX], root[WIRE_PATH_MAX], point[WIRE_PATH_MAX];
	const char *rest;
	struct statx stx;
	ssize_t n;

	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	n = readlink(link, path, sizeof(path) - 1);
	/* Nothing here may ask a network file system: it may be served through this very thread, as
	 * sshfs over rexec is. */
	if (n < 0 || statx(fd, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC, STATX_MNT_ID | STATX_NLINK, &stx))
		return -errno;
	path[n] = '\0';
	if (!stx.stx_nlink || !find_mount(stx.stx_mnt_id, &place->dev, root, point))
		return -EXDEV;
	rest = below(path, point);
	if (!rest)
		return -EXDEV;
	n = snprintf(place->path, sizeof(place->path), "%s/%s", strcmp(root, "/") ? root : "", rest);
	return n < (ssize_t)sizeof(place->path) ? 0 : -ENAMETOOLONG;
}

int share_peer_path(const struct config *c, int fd, char *path, size_t size)
{
	struct place file, share;
	const char *rest;

	if (!c->n_shares || locate(fd, &file))
		return -EXDEV;
	for (size_t i = 0; i < c->n_shares; i++) {
		_cleanup_close_ int root = open(c->shares[i].local, O_PATH | O_CLOEXEC);

		if (root < 0 || locate(root, &share) || share.dev != file.dev)
			continue;
		rest = below(file.path, share.path);
		if (rest && (size_t)snprintf(path, size, "%s%s%s", c->shares[i].peer, *rest ? "/" : "",
					     rest) < size)
			return 0;
	}
	return -EXDEV;
}

int share_open(const struct config *c, const char *path, int flags)
{
	for (size_t i = 0; i < c->n_shares; i++) {
		const char *rest = below(path, c->shares[i].local);
		_cleanup_close_ int root = -1;

		if (!rest)
			continue;
		root = open(c->shares[i].local, O_PATH | O_CLOEXEC);
		if (root < 0)
			return -errno;
		return aside_open_beneath(root, *rest ? rest : ".", flags, false);
	}
	return -EXDEV;
}
