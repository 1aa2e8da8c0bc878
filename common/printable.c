/* SPDX-License-Identifier: Apache-2.0 */
#include "printable.h"

#include <stdbool.h>
#include <stddef.h>
#include <string.h>

/* Bytes of the character that a text begins with; 0: of none (RFC 3629, section 4). */
static size_t utf8_length(const unsigned char *text)
{
	size_t n = *text < 0x80 ? 1 : *text < 0xc2 ? 0 : *text < 0xe0 ? 2 : *text < 0xf0 ? 3 : *text < 0xf5 ? 4 : 0;

	for (size_t i = 1; i < n; i++)
		if ((text[i] & 0xc0) != 0x80)
			return 0;
	/* Longer than it need be, a surrogate, or beyond the last one. */
	if ((*text == 0xe0 && text[1] < 0xa0) || (*text == 0xed && text[1] > 0x9f) || (*text == 0xf0 && text[1] < 0x90) ||
	    (*text == 0xf4 && text[1] > 0x8f))
		return 0;
	return n;
}

static bool is_control(const unsigned char *character)
{
	return *character < ' ' || *character == 0x7f || (*character == 0xc2 && character[1] < 0xa0);
}

void printable(char *text)
{
	unsigned char *at = (unsigned char *)text;

	while (*at) {
		size_t n = utf8_length(at);
		bool harmless = n && !is_control(at);

		n = n ? n : 1;
		if (!harmless)
			memset(at, '?', n);
		at += n;
	}
}
