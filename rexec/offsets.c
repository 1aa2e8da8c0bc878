/* SPDX-License-Identifier: Apache-2.0 */
#include "offsets.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "util.h"

/* Without memory or descriptors for it a file stays unwatched. */
static void watch(struct offsets *o, int fd, int place)
{
	struct offset *file = reallocarray(o->file, (size_t)o->n + 1, sizeof(*file));

	if (!file)
		return;
	o->file = file;
	fd = fcntl(fd, F_DUPFD_CLOEXEC, 3);
	if (fd >= 0)
		file[o->n++] = (struct offset){ .fd = fd,
						.place = (uint16_t)place,
						.at = lseek(fd, 0, SEEK_CUR) };
}

void offsets_watch(struct offsets *o, const struct fdset *passed)
{
	struct stat st;

	for (int i = 0; i < passed->n; i++)
		if (passed->fd[i] >= 0 && !fstat(passed->fd[i], &st) && S_ISREG(st.st_mode))
			watch(o, passed->fd[i], i);
}

static void let_go(struct offsets *o)
{
	for (int i = 0; i < o->n; i++)
		replace_fd(&o->file[i].fd, -1);
}

void offsets_note(struct offsets *o)
{
	for (int i = 0; i < o->n; i++) {
		off_t at = o->file[i].fd < 0 ? -1 : lseek(o->file[i].fd, 0, SEEK_CUR);

		if (at < 0 || at == o->file[i].at)
			continue;
		o->file[i].at = at;
		o->file[i].moved = true;
	}
	/* Its locks and its space are the program's, not ours to hold. */
	let_go(o);
}

void offsets_put(const struct offsets *o, struct buf *b)
{
	for (int i = 0; i < o->n; i++) {
		if (!o->file[i].moved)
			continue;
		buf_put_u16(b, o->file[i].place);
		buf_put_u64(b, (uint64_t)o->file[i].at);
	}
}

void offsets_set(struct offsets *o, struct buf *b)
{
	while (buf_left(b)) {
		uint16_t place = buf_get_u16(b);
		uint64_t at = buf_get_u64(b);

		for (int i = 0; i < o->n && !b->bad; i++)
			if (o->file[i].place == place && o->file[i].fd >= 0)
				lseek(o->file[i].fd, (off_t)at, SEEK_SET);
	}
}

void offsets_forget(struct offsets *o)
{
	let_go(o);
	free(o->file);
	*o = (struct offsets){ 0 };
}
