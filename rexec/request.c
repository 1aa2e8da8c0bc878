/* SPDX-License-Identifier: Apache-2.0 */
/*
 * request.c - the codec of request.h
 *
 * EXEC's payload: u32 magic, u16 version, u16 flags, u16 passed descriptors, u32 umask,
 * u64 ignored and u64 blocked signals, texts id, cwd and user, REQUEST_LIMITS times u64 soft and
 * u64 hard limit, u32 seconds, the terminal (four u16, four u32, REQUEST_TTY_CHARACTERS times u8),
 * then four tables, each led by its u32 number of entries: arguments (text), environment (u8 named,
 * text), descriptors (u32 number, u8 kind, u16 value), files (text name, u32 length and bytes).
 *
 * No count of a hostile payload makes us allocate more than a small multiple of the payload:
 * an entry has a least size, which the bytes that are left are divided by.
 */
#include "request.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "util.h"

/* Least encoded sizes of the tables' entries. */
#define ARG_MIN 5u
#define ENV_MIN 6u
#define FD_SIZE 7u
#define FILE_MIN 9u

#define TERMINAL_SIZE (4 * 2 + 4 * 4 + REQUEST_TTY_CHARACTERS)

static const int limit_resources[REQUEST_LIMITS] = {
	RLIMIT_CPU,	RLIMIT_FSIZE, RLIMIT_DATA,   RLIMIT_STACK,	RLIMIT_CORE,
	RLIMIT_RSS,	RLIMIT_NPROC, RLIMIT_NOFILE, RLIMIT_AS,		RLIMIT_LOCKS,
	RLIMIT_MEMLOCK, RLIMIT_NICE,  RLIMIT_RTPRIO, RLIMIT_SIGPENDING,
};

int request_limit_resource(unsigned i)
{
	return limit_resources[i];
}

/* ---- encoding ---- */

static size_t text_size(const char *s)
{
	return 4 + strlen(s) + 1;
}

static size_t encoded_size(const struct request *r)
{
	size_t n = REQUEST_HEADER + 4 + 2 + 2 + 2 + 4 + 8 + 8 + text_size(r->id) +
		   text_size(r->cwd) + text_size(r->user) + REQUEST_LIMITS * 16 + 4 +
		   TERMINAL_SIZE + 4 * 4 + r->n_fds * FD_SIZE;

	for (size_t i = 0; i < r->argc; i++)
		n += text_size(r->argv[i]);
	for (size_t i = 0; i < r->n_env; i++)
		n += 1 + text_size(r->env[i].assignment);
	for (size_t i = 0; i < r->n_files; i++)
		n += text_size(r->files[i].name) + 4 + r->files[i].size;
	return n;
}

static void put_text(struct buf *b, const char *s)
{
	buf_put_str(b, s, strlen(s) + 1);
}

void frame_put_size(struct buf *b, const struct request_terminal *t)
{
	buf_put_u16(b, t->rows);
	buf_put_u16(b, t->columns);
	buf_put_u16(b, t->width);
	buf_put_u16(b, t->height);
}

static void put_terminal(struct buf *b, const struct request_terminal *t)
{
	frame_put_size(b, t);
	buf_put_u32(b, t->input);
	buf_put_u32(b, t->output);
	buf_put_u32(b, t->control);
	buf_put_u32(b, t->local);
	buf_put_bytes(b, t->characters, sizeof(t->characters));
}

static void put_tables(struct buf *b, const struct request *r)
{
	buf_put_u32(b, (uint32_t)r->argc);
	for (size_t i = 0; i < r->argc; i++)
		put_text(b, r->argv[i]);
	buf_put_u32(b, (uint32_t)r->n_env);
	for (size_t i = 0; i < r->n_env; i++) {
		buf_put_u8(b, r->env[i].named);
		put_text(b, r->env[i].assignment);
	}
	buf_put_u32(b, (uint32_t)r->n_fds);
	for (size_t i = 0; i < r->n_fds; i++) {
		buf_put_u32(b, r->fds[i].number);
		buf_put_u8(b, r->fds[i].kind);
		buf_put_u16(b, r->fds[i].value);
	}
	buf_put_u32(b, (uint32_t)r->n_files);
	for (size_t i = 0; i < r->n_files; i++) {
		put_text(b, r->files[i].name);
		buf_put_str(b, r->files[i].data, r->files[i].size);
	}
}

