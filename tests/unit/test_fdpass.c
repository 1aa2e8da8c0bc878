/* SPDX-License-Identifier: Apache-2.0 */
#include <check.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "fdpass.h"
#include "util.h"

#define BIG 131072 /* what is read at once */

static int sock[2];
static int null_fd, zero_fd;
static int open_before;
static uint8_t bytes[4 * BIG];
static uint8_t got[4 * BIG];

static int count_open(void)
{
	DIR *d = opendir("/proc/self/fd");
	int n = 0;

	ck_assert_ptr_nonnull(d);
	while (readdir(d))
		n++;
	closedir(d);
	return n;
}

static void make(int type)
{
	int size = 1 << 21;

	open_before = count_open();
	ck_assert(!socketpair(AF_UNIX, type, 0, sock));
	setsockopt(sock[0], SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
	null_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	zero_fd = open("/dev/zero", O_RDONLY | O_CLOEXEC);
	for (size_t i = 0; i < sizeof(bytes); i++)
		bytes[i] = (uint8_t)(i * 7 + i / 251);
}

static void make_stream(void)
{
	make(SOCK_STREAM);
}

static void make_packet(void)
{
	make(SOCK_SEQPACKET);
}

/* A sanitizer does not see a descriptor that is left open. */
static void nothing_is_left_open(void)
{
	close(sock[0]);
	close(sock[1]);
	close(null_fd);
	close(zero_fd);
	ck_assert_int_eq(count_open(), open_before);
}

static void send_with(const void *data, size_t len, int n_fds)
{
	struct fdset set = { .n = n_fds };

	for (int i = 0; i < n_fds; i++)
		set.fd[i] = i % 2 ? zero_fd : null_fd;
	ck_assert_int_eq(fd_sendmsg(sock[0], data, len, MSG_DONTWAIT, &set, NULL), (ssize_t)len);
}

static void send_plain(const void *data, size_t len)
{
	ck_assert_int_eq(fd_sendmsg(sock[0], data, len, MSG_DONTWAIT, NULL, NULL), (ssize_t)len);
}

/* In order, each the right one, and closed at the next exec. */
static void check_and_close(struct fdset *set, int n)
{
	ck_assert_int_eq(set->n, n);
	for (int i = 0; i < n; i++) {
		char c = 'x';

		ck_assert_int_eq(read(set->fd[i], &c, 1), i % 2);
		ck_assert_int_ne(fcntl(set->fd[i], F_GETFD) & FD_CLOEXEC, 0);
	}
	fdset_close(set);
	ck_assert_int_eq(set->n, 0);
}

/* ---- fd_recvmsg(), fd_sendmsg() ------------------------------------------------------------ */

START_TEST(any_number_of_descriptors)
{
	for (int n = 0; n <= FDSET_MAX; n = n < 3 ? n + 1 : n + 50) {
		struct fdset set;

		send_with("abc", 3, n);
		ck_assert_int_eq(fd_recvmsg(sock[1], got, sizeof(got), 0, &set), 3);
		ck_assert_mem_eq(got, "abc", 3);
		check_and_close(&set, n);
	}
}
END_TEST

START_TEST(taken_ones_stay_open)
{
	struct fdset set;
	int fd;

	send_with("x", 1, 3);
	ck_assert_int_eq(fd_recvmsg(sock[1], got, 1, 0, &set), 1);
	fd = fdset_take(&set, 1);
	ck_assert_int_eq(set.fd[1], -1);
	fdset_close(&set);
	ck_assert_int_ge(fcntl(fd, F_GETFD), 0);
	close(fd);
}
END_TEST

START_TEST(ends_and_errors)
{
	struct fdset set;
	bool drained;

	ck_assert_int_eq(fd_recvmsg(sock[1], got, 1, MSG_DONTWAIT, &set), -EAGAIN);
	ck_assert_int_eq(set.n, 0);
	ck_assert_int_eq(fd_recv_tied(sock[1], got, 1, &set, &drained), -EAGAIN);
	shutdown(sock[0], SHUT_WR);
	ck_assert_int_eq(fd_recvmsg(sock[1], got, 1, MSG_DONTWAIT, &set), 0);
	ck_assert_int_eq(fd_recv_tied(sock[1], got, 1, &set, &drained), 0);
	ck_assert_int_eq(fd_sendmsg(sock[0], "x", 1, 0, NULL, NULL), -EPIPE);
	ck_assert_int_eq(fd_recvmsg(-1, got, 1, 0, &set), -EBADF);
	ck_assert_int_eq(fd_recv_tied(-1, got, 1, &set, &drained), -EBADF);
}
END_TEST

/* With room for no more descriptors some are lost: that is an error, and the others are closed. */
START_TEST(lost_descriptors_are_an_error)
{
	struct rlimit old, few;
	struct fdset set;
	bool drained;

	ck_assert(!getrlimit(RLIMIT_NOFILE, &old));
	few = old;
	few.rlim_cur = (rlim_t)zero_fd + 3;
	for (int i = 0; i < 2; i++) {
		send_with("x", 1, 20);
		ck_assert(!setrlimit(RLIMIT_NOFILE, &few));
		if (i)
			ck_assert_int_eq(fd_recv_tied(sock[1], got, 10, &set, &drained), -EPROTO);
		else
			ck_assert_int_eq(fd_recvmsg(sock[1], got, 10, MSG_DONTWAIT, &set), -EPROTO);
		ck_assert(!setrlimit(RLIMIT_NOFILE, &old));
		ck_assert_int_eq(set.n, 0);
		while (fd_recvmsg(sock[1], got, 10, MSG_DONTWAIT, &set) > 0)
			fdset_close(&set);
	}
}
END_TEST

START_TEST(credentials_beside_descriptors)
{
	struct ucred who = { .pid = getpid(), .uid = getuid(), .gid = getgid() };
	struct fdset set = { .n = FDSET_MAX };
	int on = 1;

	for (int i = 0; i < set.n; i++)
		set.fd[i] = i % 2 ? zero_fd : null_fd;
	ck_assert(!setsockopt(sock[1], SOL_SOCKET, SO_PASSCRED, &on, sizeof(on)));
	ck_assert_int_eq(fd_sendmsg(sock[0], "x", 1, 0, &set, &who), 1);
	ck_assert_int_eq(fd_recvmsg(sock[1], got, 1, 0, &set), 1);
	check_and_close(&set, FDSET_MAX);
}
END_TEST

START_TEST(packets_keep_their_boundaries)
{
	struct fdset set;

	send_with("one", 3, 1);
	send_with("", 0, 2);
	send_plain("", 0);
	send_plain("two", 3);
	ck_assert_int_eq(fd_recvmsg(sock[1], got, 10, 0, &set), 3);
	check_and_close(&set, 1);
	ck_assert_int_eq(fd_recvmsg(sock[1], got, 10, 0, &set), 0);
	check_and_close(&set, 2);
	ck_assert_int_eq(fd_recvmsg(sock[1], got, 10, 0, &set), 0);
	check_and_close(&set, 0);
	ck_assert_int_eq(fd_recvmsg(sock[1], got, 1, MSG_TRUNC, &set), 3);
}
END_TEST

START_TEST(an_empty_packet_is_no_end)
{
	int stamped = 1;
	socklen_t len = sizeof(stamped);
	struct fdset set;

	ck_assert(!fd_has_packet(sock[1]));
	send_plain("", 0);
	send_with("", 0, 2);
	send_plain("", 0);
	shutdown(sock[0], SHUT_WR);
	ck_assert(fd_has_packet(sock[1]));
	ck_assert_int_eq(fd_recvmsg(sock[1], got, 10, 0, &set), 0);
	ck_assert(fd_has_packet(sock[1]));
	ck_assert_int_eq(fd_recvmsg(sock[1], got, 10, 0, &set), 0);
	check_and_close(&set, 2);
	ck_assert(fd_has_packet(sock[1]));
	ck_assert_int_eq(fd_recvmsg(sock[1], got, 10, 0, &set), 0);
	ck_assert(!fd_has_packet(sock[1]));
	ck_assert(!getsockopt(sock[1], SOL_SOCKET, SO_TIMESTAMP, &stamped, &len));
	ck_assert_int_eq(stamped, 0);
}
END_TEST

/* A second message, with descriptors, and then the end; @room: to read the first one with. */
static void look_behind(const char *second, size_t len, size_t room)
{
	ck_assert(!fd_reads_behind(sock[1]));
	send_plain("x", 1);
	ck_assert(!fd_reads_behind(sock[1]));
	send_with(second, len, 2);
	ck_assert(fd_reads_behind(sock[1]));
	ck_assert_int_eq(recv(sock[1], got, room, MSG_DONTWAIT), 1);
	ck_assert_int_eq(recv(sock[1], got, room, MSG_DONTWAIT), (ssize_t)len);
	send_plain("y", 1);
	ck_assert(!fd_reads_behind(sock[1]));
	shutdown(sock[0], SHUT_WR);
	ck_assert(fd_reads_behind(sock[1]));
	ck_assert_int_eq(recv(sock[1], got, 10, MSG_DONTWAIT), 1);
}

START_TEST(what_is_behind_a_packet)
{
	look_behind("", 0, 10);
}
END_TEST

START_TEST(what_is_behind_a_byte)
{
	look_behind("y", 1, 1);
}
END_TEST

/* ---- fd_recv_tied() ------------------------------------------------------------------------- */

/* Everything that is there; @at (which may be NULL) where descriptors came, at most @max times. */
static size_t receive_all(size_t len, size_t *at, int *n_fds, int max, int *times)
{
	size_t total = 0;
	uint8_t byte;
	struct fdset set;
	bool drained;
	ssize_t n;

	*times = 0;
	while ((n = fd_recv_tied(sock[1], got + total, len, &set, &drained)) > 0) {
		ck_assert_uint_le((size_t)n, len);
		ck_assert(!drained || recv(sock[1], &byte, 1, MSG_PEEK | MSG_DONTWAIT) < 0);
		if (set.n) {
			ck_assert_int_lt(*times, max);
			at[*times] = total;
			n_fds[(*times)++] = set.n;
			check_and_close(&set, set.n);
		}
		total += (size_t)n;
	}
	ck_assert_int_eq(n, -EAGAIN);
	return total;
}

/* Plain bytes before and behind, of all sizes about the limits at which it changes its ways. */
START_TEST(tied_to_the_byte)
{
	static const size_t sizes[] = { 0,    1,     2,	      100, 4095,    4096,  4097,
					5000, 65536, BIG - 1, BIG, BIG + 1, 200000 };
	int n_fds[2], times;
	size_t at[2];

	for (size_t b = 0; b < ARRAY_LEN(sizes); b++) {
		for (size_t m = 1; m < ARRAY_LEN(sizes); m++) {
			size_t before = sizes[b], with = sizes[m], total = before + with + 3;

			if (before)
				send_plain(bytes, before);
			send_with(bytes + before, with, 2);
			send_plain(bytes + before + with, 3);
			ck_assert_uint_eq(receive_all(BIG, at, n_fds, 2, &times), total);
			ck_assert_msg(times == 1 && n_fds[0] == 2 && at[0] == before,
				      "%zu before, %zu with: %d times, at %zu", before, with, times,
				      at[0]);
			ck_assert_mem_eq(got, bytes, total);
		}
	}
}
END_TEST

/* Not byte by byte: what is before a message comes at once, but for what is cut where the kernel has cut it. */
START_TEST(a_message_is_reached_soon)
{
	struct fdset set;
	int calls = 0;
	bool drained;
	size_t total = 0;

	send_plain(bytes, 150000);
	send_with("x", 1, 1);
	do {
		ssize_t n = fd_recv_tied(sock[1], got + total, BIG, &set, &drained);

		ck_assert_int_gt(n, 0);
		total += (size_t)n;
		calls++;
	} while (!set.n);
	check_and_close(&set, 1);
	ck_assert_uint_eq(total, 150001);
	ck_assert_int_le(calls, 8);
}
END_TEST

START_TEST(a_short_read_is_known_for_the_last)
{
	static const size_t sizes[] = { 1, 100, 4097, 100000 };
	struct fdset set;
	bool drained;

	for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
		send_plain(bytes, sizes[i]);
		ck_assert_int_eq(fd_recv_tied(sock[1], got, sizes[i] + 1, &set, &drained), (ssize_t)sizes[i]);
		ck_assert(drained);
		send_plain(bytes, sizes[i]);
		ck_assert_int_eq(fd_recv_tied(sock[1], got, sizes[i], &set, &drained), (ssize_t)sizes[i]);
		ck_assert(!drained);
	}
	ck_assert_int_eq(fd_recv_tied(sock[1], got, 10, &set, &drained), -EAGAIN);
	ck_assert(!drained);
}
END_TEST

