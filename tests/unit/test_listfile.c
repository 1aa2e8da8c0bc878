/* SPDX-License-Identifier: Apache-2.0 */
#include <check.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "listfile.h"
#include "util.h"

static char err[LISTFILE_ERROR_MAX];

/* ---- the grammar ------------------------------------------------------------------------ */

/* A list as text that is easy to compare: "LINE:path[key=value]..." and ";" for each entry. */
static char *render(const struct listfile *list)
{
	char *text;
	size_t size;
	FILE *f = open_memstream(&text, &size);

	for (size_t i = 0; i < list->n; i++) {
		const struct listfile_entry *entry = list->entries[i];

		fprintf(f, "%u:%s", entry->line, entry->path);
		for (size_t k = 0; k < entry->n_options; k++)
			fprintf(f, "[%s=%s]", entry->options[k].key, entry->options[k].value);
		fputc(';', f);
	}
	fclose(f);
	return text;
}

/* Parse exactly @size bytes: a copy of that size lets ASan see a step too far. */
static int parse_exactly(struct listfile *list, const char *text, size_t size)
{
	char *copy = malloc(size + !size);
	int rc;

	memcpy(copy, text, size);
	rc = listfile_parse(list, "f", copy, size, err);
	free(copy);
	return rc;
}

static void check_parses(const char *text, const char *want)
{
	struct listfile list = { 0 };
	char *got;

	ck_assert_msg(parse_exactly(&list, text, strlen(text)) == 0, "%s: %s", text, err);
	got = render(&list);
	ck_assert_str_eq(got, want);
	free(got);
	listfile_free(&list);
}

START_TEST(good_texts)
{
	check_parses("", "");
	check_parses("\n\n  \n\t\n", "");
	check_parses("# only a comment", "");
	check_parses("/a", "1:/a;");
	check_parses("/a\n", "1:/a;");
	check_parses("\n  /a\t \n/b\n", "2:/a;3:/b;");
	check_parses("/a # behind\n#/b\n /c#d #e", "1:/a;3:/c#d;");
	check_parses("/a uid=0,1 creds=no\n", "1:/a[uid=0,1][creds=no];");
	check_parses("/a k=\n/b k=a=b k=\n", "1:/a[k=];2:/b[k=a=b][k=];");
	check_parses("/a\\040b k=\\043x\\134\n", "1:/a b[k=#x\\];");
	check_parses("\\043x\n", "1:#x;");
	check_parses("qemu-kvm\n@abstract\n", "1:qemu-kvm;2:@abstract;");
	check_parses("/\303\244\n", "1:/\303\244;");
}
END_TEST

static void check_refused(const char *text, size_t size, const char *place, const char *why)
{
	struct listfile list = { 0 };

	ck_assert_int_eq(parse_exactly(&list, text, size), -EINVAL);
	ck_assert_ptr_eq(strstr(err, place), err);
	ck_assert_msg(strstr(err, why), "%s", err);
	listfile_free(&list);
}

#define REFUSED(text, place, why) check_refused(text, sizeof(text) - 1, place, why)

START_TEST(bad_texts_name_line_and_remedy)
{
	REFUSED("/a\n/b word\n", "f: line 2: ", "KEY=VALUE");
	REFUSED("/a =x\n", "f: line 1: ", "KEY=VALUE");
	REFUSED("\n\n/a\r\n", "f: line 3: ", "DOS");
	REFUSED("/a\0b\n", "f: line 1: ", "control");
	REFUSED("/a\x7f\n", "f: line 1: ", "control");
	REFUSED("/a\\", "f: line 1: ", "octal");
	REFUSED("/a\\04", "f: line 1: ", "octal");
	REFUSED("/a\\0 40", "f: line 1: ", "octal");
	REFUSED("/a\\089", "f: line 1: ", "octal");
	REFUSED("/a\\000", "f: line 1: ", "octal");
	REFUSED("/a\\400", "f: line 1: ", "octal");
	REFUSED("/a k=\\x", "f: line 1: ", "octal");
}
END_TEST

