/* SPDX-License-Identifier: Apache-2.0 */
#include <check.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "fifo.h"

START_TEST(empty)
{
	struct fifo f = { 0 };

	ck_assert_uint_eq(fifo_len(&f), 0);
	ck_assert_int_eq(fifo_add(&f, NULL, 0), 0);
	ck_assert_ptr_null(f.bytes);
	fifo_clear(&f);
	fifo_skip(&f, 0);
	ck_assert_uint_eq(fifo_len(&f), 0);
}
END_TEST

START_TEST(memory_goes_with_the_last_byte)
{
	struct fifo f = { 0 };

	ck_assert_int_eq(fifo_add(&f, "abc", 3), 0);
	ck_assert_mem_eq(fifo_peek(&f), "abc", 3);
	fifo_skip(&f, 2);
	ck_assert_mem_eq(fifo_peek(&f), "c", 1);
	ck_assert_ptr_nonnull(f.bytes);
	fifo_skip(&f, 1);
	ck_assert_ptr_null(f.bytes);
	ck_assert_uint_eq(fifo_len(&f), 0);
}
END_TEST

START_TEST(too_much_is_refused)
{
	struct fifo f = { 0 };

	ck_assert_int_eq(fifo_add(&f, "abc", 3), 0);
	ck_assert_ptr_null(fifo_reserve(&f, UINT32_MAX));
	ck_assert_ptr_null(fifo_reserve(&f, SIZE_MAX));
	ck_assert_uint_eq(fifo_len(&f), 3);
	ck_assert_mem_eq(fifo_peek(&f), "abc", 3);
	fifo_clear(&f);
}
END_TEST

START_TEST(the_last_bytes_are_cut)
{
	struct fifo f = { 0 };

	fifo_cut(&f, 0);
	fifo_cut(&f, 5); /* of nothing */
	ck_assert_uint_eq(fifo_len(&f), 0);
	ck_assert_int_eq(fifo_add(&f, "abcdef", 6), 0);
	fifo_skip(&f, 1);
	fifo_cut(&f, 0);
	ck_assert_uint_eq(fifo_len(&f), 5);
	fifo_cut(&f, 2);
	ck_assert_uint_eq(fifo_len(&f), 3);
	ck_assert_mem_eq(fifo_peek(&f), "bcd", 3);
	ck_assert_int_eq(fifo_add(&f, "xy", 2), 0);
	ck_assert_mem_eq(fifo_peek(&f), "bcdxy", 5);
	fifo_cut(&f, 5); /* all, and the memory with it */
	ck_assert_uint_eq(fifo_len(&f), 0);
	ck_assert_ptr_null(f.bytes);
	ck_assert_int_eq(fifo_add(&f, "z", 1), 0);
	fifo_cut(&f, 100);
	ck_assert_ptr_null(f.bytes);
}
END_TEST

/* Against a queue that is one long array: whatever is added and skipped, the same bytes. */
START_TEST(as_a_model)
{
	static uint8_t model[1 << 22];
	size_t head = 0, tail = 0;
	struct fifo f = { 0 };

	srand(1);
	while (tail < sizeof(model) - 8192) {
		size_t n = (size_t)rand() % (rand() % 8 ? 64 : 4096);
		uint8_t *room;

		switch (rand() % 5) {
		case 0:
			for (size_t i = 0; i < n; i++)
				model[tail + i] = (uint8_t)rand();
			ck_assert_int_eq(fifo_add(&f, model + tail, n), 0);
			tail += n;
			break;
		case 1: /* not all that was reserved is used */
			room = fifo_reserve(&f, n + 7);
			ck_assert_ptr_nonnull(room);
			memset(room, 0xee, n + 7);
			memset(model + tail, 0xee, n);
			fifo_commit(&f, n);
			tail += n;
			break;
		case 2:
			n = n / 4 < tail - head ? n / 4 : tail - head;
			fifo_cut(&f, n);
			tail -= n;
			break;
		default:
			n = n < tail - head ? n : tail - head;
			fifo_skip(&f, n);
			head += n;
		}
		ck_assert_uint_eq(fifo_len(&f), tail - head);
		ck_assert_uint_le(fifo_len(&f), f.bytes ? f.bytes->size : 0);
		if (tail > head)
			ck_assert_mem_eq(fifo_peek(&f), model + head, tail - head);
	}
	fifo_clear(&f);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("fifo");
	TCase *t = tcase_create("fifo");
	SRunner *sr = srunner_create(s);
	int failed;

	suite_add_tcase(s, t);
	tcase_set_timeout(t, 60);
	tcase_add_test(t, empty);
	tcase_add_test(t, memory_goes_with_the_last_byte);
	tcase_add_test(t, too_much_is_refused);
	tcase_add_test(t, the_last_bytes_are_cut);
	tcase_add_test(t, as_a_model);
	srunner_set_tap(sr, "-");
	srunner_run_all(sr, CK_SILENT);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed != 0;
}
