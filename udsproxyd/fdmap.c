/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 *
 * fdmap_describe() looks at each descriptor of a message (look()), lets its kind take over what is
 * still needed of it, and writes the description. fdmap_make() makes the equivalents, in order.
 * What may have to wait for a file system is fetched before that by a thread of its own, for the
 * whole message (fdmap_open_files()). What a kind does is in its row of the table, and its file.
 */
#include "fdmap.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>

#include <linux/kcmp.h>

#include "aside.h"
#include "kind.h"
#include "util.h"

/* What crosses. A kind is made, or fetched, or first made and then fetched. */
static const struct {
	/* NULL: looking at it has said all. */
	int (*pass)(struct outgoing *o, struct item *item);
	int (*make)(struct session *s, const struct description *d);
	int (*fetch)(struct fetching *f, const struct description *d, int made);
} kinds[] = {
	[WIRE_FD_PIPE_READ] = { .pass = kind_pass_channel, .make = kind_make_channel },
	[WIRE_FD_PIPE_WRITE] = { .pass = kind_pass_channel, .make = kind_make_channel },
	[WIRE_FD_SOCKET] = { .pass = kind_pass_channel, .make = kind_make_channel },
	[WIRE_FD_LISTENER] = { .pass = kind_pass_channel, .make = kind_make_channel },
	[WIRE_FD_FILE] = { .fetch = kind_fetch_file },
	[WIRE_FD_DEVICE] = { .make = kind_make_device },
	[WIRE_FD_TAP] = { .make = kind_make_tap },
	[WIRE_FD_SAME] = { 0 }, /* a duplicate: make_one() */
	[WIRE_FD_COPY] = { .pass = kind_pass_copy,
			   .make = kind_make_copy,
			   .fetch = kind_fetch_copy },
};

int kind_refuse(char *reason, const char *what)
{
	snprintf(reason, FDMAP_REASON_MAX, "a descriptor cannot cross: %s", what);
	return -EOPNOTSUPP;
}

void kind_set_name(struct item *item, const char *name)
{
	snprintf(item->name, sizeof(item->name), "%s", name);
	item->d.name = item->name;
	item->d.name_len = strlen(item->name);
}

void kind_name_string(const struct description *d, char *name)
{
	memcpy(name, d->name, d->name_len);
	name[d->name_len] = '\0';
}

/* ---- looking ----------------------------------------------------------------------------- */

/* What /proc calls it, as far as that fits. */
static void kernel_name(int fd, char *name, size_t size)
{
	char link[32];
	ssize_t n;

	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	n = readlink(link, name, size - 1);
	name[MAX(n, 0)] = '\0';
}

static int look_other(int fd, char *reason)
{
	char what[64];

	kernel_name(fd, what, sizeof(what));
	return kind_refuse(reason, *what ? what : "of an unknown kind");
}

static int look_regular(const struct config *c, int fd, const struct statx *st, struct item *item,
			char *reason)
{
	char name[WIRE_PATH_MAX];

	kernel_name(fd, name, sizeof(name));
	if (name[0] != '/') /* a namespace, a pidfd: files in name only */
		return look_other(fd, reason);
	if (!kind_look_file(c, fd, item))
		return 0;
	if (S_ISDIR(st->stx_mode))
		return kind_refuse(reason, "a directory below no share (--share)");
	return kind_look_copy(c, fd, name, st, item, reason);
}

static int look_device(const struct config *c, int fd, dev_t rdev, struct item *item, char *reason)
{
	int err = kind_is_tun(rdev) ? kind_look_tap(c, fd, item, reason) : -ENODEV;

	return err == -ENODEV ? kind_look_device(c, rdev, item, reason) : err;
}

