/* SPDX-License-Identifier: Apache-2.0 */
#include "description.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "util.h"

static const struct {
	int local;
	uint32_t wire;
} open_flags[] = {
	{ O_APPEND, WIRE_O_APPEND }, { O_NONBLOCK, WIRE_O_NONBLOCK },
	{ O_SYNC, WIRE_O_SYNC },     { O_DSYNC, WIRE_O_DSYNC },
	{ O_DIRECT, WIRE_O_DIRECT }, { O_DIRECTORY, WIRE_O_DIRECTORY },
};

#ifndef F_SEAL_EXEC
#define F_SEAL_EXEC 0x0020 /* Linux 6.3 */
#endif

static const struct {
	int local;
	uint32_t wire;
} seals[] = {
	{ F_SEAL_SEAL, WIRE_SEAL_SEAL }, { F_SEAL_SHRINK, WIRE_SEAL_SHRINK },
	{ F_SEAL_GROW, WIRE_SEAL_GROW }, { F_SEAL_WRITE, WIRE_SEAL_WRITE },
	{ F_SEAL_EXEC, WIRE_SEAL_EXEC }, { F_SEAL_FUTURE_WRITE, WIRE_SEAL_FUTURE_WRITE },
};

uint32_t description_seals(int local)
{
	uint32_t wire = 0;

	for (size_t i = 0; i < ARRAY_LEN(seals); i++)
		if (local & seals[i].local)
			wire |= seals[i].wire;
	return wire;
}

int description_local_seals(uint32_t wire)
{
	int local = 0;

	for (size_t i = 0; i < ARRAY_LEN(seals); i++)
		if (wire & seals[i].wire)
			local |= seals[i].local;
	return local;
}

uint32_t description_flags(int local)
{
	int mode = local & O_ACCMODE;
	uint32_t wire =
		(mode != O_WRONLY ? WIRE_O_READ : 0u) | (mode != O_RDONLY ? WIRE_O_WRITE : 0u);

	for (size_t i = 0; i < ARRAY_LEN(open_flags); i++)
		if ((local & open_flags[i].local) == open_flags[i].local)
			wire |= open_flags[i].wire;
	return wire;
}

int description_local_flags(uint32_t flags)
{
	int local = !(flags & WIRE_O_WRITE) ? O_RDONLY : flags & WIRE_O_READ ? O_RDWR : O_WRONLY;

	for (size_t i = 0; i < ARRAY_LEN(open_flags); i++)
		if (flags & open_flags[i].wire)
			local |= open_flags[i].local;
	return local;
}

void description_put(struct buf *b, const struct description *d)
{
	buf_put_u8(b, d->kind);
	switch ((enum wire_descriptor)d->kind) {
	case WIRE_FD_PIPE_READ:
	case WIRE_FD_PIPE_WRITE:
		frame_put_id(b, &d->id);
		buf_put_u32(b, d->flags);
		buf_put_u32(b, d->times);
		return;
	case WIRE_FD_SOCKET:
	case WIRE_FD_LISTENER:
		frame_put_id(b, &d->id);
		buf_put_u32(b, d->flags);
		buf_put_u8(b, d->socktype);
		return;
	case WIRE_FD_FILE:
		buf_put_u32(b, d->flags);
		buf_put_u64(b, d->offset);
		buf_put_str(b, d->name, d->name_len);
		return;
	case WIRE_FD_DEVICE:
		buf_put_u32(b, d->flags);
		buf_put_str(b, d->name, d->name_len);
		return;
	case WIRE_FD_SAME:
		buf_put_u16(b, d->index);
		return;
	case WIRE_FD_COPY:
		frame_put_id(b, &d->id);
		buf_put_u32(b, d->flags);
		buf_put_u64(b, d->offset);
		buf_put_u32(b, d->seals);
		buf_put_u16(b, d->mode);
		buf_put_str(b, d->name, d->name_len);
		return;
	case WIRE_FD_TAP:
		buf_put_u32(b, d->flags);
		buf_put_u32(b, d->tap);
		buf_put_u32(b, d->vnet_header);
		buf_put_str(b, d->name, d->name_len);
		return;
	}
	b->bad = true;
}

/* Wrong is what no local call could be given. */
static void require(struct buf *b, bool right)
{
	b->bad |= !right;
}

static void get_name(struct buf *b, struct description *d)
{
	d->name = buf_get_str(b, &d->name_len);
	require(b, d->name_len < WIRE_PATH_MAX && !(d->name && memchr(d->name, '\0', d->name_len)));
}

static void get_offset(struct buf *b, struct description *d)
{
	d->offset = buf_get_u64(b);
	require(b, d->offset <= INT64_MAX);
}

static void get_tap(struct buf *b, struct description *d)
{
	d->flags = buf_get_u32(b);
	d->tap = buf_get_u32(b);
	d->vnet_header = buf_get_u32(b);
	get_name(b, d);
	/* A percent sign would let the kernel choose a name. */
	require(b, d->name_len && d->name_len <= WIRE_TAP_NAME_MAX &&
			   !memchr(d->name, '%', d->name_len));
	require(b, !(d->tap & WIRE_TAP_TUN) != !(d->tap & WIRE_TAP_TAP));
	require(b, d->vnet_header <= INT32_MAX);
}

static void get_particulars(struct buf *b, struct description *d)
{
	switch ((enum wire_descriptor)d->kind) {
	case WIRE_FD_PIPE_READ:
	case WIRE_FD_PIPE_WRITE:
		frame_get_id(b, &d->id);
		d->flags = buf_get_u32(b);
		d->times = buf_get_u32(b);
		return;
	case WIRE_FD_SOCKET:
	case WIRE_FD_LISTENER:
		frame_get_id(b, &d->id);
		d->flags = buf_get_u32(b);
		d->socktype = buf_get_u8(b);
		require(b, d->socktype == WIRE_STREAM || d->socktype == WIRE_SEQPACKET ||
				   (d->socktype == WIRE_DGRAM && d->kind == WIRE_FD_SOCKET));
		return;
	case WIRE_FD_FILE:
		d->flags = buf_get_u32(b);
		get_offset(b, d);
		get_name(b, d);
		return;
	case WIRE_FD_DEVICE:
		d->flags = buf_get_u32(b);
		get_name(b, d);
		return;
	case WIRE_FD_SAME:
		d->index = buf_get_u16(b);
		return;
	case WIRE_FD_COPY:
		frame_get_id(b, &d->id);
		d->flags = buf_get_u32(b);
		get_offset(b, d);
		d->seals = buf_get_u32(b);
		d->mode = buf_get_u16(b);
		get_name(b, d);
		require(b, d->mode <= 0777 && d->name_len <= WIRE_COPY_NAME_MAX);
		return;
	case WIRE_FD_TAP:
		get_tap(b, d);
		return;
	}
	b->bad = true;
}

int description_get(struct buf *b, struct description *d)
{
	*d = (struct description){ .kind = buf_get_u8(b) };
	get_particulars(b, d);
	return b->bad ? -EPROTO : 0;
}