START_TEST(messages_in_a_row)
{
	int n_fds[40], times;
	size_t at[40], total = 0;

	for (int i = 0; i < 40; i++) {
		send_with(bytes + total, (size_t)i % 3 + 1, i % 5 + 1);
		total += (size_t)i % 3 + 1;
	}
	ck_assert_uint_eq(receive_all(BIG, at, n_fds, 40, &times), total);
	ck_assert_int_eq(times, 40);
	total = 0;
	for (int i = 0; i < 40; i++) {
		ck_assert_uint_eq(at[i], total);
		ck_assert_int_eq(n_fds[i], i % 5 + 1);
		total += (size_t)i % 3 + 1;
	}
	ck_assert_mem_eq(got, bytes, total);
}
END_TEST

START_TEST(a_whole_set_with_one_byte)
{
	int n_fds[2], times;
	size_t at[2];

	send_plain(bytes, 10);
	send_with(bytes + 10, 1, FDSET_MAX);
	ck_assert_uint_eq(receive_all(BIG, at, n_fds, 2, &times), 11);
	ck_assert(times == 1 && at[0] == 10 && n_fds[0] == FDSET_MAX);
}
END_TEST

START_TEST(little_room)
{
	int n_fds[2], times;
	size_t at[2];

	for (size_t len = 1; len < 30; len++) {
		send_plain(bytes, 10);
		send_with(bytes + 10, 10, 1);
		send_plain(bytes + 20, 5);
		ck_assert_uint_eq(receive_all(len, at, n_fds, 2, &times), 25);
		ck_assert(times == 1 && at[0] == 10);
		ck_assert_mem_eq(got, bytes, 25);
	}
}
END_TEST