static int look(const struct config *c, int fd, struct item *item, char *reason)
{
	int flags = fcntl(fd, F_GETFL);
	struct statx st;
	int err;

	/* Not fstat: a network file system may be served through this very thread. */
	if (flags < 0 || statx(fd, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC, STATX_BASIC_STATS, &st))
		return kind_refuse(reason, strerror(errno));
	item->d = (struct description){ .flags = description_flags(flags) };
	item->snapshot = false;
	if (flags & O_PATH)
		return kind_refuse(reason, "opened with O_PATH");
	switch (st.stx_mode & S_IFMT) {
	case S_IFSOCK:
		err = kind_look_socket(fd, item, reason);
		break;
	case S_IFIFO:
		err = kind_look_pipe(flags, item, reason);
		break;
	case S_IFREG:
	case S_IFDIR:
		err = look_regular(c, fd, &st, item, reason);
		break;
	case S_IFCHR:
		err = look_device(c, fd, makedev(st.stx_rdev_major, st.stx_rdev_minor), item,
				  reason);
		break;
	case S_IFBLK:
		err = kind_refuse(reason, "a block device");
		break;
	default:
		err = look_other(fd, reason);
	}
	item->key = (struct channel_key){
		.dev = makedev(st.stx_dev_major, st.stx_dev_minor),
		.ino = st.stx_ino,
		.kind = item->d.kind,
	};
	return err;
}

int fdmap_crosses(struct daemon *d, int fd, char *reason)
{
	struct item item;
	int err = look(&d->config, fd, &item, reason);

	if (!err && item.snapshot) {
		snprintf(reason, FDMAP_REASON_MAX,
			 "a file below no share (--share): only a copy of it crosses");
		return -EXDEV;
	}
	return err;
}

/* ---- describing -------------------------------------------------------------------------- */

/* Those of a message that were looked at, sorted, so that a duplicate is found soon. */
struct known {
	struct channel_key keys[FDSET_MAX]; /* by their place in the message */
	int sorted[FDSET_MAX];		    /* places */
	int n;
};

/* Zero: @a and @b are to be one there. A socket cannot be opened again; of a file or a pipe, each opening has an offset or
 * flags of its own. (A kernel without kcmp(2) tells no duplicates.) */
static long compare(const struct outgoing *o, const struct known *known, int a, int b)
{
	const struct channel_key *x = &known->keys[a], *y = &known->keys[b];
	long order;

	if (x->kind != y->kind)
		return x->kind < y->kind ? -1 : 1;
	if (x->dev != y->dev)
		return x->dev < y->dev ? -1 : 1;
	if (x->ino != y->ino)
		return x->ino < y->ino ? -1 : 1;
	if (x->kind == WIRE_FD_SOCKET || x->kind == WIRE_FD_LISTENER)
		return 0;
	order = syscall(SYS_kcmp, getpid(), getpid(), KCMP_FILE, o->set->fd[a], o->set->fd[b]);
	return order < 0 ? a - b : order == 1 ? -1 : order; /* 1 is less, 2 is greater */
}

/* The earlier one that the one at hand is the same as, or -1: then it is known from now on. */
static int find_same(const struct outgoing *o, struct known *known)
{
	int first = 0, end = known->n;

	while (first < end) {
		int middle = (first + end) / 2;
		long order = compare(o, known, o->i, known->sorted[middle]);

		if (!order)
			return known->sorted[middle];
		if (order < 0)
			end = middle;
		else
			first = middle + 1;
	}
	memmove(&known->sorted[first + 1], &known->sorted[first],
		(size_t)(known->n - first) * sizeof(known->sorted[0]));
	known->sorted[first] = o->i;
	known->n++;
	return -1;
}

static int describe_one(struct outgoing *o, struct known *known, struct buf *b)
{
	struct item item;
	int err = look(&o->session->worker->daemon->config, o->set->fd[o->i], &item, o->reason);
	int same;

	if (err)
		return err;
	known->keys[o->i] = item.key;
	same = find_same(o, known);
	if (same >= 0)
		item.d = (struct description){ .kind = WIRE_FD_SAME, .index = (uint16_t)same };
	else if (kinds[item.d.kind].pass)
		err = kinds[item.d.kind].pass(o, &item);
	if (!err)
		description_put(b, &item.d);
	return err;
}

