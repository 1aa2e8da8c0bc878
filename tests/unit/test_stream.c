/* SPDX-License-Identifier: Apache-2.0 */
#include <check.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "stream.h"
#include "util.h"

#define WINDOW_BUDGET ((size_t)64 << 20) /* enough for the whole window */

static struct stream_budget budget;
static struct stream_pool pool;
static struct stream_out out;
static uint8_t wire[4u << 20], payload[WIRE_PAYLOAD_MAX];

static void setup(void)
{
	budget = (struct stream_budget){ .limit = WINDOW_BUDGET };
	stream_pool_init(&pool, &budget);
	stream_out_init(&out, &pool);
	for (size_t i = 0; i < sizeof(payload); i++)
		payload[i] = (uint8_t)(i * 7 + i / 251);
}

static void teardown(void)
{
	stream_out_free(&out);
	ck_assert_uint_eq(atomic_load(&budget.used), 0);
	stream_pool_free(&pool);
}

static void add(uint8_t type, size_t n)
{
	struct iovec iov[2] = { { .iov_base = payload, .iov_len = n / 3 },
				{ .iov_base = payload + n / 3, .iov_len = n - n / 3 } };

	ck_assert_int_eq(stream_add(&out, type, 0, 0, iov, 2), 0);
}

/* What is unsent, copied to @to; in pieces of one iovec each. */
static size_t copy_unsent(const struct stream_out *o, uint8_t *to)
{
	struct iovec iov[512];
	int n = stream_unsent(o, iov, ARRAY_LEN(iov));
	size_t len = 0;

	for (int i = 0; i < n; i++) {
		ck_assert_uint_gt(iov[i].iov_len, 0);
		memcpy(to + len, iov[i].iov_base, iov[i].iov_len);
		len += iov[i].iov_len;
	}
	return len;
}

/* Put a frame as a peer would. */
static size_t put(uint8_t *to, uint8_t type, size_t n, uint64_t ack)
{
	struct frame_header h = { .type = type, .length = (uint32_t)n, .ack = ack };

	frame_put_header(to, &h);
	memcpy(to + WIRE_HEADER, payload, n);
	return WIRE_HEADER + n;
}

/* ---- out -------------------------------------------------------------------------------- */

START_TEST(nothing_is_there)
{
	struct iovec iov;

	ck_assert_int_eq(stream_unsent(&out, &iov, 1), 0);
	ck_assert_uint_eq(stream_frame_left(&out), 0);
	stream_sent(&out, 0);
	ck_assert(stream_acked(&out, 0));
	ck_assert(!stream_acked(&out, 1));
	ck_assert(stream_rewind(&out, 0));
	ck_assert(!stream_rewind(&out, 1));
	ck_assert_uint_gt(stream_room(&out), 0);
}
END_TEST

START_TEST(frames_as_on_the_wire)
{
	static const size_t sizes[] = { 0, 1, 100, 4000, 5000, STREAM_READ_MAX, WIRE_PAYLOAD_MAX, 3 };
	size_t n = 0;

	for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
		struct frame_header h;

		add(WIRE_MSG, sizes[i]);
		ck_assert_uint_eq(copy_unsent(&out, wire), n + WIRE_HEADER + sizes[i]);
		ck_assert_int_eq(frame_get_header(&h, wire + n), 0);
		ck_assert_uint_eq(h.length, sizes[i]);
		ck_assert_uint_eq(h.type, WIRE_MSG);
		ck_assert_mem_eq(wire + n + WIRE_HEADER, payload, sizes[i]);
		n += WIRE_HEADER + sizes[i];
		ck_assert_uint_eq(out.end, n);
	}
	ck_assert_uint_eq(out.sent, 0);
}
END_TEST

START_TEST(what_is_reserved_counts_when_committed)
{
	size_t len = 0, used;
	uint8_t *room = stream_reserve(&out, 100, &len);
	struct frame_header h;

	ck_assert_ptr_nonnull(room);
	ck_assert_uint_eq(len, 100);
	ck_assert_uint_eq(out.end, 0); /* and nothing of it is kept, or in the budget */
	ck_assert_uint_eq(atomic_load(&budget.used), 0);
	ck_assert_uint_eq(copy_unsent(&out, wire), 0);
	room = stream_reserve(&out, 2000, &len); /* another in its place */
	memcpy(room, payload, 2000);
	stream_commit(&out, WIRE_DATA, 77, 2000);
	used = atomic_load(&budget.used);
	ck_assert_uint_gt(used, 2000);
	room = stream_reserve(&out, 50, &len); /* the same chunk */
	memcpy(room, payload, 10);
	stream_commit(&out, WIRE_DATA, 78, 10);
	ck_assert_uint_eq(atomic_load(&budget.used), used);
	ck_assert_uint_eq(copy_unsent(&out, wire), 2 * WIRE_HEADER + 2010);
	ck_assert_int_eq(frame_get_header(&h, wire), 0);
	ck_assert_uint_eq(h.ack, 77);
	ck_assert_uint_eq(h.length, 2000);
	ck_assert_mem_eq(wire + WIRE_HEADER, payload, 2000);
	ck_assert_int_eq(frame_get_header(&h, wire + WIRE_HEADER + 2000), 0);
	ck_assert_uint_eq(h.ack, 78);
	ck_assert_uint_eq(h.length, 10);
}
END_TEST

