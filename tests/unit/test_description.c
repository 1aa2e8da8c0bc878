/* SPDX-License-Identifier: Apache-2.0 */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "description.h"
#include "util.h"

static uint8_t data[8192];

#define NAME(text) .name = (text), .name_len = sizeof(text) - 1
#define ID                                                                                         \
	{                                                                                          \
		"0123456789abcdef"                                                                 \
	}

static const struct description samples[] = {
	{ .kind = WIRE_FD_PIPE_READ, .id = ID, .times = 1 },
	{ .kind = WIRE_FD_PIPE_WRITE, .id = ID, .flags = WIRE_O_NONBLOCK, .times = 0xffffffff },
	{ .kind = WIRE_FD_SOCKET, .id = ID, .socktype = WIRE_STREAM },
	{ .kind = WIRE_FD_SOCKET, .id = ID, .socktype = WIRE_SEQPACKET },
	{ .kind = WIRE_FD_SOCKET, .id = ID, .socktype = WIRE_DGRAM },
	{ .kind = WIRE_FD_LISTENER, .id = ID, .flags = WIRE_O_NONBLOCK, .socktype = WIRE_SEQPACKET },
	{ .kind = WIRE_FD_FILE, .flags = WIRE_O_READ, .offset = INT64_MAX, NAME("/share/file") },
	{ .kind = WIRE_FD_DEVICE, .flags = WIRE_O_WRITE, NAME("/dev/null") },
	{ .kind = WIRE_FD_SAME, .index = 0xffff },
	{ .kind = WIRE_FD_COPY,
	  .id = ID,
	  .flags = WIRE_O_READ,
	  .offset = 7,
	  .seals = 15,
	  .mode = 0777,
	  NAME("memory") },
	{ .kind = WIRE_FD_TAP,
	  .flags = WIRE_O_READ | WIRE_O_WRITE,
	  .tap = WIRE_TAP_TAP | WIRE_TAP_VNET_HDR,
	  .vnet_header = 12,
	  NAME("vnet0") },
};

static size_t put(const struct description *d)
{
	struct buf b;

	buf_init(&b, data, sizeof(data));
	description_put(&b, d);
	ck_assert(!b.bad);
	return b.pos;
}

/* From a block of exactly so many bytes, so that a sanitizer sees what is read beyond it. */
static int get(struct description *d, size_t size)
{
	uint8_t *exact = malloc(size + !size);
	struct buf b;
	int err;

	memcpy(exact, data, size);
	buf_init_const(&b, exact, size);
	err = description_get(&b, d);
	if (!err && d->name) {
		const uint8_t *name = (const uint8_t *)d->name;

		ck_assert(name >= exact && name + d->name_len <= exact + size);
		ck_assert_uint_lt(d->name_len, WIRE_PATH_MAX);
		ck_assert_ptr_null(memchr(name, '\0', d->name_len));
	}
	if (!err && buf_left(&b))
		err = -EOVERFLOW;
	if (err || !d->name_len)
		d->name = "";
	else /* as it is in data, which stays */
		d->name = (const char *)data + ((const uint8_t *)d->name - exact);
	free(exact);
	return err;
}

START_TEST(there_and_back)
{
	const struct description *d = &samples[_i];
	struct description found;

	ck_assert_int_eq(get(&found, put(d)), 0);
	ck_assert_uint_eq(found.kind, d->kind);
	ck_assert_uint_eq(found.socktype, d->socktype);
	ck_assert_uint_eq(found.index, d->index);
	ck_assert_uint_eq(found.times, d->times);
	ck_assert_uint_eq(found.flags, d->flags);
	ck_assert_uint_eq(found.offset, d->offset);
	ck_assert_uint_eq(found.seals, d->seals);
	ck_assert_uint_eq(found.mode, d->mode);
	ck_assert_uint_eq(found.tap, d->tap);
	ck_assert_uint_eq(found.vnet_header, d->vnet_header);
	ck_assert_mem_eq(&found.id, &d->id, sizeof(found.id));
	ck_assert_uint_eq(found.name_len, d->name_len);
	ck_assert_mem_eq(found.name, d->name_len ? d->name : "", d->name_len);
}
END_TEST

