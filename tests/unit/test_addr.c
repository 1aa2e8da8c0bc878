/* SPDX-License-Identifier: Apache-2.0 */
#include <arpa/inet.h>
#include <check.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <string.h>

#include <linux/vm_sockets.h>

#include "addr.h"
#include "util.h"

static char err[ADDR_TEXT * 2];

static void good(const char *host, const char *port, int family, const char *text)
{
	struct addr a;

	ck_assert_msg(!addr_parse(&a, host, port, err), "%s %s: %s", host, port, err);
	ck_assert_int_eq(a.sa.ss_family, family);
	ck_assert_int_eq(addr_is_vsock(&a), family == AF_VSOCK);
	ck_assert_str_eq(a.text, text);
}

static void bad(const char *host, const char *port, const char *why)
{
	struct addr a;

	err[0] = '\0';
	ck_assert_int_eq(addr_parse(&a, host, port, err), -EINVAL);
	ck_assert_msg(strstr(err, why), "%s %s: %s", host, port, err);
}

START_TEST(addresses)
{
	good("127.0.0.1", "1", AF_INET, "127.0.0.1:1");
	good("0.0.0.0", "65535", AF_INET, "0.0.0.0:65535");
	good("::1", "12121", AF_INET6, "[::1]:12121");
	good("fe80::1:2", "80", AF_INET6, "[fe80::1:2]:80");
	good("ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.255", "65535", AF_INET6,
	     "[ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.255]:65535");
	good("2", "12121", AF_VSOCK, "vsock:2:12121");
	good("0", "1", AF_VSOCK, "vsock:0:1");
	good("4294967294", "4294967294", AF_VSOCK, "vsock:4294967294:4294967294");
}
END_TEST

START_TEST(bad_ones_say_why)
{
	bad("127.0.0.1", "0", "1 to 65535");
	bad("127.0.0.1", "65536", "1 to 65535");
	bad("127.0.0.1", "70000", "'70000'");
	bad("127.0.0.1", "", "1 to 65535");
	bad("127.0.0.1", "-1", "1 to 65535");
	bad("127.0.0.1", "+1", "1 to 65535");
	bad("127.0.0.1", " 1", "1 to 65535");
	bad("127.0.0.1", "1x", "1 to 65535");
	bad("127.0.0.1", "18446744073709551617", "1 to 65535");
	bad("3", "0", "vsock port");
	bad("3", "4294967295", "vsock port");
	bad("3", "http", "'http'");
	bad("localhost", "1", "'localhost'");
	bad("1.2.3", "1", "neither an IP address");
	bad("1.2.3.4.5", "1", "neither");
	bad("[::1]", "1", "neither");
	bad("", "1", "neither");
	bad("-1", "1", "neither");
	bad("4294967295", "1", "neither"); /* VMADDR_CID_ANY */
	bad("99999999999999999999", "1", "neither");
	bad("0x2", "1", "neither");
}
END_TEST

/* However long what was given: the message ends where its room ends. */
START_TEST(long_words)
{
	char word[4096];

	memset(word, 'x', sizeof(word));
	word[sizeof(word) - 1] = '\0';
	bad(word, "1", "neither");
	bad("1.2.3.4", word, "1 to 65535");
	bad("3", word, "vsock port");
	memset(word, '1', sizeof(word) - 1);
	bad(word, "1", "neither");
	bad("::1", word, "1 to 65535");
}
END_TEST

START_TEST(same_hosts)
{
	struct addr a, b;

	ck_assert(!addr_parse(&a, "10.0.0.1", "1", err) && !addr_parse(&b, "10.0.0.1", "2", err));
	ck_assert(addr_same_host(&a, &b.sa));
	ck_assert(!addr_parse(&b, "10.0.0.2", "1", err));
	ck_assert(!addr_same_host(&a, &b.sa));
	ck_assert(!addr_parse(&a, "::1", "1", err) && !addr_parse(&b, "::1", "9", err));
	ck_assert(addr_same_host(&a, &b.sa));
	ck_assert(!addr_parse(&b, "::2", "1", err));
	ck_assert(!addr_same_host(&a, &b.sa));
	ck_assert(!addr_parse(&a, "3", "1", err) && !addr_parse(&b, "3", "9", err));
	ck_assert(addr_same_host(&a, &b.sa));
	ck_assert(!addr_parse(&b, "4", "1", err));
	ck_assert(!addr_same_host(&a, &b.sa));
	ck_assert(!addr_parse(&a, "0.0.0.3", "1", err));
	ck_assert(!addr_same_host(&a, &b.sa));
	b.sa.ss_family = AF_UNIX;
	a.sa.ss_family = AF_UNIX;
	ck_assert(!addr_same_host(&a, &b.sa));
}
END_TEST

/* A connection comes from the host that was given, not from where the route would have it. */
START_TEST(dials_from_its_own_address)
{
	struct sockaddr_storage from;
	socklen_t len = sizeof(from);
	struct addr here, there;
	int listening, dialled, accepted;
	struct pollfd p;

	ck_assert(!addr_parse(&there, "127.0.0.2", "1", err) &&
		  !addr_parse(&here, "127.0.0.3", "1", err));
	((struct sockaddr_in *)&there.sa)->sin_port = 0;
	listening = addr_listen(&there);
	ck_assert_int_ge(listening, 0);
	ck_assert(!getsockname(listening, (struct sockaddr *)&there.sa, &there.len));
	dialled = addr_connect(&there, &here);
	ck_assert_int_ge(dialled, 0);
	p = (struct pollfd){ .fd = listening, .events = POLLIN };
	ck_assert_int_eq(poll(&p, 1, 5000), 1);
	accepted = accept(listening, (struct sockaddr *)&from, &len);
	ck_assert_int_ge(accepted, 0);
	ck_assert(addr_same_host(&here, &from));
	ck_assert(!addr_same_host(&there, &from));
	close(accepted);
	close(dialled);
	close(listening);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("addr");
	TCase *t = tcase_create("addr");
	SRunner *sr = srunner_create(s);
	int failed;

	suite_add_tcase(s, t);
	tcase_add_test(t, addresses);
	tcase_add_test(t, bad_ones_say_why);
	tcase_add_test(t, long_words);
	tcase_add_test(t, same_hosts);
	tcase_add_test(t, dials_from_its_own_address);
	srunner_set_tap(sr, "-");
	srunner_run_all(sr, CK_SILENT);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed != 0;
}
