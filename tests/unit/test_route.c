/* SPDX-License-Identifier: Apache-2.0 */
#include <check.h>
#include <errno.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/un.h>
#include <unistd.h>

#include "proxyreq.h"
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

static enum route route(socklen_t len)
{
	return route_to((struct sockaddr *)&address, len, RUNTIME);
}

static enum route route_path(const char *path)
{
	return route(name_is(path, strlen(path) + 1));
}

START_TEST(only_nobody_there_is_asked)
{
	for (int error = 0; error < 200; error++)
		ck_assert_int_eq(route_is_nobody(error), error == ENOENT || error == ECONNREFUSED);
}
END_TEST

START_TEST(other_families_are_libcs)
{
	socklen_t len = name_is("/run/x.sock", 12);

	for (int family = 0; family < AF_MAX; family++) {
		address.sun_family = (sa_family_t)family;
		ck_assert_int_eq(route(len), family == AF_UNIX ? ROUTE_PROXY : ROUTE_LIBC);
	}
}
END_TEST

START_TEST(names)
{
	ck_assert_int_eq(route_path("/a"), ROUTE_PROXY);
	ck_assert_int_eq(route_path("relative.sock"), ROUTE_LIBC);
	ck_assert_int_eq(route_path("./x"), ROUTE_LIBC);
	ck_assert_int_eq(route(name_is("\0abstract", 9)), ROUTE_PROXY);
	ck_assert_int_eq(route(name_is("\0\0\0", 3)), ROUTE_PROXY);
	ck_assert_int_eq(route(name_is("\0", 1)), ROUTE_LIBC);
	ck_assert_int_eq(route(name_is("", 0)), ROUTE_LIBC);
}
END_TEST

START_TEST(lengths)
{
	char longest[sizeof(address.sun_path)];

	memset(longest, '/', sizeof(longest));
	/* 108 bytes, and no NUL: legal (unix(7)) */
	ck_assert_int_eq(route(name_is(longest, sizeof(longest))), ROUTE_PROXY);
	ck_assert_int_eq(route(sizeof(address) + 1), ROUTE_LIBC);
	ck_assert_int_eq(route((socklen_t)-1), ROUTE_LIBC);
	for (socklen_t len = 0; len < PATH_OFFSET + 2; len++)
		ck_assert_int_eq(route(len), ROUTE_LIBC);
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
		route_to(at, len, RUNTIME);
		route_is_own(at, len, RUNTIME);
		route_is_same(at, len, at, len);
		address.sun_path[0] = PROXYREQ_ABSTRACT;
		memcpy(at, &address, len);
		route_is_same(at, len, at, len);
		route_peer(at, len, sizeof(address));
	}
	ck_assert_int_eq(route_to(NULL, sizeof(address), RUNTIME), ROUTE_LIBC);
}
END_TEST

START_TEST(own_sockets_stay_here)
{
	ck_assert_int_eq(route_path(RUNTIME "/udsproxyd.sock"), ROUTE_LIBC);
	ck_assert_int_eq(route_path(RUNTIME "/c/17"), ROUTE_LIBC);
	ck_assert_int_eq(route_path(RUNTIME "-evil/x"), ROUTE_PROXY);
	ck_assert_int_eq(route_path(RUNTIME), ROUTE_PROXY);
	ck_assert_int_eq(route_path("/run/udsproxy"), ROUTE_PROXY);
	ck_assert_int_eq(route(name_is("\0" RUNTIME "/x", 17)), ROUTE_PROXY);
}
END_TEST

static bool is_same(const char *a, size_t a_size, const char *b, size_t b_size)
{
	struct sockaddr_un first;
	socklen_t len = name_is(a, a_size);

	first = address;
	return route_is_same((struct sockaddr *)&first, len, (struct sockaddr *)&address,
			     name_is(b, b_size));
}

START_TEST(same_names)
{
	ck_assert(is_same("/run/x", 6, "/run/x", 7));
	ck_assert(is_same("/run/x\0garbage", 14, "/run/x", 6));
	ck_assert(!is_same("/run/x", 6, "/run/xy", 7));
	ck_assert(!is_same("/run/x", 6, "/run/y", 6));
	ck_assert(is_same("\0x", 2, "\0x", 2));
	ck_assert(!is_same("\0x", 2, "\0x\0", 3));
	ck_assert(!is_same("\0x", 2, "x", 1));
	ck_assert(!is_same("", 0, "", 0));
}
END_TEST

/* What a program is told for the path @path of @n bytes, a NUL included, when it has room for
 * @room. */
static socklen_t peer_is(const char *path, size_t n, socklen_t room)
{
	socklen_t len = name_is(path, n);

	return route_peer((struct sockaddr *)&address, room < len ? room : len, len);
}

START_TEST(abstract_peers)
{
	const socklen_t len = PATH_OFFSET;

	ck_assert_uint_eq(peer_is("\1name", 6, sizeof(address)), len + 5);
	ck_assert_mem_eq(address.sun_path, "\0name", 6);
	/* Longer than there is room: the length says so, as always. */
	ck_assert_uint_eq(peer_is("\1name", 6, len + 1), len + 5);
	ck_assert_mem_eq(address.sun_path, "\0name", 6);
	ck_assert_uint_eq(peer_is("\1name", 6, len), len + 6);
	ck_assert_mem_eq(address.sun_path, "\1name", 6);
	ck_assert_uint_eq(peer_is("/name", 6, sizeof(address)), len + 6);
	ck_assert_mem_eq(address.sun_path, "/name", 6);
	ck_assert_uint_eq(peer_is("\0name", 5, sizeof(address)), len + 5);
	ck_assert_uint_eq(peer_is("", 0, sizeof(address)), len);
	/* The longest: the kernel counts a NUL for which sun_path has no room. */
	name_is("\1bc", 3);
	ck_assert_uint_eq(route_peer((struct sockaddr *)&address, 128, sizeof(address) + 1),
			  sizeof(address));
	ck_assert_int_eq(address.sun_path[0], 0);
	name_is("\1bc", 3);
	address.sun_family = AF_INET;
	ck_assert_uint_eq(route_peer((struct sockaddr *)&address, 16, 16), 16);
	ck_assert_int_eq(address.sun_path[0], 1);
	ck_assert_uint_eq(route_peer(NULL, 0, 0), 0);
}
END_TEST

START_TEST(peers_answer_is_passed_on)
{
	static const int peers[] = { ENOENT,	   ECONNREFUSED, EACCES,  EPERM,
				     EAGAIN,	   EPROTOTYPE,	 ENOTDIR, ELOOP,
				     ENAMETOOLONG, EISCONN,	 EINVAL };
	static const int ours[] = { ENETUNREACH, ENOTCONN, ETIMEDOUT, EPROTO, EPROTONOSUPPORT,
				    EMFILE,	 ENFILE,   ENOBUFS,   ENOMEM, ETOOMANYREFS };

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
	tcase_add_test(t, same_names);
	tcase_add_test(t, abstract_peers);
	tcase_add_test(t, peers_answer_is_passed_on);
	srunner_set_tap(sr, "-");
	srunner_run_all(sr, CK_SILENT);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed != 0;
}