START_TEST(entries_before_a_bad_line_are_kept)
{
	struct listfile list = { 0 };

	ck_assert_int_eq(parse_exactly(&list, "/a\n/b\n/c bad\n", 13), -EINVAL);
	ck_assert_uint_eq(list.n, 2);
	listfile_free(&list);
}
END_TEST

START_TEST(what_is_escaped_is_read_back)
{
	struct listfile list = { 0 };
	char word[256];
	char *escaped;

	for (int i = 1; i < 256; i++)
		word[i - 1] = (char)i;
	word[255] = '\0';
	escaped = listfile_escape(word);
	ck_assert_int_eq(parse_exactly(&list, escaped, strlen(escaped)), 0);
	ck_assert_uint_eq(list.n, 1);
	ck_assert_str_eq(list.entries[0]->path, word);
	ck_assert_uint_eq(list.entries[0]->n_options, 0);
	free(escaped);
	listfile_free(&list);
}
END_TEST

START_TEST(options_are_found)
{
	struct listfile list = { 0 };

	ck_assert_int_eq(parse_exactly(&list, "/a x=1 x=2 y=", 13), 0);
	ck_assert_str_eq(listfile_option(list.entries[0], "x"), "1");
	ck_assert_str_eq(listfile_option(list.entries[0], "y"), "");
	ck_assert_ptr_null(listfile_option(list.entries[0], "z"));
	listfile_free(&list);
}
END_TEST

START_TEST(many_entries_stay_where_they_are)
{
	struct listfile list = { 0 };
	const struct listfile_entry *first = NULL;
	char line[32];

	for (unsigned i = 0; i < 10000; i++) {
		int n = snprintf(line, sizeof(line), "/p/%u k=%u\n", i, i);

		ck_assert_int_eq(listfile_parse(&list, "f", line, (size_t)n, err), 0);
		if (i == 0)
			first = list.entries[0];
	}
	ck_assert_uint_eq(list.n, 10000);
	ck_assert_ptr_eq(list.entries[0], first);
	ck_assert_str_eq(list.entries[9999]->path, "/p/9999");
	listfile_free(&list);
}
END_TEST

/* Whatever becomes of a text, parsing ends with a result, and with a reason when it is bad. */
static void parse_anything(const char *text, size_t size)
{
	struct listfile list = { 0 };

	*err = '\0';
	if (parse_exactly(&list, text, size) < 0)
		ck_assert_ptr_eq(strstr(err, "f: line "), err);
	listfile_free(&list);
}

START_TEST(mutations_never_crash)
{
	static const char good[] = "# list\n/var/lib/libvirt/ uid=0,root creds=no # x\n"
				   "/a\\040b\\043 k=\\134\n\n@name gid=1\n  qemu-kvm  env=A,B\n";
	const size_t size = sizeof(good) - 1;
	char text[sizeof(good)];

	for (size_t i = 0; i <= size; i++) {
		parse_anything(good, i);
		parse_anything(good + i, size - i);
	}
	for (size_t i = 0; i < size; i++) {
		for (int c = 0; c < 256; c++) {
			memcpy(text, good, sizeof(good));
			text[i] = (char)c;
			parse_anything(text, size);
		}
	}
}
END_TEST

/* ---- files ------------------------------------------------------------------------------ */

static char dir[] = "/tmp/test_listfile.XXXXXX";
static char list_name[sizeof(dir) + 8];
static char drop_ins[sizeof(list_name) + 8];
static int fds_before;

static int count_fds(void)
{
	DIR *d = opendir("/proc/self/fd");
	int n = 0;

	while (readdir(d))
		n++;
	closedir(d);
	return n;
}

static void remove_below(const char *name)
{
	char command[300];

	snprintf(command, sizeof(command), "rm -rf '%s'", name);
	ck_assert_int_eq(system(command), 0);
}