START_TEST(a_small_frame_costs_what_it_needs)
{
	struct iovec iov[2];
	size_t len;

	for (int i = 0; i < 2; i++) { /* from the same reservation */
		memcpy(stream_reserve(&out, 5000, &len), payload + i, 100);
		stream_commit(&out, WIRE_DATA, 0, 100);
	}
	add(WIRE_SHUT, 0);
	ck_assert_uint_lt(atomic_load(&budget.used), 400);
	ck_assert_uint_eq(copy_unsent(&out, wire), 3 * WIRE_HEADER + 200);
	ck_assert_mem_eq(wire + WIRE_HEADER, payload, 100);
	ck_assert_mem_eq(wire + 2 * WIRE_HEADER + 100, payload + 1, 100);
	ck_assert_int_eq(stream_unsent(&out, iov, 2), 2);
}
END_TEST

/* A reservation that is not used is in nobody's way: neither another connection's nor another frame's. */
START_TEST(what_is_reserved_can_be_left)
{
	struct stream_out other;
	size_t len;

	stream_out_init(&other, &pool);
	add(WIRE_DATA, 10);
	ck_assert_ptr_nonnull(stream_reserve(&out, STREAM_READ_MAX, &len));
	ck_assert_ptr_nonnull(stream_reserve(&other, STREAM_READ_MAX, &len));
	memcpy(stream_reserve(&out, 20, &len), payload, 20);
	stream_commit(&out, WIRE_DATA, 0, 20);
	ck_assert_uint_eq(copy_unsent(&other, wire), 0);
	ck_assert_uint_eq(copy_unsent(&out, wire), 2 * WIRE_HEADER + 30);
	ck_assert_mem_eq(wire + 2 * WIRE_HEADER + 10, payload, 20);
	ck_assert_ptr_nonnull(stream_reserve(&other, STREAM_READ_MAX, &len)); /* left for teardown */
}
END_TEST

START_TEST(reserved_room_is_bounded)
{
	for (size_t want = 1; want <= STREAM_READ_MAX; want = want * 3 + 1) {
		size_t len = 0;
		uint8_t *room = stream_reserve(&out, want, &len);

		ck_assert_ptr_nonnull(room);
		ck_assert_uint_gt(len, 0);
		ck_assert_uint_le(len, want);
		memset(room, 0xee, len); /* ASan looks on */
		stream_commit(&out, WIRE_DATA, 0, len);
	}
	ck_assert_uint_eq(copy_unsent(&out, wire), out.end);
}
END_TEST

START_TEST(pieces_are_as_many_as_asked_for)
{
	struct iovec iov[3];

	for (int i = 0; i < 10; i++)
		add(WIRE_DATA, WIRE_PAYLOAD_MAX); /* a chunk each */
	ck_assert_int_eq(stream_unsent(&out, iov, 3), 3);
	ck_assert_int_eq(stream_unsent(&out, iov, 1), 1);
	ck_assert_uint_eq(iov->iov_len, WIRE_HEADER + WIRE_PAYLOAD_MAX);
	stream_sent(&out, WIRE_HEADER + WIRE_PAYLOAD_MAX);
	ck_assert_int_eq(stream_unsent(&out, iov, 3), 3);
	stream_sent(&out, 8 * (WIRE_HEADER + WIRE_PAYLOAD_MAX) + 1);
	ck_assert_int_eq(stream_unsent(&out, iov, 3), 1);
	ck_assert_uint_eq(iov->iov_len, WIRE_HEADER + WIRE_PAYLOAD_MAX - 1);
}
END_TEST

/* Frames in small chunks, one of several chunks' size, and empty ones; as they are on the wire. */
static const size_t some_sizes[] = { 0, 1, 5, 8120, 700, 0, 3000, 5000, 9000, 31 };

static size_t add_some(void)
{
	size_t n;

	for (size_t i = 0; i < ARRAY_LEN(some_sizes); i++)
		add(WIRE_DATA, some_sizes[i]);
	n = copy_unsent(&out, wire);
	ck_assert_uint_eq(n, out.end);
	return n;
}

/* Bytes of the frame that byte @at is in, from there on; 0 for a frame's first byte. */
static size_t left_of_frame(size_t at)
{
	size_t end = 0;

	for (size_t i = 0; i < ARRAY_LEN(some_sizes); i++) {
		if (at == end)
			return 0;
		end += WIRE_HEADER + some_sizes[i];
		if (at < end)
			return end - at;
	}
	return 0;
}

static void check_unsent(size_t from, size_t n)
{
	static uint8_t got[65536];

	ck_assert_uint_eq(out.sent, from);
	ck_assert_uint_eq(copy_unsent(&out, got), n - from);
	ck_assert(!memcmp(got, wire + from, n - from));
	ck_assert_uint_eq(stream_frame_left(&out), left_of_frame(from));
}

START_TEST(sent_byte_by_byte)
{
	size_t n = add_some();

	for (size_t i = 0; i < n; i++) {
		check_unsent(i, n);
		stream_sent(&out, 1);
	}
	check_unsent(n, n);
	add(WIRE_DATA, 9); /* and what comes later */
	ck_assert_uint_eq(copy_unsent(&out, wire + n), WIRE_HEADER + 9);
}
END_TEST

START_TEST(rewound_to_every_byte)
{
	size_t n = add_some();

	stream_sent(&out, n);
	for (size_t i = 0; i <= n; i++) {
		ck_assert(stream_rewind(&out, i));
		check_unsent(i, n);
		stream_sent(&out, n - i);
		check_unsent(n, n);
	}
	ck_assert(!stream_rewind(&out, n + 1));
	check_unsent(n, n);
}
END_TEST

