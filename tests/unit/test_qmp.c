/* SPDX-License-Identifier: Apache-2.0 */
/* The reader of QMP and the conversation that outlives its connection: rexec/qemu/{qmp,talk}. */
#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "qemu/talk.h"

/* ---- the reader ---- */

static bool local_thread(void *arg, int64_t host, int64_t *local)
{
	(void)arg;
	*local = host + 1000;
	return host != 13;
}

static const char *local_terminal(void *arg, const char *host)
{
	(void)arg;
	return strcmp(host, "/dev/pts/7") ? NULL : "/dev/pts/123";
}

static const struct qmp_names names = { .thread = local_thread, .terminal = local_terminal };

/* All messages of @in, each followed by a line end, fed in pieces cut before byte @cut. */
static void read_cut(const char *in, size_t cut, struct text *out, int *error)
{
	struct qmp_reader r;
	size_t used, len = strlen(in), pos = 0;
	int ret = 0;

	qmp_reader_init(&r, &names);
	while (pos < len && ret >= 0) {
		ret = qmp_read(&r, in + pos, (pos < cut ? cut : len) - pos, &used);
		pos += used;
		if (ret == 1) {
			text_add(out, r.text.data, r.text.len);
			text_puts(out, "\n");
		}
	}
	*error = ret < 0 ? ret : qmp_idle(&r) ? 0 : 1;
	qmp_reader_clear(&r);
}

/* @in becomes @expected however it is cut in two. */
static void becomes(const char *in, const char *expected)
{
	for (size_t cut = 0; cut <= strlen(in); cut++) {
		struct text out = { 0 };
		int error;

		read_cut(in, cut, &out, &error);
		ck_assert_int_eq(error, 0);
		ck_assert_str_eq(out.data ? out.data : "", expected);
		text_clear(&out);
	}
}

static void stays(const char *message)
{
	char line[4096];

	snprintf(line, sizeof(line), "%s\n", message);
	becomes(message, line);
}

static int error_of(const char *in)
{
	struct text out = { 0 };
	int error;

	read_cut(in, 0, &out, &error);
	text_clear(&out);
	return error;
}

START_TEST(messages_are_told_apart_at_every_split)
{
	becomes("{\"a\": {\"b\": [1, {}, \"}\"]}}\r\n{\"c\":1}{\"d\": \"\\\"{\"}\r\n",
		"{\"a\": {\"b\": [1, {}, \"}\"]}}\n{\"c\":1}\n{\"d\": \"\\\"{\"}\n");
}
END_TEST

START_TEST(thread_ids_are_replaced)
{
	becomes("{\"return\": [{\"cpu-index\": 0, \"thread-id\": 42, \"props\": {\"core-id\":7}}, "
		"{\"thread-id\" : -1 }], \"id\": \"libvirt-3\"}",
		"{\"return\": [{\"cpu-index\": 0, \"thread-id\": 1042, \"props\": "
		"{\"core-id\":7}}, "
		"{\"thread-id\" : 999 }], \"id\": \"libvirt-3\"}\n");
}
END_TEST

START_TEST(what_only_looks_like_a_thread_id_stays)
{
	stays("{\"return\": [{\"thread-id\": \"42\"}, \"thread-id\", 42, {\"x\": [\"thread-id\", "
	      "42]}]}");
	stays("{\"return\": \"\\\"thread-id\\\": 42\"}");
	stays("{\"thread-id\": 42, \"id\": {\"thread-id\": 42}}");
	stays("{\"return\": [{\"thread-id\": 1.5}, {\"thread-id\": null}, {\"thread-id\": []}]}");
	stays("{\"return\": [{\"thread-id\": 99999999999999999999999999}]}");
	stays("{\"return\": [{\"props\": {\"thread-id\": 1}}, [{\"thread-id\": 42}]]}");
	stays("{\"return\": {\"thread-id\": 42, \"a\": {\"thread-id\": 42}}}");
	stays("{\"event\": \"X\", \"data\": [{\"thread-id\": 5}]}");
	stays("{\"return\": [{\"thread-id\": 13}]}"); /* local_thread() knows none */
	stays("{\"error\": {\"thread-id\": 42}}");
}
END_TEST

