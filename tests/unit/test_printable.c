/* SPDX-License-Identifier: Apache-2.0 */
#include <check.h>
#include <stdio.h>

#include "printable.h"
#include "util.h"

static void must_become(const char *text, const char *expected)
{
	char copy[100];

	snprintf(copy, sizeof(copy), "%s", text);
	printable(copy);
	ck_assert_str_eq(copy, expected);
}

START_TEST(harmless)
{
	static const char *const texts[] = { "", "a b~", "\u00a0\u00e4\u00ff", "\u0800\uffff", "\U00010000\U0010ffff" };

	for (size_t i = 0; i < ARRAY_LEN(texts); i++)
		must_become(texts[i], texts[i]);
}
END_TEST

START_TEST(controls)
{
	must_become("a\nexited 0\n", "a?exited 0?");
	must_become("\x1b[31m\x7f\t", "?[31m??");
	must_become("\xc2\x9b" "1m\xc2\x80", "??1m??");
}
END_TEST

START_TEST(not_utf8)
{
	must_become("\x9b" "1m", "?1m");
	must_become("\xc3", "?");
	must_become("\xe2\x82z", "??z");
	must_become("\xf0\x90\x80", "???");
	must_become("\xc0\x80\xf8\xff", "????");
	must_become("\xe0\x80\x9b", "???");
	must_become("\xed\xa0\x80", "???");
	must_become("\xf0\x80\x80\x9b", "????");
	must_become("\xf4\x90\x80\x80", "????");
	must_become("\xc2", "?");
}
END_TEST

int main(void)
{
	Suite *s = suite_create("printable");
	TCase *t = tcase_create("printable");
	SRunner *sr = srunner_create(s);
	int failed;

	suite_add_tcase(s, t);
	tcase_add_test(t, harmless);
	tcase_add_test(t, controls);
	tcase_add_test(t, not_utf8);
	srunner_set_tap(sr, "-");
	srunner_run_all(sr, CK_SILENT);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed != 0;
}
