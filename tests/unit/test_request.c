/* SPDX-License-Identifier: Apache-2.0 */
/* The codec of rexec's request: what is encoded is decoded, and nothing else. */
#include <check.h>
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "request.h"
#include "util.h"

#define ID "0123456789abcdef0123456789abcdef"

static const char *args[] = { "program", "", "two words", "new\nline", "\xff\xfe", NULL };
static struct request_env env[] = { { "LANG=C", false }, { "A=b=c", true }, { "EMPTY=", true } };
static struct request_fd fds[] = { { 0, REQUEST_FD_PASS, 1 },
				   { 1, REQUEST_FD_OUTPUT, 2 },
				   { 2, REQUEST_FD_OUTPUT, 2 },
				   { 3, REQUEST_FD_OUTPUT, REQUEST_OUTPUT_HELD },
				   { 4, REQUEST_FD_TTY, 0 },
				   { 77, REQUEST_FD_LISTENER, 1 } };
static struct request_file files[] = { { "master-key.aes", "\0\1\2", 3 }, { "empty", "", 0 } };

static struct request sample(void)
{
	struct request r = { .flags = REQUEST_KEEP,
			     .n_passed = 3,
			     .umask = 027,
			     .ignored = 1,
			     .blocked = UINT64_C(1) << 63,
			     .id = ID,
			     .cwd = "/",
			     .user = "",
			     .argc = ARRAY_LEN(args) - 1,
			     .argv = args,
			     .n_env = ARRAY_LEN(env),
			     .env = env,
			     .n_fds = ARRAY_LEN(fds),
			     .fds = fds,
			     .n_files = ARRAY_LEN(files),
			     .files = files,
			     .timeout_s = 3600,
			     .terminal = { .rows = 24, .columns = 80, .width = 1, .height = 2,
					   .input = 3, .output = 4, .control = 5, .local = 1u << 31,
					   .characters = { [0] = 3, [16] = 255 } } };

	for (unsigned i = 0; i < REQUEST_LIMITS; i++)
		r.limits[i] = (struct request_limit){ i, UINT64_MAX };
	return r;
}

/* The payload of the encoded @r; the caller frees *@frame. */
static uint8_t *encode(const struct request *r, void **frame, size_t *size)
{
	ssize_t n = request_encode(r, frame);
	uint32_t length;
	uint8_t type;

	ck_assert_int_gt(n, REQUEST_HEADER);
	ck_assert_int_eq(frame_header(*frame, &length, &type), 0);
	ck_assert_int_eq(type, REQUEST_EXEC);
	ck_assert_uint_eq(length, (size_t)n - REQUEST_HEADER);
	*size = length;
	return (uint8_t *)*frame + REQUEST_HEADER;
}

static int decode_only(const void *payload, size_t size)
{
	struct request r;
	int err = request_decode(&r, payload, size);

	if (!err)
		request_deinit(&r);
	return err;
}

