/* SPDX-License-Identifier: Apache-2.0 */
#include <check.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "buf.h"
#include "offsets.h"

/* Two files and a pipe between them, as one side passes them and as the other is passed them. */
struct side {
	struct fdset set;
	struct offsets offsets;
};

static uint8_t bytes[256];

static void begin(struct side *s)
{
	int ends[2];

	*s = (struct side){ .set = { .n = 3 } };
	ck_assert_int_eq(pipe(ends), 0);
	close(ends[1]);
	s->set.fd[0] = memfd_create("first", 0);
	s->set.fd[1] = ends[0];
	s->set.fd[2] = memfd_create("second", 0);
	lseek(s->set.fd[2], 5, SEEK_SET);
	offsets_watch(&s->offsets, &s->set);
}

static void end(struct side *s)
{
	offsets_forget(&s->offsets);
	fdset_close(&s->set);
}

static off_t at(const struct side *s, int i)
{
	return lseek(s->set.fd[i], 0, SEEK_CUR);
}

/* What the far side tells, as bytes. */
static size_t told(const struct side *far)
{
	struct buf b;

	buf_init(&b, bytes, sizeof(bytes));
	offsets_put(&far->offsets, &b);
	return b.pos;
}

static void hear(struct side *near, size_t n)
{
	struct buf b;

	buf_init(&b, bytes, n);
	offsets_set(&near->offsets, &b);
}

START_TEST(what_has_moved_there_moves_here)
{
	struct side near, far;
	size_t n;

	begin(&near);
	begin(&far);
	lseek(far.set.fd[2], INT64_C(1) << 40, SEEK_SET);
	offsets_note(&far.offsets);
	n = told(&far);
	ck_assert_uint_eq(n, 2 + 8);
	hear(&near, n);
	ck_assert_int_eq(at(&near, 0), 0);
	ck_assert_int_eq(at(&near, 2), INT64_C(1) << 40);
	end(&near);
	end(&far);
}
END_TEST

START_TEST(what_has_not_is_left_alone)
{
	struct side near, far;

	begin(&near);
	begin(&far);
	lseek(near.set.fd[2], 7, SEEK_SET); /* somebody else's doing */
	offsets_note(&far.offsets);
	ck_assert_uint_eq(told(&far), 0);
	hear(&near, 0);
	ck_assert_int_eq(at(&near, 2), 7);
	end(&near);
	end(&far);
}
END_TEST

START_TEST(what_is_noted_holds_nothing)
{
	struct side far;
	int lowest = dup(0);

	close(lowest);
	begin(&far);
	offsets_note(&far.offsets);
	for (int i = 0; i < far.set.n; i++)
		close(fdset_take(&far.set, i));
	ck_assert_int_eq(dup(0), lowest);
	close(lowest);
	end(&far);
}
END_TEST

START_TEST(a_strange_peer_moves_nothing_else)
{
	static const uint8_t strange[] = {
		0,    1,    0,	  0, 0, 0, 0, 0, 0, 9, /* the pipe */
		0xff, 0xff, 0,	  0, 0, 0, 0, 0, 0, 9, /* nothing that was passed */
		0,    0,    0xff, 0, 0, 0, 0, 0, 0, 0, /* no offset */
		0,    2,    0,	  0, 0
	}; /* an end too soon */
	struct side near;

	begin(&near);
	memcpy(bytes, strange, sizeof(strange));
	hear(&near, sizeof(strange));
	ck_assert_int_eq(at(&near, 0), 0);
	ck_assert_int_eq(at(&near, 2), 5);
	end(&near);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("offsets");
	TCase *t = tcase_create("offsets");
	SRunner *sr = srunner_create(s);
	int failed;

	suite_add_tcase(s, t);
	tcase_add_test(t, what_has_moved_there_moves_here);
	tcase_add_test(t, what_has_not_is_left_alone);
	tcase_add_test(t, what_is_noted_holds_nothing);
	tcase_add_test(t, a_strange_peer_moves_nothing_else);
	srunner_set_tap(sr, "-");
	srunner_run_all(sr, CK_SILENT);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed != 0;
}
