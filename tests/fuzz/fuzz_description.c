/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_description - descriptions of descriptors in a hostile peer's MSG
 *
 * The input is one description after the other. What must hold besides not crashing: what is
 * accepted is within the limits, and encoded again it is the same bytes.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "description.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define must(condition) ((condition) ? (void)0 : abort())

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static uint8_t again[2 * WIRE_PATH_MAX];
	struct buf b, to;

	buf_init_const(&b, data, size);
	while (buf_left(&b)) {
		const uint8_t *from = data + b.pos;
		struct description d;

		if (description_get(&b, &d))
			break;
		must(d.name_len < WIRE_PATH_MAX && d.offset <= INT64_MAX);
		must(d.mode <= 0777 &&
		     (d.kind != WIRE_FD_COPY || d.name_len <= WIRE_COPY_NAME_MAX));
		must(d.kind != WIRE_FD_TAP || (d.name_len && d.name_len <= WIRE_TAP_NAME_MAX));
		must(!d.name_len || !memchr(d.name, '\0', d.name_len));
		buf_init(&to, again, sizeof(again));
		description_put(&to, &d);
		must(!to.bad && from + to.pos == data + b.pos && !memcmp(from, again, to.pos));
	}
	return 0;
}
