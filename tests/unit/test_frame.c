/* SPDX-License-Identifier: Apache-2.0 */
#include <check.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "frame.h"
#include "util.h"

#define SIZE 8192

static uint8_t data[SIZE];

/* Decoders, all of one shape, run on a block of exactly the payload's size. */
typedef int decoder(const void *payload, size_t size);

static int get_hello(const void *payload, size_t size)
{
	struct frame_hello h;

	return frame_get_hello(&h, payload, size);
}

static int get_open(const void *payload, size_t size)
{
	struct frame_open o;
	int err = frame_get_open(&o, payload, size);

	if (!err) { /* what is said to be there is */
		const uint8_t *name = (const uint8_t *)o.name, *start = payload;

		ck_assert(name >= start && name + o.name_len <= start + size);
		ck_assert_uint_le(o.credentials.n_groups, WIRE_GROUPS_MAX);
	}
	return err;
}

static int get_opened(const void *payload, size_t size)
{
	struct frame_opened o;
	int err = frame_get_opened(&o, payload, size);

	if (!err)
		ck_assert_uint_le(o.reason_len, WIRE_REASON_MAX);
	return err;
}

static int get_resume(const void *payload, size_t size)
{
	struct frame_resume r;

	return frame_get_resume(&r, payload, size);
}

static int get_resumed(const void *payload, size_t size)
{
	struct frame_resumed r;

	return frame_get_resumed(&r, payload, size);
}

static int decode(decoder *get, const void *payload, size_t size)
{
	uint8_t *exact = malloc(size + !size);
	int err;

	memcpy(exact, payload, size);
	err = get(exact, size);
	free(exact);
	return err;
}

static size_t put_hello(void)
{
	struct frame_hello h = {
		.version = 1, .role = WIRE_ROLE_DATA, .features = 0x01020304, .payload_max = 262144
	};
	struct buf b;

	memset(h.instance.bytes, 'i', sizeof(h.instance.bytes));
	buf_init(&b, data, sizeof(data));
	frame_put_hello(&b, &h);
	ck_assert(!b.bad);
	return b.pos;
}

static struct frame_open some_open(void)
{
	struct frame_open o = {
		.target = WIRE_TARGET_NAME,
		.socktype = WIRE_SEQPACKET,
		.flags = 0x102,
		.credentials = { .uid = 1000,
				 .gid = 0xfffffffe,
				 .n_groups = 3,
				 .groups = { 0, 1, 0x80000000 } },
		.name = "\0abstract",
		.name_len = 9,
	};

	memset(o.id.bytes, 'c', sizeof(o.id.bytes));
	return o;
}

static size_t put_open(const struct frame_open *o)
{
	struct buf b;

	buf_init(&b, data, sizeof(data));
	frame_put_open(&b, o);
	ck_assert(!b.bad);
	return b.pos;
}

static size_t put_opened(const char *reason, size_t len)
{
	struct frame_opened o = { .error = 111, .reason = reason, .reason_len = len };
	struct buf b;

	buf_init(&b, data, sizeof(data));
	frame_put_opened(&b, &o);
	ck_assert(!b.bad);
	return b.pos;
}

static size_t put_resume(uint64_t received)
{
	struct frame_resume r = { .received = received };
	struct buf b;

	memset(r.id.bytes, 'r', sizeof(r.id.bytes));
	buf_init(&b, data, sizeof(data));
	frame_put_resume(&b, &r);
	ck_assert(!b.bad);
	return b.pos;
}

static size_t put_resumed(uint16_t error, uint64_t received)
{
	struct frame_resumed r = { .error = error, .received = received };
	struct buf b;

	buf_init(&b, data, sizeof(data));
	frame_put_resumed(&b, &r);
	ck_assert(!b.bad);
	return b.pos;
}

/* ---- headers ---------------------------------------------------------------------------- */

