/* SPDX-License-Identifier: Apache-2.0 */
/*
 * text.h - bytes that grow at the end
 *
 * Running out of memory sets `bad`, and from then on nothing is added: a text is built by a
 * straight list of adds with one check at the end. Pure but for malloc.
 */
#ifndef TEXT_H
#define TEXT_H

#include <stdbool.h>
#include <stddef.h>

struct text {
	char *data; /* a NUL follows the last byte; NULL while nothing was ever added */
	size_t len, size;
	bool bad;
};

/** text_add() - append @n bytes; @data may not be part of @t */
void text_add(struct text *t, const void *data, size_t n);
/** text_puts() - append a string */
void text_puts(struct text *t, const char *s);
/** text_cut() - keep the first @len bytes only */
void text_cut(struct text *t, size_t len);
/** text_take() - the bytes as a string that the caller frees, and @t is empty; NULL when bad */
char *text_take(struct text *t);
/** text_clear() - free; @t is empty */
void text_clear(struct text *t);

#endif