ssize_t request_encode(const struct request *r, void **frame)
{
	size_t size = encoded_size(r);
	struct buf b;

	if (size > REQUEST_HEADER + REQUEST_EXEC_MAX)
		return -E2BIG;
	*frame = malloc(size);
	if (!*frame)
		return -ENOMEM;
	buf_init(&b, *frame, size);
	buf_put_u32(&b, (uint32_t)(size - REQUEST_HEADER));
	buf_put_u8(&b, REQUEST_EXEC);
	frame_put_version(&b);
	buf_put_u16(&b, r->flags);
	buf_put_u16(&b, r->n_passed);
	buf_put_u32(&b, r->umask);
	buf_put_u64(&b, r->ignored);
	buf_put_u64(&b, r->blocked);
	put_text(&b, r->id);
	put_text(&b, r->cwd);
	put_text(&b, r->user);
	for (size_t i = 0; i < REQUEST_LIMITS; i++) {
		buf_put_u64(&b, r->limits[i].soft);
		buf_put_u64(&b, r->limits[i].hard);
	}
	buf_put_u32(&b, r->timeout_s);
	put_terminal(&b, &r->terminal);
	put_tables(&b, r);
	return (ssize_t)size;
}

/* ---- decoding ---- */

const char *frame_get_text(struct buf *payload)
{
	size_t n;
	const char *s = buf_get_str(payload, &n);

	if (!s || !n || s[n - 1] || strlen(s) != n - 1) {
		payload->bad = true;
		return NULL;
	}
	return s;
}

/* It becomes a directory's name. */
static const char *get_id(struct buf *b)
{
	const char *id = frame_get_text(b);

	if (id && strspn(id, "0123456789abcdef") != REQUEST_ID_SIZE - 1)
		b->bad = true;
	if (id && strlen(id) != REQUEST_ID_SIZE - 1)
		b->bad = true;
	return id;
}

void frame_get_size(struct buf *payload, struct request_terminal *t)
{
	t->rows = buf_get_u16(payload);
	t->columns = buf_get_u16(payload);
	t->width = buf_get_u16(payload);
	t->height = buf_get_u16(payload);
}

static void get_terminal(struct buf *b, struct request_terminal *t)
{
	const void *characters;

	frame_get_size(b, t);
	t->input = buf_get_u32(b);
	t->output = buf_get_u32(b);
	t->control = buf_get_u32(b);
	t->local = buf_get_u32(b);
	characters = buf_get_bytes(b, sizeof(t->characters));
	if (characters)
		memcpy(t->characters, characters, sizeof(t->characters));
}

/* The number of entries that follow, 0 and bad when they cannot all be there. */
static size_t get_count(struct buf *b, size_t least, size_t max)
{
	size_t n = buf_get_u32(b);

	if (n > max || n > buf_left(b) / least)
		b->bad = true;
	return b->bad ? 0 : n;
}

/* Room for @n entries and one more; NULL and bad without memory. */
static void *get_table(struct buf *b, size_t n, size_t size)
{
	void *table = calloc(n + 1, size);

	if (!table)
		b->bad = true;
	return table;
}

static void get_args(struct buf *b, struct request *r)
{
	size_t n = get_count(b, ARG_MIN, REQUEST_EXEC_MAX);

	r->argv = get_table(b, n, sizeof(*r->argv));
	for (; !b->bad && r->argc < n; r->argc++)
		r->argv[r->argc] = frame_get_text(b);
	if (!n)
		b->bad = true;
}