/* Seeded sequences of messages, read in pieces of any size while more are sent. */
START_TEST(random_sequences)
{
	srand(1);
	for (int round = 0; round < 300; round++) {
		size_t wanted[64], at[64], sent = 0, total = 0;
		int n_wanted = 0, times, n_fds[64], n_at = 0;

		for (int i = 0; i < 20; i++) {
			size_t n = (size_t)rand() % (rand() % 4 ? 50 : 9000) + 1;
			bool with = rand() % 3 == 0;

			if (with)
				wanted[n_wanted++] = sent;
			send_with(bytes + sent, n, with);
			sent += n;
			if (rand() % 4 == 0) {
				size_t here = receive_all((size_t)rand() % BIG + 1, at + n_at,
							  n_fds, 64 - n_at, &times);

				ck_assert_mem_eq(got, bytes + total, here);
				for (int j = 0; j < times; j++)
					at[n_at + j] += total;
				n_at += times;
				total += here;
			}
		}
		sent -= total;
		ck_assert_uint_eq(receive_all(BIG, at + n_at, n_fds, 64 - n_at, &times), sent);
		for (int j = 0; j < times; j++)
			at[n_at + j] += total;
		n_at += times;
		ck_assert_int_eq(n_at, n_wanted);
		ck_assert_mem_eq(at, wanted, (size_t)n_at * sizeof(*at));
	}
}
END_TEST

