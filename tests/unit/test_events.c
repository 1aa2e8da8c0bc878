/* SPDX-License-Identifier: Apache-2.0 */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/eventfd.h>

#include "events.h"
#include "util.h"

static struct events events;

static void setup(void)
{
	ck_assert_int_eq(events_init(&events), 0);
}

static void teardown(void)
{
	ck_assert(TAILQ_EMPTY(&events.again));
	ck_assert_ptr_null(events.timers);
	events_deinit(&events);
}

/* ---- descriptors ---------------------------------------------------------------------------- */

struct end {
	struct io io;
	struct end *victim; /* is stopped by this one's handler, and freed */
	int called;
	uint32_t told;
};

static void on_end(struct io *io, uint32_t told)
{
	struct end *end = CONTAINER_OF(io, struct end, io);

	end->called++;
	end->told = told;
	if (!end->victim)
		return;
	end->victim->victim = NULL;
	io_close(&events, &end->victim->io, end->victim->io.fd);
	free(end->victim);
	end->victim = NULL;
}

/* One that is readable from the beginning. */
static struct end *end_new(uint32_t wanted)
{
	struct end *end = calloc(1, sizeof(*end));
	int fd = eventfd(1, EFD_CLOEXEC | EFD_NONBLOCK);

	ck_assert(end && fd >= 0);
	io_init(&end->io, on_end);
	ck_assert_int_eq(io_start(&events, &end->io, fd, wanted), 0);
	return end;
}

static void end_free(struct end *end)
{
	io_close(&events, &end->io, end->io.fd);
	free(end);
}

START_TEST(an_edge_is_told_once_and_a_level_for_ever)
{
	struct end *edge = end_new(EPOLLIN | EPOLLET), *level = end_new(EPOLLIN);

	events_turn(&events);
	events_turn(&events);
	ck_assert_int_eq(edge->called, 1);
	ck_assert_uint_eq(edge->told, EPOLLIN);
	ck_assert_int_eq(level->called, 2);
	end_free(edge);
	end_free(level);
}
END_TEST

START_TEST(what_is_stopped_is_not_called_for_what_happened_before)
{
	struct end *a = end_new(EPOLLIN | EPOLLET), *b = end_new(EPOLLIN | EPOLLET);

	/* Whichever comes first frees the other; both are in one batch. */
	a->victim = b;
	b->victim = a;
	events_turn(&events);
	ck_assert_int_eq(events.n, 2);
	end_free(events.batch[0].data.ptr);
}
END_TEST

START_TEST(what_cannot_be_watched_is_said)
{
	struct io io;
	int file = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);

	io_init(&io, on_end);
	ck_assert_int_eq(io_start(&events, &io, file, EPOLLIN), -EPERM);
	ck_assert_int_eq(io_start(&events, &io, -1, EPOLLIN), -EBADF);
	ck_assert_int_eq(io.fd, -1);
	io_stop(&events, &io);
	io_close(&events, &io, file);
	ck_assert_int_eq(fcntl(file, F_GETFD), -1);
}
END_TEST

START_TEST(a_descriptor_that_was_stopped_can_be_watched_again)
{
	struct end *end = end_new(EPOLLIN | EPOLLET);
	int fd = end->io.fd;

	io_stop(&events, &end->io);
	ck_assert_int_eq(io_start(&events, &end->io, fd, EPOLLIN | EPOLLET), 0);
	events_turn(&events);
	ck_assert_int_eq(end->called, 1);
	end_free(end);
}
END_TEST

/* ---- what goes on --------------------------------------------------------------------------- */

static int turns_of_busy;

static void on_busy(struct io *io, uint32_t told)
{
	turns_of_busy++;
	if (!told)
		io_again(&events, io);
}