START_TEST(truncated_or_surplus)
{
	size_t size = put(&samples[_i]);
	struct description d;

	for (size_t n = 0; n < size; n++)
		ck_assert_int_eq(get(&d, n), -EPROTO);
	ck_assert_int_eq(get(&d, size + 1), -EOVERFLOW);
}
END_TEST

START_TEST(every_mutation)
{
	size_t size = put(&samples[_i]);
	struct description d;

	for (size_t i = 0; i < size; i++) {
		uint8_t kept = data[i];

		for (unsigned c = 0; c < 256; c++) {
			data[i] = (uint8_t)c;
			get(&d, size);
		}
		data[i] = kept;
	}
	ck_assert_int_eq(get(&d, size), 0);
}
END_TEST

START_TEST(does_not_fit)
{
	size_t size = put(&samples[_i]);
	uint8_t small[sizeof(data)];

	for (size_t n = 0; n < size; n++) {
		struct buf b;

		memset(small, 0x55, sizeof(small));
		buf_init(&b, small, n);
		description_put(&b, &samples[_i]);
		ck_assert(b.bad);
		ck_assert_uint_eq(small[n], 0x55);
	}
}
END_TEST

static int kept(struct description d)
{
	struct description found;

	return get(&found, put(&d));
}

START_TEST(what_no_call_could_be_given)
{
	static char name[WIRE_PATH_MAX];
	struct description d = { .kind = WIRE_FD_FILE, .name = name, .name_len = sizeof(name) - 1 };
	struct buf b;

	memset(name, 'n', sizeof(name));
	ck_assert_int_eq(kept(d), 0);
	d.name_len++;
	ck_assert_int_eq(kept(d), -EPROTO);
	d.name_len = 10;
	name[9] = '\0';
	ck_assert_int_eq(kept(d), -EPROTO);
	d.kind = WIRE_FD_DEVICE;
	ck_assert_int_eq(kept(d), -EPROTO);
	d.name_len = 0;
	ck_assert_int_eq(kept(d), 0);
	d.kind = WIRE_FD_FILE;
	d.offset = UINT64_C(1) << 63;
	ck_assert_int_eq(kept(d), -EPROTO);
	d = (struct description){ .kind = WIRE_FD_COPY, .name = name };
	d.name_len = 0;
	d.mode = 0777;
	ck_assert_int_eq(kept(d), 0);
	d.mode = 01000;
	ck_assert_int_eq(kept(d), -EPROTO);
	d.mode = 0;
	name[9] = 'n';
	d.name_len = WIRE_COPY_NAME_MAX;
	ck_assert_int_eq(kept(d), 0);
	d.name_len++;
	ck_assert_int_eq(kept(d), -EPROTO);
	d.name_len = 0;
	d.offset = UINT64_C(1) << 63;
	ck_assert_int_eq(kept(d), -EPROTO);
	for (unsigned type = 0; type < 256; type++) {
		bool known = type == WIRE_STREAM || type == WIRE_SEQPACKET;
		bool connected = known || type == WIRE_DGRAM;

		d = (struct description){ .kind = WIRE_FD_SOCKET, .socktype = (uint8_t)type };
		ck_assert_int_eq(kept(d), connected ? 0 : -EPROTO);
		d.kind = WIRE_FD_LISTENER;
		ck_assert_int_eq(kept(d), known ? 0 : -EPROTO);
	}
	/* Kinds that there are not. */
	memset(data, 0, sizeof(data));
	for (unsigned kind = 0; kind < 256; kind++) {
		bool known = false;

		for (size_t i = 0; i < ARRAY_LEN(samples); i++)
			known |= samples[i].kind == kind;
		if (known)
			continue;
		data[0] = (uint8_t)kind;
		ck_assert_int_eq(get(&d, 100), -EPROTO);
		buf_init(&b, data, sizeof(data));
		description_put(&b, &(struct description){ .kind = (uint8_t)kind });
		ck_assert(b.bad);
	}
}
END_TEST

