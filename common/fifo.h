/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fifo.h - a queue of bytes that holds memory only while it holds bytes
 *
 * Thousands of idle connections each have three; an empty one is a null pointer. Its owner
 * bounds it: a fifo takes what it is given. Pure but for malloc.
 */
#ifndef FIFO_H
#define FIFO_H

#include <stddef.h>
#include <stdint.h>

struct fifo {
	struct fifo_bytes *bytes; /* NULL: none */
};

struct fifo_bytes {
	uint32_t start, end, size; /* the bytes are data[start, end) */
	uint8_t data[];
};

/** fifo_len() - bytes queued */
static inline size_t fifo_len(const struct fifo *f)
{
	return f->bytes ? f->bytes->end - f->bytes->start : 0;
}

/** fifo_peek() - the queued bytes, in one piece; valid until the next call that adds or skips; NULL when it holds no memory */
static inline uint8_t *fifo_peek(const struct fifo *f)
{
	return f->bytes ? f->bytes->data + f->bytes->start : NULL;
}

/** fifo_add() - append @n bytes; 0, or -ENOMEM and nothing was added */
int fifo_add(struct fifo *f, const void *data, size_t n);
/** fifo_reserve() - room for @n bytes behind the last, or NULL; fifo_commit() says how many were
 * written there */
uint8_t *fifo_reserve(struct fifo *f, size_t n);
void fifo_commit(struct fifo *f, size_t n);
/** fifo_skip() - drop the first @n bytes; the memory goes with the last one */
void fifo_skip(struct fifo *f, size_t n);
/** fifo_cut() - drop the last @n bytes, or all when there are fewer */
void fifo_cut(struct fifo *f, size_t n);
/** fifo_clear() - drop all bytes and the memory */
void fifo_clear(struct fifo *f);

#endif