static void get_env(struct buf *b, struct request *r)
{
	size_t n = get_count(b, ENV_MIN, REQUEST_EXEC_MAX);

	r->env = get_table(b, n, sizeof(*r->env));
	for (; !b->bad && r->n_env < n; r->n_env++) {
		struct request_env *e = &r->env[r->n_env];

		e->named = buf_get_u8(b) != 0;
		e->assignment = frame_get_text(b);
		/* A name of at least one byte. */
		if (e->assignment && !(strchr(e->assignment, '=') > e->assignment))
			b->bad = true;
	}
}

/* Everything that can be wrong with an entry, so that a decoded table needs no more checks. */
static bool fd_valid(const struct request *r, const struct request_fd *fd)
{
	for (size_t i = 0; i < r->n_fds; i++)
		if (r->fds[i].number == fd->number)
			return false;
	if (fd->number > REQUEST_NUMBER_MAX)
		return false;
	switch ((enum request_fd_kind)fd->kind) {
	case REQUEST_FD_PASS:
		return fd->value > 0 && fd->value < r->n_passed;
	case REQUEST_FD_OUTPUT:
		return fd->value < r->n_passed && r->flags & REQUEST_KEEP;
	case REQUEST_FD_LISTENER:
		return true;
	case REQUEST_FD_TTY:
		return !fd->value;
	}
	return false;
}

static void get_fds(struct buf *b, struct request *r)
{
	size_t n = get_count(b, FD_SIZE, REQUEST_FDS_MAX);

	r->fds = get_table(b, n, sizeof(*r->fds));
	for (; !b->bad && r->n_fds < n; r->n_fds++) {
		struct request_fd *fd = &r->fds[r->n_fds];

		fd->number = buf_get_u32(b);
		fd->kind = buf_get_u8(b);
		fd->value = buf_get_u16(b);
		if (!fd_valid(r, fd))
			b->bad = true;
	}
}

/* A name in the session's directory that is none of ours. */
static bool file_name_valid(const char *name)
{
	return *name && strlen(name) < REQUEST_NAME_MAX && !strchr(name, '/') && *name != '.' &&
	       strncmp(name, "fd", 2) != 0;
}

static void get_files(struct buf *b, struct request *r)
{
	size_t n = get_count(b, FILE_MIN, REQUEST_FILES_MAX);

	r->files = get_table(b, n, sizeof(*r->files));
	for (; !b->bad && r->n_files < n; r->n_files++) {
		struct request_file *f = &r->files[r->n_files];

		f->name = frame_get_text(b);
		f->data = buf_get_str(b, &f->size);
		if (f->name && !file_name_valid(f->name))
			b->bad = true;
	}
}

int request_decode(struct request *r, const void *payload, size_t size)
{
	struct buf b;

	*r = (struct request){ 0 };
	buf_init_const(&b, payload, size);
	if (!frame_get_version(&b))
		return -EPROTONOSUPPORT;
	r->flags = buf_get_u16(&b);
	r->n_passed = buf_get_u16(&b);
	r->umask = buf_get_u32(&b) & 0777;
	r->ignored = buf_get_u64(&b);
	r->blocked = buf_get_u64(&b);
	r->id = get_id(&b);
	r->cwd = frame_get_text(&b);
	r->user = frame_get_text(&b);
	for (size_t i = 0; i < REQUEST_LIMITS; i++) {
		r->limits[i].soft = buf_get_u64(&b);
		r->limits[i].hard = buf_get_u64(&b);
	}
	r->timeout_s = buf_get_u32(&b);
	get_terminal(&b, &r->terminal);
	get_args(&b, r);
	get_env(&b, r);
	get_fds(&b, r);
	get_files(&b, r);
	if (!buf_done(&b)) {
		request_deinit(r);
		return -EPROTO;
	}
	return 0;
}

