/* SPDX-License-Identifier: Apache-2.0 */
#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "rules.h"
#include "util.h"

#define SUN_PATH (RULES_NAME_SIZE - 1)

static char err[RULES_ERROR_MAX];

/* ---- path_normalise() ------------------------------------------------------------------- */

static void check_normal(const char *path, const char *want)
{
	char out[RULES_NAME_SIZE];
	size_t len = strlen(path);
	char *copy = malloc(len + !len); /* not terminated: ASan sees a step too far */
	ssize_t n;

	memcpy(copy, path, len);
	n = path_normalise(out, sizeof(out), copy, len);
	free(copy);
	if (!want) {
		ck_assert_msg(n == -EINVAL, "%s: %zd", path, n);
		return;
	}
	ck_assert_msg(n >= 0, "%s: %zd", path, n);
	ck_assert_str_eq(out, want);
	ck_assert_uint_eq((size_t)n, strlen(want));
}

START_TEST(normal_forms)
{
	check_normal("/", "/");
	check_normal("//", "/");
	check_normal("/.", "/");
	check_normal("/./", "/");
	check_normal("/a", "/a");
	check_normal("/a/", "/a");
	check_normal("//a///b//", "/a/b");
	check_normal("/a/./b/.", "/a/b");
	check_normal("/a/...", "/a/...");
	check_normal("/.a/..b", "/.a/..b");
	check_normal("/var/run", "/run");
	check_normal("/var/run/", "/run");
	check_normal("/var/run/x", "/run/x");
	check_normal("//var/./run//x", "/run/x");
	check_normal("/var/running", "/var/running");
	check_normal("/var/run-x/y", "/var/run-x/y");
	check_normal("/x/var/run", "/x/var/run");
	check_normal("/var", "/var");
	check_normal("", NULL);
	check_normal("a", NULL);
	check_normal("a/b", NULL);
	check_normal("./a", NULL);
	check_normal("..", NULL);
	check_normal("/..", NULL);
	check_normal("/a/../b", NULL);
	check_normal("/a/..", NULL);
	check_normal("/var/run/../x", NULL);
}
END_TEST

START_TEST(a_nul_inside_is_refused)
{
	char out[RULES_NAME_SIZE];

	ck_assert_int_eq(path_normalise(out, sizeof(out), "/a\0b", 4), -EINVAL);
	ck_assert_int_eq(path_normalise(out, sizeof(out), "/a\0", 3), -EINVAL);
	ck_assert_int_eq(path_normalise(out, sizeof(out), "\0a", 2), -EINVAL);
}
END_TEST

START_TEST(lengths)
{
	char path[SUN_PATH + 2];
	char out[RULES_NAME_SIZE];

	memset(path, 'x', sizeof(path));
	path[0] = '/';
	ck_assert_int_eq(path_normalise(out, sizeof(out), path, SUN_PATH), (ssize_t)SUN_PATH);
	ck_assert_uint_eq(strlen(out), SUN_PATH);
	ck_assert_int_eq(path_normalise(out, sizeof(out), path, SUN_PATH + 1), -ENAMETOOLONG);
	for (size_t size = 0; size < 4; size++)
		ck_assert_int_eq(path_normalise(out, size, "/abc", 4), -ENAMETOOLONG);
	ck_assert_int_eq(path_normalise(out, 4, "/abc", 4), -ENAMETOOLONG);
	ck_assert_int_eq(path_normalise(out, 5, "/abc", 4), 4);
	ck_assert_int_eq(path_normalise(out, 1, "/", 1), -ENAMETOOLONG);
	ck_assert_int_eq(path_normalise(out, 2, "/", 1), 1);
}
END_TEST

/* ---- matching --------------------------------------------------------------------------- */

static const gid_t some_groups[] = { 20, 36 };
static const struct rules_client root = { 0 };
static const struct rules_client user = {
	.uid = 1000, .gid = 1000, .groups = some_groups, .n_groups = 2
};

