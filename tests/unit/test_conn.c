/* SPDX-License-Identifier: Apache-2.0 */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "conn.h"
#include "util.h"

/*
 * Two connections, joined by two queues of frames, as two daemons are. What their local ends do
 * and when frames arrive is the schedule.
 */
#define QUEUE_MAX 8

struct side {
	struct conn conn;
	unsigned done;			  /* actions so far */
	enum conn_event queue[QUEUE_MAX]; /* frames on their way to it */
	unsigned n_queue;
};

struct pair {
	struct side side[2];
};

static void send_frame(struct side *to, enum conn_event frame)
{
	ck_assert_uint_lt(to->n_queue, QUEUE_MAX);
	to->queue[to->n_queue++] = frame;
}

static void happen(struct pair *p, int i, enum conn_event event)
{
	struct side *s = &p->side[i], *other = &p->side[!i];
	unsigned actions = conn_step(&s->conn, event);

	ck_assert_uint_eq(actions & CONN_VIOLATION, 0);
	ck_assert_uint_eq(actions & s->done, 0);   /* nothing is done twice */
	ck_assert_uint_eq(s->done & CONN_IDLE, 0); /* nor anything after the end */
	s->done |= actions;
	if (actions & CONN_SEND_SHUT)
		send_frame(other, CONN_PEER_SHUT);
	if (actions & CONN_SEND_STOP)
		send_frame(other, CONN_PEER_STOP);
	if (actions & CONN_SEND_END)
		send_frame(other, CONN_PEER_END);
}

static bool may_happen(const struct pair *p, int i)
{
	return !(p->side[i].done & CONN_CLOSE_LOCAL); /* then there is no local end any more */
}

static void deliver(struct pair *p, int i)
{
	struct side *s = &p->side[i];
	enum conn_event frame = s->queue[0];

	s->n_queue--;
	memmove(s->queue, s->queue + 1, s->n_queue * sizeof(*s->queue));
	happen(p, i, frame);
}

/* Both local ends end, and everything arrives: then it is over on both sides. */
static void conclude(struct pair *p)
{
	for (int i = 0; i < 2; i++)
		if (may_happen(p, i))
			happen(p, i, CONN_LOCAL_EOF);
	while (p->side[0].n_queue || p->side[1].n_queue)
		deliver(p, !p->side[0].n_queue);
	for (int i = 0; i < 2; i++) {
		ck_assert(p->side[i].done & CONN_IDLE);
		ck_assert(p->side[i].done & CONN_CLOSE_LOCAL);
		ck_assert(!conn_reads(&p->side[i].conn) && !conn_writes(&p->side[i].conn));
	}
}

/* ---- every order ------------------------------------------------------------------------ */

static uint64_t signature(const struct pair *p)
{
	uint64_t v = 0;

	for (int i = 0; i < 2; i++) {
		const struct side *s = &p->side[i];
		uint64_t queue = 1;

		for (unsigned j = 0; j < s->n_queue; j++)
			queue = queue * 8 + s->queue[j];
		v = v << 32 | queue << 14 | s->conn.flags << 8 | s->done;
		ck_assert_uint_lt(s->n_queue, 4);
	}
	return v;
}

#define SEEN_MAX 4096
static uint64_t seen[SEEN_MAX];
static size_t n_seen;

static bool is_new(uint64_t v)
{
	for (size_t i = 0; i < n_seen; i++)
		if (seen[i] == v)
			return false;
	ck_assert_uint_lt(n_seen, SEEN_MAX);
	seen[n_seen++] = v;
	return true;
}

static void explore(const struct pair *p)
{
	struct pair next = *p;

	if (!is_new(signature(p)))
		return;
	conclude(&next);
	for (int i = 0; i < 2; i++) {
		if (p->side[i].n_queue) {
			next = *p;
			deliver(&next, i);
			explore(&next);
		}
		if (!may_happen(p, i))
			continue;
		for (enum conn_event e = CONN_LOCAL_EOF; e <= CONN_LOCAL_GONE; e++) {
			next = *p;
			happen(&next, i, e);
			explore(&next);
		}
	}
}

START_TEST(every_order_of_events)
{
	struct pair p = { 0 };

	n_seen = 0;
	explore(&p);
	ck_assert_uint_gt(n_seen, 50);
}
END_TEST

/* ---- long schedules ----------------------------------------------------------------------- */

