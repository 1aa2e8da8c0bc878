/* SPDX-License-Identifier: Apache-2.0 */
/* What a line of rexec's whitelist means, and which requests it allows. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "argpattern.h"
#include "policy.h"
#include "session.h"
#include "util.h"
#include "whitelist.h"

/* ---- patterns for arguments ---- */

/* The same meaning, written as plainly as can be, to compare with: exponential. */
static bool plainly(const char *p, const char *t)
{
	if (*p == '*' && p[1] == '*') {
		while (*p == '*')
			p++;
		for (;; t++) {
			if (plainly(p, t))
				return true;
			if (!*t)
				return false;
		}
	}
	if (*p == '*') {
		for (;; t++) {
			if (plainly(p + 1, t))
				return true;
			if (!*t || *t == '/')
				return false;
		}
	}
	if (!*p || !*t)
		return *p == *t;
	return (*p == '?' ? *t != '/' : *p == *t) && plainly(p + 1, t + 1);
}

/* The @n-th word over @letters; false when it is of more than @max letters. */
static bool nth_word(unsigned n, const char *letters, size_t max, char *word)
{
	size_t base = strlen(letters), len = 0;

	for (; n; n = (n - 1) / (unsigned)base)
		word[len++] = letters[(n - 1) % base];
	word[len] = '\0';
	return len <= max;
}

START_TEST(patterns_are_what_they_say_in_every_short_case)
{
	char pattern[32], text[32];
	unsigned compared = 0, matched = 0;

	for (unsigned i = 0; nth_word(i, "*a/?", 6, pattern); i++)
		for (unsigned j = 0; nth_word(j, "ab/", 5, text); j++) {
			bool expected = plainly(pattern, text);

			ck_assert_msg(argpattern_matches(pattern, text) == expected, "'%s' '%s'",
				      pattern, text);
			compared++;
			matched += expected;
		}
	ck_assert_uint_gt(compared, 1000000);
	ck_assert_uint_gt(matched, 1000);
}
END_TEST

/* Several parts between wildcards, which short words have no room for. */
START_TEST(patterns_are_what_they_say_in_long_cases)
{
	char pattern[64], text[64];
	unsigned matched = 0;

	srand(1);
	for (int round = 0; round < 300000; round++) {
		size_t p = 0, t = 0;

		while (p < 3 + (size_t)rand() % 12)
			pattern[p++] = "a*/*b*a"[rand() % 7];
		while (t < (size_t)rand() % 16)
			text[t++] = "ab/a"[rand() % 4];
		pattern[p] = text[t] = '\0';
		ck_assert_msg(argpattern_matches(pattern, text) == plainly(pattern, text),
			      "'%s' '%s'", pattern, text);
		matched += plainly(pattern, text);
	}
	ck_assert_uint_gt(matched, 1000);
}
END_TEST

START_TEST(sets_in_patterns)
{
	static const struct {
		const char *pattern, *text;
		bool matches;
	} cases[] = {
		{ "[abc]", "b", true },	      { "[abc]", "d", false },
		{ "[abc]", "", false },	      { "[a-c]x", "bx", true },
		{ "[!a-c]", "b", false },     { "[!a-c]", "d", true },
		{ "[!a]", "/", false },	      { "[/]", "/", false },
		{ "[]]", "]", true },	      { "[]-a]", "_", true },
		{ "[!]]", "]", false },	      { "[!]]", "a", true },
		{ "[*]", "*", true },	      { "[*]", "a", false },
		{ "[a-]", "-", true },	      { "[-a]", "-", true },
		{ "[[]x", "[x", true },	      { "[0-9]*", "5/", false },
		{ "[0-9]*", "5x", true },     { "*[0-9]", "a1b2", true },
		{ "**[0-9]", "a/1b", false }, { "[\x80-\xff]", "\xc3", true },
	};

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		ck_assert_ptr_null(argpattern_wrong(cases[i].pattern));
		ck_assert_msg(argpattern_matches(cases[i].pattern, cases[i].text) ==
				      cases[i].matches,
			      "'%s' '%s'", cases[i].pattern, cases[i].text);
	}
	ck_assert_ptr_nonnull(argpattern_wrong("["));
	ck_assert_ptr_nonnull(argpattern_wrong("x[]"));
	ck_assert_ptr_nonnull(argpattern_wrong("[!]"));
	ck_assert_ptr_nonnull(argpattern_wrong("[!"));
	ck_assert_ptr_nonnull(argpattern_wrong("[z-a]"));
	ck_assert_ptr_nonnull(argpattern_wrong("[ab][!9-0]"));
}
END_TEST