void request_deinit(struct request *r)
{
	free(r->argv);
	free(r->env);
	free(r->fds);
	free(r->files);
	*r = (struct request){ 0 };
}

/* ---- small frames ---- */

void frame_start(struct frame_out *f, enum request_type type)
{
	buf_init(&f->buf, f->data, sizeof(f->data));
	buf_put_u32(&f->buf, 0);
	buf_put_u8(&f->buf, (uint8_t)type);
}

void frame_text(struct frame_out *f, const char *s)
{
	size_t n = strnlen(s, REQUEST_REASON_MAX - 1);

	buf_put_u32(&f->buf, (uint32_t)n + 1);
	buf_put_bytes(&f->buf, s, n);
	buf_put_u8(&f->buf, 0);
}

size_t frame_end(struct frame_out *f)
{
	size_t size = f->buf.pos;
	struct buf header;

	if (f->buf.bad)
		return 0;
	buf_init(&header, f->data, REQUEST_HEADER);
	buf_put_u32(&header, (uint32_t)(size - REQUEST_HEADER));
	return size;
}

void frame_put_version(struct buf *b)
{
	buf_put_u32(b, REQUEST_MAGIC);
	buf_put_u16(b, REQUEST_VERSION);
}

bool frame_get_version(struct buf *payload)
{
	return buf_get_u32(payload) == REQUEST_MAGIC && buf_get_u16(payload) == REQUEST_VERSION;
}

void frame_put_program(struct frame_out *f, const struct request_program *p)
{
	frame_text(f, p->id);
	buf_put_u32(&f->buf, p->pid);
	buf_put_u32(&f->buf, p->client);
	buf_put_u32(&f->buf, p->user);
	buf_put_u64(&f->buf, p->age_s);
	buf_put_u8(&f->buf, p->state);
	buf_put_u8(&f->buf, p->killed);
	buf_put_u8(&f->buf, p->status);
	buf_put_u8(&f->buf, p->attached);
	frame_text(f, p->command);
}

int frame_get_program(struct buf *payload, struct request_program *p)
{
	p->id = get_id(payload);
	p->pid = buf_get_u32(payload);
	p->client = buf_get_u32(payload);
	p->user = buf_get_u32(payload);
	p->age_s = buf_get_u64(payload);
	p->state = buf_get_u8(payload);
	p->killed = buf_get_u8(payload);
	p->status = buf_get_u8(payload);
	p->attached = buf_get_u8(payload);
	p->command = frame_get_text(payload);
	if (!buf_done(payload) || p->state < REQUEST_RUNNING || p->state > REQUEST_ENDED)
		return -EPROTO;
	return 0;
}

int frame_header(const void *header, uint32_t *length, uint8_t *type)
{
	struct buf b;

	buf_init_const(&b, header, REQUEST_HEADER);
	*length = buf_get_u32(&b);
	*type = buf_get_u8(&b);
	return *length > (*type == REQUEST_EXEC ? REQUEST_EXEC_MAX : REQUEST_SMALL_MAX) ? -EPROTO
											: 0;
}

void *frame_space(struct frame_in *f, size_t *n)
{
	*n = sizeof(f->data) - f->have;
	return f->data + f->have;
}

void frame_received(struct frame_in *f, size_t n)
{
	f->have += n;
}

int frame_next(const struct frame_in *f, uint8_t *type, struct buf *payload)
{
	uint32_t length;

	if (f->have < REQUEST_HEADER)
		return 0;
	if (frame_header(f->data, &length, type) || length > REQUEST_SMALL_MAX)
		return -EPROTO;
	if (f->have - REQUEST_HEADER < length)
		return 0;
	buf_init_const(payload, f->data + REQUEST_HEADER, length);
	return 1;
}

void frame_skip(struct frame_in *f)
{
	uint32_t length;
	uint8_t type;

	frame_header(f->data, &length, &type);
	f->have -= REQUEST_HEADER + length;
	memmove(f->data, f->data + REQUEST_HEADER + length, f->have);
}