/* With every byte acknowledged, to every byte that is not. */
START_TEST(rewound_behind_acks)
{
	size_t n = add_some();

	stream_sent(&out, n);
	for (size_t acked = 0; acked <= n; acked += 13) {
		ck_assert(stream_acked(&out, acked));
		ck_assert_uint_le(out.kept, acked);
		ck_assert(out.kept == acked || left_of_frame(acked)); /* a frame's beginning */
		ck_assert_uint_eq(left_of_frame(out.kept), 0);
		for (size_t i = acked; i <= n; i += 1 + (n - acked) / 50) {
			ck_assert(stream_rewind(&out, i));
			check_unsent(i, n);
			stream_sent(&out, n - i);
		}
		if (acked)
			ck_assert(!stream_rewind(&out, acked - 1));
	}
}
END_TEST

/* An attempt that is read late goes back further than the next one, which still finds what was sent. */
START_TEST(rewound_too_far_and_forth)
{
	size_t n = add_some();

	stream_sent(&out, 5000);
	ck_assert(stream_rewind(&out, 10));
	ck_assert(!stream_acked(&out, 11)); /* on this transport so much was not sent */
	ck_assert(stream_rewind(&out, 20));
	ck_assert(stream_rewind(&out, 5000));
	check_unsent(5000, n);
	ck_assert(!stream_rewind(&out, 5001));
	ck_assert(stream_acked(&out, 4500));
	ck_assert(!stream_rewind(&out, 4499));
	ck_assert(stream_rewind(&out, 4500));
	stream_sent(&out, n - 4500);
	ck_assert(stream_rewind(&out, n));
}
END_TEST

START_TEST(acknowledged_frames_are_freed)
{
	const size_t whole = WIRE_HEADER + WIRE_PAYLOAD_MAX;
	size_t used;

	for (int i = 0; i < 3; i++)
		add(WIRE_DATA, WIRE_PAYLOAD_MAX);
	used = atomic_load(&budget.used);
	ck_assert_uint_ge(used, 3 * whole);
	ck_assert(!stream_acked(&out, 1)); /* nothing was sent */
	stream_sent(&out, 2 * whole + 1);
	ck_assert(stream_acked(&out, whole - 1));
	ck_assert_uint_eq(out.kept, 0);
	ck_assert_uint_eq(atomic_load(&budget.used), used);
	ck_assert(stream_acked(&out, whole));
	ck_assert_uint_eq(out.kept, whole);
	ck_assert_uint_eq(atomic_load(&budget.used), used / 3 * 2);
	ck_assert(stream_acked(&out, 5)); /* an old one */
	ck_assert_uint_eq(out.acked, whole);
	ck_assert(stream_acked(&out, 2 * whole + 1));
	ck_assert_uint_eq(out.kept, 2 * whole);
	ck_assert(!stream_acked(&out, 2 * whole + 2));
	ck_assert_uint_eq(out.acked, 2 * whole + 1);
	ck_assert(stream_rewind(&out, 2 * whole + 1));
	ck_assert_uint_eq(copy_unsent(&out, wire), whole - 1);
	stream_sent(&out, whole - 1);
	ck_assert(stream_acked(&out, 3 * whole));
	ck_assert_uint_eq(atomic_load(&budget.used), 0);
	ck_assert_ptr_null(out.first);
	add(WIRE_SHUT, 0); /* as if nothing had been */
	ck_assert_uint_eq(copy_unsent(&out, wire), WIRE_HEADER);
}
END_TEST

/* Small frames share a chunk, which goes with the last of them, also while more are added to it. */
START_TEST(small_frames_share_memory)
{
	size_t used;

	add(WIRE_DATA, 10);
	used = atomic_load(&budget.used);
	ck_assert_uint_le(used, 8192);
	for (int i = 1; i < 100; i++) {
		add(WIRE_DATA, 10);
		stream_sent(&out, 26);
		ck_assert(stream_acked(&out, out.sent));
		ck_assert_uint_eq(out.kept, out.acked);
	}
	ck_assert_uint_eq(atomic_load(&budget.used), used);
	ck_assert_uint_eq(copy_unsent(&out, wire), 26);
	stream_sent(&out, 26);
	ck_assert(stream_acked(&out, out.end));
	ck_assert_uint_eq(atomic_load(&budget.used), 0);
}
END_TEST

/* ---- outside ------------------------------------------------------------------------------ */

/* What lies outside, in order: whoever adds a payload writes it here, as bulk.c does to a pipe. */
static uint8_t elsewhere[1u << 20];
static size_t elsewhere_start, elsewhere_end;

/* As it is to be on the wire, from byte 0 of the stream on. */
static uint8_t whole[1u << 20];

static void setup_outside(void)
{
	setup();
	elsewhere_start = elsewhere_end = 0;
}

static void note_frame(const uint8_t *data, size_t n)
{
	struct frame_header h = { .type = WIRE_DATA, .length = (uint32_t)n };
	size_t at = (size_t)out.end - n - WIRE_HEADER;

	frame_put_header(whole + at, &h);
	memcpy(whole + at + WIRE_HEADER, data, n);
}

/* Each payload begins with another byte. */
static void add_outside(size_t n)
{
	const uint8_t *data = payload + (elsewhere_end + 11 * n) % 1000;

	memcpy(elsewhere + elsewhere_end, data, n);
	elsewhere_end += n;
	ck_assert_int_eq(stream_add_outside(&out, 0, n), 0);
	note_frame(data, n);
}

static void add_inside(size_t n)
{
	add(WIRE_DATA, n);
	note_frame(payload, n);
}

/* What was acknowledged goes; the others come. */
static size_t bring_inside(void)
{
	size_t n = 0, len;
	uint8_t *to;

	elsewhere_start += out.forgotten;
	out.forgotten = 0;
	for (; (to = stream_bring_inside(&out, &len)); n++) {
		ck_assert_uint_gt(len, 0);
		memcpy(to, elsewhere + elsewhere_start, len); /* ASan looks on */
		elsewhere_start += len;
	}
	ck_assert_uint_eq(len, 0);
	ck_assert_uint_eq(out.outside, 0);
	ck_assert_uint_eq(elsewhere_start, elsewhere_end);
	return n;
}

