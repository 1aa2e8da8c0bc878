/* SPDX-License-Identifier: Apache-2.0 */
/* Which of a client's environment a program finds. */
#include <check.h>
#include <stdlib.h>

#include "environ.h"
#include "util.h"

START_TEST(what_programs_need_goes_along)
{
	static const char *const yes[] = {
		"LANG=C",	    "LC_ALL=de_DE.UTF-8", "HOME=/root",		 "TERM=xterm",
		"TZ=Europe/Berlin", "XDG_CACHE_HOME=/x",  "QEMU_AUDIO_DRV=none", "TMPDIR=/tmp"
	};
	static const char *const no[] = { "SECRET=1", "PATH=/evil", "LANGX=C",
					  "LC=C",     "LANG=../x",  "TZ=/etc/shadow",
					  "TZ=:/x",   "TERM=%s",    "XDG_DATA_DIRS=/x",
					  "LANG" };

	for (size_t i = 0; i < ARRAY_LEN(yes); i++)
		ck_assert_msg(environ_offered(yes[i]), "%s", yes[i]);
	for (size_t i = 0; i < ARRAY_LEN(no); i++)
		ck_assert_msg(!environ_offered(no[i]), "%s", no[i]);
}
END_TEST

START_TEST(what_brings_code_never_does)
{
	static const char *const never[] = { "LD_PRELOAD=x",	"LD_",
					     "GCONV_PATH=x",	"BASH_ENV=x",
					     "ENV=x",		"IFS=x",
					     "PYTHONPATH=x",	"PERL5LIB=x",
					     "MALLOC_CHECK_=1", "GLIBC_TUNABLES=x",
					     "PATH=/x",		"TAR_OPTIONS=x",
					     "GIT_SSH=x",	"BASH_FUNC_ls%%=() { :; }" };
	const struct request_env env[] = { { "LD_PRELOAD=x", false },
					   { "A=b", true },
					   { "LD_DEBUG=x", true } };

	for (size_t i = 0; i < ARRAY_LEN(never); i++)
		ck_assert_msg(environ_forbidden(never[i]), "%s", never[i]);
	ck_assert(!environ_forbidden("ENVIRONMENT=x"));
	ck_assert(!environ_forbidden("LDFLAGS=x"));
	ck_assert(!environ_forbidden("PATHS=x"));
	ck_assert_ptr_null(environ_refused(env, 2));
	ck_assert_ptr_eq(environ_refused(env, 3), env[2].assignment);
}
END_TEST

START_TEST(named_before_fixed_before_offered)
{
	const struct request_env env[] = {
		{ "HOME=/offered", false },  { "LANG=offered", false },	   { "LANG=named", true },
		{ "SECRET=offered", false }, { "LD_PRELOAD=named", true }, { "LANG=twice", true }
	};
	static const char *const fixed[] = { "PATH=/bin", "HOME=/fixed", NULL };
	const char **list = environ_build(env, ARRAY_LEN(env), fixed);

	ck_assert_ptr_nonnull(list);
	ck_assert_str_eq(list[0], "LANG=named");
	ck_assert_str_eq(list[1], "PATH=/bin");
	ck_assert_str_eq(list[2], "HOME=/fixed");
	ck_assert_ptr_null(list[3]);
	free(list);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("environ");
	TCase *tc = tcase_create("environ");
	SRunner *sr;
	int failed;

	tcase_add_test(tc, what_programs_need_goes_along);
	tcase_add_test(tc, what_brings_code_never_does);
	tcase_add_test(tc, named_before_fixed_before_offered);
	suite_add_tcase(suite, tc);
	sr = srunner_create(suite);
	srunner_set_tap(sr, "-");
	srunner_run_all(sr, CK_SILENT);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed != 0;
}