START_TEST(terminals_are_replaced)
{
	becomes("{\"return\": [{\"filename\": \"pty:/dev/pts/7\", \"label\": \"charserial0\"}]}",
		"{\"return\": [{\"filename\": \"pty:/dev/pts/123\", \"label\": "
		"\"charserial0\"}]}\n");
	becomes("{\"return\": {\"pty\": \"/dev/pts/7\"}}",
		"{\"return\": {\"pty\": \"/dev/pts/123\"}}\n");
	becomes("{\"return\": {\"pty\": \"\\/dev\\/pts/7\"}}",
		"{\"return\": {\"pty\": \"/dev/pts/123\"}}\n");
	stays("{\"return\": [{\"filename\": \"pty:/dev/pts/8\"}, {\"filename\": \"unix:/x\"}]}");
	stays("{\"return\": [{\"label\": \"pty:/dev/pts/7\"}, {\"filename\": "
	      "[\"pty:/dev/pts/7\"]}]}");
	stays("{\"event\": \"E\", \"data\": {\"filename\": \"pty:/dev/pts/7\"}}");
}
END_TEST

START_TEST(what_is_no_json_is_refused)
{
	static const char *const bad[] = { "x",	 "[1]",		"\"a\"", "1",  "}",
					   "{]", "{\"a\":[}]}", ",",	 "{}x" };

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		ck_assert_int_eq(error_of(bad[i]), -EPROTO);
}
END_TEST

START_TEST(a_nul_is_refused)
{
	struct qmp_reader r;
	size_t used;

	qmp_reader_init(&r, NULL);
	ck_assert_int_eq(qmp_read(&r, "{\"a\0\": 1}", 10, &used), -EPROTO);
	qmp_reader_clear(&r);
}
END_TEST

START_TEST(nesting_has_an_end)
{
	char deep[QMP_NESTING_MAX * 5 + 3] = "";

	for (unsigned int i = 0; i < QMP_NESTING_MAX; i++)
		strcat(deep, "{\"a\":");
	ck_assert_int_eq(error_of(deep), 1);
	strcat(deep, "[");
	ck_assert_int_eq(error_of(deep), -EPROTO);
}
END_TEST

static enum qmp_kind kind_of(const char *in, char *id)
{
	struct qmp_reader r;
	enum qmp_kind kind;
	size_t used;

	qmp_reader_init(&r, &names);
	ck_assert_int_eq(qmp_read(&r, in, strlen(in), &used), 1);
	kind = r.kind;
	sprintf(id, "%.*s", (int)(r.id.to - r.id.from), r.text.data + r.id.from);
	qmp_reader_clear(&r);
	return kind;
}

START_TEST(kinds_and_ids)
{
	char id[64];

	ck_assert_int_eq(kind_of("{\"QMP\": {\"id\": 1}}", id), QMP_GREETING);
	ck_assert_str_eq(id, "");
	ck_assert_int_eq(kind_of("{\"id\":\"a\", \"return\": {\"id\": 2}}", id), QMP_RETURN);
	ck_assert_str_eq(id, "\"a\"");
	ck_assert_int_eq(kind_of("{\"return\": {\"thread-id\": 1}, \"id\":{\"n\": [1,2]}}", id),
			 QMP_RETURN);
	ck_assert_str_eq(id, "{\"n\": [1,2]}");
	ck_assert_int_eq(kind_of("{\"error\": {}, \"id\":17}", id), QMP_ERROR);
	ck_assert_str_eq(id, "17");
	ck_assert_int_eq(kind_of("{\"event\": \"STOP\", \"data\": {}}", id), QMP_EVENT);
	ck_assert_int_eq(kind_of("{\"execute\": \"stop\"}", id), QMP_COMMAND);
	ck_assert_int_eq(kind_of("{\"x\": {\"return\": 1}}", id), QMP_UNKNOWN);
}
END_TEST