static struct rules *parse(const char *text)
{
	struct listfile list = { 0 };
	struct rules *rules = NULL;

	if (listfile_parse(&list, "f", text, strlen(text), err) == 0)
		rules = rules_parse(&list, err);
	listfile_free(&list);
	return rules;
}

/* @name ("@x" for an abstract one) by @client gives @want: "root|rest", or NULL: not allowed. */
static void check_match(const char *text, const struct rules_client *client, const char *name,
			const char *want)
{
	struct rules *rules = parse(text);
	char rest[RULES_NAME_SIZE];
	char got[2 * RULES_NAME_SIZE];
	char asked[256];
	size_t len = strlen(name);
	const struct rule *rule;

	ck_assert_msg(rules != NULL, "%s", err);
	memcpy(asked, name, len);
	if (*asked == '@')
		*asked = '\0';
	rule = rules_match(rules, asked, len, client, rest);
	ck_assert_ptr_eq(rules_match(rules, asked, len, client, NULL), rule);
	if (rule)
		snprintf(got, sizeof(got), "%s|%s", rule->root, rest);
	ck_assert_msg(!rule == !want, "%s: asked for %s: %s", text, name, rule ? got : "refused");
	if (rule)
		ck_assert_str_eq(got, want);
	rules_free(rules);
}

START_TEST(components_are_compared)
{
	static const char *const rules[] = { "/var/lib/libvirt", "/var/lib/libvirt/",
					     "//var/./lib/libvirt/." };

	for (size_t i = 0; i < ARRAY_LEN(rules); i++) {
		check_match(rules[i], &root, "/var/lib/libvirt", "/var/lib/libvirt|");
		check_match(rules[i], &root, "/var/lib/libvirt/", "/var/lib/libvirt|");
		check_match(rules[i], &root, "/var/lib/libvirt/a", "/var/lib/libvirt|a");
		check_match(rules[i], &root, "/var/lib//libvirt/./a//b/", "/var/lib/libvirt|a/b");
		check_match(rules[i], &root, "/var/lib/libvirt-evil", NULL);
		check_match(rules[i], &root, "/var/lib/libvirt-evil/a", NULL);
		check_match(rules[i], &root, "/var/lib/libvir", NULL);
		check_match(rules[i], &root, "/var/lib", NULL);
		check_match(rules[i], &root, "/", NULL);
		check_match(rules[i], &root, "/var/lib/libvirt/../x", NULL);
		check_match(rules[i], &root, "var/lib/libvirt/a", NULL);
		check_match(rules[i], &root, "", NULL);
	}
}
END_TEST

START_TEST(var_run_is_run)
{
	check_match("/var/run/rexec", &root, "/run/rexec/rexec.sock", "/run/rexec|rexec.sock");
	check_match("/var/run/rexec", &root, "/var/run/rexec", "/run/rexec|");
	check_match("/run", &root, "/var/run/x", "/run|x");
	check_match("/var/run", &root, "/run/x", "/run|x");
	check_match("/var", &root, "/var/run/x", NULL);
}
END_TEST

START_TEST(slash_covers_every_path)
{
	check_match("/", &root, "/", "/|");
	check_match("/", &root, "/a", "/|a");
	check_match("//./", &root, "/a/b", "/|a/b");
	check_match("/", &root, "@a", NULL);
	check_match("/", &root, "a", NULL);
}
END_TEST

START_TEST(abstract_names)
{
	check_match("@vm", &root, "@vm", "vm|");
	check_match("@vm", &root, "@vm/a", "vm|");
	check_match("@vm", &root, "@vmx", NULL);
	check_match("@vm", &root, "/vm", NULL);
	check_match("@vm", &root, "vm", NULL);
	check_match("/vm", &root, "@/vm", NULL);
	check_match("@/tmp/.X11-unix", &root, "@/tmp/.X11-unix/X0", "/tmp/.X11-unix|");
	check_match("@vm", &root, "@", NULL);
	check_match("@@vm", &root, "@@vm", "@vm|"); /* only the first byte is translated */
}
END_TEST

