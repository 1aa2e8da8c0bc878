/* SPDX-License-Identifier: Apache-2.0 */
#include <check.h>
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>

#include "canon.h"
#include "wire.h"

START_TEST(errnos_come_back)
{
	int known = 0;

	for (int e = 0; e < 4096; e++) {
		uint16_t canon = canon_errno(e);

		if (canon == canon_errno(EIO) && e != EIO)
			continue; /* not known */
		ck_assert_int_eq(local_errno(canon), e);
		known++;
	}
	ck_assert_int_gt(known, 70);
}
END_TEST

START_TEST(unknown_errnos_are_eio)
{
	ck_assert_uint_eq(canon_errno(4095), canon_errno(EIO));
	ck_assert_uint_eq(canon_errno(-1), canon_errno(EIO));
	ck_assert_int_eq(local_errno(4095), EIO);
	ck_assert_int_eq(local_errno(UINT16_MAX), EIO);
	ck_assert_int_eq(local_errno(canon_errno(0)), 0);
}
END_TEST

/* PROTOCOL.md: those of x86 and ARM. */
START_TEST(numbers_of_the_wire)
{
	ck_assert_uint_eq(canon_errno(ENOENT), 2);
	ck_assert_uint_eq(canon_errno(EIO), 5);
	ck_assert_uint_eq(canon_errno(EAGAIN), 11);
	ck_assert_uint_eq(canon_errno(EACCES), 13);
	ck_assert_uint_eq(canon_errno(ELOOP), 40);
	ck_assert_uint_eq(canon_errno(EPROTOTYPE), 91);
	ck_assert_uint_eq(canon_errno(ECONNRESET), 104);
	ck_assert_uint_eq(canon_errno(ECONNREFUSED), 111);
	ck_assert_uint_eq(canon_signal(SIGTERM), 15);
	ck_assert_uint_eq(canon_signal(SIGWINCH), 28);
	ck_assert_uint_eq(canon_socktype(SOCK_STREAM), WIRE_STREAM);
	ck_assert_uint_eq(canon_socktype(SOCK_DGRAM), WIRE_DGRAM);
	ck_assert_uint_eq(canon_socktype(SOCK_SEQPACKET), WIRE_SEQPACKET);
}
END_TEST

START_TEST(signals_and_types_come_back)
{
	for (int n = 1; n <= 64; n++)
		ck_assert_int_eq(local_signal(canon_signal(n)), n);
	ck_assert_uint_eq(canon_signal(SIGRTMIN), SIGRTMIN);
	ck_assert_uint_eq(canon_signal(65), 0);
	ck_assert_uint_eq(canon_signal(0), 0);
	ck_assert_uint_eq(canon_signal(-1), 0);
	ck_assert_int_eq(local_signal(0), 0);
	ck_assert_int_eq(local_signal(200), 0);
	for (uint8_t n = 1; n <= 3; n++)
		ck_assert_uint_eq(canon_socktype(local_socktype(n)), n);
	ck_assert_uint_eq(canon_socktype(SOCK_RAW), 0);
	ck_assert_int_eq(local_socktype(0), 0);
	ck_assert_int_eq(local_socktype(77), 0);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("canon");
	TCase *t = tcase_create("canon");
	SRunner *sr = srunner_create(s);
	int failed;

	suite_add_tcase(s, t);
	tcase_add_test(t, errnos_come_back);
	tcase_add_test(t, unknown_errnos_are_eio);
	tcase_add_test(t, numbers_of_the_wire);
	tcase_add_test(t, signals_and_types_come_back);
	srunner_set_tap(sr, "-");
	srunner_run_all(sr, CK_SILENT);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed != 0;
}