START_TEST(wildcards_do_not_lead_out_of_a_directory)
{
	static const char *const refused[][2] = {
		{ "/srv/*", "/srv/.." },
		{ "/srv/**", "/srv/../etc/shadow" },
		{ "/srv/**", "/srv/a/.." },
		{ "--file=*", "--file=.." },
		{ "--file=*/x", "--file=../x" },
		{ "file=/srv/**,x", "file=/srv/a,../b,x" },
		{ "?.", ".." },
		{ "***/", "a/../" },
		{ "[.].", ".." },
	};
	static const char *const matched[][2] = {
		{ "/srv/..", "/srv/.." },  { "**", "../x" },	    { "/srv/*", "/srv/..." },
		{ "/srv/*", "/srv/a..b" }, { "/srv/*", "/srv/.a" }, { "v*", "v1..2" },
	};

	for (size_t i = 0; i < ARRAY_LEN(refused); i++)
		ck_assert_msg(!argpattern_matches(refused[i][0], refused[i][1]), "'%s' '%s'",
			      refused[i][0], refused[i][1]);
	for (size_t i = 0; i < ARRAY_LEN(matched); i++)
		ck_assert_msg(argpattern_matches(matched[i][0], matched[i][1]), "'%s' '%s'",
			      matched[i][0], matched[i][1]);
}
END_TEST

/* With backtracking these would take years. */
START_TEST(hostile_arguments_take_no_time)
{
	size_t n = 4194304;
	char *text = malloc(n + 1);

	ck_assert_ptr_nonnull(text);
	memset(text, 'a', n);
	text[n] = '\0';
	ck_assert(!argpattern_matches("*a*a*a*a*b", text));
	ck_assert(!argpattern_matches("**a*a**a*a*b", text));
	for (size_t i = 1; i < n; i += 2)
		text[i] = '/';
	ck_assert(!argpattern_matches("**a/*/*/a**a/*/b", text));
	memset(text, 'a', n);
	text[n / 2] = '/';
	ck_assert(!argpattern_matches("**a*a/*a*b", text));
	ck_assert(argpattern_matches("**/*a", text));
	free(text);
}
END_TEST

/* ---- lines ---- */

static char told[65536];

static void tell(void *arg, const char *sentence)
{
	int *n = arg;

	++*n;
	snprintf(told + strlen(told), sizeof(told) - strlen(told), "%s\n", sentence);
}

/* Each line of @text is a good one, and @list its only entry is @entry. */
static void parse_one(const char *text, struct listfile *list, struct whitelist_entry *entry)
{
	char err[LISTFILE_ERROR_MAX] = "";

	*list = (struct listfile){ 0 };
	ck_assert_msg(!listfile_parse(list, "f", text, strlen(text), err), "%s", err);
	ck_assert_uint_eq(list->n, 1);
	ck_assert_msg(!whitelist_parse(entry, list->entries[0], err), "%s", err);
}

static void is_wrong(const char *line, const char *words)
{
	struct listfile list = { 0 };
	struct whitelist_entry entry;
	char err[LISTFILE_ERROR_MAX] = "", text[512];

	snprintf(text, sizeof(text), "\n%s\n", line);
	ck_assert(!listfile_parse(&list, "f", text, strlen(text), err));
	ck_assert_msg(whitelist_parse(&entry, list.entries[0], err) == -EINVAL, "%s", line);
	ck_assert_msg(strstr(err, words) && !strncmp(err, "f:2: ", 5), "%s: %s", line, err);
	whitelist_free(&entry);
	listfile_free(&list);
}