START_TEST(abstract_names_end_where_they_end)
{
	struct rules *rules = parse("@vm");

	ck_assert_ptr_nonnull(rules_match(rules, "\0vm", 3, &root, NULL));
	ck_assert_ptr_null(rules_match(rules, "\0vm\0", 4, &root, NULL));
	ck_assert_ptr_null(rules_match(rules, "\0v", 2, &root, NULL));
	rules_free(rules);
}
END_TEST

START_TEST(clients)
{
	check_match("/a uid=0", &root, "/a", "/a|");
	check_match("/a uid=0", &user, "/a", NULL);
	check_match("/a uid=5,1000,7", &user, "/a", "/a|");
	check_match("/a uid=root", &root, "/a", "/a|");
	check_match("/a gid=1000", &user, "/a", "/a|");
	check_match("/a gid=36", &user, "/a", "/a|");
	check_match("/a gid=37", &user, "/a", NULL);
	check_match("/a gid=root", &root, "/a", "/a|");
	check_match("/a uid=0 gid=36", &user, "/a", NULL);
	check_match("/a uid=1000 gid=36", &user, "/a", "/a|");
	check_match("/a uid=4294967294", &user, "/a", NULL);
}
END_TEST

START_TEST(the_first_rule_that_admits_counts)
{
	static const char text[] = "/a uid=0 creds=no\n/a/b\n/a\n";

	check_match(text, &root, "/a/b/c", "/a|b/c");
	check_match(text, &user, "/a/b/c", "/a/b|c");
	check_match(text, &user, "/a/c", "/a|c");
	check_match("", &root, "/a", NULL);
}
END_TEST

START_TEST(creds)
{
	struct rules *rules = parse("/a creds=no\n/b\n");

	ck_assert(!rules_match(rules, "/a", 2, &root, NULL)->creds);
	ck_assert(rules_match(rules, "/b", 2, &root, NULL)->creds);
	rules_free(rules);
}
END_TEST

START_TEST(too_long_names_match_nothing)
{
	struct rules *rules = parse("/");
	struct rules *abstract = parse("@x");
	char name[SUN_PATH + 2];

	memset(name, '/', sizeof(name));
	name[SUN_PATH] = 'x';
	ck_assert_ptr_nonnull(rules_match(rules, name, SUN_PATH, &root, NULL));
	memset(name + 1, 'x', sizeof(name) - 1);
	ck_assert_ptr_nonnull(rules_match(rules, name, SUN_PATH, &root, NULL));
	ck_assert_ptr_null(rules_match(rules, name, SUN_PATH + 1, &root, NULL));
	memset(name, '/', sizeof(name));
	name[0] = '\0';
	name[1] = 'x';
	ck_assert_ptr_nonnull(rules_match(abstract, name, SUN_PATH, &root, NULL));
	ck_assert_ptr_null(rules_match(abstract, name, SUN_PATH + 1, &root, NULL));
	rules_free(rules);
	rules_free(abstract);
}
END_TEST

/* ---- bad rules -------------------------------------------------------------------------- */

static void check_refused(const char *text, const char *place, const char *why)
{
	ck_assert_ptr_null(parse(text));
	ck_assert_ptr_eq(strstr(err, place), err);
	ck_assert_msg(strstr(err, why), "%s", err);
}