/* With everything inside: what is unsent is what was added, from byte @from on. */
static void check_whole(size_t from)
{
	ck_assert_uint_eq(out.sent, from);
	ck_assert_uint_eq(stream_unsent_outside(&out), 0);
	ck_assert(!stream_ends_outside(&out));
	ck_assert_uint_eq(copy_unsent(&out, wire), out.end - from);
	ck_assert(!memcmp(wire, whole + from, (size_t)out.end - from));
}

/* Inside ones, in small chunks and in one of its own size, before, between and behind those that are not. */
static const struct {
	size_t size;
	bool outside;
} mixed[] = { { 5, false },   { 0, false },  { 3000, true }, { 1, true },   { 70, false }, { STREAM_READ_MAX, true },
	      { 9000, false }, { 16, true }, { 31, false },  { 8160, true } };

static size_t add_mixed(void)
{
	size_t outside = 0;

	for (size_t i = 0; i < ARRAY_LEN(mixed); i++) {
		if (mixed[i].outside)
			add_outside(mixed[i].size);
		else
			add_inside(mixed[i].size);
		outside += mixed[i].outside ? mixed[i].size : 0;
		ck_assert_uint_eq(out.outside, outside);
	}
	return (size_t)out.end;
}

/* Bytes of the frame that byte @at is in, from there on; 0 for a frame's first byte. */
static size_t left_of_mixed(size_t at)
{
	size_t end = 0;

	for (size_t i = 0; i < ARRAY_LEN(mixed); i++) {
		if (at == end)
			return 0;
		end += WIRE_HEADER + mixed[i].size;
		if (at < end)
			return end - at;
	}
	return 0;
}

static bool lies_outside(size_t at)
{
	size_t end = 0;
	bool outside = false;

	for (size_t i = 0; i < ARRAY_LEN(mixed) && end <= at; i++) {
		outside = mixed[i].outside && at >= end + WIRE_HEADER;
		end += WIRE_HEADER + mixed[i].size;
	}
	return outside;
}

START_TEST(outside_frames_as_on_the_wire)
{
	add_mixed();
	ck_assert_uint_eq(bring_inside(), 5);
	check_whole(0);
	ck_assert_uint_eq(bring_inside(), 0); /* once */
	check_whole(0);
	add_inside(40);
	add_outside(300); /* and what comes later */
	add_outside(400);
	ck_assert_uint_eq(bring_inside(), 2);
	check_whole(0);
}
END_TEST

/* By turns: what lies here, up to a payload that does not, and that. */
START_TEST(sent_up_to_what_lies_outside)
{
	static const size_t steps[] = { 1, 7, WIRE_HEADER, 100, 5000, SIZE_MAX };
	size_t n = add_mixed(), outside = 0;

	for (size_t at = 0; at < n;) {
		size_t here = copy_unsent(&out, wire), there = stream_unsent_outside(&out), step;

		ck_assert(!here != !there);
		ck_assert_uint_eq(there, lies_outside(at) ? left_of_mixed(at) : 0);
		ck_assert(stream_ends_outside(&out)); /* the last one is */
		if (here)
			ck_assert(!memcmp(wire, whole + at, here));
		step = MIN(here + there, steps[_i]);
		if (there)
			ck_assert(!memcmp(elsewhere + outside, whole + at, step));
		outside += there ? step : 0;
		stream_sent(&out, step);
		at += step;
		ck_assert_uint_eq(out.sent, at);
		ck_assert_uint_eq(stream_frame_left(&out), left_of_mixed(at));
	}
	ck_assert_uint_eq(outside, elsewhere_end);
	ck_assert_uint_eq(copy_unsent(&out, wire), 0);
	ck_assert_uint_eq(stream_unsent_outside(&out), 0);
	ck_assert(!stream_ends_outside(&out));
	add_inside(9);
	ck_assert_uint_eq(copy_unsent(&out, wire), WIRE_HEADER + 9);
	ck_assert(!stream_ends_outside(&out));
}
END_TEST

START_TEST(pieces_stop_at_what_lies_outside)
{
	struct iovec iov[4];

	add_inside(WIRE_PAYLOAD_MAX);
	add_outside(100);
	add_inside(50);
	ck_assert_int_eq(stream_unsent(&out, iov, 1), 1);
	ck_assert_int_eq(stream_unsent(&out, iov, 4), 2); /* with its header */
	ck_assert_uint_eq(iov[1].iov_len, WIRE_HEADER);
	ck_assert(!stream_ends_outside(&out)); /* something follows that does not */
	stream_sent(&out, WIRE_HEADER + WIRE_PAYLOAD_MAX + 6);
	ck_assert_int_eq(stream_unsent(&out, iov, 4), 1);
	ck_assert_uint_eq(iov->iov_len, WIRE_HEADER - 6); /* less than is left of the frame */
	ck_assert_uint_eq(stream_frame_left(&out), WIRE_HEADER - 6 + 100);
	ck_assert_uint_eq(stream_unsent_outside(&out), 0);
	stream_sent(&out, WIRE_HEADER - 6 + 99);
	ck_assert_int_eq(stream_unsent(&out, iov, 4), 0);
	ck_assert_uint_eq(stream_unsent_outside(&out), 1);
	stream_sent(&out, 1);
	ck_assert_uint_eq(stream_unsent_outside(&out), 0);
	ck_assert_int_eq(stream_unsent(&out, iov, 4), 1);
	ck_assert_uint_eq(iov->iov_len, WIRE_HEADER + 50);
}
END_TEST

