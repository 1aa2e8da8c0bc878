/* SPDX-License-Identifier: Apache-2.0 */
/* Flows and relays on real descriptors: order, ends, back-pressure, descriptors, holding. */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "flow.h"
#include "loop.h"
#include "relay.h"
#include "util.h"

static struct loop loop;
static int a[2], b[2]; /* we hold [0], the flow or relay [1] */
static int closed, closed_error;

static void on_closed(struct flow *f, int error)
{
	(void)f;
	closed++;
	closed_error = error;
}

static const struct flow_hooks hooks = { .closed = on_closed };

static void on_relay_closed(struct relay *r)
{
	(void)r;
	closed++;
}

static const struct relay_hooks relay_hooks = { .closed = on_relay_closed };

static void open_pairs(int type)
{
	ck_assert_int_eq(socketpair(AF_UNIX, type | SOCK_CLOEXEC, 0, a), 0);
	ck_assert_int_eq(socketpair(AF_UNIX, type | SOCK_CLOEXEC, 0, b), 0);
	loop_init(&loop);
	closed = closed_error = 0;
}

/* Until nothing happens any more. */
static void settle(void)
{
	for (int i = 0; i < 1000; i++)
		ck_assert_int_eq(loop_turn(&loop, 1), 0);
}

static void turns(int n)
{
	while (n-- > 0)
		ck_assert_int_eq(loop_turn(&loop, 0), 0);
}

START_TEST(half_close_passes_and_the_other_direction_goes_on)
{
	char text[16];

	open_pairs(SOCK_STREAM);
	ck_assert_ptr_nonnull(relay_new(&loop, a[1], b[1], &relay_hooks, NULL));
	ck_assert_int_eq(write(a[0], "question", 8), 8);
	shutdown(a[0], SHUT_WR);
	turns(10);
	ck_assert_int_eq(read(b[0], text, sizeof(text)), 8);
	ck_assert_int_eq(read(b[0], text, sizeof(text)), 0);
	ck_assert_int_eq(closed, 0);
	ck_assert_int_eq(write(b[0], "answer", 6), 6);
	close(b[0]);
	turns(10);
	ck_assert_int_eq(closed, 1);
	ck_assert_int_eq(read(a[0], text, sizeof(text)), 6);
	ck_assert_int_eq(read(a[0], text, sizeof(text)), 0);
	close(a[0]);
	loop_deinit(&loop);
}
END_TEST

START_TEST(a_slow_reader_stops_the_writer_and_loses_nothing)
{
	static uint8_t chunk[4096];
	size_t written = 0, got = 0;
	ssize_t n;

	open_pairs(SOCK_STREAM);
	ck_assert_ptr_nonnull(relay_new(&loop, a[1], b[1], &relay_hooks, NULL));
	fcntl(a[0], F_SETFL, O_NONBLOCK);
	fcntl(b[0], F_SETFL, O_NONBLOCK);
	for (int i = 0; i < 4000; i++) {
		n = write(a[0], chunk, sizeof(chunk));
		written += n > 0 ? (size_t)n : 0;
		turns(1);
	}
	/* Two sockets' buffers and the high-water mark, not 16 MB. */
	ck_assert_uint_lt(written, 2000000);
	close(a[0]);
	while ((n = read(b[0], chunk, sizeof(chunk))) != 0) {
		got += n > 0 ? (size_t)n : 0;
		turns(1);
	}
	ck_assert_uint_eq(got, written);
	close(b[0]);
	turns(10);
	ck_assert_int_eq(closed, 1);
	loop_deinit(&loop);
}
END_TEST

START_TEST(packets_and_descriptors_stay_together)
{
	struct fdset set = { .n = 1 };
	int pipefd[2];
	char text[16];

	open_pairs(SOCK_SEQPACKET);
	ck_assert_ptr_nonnull(relay_new(&loop, a[1], b[1], &relay_hooks, NULL));
	ck_assert_int_eq(pipe(pipefd), 0);
	set.fd[0] = pipefd[1];
	ck_assert_int_eq(send(a[0], "one", 3, 0), 3);
	ck_assert_int_eq(send(a[0], "", 0, 0), 0);
	ck_assert_int_eq(fd_sendmsg(a[0], "two", 3, 0, &set, NULL), 3);
	turns(10);
	ck_assert_int_eq(fd_recvmsg(b[0], text, sizeof(text), 0, &set), 3);
	ck_assert_int_eq(set.n, 0);
	ck_assert_int_eq(fd_recvmsg(b[0], text, sizeof(text), 0, &set), 0);
	ck_assert_int_eq(fd_recvmsg(b[0], text, sizeof(text), 0, &set), 3);
	ck_assert_int_eq(set.n, 1);
	ck_assert_int_eq(write(set.fd[0], "x", 1), 1);
	ck_assert_int_eq(read(pipefd[0], text, 1), 1);
	/* No copy is left with the relay: the pipe ends with ours. */
	fdset_close(&set);
	close(pipefd[1]);
	ck_assert_int_eq(read(pipefd[0], text, 1), 0);
	close(pipefd[0]);
	close(a[0]);
	close(b[0]);
	turns(10);
	ck_assert_int_eq(closed, 1);
	loop_deinit(&loop);
}
END_TEST