START_TEST(malformed_lines_are_refused_with_the_remedy)
{
	is_wrong("bin/x", "relative path");
	is_wrong("x colour=red", "colour=red is no option");
	is_wrong("x uid=no-such-user", "no 'no-such-user'");
	is_wrong("x uid=", "no ''");
	is_wrong("x uid=0,", "no ''");
	is_wrong("x uid=0 uid=1", "twice");
	is_wrong("x gid=no-such-group", "no 'no-such-group'");
	is_wrong("x user=-1", "no '-1'");
	is_wrong("x args=any", "args=none is possible");
	is_wrong("x args=none args=none", "contradict");
	is_wrong("x args=none arg=a", "contradict");
	is_wrong("x arg=a args=none", "contradict");
	is_wrong("x arg=... args=none", "contradict");
	is_wrong("x arg=... arg=a", "must be the last");
	is_wrong("x arg=... arg=...", "must be the last");
	is_wrong("x arg=a[", "]");
	is_wrong("x env=", "no name");
	is_wrong("x env=A,,B", "no name");
	is_wrong("x env=*", "no name");
	is_wrong("x env=A*B", "no name");
	is_wrong("x env=A=1", "no name");
	is_wrong("x env=A env=B", "twice");
	is_wrong("x sha256=", "64 hexadecimal");
	is_wrong("x sha256=12", "64 hexadecimal");
	is_wrong("x sha256="
		 "g123456789012345678901234567890123456789012345678901234567890123",
		 "64 hexadecimal");
	is_wrong("x sha256="
		 "0123456789012345678901234567890123456789012345678901234567890123,",
		 "64 hexadecimal");
}
END_TEST

static bool allows_args(const char *line, size_t n, const char *const *args)
{
	struct listfile list;
	struct whitelist_entry entry;
	bool allows;

	parse_one(line, &list, &entry);
	allows = whitelist_allows_args(&entry, args, n);
	whitelist_free(&entry);
	listfile_free(&list);
	return allows;
}

#define ARGS(...)                                                                                  \
	ARRAY_LEN(((const char *const[]){ __VA_ARGS__ })), (const char *const[])                   \
	{                                                                                          \
		__VA_ARGS__                                                                        \
	}

START_TEST(arguments_are_matched_one_by_one)
{
	ck_assert(allows_args("x", ARGS("anything", "", "at all")));
	ck_assert(allows_args("x", 0, NULL));
	ck_assert(allows_args("x args=none", 0, NULL));
	ck_assert(!allows_args("x args=none", ARGS("")));
	ck_assert(allows_args("x arg=info arg=*.img", ARGS("info", "a.img")));
	ck_assert(!allows_args("x arg=info arg=*.img", ARGS("info")));
	ck_assert(!allows_args("x arg=info arg=*.img", ARGS("info", "a.img", "b.img")));
	ck_assert(!allows_args("x arg=info arg=*.img", ARGS("info a.img")));
	ck_assert(!allows_args("x arg=info arg=*.img", ARGS("a.img", "info")));
	/* A blank is a byte of an argument, and leads to no other. */
	ck_assert(allows_args("x arg=info arg=*.img", ARGS("info", "--evil a.img")));
	ck_assert(!allows_args("x arg=info\\040*", ARGS("info", "a")));
	ck_assert(allows_args("x arg=info\\040*", ARGS("info a\nb")));
	ck_assert(allows_args("x arg=", ARGS("")));
	ck_assert(!allows_args("x arg=", 0, NULL));
	ck_assert(!allows_args("x arg=", ARGS("a")));
	ck_assert(allows_args("x arg=run arg=...", ARGS("run")));
	ck_assert(allows_args("x arg=run arg=...", ARGS("run", "a", "..")));
	ck_assert(!allows_args("x arg=run arg=...", ARGS("a", "run")));
	ck_assert(!allows_args("x arg=run arg=...", 0, NULL));
	ck_assert(allows_args("x arg=...", 0, NULL));
	ck_assert(allows_args("x arg=[.]..", ARGS("...")));
	ck_assert(!allows_args("x arg=[.]..", 0, NULL));
}
END_TEST