/* ---- the conversation ---- */

static struct talk t;
static int cargos;

static void cargo_free(void *cargo)
{
	free(cargo);
	cargos--;
}

static void *new_cargo(void)
{
	cargos++;
	return malloc(1);
}

static void talk_setup(void)
{
	cargos = 0;
	talk_init(&t, &names, cargo_free);
}

static void talk_teardown(void)
{
	talk_clear(&t);
	ck_assert_int_eq(cargos, 0);
}

static void client_says(const char *line)
{
	ck_assert_int_eq(talk_from_client(&t, line, strlen(line), NULL), 0);
}

static void qemu_says(const char *line)
{
	ck_assert_int_eq(talk_from_remote(&t, line, strlen(line)), 0);
}

static void client_gets(const char *expected)
{
	size_t n = fifo_len(&t.to_client);
	char got[4096];

	snprintf(got, sizeof(got), "%.*s", (int)n, n ? (char *)fifo_peek(&t.to_client) : "");
	ck_assert_str_eq(got, expected);
	fifo_skip(&t.to_client, fifo_len(&t.to_client));
}

/* QEMU gets all that is sent now; @expected is it in one piece. */
static void qemu_gets(const char *expected)
{
	const struct talk_command *c;
	char got[4096] = "";

	while ((c = talk_next(&t))) {
		strncat(got, c->text + c->sent, c->len - c->sent);
		talk_sent(&t, c->len - c->sent);
	}
	ck_assert_str_eq(got, expected);
}

#define GREETING "{\"QMP\": {\"version\": {}}}\r\n"
#define CAPABILITIES "{\"execute\":\"qmp_capabilities\",\"id\":\"libvirt-1\"}\r\n"
#define REPLAY "{\"execute\":\"qmp_capabilities\",\"id\":\"rexec-qemu-capabilities\"}\r\n"
#define REPLAYED "{\"return\": {}, \"id\": \"rexec-qemu-capabilities\"}\r\n"
#define STATUS "{\"execute\": \"query-status\", \"id\": \"rexec-qemu-status\"}\r\n"
#define LOST                                                                                       \
	"\"error\": {\"class\": \"GenericError\", \"desc\": \"the connection to QEMU was lost "    \
	"while it ran this command: the outcome is unknown\"}}\r\n"

static void negotiate(void)
{
	talk_remote_up(&t);
	qemu_says(GREETING);
	client_says(CAPABILITIES);
	qemu_gets(CAPABILITIES);
	qemu_says("{\"return\": {}, \"id\": \"libvirt-1\"}\r\n");
	client_gets(GREETING "{\"return\": {}, \"id\": \"libvirt-1\"}\r\n");
}

static void break_and_mend(void)
{
	talk_remote_down(&t);
	client_gets("");
	talk_remote_up(&t);
	qemu_says(GREETING);
	qemu_gets(REPLAY);
	qemu_says(REPLAYED);
}

START_TEST(commands_answers_and_events_pass)
{
	negotiate();
	client_says("{\"execute\":\"stop\",\"id\":\"libvirt-2\"}\r\n");
	qemu_gets("{\"execute\":\"stop\",\"id\":\"libvirt-2\"}\r\n");
	qemu_says("{\"event\": \"STOP\"}\r\n{\"return\": {}, \"id\"");
	client_gets("{\"event\": \"STOP\"}\r\n");
	qemu_says(": \"libvirt-2\"}\r\n");
	client_gets("{\"return\": {}, \"id\": \"libvirt-2\"}\r\n");
	ck_assert_uint_eq(t.flying.n, 0);
}
END_TEST

START_TEST(nothing_is_sent_before_the_greeting)
{
	client_says(CAPABILITIES);
	qemu_gets("");
	talk_remote_up(&t);
	qemu_gets("");
	qemu_says(GREETING);
	qemu_gets(CAPABILITIES);
}
END_TEST

