/* SPDX-License-Identifier: Apache-2.0 */
/* Sets of CPUs as they are written: rexec/qemu/affinity. */
#include <check.h>
#include <string.h>

#include "qemu/affinity.h"
#include "util.h"

static struct affinity cpus;

START_TEST(lists)
{
	const char *text = "0-3,8,8191\n", *end;

	ck_assert(affinity_parse(&cpus, text, &end));
	ck_assert_str_eq(end, "\n");
	ck_assert_uint_eq(cpus.size, sizeof(cpus.cpus));
	ck_assert_uint_eq(cpus.cpus[0], 0x0f);
	ck_assert_uint_eq(cpus.cpus[1], 0x01);
	ck_assert(affinity_has(&cpus, 8191) && !affinity_has(&cpus, 8190));
	ck_assert(!affinity_has(&cpus, 8192));
	ck_assert(affinity_parse(&cpus, "9", &end));
	ck_assert_uint_eq(cpus.size, 2);
}
END_TEST

START_TEST(what_is_no_list)
{
	static const char *const bad[] = { "",	 ",",	 "a",  "-1",   "1-",	 "3-1",
					   "1,", "1,,2", " 1", "8192", "0-8192", "99999999999" };
	const char *end;

	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		ck_assert_msg(!affinity_parse(&cpus, bad[i], &end), "'%s'", bad[i]);
}
END_TEST

START_TEST(all_is_every_cpu)
{
	affinity_all(&cpus);
	ck_assert_uint_eq(cpus.size, 1024);
	ck_assert(affinity_has(&cpus, 0) && affinity_has(&cpus, 8191));
}
END_TEST

START_TEST(named_lists)
{
	const char *words = " vcpu1=1 vcpu11=2\n\temulator=0-1 vcpu1=3 ";

	ck_assert_ptr_null(affinity_check(words));
	ck_assert(affinity_named(&cpus, words, "vcpu1"));
	ck_assert_uint_eq(cpus.cpus[0], 1 << 3);
	ck_assert(affinity_named(&cpus, words, "emulator"));
	ck_assert_uint_eq(cpus.cpus[0], 3);
	ck_assert(!affinity_named(&cpus, words, "vcpu"));
	ck_assert(!affinity_named(&cpus, words, "vcpu0"));
	ck_assert(!affinity_named(&cpus, "", "emulator"));
}
END_TEST

START_TEST(words_that_are_not_known)
{
	static const char *const bad[] = { "vcpu=1",   "vcpu1",	      "vcpu1=",	    "emulator0=1",
					   "cpu1=1",   "vcpu1x=1",    "iothread=1", "iothread1=1;",
					   "emulator", "emulator=1,", "=1",	    "vcpu1=8192" };

	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		ck_assert_msg(affinity_check(bad[i]) == bad[i], "'%s'", bad[i]);
	ck_assert_str_eq(affinity_check("vcpu0=1 nonsense iothread1=0"), "nonsense iothread1=0");
	ck_assert_ptr_null(affinity_check(" "));
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("affinity");
	TCase *tc = tcase_create("affinity");
	SRunner *sr;
	int failed;

	tcase_add_test(tc, lists);
	tcase_add_test(tc, what_is_no_list);
	tcase_add_test(tc, all_is_every_cpu);
	tcase_add_test(tc, named_lists);
	tcase_add_test(tc, words_that_are_not_known);
	suite_add_tcase(suite, tc);
	sr = srunner_create(suite);
	srunner_set_tap(sr, "-");
	srunner_run_all(sr, CK_SILENT);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed != 0;
}
