/* SPDX-License-Identifier: Apache-2.0 */
#include <check.h>
#include <errno.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/un.h>
#include <unistd.h>

#include "route.h"

#define RUNTIME "/run/udsproxyd"
#define PATH_OFFSET offsetof(struct sockaddr_un, sun_path)

static struct sockaddr_un address;

/* The address of @n bytes of name; its length for connect(2). */
static socklen_t name_is(const char *name, size_t n)
{
	address = (struct sockaddr_un){ .sun_family = AF_UNIX };
	memcpy(address.sun_path, name, n);
	return (socklen_t)(PATH_OFFSET + n);
}

static enum route route(socklen_t len, int error)
{
	return route_connect((struct sockaddr *)&address, len, error, RUNTIME);
}

static enum route route_path(const char *path)
{
	return route(name_is(path, strlen(path) + 1), ENOENT);
}

START_TEST(only_nobody_there_is_asked)
{
	socklen_t len = name_is("/run/x.sock", 12);

	ck_assert_int_eq(route(len, ENOENT), ROUTE_PROXY);
	ck_assert_int_eq(route(len, ECONNREFUSED), ROUTE_PROXY);
	for (int error = 0; error < 200; error++)
		if (error != ENOENT && error != ECONNREFUSED)
			ck_assert_int_eq(route(len, error), ROUTE_LIBC);
}
END_TEST

START_TEST(other_families_are_libcs)
{
	socklen_t len = name_is("/run/x.sock", 12);

	for (int family = 0; family < AF_MAX; family++) {
		address.sun_family = (sa_family_t)family;
		ck_assert_int_eq(route(len, ECONNREFUSED),
				 family == AF_UNIX ? ROUTE_PROXY : ROUTE_LIBC);
	}
}
END_TEST

START_TEST(names)
{
	ck_assert_int_eq(route_path("/a"), ROUTE_PROXY);
	ck_assert_int_eq(route_path("relative.sock"), ROUTE_LIBC);
	ck_assert_int_eq(route_path("./x"), ROUTE_LIBC);
	ck_assert_int_eq(route(name_is("\0abstract", 9), ECONNREFUSED), ROUTE_PROXY);
	ck_assert_int_eq(route(name_is("\0\0\0", 3), ECONNREFUSED), ROUTE_PROXY);
	ck_assert_int_eq(route(name_is("\0", 1), ECONNREFUSED), ROUTE_LIBC);
	ck_assert_int_eq(route(name_is("", 0), ECONNREFUSED), ROUTE_LIBC);
}
END_TEST

START_TEST(lengths)
{
	char longest[sizeof(address.sun_path)];

	memset(longest, '/', sizeof(longest));
	/* 108 bytes, and no NUL: legal (unix(7)) */
	ck_assert_int_eq(route(name_is(longest, sizeof(longest)), ENOENT), ROUTE_PROXY);
	ck_assert_int_eq(route(sizeof(address) + 1, ENOENT), ROUTE_LIBC);
	ck_assert_int_eq(route((socklen_t)-1, ENOENT), ROUTE_LIBC);
	for (socklen_t len = 0; len < PATH_OFFSET + 2; len++)
		ck_assert_int_eq(route(len, ENOENT), ROUTE_LIBC);
}
END_TEST

/* A fault at the first byte beyond @len, or at the first one read for another errno. */
START_TEST(never_reads_beyond)
{
	long page = sysconf(_SC_PAGESIZE);
	char *two = mmap(NULL, (size_t)page * 2, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	ck_assert_ptr_ne(two, MAP_FAILED);
	ck_assert_int_eq(mprotect(two + page, (size_t)page, PROT_NONE), 0);
	for (socklen_t len = 0; len <= sizeof(address); len++) {
		struct sockaddr *at = (struct sockaddr *)(two + page - len);

		name_is(RUNTIME "//////////////////", 30);
		memcpy(at, &address, len);
		route_connect(at, len, ENOENT, RUNTIME);
		route_is_own(at, len, RUNTIME);
	}
	ck_assert_int_eq(
		route_connect((struct sockaddr *)(two + page), sizeof(address), EFAULT, RUNTIME),
		ROUTE_LIBC);
	ck_assert_int_eq(route_connect(NULL, sizeof(address), ENOENT, RUNTIME), ROUTE_LIBC);
}
END_TEST

START_TEST(own_sockets_stay_here)
{
	ck_assert_int_eq(route_path(RUNTIME "/udsproxyd.sock"), ROUTE_LIBC);
	ck_assert_int_eq(route_path(RUNTIME "/c/17"), ROUTE_LIBC);
	ck_assert_int_eq(route_path(RUNTIME "-evil/x"), ROUTE_PROXY);
	ck_assert_int_eq(route_path(RUNTIME), ROUTE_PROXY);
	ck_assert_int_eq(route_path("/run/udsproxy"), ROUTE_PROXY);
	ck_assert_int_eq(route(name_is("\0" RUNTIME "/x", 17), ENOENT), ROUTE_PROXY);
}
END_TEST

START_TEST(peers_answer_is_passed_on)
{
	static const int peers[] = { ENOENT,  ECONNREFUSED, EACCES,	  EAGAIN,  EPROTOTYPE,
				     ENOTDIR, ELOOP,	    ENAMETOOLONG, EISCONN, EINVAL };
	static const int ours[] = { EPERM,  ENOTCONN, ETIMEDOUT, EPROTO, EPROTONOSUPPORT,
				    EMFILE, ENFILE,   ENOBUFS,	 ENOMEM };

	for (size_t i = 0; i < sizeof(peers) / sizeof(peers[0]); i++)
		ck_assert_int_eq(route_errno(ENOENT, peers[i]), peers[i]);
	for (size_t i = 0; i < sizeof(ours) / sizeof(ours[0]); i++) {
		ck_assert_int_eq(route_errno(ENOENT, ours[i]), ENOENT);
		ck_assert_int_eq(route_errno(ECONNREFUSED, ours[i]), ECONNREFUSED);
	}
}
END_TEST

int main(void)
{
	Suite *s = suite_create("route");
	TCase *t = tcase_create("route");
	SRunner *sr = srunner_create(s);
	int failed;

	suite_add_tcase(s, t);
	tcase_add_test(t, only_nobody_there_is_asked);
	tcase_add_test(t, other_families_are_libcs);
	tcase_add_test(t, names);
	tcase_add_test(t, lengths);
	tcase_add_test(t, never_reads_beyond);
	tcase_add_test(t, own_sockets_stay_here);
	tcase_add_test(t, peers_answer_is_passed_on);
	srunner_set_tap(sr, "-");
	srunner_run_all(sr, CK_SILENT);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed != 0;
}
