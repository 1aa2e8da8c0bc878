/* SPDX-License-Identifier: Apache-2.0 */
#include "text.h"

#include <stdlib.h>
#include <string.h>

#include "util.h"

#define TEXT_MIN 256

/* Doubling, so that a message which comes byte by byte costs no more than its length. */
static bool grow(struct text *t, size_t n)
{
	size_t size = MAX(t->size, (size_t)TEXT_MIN);
	char *data;

	while (size - t->len <= n) {
		if (size > SIZE_MAX / 4)
			return false;
		size *= 2;
	}
	if (size == t->size)
		return true;
	data = realloc(t->data, size);
	if (!data)
		return false;
	t->data = data;
	t->size = size;
	return true;
}

void text_add(struct text *t, const void *data, size_t n)
{
	if (t->bad)
		return;
	if (!grow(t, n)) {
		t->bad = true;
		return;
	}
	if (n)
		memcpy(t->data + t->len, data, n);
	t->len += n;
	t->data[t->len] = '\0';
}

void text_puts(struct text *t, const char *s)
{
	text_add(t, s, strlen(s));
}

void text_cut(struct text *t, size_t len)
{
	if (len >= t->len)
		return;
	t->len = len;
	t->data[len] = '\0';
}

char *text_take(struct text *t)
{
	char *data;

	text_add(t, "", 0);
	data = t->bad ? NULL : t->data;
	if (t->bad)
		free(t->data);
	*t = (struct text){ 0 };
	return data;
}

void text_clear(struct text *t)
{
	free(t->data);
	*t = (struct text){ 0 };
}
