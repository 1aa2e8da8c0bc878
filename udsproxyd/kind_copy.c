/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 *
 * What cannot change any more (a sealed memfd), or is only read (a file below no share), crosses as
 * a sealed memfd with the same bytes. They are carried like those of a pipe that was passed: here a
 * thread reads the file and writes into a pipe of ours, which is passed with the message; there
 * another one reads the pipe into the memfd, and the message is held until all is there.
 *
 * So a copy is bounded by what pipes hold, on both sides, and no worker waits for a file
 * system. A session reads on only when its last message's copies are in the pipes; its peer
 * fetches one message's at a time, and only COPIES_AT_ONCE in all: others wait for their turn. A
 * message whose local end takes nothing now does not begin.
 *
 * A pipe's end says nothing of why; so the bytes come in pieces, and an errno behind the last
 * (wire.h).
 */
#include "kind.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <time.h>

#include <linux/magic.h>

#include "aside.h"
#include "canon.h"
#include "fdmap.h"
#include "session.h"
#include "util.h"

#ifndef CONFIGFS_MAGIC
#define CONFIGFS_MAGIC 0x62656570 /* not in <linux/magic.h> */
#endif

#define PIECE_MAX 65536	  /* what a pipe holds */
#define COPIES_AT_ONCE 16 /* messages whose copies are being fetched */
#define COPY_SECONDS 120  /* for all copies of a message, once it is their turn */

/* Linux 6.3 */
#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 0x0008U
#define MFD_EXEC 0x0010U
#endif
#ifndef F_SEAL_EXEC
#define F_SEAL_EXEC 0x0020
#endif

#define UNCHANGEABLE (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE)

/* ---- looking ----------------------------------------------------------------------------- */

static int too_large(const struct config *c, bool memfd, uint64_t size, char *reason)
{
	char what[160];

	snprintf(what, sizeof(what), "%s, of %llu bytes: at most %llu are copied (--copy-max)",
		 memfd ? "a memfd" : "a file below no share (--share)", (unsigned long long)size,
		 (unsigned long long)c->copy_max);
	return kind_refuse(reason, what);
}

/* The last component of what the kernel calls it, without what it says of one that has no name. */
static void name_copy(struct item *item, const char *kernel_name)
{
	static const char deleted[] = " (deleted)";
	struct description *d = &item->d;

	kind_set_name(item, kernel_name);
	if (d->name_len > strlen(deleted) &&
	    !strcmp(d->name + d->name_len - strlen(deleted), deleted))
		d->name_len -= strlen(deleted);
	d->name_len = MIN(d->name_len, WIRE_COPY_NAME_MAX);
}

static int look_memfd(int fd, const char *name, const struct statx *st, struct item *item,
		      char *reason)
{
	int seals = fcntl(fd, F_GET_SEALS);

	if (seals < 0 || (seals & UNCHANGEABLE) != UNCHANGEABLE)
		return kind_refuse(reason,
				   "a memfd that is not sealed against writing, growing and "
				   "shrinking");
	item->d.seals = description_seals(seals);
	item->d.mode = st->stx_mode & 0777;
	name_copy(item, name);
	return 0;
}

static int look_read_only(const char *name, struct item *item)
{
	item->d.seals = description_seals(UNCHANGEABLE | F_SEAL_SEAL | F_SEAL_EXEC);
	item->d.mode = 0444;
	item->snapshot = true;
	name_copy(item, strrchr(name, '/') + 1);
	return 0;
}

int kind_look_copy(const struct config *c, int fd, const char *kernel_name, const struct statx *st,
		   struct item *item, char *reason)
{
	static const char prefix[] = "/memfd:";
	bool memfd = !strncmp(kernel_name, prefix, strlen(prefix)) && !st->stx_nlink;
	off_t offset = lseek(fd, 0, SEEK_CUR);
	struct description *d = &item->d;
	int err;

