/* SPDX-License-Identifier: Apache-2.0 */
/* What rexec-qemu makes of QEMU's name and arguments: rexec/qemu/{map,argv}. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "qemu/argv.h"
#include "qemu/map.h"

static struct argv_plan plan;

static bool have_aes(const char *path)
{
	return strstr(path, "aes");
}

#define PLAN(...)                                                                                  \
	do {                                                                                       \
		char *const args[] = { (char *)"qemu", __VA_ARGS__, NULL };                        \
		ck_assert_int_eq(argv_plan(&plan, (int)(sizeof(args) / sizeof(args[0])) - 1, args, \
					   have_aes),                                              \
				 0);                                                               \
	} while (0)
#define S(s) ((char *)(uintptr_t)(s))

static void clear(void)
{
	argv_plan_free(&plan);
}

START_TEST(other_arguments_stay_as_they_are)
{
	PLAN(S("-name"), S("guest=a b,debug-threads=on"), S(""), S("-append"), S("x=\"y\"\n"));
	ck_assert_uint_eq(plan.argc, 6);
	ck_assert_str_eq(plan.argv[2], "guest=a b,debug-threads=on");
	ck_assert_str_eq(plan.argv[3], "");
	ck_assert_str_eq(plan.argv[5], "x=\"y\"\n");
	ck_assert_ptr_null(plan.argv[6]);
	ck_assert(!plan.daemonize && !plan.pidfile && !plan.n_sockets && !plan.n_files);
}
END_TEST

START_TEST(probing)
{
	PLAN(S("-S"), S("-no-user-config"), S("-nodefaults"), S("-nographic"), S("-machine"),
	     S("none,accel=kvm:tcg"), S("-qmp"),
	     S("unix:/var/lib/libvirt/qemu/qmp-1/qmp.monitor,server=on,wait=off"), S("-pidfile"),
	     S("/var/lib/libvirt/qemu/qmp-1/qmp.pid"), S("-daemonize"));
	ck_assert(plan.daemonize);
	ck_assert_str_eq(plan.pidfile, "/var/lib/libvirt/qemu/qmp-1/qmp.pid");
	ck_assert_str_eq(plan.argv[10], "@DIR@/pid");
	ck_assert_uint_eq(plan.n_sockets, 1);
	ck_assert_str_eq(plan.sockets[0].path, "/var/lib/libvirt/qemu/qmp-1/qmp.monitor");
	ck_assert_str_eq(plan.sockets[0].name, "socket1");
	ck_assert_int_eq(plan.sockets[0].channel, ARGV_MONITOR);
	ck_assert_str_eq(plan.argv[8], "unix:@DIR@/socket1,server=on,wait=off");
}
END_TEST

START_TEST(inherited_monitor)
{
	PLAN(S("-chardev"), S("socket,id=charmonitor,fd=22,server=on,wait=off"), S("-chardev"),
	     S("socket,id=charchannel0,fd=24,server=on,wait=off"), S("-mon"),
	     S("chardev=charmonitor,id=monitor,mode=control"), S("-mon"),
	     S("chardev=charchannel0,mode=readline"));
	ck_assert(argv_is_monitor(&plan, 22));
	ck_assert(!argv_is_monitor(&plan, 24));
	ck_assert_uint_eq(plan.n_sockets, 0);
	ck_assert_str_eq(plan.argv[2], "socket,id=charmonitor,fd=22,server=on,wait=off");
}
END_TEST

START_TEST(monitor_may_be_named_before_its_device)
{
	PLAN(S("--mon"), S("m,mode=control"), S("--chardev"),
	     S("socket,id=m,path=/run/m.sock,server,nowait"));
	ck_assert_uint_eq(plan.n_sockets, 1);
	ck_assert_int_eq(plan.sockets[0].channel, ARGV_MONITOR);
	ck_assert_str_eq(plan.argv[4], "socket,id=m,path=@DIR@/socket1,server,nowait");
}
END_TEST

START_TEST(serial_by_path)
{
	PLAN(S("-chardev"), S("socket,id=s0,path=/tmp/a,,b,server=on,wait=off"), S("-serial"),
	     S("unix:/tmp/c,server,nowait"));
	ck_assert_uint_eq(plan.n_sockets, 2);
	ck_assert_str_eq(plan.sockets[0].path, "/tmp/a,b");
	ck_assert_int_eq(plan.sockets[0].channel, ARGV_DEVICE);
	ck_assert_str_eq(plan.argv[2], "socket,id=s0,path=@DIR@/socket1,server=on,wait=off");
	ck_assert_str_eq(plan.sockets[1].path, "/tmp/c");
	ck_assert_str_eq(plan.argv[4], "unix:@DIR@/socket2,server,nowait");
}
END_TEST

START_TEST(displays_by_path)
{
	PLAN(S("-vnc"), S("vnc=unix:/run/vnc.sock,audiodev=a"), S("-spice"),
	     S("unix=on,addr=/run/spice.sock,disable-ticketing=on"));
	ck_assert_uint_eq(plan.n_sockets, 2);
	ck_assert_int_eq(plan.sockets[0].channel, ARGV_DISPLAY);
	ck_assert_str_eq(plan.argv[2], "vnc=unix:@DIR@/socket1,audiodev=a");
	ck_assert_str_eq(plan.argv[4], "unix=on,addr=@DIR@/socket2,disable-ticketing=on");
}
END_TEST

START_TEST(what_qemu_connects_to_is_hosts)
{
	PLAN(S("-chardev"), S("socket,id=v,path=/run/vhost.sock"), S("-chardev"),
	     S("socket,id=w,path=/run/w,server=off"), S("-qmp"), S("tcp:127.0.0.1:4444,server=on"),
	     S("-chardev"), S("socket,id=x,path=name,abstract=on,server=on"), S("-chardev"),
	     S("pty,id=charserial0"));
	ck_assert_uint_eq(plan.n_sockets, 0);
	ck_assert_str_eq(plan.argv[2], "socket,id=v,path=/run/vhost.sock");
}
END_TEST

START_TEST(secrets_are_handed_over)
{
	PLAN(S("-object"),
	     S("{\"qom-type\":\"secret\",\"id\":\"masterKey0\",\"format\":\"raw\",\"file\":"
	       "\"/var/lib/libvirt/qemu/domain-1-a/master-key.aes\"}"),
	     S("-object"), S("secret,id=s,file=/run/key.aes,format=raw"), S("-object"),
	     S("{\"qom-type\":\"memory-backend-file\",\"file\":\"/x.aes\"}"));
	ck_assert_uint_eq(plan.n_files, 2);
	ck_assert_str_eq(plan.files[0].path, "/var/lib/libvirt/qemu/domain-1-a/master-key.aes");
	ck_assert_str_eq(plan.argv[2], "{\"qom-type\":\"secret\",\"id\":\"masterKey0\",\"format\":"
				       "\"raw\",\"file\":\"@DIR@/file1\"}");
	ck_assert_str_eq(plan.files[1].path, "/run/key.aes");
	ck_assert_str_eq(plan.argv[4], "secret,id=s,file=@DIR@/file2,format=raw");
}
END_TEST

START_TEST(a_secret_that_is_not_here_is_hosts)
{
	PLAN(S("-object"), S("secret,id=s,file=/etc/host-only,format=raw"), S("-object"),
	     S("{\"qom-type\":\"secret\",\"file\":\"/etc/host-only\"}"), S("-object"),
	     S("{broken"));
	ck_assert_uint_eq(plan.n_files, 0);
	ck_assert_str_eq(plan.argv[2], "secret,id=s,file=/etc/host-only,format=raw");
	ck_assert_str_eq(plan.argv[6], "{broken");
}
END_TEST

START_TEST(an_option_without_its_value_is_qemus_to_refuse)
{
	PLAN(S("-pidfile"));
	ck_assert_str_eq(plan.argv[1], "-pidfile");
	ck_assert_ptr_null(plan.pidfile);
}
END_TEST

/* The programs behind @name, in one string; or "error in LINE". */
static const char *lookup(const char *text, const char *name)
{
	static char out[512];
	struct map_programs programs;
	unsigned int line;
	int ret = map_lookup(text, name, "s390x", &programs, &line);

	*out = '\0';
	if (ret)
		sprintf(out, "error in %u", line);
	for (size_t i = 0; i < programs.n; i++)
		sprintf(out + strlen(out), "%s%s", i ? " " : "", programs.program[i]);
	map_free(&programs);
	return out;
}

