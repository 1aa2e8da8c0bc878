/* SPDX-License-Identifier: Apache-2.0 */
/*
 * buf.h - a bounded cursor over bytes: the only way bytes of a peer are read
 *
 * A cursor never leaves [0, size). The first access that would sets `bad`, and
 * from then on every get returns zero and every put does nothing; so a parser is
 * a straight list of gets with one check at the end. All numbers are big-endian.
 * Pure: no I/O, no allocation.
 */
#ifndef BUF_H
#define BUF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct buf {
	uint8_t *data; /* borrowed; a buf made for reading never writes to it */
	size_t size;
	size_t pos;
	bool bad;
};

/** buf_init() - a cursor at the start of @size bytes at @data (borrowed) */
void buf_init(struct buf *b, void *data, size_t size);
/** buf_init_const() - the same for bytes that are only read */
void buf_init_const(struct buf *b, const void *data, size_t size);
/** buf_left() - bytes between cursor and end; 0 when bad */
size_t buf_left(const struct buf *b);
/** buf_done() - true when nothing went wrong and every byte was read */
bool buf_done(const struct buf *b);

uint8_t buf_get_u8(struct buf *b);
uint16_t buf_get_u16(struct buf *b);
uint32_t buf_get_u32(struct buf *b);
uint64_t buf_get_u64(struct buf *b);
/** buf_get_bytes() - a pointer to the next @n bytes (borrowed), NULL when there are fewer */
const void *buf_get_bytes(struct buf *b, size_t n);
/** buf_get_str() - a u32 length and so many bytes; *@n their number. Not terminated. */
const char *buf_get_str(struct buf *b, size_t *n);

void buf_put_u8(struct buf *b, uint8_t v);
void buf_put_u16(struct buf *b, uint16_t v);
void buf_put_u32(struct buf *b, uint32_t v);
void buf_put_u64(struct buf *b, uint64_t v);
void buf_put_bytes(struct buf *b, const void *p, size_t n);
/** buf_put_str() - a u32 length and the bytes */
void buf_put_str(struct buf *b, const char *s, size_t n);

#endif