static TCase *with_fixture(Suite *s, const char *name, SFun make_it)
{
	TCase *t = tcase_create(name);

	suite_add_tcase(s, t);
	tcase_set_timeout(t, 60);
	tcase_add_checked_fixture(t, make_it, nothing_is_left_open);
	return t;
}

int main(void)
{
	Suite *s = suite_create("fdpass");
	TCase *stream = with_fixture(s, "stream", make_stream);
	TCase *packet = with_fixture(s, "packet", make_packet);
	SRunner *sr = srunner_create(s);
	int failed;

	tcase_add_test(stream, any_number_of_descriptors);
	tcase_add_test(stream, taken_ones_stay_open);
	tcase_add_test(stream, ends_and_errors);
	tcase_add_test(stream, lost_descriptors_are_an_error);
	tcase_add_test(stream, credentials_beside_descriptors);
	tcase_add_test(packet, packets_keep_their_boundaries);
	tcase_add_test(packet, an_empty_packet_is_no_end);
	tcase_add_test(packet, what_is_behind_a_packet);
	tcase_add_test(stream, what_is_behind_a_byte);
	tcase_add_test(stream, tied_to_the_byte);
	tcase_add_test(stream, a_message_is_reached_soon);
	tcase_add_test(stream, a_short_read_is_known_for_the_last);
	tcase_add_test(stream, messages_in_a_row);
	tcase_add_test(stream, a_whole_set_with_one_byte);
	tcase_add_test(stream, little_room);
	tcase_add_test(stream, random_sequences);
	srunner_set_tap(sr, "-");
	srunner_run_all(sr, CK_SILENT);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed != 0;
}