START_TEST(a_target_that_leaves_ends_the_flow_before_anything_is_written)
{
	struct flow f;
	int from[2], to[2];

	loop_init(&loop);
	closed = 0;
	ck_assert_int_eq(pipe(from), 0);
	ck_assert_int_eq(pipe(to), 0);
	flow_start(&f, &loop, from[0], to[1], &hooks, NULL);
	turns(2);
	ck_assert_int_eq(closed, 0);
	close(to[0]);
	settle();
	ck_assert_int_eq(closed, 1);
	ck_assert_int_eq(closed_error, -EPIPE);
	close(from[0]);
	close(from[1]);
	close(to[1]);
	loop_deinit(&loop);
}
END_TEST

START_TEST(held_output_is_the_last_of_it_with_a_note)
{
	static char text[300000];
	struct flow f;
	int from[2], to[2];
	ssize_t n;

	loop_init(&loop);
	closed = 0;
	ck_assert_int_eq(pipe2(from, O_CLOEXEC), 0);
	ck_assert_int_eq(pipe2(to, O_CLOEXEC), 0);
	fcntl(to[1], F_SETFL, O_NONBLOCK);
	fcntl(to[1], F_SETPIPE_SZ, 1 << 20);
	flow_start(&f, &loop, from[0], -1, &hooks, NULL);
	flow_hold(&f, 8192);
	memset(text, 'x', sizeof(text));
	for (int i = 0; i < 20; i++) {
		ck_assert_int_eq(write(from[1], text, 4096), 4096);
		turns(2);
	}
	ck_assert_int_eq(write(from[1], "last", 4), 4);
	close(from[1]);
	turns(5);
	ck_assert_int_eq(closed, 0);
	flow_retarget(&f, to[1]);
	turns(5);
	ck_assert_int_eq(closed, 1);
	n = read(to[0], text, sizeof(text));
	ck_assert_int_lt(n, 9000);
	ck_assert_int_gt(n, 4000);
	ck_assert_ptr_nonnull(strstr(text, "bytes of output dropped"));
	ck_assert_mem_eq(text + n - 4, "last", 4);
	close(from[0]);
	close(to[0]);
	close(to[1]);
	loop_deinit(&loop);
}
END_TEST

START_TEST(an_idle_relay_does_not_spin)
{
	int n = 0;

	open_pairs(SOCK_STREAM);
	ck_assert_ptr_nonnull(relay_new(&loop, a[1], b[1], &relay_hooks, NULL));
	shutdown(a[0], SHUT_WR);
	turns(5);
	for (uint64_t end = loop_now() + 50; loop_now() < end; n++)
		ck_assert_int_eq(loop_turn(&loop, 20), 0);
	ck_assert_int_lt(n, 10);
	close(a[0]);
	close(b[0]);
	settle();
	ck_assert_int_eq(closed, 1);
	loop_deinit(&loop);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("flow");
	TCase *tc = tcase_create("flow");
	SRunner *sr;
	int failed;

	tcase_add_test(tc, half_close_passes_and_the_other_direction_goes_on);
	tcase_add_test(tc, a_slow_reader_stops_the_writer_and_loses_nothing);
	tcase_add_test(tc, packets_and_descriptors_stay_together);
	tcase_add_test(tc, a_target_that_leaves_ends_the_flow_before_anything_is_written);
	tcase_add_test(tc, held_output_is_the_last_of_it_with_a_note);
	tcase_add_test(tc, an_idle_relay_does_not_spin);
	suite_add_tcase(suite, tc);
	sr = srunner_create(suite);
	srunner_set_tap(sr, "-");
	srunner_run_all(sr, CK_SILENT);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed != 0;
}
