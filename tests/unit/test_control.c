/* SPDX-License-Identifier: Apache-2.0 */
/* What may be set of a running program, as text. */
#include <check.h>
#include <string.h>

#include "control.h"
#include "util.h"

static struct control parsed(const char *text)
{
	struct control c;
	const char *wrong = control_parse(&c, text);

	ck_assert_msg(!wrong, "%s: %s", text, wrong);
	return c;
}

START_TEST(an_affinity_is_a_list_of_cpus)
{
	struct control c = parsed("affinity=0-2,5,1023");

	ck_assert_int_eq(c.what, CONTROL_AFFINITY);
	ck_assert_int_eq(CPU_COUNT(&c.cpus), 5);
	ck_assert(CPU_ISSET(0, &c.cpus) && CPU_ISSET(2, &c.cpus) && CPU_ISSET(5, &c.cpus) && CPU_ISSET(1023, &c.cpus));
}
END_TEST

START_TEST(a_scheduler_has_a_priority_or_none)
{
	struct control c = parsed("scheduler=rr:99");

	ck_assert_int_eq(c.what, CONTROL_SCHEDULER);
	ck_assert_int_eq(c.policy, SCHED_RR);
	ck_assert_int_eq(c.priority, 99);
	c = parsed("scheduler=idle");
	ck_assert_int_eq(c.policy, SCHED_IDLE);
	ck_assert_int_eq(c.priority, 0);
	ck_assert_int_eq(parsed("nice=-20").priority, -20);
	ck_assert_int_eq(parsed("nice=0").priority, 0);
}
END_TEST

START_TEST(a_limit_is_soft_and_hard)
{
	struct control c = parsed("limit.nofile=1024:4096");

	ck_assert_int_eq(c.what, CONTROL_LIMIT);
	ck_assert_int_eq(c.resource, RLIMIT_NOFILE);
	ck_assert_uint_eq(c.limit.rlim_cur, 1024);
	ck_assert_uint_eq(c.limit.rlim_max, 4096);
	c = parsed("limit.as=unlimited");
	ck_assert(c.limit.rlim_cur == RLIM_INFINITY && c.limit.rlim_max == RLIM_INFINITY);
	c = parsed("limit.core=0:unlimited");
	ck_assert(c.limit.rlim_cur == 0 && c.limit.rlim_max == RLIM_INFINITY);
}
END_TEST

START_TEST(anything_else_is_refused_with_a_reason)
{
	static const char *const wrong[] = {
		"", "=", "affinity", "affinity=", "affinity=1-", "affinity=3-1", "affinity=1024", "affinity=0,", "affinity=0x1",
		"affinity=99999999999999999999", "affinity=-1", "scheduler=", "scheduler=fifo", "scheduler=fifo:", "scheduler=fifo:0",
		"scheduler=fifo:100", "scheduler=other:1", "scheduler=rr:1x", "scheduler=fif:1", "nice=", "nice=21", "nice=+5",
		"nice=5 ", "nice=--5", "limit.", "limit.=1", "limit.nofile=", "limit.nofile=2:1", "limit.nofile=1:", "limit.nofile=1:2:3",
		"limit.nofile=-1", "limit.nofiles=1", "limit.nofil=1", "limit.nofile=99999999999999999999999", "limit.cpu=unlimitedx",
		"Affinity=0", " nice=1",
	};

	for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
		struct control c;
		const char *why = control_parse(&c, wrong[i]);

		ck_assert_msg(why && strlen(why) > 10, "'%s' is taken", wrong[i]);
	}
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("control");
	TCase *tc = tcase_create("control");
	SRunner *sr;
	int failed;

	tcase_add_test(tc, an_affinity_is_a_list_of_cpus);
	tcase_add_test(tc, a_scheduler_has_a_priority_or_none);
	tcase_add_test(tc, a_limit_is_soft_and_hard);
	tcase_add_test(tc, anything_else_is_refused_with_a_reason);
	suite_add_tcase(suite, tc);
	sr = srunner_create(suite);
	srunner_set_tap(sr, "-");
	srunner_run_all(sr, CK_SILENT);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed != 0;
}