START_TEST(random_schedules)
{
	srand(1);
	for (int steps = 0; steps < 100000;) {
		struct pair p = { 0 };

		for (int n = rand() % 40; n; n--, steps++) {
			int i = rand() % 2;

			switch (rand() % 4) {
			case 0:
				if (may_happen(&p, i))
					happen(&p, i, CONN_LOCAL_EOF);
				break;
			case 1:
				if (may_happen(&p, i))
					happen(&p, i, CONN_LOCAL_GONE);
				break;
			default:
				if (p.side[i].n_queue)
					deliver(&p, i);
			}
		}
		conclude(&p);
	}
}
END_TEST

START_TEST(half_close)
{
	struct conn c;

	conn_init(&c);
	ck_assert_uint_eq(conn_step(&c, CONN_PEER_SHUT), CONN_SHUT_LOCAL);
	ck_assert(conn_reads(&c) && !conn_writes(&c));
	ck_assert_uint_eq(conn_step(&c, CONN_LOCAL_GONE),
			  0); /* nothing comes that could be stopped */
	ck_assert_uint_eq(conn_step(&c, CONN_LOCAL_EOF),
			  CONN_SEND_SHUT | CONN_CLOSE_LOCAL | CONN_SEND_END);
	ck_assert_uint_eq(conn_step(&c, CONN_LOCAL_EOF), 0);
	ck_assert_uint_eq(conn_step(&c, CONN_PEER_END), CONN_IDLE);
}
END_TEST

START_TEST(stop)
{
	struct conn c;

	conn_init(&c);
	ck_assert_uint_eq(conn_step(&c, CONN_LOCAL_GONE), CONN_SEND_STOP);
	ck_assert(conn_reads(&c) && !conn_writes(&c));
	ck_assert_uint_eq(conn_step(&c, CONN_PEER_STOP), CONN_STOP_LOCAL | CONN_SEND_SHUT);
	ck_assert_uint_eq(conn_step(&c, CONN_PEER_STOP), 0);
	ck_assert_uint_eq(conn_step(&c, CONN_PEER_SHUT),
			  CONN_SHUT_LOCAL | CONN_CLOSE_LOCAL | CONN_SEND_END);
}
END_TEST

START_TEST(violations)
{
	static const struct {
		enum conn_event events[4];
		size_t n;
	} cases[] = {
		{ { CONN_PEER_END }, 1 },
		{ { CONN_PEER_SHUT, CONN_PEER_END }, 2 },
		{ { CONN_LOCAL_EOF, CONN_PEER_END }, 2 },
		{ { CONN_PEER_SHUT, CONN_PEER_SHUT }, 2 },
		{ { CONN_PEER_SHUT, CONN_LOCAL_EOF, CONN_PEER_END, CONN_PEER_END }, 4 },
		{ { CONN_PEER_SHUT, CONN_LOCAL_EOF, CONN_PEER_SHUT }, 3 },
	};

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		unsigned actions = 0;
		struct conn c;

		conn_init(&c);
		for (size_t j = 0; j < cases[i].n; j++) {
			ck_assert_uint_eq(actions & CONN_VIOLATION, 0);
			actions = conn_step(&c, cases[i].events[j]);
		}
		ck_assert_uint_eq(actions, CONN_VIOLATION);
	}
}
END_TEST

START_TEST(revival)
{
	struct conn c;

	conn_init(&c);
	ck_assert(!conn_revive(&c)); /* nothing was said */
	conn_step(&c, CONN_LOCAL_EOF);
	ck_assert(!conn_reads(&c));
	ck_assert(conn_revive(&c));
	ck_assert(conn_reads(&c) && !conn_revive(&c));
	ck_assert_uint_eq(conn_step(&c, CONN_LOCAL_EOF), CONN_SEND_SHUT); /* said anew */
	conn_init(&c);
	conn_step(&c, CONN_LOCAL_GONE);
	ck_assert(conn_revive(&c) && conn_writes(&c));
	ck_assert_uint_eq(conn_step(&c, CONN_LOCAL_GONE), CONN_SEND_STOP);
	conn_step(&c, CONN_PEER_SHUT);
	conn_step(&c, CONN_LOCAL_EOF); /* END is said: too late */
	ck_assert(!conn_revive(&c));
	ck_assert_uint_eq(conn_step(&c, CONN_PEER_END), CONN_IDLE);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("conn");
	TCase *t = tcase_create("conn");
	SRunner *sr = srunner_create(s);
	int failed;

	suite_add_tcase(s, t);
	tcase_set_timeout(t, 60);
	tcase_add_test(t, every_order_of_events);
	tcase_add_test(t, random_schedules);
	tcase_add_test(t, half_close);
	tcase_add_test(t, stop);
	tcase_add_test(t, violations);
	tcase_add_test(t, revival);
	srunner_set_tap(sr, "-");
	srunner_run_all(sr, CK_SILENT);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed != 0;
}