	if (!memfd && d->flags & WIRE_O_WRITE)
		return kind_refuse(reason, "a file below no share (--share), open for writing");
	err = memfd ? look_memfd(fd, kernel_name + strlen(prefix), st, item, reason)
		    : look_read_only(kernel_name, item);
	if (err)
		return err;
	if (!(d->flags & WIRE_O_READ))
		return kind_refuse(reason, "a memfd open for writing only");
	if (st->stx_size > c->copy_max)
		return too_large(c, memfd, st->stx_size, reason);
	d->kind = WIRE_FD_COPY;
	d->flags &= WIRE_O_READ | WIRE_O_WRITE | WIRE_O_APPEND | WIRE_O_NONBLOCK;
	d->offset = offset < 0 ? 0 : (uint64_t)offset;
	return 0;
}

/* ---- reading, here ----------------------------------------------------------------------- */

/* What a message copies. Its session may end while it is read. */
struct feeding {
	struct session *session; /* NULL: it did */
	uint64_t left;		 /* bytes that may still be read */
	int n;
	struct {
		int file;
		int pipe; /* to be written to */
	} source[FDSET_MAX];
};

void kind_free_feeding(struct feeding *feeding)
{
	if (!feeding)
		return;
	for (int i = 0; i < feeding->n; i++) {
		aside_close(feeding->source[i].file);
		close_keep_errno(feeding->source[i].pipe);
	}
	free(feeding);
}

static struct feeding *begin_feeding(struct outgoing *o)
{
	if (!o->feeding)
		o->feeding = calloc(1, sizeof(*o->feeding));
	if (o->feeding && !o->feeding->n)
		o->feeding->left = o->session->worker->daemon->config.copy_max;
	return o->feeding;
}

int kind_pass_copy(struct outgoing *o, struct item *item)
{
	struct feeding *feeding = begin_feeding(o);
	int ends[2], file, err;

	if (!feeding)
		return kind_refuse(o->reason, "out of memory");
	file = fcntl(o->set->fd[o->i], F_DUPFD_CLOEXEC, 0);
	if (file < 0 || pipe2(ends, O_CLOEXEC)) {
		err = -errno;
		aside_close(file);
		snprintf(o->reason, FDMAP_REASON_MAX, "a descriptor cannot be copied: %s",
			 strerror(-err));
		return err;
	}
	feeding->source[feeding->n].file = file;
	feeding->source[feeding->n++].pipe = ends[1];
	err = kind_pass_pipe(o, ends[0], &item->d.id);
	close(ends[0]);
	return err;
}

static bool write_all(int fd, const void *data, size_t len)
{
	const char *at = data;

	while (len) {
		ssize_t n = write(fd, at, len);

		if (n < 0)
			return false;
		at += n;
		len -= (size_t)n;
	}
	return true;
}

/* Is its size what can be read of it? sysfs has a page for all. */
static bool has_size(int file)
{
	struct statfs fs;

	return !fstatfs(file, &fs) && fs.f_type != SYSFS_MAGIC && fs.f_type != CONFIGFS_MAGIC;
}

/* Like pread(2). But a network file system that has lost its server may say that the file ends
 * here, where its size says that it does not: an error, unless it has just grown. */
static ssize_t read_piece(int file, void *to, size_t len, off_t at)
{
	struct stat st;
	ssize_t n = pread(file, to, len, at);

	if (n)
		return n;
	if (fstat(file, &st))
		return -1;
	if (st.st_size <= at || !has_size(file))
		return 0;
	n = pread(file, to, len, at);
	if (!n)
		errno = EIO;
	return n ? n : -1;
}

/* From its beginning to its end, wherever its offset is. Return: an errno; -1: nobody reads it. */
static int feed_pieces(int file, int pipe, uint64_t *left)
{
	_Alignas(4096) uint8_t piece[PIECE_MAX]; /* for O_DIRECT */
	off_t at = 0;
	ssize_t n;

	while ((n = read_piece(file, piece, sizeof(piece), at)) > 0) {
		uint8_t length[4];
		struct buf b;

		if ((uint64_t)n > *left)
			return EFBIG;
		buf_init(&b, length, sizeof(length));
		buf_put_u32(&b, (uint32_t)n);
		if (!write_all(pipe, length, sizeof(length)) || !write_all(pipe, piece, (size_t)n))
			return -1;
		*left -= (uint64_t)n;
		at += n;
	}
	return n ? errno : 0;
}

