/* SPDX-License-Identifier: Apache-2.0 */
#include "buf.h"

#include <string.h>

void buf_init(struct buf *b, void *data, size_t size)
{
	*b = (struct buf){ .data = data, .size = size };
}

void buf_init_const(struct buf *b, const void *data, size_t size)
{
	buf_init(b, (void *)(uintptr_t)data, size);
}

size_t buf_left(const struct buf *b)
{
	return b->bad ? 0 : b->size - b->pos;
}

bool buf_done(const struct buf *b)
{
	return !b->bad && b->pos == b->size;
}

/* The one bounds check: the next @n bytes, or NULL and bad. */
static uint8_t *advance(struct buf *b, size_t n)
{
	uint8_t *p;

	if (b->bad || n > b->size - b->pos) {
		b->bad = true;
		return NULL;
	}
	p = b->data + b->pos;
	b->pos += n;
	return p;
}

static uint64_t get_be(struct buf *b, size_t n)
{
	const uint8_t *p = advance(b, n);
	uint64_t v = 0;

	for (size_t i = 0; p && i < n; i++)
		v = v << 8 | p[i];
	return v;
}

static void put_be(struct buf *b, uint64_t v, size_t n)
{
	uint8_t *p = advance(b, n);

	for (size_t i = n; p && i > 0; i--, v >>= 8)
		p[i - 1] = (uint8_t)v;
}

uint8_t buf_get_u8(struct buf *b)
{
	return (uint8_t)get_be(b, 1);
}

uint16_t buf_get_u16(struct buf *b)
{
	return (uint16_t)get_be(b, 2);
}

uint32_t buf_get_u32(struct buf *b)
{
	return (uint32_t)get_be(b, 4);
}

uint64_t buf_get_u64(struct buf *b)
{
	return get_be(b, 8);
}

const void *buf_get_bytes(struct buf *b, size_t n)
{
	return advance(b, n);
}

const char *buf_get_str(struct buf *b, size_t *n)
{
	const char *s;

	*n = buf_get_u32(b);
	s = buf_get_bytes(b, *n);
	if (!s)
		*n = 0;
	return s;
}

void buf_put_u8(struct buf *b, uint8_t v)
{
	put_be(b, v, 1);
}

void buf_put_u16(struct buf *b, uint16_t v)
{
	put_be(b, v, 2);
}

void buf_put_u32(struct buf *b, uint32_t v)
{
	put_be(b, v, 4);
}

void buf_put_u64(struct buf *b, uint64_t v)
{
	put_be(b, v, 8);
}

void buf_put_bytes(struct buf *b, const void *p, size_t n)
{
	uint8_t *to = advance(b, n);

	if (to && n)
		memcpy(to, p, n);
}

void buf_put_str(struct buf *b, const char *s, size_t n)
{
	if (n > UINT32_MAX) {
		b->bad = true;
		return;
	}
	buf_put_u32(b, (uint32_t)n);
	buf_put_bytes(b, s, n);
}
