/* SPDX-License-Identifier: Apache-2.0 */
#include "kind.h"

#include <errno.h>
#include <fcntl.h>

#include "share.h"
#include "util.h"

int kind_look_file(const struct config *c, int fd, struct item *item, char *reason)
{
	off_t offset = lseek(fd, 0, SEEK_CUR);
	char path[WIRE_PATH_MAX];

	if (share_peer_path(c, fd, path, sizeof(path)))
		return kind_refuse(reason, "a file or directory below no share (--share)");
	item->d.kind = WIRE_FD_FILE;
	item->d.offset = offset < 0 ? 0 : (uint64_t)offset;
	kind_set_name(item, path);
	return 0;
}

int kind_fetch_file(const struct config *c, const struct description *d)
{
	char path[WIRE_PATH_MAX];
	_cleanup_close_ int fd = -1;

	kind_name_string(d, path);
	fd = share_open(c, path, description_local_flags(d->flags) | O_NOCTTY);
	if (fd < 0)
		return fd;
	/* A directory's offset means nothing elsewhere. */
	if (d->offset && !(d->flags & WIRE_O_DIRECTORY) &&
	    lseek(fd, (off_t)d->offset, SEEK_SET) < 0)
		return -errno;
	return take_fd(&fd);
}