START_TEST(a_break_between_commands_is_not_seen)
{
	negotiate();
	break_and_mend();
	client_gets("");
	qemu_gets(STATUS);
	qemu_says("{\"return\": {\"status\": \"inmigrate\"}, \"id\": \"rexec-qemu-status\"}\r\n");
	client_gets("");
	client_says("{\"execute\":\"cont\"}");
	qemu_gets("{\"execute\":\"cont\"}\r\n");
	qemu_says("{\"return\": {}}");
	client_gets("{\"return\": {}}\r\n");
}
END_TEST

START_TEST(a_query_in_flight_is_sent_again)
{
	negotiate();
	client_says("{\"execute\":\"query-block\",\"id\":9}");
	qemu_gets("{\"execute\":\"query-block\",\"id\":9}\r\n");
	qemu_says("{\"return\": [{\"half an ans");
	break_and_mend();
	qemu_gets(STATUS "{\"execute\":\"query-block\",\"id\":9}\r\n");
	qemu_says("{\"id\": 9, \"return\": []}\r\n");
	client_gets("{\"id\": 9, \"return\": []}\r\n");
}
END_TEST

START_TEST(the_outcome_of_another_is_unknown)
{
	negotiate();
	client_says("{\"execute\":\"device_add\",\"id\":\"libvirt-7\"}");
	qemu_gets("{\"execute\":\"device_add\",\"id\":\"libvirt-7\"}\r\n");
	break_and_mend();
	client_gets("{\"id\": \"libvirt-7\", " LOST);
	ck_assert_uint_eq(t.flying.n, 0);
}
END_TEST

START_TEST(a_command_written_in_part_is_sent_again)
{
	negotiate();
	ck_assert_int_eq(talk_from_client(&t, "{\"execute\":\"getfd\"}", 19, new_cargo()), 0);
	talk_sent(&t, 5);
	talk_remote_down(&t);
	talk_remote_up(&t);
	qemu_says(GREETING);
	qemu_gets(REPLAY);
	qemu_says(REPLAYED);
	qemu_gets(STATUS "{\"execute\":\"getfd\"}\r\n");
	client_gets("");
}
END_TEST

START_TEST(commands_wait_while_the_link_is_down)
{
	negotiate();
	talk_remote_down(&t);
	client_says("{\"execute\":\"stop\"}{\"execute\":\"cont\"}");
	qemu_gets("");
	client_gets("");
	talk_remote_up(&t);
	qemu_says(GREETING);
	qemu_gets(REPLAY);
	qemu_says(REPLAYED);
	qemu_gets(STATUS "{\"execute\":\"stop\"}\r\n{\"execute\":\"cont\"}\r\n");
}
END_TEST

START_TEST(a_second_break_during_the_replay)
{
	negotiate();
	client_says("{\"execute\":\"query-a\"}");
	qemu_gets("{\"execute\":\"query-a\"}\r\n");
	talk_remote_down(&t);
	talk_remote_up(&t);
	qemu_says(GREETING);
	qemu_gets(REPLAY);
	break_and_mend();
	client_gets("");
	qemu_gets(STATUS "{\"execute\":\"query-a\"}\r\n");
}
END_TEST

START_TEST(a_break_before_negotiation)
{
	talk_remote_up(&t);
	qemu_says(GREETING);
	client_gets(GREETING);
	client_says(CAPABILITIES);
	qemu_gets(CAPABILITIES);
	talk_remote_down(&t);
	talk_remote_up(&t);
	qemu_says(GREETING);
	qemu_gets(CAPABILITIES);
	client_gets("");
}
END_TEST

START_TEST(a_shutdown_during_the_break_is_told)
{
	negotiate();
	break_and_mend();
	qemu_gets(STATUS);
	qemu_says("{\"return\": {\"status\": \"shutdown\"}, \"id\": \"rexec-qemu-status\"}\r\n");
	client_gets(
		"{\"timestamp\": {\"seconds\": -1, \"microseconds\": -1}, \"event\": \"SHUTDOWN\", "
		"\"data\": {\"guest\": true, \"reason\": \"guest-shutdown\"}}\r\n");
}
END_TEST