START_TEST(acknowledged_outside_frames_are_forgotten)
{
	add_outside(1000);
	add_outside(2000);
	add_inside(10);
	add_outside(500);
	stream_sent(&out, (size_t)out.end);
	ck_assert(stream_acked(&out, WIRE_HEADER + 999));
	ck_assert_uint_eq(out.forgotten, 0); /* as a whole, or not at all */
	ck_assert_uint_eq(out.outside, 3500);
	ck_assert(stream_acked(&out, WIRE_HEADER + 1000));
	ck_assert_uint_eq(out.forgotten, 1000);
	ck_assert_uint_eq(out.outside, 2500);
	ck_assert(stream_acked(&out, 2 * WIRE_HEADER + 3000 + 4)); /* and in the next one's header */
	ck_assert_uint_eq(out.forgotten, 3000); /* they add up, until they are gone */
	ck_assert_uint_eq(out.outside, 500);
	ck_assert_uint_eq(out.kept, 2 * WIRE_HEADER + 3000);
	out.forgotten = 0;
	ck_assert(stream_acked(&out, out.end));
	ck_assert_uint_eq(out.forgotten, 500);
	ck_assert_uint_eq(out.outside, 0);
	ck_assert_ptr_null(out.first);
	ck_assert_uint_eq(atomic_load(&budget.used), 0);
	elsewhere_start = elsewhere_end;
	out.forgotten = 0;
	ck_assert_uint_eq(bring_inside(), 0);
	add_inside(1); /* as if nothing had been */
	add_outside(600);
	ck_assert_uint_eq(copy_unsent(&out, wire), 1 + 2 * WIRE_HEADER);
}
END_TEST

/* Whatever was sent and acknowledged before, sending can go on from any byte. */
START_TEST(rewound_to_what_lay_outside)
{
	const size_t n = add_mixed();

	for (size_t acked = 0, step = 0; acked <= n; acked += 1 + step % 3500, step += 97) {
		size_t sent = MIN(n, acked + 300 * (step % 17));

		while (out.sent < sent) {
			size_t some = copy_unsent(&out, wire) + stream_unsent_outside(&out);

			stream_sent(&out, MIN(some, sent - (size_t)out.sent));
		}
		ck_assert(stream_acked(&out, acked));
		bring_inside();
		check_whole(sent); /* the transport may be as good as before: */
		stream_sent(&out, (n - sent) / 2);
		check_whole(sent + (n - sent) / 2);
		for (size_t at = acked; at <= sent + (n - sent) / 2; at += 1 + (n - acked) / 20) {
			ck_assert(stream_rewind(&out, at));
			check_whole(at);
			ck_assert_uint_eq(stream_frame_left(&out), left_of_mixed(at));
		}
		stream_out_free(&out);
		ck_assert_uint_eq(atomic_load(&budget.used), 0);
		stream_out_init(&out, &pool);
		elsewhere_start = elsewhere_end = 0;
		add_mixed();
	}
}
END_TEST

/* The chunk that `sent` is in is another afterwards. */
START_TEST(brought_inside_while_it_is_sent)
{
	for (size_t sent = 0; sent <= WIRE_HEADER + 100; sent++) {
		add_outside(100);
		for (size_t left = sent; left;) {
			size_t part = MIN(left, copy_unsent(&out, wire) + stream_unsent_outside(&out));

			stream_sent(&out, part);
			left -= part;
		}
		bring_inside();
		check_whole(sent);
		add_inside(3); /* behind it, not before */
		check_whole(sent);
		stream_sent(&out, (size_t)out.end - sent);
		ck_assert(stream_acked(&out, out.end));
		ck_assert_uint_eq(out.forgotten, 0); /* it lies outside no more */
		ck_assert_uint_eq(atomic_load(&budget.used), 0);
		stream_out_free(&out);
		stream_out_init(&out, &pool);
	}
}
END_TEST

START_TEST(outside_frames_count)
{
	size_t used;

	add_outside(100000);
	used = atomic_load(&budget.used);
	ck_assert_uint_ge(used, 100000);
	ck_assert_uint_le(used, 100000 + 100); /* and no chunk for it */
	ck_assert_uint_eq(stream_room(&out), WIRE_WINDOW - 100000 - WIRE_HEADER);
	add_outside(50000);
	ck_assert_uint_ge(atomic_load(&budget.used), 150000);
	ck_assert_uint_eq(stream_room(&out), WIRE_WINDOW - 150000 - 2 * WIRE_HEADER);
	used = atomic_load(&budget.used);
	bring_inside();
	ck_assert_uint_eq(atomic_load(&budget.used), used); /* it lies here, and not there */
	ck_assert_uint_eq(stream_room(&out), WIRE_WINDOW - 150000 - 2 * WIRE_HEADER);
	stream_sent(&out, (size_t)out.end);
	ck_assert(stream_acked(&out, WIRE_HEADER + 100000));
	ck_assert_uint_lt(atomic_load(&budget.used), 51000);
	add_outside(7); /* left for teardown, which looks at the budget */
}
END_TEST

