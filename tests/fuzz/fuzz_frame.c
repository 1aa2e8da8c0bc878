/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_frame - frames of a hostile peer
 *
 * The input is a header and its payload. What must hold besides not crashing: what a decoder
 * accepts, encoded again, is decoded to the same.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "frame.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define must(condition) ((condition) ? (void)0 : abort())

static uint8_t again[8192];

static void check_hello(const uint8_t *payload, size_t size)
{
	struct frame_hello h, h2;
	struct buf b;

	if (frame_get_hello(&h, payload, size))
		return;
	buf_init(&b, again, sizeof(again));
	frame_put_hello(&b, &h);
	must(!b.bad && b.pos <= size && !memcmp(again, payload, b.pos));
	must(!frame_get_hello(&h2, again, b.pos));
}

static void check_open(const uint8_t *payload, size_t size)
{
	struct frame_open o;
	struct buf b;

	if (frame_get_open(&o, payload, size))
		return;
	must(o.credentials.n_groups <= WIRE_GROUPS_MAX && o.name_len &&
	     o.name_len <= WIRE_NAME_MAX);
	must(o.credentials.uid != UINT32_MAX && o.credentials.gid != UINT32_MAX);
	buf_init(&b, again, sizeof(again));
	frame_put_open(&b, &o);
	must(!b.bad && b.pos == size);
	memset(again + 18, 0, 2); /* reserved: ignored */
	must(!memcmp(again, payload, 18) && !memcmp(again + 20, payload + 20, size - 20));
}

static void check_opened(const uint8_t *payload, size_t size)
{
	struct frame_opened o;
	struct buf b;

	if (frame_get_opened(&o, payload, size))
		return;
	must(o.reason_len <= WIRE_REASON_MAX);
	buf_init(&b, again, sizeof(again));
	frame_put_opened(&b, &o);
	must(!b.bad && b.pos == size && !memcmp(again, payload, size));
}

static void check_resume(const uint8_t *payload, size_t size)
{
	struct frame_resume r;
	struct buf b;

	if (frame_get_resume(&r, payload, size))
		return;
	buf_init(&b, again, sizeof(again));
	frame_put_resume(&b, &r);
	must(!b.bad && b.pos == size && !memcmp(again, payload, size));
}

static void check_resumed(const uint8_t *payload, size_t size)
{
	struct frame_resumed r;
	struct buf b;

	if (frame_get_resumed(&r, payload, size))
		return;
	buf_init(&b, again, sizeof(again));
	frame_put_resumed(&b, &r);
	must(!b.bad && b.pos == size && !memcmp(again, payload, size));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct frame_header h;
	uint8_t header[WIRE_HEADER];

	if (size < WIRE_HEADER)
		return 0;
	if (!frame_get_header(&h, data)) {
		must(h.length <= WIRE_PAYLOAD_MAX && h.type && h.type <= WIRE_TYPE_MAX);
		frame_put_header(header, &h);
		must(!memcmp(header, data, sizeof(header)));
	}
	data += WIRE_HEADER;
	size -= WIRE_HEADER;
	check_hello(data, size);
	check_open(data, size);
	check_opened(data, size);
	check_resume(data, size);
	check_resumed(data, size);
	return 0;
}