static void make_dir(void)
{
	ck_assert_ptr_nonnull(mkdtemp(dir));
	snprintf(list_name, sizeof(list_name), "%s/list", dir);
	snprintf(drop_ins, sizeof(drop_ins), "%s.d", list_name);
	fds_before = count_fds();
}

static void remove_dir(void)
{
	ck_assert_int_eq(count_fds(), fds_before);
	remove_below(dir);
}

static void write_file(const char *name, const char *text, mode_t mode)
{
	_cleanup_close_ int fd = open(name, O_WRONLY | O_CREAT | O_TRUNC, 0600);

	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(write(fd, text, strlen(text)), (ssize_t)strlen(text));
	ck_assert_int_eq(fchmod(fd, mode), 0);
}

static void check_unreadable(mode_t forbidden, int rc, const char *why)
{
	struct listfile list = { 0 };

	ck_assert_int_eq(listfile_read(&list, list_name, forbidden, err), rc);
	ck_assert_ptr_eq(strstr(err, list_name), err);
	ck_assert_msg(strstr(err, why), "%s", err);
	ck_assert(!list.missing);
	listfile_free(&list);
}

START_TEST(a_missing_file_is_no_error)
{
	struct listfile list = { 0 };

	ck_assert_int_eq(listfile_read_all(&list, list_name, LISTFILE_MODE_TRUSTED, err), 0);
	ck_assert(list.missing);
	ck_assert_uint_eq(list.n, 0);
	write_file(list_name, "", 0644);
	ck_assert_int_eq(listfile_read_all(&list, list_name, LISTFILE_MODE_TRUSTED, err), 0);
	ck_assert(!list.missing);
	listfile_free(&list);
}
END_TEST

START_TEST(modes)
{
	struct listfile list = { 0 };

	write_file(list_name, "/a\n", 0644);
	check_unreadable(LISTFILE_MODE_0400, -EPERM, "0644: chmod 0400");
	write_file(list_name, "/a\n", 0600);
	check_unreadable(LISTFILE_MODE_0400, -EPERM, "0600: chmod 0400");
	write_file(list_name, "/a\n", 0664);
	check_unreadable(LISTFILE_MODE_TRUSTED, -EPERM, "0664: chmod 0644");
	write_file(list_name, "/a\n", 0400);
	ck_assert_int_eq(listfile_read(&list, list_name, LISTFILE_MODE_0400, err), 0);
	ck_assert_uint_eq(list.n, 1);
	ck_assert_str_eq(list.entries[0]->file, list_name);
	listfile_free(&list);
}
END_TEST

START_TEST(another_owner_is_not_trusted)
{
	if (geteuid() != 0)
		return; /* only root can give a file away */
	write_file(list_name, "/a\n", 0400);
	ck_assert_int_eq(chown(list_name, 1000, 0), 0);
	check_unreadable(LISTFILE_MODE_0400, -EPERM, "uid 1000");
}
END_TEST

START_TEST(only_regular_files_are_read)
{
	char target[sizeof(list_name) + 8];

	snprintf(target, sizeof(target), "%s/target", dir);
	write_file(target, "/a\n", 0644);
	ck_assert_int_eq(symlink(target, list_name), 0);
	check_unreadable(0, -ELOOP, "symbolic link");
	unlink(list_name);
	ck_assert_int_eq(mkfifo(list_name, 0600), 0);
	check_unreadable(0, -EINVAL, "not a regular file"); /* and does not wait for a writer */
	unlink(list_name);
	ck_assert_int_eq(mkdir(list_name, 0700), 0);
	check_unreadable(0, -EINVAL, "not a regular file");
}
END_TEST

START_TEST(sizes)
{
	struct listfile list = { 0 };

	write_file(list_name, "", 0644);
	ck_assert_int_eq(truncate(list_name, LISTFILE_SIZE_MAX + 1), 0);
	check_unreadable(0, -EFBIG, "1 MiB");
	ck_assert_int_eq(truncate(list_name, LISTFILE_SIZE_MAX), 0);
	ck_assert_int_eq(listfile_read(&list, list_name, 0, err), -EINVAL); /* NULs */
	listfile_free(&list);
}
END_TEST