/* Chunks of sizes that a pool keeps; and a frame that is copied follows one that is not. */
START_TEST(outside_frames_and_the_pool)
{
	size_t len;

	for (int i = 0; i < 20; i++) {
		add_outside(STREAM_READ_MAX);
		bring_inside();
		ck_assert_ptr_nonnull(stream_reserve(&out, STREAM_READ_MAX, &len)); /* left */
		add_outside(77);
		memcpy(stream_reserve(&out, 500, &len), payload, 500);
		ck_assert_uint_eq(len, 500);
		stream_commit(&out, WIRE_DATA, 0, 500);
		note_frame(payload, 500);
		add_inside(8);
		bring_inside();
		check_whole(0);
		stream_out_free(&out);
		stream_out_init(&out, &pool);
		elsewhere_start = elsewhere_end = 0;
	}
	ck_assert_uint_le(pool.n_rest[1], 16);
}
END_TEST

/* ---- bounds ------------------------------------------------------------------------------- */

START_TEST(window)
{
	size_t room = stream_room(&out);

	ck_assert_uint_eq(room, WIRE_WINDOW);
	add(WIRE_DATA, 100000);
	ck_assert_uint_eq(stream_room(&out), WIRE_WINDOW - 100000 - WIRE_HEADER);
	for (int i = 0; i < 3; i++)
		add(WIRE_DATA, WIRE_PAYLOAD_MAX);
	add(WIRE_DATA, stream_room(&out) - WIRE_HEADER - WIRE_WINDOW / 16);
	ck_assert_uint_eq(stream_room(&out), WIRE_WINDOW / 16);
	add(WIRE_DATA, 1);
	ck_assert_uint_eq(stream_room(&out), 0); /* what is left is too little, */
	stream_sent(&out, (size_t)out.end);
	ck_assert_uint_eq(stream_room(&out), 0); /* and it is acks that make room, */
	ck_assert(stream_acked(&out, 17));
	ck_assert_uint_eq(stream_room(&out), WIRE_WINDOW / 16); /* though nothing could be freed yet */
	ck_assert(stream_acked(&out, out.end));
	ck_assert_uint_eq(stream_room(&out), WIRE_WINDOW);
}
END_TEST

START_TEST(budget_of_all)
{
	size_t room;

	budget.limit = 1000000;
	room = stream_room(&out);
	ck_assert_uint_lt(room, budget.limit / 2); /* one of several connections */
	atomic_store(&budget.used, 900000);
	ck_assert_uint_lt(stream_room(&out), room / 5);
	for (size_t used = 1000000; used <= 3000000; used += 1000000) {
		atomic_store(&budget.used, used);
		ck_assert_uint_gt(stream_room(&out), 0); /* one that keeps nothing may go on */
		ck_assert_uint_le(stream_room(&out), 8192);
	}
	add(WIRE_DATA, 4000);
	ck_assert_uint_eq(stream_room(&out), 0);
	stream_sent(&out, 4016);
	ck_assert(stream_acked(&out, 4016));
	ck_assert_uint_gt(stream_room(&out), 0);
	ck_assert_uint_eq(atomic_load(&budget.used), 3000000);
	atomic_store(&budget.used, 0);
}
END_TEST

START_TEST(pool_is_used_again_and_bounded)
{
	struct stream_chunk *first;
	size_t len;

	add(WIRE_DATA, 100);
	first = out.first;
	stream_out_free(&out);
	stream_out_init(&out, &pool);
	add(WIRE_MSG, WIRE_PAYLOAD_MAX); /* of a size of its own: not kept at rest */
	stream_out_free(&out);
	stream_out_init(&out, &pool);
	ck_assert_uint_eq(pool.n_rest[1], 0);
	add(WIRE_DATA, 100);
	ck_assert_ptr_eq(out.first, first);
	stream_reserve(&out, STREAM_READ_MAX, &len); /* left, and taken again */
	ck_assert_ptr_eq(stream_reserve(&out, STREAM_READ_MAX, &len), stream_reserve(&out, STREAM_READ_MAX, &len));
	for (int i = 0; i < 100; i++) {
		add(WIRE_DATA, 3000);
		add(WIRE_DATA, STREAM_READ_MAX);
	}
	stream_out_free(&out);
	stream_out_init(&out, &pool);
	ck_assert_uint_gt(pool.n_rest[0], 0);
	ck_assert_uint_gt(pool.n_rest[1], 0);
	ck_assert_uint_le(pool.n_rest[0], 16);
	ck_assert_uint_le(pool.n_rest[1], 16);
}
END_TEST

/* ---- in ---------------------------------------------------------------------------------- */

static struct stream_in in;

/* A stream as a peer sends it, with uncounted frames between: what of each prefix has been received? */
struct expected {
	size_t received; /* bytes of the stream */
	size_t cut;	 /* bytes that a break takes away again */
};

static struct expected expected[2048];
static uint8_t counted[2048]; /* without those between */

/* Return: how many bytes. */
static size_t peer_stream(bool packets)
{
	static const struct {
		uint8_t type;
		uint16_t size;
	} frames[] = { { WIRE_OPENED, 6 }, { WIRE_DATA, 30 }, { WIRE_ACK, 0 },	 { WIRE_DATA, 0 },  { WIRE_MSG, 40 },
		       { WIRE_ORDER, 24 }, { WIRE_ACK, 0 },   { WIRE_DATA, 500 }, { WIRE_STOP, 0 }, { WIRE_MSG, 300 },
		       { WIRE_SHUT, 0 },   { WIRE_ACK, 0 } };
	size_t n = 0, received = 0;

	for (size_t i = 0; i < ARRAY_LEN(frames); i++) {
		bool direct = frames[i].type == WIRE_DATA && !packets;
		size_t size = WIRE_HEADER + frames[i].size;

		put(wire + n, frames[i].type, frames[i].size, 0);
		if (frame_counted(frames[i].type))
			memcpy(counted + received, wire + n, size);
		for (size_t j = 0; j < size; j++) {
			bool counts = direct && j >= WIRE_HEADER;

			expected[n + j] = (struct expected){ received + (counts ? j : 0), counts ? 0 : j };
		}
		n += size;
		received += frame_counted(frames[i].type) ? size : 0;
	}
	expected[n] = (struct expected){ received, 0 };
	return n;
}