/* PROTOCOL.md says these bytes. */
START_TEST(header_bytes)
{
	static const uint8_t wanted[] = { 0, 1, 2, 3, 7, 0, 0, 253, 1, 2, 3, 4, 5, 6, 7, 8 };
	struct frame_header h = {
		.length = 0x010203, .type = WIRE_MSG, .count = 253, .ack = 0x0102030405060708
	};
	struct frame_header got;

	frame_put_header(data, &h);
	ck_assert_mem_eq(data, wanted, sizeof(wanted));
	ck_assert_uint_eq(sizeof(wanted), WIRE_HEADER);
	ck_assert_int_eq(frame_get_header(&got, data), 0);
	ck_assert_uint_eq(got.length, h.length);
	ck_assert_uint_eq(got.type, h.type);
	ck_assert_uint_eq(got.count, h.count);
	ck_assert_uint_eq(got.ack, h.ack);
}
END_TEST

static int header(uint32_t length, uint8_t type, uint8_t flags)
{
	struct frame_header h = { .length = length, .type = type, .flags = flags };

	frame_put_header(data, &h);
	return frame_get_header(&h, data);
}

START_TEST(header_limits)
{
	for (unsigned type = 0; type < 256; type++)
		ck_assert_int_eq(header(0, (uint8_t)type, 0),
				 type >= 1 && type <= WIRE_TYPE_MAX ? 0 : -EPROTO);
	for (unsigned flags = 1; flags < 256; flags++)
		ck_assert_int_eq(header(0, WIRE_DATA, (uint8_t)flags), -EPROTO);
	ck_assert_int_eq(header(WIRE_PAYLOAD_MAX, WIRE_DATA, 0), 0);
	ck_assert_int_eq(header(WIRE_PAYLOAD_MAX + 1, WIRE_DATA, 0), -EPROTO);
	ck_assert_int_eq(header(UINT32_MAX, WIRE_DATA, 0), -EPROTO);
}
END_TEST

START_TEST(what_has_no_payload_has_none)
{
	static const uint8_t bare[] = { WIRE_PING, WIRE_PONG, WIRE_SHUT,  WIRE_STOP,
					WIRE_ACK,  WIRE_END,  WIRE_RETIRE };

	for (size_t i = 0; i < ARRAY_LEN(bare); i++) {
		ck_assert_int_eq(header(0, bare[i], 0), 0);
		ck_assert_int_eq(header(1, bare[i], 0), -EPROTO);
	}
}
END_TEST

START_TEST(counted_types)
{
	for (unsigned type = 0; type < 256; type++)
		ck_assert_int_eq(frame_counted((uint8_t)type),
				 type == WIRE_DATA || type == WIRE_MSG || type == WIRE_ORDER ||
					 type == WIRE_SHUT || type == WIRE_STOP);
}
END_TEST

/* ---- payloads ---------------------------------------------------------------------------- */

START_TEST(hello_there_and_back)
{
	size_t n = put_hello();
	struct frame_hello h;

	ck_assert_uint_eq(n, 32);
	ck_assert_int_eq(frame_get_hello(&h, data, n), 0);
	ck_assert_uint_eq(h.version, 1);
	ck_assert_uint_eq(h.role, WIRE_ROLE_DATA);
	ck_assert_uint_eq(h.features, 0x01020304);
	ck_assert_uint_eq(h.payload_max, 262144);
	ck_assert_uint_eq(h.instance.bytes[15], 'i');
	/* A later version may say more. */
	ck_assert_int_eq(frame_get_hello(&h, data, n + 100), 0);
}
END_TEST

START_TEST(open_there_and_back)
{
	struct frame_open o = some_open(), got;
	size_t n = put_open(&o);

	ck_assert_int_eq(frame_get_open(&got, data, n), 0);
	ck_assert_mem_eq(got.id.bytes, o.id.bytes, sizeof(o.id.bytes));
	ck_assert_uint_eq(got.target, o.target);
	ck_assert_uint_eq(got.socktype, o.socktype);
	ck_assert_uint_eq(got.flags, o.flags);
	ck_assert_mem_eq(&got.credentials, &o.credentials,
			 offsetof(struct frame_credentials, groups) + 12);
	ck_assert_uint_eq(got.name_len, o.name_len);
	ck_assert_mem_eq(got.name, o.name, o.name_len);
}
END_TEST