START_TEST(every_field_comes_back)
{
	struct request from = sample(), to;
	void *frame;
	size_t size;
	uint8_t *payload = encode(&from, &frame, &size);

	ck_assert_int_eq(request_decode(&to, payload, size), 0);
	ck_assert_int_eq(to.flags, from.flags);
	ck_assert_int_eq(to.n_passed, from.n_passed);
	ck_assert_int_eq(to.umask, from.umask);
	ck_assert(to.ignored == from.ignored && to.blocked == from.blocked);
	ck_assert_str_eq(to.id, from.id);
	ck_assert_str_eq(to.cwd, from.cwd);
	ck_assert_str_eq(to.user, from.user);
	ck_assert_mem_eq(to.limits, from.limits, sizeof(to.limits));
	ck_assert_uint_eq(to.timeout_s, from.timeout_s);
	ck_assert_mem_eq(&to.terminal, &from.terminal, sizeof(to.terminal));
	ck_assert_uint_eq(to.argc, from.argc);
	for (size_t i = 0; i < to.argc; i++)
		ck_assert_str_eq(to.argv[i], from.argv[i]);
	ck_assert_ptr_null(to.argv[to.argc]);
	ck_assert_uint_eq(to.n_env, from.n_env);
	for (size_t i = 0; i < to.n_env; i++) {
		ck_assert_str_eq(to.env[i].assignment, from.env[i].assignment);
		ck_assert(to.env[i].named == from.env[i].named);
	}
	ck_assert_uint_eq(to.n_fds, from.n_fds);
	for (size_t i = 0; i < to.n_fds; i++) {
		ck_assert_uint_eq(to.fds[i].number, from.fds[i].number);
		ck_assert_uint_eq(to.fds[i].kind, from.fds[i].kind);
		ck_assert_uint_eq(to.fds[i].value, from.fds[i].value);
	}
	ck_assert_uint_eq(to.n_files, from.n_files);
	ck_assert_uint_eq(to.files[0].size, 3);
	ck_assert_mem_eq(to.files[0].data, from.files[0].data, 3);
	request_deinit(&to);
	free(frame);
}
END_TEST

START_TEST(a_shortened_request_is_refused_at_every_length)
{
	struct request r = sample();
	void *frame;
	size_t size;
	uint8_t *payload = encode(&r, &frame, &size);

	for (size_t n = 0; n < size; n++) {
		/* In memory of that size, so that reading beyond it is seen. */
		uint8_t *part = malloc(n ? n : 1);

		memcpy(part, payload, n);
		ck_assert_int_lt(decode_only(part, n), 0);
		free(part);
	}
	free(frame);
}
END_TEST

START_TEST(no_changed_byte_does_harm)
{
	struct request r = sample();
	void *frame;
	size_t size;
	uint8_t *payload = encode(&r, &frame, &size);

	for (size_t i = 0; i < size; i++) {
		uint8_t was = payload[i];

		for (unsigned v = 0; v < 256; v++) {
			payload[i] = (uint8_t)v;
			decode_only(payload, size);
		}
		payload[i] = was;
	}
	ck_assert_int_eq(decode_only(payload, size), 0);
	free(frame);
}
END_TEST

START_TEST(another_version_is_told_from_noise)
{
	struct request r = sample();
	void *frame;
	size_t size;
	uint8_t *payload = encode(&r, &frame, &size);

	payload[5]++;
	ck_assert_int_eq(decode_only(payload, size), -EPROTONOSUPPORT);
	payload[5]--;
	payload[0]++;
	ck_assert_int_eq(decode_only(payload, size), -EPROTONOSUPPORT);
	free(frame);
}
END_TEST

static void refuses(const struct request *r)
{
	void *frame;
	size_t size;
	uint8_t *payload = encode(r, &frame, &size);

	ck_assert_int_eq(decode_only(payload, size), -EPROTO);
	free(frame);
}

START_TEST(what_is_beyond_a_limit_is_refused)
{
	static const char *const bad_ids[] = { "", "0123", ID "0",
					       "0123456789ABCDEF0123456789abcdef",
					       "../../../../../../etc/passwd0000" };
	static const char *const bad_names[] = { "",	     ".",      "..", "a/b",
						 "fd3.sock", ".hidden" };
	struct request r = sample();
	struct request_file file = { "x", "", 0 };
	struct request_fd fd = { 0, REQUEST_FD_PASS, 1 };
	struct request_env bad_env = { "=x", true };

	for (size_t i = 0; i < ARRAY_LEN(bad_ids); i++) {
		r.id = bad_ids[i];
		refuses(&r);
	}
	r = sample();
	r.files = &file;
	r.n_files = 1;
	for (size_t i = 0; i < ARRAY_LEN(bad_names); i++) {
		file.name = bad_names[i];
		refuses(&r);
	}
	r = sample();
	r.argc = 0;
	refuses(&r);
	r = sample();
	r.env = &bad_env;
	r.n_env = 1;
	refuses(&r);
	bad_env.assignment = "no-assignment";
	refuses(&r);
	r = sample();
	r.fds = &fd;
	r.n_fds = 1;
	fd.value = 0; /* the life line is not the program's */
	refuses(&r);
	fd.value = 3; /* was not passed */
	refuses(&r);
	fd = (struct request_fd){ 0, 9, 1 };
	refuses(&r);
	fd = (struct request_fd){ REQUEST_NUMBER_MAX + 1, REQUEST_FD_PASS, 1 };
	refuses(&r);
	r = sample();
	fds[1].number = 0; /* twice */
	refuses(&r);
	fds[1].number = 1;
}
END_TEST