static void start(bool packets)
{
	in = (struct stream_in){ .packets = packets };
}

static void walk(const uint8_t *data, size_t n)
{
	uint8_t *exact = malloc(n + !n); /* ASan looks on */

	memcpy(exact, data, n);
	ck_assert_int_eq(stream_walk(&in, &out, exact, n), 0);
	free(exact);
}

START_TEST(walked_at_every_split)
{
	bool packets = _i;
	size_t n = peer_stream(packets);

	for (size_t split = 0; split <= n; split++) {
		start(packets);
		walk(wire, split);
		ck_assert_uint_eq(in.received, expected[split].received);
		walk(wire + split, n - split);
		ck_assert_uint_eq(in.received, expected[n].received);
		ck_assert(in.heard && !in.over);
	}
	start(packets);
	for (size_t i = 0; i < n; i++) {
		walk(wire + i, 1);
		ck_assert_uint_eq(in.received, expected[i + 1].received);
	}
}
END_TEST

/* Then the peer sends its stream again, from the byte on that `received` names: no uncounted frame lies before that. */
START_TEST(cut_at_every_byte)
{
	bool packets = _i;
	size_t n = peer_stream(packets);

	for (size_t split = 0; split <= n; split++) {
		start(packets);
		walk(wire, split);
		ck_assert_uint_eq(stream_cut(&in), expected[split].cut);
		ck_assert_uint_eq(in.received, expected[split].received);
		ck_assert_uint_eq(stream_cut(&in), 0);
		walk(counted + in.received, expected[n].received - in.received);
		ck_assert_uint_eq(in.received, expected[n].received);
		ck_assert_uint_eq(stream_cut(&in), 0); /* a frame's end */
	}
}
END_TEST

/* A cut twice over, between attempts that bring less than a header. */
START_TEST(cut_again_and_again)
{
	size_t n = peer_stream(false);

	start(false);
	for (size_t i = 0; i < n;) {
		size_t part = MIN(5 + i % 40, n - i), cut;

		walk(wire + i, part);
		cut = stream_cut(&in);
		ck_assert_uint_eq(cut, expected[i + part].cut);
		i += part - cut;
		if (part == cut) { /* no frame came whole: let it */
			struct frame_header h;

			ck_assert_int_eq(frame_get_header(&h, wire + i), 0);
			walk(wire + i, WIRE_HEADER + h.length);
			i += WIRE_HEADER + h.length;
			ck_assert_uint_eq(stream_cut(&in), 0);
		}
		ck_assert_uint_eq(in.received, expected[i].received);
	}
	ck_assert_uint_eq(in.received, expected[n].received);
}
END_TEST

/* END comes again when it was not acted on; it is no part of the stream. */
START_TEST(end_is_cut)
{
	size_t n = put(wire, WIRE_DATA, 10, 0);
	size_t end = put(wire + n, WIRE_END, 0, 0);

	start(false);
	walk(wire, n + end - 1);
	ck_assert(!in.over);
	ck_assert_uint_eq(stream_cut(&in), WIRE_HEADER - 1);
	walk(wire + n, end);
	ck_assert(in.over);
	ck_assert_uint_eq(in.received, n);
	walk(wire, n); /* another connection's */
	ck_assert_uint_eq(in.received, n);
	ck_assert_uint_eq(stream_cut(&in), WIRE_HEADER);
	ck_assert(!in.over);
	ck_assert_uint_eq(stream_cut(&in), 0);
	walk(wire + n, end);
	ck_assert(in.over);
	ck_assert_uint_eq(in.received, n);
}
END_TEST

START_TEST(spliced_bytes_count)
{
	size_t n = put(wire, WIRE_DATA, 1000, 0);

	start(false);
	walk(wire, WIRE_HEADER + 10);
	stream_walked(&in, 900);
	ck_assert_uint_eq(in.received, WIRE_HEADER + 910);
	ck_assert_uint_eq(in.left, 90);
	walk(wire + WIRE_HEADER + 910, 40);
	ck_assert_uint_eq(stream_cut(&in), 0);
	stream_walked(&in, 50);
	ck_assert_uint_eq(in.received, n);
	walk(wire, n); /* a header is expected again */
	ck_assert_uint_eq(in.received, 2 * n);
}
END_TEST

START_TEST(large_frames)
{
	static const uint8_t types[] = { WIRE_DATA, WIRE_MSG, WIRE_ORDER };

	for (size_t i = 0; i < ARRAY_LEN(types); i++) {
		size_t n = put(wire, types[i], WIRE_PAYLOAD_MAX, 0);

		start(i == 1);
		walk(wire, n - 1);
		ck_assert_uint_eq(in.received, types[i] == WIRE_DATA ? n - 1 : 0);
		walk(wire + n - 1, 1);
		ck_assert_uint_eq(in.received, n);
	}
	start(false);
	put(wire, WIRE_DATA, 0, 0);
	wire[1] = WIRE_PAYLOAD_MAX >> 16; /* one more than */
	wire[3] = 1;
	ck_assert_int_eq(stream_walk(&in, &out, wire, WIRE_HEADER), -EPROTO);
}
END_TEST

