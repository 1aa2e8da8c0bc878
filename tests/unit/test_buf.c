/* SPDX-License-Identifier: Apache-2.0 */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "buf.h"

START_TEST(numbers_are_big_endian)
{
	static const uint8_t wanted[] = { 0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x07, 0x08,
					  0x09, 0x0a, 0x0b, 0x0c, 0x0d, 0x0e, 0x0f };
	uint8_t data[sizeof(wanted)];
	struct buf b;

	buf_init(&b, data, sizeof(data));
	buf_put_u8(&b, 0x01);
	buf_put_u16(&b, 0x0203);
	buf_put_u32(&b, 0x04050607);
	buf_put_u64(&b, 0x08090a0b0c0d0e0f);
	ck_assert(buf_done(&b));
	ck_assert_mem_eq(data, wanted, sizeof(wanted));
	buf_init_const(&b, data, sizeof(data));
	ck_assert_uint_eq(buf_get_u8(&b), 0x01);
	ck_assert_uint_eq(buf_get_u16(&b), 0x0203);
	ck_assert_uint_eq(buf_get_u32(&b), 0x04050607);
	ck_assert_uint_eq(buf_get_u64(&b), 0x08090a0b0c0d0e0f);
	ck_assert(buf_done(&b));
}
END_TEST

START_TEST(extreme_numbers)
{
	uint8_t data[15];
	struct buf b;

	buf_init(&b, data, sizeof(data));
	buf_put_u8(&b, UINT8_MAX);
	buf_put_u16(&b, UINT16_MAX);
	buf_put_u32(&b, UINT32_MAX);
	buf_put_u64(&b, UINT64_MAX);
	buf_init_const(&b, data, sizeof(data));
	ck_assert_uint_eq(buf_get_u8(&b), UINT8_MAX);
	ck_assert_uint_eq(buf_get_u16(&b), UINT16_MAX);
	ck_assert_uint_eq(buf_get_u32(&b), UINT32_MAX);
	ck_assert_uint_eq(buf_get_u64(&b), UINT64_MAX);
}
END_TEST

START_TEST(strings)
{
	uint8_t data[32];
	const char *s;
	struct buf b;
	size_t n;

	buf_init(&b, data, sizeof(data));
	buf_put_str(&b, "a\0b", 3);
	buf_put_str(&b, "", 0);
	buf_put_bytes(&b, NULL, 0);
	ck_assert(!b.bad);
	ck_assert_uint_eq(b.pos, 11);
	buf_init_const(&b, data, b.pos);
	s = buf_get_str(&b, &n);
	ck_assert_uint_eq(n, 3);
	ck_assert_mem_eq(s, "a\0b", 3);
	ck_assert_ptr_nonnull(buf_get_str(&b, &n));
	ck_assert_uint_eq(n, 0);
	ck_assert(buf_done(&b));
}
END_TEST

/* One byte too few for the last thing: nothing is read or written beyond, and it stays bad. */
START_TEST(the_end_is_sticky)
{
	for (size_t size = 0; size < 15; size++) {
		uint8_t *exact = malloc(size + !size); /* a sanitizer sees a step beyond */
		struct buf b;
		size_t n = 1;

		memset(exact, 0, size + !size);
		buf_init(&b, exact, size);
		buf_put_u64(&b, UINT64_MAX);
		buf_put_u32(&b, UINT32_MAX);
		buf_put_u16(&b, UINT16_MAX);
		buf_put_u8(&b, UINT8_MAX);
		ck_assert(b.bad);
		ck_assert_uint_eq(buf_left(&b), 0);
		buf_put_u8(&b, 1);
		ck_assert(b.bad && !buf_done(&b));
		buf_init_const(&b, exact, size);
		ck_assert_ptr_null(buf_get_bytes(&b, size + 1));
		ck_assert_uint_eq(buf_get_u8(&b), 0);
		ck_assert_ptr_null(buf_get_str(&b, &n));
		ck_assert_uint_eq(n, 0);
		ck_assert_ptr_null(buf_get_bytes(&b, 0));
		free(exact);
	}
}
END_TEST

START_TEST(a_string_that_claims_too_much)
{
	static const uint32_t claims[] = { 2, 0x7fffffff, 0x80000000, 0xffffffff };
	uint8_t data[5] = { 0 };
	struct buf b;
	size_t n;

	for (size_t i = 0; i < sizeof(claims) / sizeof(*claims); i++) {
		buf_init(&b, data, 4);
		buf_put_u32(&b, claims[i]);
		buf_init_const(&b, data, sizeof(data));
		ck_assert_ptr_null(buf_get_str(&b, &n));
		ck_assert_uint_eq(n, 0);
		ck_assert(b.bad);
	}
	buf_init_const(&b, data, sizeof(data));
	ck_assert_ptr_null(buf_get_bytes(&b, SIZE_MAX));
	buf_init(&b, data, sizeof(data));
	buf_put_str(&b, "", (size_t)UINT32_MAX + 1);
	ck_assert(b.bad);
}
END_TEST

START_TEST(left_and_done)
{
	static const uint8_t data[3] = { 1, 2, 3 };
	struct buf b;

	buf_init_const(&b, data, sizeof(data));
	ck_assert_uint_eq(buf_left(&b), 3);
	ck_assert(!buf_done(&b));
	ck_assert_ptr_eq(buf_get_bytes(&b, 2), data);
	ck_assert_uint_eq(buf_left(&b), 1);
	buf_get_u8(&b);
	ck_assert(buf_done(&b));
	buf_init_const(&b, data, 0);
	ck_assert(buf_done(&b));
}
END_TEST

int main(void)
{
	Suite *s = suite_create("buf");
	TCase *t = tcase_create("buf");
	SRunner *sr = srunner_create(s);
	int failed;

	suite_add_tcase(s, t);
	tcase_add_test(t, numbers_are_big_endian);
	tcase_add_test(t, extreme_numbers);
	tcase_add_test(t, strings);
	tcase_add_test(t, the_end_is_sticky);
	tcase_add_test(t, a_string_that_claims_too_much);
	tcase_add_test(t, left_and_done);
	srunner_set_tap(sr, "-");
	srunner_run_all(sr, CK_SILENT);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed != 0;
}