START_TEST(open_limits)
{
	char name[WIRE_NAME_MAX + 1];
	struct frame_open o = some_open();

	memset(name, '/', sizeof(name));
	o.name = name;
	for (size_t n = 0; n <= sizeof(name); n++) {
		o.name_len = n;
		o.target = WIRE_TARGET_NAME;
		ck_assert_int_eq(decode(get_open, data, put_open(&o)),
				 n && n <= WIRE_NAME_MAX ? 0 : -EPROTO);
		o.target = WIRE_TARGET_CHANNEL;
		ck_assert_int_eq(decode(get_open, data, put_open(&o)),
				 n == WIRE_ID_SIZE ? 0 : -EPROTO);
		o.target = WIRE_TARGET_LISTENER;
		ck_assert_int_eq(decode(get_open, data, put_open(&o)),
				 n == WIRE_ID_SIZE ? 0 : -EPROTO);
	}
	o.name_len = WIRE_ID_SIZE;
	o.target = 0;
	ck_assert_int_eq(decode(get_open, data, put_open(&o)), -EPROTO);
	o.target = 4;
	ck_assert_int_eq(decode(get_open, data, put_open(&o)), -EPROTO);
	o.target = WIRE_TARGET_NAME;
	o.credentials.n_groups = WIRE_GROUPS_MAX;
	ck_assert_int_eq(decode(get_open, data, put_open(&o)), 0);
}
END_TEST

START_TEST(too_many_groups)
{
	struct frame_open o = some_open();
	size_t n = put_open(&o);
	struct buf b;

	buf_init(&b, data + 28, 2); /* behind id, target, socktype, flags, uid, gid */
	buf_put_u16(&b, WIRE_GROUPS_MAX + 1);
	ck_assert_int_eq(decode(get_open, data, n), -EPROTO);
	memset(data + n, 0, sizeof(data) - n); /* also when they are there */
	ck_assert_int_eq(decode(get_open, data, sizeof(data)), -EPROTO);
}
END_TEST

/* setresuid(2) takes it for "as it is". */
START_TEST(nobody_is_no_client)
{
	struct frame_open o = some_open();

	o.credentials.uid = UINT32_MAX;
	ck_assert_int_eq(decode(get_open, data, put_open(&o)), -EPROTO);
	o = some_open();
	o.credentials.gid = UINT32_MAX;
	ck_assert_int_eq(decode(get_open, data, put_open(&o)), -EPROTO);
	o = some_open();
	o.credentials.groups[2] = UINT32_MAX;
	ck_assert_int_eq(decode(get_open, data, put_open(&o)), -EPROTO);
}
END_TEST

START_TEST(opened_there_and_back)
{
	char reason[WIRE_REASON_MAX + 10];
	struct frame_opened o;
	size_t n = put_opened("because", 7);
	struct buf b;

	ck_assert_int_eq(frame_get_opened(&o, data, n), 0);
	ck_assert_uint_eq(o.error, 111);
	ck_assert_uint_eq(o.reason_len, 7);
	ck_assert_mem_eq(o.reason, "because", 7);
	memset(reason, 'r', sizeof(reason));
	n = put_opened(reason, sizeof(reason)); /* is cut */
	ck_assert_int_eq(frame_get_opened(&o, data, n), 0);
	ck_assert_uint_eq(o.reason_len, WIRE_REASON_MAX);
	buf_init(&b, data, sizeof(data));
	buf_put_u16(&b, 1);
	buf_put_str(&b, reason, WIRE_REASON_MAX + 1);
	ck_assert_int_eq(decode(get_opened, data, b.pos), -EPROTO);
}
END_TEST

START_TEST(resume_there_and_back)
{
	size_t n = put_resume(0x0102030405060708);
	struct frame_resumed answer;
	struct frame_resume r;

	ck_assert_uint_eq(n, WIRE_ID_SIZE + 8);
	ck_assert_mem_eq(data + WIRE_ID_SIZE, "\1\2\3\4\5\6\7\10", 8);
	ck_assert_int_eq(frame_get_resume(&r, data, n), 0);
	ck_assert_uint_eq(r.id.bytes[0], 'r');
	ck_assert_uint_eq(r.id.bytes[WIRE_ID_SIZE - 1], 'r');
	ck_assert_uint_eq(r.received, 0x0102030405060708);
	n = put_resumed(107, UINT64_MAX);
	ck_assert_uint_eq(n, 10);
	ck_assert_mem_eq(data, "\0\153\377\377\377\377\377\377\377\377", 10);
	ck_assert_int_eq(frame_get_resumed(&answer, data, n), 0);
	ck_assert_uint_eq(answer.error, 107);
	ck_assert_uint_eq(answer.received, UINT64_MAX);
}
END_TEST