START_TEST(bad_rules_name_line_and_remedy)
{
	char path[SUN_PATH + 3];

	check_refused("/a\nb\n", "f: line 2: ", "from / on");
	check_refused("/a/..\n", "f: line 1: ", "from / on");
	check_refused("@\n", "f: line 1: ", "abstract name");
	check_refused("/a uid=\n", "f: line 1: ", "uid=: there is no \"\"");
	check_refused("/a uid=0,,1\n", "f: line 1: ", "there is no \"\"");
	check_refused("/a uid=no-such-user\n", "f: line 1: ", "there is no \"no-such-user\"");
	check_refused("/a gid=no-such-group\n", "f: line 1: ", "there is no \"no-such-group\"");
	check_refused("/a uid=-1\n", "f: line 1: ", "there is no \"-1\"");
	check_refused("/a uid=4294967295\n", "f: line 1: ", "there is no");
	check_refused("/a uid=99999999999999999999\n", "f: line 1: ", "there is no");
	check_refused("/a uid=0x0\n", "f: line 1: ", "there is no");
	check_refused("/a uid=0 uid=1\n", "f: line 1: ", "twice");
	check_refused("/a creds=yes\n", "f: line 1: ", "creds=no are known");
	check_refused("/a user=0\n", "f: line 1: ", "user=0 is no option");
	check_refused("/a word\n", "f: line 1: ", "KEY=VALUE");
	memset(path, 'x', sizeof(path));
	path[0] = '/';
	path[sizeof(path) - 1] = '\0';
	check_refused(path, "f: line 1: ", "at most 108 bytes");
	path[0] = '@';
	check_refused(path, "f: line 1: ", "1 to 107 bytes");
}
END_TEST

/* ---- files ------------------------------------------------------------------------------ */

static char dir[] = "/tmp/test_rules.XXXXXX";
static char file[sizeof(dir) + 8];
static char drop_ins[sizeof(file) + 8];

static void make_dir(void)
{
	ck_assert_ptr_nonnull(mkdtemp(dir));
	snprintf(file, sizeof(file), "%s/list", dir);
	snprintf(drop_ins, sizeof(drop_ins), "%s.d", file);
}

static void remove_dir(void)
{
	char name[sizeof(drop_ins) + 8];

	snprintf(name, sizeof(name), "%s/rexec", drop_ins);
	unlink(name);
	rmdir(drop_ins);
	unlink(file);
	ck_assert_int_eq(rmdir(dir), 0);
}

static void write_file(const char *name, const char *text)
{
	FILE *f = fopen(name, "w");

	ck_assert_ptr_nonnull(f);
	fputs(text, f);
	fclose(f);
	chmod(name, 0644);
}

/* What rules loaded from the file say to "/a", "/run/rexec" and "\0a": "yyn" and the like. */
static const char *answers(bool allow_all_when_missing, bool *all)
{
	static char got[4];
	static const struct {
		const char *name;
		size_t len;
	} asked[] = { { "/a", 2 }, { "/run/rexec", 10 }, { "\0a", 2 } };
	struct rules *rules = rules_load(file, allow_all_when_missing, err);

	ck_assert_msg(rules != NULL, "%s", err);
	for (size_t i = 0; i < ARRAY_LEN(asked); i++)
		got[i] = rules_match(rules, asked[i].name, asked[i].len, &user, NULL) ? 'y' : 'n';
	*all = rules->allow_all;
	rules_free(rules);
	return got;
}

START_TEST(a_missing_list)
{
	bool all;

	ck_assert_str_eq(answers(false, &all), "nnn");
	ck_assert(!all);
	ck_assert_str_eq(answers(true, &all), "yyy");
	ck_assert(all);
}
END_TEST

START_TEST(an_empty_list_allows_nothing)
{
	bool all;

	write_file(file, "# nothing\n");
	ck_assert_str_eq(answers(false, &all), "nnn");
	ck_assert_str_eq(answers(true, &all), "nnn");
	ck_assert(!all);
}
END_TEST

START_TEST(drop_ins_add_and_leave_a_missing_list_missing)
{
	char name[sizeof(drop_ins) + 8];
	bool all;

	ck_assert_int_eq(mkdir(drop_ins, 0755), 0);
	snprintf(name, sizeof(name), "%s/rexec", drop_ins);
	write_file(name, "/run/rexec\n");
	ck_assert_str_eq(answers(false, &all), "nyn");
	ck_assert_str_eq(answers(true, &all), "yyy");
	write_file(file, "/a\n");
	ck_assert_str_eq(answers(true, &all), "yyn");
}
END_TEST

