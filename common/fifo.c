/* SPDX-License-Identifier: Apache-2.0 */
#include "fifo.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "util.h"

#define FIFO_MIN 256u

uint8_t *fifo_reserve(struct fifo *f, size_t n)
{
	size_t len = fifo_len(f);
	uint8_t *data;
	size_t size;

	if (n <= f->size - f->end)
		return f->data + f->end;
	if (n > UINT32_MAX / 2 - len)
		return NULL;
	if (f->start && len + n <= f->size) {
		memmove(f->data, fifo_peek(f), len);
	} else {
		size = MAX(len + n, FIFO_MIN);
		data = malloc(size);
		if (!data)
			return NULL;
		if (len)
			memcpy(data, fifo_peek(f), len);
		free(f->data);
		f->data = data;
		f->size = (uint32_t)size;
	}
	f->start = 0;
	f->end = (uint32_t)len;
	return f->data + f->end;
}

void fifo_commit(struct fifo *f, size_t n)
{
	f->end += (uint32_t)n;
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
	f->start += (uint32_t)n;
	if (f->start == f->end)
		fifo_clear(f);
}

void fifo_cut(struct fifo *f, size_t n)
{
	if (n >= fifo_len(f))
		fifo_clear(f);
	else
		f->end -= (uint32_t)n;
}

void fifo_clear(struct fifo *f)
{
	free(f->data);
	*f = (struct fifo){ 0 };
}