START_TEST(open_flags)
{
	static const int local[] = {
		O_RDONLY,
		O_WRONLY,
		O_RDWR,
		O_RDWR | O_APPEND,
		O_WRONLY | O_NONBLOCK,
		O_RDWR | O_SYNC,
		O_RDWR | O_DSYNC,
		O_RDONLY | O_DIRECT,
		O_RDONLY | O_DIRECTORY,
	};

	for (size_t i = 0; i < ARRAY_LEN(local); i++)
		ck_assert_int_eq(description_local_flags(description_flags(local[i])), local[i]);
	/* What opened it once does not happen again. */
	ck_assert_uint_eq(description_flags(O_WRONLY | O_CREAT | O_EXCL | O_TRUNC | O_NOFOLLOW),
			  WIRE_O_WRITE);
	ck_assert_int_eq(description_local_flags(~0u), O_RDWR | O_APPEND | O_NONBLOCK | O_SYNC |
							       O_DSYNC | O_DIRECT | O_DIRECTORY);
}
END_TEST

START_TEST(interfaces)
{
	struct description d = { .kind = WIRE_FD_TAP,
				 .tap = WIRE_TAP_TAP,
				 NAME("fifteen letters") };

	ck_assert_int_eq(kept(d), 0);
	for (uint32_t tap = 0; tap < 64; tap++) {
		d.tap = tap;
		ck_assert_int_eq(kept(d), (tap & 3) == 1 || (tap & 3) == 2 ? 0 : -EPROTO);
	}
	d.tap = WIRE_TAP_TUN;
	d.vnet_header = 0x80000000;
	ck_assert_int_eq(kept(d), -EPROTO);
	d.vnet_header = 0x7fffffff;
	ck_assert_int_eq(kept(d), 0);
	d.name = "sixteen letters!";
	ck_assert_int_eq(kept(d), 0);
	d.name_len = 16;
	ck_assert_int_eq(kept(d), -EPROTO);
	d.name_len = 0;
	ck_assert_int_eq(kept(d), -EPROTO);
	d.name = "tap%d";
	d.name_len = 5;
	ck_assert_int_eq(kept(d), -EPROTO);
	d.name_len = 3;
	ck_assert_int_eq(kept(d), 0);
}
END_TEST

START_TEST(seals)
{
	const int local =
		F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_FUTURE_WRITE;

	for (int seal = 1; seal <= local; seal <<= 1)
		ck_assert_int_eq(description_local_seals(description_seals(seal)), seal);
	ck_assert_uint_eq(description_seals(~0x3f), 0);
	ck_assert_int_eq(description_local_seals(~0x3fu), 0);
	ck_assert_int_eq(description_local_seals(0x3f), 0x3f);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("description");
	TCase *t = tcase_create("description");
	SRunner *sr = srunner_create(s);
	int failed;

	suite_add_tcase(s, t);
	tcase_set_timeout(t, 60);
	tcase_add_loop_test(t, there_and_back, 0, ARRAY_LEN(samples));
	tcase_add_loop_test(t, truncated_or_surplus, 0, ARRAY_LEN(samples));
	tcase_add_loop_test(t, every_mutation, 0, ARRAY_LEN(samples));
	tcase_add_loop_test(t, does_not_fit, 0, ARRAY_LEN(samples));
	tcase_add_test(t, what_no_call_could_be_given);
	tcase_add_test(t, open_flags);
	tcase_add_test(t, seals);
	tcase_add_test(t, interfaces);
	srunner_set_tap(sr, "-");
	srunner_run_all(sr, CK_SILENT);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed != 0;
}
