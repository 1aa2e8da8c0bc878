/* SPDX-License-Identifier: Apache-2.0 */
/* rexec called by another program's name: its own arguments then. */
#include <check.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "trampoline.h"
#include "util.h"

/* What a process keeps until it ends: the list, and in it the numbers and what is before each. */
static void forget(char **list)
{
	for (char **word = list + 2; strcmp(*word, "--") != 0; word++)
		free(*word);
	free(list);
}

/* The words that @argv becomes, between '|'. */
static const char *becomes(const char *const *argv)
{
	static char words[256];
	char **list = (char **)argv;
	size_t n = 0;
	int argc = 0;

	while (argv[argc])
		argc++;
	ck_assert_int_eq(trampoline_argv(&argc, &list), 0);
	ck_assert_ptr_null(list[argc]);
	*words = '\0';
	for (int i = 0; i < argc; i++)
		n += (size_t)snprintf(words + n, sizeof(words) - n, "%s|", list[i]);
	if (list != (char **)argv)
		forget(list);
	return words;
}

START_TEST(called_as_rexec_nothing_changes)
{
	const char *by_path[] = { "/usr/bin/rexec", "-n", "swtpm", NULL },
		   *by_name[] = { "rexec", NULL };
	const char *by_nothing[] = { "", "x", NULL }, *nothing[] = { NULL };

	ck_assert_str_eq(becomes(by_path), "/usr/bin/rexec|-n|swtpm|");
	ck_assert_str_eq(becomes(by_name), "rexec|");
	ck_assert_str_eq(becomes(by_nothing), "|x|");
	ck_assert_str_eq(becomes(nothing), "");
}
END_TEST

START_TEST(called_by_a_name_it_runs_that)
{
	const char *by_path[] = { "/usr/bin/swtpm", "--tpm2", "", "a b", NULL };
	const char *by_name[] = { "swtpm_setup", NULL };

	ck_assert_str_eq(becomes(by_path), "rexec|--on-disconnect=keep|--|swtpm|--tpm2||a b|");
	ck_assert_str_eq(becomes(by_name), "rexec|--on-disconnect=keep|--|swtpm_setup|");
}
END_TEST

START_TEST(a_locked_file_stays_here)
{
	char name[] = "/tmp/test_trampoline.XXXXXX", expected[128];
	const char *argv[] = { "swtpm", NULL };
	struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_len = 1 };
	_cleanup_close_ int fd = mkstemp(name), other = open("/dev/null", O_RDWR);

	ck_assert_int_ge(fd, 0);
	ck_assert_int_ge(other, 0);
	unlink(name);
	ck_assert_str_eq(becomes(argv), "rexec|--on-disconnect=keep|--|swtpm|");
	ck_assert_int_eq(fcntl(fd, F_SETLK, &lock), 0);
	snprintf(expected, sizeof(expected), "rexec|--on-disconnect=keep|--drop-fd|%d|--|swtpm|",
		 fd);
	ck_assert_str_eq(becomes(argv), expected);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("trampoline");
	TCase *tc = tcase_create("trampoline");
	SRunner *sr;
	int failed;

	tcase_add_test(tc, called_as_rexec_nothing_changes);
	tcase_add_test(tc, called_by_a_name_it_runs_that);
	tcase_add_test(tc, a_locked_file_stays_here);
	suite_add_tcase(suite, tc);
	sr = srunner_create(suite);
	srunner_set_tap(sr, "-");
	srunner_run_all(sr, CK_SILENT);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed != 0;
}