START_TEST(does_not_fit)
{
	struct frame_open o = some_open();
	size_t whole = put_open(&o);

	for (size_t size = 0; size < whole; size++) {
		struct buf b;

		buf_init(&b, data, size);
		frame_put_open(&b, &o);
		ck_assert(b.bad);
	}
}
END_TEST

/* Every prefix, and one byte more than it is. */
START_TEST(truncated_or_surplus)
{
	struct frame_open o = some_open();
	size_t n = put_hello();

	for (size_t size = 0; size < n; size++)
		ck_assert_int_eq(decode(get_hello, data, size), -EPROTO);
	n = put_open(&o);
	for (size_t size = 0; size < n; size++)
		ck_assert_int_eq(decode(get_open, data, size), -EPROTO);
	ck_assert_int_eq(decode(get_open, data, n + 1), -EPROTO);
	n = put_opened("because", 7);
	for (size_t size = 0; size < n; size++)
		ck_assert_int_eq(decode(get_opened, data, size), -EPROTO);
	ck_assert_int_eq(decode(get_opened, data, n + 1), -EPROTO);
	n = put_resume(1);
	for (size_t size = 0; size < n; size++)
		ck_assert_int_eq(decode(get_resume, data, size), -EPROTO);
	ck_assert_int_eq(decode(get_resume, data, n + 1), -EPROTO);
	n = put_resumed(0, 1);
	for (size_t size = 0; size < n; size++)
		ck_assert_int_eq(decode(get_resumed, data, size), -EPROTO);
	ck_assert_int_eq(decode(get_resumed, data, n + 1), -EPROTO);
}
END_TEST

/* Each byte of each with each value. */
START_TEST(every_mutation)
{
	static decoder *const decoders[] = { get_hello, get_open, get_opened };
	struct frame_open o = some_open();

	for (size_t d = 0; d < ARRAY_LEN(decoders); d++) {
		size_t n = d == 0 ? put_hello() : d == 1 ? put_open(&o) : put_opened("because", 7);

		for (size_t i = 0; i < n; i++) {
			uint8_t kept = data[i];

			for (unsigned c = 0; c < 256; c++) {
				data[i] = (uint8_t)c;
				decode(decoders[d], data, n);
			}
			data[i] = kept;
		}
		ck_assert_int_eq(decode(decoders[d], data, n), 0);
	}
}
END_TEST

START_TEST(wrong_magic_or_role)
{
	size_t n = put_hello();

	data[0] ^= 1;
	ck_assert_int_eq(decode(get_hello, data, n), -EPROTO);
	data[0] ^= 1;
	for (unsigned role = 0; role < 256; role++) {
		data[7] = (uint8_t)role;
		ck_assert_int_eq(decode(get_hello, data, n), role == 1 || role == 2 ? 0 : -EPROTO);
	}
}
END_TEST

int main(void)
{
	Suite *s = suite_create("frame");
	TCase *t = tcase_create("frame");
	SRunner *sr = srunner_create(s);
	int failed;

	suite_add_tcase(s, t);
	tcase_set_timeout(t, 60);
	tcase_add_test(t, header_bytes);
	tcase_add_test(t, header_limits);
	tcase_add_test(t, what_has_no_payload_has_none);
	tcase_add_test(t, counted_types);
	tcase_add_test(t, hello_there_and_back);
	tcase_add_test(t, open_there_and_back);
	tcase_add_test(t, open_limits);
	tcase_add_test(t, too_many_groups);
	tcase_add_test(t, nobody_is_no_client);
	tcase_add_test(t, opened_there_and_back);
	tcase_add_test(t, resume_there_and_back);
	tcase_add_test(t, does_not_fit);
	tcase_add_test(t, truncated_or_surplus);
	tcase_add_test(t, every_mutation);
	tcase_add_test(t, wrong_magic_or_role);
	srunner_set_tap(sr, "-");
	srunner_run_all(sr, CK_SILENT);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed != 0;
}
