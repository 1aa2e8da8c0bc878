/* SPDX-License-Identifier: Apache-2.0 */
#include "fifo.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "util.h"

#define FIFO_MIN 256u

uint8_t *fifo_reserve(struct fifo *f, size_t n)
{
	struct fifo_bytes *b = f->bytes;
	size_t len = fifo_len(f);

	if (b && n <= b->size - b->end)
		return b->data + b->end;
	if (n > UINT32_MAX / 2 - len)
		return NULL;
	if (b && b->start && len + n <= b->size) {
		memmove(b->data, fifo_peek(f), len);
	} else {
		size_t size = MAX(len + n, FIFO_MIN);

		b = malloc(sizeof(*b) + size);
		if (!b)
			return NULL;
		b->size = (uint32_t)size;
		if (len)
			memcpy(b->data, fifo_peek(f), len);
		free(f->bytes);
		f->bytes = b;
	}
	b->start = 0;
	b->end = (uint32_t)len;
	return b->data + b->end;
}

void fifo_commit(struct fifo *f, size_t n)
{
	f->bytes->end += (uint32_t)n;
}

int fifo_add(struct fifo *f, const void *data, size_t n)
{
	uint8_t *to;

	if (!n)
		return 0;
	to = fifo_reserve(f, n);
	if (!to)
		return -ENOMEM;
	memcpy(to, data, n);
	fifo_commit(f, n);
	return 0;
}

void fifo_skip(struct fifo *f, size_t n)
{
	if (n >= fifo_len(f))
		fifo_clear(f);
	else
		f->bytes->start += (uint32_t)n;
}

void fifo_cut(struct fifo *f, size_t n)
{
	if (n >= fifo_len(f))
		fifo_clear(f);
	else
		f->bytes->end -= (uint32_t)n;
}

void fifo_clear(struct fifo *f)
{
	free(f->bytes);
	f->bytes = NULL;
}
