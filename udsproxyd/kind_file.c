/* SPDX-License-Identifier: Apache-2.0 */
#include "kind.h"

#include <errno.h>
#include <fcntl.h>

#include "share.h"
#include "util.h"

int kind_look_file(const struct config *c, int fd, struct item *item)
{
	off_t offset = lseek(fd, 0, SEEK_CUR);
	char path[WIRE_PATH_MAX];

	if (share_peer_path(c, fd, path, sizeof(path)))
		return -EXDEV;
	item->d.kind = WIRE_FD_FILE;
	item->d.offset = offset < 0 ? 0 : (uint64_t)offset;
	kind_set_name(item, path);
	return 0;
}

int kind_fetch_file(struct fetching *f, const struct description *d, int from)
{
	char path[WIRE_PATH_MAX];
	_cleanup_close_ int fd = -1;

	(void)from;
	kind_name_string(d, path);
	fd = share_open(f->config, path, description_local_flags(d->flags) | O_NOCTTY);
	if (fd < 0)
		return fd;
	/* A directory's offset means nothing elsewhere. */
	if (d->offset && !(d->flags & WIRE_O_DIRECTORY) &&
	    lseek(fd, (off_t)d->offset, SEEK_SET) < 0)
		return -errno;
	return take_fd(&fd);
}