START_TEST(too_large_a_request_is_not_encoded)
{
	struct request r = sample();
	struct request_file file = { "x", args, REQUEST_EXEC_MAX };
	void *frame;

	r.files = &file;
	r.n_files = 1;
	ck_assert_int_eq(request_encode(&r, &frame), -E2BIG);
}
END_TEST

START_TEST(frames_come_in_any_pieces)
{
	struct frame_out out;
	struct frame_in in = { .have = 0 };
	uint8_t stream[256];
	size_t size = 0, space, frames = 0;
	struct buf payload;
	uint8_t type;

	for (int i = 0; i < 3; i++) {
		frame_start(&out, REQUEST_REFUSED);
		buf_put_u8(&out.buf, (uint8_t)i);
		frame_text(&out, "why");
		memcpy(stream + size, out.data, frame_end(&out));
		size += frame_end(&out);
	}
	for (size_t i = 0; i < size; i++) {
		memcpy(frame_space(&in, &space), stream + i, 1);
		frame_received(&in, 1);
		while (frame_next(&in, &type, &payload) > 0) {
			ck_assert_int_eq(type, REQUEST_REFUSED);
			ck_assert_uint_eq(buf_get_u8(&payload), frames++);
			ck_assert_str_eq(frame_get_text(&payload), "why");
			ck_assert(buf_done(&payload));
			frame_skip(&in);
		}
	}
	ck_assert_uint_eq(frames, 3);
	ck_assert_uint_eq(in.have, 0);
}
END_TEST

START_TEST(a_frame_that_is_too_long_is_refused_by_its_header)
{
	static const uint8_t small[] = { 0, 0, 0x20, 1, REQUEST_SIGNAL };
	static const uint8_t exec[] = { 0, 0x40, 0, 1, REQUEST_EXEC };
	static const uint8_t exec_fits[] = { 0, 0x40, 0, 0, REQUEST_EXEC };
	struct frame_in in = { .have = sizeof(small) };
	struct buf payload;
	uint32_t length;
	uint8_t type;

	memcpy(in.data, small, sizeof(small));
	ck_assert_int_eq(frame_next(&in, &type, &payload), -EPROTO);
	ck_assert_int_eq(frame_header(exec, &length, &type), -EPROTO);
	ck_assert_int_eq(frame_header(exec_fits, &length, &type), 0);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("request");
	TCase *tc = tcase_create("request");
	SRunner *sr;
	int failed;

	tcase_add_test(tc, every_field_comes_back);
	tcase_add_test(tc, a_shortened_request_is_refused_at_every_length);
	tcase_add_test(tc, no_changed_byte_does_harm);
	tcase_add_test(tc, another_version_is_told_from_noise);
	tcase_add_test(tc, what_is_beyond_a_limit_is_refused);
	tcase_add_test(tc, too_large_a_request_is_not_encoded);
	tcase_add_test(tc, frames_come_in_any_pieces);
	tcase_add_test(tc, a_frame_that_is_too_long_is_refused_by_its_header);
	tcase_set_timeout(tc, 60);
	suite_add_tcase(suite, tc);
	sr = srunner_create(suite);
	srunner_set_tap(sr, "-");
	srunner_run_all(sr, CK_SILENT);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed != 0;
}