START_TEST(a_name_stands_for_itself)
{
	ck_assert_str_eq(lookup("", "/usr/bin/qemu-system-x86_64"), "qemu-system-x86_64");
	ck_assert_str_eq(lookup("# qemu-system-x86_64 /x\n\n", "qemu-system-x86_64"),
			 "qemu-system-x86_64");
	ck_assert_str_eq(lookup("", "/usr/libexec/qemu-kvm"),
			 "qemu-kvm /usr/libexec/qemu-kvm qemu-system-s390x");
}
END_TEST

START_TEST(the_map_names_another)
{
	const char *map = "a /usr/bin/b\n qemu-kvm\t/usr/libexec/qemu-kvm  kvm # old ones\nc d";

	ck_assert_str_eq(lookup(map, "/usr/bin/qemu-kvm"), "/usr/libexec/qemu-kvm kvm");
	ck_assert_str_eq(lookup(map, "c"), "d");
	ck_assert_str_eq(lookup("a b\na c\n", "a"), "c");
}
END_TEST

START_TEST(a_malformed_map_is_refused)
{
	ck_assert_str_eq(lookup("a b\nqemu-kvm\n", "a"), "error in 2");
	ck_assert_str_eq(lookup("/usr/bin/a b\n", "a"), "error in 1");
	ck_assert_str_eq(lookup("a bin/b\n", "c"), "error in 1");
	ck_assert_str_eq(lookup("a 1 2 3 4 5 6 7 8 9\n", "a"), "error in 1");
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("qemu argv");
	TCase *tc = tcase_create("plan"), *map = tcase_create("map");
	SRunner *sr;
	int failed;

	tcase_add_checked_fixture(tc, NULL, clear);
	tcase_add_test(tc, other_arguments_stay_as_they_are);
	tcase_add_test(tc, probing);
	tcase_add_test(tc, inherited_monitor);
	tcase_add_test(tc, monitor_may_be_named_before_its_device);
	tcase_add_test(tc, serial_by_path);
	tcase_add_test(tc, displays_by_path);
	tcase_add_test(tc, what_qemu_connects_to_is_hosts);
	tcase_add_test(tc, secrets_are_handed_over);
	tcase_add_test(tc, a_secret_that_is_not_here_is_hosts);
	tcase_add_test(tc, an_option_without_its_value_is_qemus_to_refuse);
	suite_add_tcase(suite, tc);
	tcase_add_test(map, a_name_stands_for_itself);
	tcase_add_test(map, the_map_names_another);
	tcase_add_test(map, a_malformed_map_is_refused);
	suite_add_tcase(suite, map);
	sr = srunner_create(suite);
	srunner_set_tap(sr, "-");
	srunner_run_all(sr, CK_SILENT);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