START_TEST(acks_are_found)
{
	size_t n;

	for (int i = 0; i < 3; i++)
		add(WIRE_DATA, 84);
	stream_sent(&out, 250);
	n = put(wire, WIRE_DATA, 20, 100);
	n += put(wire + n, WIRE_ACK, 0, 150);
	n += put(wire + n, WIRE_MSG, 20, 140); /* sent again: an old one */
	n += put(wire + n, WIRE_END, 0, 250);
	start(false);
	walk(wire, WIRE_HEADER - 1);
	ck_assert_uint_eq(out.acked, 0);
	walk(wire + WIRE_HEADER - 1, 1); /* with the header, whatever is behind it */
	ck_assert_uint_eq(out.acked, 100);
	ck_assert_uint_eq(out.kept, 100);
	walk(wire + WIRE_HEADER, 20 + 2 * WIRE_HEADER + 20);
	ck_assert_uint_eq(out.acked, 150);
	ck_assert_uint_eq(out.kept, 100);
	walk(wire + n - WIRE_HEADER, WIRE_HEADER);
	ck_assert_uint_eq(out.acked, 250);
	ck_assert_uint_eq(out.kept, 200);
}
END_TEST

START_TEST(violations)
{
	static const uint8_t ours[] = { WIRE_OPENED, WIRE_DATA, WIRE_MSG, WIRE_ORDER, WIRE_SHUT,
					WIRE_STOP,   WIRE_ACK,	WIRE_END, WIRE_ABORT };
	static const uint8_t others[] = { WIRE_HELLO, WIRE_OPEN, WIRE_RETIRE, WIRE_RESUME };

	add(WIRE_DATA, 84);
	stream_sent(&out, 50);
	for (size_t i = 0; i < ARRAY_LEN(ours); i++) {
		start(false);
		put(wire, ours[i], 0, 51); /* more than was sent */
		ck_assert_int_eq(stream_walk(&in, &out, wire, WIRE_HEADER), -EPROTO);
		ck_assert_uint_eq(out.acked, 0);
		ck_assert_uint_eq(in.received, 0);
	}
	for (size_t i = 0; i < ARRAY_LEN(others); i++) { /* no connection's: it means nothing there */
		start(false);
		put(wire, others[i], 0, 51);
		walk(wire, WIRE_HEADER);
		ck_assert_uint_eq(out.acked, 0);
	}
	start(false);
	put(wire, WIRE_TYPE_MAX + 1, 0, 0);
	ck_assert_int_eq(stream_walk(&in, &out, wire, WIRE_HEADER), -EPROTO);
	start(false);
	put(wire, WIRE_SHUT, 0, 0);
	wire[3] = 1; /* with a payload */
	ck_assert_int_eq(stream_walk(&in, &out, wire, WIRE_HEADER), -EPROTO);
}
END_TEST

START_TEST(acks_that_are_due)
{
	start(false);
	ck_assert(!stream_ack_due(&in));
	in.delivered = WIRE_ACK_EVERY - 1;
	ck_assert(!stream_ack_due(&in));
	in.delivered = WIRE_ACK_EVERY;
	ck_assert(stream_ack_due(&in));
	ck_assert_uint_eq(stream_ack(&in), WIRE_ACK_EVERY);
	ck_assert(!stream_ack_due(&in));
	in.delivered += WIRE_ACK_EVERY;
	ck_assert(stream_ack_due(&in));
}
END_TEST

int main(void)
{
	Suite *s = suite_create("stream");
	TCase *t = tcase_create("stream"), *outside = tcase_create("outside");
	SRunner *sr = srunner_create(s);
	int failed;

	suite_add_tcase(s, t);
	tcase_set_timeout(t, 60);
	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_test(t, nothing_is_there);
	tcase_add_test(t, frames_as_on_the_wire);
	tcase_add_test(t, what_is_reserved_counts_when_committed);
	tcase_add_test(t, a_small_frame_costs_what_it_needs);
	tcase_add_test(t, what_is_reserved_can_be_left);
	tcase_add_test(t, reserved_room_is_bounded);
	tcase_add_test(t, pieces_are_as_many_as_asked_for);
	tcase_add_test(t, sent_byte_by_byte);
	tcase_add_test(t, rewound_to_every_byte);
	tcase_add_test(t, rewound_behind_acks);
	tcase_add_test(t, rewound_too_far_and_forth);
	tcase_add_test(t, acknowledged_frames_are_freed);
	tcase_add_test(t, small_frames_share_memory);
	tcase_add_test(t, window);
	tcase_add_test(t, budget_of_all);
	tcase_add_test(t, pool_is_used_again_and_bounded);
	tcase_add_loop_test(t, walked_at_every_split, 0, 2);
	tcase_add_loop_test(t, cut_at_every_byte, 0, 2);
	tcase_add_test(t, cut_again_and_again);
	tcase_add_test(t, end_is_cut);
	tcase_add_test(t, spliced_bytes_count);
	tcase_add_test(t, large_frames);
	tcase_add_test(t, acks_are_found);
	tcase_add_test(t, violations);
	tcase_add_test(t, acks_that_are_due);
	suite_add_tcase(s, outside);
	tcase_set_timeout(outside, 60);
	tcase_add_checked_fixture(outside, setup_outside, teardown);
	tcase_add_test(outside, outside_frames_as_on_the_wire);
	tcase_add_loop_test(outside, sent_up_to_what_lies_outside, 0, 6);
	tcase_add_test(outside, pieces_stop_at_what_lies_outside);
	tcase_add_test(outside, acknowledged_outside_frames_are_forgotten);
	tcase_add_test(outside, rewound_to_what_lay_outside);
	tcase_add_test(outside, brought_inside_while_it_is_sent);
	tcase_add_test(outside, outside_frames_count);
	tcase_add_test(outside, outside_frames_and_the_pool);
	srunner_set_tap(sr, "-");
	srunner_run_all(sr, CK_SILENT);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed != 0;
}
