/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_stream - a hostile peer's bytes, in pieces, with cuts and resumptions between
 *
 * The input is a program: each step is a byte that says what, and a byte or more for how much. What must hold besides not
 * crashing: what is unsent is what was framed, from the byte on where the stream was rewound to, up to a payload that lies
 * outside; all that does is told of when it may go; numbers keep their order; and after a cut a frame begins, or DATA
 * goes on.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "stream.h"
#include "util.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define must(condition) ((condition) ? (void)0 : abort())

static uint8_t framed[1 << 16]; /* all of it, from byte 0 on */
static uint8_t outside[1 << 16]; /* 1: bytes of it that the stream does not have */
static uint8_t payload[4096 + 256];

/* The payloads that lie outside, or did and may go, one behind the other. */
static uint8_t elsewhere[1 << 16];
static size_t elsewhere_start, elsewhere_end;

/* The next byte of the program. */
static uint8_t take(const uint8_t **data, size_t *size)
{
	if (!*size)
		return 0;
	(*size)--;
	return *(*data)++;
}

static void check_out(const struct stream_out *o)
{
	struct iovec iov[64];
	int n = stream_unsent(o, iov, ARRAY_LEN(iov));
	uint64_t at = o->sent;

	must(o->kept <= o->acked && o->acked <= o->sent && o->sent <= o->end);
	for (int i = 0; i < n; i++) {
		must(iov[i].iov_len && at + iov[i].iov_len <= o->end);
		must(!memcmp(iov[i].iov_base, framed + at, iov[i].iov_len));
		must(!memchr(outside + at, 1, iov[i].iov_len));
		at += iov[i].iov_len;
	}
	must(at == o->end || n == ARRAY_LEN(iov) || outside[at]);
	must(stream_frame_left(o) <= o->end - o->sent);
	if (o->sent < o->end && outside[o->sent])
		must(stream_unsent_outside(o) == stream_frame_left(o) && !n);
	else
		must(!stream_unsent_outside(o));
	must(stream_ends_outside(o) == (o->sent < o->end && outside[o->end - 1]));
	must(o->outside + o->forgotten == elsewhere_end - elsewhere_start);
}

static void add(struct stream_out *o, uint8_t type, size_t n, bool reserve)
{
	struct frame_header h = { .type = type, .length = (uint32_t)n };
	struct iovec iov = { .iov_base = payload, .iov_len = n };
	size_t len;

	if (o->end + WIRE_HEADER + n > sizeof(framed))
		return;
	if (reserve && n) {
		uint8_t *room = stream_reserve(o, n, &len);

		must(room && len && len <= n);
		h.length = (uint32_t)len;
		memcpy(room, payload, len);
		frame_put_header(framed + o->end, &h);
		memcpy(framed + o->end + WIRE_HEADER, payload, len);
		stream_commit(o, type, 0, len);
		return;
	}
	frame_put_header(framed + o->end, &h);
	memcpy(framed + o->end + WIRE_HEADER, payload, n);
	must(!stream_add(o, type, 0, 0, &iov, 1));
}

/* Each with bytes of its own. */
static void add_outside(struct stream_out *o, size_t n)
{
	struct frame_header h = { .type = WIRE_DATA, .length = (uint32_t)n };
	size_t at = (size_t)o->end + WIRE_HEADER;

	if (!n || at + n > sizeof(framed))
		return;
	frame_put_header(framed + o->end, &h);
	memcpy(framed + at, payload + at % 256, n);
	memcpy(elsewhere + elsewhere_end, framed + at, n);
	memset(outside + at, 1, n);
	elsewhere_end += n;
	must(!stream_add_outside(o, 0, n));
}

/* At most @max of them. */
static void bring_inside(struct stream_out *o, size_t max)
{
	size_t from = 0, len = 0;
	uint8_t *to;

	elsewhere_start += o->forgotten;
	o->forgotten = 0;
	while (max-- && (to = stream_bring_inside(o, &len))) {
		must(len && len <= elsewhere_end - elsewhere_start);
		memcpy(to, elsewhere + elsewhere_start, len);
		elsewhere_start += len;
		while (from < o->kept || !outside[from])
			from++;
		memset(outside + from, 0, len);
	}
	must(o->outside == elsewhere_end - elsewhere_start);
	if (!o->outside)
		must(!stream_bring_inside(o, &len) && !len);
}

static bool walk(struct stream_in *in, struct stream_out *o, const uint8_t *data, size_t n)
{
	uint64_t received = in->received;
	uint8_t *exact = malloc(n + !n);
	int err;

	must(exact);
	memcpy(exact, data, n);
	err = stream_walk(in, o, exact, n);
	free(exact);
	must(in->received >= received && (err || in->head_len < WIRE_HEADER));
	return !err;
}

static void cut(struct stream_in *in)
{
	uint64_t received = in->received;

	stream_cut(in);
	must(in->received == received && !in->head_len && (!in->left || in->direct) && !in->over);
	must(!stream_cut(in));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct stream_budget budget = { .limit = 1 << 20 };
	struct stream_pool pool;
	struct stream_out out;
	struct stream_in in = { .packets = take(&data, &size) & 1 };
	bool alive = true;

	for (size_t i = 0; i < sizeof(payload); i++)
		payload[i] = (uint8_t)(i * 13 + i / 256);
	memset(outside, 0, sizeof(outside));
	elsewhere_start = elsewhere_end = 0;
	stream_pool_init(&pool, &budget);
	stream_out_init(&out, &pool);
	while (size && alive) {
		uint8_t what = take(&data, &size);
		size_t n = take(&data, &size);
		uint64_t reached = MAX(out.reached, out.sent);

		switch (what % 10) {
		case 0: /* n bytes of the peer's */
		case 1:
			n = MIN(n, size);
			alive = walk(&in, &out, data, n);
			data += n;
			size -= n;
			break;
		case 2:
			add(&out, WIRE_DATA + what / 10 % 5, n * 16, what & 128);
			break;
		case 3:
			stream_sent(&out, MIN(n * 8, (size_t)(out.end - out.sent)));
			break;
		case 4:
			n = n * (size_t)(out.end + 2) / 256;
			bring_inside(&out, SIZE_MAX);
			must(stream_rewind(&out, n) == (n >= out.acked && n <= reached));
			break;
		case 5:
			n = n * (size_t)(out.end + 2) / 256;
			must(stream_acked(&out, n) == (n <= out.sent));
			break;
		case 6:
			cut(&in);
			break;
		case 7: /* past this program's memory */
			if (in.direct)
				stream_walked(&in, MIN(n, in.left));
			break;
		case 8:
			add_outside(&out, n * 16);
			break;
		case 9:
			bring_inside(&out, n);
			break;
		}
		check_out(&out);
	}
	stream_out_free(&out);
	must(!atomic_load(&budget.used));
	stream_pool_free(&pool);
	return 0;
}