START_TEST(a_bad_file_is_no_list)
{
	write_file(file, "/a\n/b c=d\n");
	ck_assert_ptr_null(rules_load(file, true, err));
	ck_assert_ptr_nonnull(strstr(err, "list: line 2: c=d is no option"));
	write_file(file, "/a\n");
	chmod(file, 0646);
	ck_assert_ptr_null(rules_load(file, true, err));
	ck_assert_ptr_nonnull(strstr(err, "chmod 0644"));
}
END_TEST

/* ---- mutation --------------------------------------------------------------------------- */

/* Whatever the list says, what matches lies below the root, and the rest leads nowhere else. */
static void match_anything(const char *text)
{
	static const char *const names[] = { "/var/lib/libvirt/a", "/run/rexec/x", "/", "//a/./b" };
	struct rules *rules = parse(text);
	char rest[RULES_NAME_SIZE], normal[RULES_NAME_SIZE], joined[2 * RULES_NAME_SIZE];

	for (size_t i = 0; rules && i < ARRAY_LEN(names); i++) {
		const struct rule *rule =
			rules_match(rules, names[i], strlen(names[i]), &root, rest);

		if (!rule)
			continue;
		ck_assert_int_ge(path_normalise(normal, sizeof(normal), names[i], strlen(names[i])),
				 1);
		snprintf(joined, sizeof(joined), "%s%s%s", rule->root_len ? rule->root : "",
			 *rest || !rule->root_len ? "/" : "", rest);
		ck_assert_str_eq(joined, normal);
		ck_assert_ptr_null(strstr(rest, ".."));
	}
	rules_free(rules);
}

START_TEST(mutations_never_crash)
{
	static const char good[] =
		"/var/lib/libvirt/ uid=0,root creds=no\n/var/run/rexec gid=0\n@vm\n";
	char text[sizeof(good)];

	for (size_t i = 0; i < sizeof(good); i++) {
		memcpy(text, good, sizeof(good));
		text[i] = '\0';
		match_anything(text);
	}
	for (size_t i = 0; i < sizeof(good) - 1; i++) {
		for (int c = 1; c < 256; c++) {
			memcpy(text, good, sizeof(good));
			text[i] = (char)c;
			match_anything(text);
		}
	}
}
END_TEST

int main(void)
{
	Suite *s = suite_create("rules");
	TCase *pure = tcase_create("pure");
	TCase *files = tcase_create("files");
	SRunner *sr = srunner_create(s);
	int failed;

	suite_add_tcase(s, pure);
	tcase_set_timeout(pure, 60);
	tcase_add_test(pure, normal_forms);
	tcase_add_test(pure, a_nul_inside_is_refused);
	tcase_add_test(pure, lengths);
	tcase_add_test(pure, components_are_compared);
	tcase_add_test(pure, var_run_is_run);
	tcase_add_test(pure, slash_covers_every_path);
	tcase_add_test(pure, abstract_names);
	tcase_add_test(pure, abstract_names_end_where_they_end);
	tcase_add_test(pure, clients);
	tcase_add_test(pure, the_first_rule_that_admits_counts);
	tcase_add_test(pure, creds);
	tcase_add_test(pure, too_long_names_match_nothing);
	tcase_add_test(pure, bad_rules_name_line_and_remedy);
	tcase_add_test(pure, mutations_never_crash);
	suite_add_tcase(s, files);
	tcase_add_checked_fixture(files, make_dir, remove_dir);
	tcase_add_test(files, a_missing_list);
	tcase_add_test(files, an_empty_list_allows_nothing);
	tcase_add_test(files, drop_ins_add_and_leave_a_missing_list_missing);
	tcase_add_test(files, a_bad_file_is_no_list);
	srunner_set_tap(sr, "-");
	srunner_run_all(sr, CK_SILENT);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed != 0;
}