static void feed(void *arg)
{
	struct feeding *feeding = arg;

	for (int i = 0; i < feeding->n; i++) {
		int pipe = take_fd(&feeding->source[i].pipe),
		    file = take_fd(&feeding->source[i].file);
		int error = feed_pieces(file, pipe, &feeding->left);
		uint8_t verdict[6];
		struct buf b;

		buf_init(&b, verdict, sizeof(verdict));
		buf_put_u32(&b, 0);
		buf_put_u16(&b, canon_errno(MAX(error, 0)));
		if (error >= 0)
			write_all(pipe, verdict, sizeof(verdict));
		close(pipe);
		close(file);
	}
}

static void fed(struct worker *w, void *arg)
{
	struct feeding *feeding = arg;
	struct session *s = feeding->session;

	(void)w;
	free(feeding);
	if (!s)
		return;
	s->feeding = NULL;
	session_pump(s);
}

int kind_start_feeding(struct session *s, struct feeding *feeding)
{
	int err = aside_run(s->worker, feed, fed, feeding);

	if (err)
		return err;
	feeding->session = s;
	s->feeding = feeding;
	return 0;
}

void kind_forget_feeding(struct session *s)
{
	if (s->feeding)
		s->feeding->session = NULL;
	s->feeding = NULL;
}

/* ---- fetching, there --------------------------------------------------------------------- */

static struct {
	pthread_mutex_t lock;
	pthread_cond_t changed;
	unsigned admitted;
} turns = { .lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER };

static time_t now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec;
}

int kind_fetching_init(struct fetching *f, const struct config *c, bool copies)
{
	*f = (struct fetching){ .config = c, .left = c->copy_max, .cancel = -1 };
	if (!copies)
		return 0;
	f->cancel = eventfd(0, EFD_CLOEXEC);
	return f->cancel < 0 ? -errno : 0;
}

void kind_fetching_deinit(struct fetching *f)
{
	close_keep_errno(f->cancel);
}

void kind_cancel_fetching(struct fetching *f)
{
	if (f->cancel < 0)
		return;
	pthread_mutex_lock(&turns.lock);
	f->cancelled = true;
	pthread_cond_broadcast(&turns.changed);
	pthread_mutex_unlock(&turns.lock);
	eventfd_write(f->cancel, 1);
}

static int await_turn(struct fetching *f)
{
	if (f->admitted)
		return 0;
	pthread_mutex_lock(&turns.lock);
	while (turns.admitted == COPIES_AT_ONCE && !f->cancelled)
		pthread_cond_wait(&turns.changed, &turns.lock);
	f->admitted = !f->cancelled;
	turns.admitted += f->admitted;
	pthread_mutex_unlock(&turns.lock);
	f->until = now() + COPY_SECONDS;
	return f->admitted ? 0 : -ECANCELED;
}

void kind_fetched(struct fetching *f)
{
	if (!f->admitted)
		return;
	pthread_mutex_lock(&turns.lock);
	turns.admitted--;
	pthread_cond_signal(&turns.changed);
	pthread_mutex_unlock(&turns.lock);
	f->admitted = false;
}

int kind_make_copy(struct session *s, const struct description *d)
{
	return kind_make_channel(
		s, &(struct description){ .kind = WIRE_FD_PIPE_READ, .id = d->id, .times = 1 });
}

static int await_bytes(struct fetching *f, int pipe)
{
	struct pollfd p[] = { { .fd = pipe, .events = POLLIN },
			      { .fd = f->cancel, .events = POLLIN } };
	time_t left = f->until - now();

	if (left < 0 || poll(p, ARRAY_LEN(p), (int)left * 1000 + 1) == 0)
		return -ETIMEDOUT;
	return p[1].revents ? -ECANCELED : 0;
}