int fdmap_describe(struct session *s, struct fdset *set, struct fdmap_text *text, char *reason)
{
	size_t size = WIRE_PAYLOAD_MAX - STREAM_READ_MAX - sizeof(text->length);
	struct outgoing o = { .session = s, .set = set, .reason = reason };
	struct known known;
	struct buf b;
	int err = 0;

	known.n = 0;
	text->bytes = malloc(size);
	if (!text->bytes)
		err = kind_refuse(reason, "out of memory");
	buf_init(&b, text->bytes, size);
	for (; o.i < set->n && !err; o.i++)
		err = describe_one(&o, &known, &b);
	if (!err && b.bad)
		err = kind_refuse(reason, "the names of the files are too long");
	if (!err && o.feeding) {
		err = kind_start_feeding(s, o.feeding);
		if (err)
			kind_refuse(reason, strerror(-err));
	}
	if (err) {
		kind_free_feeding(o.feeding);
		free(text->bytes);
		return err;
	}
	text->size = b.pos;
	buf_init(&b, text->length, sizeof(text->length));
	buf_put_u32(&b, (uint32_t)text->size);
	return 0;
}

/* ---- fetching ---------------------------------------------------------------------------- */

/* What is fetched of one message. Its session may end meanwhile. */
struct fdmap_files {
	struct session *session; /* NULL: nobody wants them any more */
	struct fetching fetching;
	bool ready;
	unsigned next; /* result to be taken */
	unsigned count;
	char *text; /* what the descriptions' names point into */
	struct {
		struct description d;
		int fd; /* until it is ready, what was made of it before; or a negative errno */
	} file[];
};

static void free_files(struct fdmap_files *files)
{
	for (unsigned i = files->next; i < files->count; i++)
		aside_close(files->file[i].fd);
	kind_fetching_deinit(&files->fetching);
	free(files->text);
	free(files);
}

/* What comes behind a failure is not needed any more. */
static void fetch_files(void *arg)
{
	struct fdmap_files *files = arg;
	int fd = 0;

	for (unsigned i = 0; i < files->count && fd >= 0; i++) {
		const struct description *d = &files->file[i].d;

		fd = kinds[d->kind].fetch(&files->fetching, d, files->file[i].fd);
		files->file[i].fd = fd;
	}
	kind_fetched(&files->fetching);
}

static void files_are_there(struct worker *w, void *arg)
{
	struct fdmap_files *files = arg;

	(void)w;
	files->ready = true;
	if (files->session)
		session_pump(files->session);
	else
		free_files(files);
}

/* Of @count descriptions, those that have to be fetched. */
static int find_files(struct fdmap_files *files, const char *text, size_t size, unsigned count)
{
	struct buf b;
	int err = 0;

	buf_init_const(&b, text, size);
	for (unsigned i = 0; i < count && !err; i++) {
		struct description *d = &files->file[files->count].d;

		err = description_get(&b, d);
		files->file[files->count].fd = -1;
		if (!err && kinds[d->kind].fetch)
			files->count++;
	}
	return !err && !buf_done(&b) ? -EPROTO : err;
}

static bool has_copies(const struct fdmap_files *files)
{
	bool found = false;

	for (unsigned i = 0; i < files->count; i++)
		found |= files->file[i].d.kind == WIRE_FD_COPY;
	return found;
}

/* Would the message be delivered at once? Or: its event will say when. */
static bool takes_now(struct session *s)
{
	struct pollfd p = { .fd = s->fd, .events = POLLOUT };

	if (s->fd >= 0 && poll(&p, 1, 0) == 0)
		s->writable = false;
	return s->fd < 0 || s->writable;
}

/* The frame may be gone before they are there. */
static int keep_names(struct fdmap_files *files, const char *text, size_t size)
{
	files->text = malloc(size);
	if (!files->text)
		return -ENOMEM;
	memcpy(files->text, text, size);
	for (unsigned i = 0; i < files->count; i++)
		files->file[i].d.name = files->text + (files->file[i].d.name - text);
	return 0;
}