START_TEST(descriptors_stay_with_their_command)
{
	negotiate();
	client_says("{\"execute\":\"a\"}");
	ck_assert_int_eq(talk_from_client(&t, "\r\n{\"execute\":\"getfd\"}", 21, new_cargo()), 0);
	client_says("{\"execute\":\"b\"}");
	ck_assert_ptr_null(talk_next(&t)->cargo);
	talk_sent(&t, talk_next(&t)->len);
	ck_assert_ptr_nonnull(talk_next(&t)->cargo);
	talk_sent(&t, talk_next(&t)->len);
	ck_assert_int_eq(cargos, 0);
	ck_assert_ptr_null(talk_next(&t)->cargo);
}
END_TEST

START_TEST(a_refused_command_is_answered_here)
{
	negotiate();
	client_says("{\"execute\":\"getfd\",");
	talk_refuse(&t, "a \"tty\" does not cross");
	client_says("\"id\":4}{\"execute\":\"cont\"}");
	client_gets("{\"id\": 4, \"error\": {\"class\": \"GenericError\", \"desc\": "
		    "\"a \\\"tty\\\" does not cross\"}}\r\n");
	qemu_gets("{\"execute\":\"cont\"}\r\n");
}
END_TEST

START_TEST(a_client_that_floods_is_not_read)
{
	for (int i = 0; i < TALK_COMMANDS_MAX; i++) {
		ck_assert(talk_wants_client(&t));
		client_says("{\"execute\":\"stop\"}");
	}
	ck_assert(!talk_wants_client(&t));
}
END_TEST

START_TEST(what_qemu_never_says_is_refused)
{
	negotiate();
	ck_assert_int_eq(talk_from_remote(&t, "{\"QMP\": {}}", 11), -EPROTO);
	talk_remote_down(&t);
	talk_remote_up(&t);
	ck_assert_int_eq(talk_from_remote(&t, "{\"execute\": 1}", 14), -EPROTO);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("qmp");
	TCase *reader = tcase_create("reader"), *talk = tcase_create("talk");
	SRunner *sr;
	int failed;

	tcase_add_test(reader, messages_are_told_apart_at_every_split);
	tcase_add_test(reader, thread_ids_are_replaced);
	tcase_add_test(reader, what_only_looks_like_a_thread_id_stays);
	tcase_add_test(reader, terminals_are_replaced);
	tcase_add_test(reader, what_is_no_json_is_refused);
	tcase_add_test(reader, a_nul_is_refused);
	tcase_add_test(reader, nesting_has_an_end);
	tcase_add_test(reader, kinds_and_ids);
	suite_add_tcase(suite, reader);

	tcase_add_checked_fixture(talk, talk_setup, talk_teardown);
	tcase_add_test(talk, commands_answers_and_events_pass);
	tcase_add_test(talk, nothing_is_sent_before_the_greeting);
	tcase_add_test(talk, a_break_between_commands_is_not_seen);
	tcase_add_test(talk, a_query_in_flight_is_sent_again);
	tcase_add_test(talk, the_outcome_of_another_is_unknown);
	tcase_add_test(talk, a_command_written_in_part_is_sent_again);
	tcase_add_test(talk, commands_wait_while_the_link_is_down);
	tcase_add_test(talk, a_second_break_during_the_replay);
	tcase_add_test(talk, a_break_before_negotiation);
	tcase_add_test(talk, a_shutdown_during_the_break_is_told);
	tcase_add_test(talk, descriptors_stay_with_their_command);
	tcase_add_test(talk, a_refused_command_is_answered_here);
	tcase_add_test(talk, a_client_that_floods_is_not_read);
	tcase_add_test(talk, what_qemu_never_says_is_refused);
	suite_add_tcase(suite, talk);

	sr = srunner_create(suite);
	srunner_set_tap(sr, "-");
	srunner_run_all(sr, CK_SILENT);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