START_TEST(a_malformed_file_is_named_with_its_line)
{
	write_file(list_name, "/a\n/b oops\n", 0644);
	check_unreadable(0, -EINVAL, "list: line 2: ");
}
END_TEST

static void write_drop_in(const char *name, const char *text)
{
	char file[sizeof(drop_ins) + 32];

	snprintf(file, sizeof(file), "%s/%s", drop_ins, name);
	write_file(file, text, 0644);
}

START_TEST(drop_ins_follow_in_order)
{
	struct listfile list = { 0 };
	char *got;

	ck_assert_int_eq(mkdir(drop_ins, 0755), 0);
	write_drop_in("20-b", "/b\n");
	write_drop_in("10-a", "/a\n");
	write_drop_in(".hidden", "not a list\n");
	write_drop_in("10-a~", "not a list\n");
	ck_assert_int_eq(listfile_read_all(&list, list_name, LISTFILE_MODE_TRUSTED, err), 0);
	ck_assert(list.missing);
	listfile_free(&list);
	write_file(list_name, "/first\n", 0644);
	ck_assert_int_eq(listfile_read_all(&list, list_name, LISTFILE_MODE_TRUSTED, err), 0);
	ck_assert(!list.missing);
	got = render(&list);
	ck_assert_str_eq(got, "1:/first;1:/a;1:/b;");
	free(got);
	listfile_free(&list);
	write_drop_in("30-c", "/c oops\n");
	ck_assert_int_eq(listfile_read_all(&list, list_name, LISTFILE_MODE_TRUSTED, err), -EINVAL);
	ck_assert_ptr_nonnull(strstr(err, "list.d/30-c: line 1"));
	listfile_free(&list);
}
END_TEST

START_TEST(a_drop_in_directory_that_others_can_write_is_refused)
{
	struct listfile list = { 0 };

	ck_assert_int_eq(mkdir(drop_ins, 0755), 0);
	ck_assert_int_eq(chmod(drop_ins, 0775), 0);
	ck_assert_int_eq(listfile_read_all(&list, list_name, LISTFILE_MODE_TRUSTED, err), -EPERM);
	ck_assert_ptr_nonnull(strstr(err, "list.d: its mode is 0775: chmod 0755"));
	listfile_free(&list);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("listfile");
	TCase *grammar = tcase_create("grammar");
	TCase *files = tcase_create("files");
	SRunner *sr = srunner_create(s);
	int failed;

	suite_add_tcase(s, grammar);
	tcase_set_timeout(grammar, 60);
	tcase_add_test(grammar, good_texts);
	tcase_add_test(grammar, bad_texts_name_line_and_remedy);
	tcase_add_test(grammar, entries_before_a_bad_line_are_kept);
	tcase_add_test(grammar, what_is_escaped_is_read_back);
	tcase_add_test(grammar, options_are_found);
	tcase_add_test(grammar, many_entries_stay_where_they_are);
	tcase_add_test(grammar, mutations_never_crash);
	suite_add_tcase(s, files);
	tcase_add_checked_fixture(files, make_dir, remove_dir);
	tcase_add_test(files, a_missing_file_is_no_error);
	tcase_add_test(files, modes);
	tcase_add_test(files, another_owner_is_not_trusted);
	tcase_add_test(files, only_regular_files_are_read);
	tcase_add_test(files, sizes);
	tcase_add_test(files, a_malformed_file_is_named_with_its_line);
	tcase_add_test(files, drop_ins_follow_in_order);
	tcase_add_test(files, a_drop_in_directory_that_others_can_write_is_refused);
	srunner_set_tap(sr, "-");
	srunner_run_all(sr, CK_SILENT);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed != 0;
}