/* -ECONNRESET: the pipe ended. */
static int read_exactly(struct fetching *f, int pipe, void *data, size_t len)
{
	for (char *at = data; len;) {
		int err = await_bytes(f, pipe);
		ssize_t n = err ? err : read(pipe, at, len);

		if (n <= 0)
			return n < 0 ? (err ? err : -errno) : -ECONNRESET;
		at += n;
		len -= (size_t)n;
	}
	return 0;
}

static int move_exactly(struct fetching *f, int pipe, int to, size_t len)
{
	while (len) {
		int err = await_bytes(f, pipe);
		ssize_t n = err ? err : splice(pipe, NULL, to, NULL, len, SPLICE_F_MOVE);

		if (n <= 0)
			return n < 0 ? (err ? err : -errno) : -ECONNRESET;
		len -= (size_t)n;
	}
	return 0;
}

static int fetch_pieces(struct fetching *f, int pipe, int to)
{
	for (;;) {
		uint8_t length[4], verdict[2];
		uint32_t n;
		struct buf b;
		int err = read_exactly(f, pipe, length, sizeof(length));

		if (err)
			return err;
		buf_init(&b, length, sizeof(length));
		n = buf_get_u32(&b);
		if (n > f->left)
			return -EFBIG;
		if (n) {
			f->left -= n;
			err = move_exactly(f, pipe, to, n);
			if (err)
				return err;
			continue;
		}
		err = read_exactly(f, pipe, verdict, sizeof(verdict));
		buf_init(&b, verdict, sizeof(verdict));
		return err ? err : -local_errno(buf_get_u16(&b));
	}
}

/* Up to the pipe's end: that it ends is not to be our doing. */
static int fetch_all(struct fetching *f, int pipe, int to)
{
	int err = fetch_pieces(f, pipe, to);
	char more;

	if (err)
		return err == -EPROTO ? -EBADMSG
				      : err; /* not of the message: that one is as it should be */
	err = read_exactly(f, pipe, &more, 1);
	return err ? (err == -ECONNRESET ? 0 : err) : -EBADMSG;
}

static int new_memfd(const struct description *d)
{
	char name[WIRE_PATH_MAX];
	bool noexec = d->seals & WIRE_SEAL_EXEC && !(d->mode & 0111);
	int fd;

	kind_name_string(d, name);
	/* Which of the two it is must be said from Linux 6.3 on, and cannot be before. */
	fd = memfd_create(name,
			  MFD_CLOEXEC | MFD_ALLOW_SEALING | (noexec ? MFD_NOEXEC_SEAL : MFD_EXEC));
	if (fd < 0 && errno == EINVAL)
		fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
	return fd < 0 ? -errno : fd;
}

static int seal(int fd, const struct description *d)
{
	int seals = description_local_seals(d->seals);

	if (fchmod(fd, d->mode))
		return -errno;
	/* By itself: a kernel that does not know it refuses all of them. */
	if (seals & F_SEAL_EXEC)
		fcntl(fd, F_ADD_SEALS, F_SEAL_EXEC);
	return fcntl(fd, F_ADD_SEALS, seals & ~F_SEAL_EXEC) ? -errno : 0;
}

int kind_fetch_copy(struct fetching *f, const struct description *d, int from)
{
	_cleanup_close_ int pipe = from, memfd = -1, fd = -1;
	int err = await_turn(f);

	if (err)
		return err;
	memfd = new_memfd(d);
	if (memfd < 0)
		return memfd;
	err = fetch_all(f, pipe, memfd);
	if (!err)
		err = seal(memfd, d);
	if (err)
		return err;
	fd = channel_reopen(memfd, description_local_flags(d->flags));
	if (fd >= 0 && lseek(fd, (off_t)d->offset, SEEK_SET) < 0)
		return -errno;
	return take_fd(&fd);
}