START_TEST(who_goes_on_lets_others_have_their_turn)
{
	struct end *other = end_new(EPOLLIN), *busy = end_new(EPOLLIN | EPOLLET);

	events_turn(&events);
	busy->io.ready = on_busy;
	io_again(&events, &busy->io);
	io_again(&events, &busy->io); /* is one */
	for (int i = 1; i <= 5; i++) {
		events_turn(&events);
		ck_assert_int_eq(turns_of_busy, i);
		ck_assert_int_eq(other->called, i + 1);
	}
	end_free(busy);
	end_free(other);
}
END_TEST

START_TEST(who_is_stopped_does_not_go_on)
{
	struct end *a = end_new(EPOLLIN | EPOLLET), *b = end_new(EPOLLIN | EPOLLET);

	events_turn(&events);
	a->victim = b;
	io_again(&events, &a->io);
	io_again(&events, &b->io);
	events_turn(&events);
	ck_assert_int_eq(a->called, 2);
	ck_assert_uint_eq(a->told, 0);
	io_again(&events, &a->io);
	end_free(a);
}
END_TEST

/* ---- timers --------------------------------------------------------------------------------- */

#define TIMERS 1000
#define LATEST_MS 30

static struct entry {
	struct timer timer;
	bool stopped;
	int fired;
} entries[TIMERS];
static int64_t last_at;

static void on_entry(struct timer *t)
{
	struct entry *e = CONTAINER_OF(t, struct entry, timer);

	ck_assert(!e->stopped);
	ck_assert(!timer_pending(t));
	ck_assert_int_ge(t->at, last_at);
	ck_assert_int_ge(events_now(), t->at);
	last_at = t->at;
	e->fired++;
}

/* Whatever is started, moved and stopped in whatever order: each fires once, not before its time, one after the other. */
START_TEST(timers_fire_in_order)
{
	for (int i = 0; i < TIMERS; i++)
		timer_init(&entries[i].timer, on_entry);
	srand(1);
	for (int i = 0; i < 5 * TIMERS; i++) {
		struct entry *e = &entries[rand() % TIMERS];

		e->stopped = rand() % 4 == 0;
		if (e->stopped)
			timer_stop(&events, &e->timer);
		else
			timer_start(&events, &e->timer, (unsigned)rand() % LATEST_MS);
		ck_assert(timer_pending(&e->timer) == !e->stopped);
	}
	for (int i = 0; i < TIMERS; i++) {
		entries[i].stopped = !timer_pending(&entries[i].timer);
		entries[i].fired = 0;
	}
	while (events.timers)
		events_turn(&events);
	for (int i = 0; i < TIMERS; i++)
		ck_assert_int_eq(entries[i].fired, !entries[i].stopped);
}
END_TEST

static struct entry next;

static void on_first(struct timer *t)
{
	timer_start(&events, t, 1);
	timer_stop(&events, &next.timer);
	next.stopped = true;
	t->fired = on_entry;
}

START_TEST(a_timer_may_start_itself_and_stop_another)
{
	timer_init(&entries[0].timer, on_first);
	timer_init(&next.timer, on_entry);
	timer_start(&events, &entries[0].timer, 0);
	timer_start(&events, &next.timer, 1);
	while (events.timers)
		events_turn(&events);
	ck_assert_int_eq(entries[0].fired, 1);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("events");
	TCase *t = tcase_create("events");
	SRunner *sr = srunner_create(s);
	int failed;

	suite_add_tcase(s, t);
	tcase_add_checked_fixture(t, setup, teardown);
	tcase_set_timeout(t, 60);
	tcase_add_test(t, an_edge_is_told_once_and_a_level_for_ever);
	tcase_add_test(t, what_is_stopped_is_not_called_for_what_happened_before);
	tcase_add_test(t, what_cannot_be_watched_is_said);
	tcase_add_test(t, a_descriptor_that_was_stopped_can_be_watched_again);
	tcase_add_test(t, who_goes_on_lets_others_have_their_turn);
	tcase_add_test(t, who_is_stopped_does_not_go_on);
	tcase_add_test(t, timers_fire_in_order);
	tcase_add_test(t, a_timer_may_start_itself_and_stop_another);
	srunner_set_tap(sr, "-");
	srunner_run_all(sr, CK_SILENT);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed != 0;
}