START_TEST(variables_are_matched_by_name)
{
	struct listfile list;
	struct whitelist_entry e;

	parse_one("x env=A,B_*", &list, &e);
	ck_assert(whitelist_allows_variable(&e, "A=B_=x"));
	ck_assert(whitelist_allows_variable(&e, "B_=1"));
	ck_assert(whitelist_allows_variable(&e, "B_C=1"));
	ck_assert(!whitelist_allows_variable(&e, "B=1"));
	ck_assert(!whitelist_allows_variable(&e, "AB=A"));
	ck_assert(!whitelist_allows_variable(&e, "C=A"));
	whitelist_free(&e);
	listfile_free(&list);
	parse_one("x env=none", &list, &e);
	ck_assert(!whitelist_allows_variable(&e, "A=1"));
	ck_assert(!whitelist_allows_variable(&e, "none=1"));
	whitelist_free(&e);
	listfile_free(&list);
	parse_one("x", &list, &e);
	ck_assert(whitelist_allows_variable(&e, "A=1"));
	whitelist_free(&e);
	listfile_free(&list);
}
END_TEST

START_TEST(digests_are_any_of_the_list)
{
	unsigned char digest[WHITELIST_DIGEST_SIZE] = { 0xab, 0xcd };
	struct listfile list;
	struct whitelist_entry e;

	parse_one("x sha256="
		  "0000000000000000000000000000000000000000000000000000000000000000,"
		  "aBCd000000000000000000000000000000000000000000000000000000000000",
		  &list, &e);
	ck_assert(whitelist_allows_digest(&e, digest));
	digest[31] = 1;
	ck_assert(!whitelist_allows_digest(&e, digest));
	memset(digest, 0, sizeof(digest));
	ck_assert(whitelist_allows_digest(&e, digest));
	whitelist_free(&e);
	listfile_free(&list);
}
END_TEST

/* ---- files, and the decision ---- */

static char dir[] = "/var/tmp/policy.XXXXXX";
static char file[64];

static void write_list(const char *text)
{
	FILE *f;

	unlink(file);
	f = fopen(file, "w");
	ck_assert_ptr_nonnull(f);
	fputs(text, f);
	fclose(f);
	chmod(file, 0400);
}

