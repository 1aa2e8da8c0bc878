/* SPDX-License-Identifier: Apache-2.0 */
#include "printable.h"

#include <stdbool.h>
#include <stddef.h>
#include <string.h>

#define BYTES_MAX 4 /* of a character */

/* Of the character that a text begins with; 0: of none (RFC 3629, table in section 4, which this lets pass a little more
 * than: surrogates, and what is longer than it need be). */
static size_t utf8_length(const unsigned char *text)
{
	size_t n = *text < 0x80 ? 1 : *text < 0xc2 ? 0 : *text < 0xe0 ? 2 : *text < 0xf0 ? 3 : *text < 0xf5 ? BYTES_MAX : 0;

	for (size_t i = 1; i < n; i++)
		if ((text[i] & 0xc0) != 0x80)
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