static int start_fetching(struct fdmap_files *files, const char *text, size_t size)
{
	struct session *s = files->session;
	int err =
		kind_fetching_init(&files->fetching, &s->worker->daemon->config, has_copies(files));

	if (!err)
		err = keep_names(files, text, size);
	for (unsigned i = 0; i < files->count && !err; i++) {
		const struct description *d = &files->file[i].d;

		if (kinds[d->kind].make)
			files->file[i].fd = kinds[d->kind].make(s, d);
		if (kinds[d->kind].make && files->file[i].fd < 0)
			err = files->file[i].fd;
	}
	if (!err)
		err = aside_run(s->worker, fetch_files, files_are_there, files);
	if (!err || err == -EPROTO)
		return err;
	/* Making them says so, and why. */
	for (unsigned i = 0; i < files->count; i++) {
		aside_close(files->file[i].fd);
		files->file[i].fd = err;
	}
	files->ready = true;
	return 0;
}

int fdmap_open_files(struct session *s, const char *text, size_t size, unsigned count)
{
	struct fdmap_files *files = s->files;
	bool later = false;
	int err;

	if (files)
		return files->ready;
	files = calloc(1, sizeof(*files) + count * sizeof(files->file[0]));
	if (!files)
		return -ENOMEM;
	files->session = s;
	files->fetching.cancel = -1;
	err = find_files(files, text, size, count);
	if (!err && files->count) {
		later = has_copies(files) && !takes_now(s);
		err = later ? 0 : start_fetching(files, text, size);
	}
	if (err || later || !files->count) {
		free_files(files);
		return err ? err : !later;
	}
	s->files = files;
	return files->ready;
}

void fdmap_forget_files(struct session *s)
{
	struct fdmap_files *files = s->files;

	s->files = NULL;
	if (!files)
		return;
	files->session = NULL;
	if (files->ready)
		free_files(files);
	else
		kind_cancel_fetching(&files->fetching);
}

/* ---- making ------------------------------------------------------------------------------ */

static int make_same(const struct fdset *set, const struct description *d)
{
	int fd;

	if (d->index >= set->n)
		return -EPROTO;
	fd = fcntl(set->fd[d->index], F_DUPFD_CLOEXEC, 0);
	return fd < 0 ? -errno : fd;
}

static int make_one(struct session *s, const struct description *d, const struct fdset *before)
{
	if (d->kind == WIRE_FD_SAME)
		return make_same(before, d);
	if (!kinds[d->kind].fetch)
		return kinds[d->kind].make(s, d);
	return s->files->file[s->files->next++].fd;
}

static void explain(int err, uint8_t kind, char *reason)
{
	static const char *const names[] = {
		[WIRE_FD_COPY] = "a copy of a file or memfd",
		[WIRE_FD_TAP] = "a tap",
	};
	static const struct {
		uint8_t kind;
		int err;
		const char *why;
	} known[] = {
		{ WIRE_FD_FILE, -EXDEV, "a file or directory below no share (--share)" },
		{ WIRE_FD_DEVICE, -EACCES, "a device that is not listed (--device)" },
		{ WIRE_FD_TAP, -EACCES, "/dev/net/tun is not listed (--device)" },
		{ WIRE_FD_COPY, -EFBIG, "more bytes than are copied (--copy-max)" },
		{ WIRE_FD_COPY, -ECONNRESET, "not all of its bytes came" },
	};
	const char *what = kind < ARRAY_LEN(names) ? names[kind] : NULL;
	const char *why = strerror(-err);

	for (size_t i = 0; i < ARRAY_LEN(known); i++)
		if (known[i].kind == kind && known[i].err == err)
			why = known[i].why;
	snprintf(reason, FDMAP_REASON_MAX, "%s cannot be made on this side: %s",
		 what ? what : "a passed descriptor", why);
}

int fdmap_make(struct session *s, const char *text, size_t size, unsigned count, struct fdset *set,
	       char *reason)
{
	struct description d;
	struct buf b;
	int fd = 0;

	buf_init_const(&b, text, size);
	set->n = 0;
	for (unsigned i = 0; i < count && fd >= 0; i++) {
		fd = description_get(&b, &d);
		if (!fd)
			fd = make_one(s, &d, set);
		if (fd >= 0)
			set->fd[set->n++] = fd;
	}
	if (fd < 0)
		explain(fd, d.kind, reason);
	return MIN(fd, 0);
}