static void set_up(void)
{
	strcpy(dir, "/var/tmp/policy.XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(dir));
	snprintf(file, sizeof(file), "%s/list", dir);
	*told = '\0';
}

static void tear_down(void)
{
	unlink(file);
	rmdir(dir);
}

START_TEST(all_bad_lines_are_told_and_the_good_ones_stay)
{
	struct policy p;
	int n = 0;

	write_list("/usr/bin/true\nword=\\9\nx colour=red\n/a word\n/usr/bin/id args=none\n");
	ck_assert_int_lt(policy_load(&p, file, true, tell, &n), 0);
	ck_assert_int_eq(n, 3);
	ck_assert(strstr(told, "list:2: ") && strstr(told, "list:3: ") && strstr(told, "list:4: "));
	ck_assert_uint_eq(p.n, 2);
	ck_assert_str_eq(p.entries[1].at->path, "/usr/bin/id");
	policy_free(&p);
}
END_TEST

START_TEST(what_cannot_be_used_is_told)
{
	struct policy p;
	int n = 0;

	write_list("/usr/bin/true\n/no/such/program\nno-such-program\n/etc/passwd\n"
		   "true env=LD_PRELOAD,A\ntrue sha256="
		   "0000000000000000000000000000000000000000000000000000000000000000\n");
	ck_assert_int_eq(policy_load(&p, file, true, tell, &n), 0);
	ck_assert_int_eq(n, 0);
	policy_survey(&p, tell, &n);
	ck_assert_msg(n == 5, "%s", told);
	ck_assert(strstr(told, "list:2: ") && strstr(told, "list:3: ") && strstr(told, "list:4: "));
	ck_assert(strstr(told, "list:5: env=: LD_PRELOAD") && strstr(told, "list:6: "));
	policy_free(&p);
}
END_TEST

/* The sentence of a refusal, "" for none. */
static const char *ask(const char *list, const struct policy_request *rq)
{
	static char reason[POLICY_REASON_MAX];
	char path[PATH_MAX];
	struct policy p;
	int n = 0, program;

	write_list(list);
	ck_assert_msg(!policy_load(&p, file, true, tell, &n), "%s", told);
	*reason = '\0';
	if (!policy_check(&p, rq, path, &program, reason)) {
		ck_assert_str_eq(path, "/usr/bin/true");
		*reason = '\0';
	}
	close_keep_errno(program);
	policy_free(&p);
	return reason;
}

START_TEST(any_line_that_allows_is_enough_and_the_nearest_refusal_is_told)
{
	static const char *const argv[] = { "true", "secret", NULL };
	static const gid_t groups[] = { 7, 8 };
	static const struct request_env env[] = { { "A=hidden", true }, { "B=1", false } };
	const struct policy_request rq = { .uid = 5,
					   .gid = 6,
					   .groups = groups,
					   .n_groups = 2,
					   .user = 9,
					   .argv = argv,
					   .argc = 2,
					   .env = env,
					   .n_env = 2 };

	ck_assert_str_eq(ask("true\n", &rq), "");
	ck_assert_str_eq(ask("true uid=5 gid=8 user=9 arg=sec* env=A\n", &rq), "");
	ck_assert_str_eq(ask("true uid=1\ntrue gid=6\n", &rq), "");
	ck_assert_str_eq(ask("true args=none\ntrue arg=x\ntrue arg=secret\n", &rq), "");
	ck_assert(strstr(ask("id\n", &rq), "not on rexec_server's whitelist"));
	ck_assert(strstr(ask("true uid=4\n", &rq), "uid 5 as uid 9"));
	ck_assert(strstr(ask("true gid=5\n", &rq), "uid 5 as uid 9"));
	ck_assert(strstr(ask("true user=5\n", &rq), "uid 5 as uid 9"));
	ck_assert(strstr(ask("true uid=4\ntrue args=none\n", &rq), "arguments"));
	ck_assert(strstr(ask("true uid=4\ntrue args=none\n", &rq), "(line 2)"));
	ck_assert(strstr(ask("true env=C\ntrue args=none\n", &rq), "pass it A (line 1)"));
	ck_assert_ptr_null(strstr(ask("true args=none\n", &rq), "secret"));
	ck_assert_ptr_null(strstr(ask("true env=C\n", &rq), "hidden"));
	ck_assert(strstr(ask("true sha256="
			     "0000000000000000000000000000000000000000000000000000000000000000\n",
			     &rq),
			 "SHA-256 (line 1)"));
	ck_assert_str_eq(ask("true sha256="
			     "0000000000000000000000000000000000000000000000000000000000000000\n"
			     "true\n",
			     &rq),
			 "");
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("policy");
	TCase *tc = tcase_create("policy");
	SRunner *sr;
	int failed;

	tcase_set_timeout(tc, 60);
	tcase_add_checked_fixture(tc, set_up, tear_down);
	tcase_add_test(tc, patterns_are_what_they_say_in_every_short_case);
	tcase_add_test(tc, patterns_are_what_they_say_in_long_cases);
	tcase_add_test(tc, sets_in_patterns);
	tcase_add_test(tc, wildcards_do_not_lead_out_of_a_directory);
	tcase_add_test(tc, hostile_arguments_take_no_time);
	tcase_add_test(tc, malformed_lines_are_refused_with_the_remedy);
	tcase_add_test(tc, arguments_are_matched_one_by_one);
	tcase_add_test(tc, variables_are_matched_by_name);
	tcase_add_test(tc, digests_are_any_of_the_list);
	tcase_add_test(tc, all_bad_lines_are_told_and_the_good_ones_stay);
	tcase_add_test(tc, what_cannot_be_used_is_told);
	tcase_add_test(tc, any_line_that_allows_is_enough_and_the_nearest_refusal_is_told);
	suite_add_tcase(suite, tc);
	sr = srunner_create(suite);
	srunner_set_tap(sr, "-");
	srunner_run_all(sr, CK_SILENT);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed != 0;
}
