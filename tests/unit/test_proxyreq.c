/* SPDX-License-Identifier: Apache-2.0 */
#include <check.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "proxyreq.h"

static const struct proxyreq request = {
	.op = PROXYREQ_CONNECT,
	.flags = 5,
	.name_len = 11,
	.name = "/run/x.sock",
};

static const struct proxyreply reply = {
	.error = ECONNREFUSED,
	.reason = "the peer is not reachable",
};

static uint8_t packet[PROXYREQ_MAX];

/* In a block of exactly its size, so that a sanitizer sees any access beyond it. */
static int decode_request(struct proxyreq *r, const void *data, size_t size)
{
	uint8_t *exact = malloc(size);
	int err;

	memcpy(exact, data, size);
	err = proxyreq_decode(r, exact, size);
	free(exact);
	return err;
}

static int decode_reply(struct proxyreply *r, const void *data, size_t size)
{
	uint8_t *exact = malloc(size);
	int err;

	memcpy(exact, data, size);
	err = proxyreply_decode(r, exact, size);
	free(exact);
	return err;
}

START_TEST(request_there_and_back)
{
	size_t n = proxyreq_encode(&request, packet, sizeof(packet));
	struct proxyreq r;

	ck_assert_uint_gt(n, 0);
	ck_assert_int_eq(decode_request(&r, packet, n), 0);
	ck_assert_mem_eq(&r, &request, sizeof(r));
}
END_TEST

START_TEST(reply_there_and_back)
{
	size_t n = proxyreply_encode(&reply, packet, sizeof(packet));
	struct proxyreply r;

	ck_assert_uint_gt(n, 0);
	ck_assert_int_eq(decode_reply(&r, packet, n), 0);
	ck_assert_mem_eq(&r, &reply, sizeof(r));
}
END_TEST

/* PROTOCOL.md says these bytes. */
START_TEST(request_bytes)
{
	static const uint8_t bytes[] = { 'U', 'D', 'S', 'Q', 0,	  2,   0,   1,	 0,
					 5,   0,   0,	0,   11,  '/', 'r', 'u', 'n',
					 '/', 'x', '.', 's', 'o', 'c', 'k' };

	ck_assert_uint_eq(proxyreq_encode(&request, packet, sizeof(packet)), sizeof(bytes));
	ck_assert_mem_eq(packet, bytes, sizeof(bytes));
}
END_TEST

START_TEST(empty_and_longest_names)
{
	struct proxyreq r, longest = { .op = PROXYREQ_CROSSES, .name_len = sizeof(r.name) };
	size_t n;

	n = proxyreq_encode(&(struct proxyreq){ .op = PROXYREQ_RELOAD }, packet, sizeof(packet));
	ck_assert_int_eq(decode_request(&r, packet, n), 0);
	ck_assert_uint_eq(r.op, PROXYREQ_RELOAD);
	ck_assert_uint_eq(r.name_len, 0);

	memset(longest.name, '/', sizeof(longest.name));
	n = proxyreq_encode(&longest, packet, sizeof(packet));
	ck_assert_int_eq(decode_request(&r, packet, n), 0);
	ck_assert_mem_eq(&r, &longest, sizeof(r));
}
END_TEST

START_TEST(long_reason_is_cut)
{
	struct proxyreply r = { .error = EIO }, back;
	size_t n;

	memset(r.reason, 'x', sizeof(r.reason)); /* not even terminated */
	n = proxyreply_encode(&r, packet, sizeof(packet));
	ck_assert_int_eq(decode_reply(&back, packet, n), 0);
	ck_assert_uint_eq(strlen(back.reason), sizeof(back.reason) - 1);
}
END_TEST

START_TEST(does_not_fit)
{
	size_t n = proxyreq_encode(&request, packet, sizeof(packet));

	for (size_t size = 0; size < n; size++)
		ck_assert_uint_eq(proxyreq_encode(&request, packet, size), 0);
	n = proxyreply_encode(&reply, packet, sizeof(packet));
	for (size_t size = 0; size < n; size++)
		ck_assert_uint_eq(proxyreply_encode(&reply, packet, size), 0);
}
END_TEST

START_TEST(truncated_or_surplus_is_malformed)
{
	size_t n = proxyreq_encode(&request, packet, sizeof(packet));
	struct proxyreq r;
	struct proxyreply y;

	for (size_t size = 0; size < n; size++)
		ck_assert_int_eq(decode_request(&r, packet, size), -EPROTO);
	ck_assert_int_eq(decode_request(&r, packet, n + 1), -EPROTO);
	n = proxyreply_encode(&reply, packet, sizeof(packet));
	for (size_t size = 0; size < n; size++)
		ck_assert_int_eq(decode_reply(&y, packet, size), -EPROTO);
	ck_assert_int_eq(decode_reply(&y, packet, n + 1), -EPROTO);
}
END_TEST

START_TEST(too_long_a_name_is_malformed)
{
	size_t n = proxyreq_encode(&request, packet, sizeof(packet));
	size_t length_at = n - request.name_len - 4;
	struct proxyreq r;

	packet[length_at + 3] = sizeof(r.name) + 1;
	ck_assert_int_eq(decode_request(&r, packet, length_at + 4 + sizeof(r.name) + 1), -EPROTO);
	memset(packet + length_at, 0xff, 4);
	ck_assert_int_eq(decode_request(&r, packet, n), -EPROTO);
}
END_TEST

START_TEST(other_magic_or_version)
{
	size_t n = proxyreq_encode(&request, packet, sizeof(packet));
	struct proxyreq r;

	packet[5]++;
	ck_assert_int_eq(decode_request(&r, packet, n), -EPROTONOSUPPORT);
	packet[5]--;
	packet[0]++;
	ck_assert_int_eq(decode_request(&r, packet, n), -EPROTO);
}
END_TEST

/* Whatever arrives is refused, or is something that could have been sent. */
START_TEST(mutated)
{
	struct proxyreq r;
	struct proxyreply y;
	size_t n;

	srand(1);
	for (int i = 0; i < 200000; i++) {
		n = i & 1 ? proxyreq_encode(&request, packet, sizeof(packet))
			  : proxyreply_encode(&reply, packet, sizeof(packet));
		for (int flips = 1 + rand() % 3; flips; flips--)
			packet[(size_t)rand() % n] ^= (uint8_t)(1 << rand() % 8);
		n -= (size_t)(rand() % 8 == 0 ? rand() % (int)n : 0);
		if (decode_request(&r, packet, n) == 0)
			ck_assert_uint_le(r.name_len, sizeof(r.name));
		if (decode_reply(&y, packet, n) == 0)
			ck_assert_uint_lt(strnlen(y.reason, sizeof(y.reason)), sizeof(y.reason));
	}
}
END_TEST

int main(void)
{
	Suite *s = suite_create("proxyreq");
	TCase *t = tcase_create("proxyreq");
	SRunner *sr = srunner_create(s);
	int failed;

	suite_add_tcase(s, t);
	tcase_add_test(t, request_there_and_back);
	tcase_add_test(t, reply_there_and_back);
	tcase_add_test(t, request_bytes);
	tcase_add_test(t, empty_and_longest_names);
	tcase_add_test(t, long_reason_is_cut);
	tcase_add_test(t, does_not_fit);
	tcase_add_test(t, truncated_or_surplus_is_malformed);
	tcase_add_test(t, too_long_a_name_is_malformed);
	tcase_add_test(t, other_magic_or_version);
	tcase_add_test(t, mutated);
	srunner_set_tap(sr, "-");
	srunner_run_all(sr, CK_SILENT);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed != 0;
}
