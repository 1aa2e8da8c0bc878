/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 *
 * fdmap_describe() looks at each descriptor (classify()) and writes kind and particulars. Pipes,
 * sockets and listening sockets become channels: the descriptor stays here, a session of its own
 * (or, for a listening socket, a watch) carries what goes through it. The same pipe passed again
 * is the same channel: two would split its bytes between them.
 *
 * fdmap_make() makes the counterpart and remembers our end of it under the channel's id. The
 * channel's session may come before or after the message, on any worker: whichever is second
 * brings the two together.
 */
#include "fdmap.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "aside.h"
#include "canon.h"
#include "channel.h"
#include "share.h"
#include "util.h"
#include "watch.h"

/* A descriptor, looked at. */
struct item {
	uint8_t kind; /* enum wire_descriptor */
	uint8_t socktype;
	struct channel_key key;
	uint32_t flags; /* enum wire_open_flags */
	uint64_t offset;
	char path[WIRE_PATH_MAX]; /* the peer's, of a file; a device's name */
};

static const struct {
	int local;
	uint32_t wire;
} open_flags[] = {
	{ O_APPEND, WIRE_O_APPEND }, { O_NONBLOCK, WIRE_O_NONBLOCK }, { O_SYNC, WIRE_O_SYNC },
	{ O_DSYNC, WIRE_O_DSYNC },   { O_DIRECT, WIRE_O_DIRECT },     { O_DIRECTORY, WIRE_O_DIRECTORY },
};

static uint32_t wire_flags(int local)
{
	int mode = local & O_ACCMODE;
	uint32_t wire = (mode != O_WRONLY ? WIRE_O_READ : 0u) | (mode != O_RDONLY ? WIRE_O_WRITE : 0u);

	for (size_t i = 0; i < ARRAY_LEN(open_flags); i++)
		if ((local & open_flags[i].local) == open_flags[i].local)
			wire |= open_flags[i].wire;
	return wire;
}

static int local_flags(uint32_t wire)
{
	int local = !(wire & WIRE_O_WRITE) ? O_RDONLY : wire & WIRE_O_READ ? O_RDWR : O_WRONLY;

	for (size_t i = 0; i < ARRAY_LEN(open_flags); i++)
		if (wire & open_flags[i].wire)
			local |= open_flags[i].local;
	return local;
}

/* ---- looking ----------------------------------------------------------------------------- */

static int refuse(char *reason, const char *what)
{
	snprintf(reason, FDMAP_REASON_MAX, "a descriptor cannot cross: %s", what);
	return -EOPNOTSUPP;
}

static int int_option(int fd, int name)
{
	int value = -1;
	socklen_t len = sizeof(value);

	return getsockopt(fd, SOL_SOCKET, name, &value, &len) ? -1 : value;
}

static int classify_socket(int fd, struct item *item, char *reason)
{
	struct sockaddr_storage peer;
	socklen_t len = sizeof(peer);

	item->socktype = canon_socktype(int_option(fd, SO_TYPE));
	if (int_option(fd, SO_DOMAIN) != AF_UNIX)
		return refuse(reason, "a socket that is not a UNIX socket");
	if (item->socktype != WIRE_STREAM && item->socktype != WIRE_SEQPACKET)
		return refuse(reason, "a datagram socket");
	if (int_option(fd, SO_ACCEPTCONN) == 1)
		item->kind = WIRE_FD_LISTENER;
	else if (getpeername(fd, (struct sockaddr *)&peer, &len))
		return refuse(reason, "an unconnected socket");
	else
		item->kind = WIRE_FD_SOCKET;
	return 0;
}

static int classify_pipe(int flags, struct item *item, char *reason)
{
	switch (flags & O_ACCMODE) {
	case O_RDONLY:
		item->kind = WIRE_FD_PIPE_READ;
		return 0;
	case O_WRONLY:
		item->kind = WIRE_FD_PIPE_WRITE;
		return 0;
	}
	return refuse(reason, "a FIFO opened for both reading and writing");
}

/* What /proc calls it, as far as that fits. */
static void kernel_name(int fd, char *name, size_t size)
{
	char link[32];
	ssize_t n;

	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	n = readlink(link, name, size - 1);
	name[MAX(n, 0)] = '\0';
}

static bool is_memfd(int fd)
{
	char name[16];

	kernel_name(fd, name, sizeof(name));
	return !strncmp(name, "/memfd:", 7);
}

static int classify_file(const struct config *c, int fd, struct item *item, char *reason)
{
	off_t offset = lseek(fd, 0, SEEK_CUR);

	if (share_peer_path(c, fd, item->path, sizeof(item->path)))
		return refuse(reason, is_memfd(fd) ? "a memfd"
						   : "a file or directory below no share (--share)");
	item->kind = WIRE_FD_FILE;
	item->offset = offset < 0 ? 0 : (uint64_t)offset;
	return 0;
}

static int classify_device(const struct config *c, dev_t rdev, struct item *item, char *reason)
{
	static const struct {
		const char *name;
		unsigned minor;
	} memory[] = { { "/dev/null", 3 }, { "/dev/zero", 5 }, { "/dev/full", 7 }, { "/dev/urandom", 9 } };
	struct stat st;

	item->kind = WIRE_FD_DEVICE;
	for (size_t i = 0; i < ARRAY_LEN(memory); i++) {
		if (rdev == makedev(1, memory[i].minor)) {
			snprintf(item->path, sizeof(item->path), "%s", memory[i].name);
			return 0;
		}
	}
	for (size_t i = 0; i < c->n_devices; i++) {
		if (!stat(c->devices[i], &st) && S_ISCHR(st.st_mode) && st.st_rdev == rdev) {
			snprintf(item->path, sizeof(item->path), "%s", c->devices[i]);
			return 0;
		}
	}
	return refuse(reason, major(rdev) >= 136 && major(rdev) <= 143
				      ? "a terminal"
				      : "a device that is not listed (--device)");
}

static int classify_other(int fd, char *reason)
{
	char what[64];

	kernel_name(fd, what, sizeof(what));
	return refuse(reason, *what ? what : "of an unknown kind");
}

static int classify(struct daemon *d, int fd, struct item *item, char *reason)
{
	int flags = fcntl(fd, F_GETFL);
	struct statx st;
	int err;

	/* Not fstat: a network file system may be served through this very thread. */
	if (flags < 0 || statx(fd, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC, STATX_TYPE | STATX_INO, &st))
		return refuse(reason, strerror(errno));
	*item = (struct item){ .flags = wire_flags(flags) };
	if (flags & O_PATH)
		return refuse(reason, "opened with O_PATH");
	switch (st.stx_mode & S_IFMT) {
	case S_IFSOCK:
		err = classify_socket(fd, item, reason);
		break;
	case S_IFIFO:
		err = classify_pipe(flags, item, reason);
		break;
	case S_IFREG:
	case S_IFDIR:
		return classify_file(&d->config, fd, item, reason);
	case S_IFCHR:
		return classify_device(&d->config, makedev(st.stx_rdev_major, st.stx_rdev_minor), item, reason);
	default:
		return classify_other(fd, reason);
	}
	item->key = (struct channel_key){
		.dev = makedev(st.stx_dev_major, st.stx_dev_minor),
		.ino = st.stx_ino,
		.kind = item->kind,
	};
	return err;
}

int fdmap_crosses(struct daemon *d, int fd, char *reason)
{
	struct item item;

	return classify(d, fd, &item, reason);
}

/* ---- describing -------------------------------------------------------------------------- */

static enum session_local local_of(const struct channel *c)
{
	if (channel_is_pipe(c))
		return SESSION_PIPE;
	return session_local_of(c->socktype);
}

/* A session that carries what goes through @c. Whose bytes they are is settled by the message that
 * carried the descriptor; the request itself is the daemon's. */
static int carry(struct worker *w, struct channel *c)
{
	struct frame_open o = {
		.target = WIRE_TARGET_CHANNEL,
		.socktype = c->socktype,
		.name = (const char *)c->id.bytes,
		.name_len = sizeof(c->id.bytes),
	};
	struct session *s;

	worker_random_id(&o.id);
	s = session_open(w, &o, local_of(c), NULL, c, c->fd);
	if (!s)
		return -errno;
	pthread_mutex_lock(&c->lock);
	c->session = s;
	c->worker = w;
	pthread_mutex_unlock(&c->lock);
	return 0;
}

/* The descriptor @i of @set, which came in on worker @w. */
struct arrival {
	struct worker *w;
	struct fdset *set;
	int i;
};

static int start_carrying(struct channel *c, const struct arrival *a)
{
	bool pipe = channel_is_pipe(c);

	c->fd = pipe ? channel_reopen(a->set->fd[a->i],
			      O_NONBLOCK | (c->kind == WIRE_FD_PIPE_READ ? O_RDONLY : O_WRONLY))
		     : fdset_take(a->set, a->i);
	if (c->fd < 0) {
		int err = c->fd;

		c->fd = -1;
		return err;
	}
	if (c->kind == WIRE_FD_LISTENER)
		return watch_original(a->w, c);
	return carry(a->w, c);
}

static int start_channel(struct channel *c, void *arg)
{
	const struct arrival *a = arg;
	int err = start_carrying(c, a);

	if (err)
		channel_end(a->w->daemon->channels, c, a->w->daemon);
	return err;
}

static int describe_channel(struct session *s, const struct item *item, struct fdset *set, int i,
			    struct buf *b, char *reason)
{
	struct arrival arrival = { .w = s->worker, .set = set, .i = i };
	struct channel *c;
	uint16_t count;
	int err = channel_pass(s->worker->daemon->channels, &item->key, item->socktype, start_channel,
			       &arrival, &c, &count);

	if (err) {
		snprintf(reason, FDMAP_REASON_MAX, "a descriptor cannot be carried: %s", strerror(-err));
		return err;
	}
	frame_put_id(b, &c->id);
	if (channel_is_pipe(c))
		buf_put_u32(b, count);
	else if (count == 1)
		buf_put_u8(b, c->socktype);
	else
		err = refuse(reason, "a socket that was passed before");
	if (!err && ((channel_reads(c) && session_pass(s, c)) ||
		     (count == 1 && c->kind != WIRE_FD_LISTENER && session_announce(s, c))))
		err = refuse(reason, "out of memory");
	channel_unref(c);
	return err;
}

static bool same_key(const struct channel_key *a, const struct channel_key *b)
{
	return a->kind && a->kind == b->kind && a->dev == b->dev && a->ino == b->ino;
}

static int describe_one(struct session *s, struct fdset *set, int i, struct channel_key *keys,
			struct buf *b, char *reason)
{
	struct item item;
	int err = classify(s->worker->daemon, set->fd[i], &item, reason);

	if (err)
		return err;
	keys[i] = item.key;
	for (int j = 0; j < i; j++) {
		if (same_key(&keys[j], &keys[i])) {
			buf_put_u8(b, WIRE_FD_SAME);
			buf_put_u16(b, (uint16_t)j);
			return 0;
		}
	}
	buf_put_u8(b, item.kind);
	switch (item.kind) {
	case WIRE_FD_FILE:
		buf_put_u32(b, item.flags);
		buf_put_u64(b, item.offset);
		buf_put_str(b, item.path, strlen(item.path));
		aside_close(fdset_take(set, i));
		return 0;
	case WIRE_FD_DEVICE:
		buf_put_u32(b, item.flags);
		buf_put_str(b, item.path, strlen(item.path));
		return 0;
	}
	return describe_channel(s, &item, set, i, b, reason);
}

int fdmap_describe(struct session *s, struct fdset *set, struct fdmap_text *text, char *reason)
{
	size_t size = WIRE_PAYLOAD_MAX - STREAM_READ_MAX - sizeof(text->length);
	struct channel_key keys[FDSET_MAX];
	struct buf b;
	int err = 0;

	text->bytes = malloc(size);
	if (!text->bytes)
		err = refuse(reason, "out of memory");
	buf_init(&b, text->bytes, size);
	for (int i = 0; i < set->n && !err; i++)
		err = describe_one(s, set, i, keys, &b, reason);
	if (!err && b.bad)
		err = refuse(reason, "the names of the files are too long");
	if (err) {
		free(text->bytes);
		return err;
	}
	text->size = b.pos;
	buf_init(&b, text->length, sizeof(text->length));
	buf_put_u32(&b, (uint32_t)text->size);
	return 0;
}

/* ---- making ------------------------------------------------------------------------------ */

/* Session and descriptor are both there: on the session's worker. */
static void join(struct worker *w, void *arg)
{
	struct channel *c = arg;
	struct session *s = c->session;

	(void)w;
	if (s && s->state == SESSION_PARKED) {
		session_adopt(s, c->fd, local_of(c), c->primed);
		if (s->state == SESSION_RUNNING)
			session_pump(s);
	} else if (s) {
		session_revive(s);
	}
	channel_unref(c);
}

static void join_soon(struct channel *c)
{
	struct worker *w;

	pthread_mutex_lock(&c->lock);
	w = c->session ? c->worker : NULL;
	pthread_mutex_unlock(&c->lock);
	if (w && worker_post(w, join, channel_ref(c)))
		channel_unref(c);
}

int fdmap_adopt(struct session *s, const struct frame_id *id)
{
	struct channel_table *channels = s->worker->daemon->channels;
	struct channel *c = channel_obtain(channels, id, 0);
	bool taken, ready;

	if (!c)
		return -ENOMEM;
	pthread_mutex_lock(&c->lock);
	taken = c->ours || c->session || c->abandoned || c->kind == WIRE_FD_LISTENER;
	ready = c->fd >= 0;
	if (!taken) {
		c->session = s;
		c->worker = s->worker;
	}
	pthread_mutex_unlock(&c->lock);
	if (taken) {
		channel_unref(c);
		return -EPROTO;
	}
	s->channel = c;
	if (ready)
		session_adopt(s, c->fd, local_of(c), c->primed);
	return 0;
}

/* A pair, one end for the program and one for the channel. */
static int make_pipe(struct channel *c, int *theirs)
{
	int ends[2];
	int ours = c->kind == WIRE_FD_PIPE_READ; /* they read, we write */

	if (pipe2(ends, O_CLOEXEC))
		return -errno;
	fcntl(ends[ours], F_SETFL, O_NONBLOCK);
	c->fd = ends[ours];
	*theirs = ends[!ours];
	return 0;
}

static int make_pair(struct channel *c, int *theirs)
{
	int ends[2];

	if (socketpair(AF_UNIX, local_socktype(c->socktype) | SOCK_CLOEXEC, 0, ends))
		return -errno;
	/* Unread in our end until there is more: what makes a lost link a reset. */
	c->primed = send(ends[1], "", 1, MSG_NOSIGNAL) == 1;
	c->fd = ends[0];
	*theirs = ends[1];
	return 0;
}

/* The far end once more, while ours is open; what either side said of its end is void. */
static int make_again(struct channel *c, int *theirs)
{
	if (c->kept >= 0)
		*theirs = take_fd(&c->kept);
	else
		*theirs = channel_reopen(c->fd, c->kind == WIRE_FD_PIPE_READ ? O_RDONLY : O_WRONLY);
	return *theirs < 0 ? *theirs : 0;
}

static int make_channel(struct session *s, uint8_t kind, struct buf *b, int *theirs)
{
	struct channel_table *channels = s->worker->daemon->channels;
	bool pipe = kind == WIRE_FD_PIPE_READ || kind == WIRE_FD_PIPE_WRITE;
	struct channel *c;
	struct frame_id id;
	uint32_t particular;
	int err = 0;

	frame_get_id(b, &id);
	particular = pipe ? buf_get_u32(b) : buf_get_u8(b);
	if (b->bad || (!pipe && particular != WIRE_STREAM && particular != WIRE_SEQPACKET))
		return -EPROTO;
	c = channel_obtain(channels, &id, kind);
	if (!c)
		return -ENOMEM;
	pthread_mutex_lock(&c->lock);
	if (c->ours || (c->fd >= 0 && (c->kind != kind || !pipe)) ||
	    (c->session && kind == WIRE_FD_LISTENER)) {
		err = -EPROTO;
	} else if (c->fd >= 0) {
		err = make_again(c, theirs);
	} else {
		c->kind = kind;
		c->socktype = pipe ? 0 : (uint8_t)particular;
		err = pipe ? make_pipe(c, theirs) : kind == WIRE_FD_SOCKET ? make_pair(c, theirs) : 0;
	}
	if (pipe && !err)
		atomic_fetch_add(&c->passed, 1);
	pthread_mutex_unlock(&c->lock);
	if (!err && kind == WIRE_FD_LISTENER) {
		*theirs = watch_make_twin(s->worker, c);
		err = *theirs < 0 ? *theirs : 0;
	}
	if (!err && pipe && channel_reads(c))
		err = session_pass(s, c);
	if (!err)
		join_soon(c);
	if (!err && kind != WIRE_FD_LISTENER)
		channel_expect(s->worker, c);
	channel_unref(c);
	return err;
}

/* The files of one message. Its session may end while they are being opened. */
struct fdmap_files {
	struct session *session; /* NULL: nobody wants them any more */
	const struct config *config;
	bool ready;
	unsigned next; /* result to be taken */
	unsigned count;
	struct {
		char path[WIRE_PATH_MAX];
		uint32_t flags;
		uint64_t offset;
		int fd; /* or a negative errno */
	} file[];
};

static void free_files(struct fdmap_files *files)
{
	for (unsigned i = files->next; files->ready && i < files->count; i++)
		aside_close(files->file[i].fd);
	free(files);
}

static int open_file(const struct config *c, const char *path, uint32_t flags, uint64_t offset)
{
	_cleanup_close_ int fd = share_open(c, path, local_flags(flags) | O_NOCTTY);

	if (fd < 0)
		return fd;
	/* A directory's offset means nothing elsewhere. */
	if (offset && !(flags & WIRE_O_DIRECTORY) && lseek(fd, (off_t)offset, SEEK_SET) < 0)
		return -errno;
	return take_fd(&fd);
}

static void open_files(void *arg)
{
	struct fdmap_files *files = arg;

	for (unsigned i = 0; i < files->count; i++)
		files->file[i].fd = open_file(files->config, files->file[i].path, files->file[i].flags,
					      files->file[i].offset);
}

static void files_are_open(struct worker *w, void *arg)
{
	struct fdmap_files *files = arg;

	(void)w;
	files->ready = true;
	if (files->session)
		session_pump(files->session);
	else
		free_files(files);
}

static int get_file(struct buf *b, char *path, uint32_t *flags, uint64_t *offset)
{
	size_t len;
	const char *text;

	*flags = buf_get_u32(b);
	*offset = buf_get_u64(b);
	text = buf_get_str(b, &len);
	if (b->bad || len >= WIRE_PATH_MAX || memchr(text, '\0', len) || *offset > INT64_MAX)
		return -EPROTO;
	memcpy(path, text, len);
	path[len] = '\0';
	return 0;
}

/* Past a description that is not a file's. */
static void skip_description(struct buf *b, uint8_t kind)
{
	size_t n;

	switch ((enum wire_descriptor)kind) {
	case WIRE_FD_PIPE_READ:
	case WIRE_FD_PIPE_WRITE:
		buf_get_bytes(b, WIRE_ID_SIZE + 4);
		return;
	case WIRE_FD_SOCKET:
	case WIRE_FD_LISTENER:
		buf_get_bytes(b, WIRE_ID_SIZE + 1);
		return;
	case WIRE_FD_DEVICE:
		buf_get_u32(b);
		buf_get_str(b, &n);
		return;
	case WIRE_FD_SAME:
		buf_get_u16(b);
		return;
	case WIRE_FD_FILE:
		break;
	}
	b->bad = true;
}

int fdmap_open_files(struct session *s, const char *text, size_t size, unsigned count)
{
	struct fdmap_files *files = s->files;
	struct buf b;
	int err = 0;

	if (files)
		return files->ready;
	files = calloc(1, sizeof(*files) + count * sizeof(files->file[0]));
	if (!files)
		return -ENOMEM;
	buf_init_const(&b, text, size);
	for (unsigned i = 0; i < count && !err; i++) {
		uint8_t kind = buf_get_u8(&b);
		unsigned n = files->count;

		if (kind != WIRE_FD_FILE)
			skip_description(&b, kind);
		else
			err = get_file(&b, files->file[n].path, &files->file[n].flags,
				       &files->file[n].offset);
		files->count += kind == WIRE_FD_FILE;
	}
	files->session = s;
	files->config = &s->worker->daemon->config;
	if (!err && b.bad)
		err = -EPROTO;
	if (!err && files->count)
		err = aside_run(s->worker, open_files, files_are_open, files);
	if (err || !files->count) {
		free(files);
		return err ? err : 1;
	}
	s->files = files;
	return 0;
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
}

static int make_file(struct session *s, struct buf *b, int *theirs)
{
	struct fdmap_files *files = s->files;
	char path[WIRE_PATH_MAX];
	uint32_t flags;
	uint64_t offset;
	int err = get_file(b, path, &flags, &offset);

	if (err || !files || files->next == files->count)
		return -EPROTO;
	*theirs = files->file[files->next++].fd;
	return *theirs < 0 ? *theirs : 0;
}

static int make_device(struct session *s, struct buf *b, int *theirs)
{
	static const char *const always[] = { "/dev/null", "/dev/zero", "/dev/full", "/dev/urandom" };
	const struct config *c = &s->worker->daemon->config;
	uint32_t flags = buf_get_u32(b);
	const char *found = NULL;
	size_t len;
	const char *name = buf_get_str(b, &len);

	if (b->bad)
		return -EPROTO;
	for (size_t i = 0; i < ARRAY_LEN(always); i++)
		if (strlen(always[i]) == len && !memcmp(always[i], name, len))
			found = always[i];
	for (size_t i = 0; i < c->n_devices; i++)
		if (strlen(c->devices[i]) == len && !memcmp(c->devices[i], name, len))
			found = c->devices[i];
	if (!found)
		return -EACCES;
	*theirs = open(found, local_flags(flags) | O_CLOEXEC | O_NOCTTY);
	return *theirs < 0 ? -errno : 0;
}

static int make_same(const struct fdset *set, struct buf *b, int *theirs)
{
	uint16_t of = buf_get_u16(b);

	if (b->bad || of >= set->n)
		return -EPROTO;
	*theirs = fcntl(set->fd[of], F_DUPFD_CLOEXEC, 0);
	return *theirs < 0 ? -errno : 0;
}

static int make_one(struct session *s, struct buf *b, const struct fdset *set, int *theirs)
{
	uint8_t kind = buf_get_u8(b);

	switch ((enum wire_descriptor)kind) {
	case WIRE_FD_PIPE_READ:
	case WIRE_FD_PIPE_WRITE:
	case WIRE_FD_SOCKET:
	case WIRE_FD_LISTENER:
		return make_channel(s, kind, b, theirs);
	case WIRE_FD_FILE:
		return make_file(s, b, theirs);
	case WIRE_FD_DEVICE:
		return make_device(s, b, theirs);
	case WIRE_FD_SAME:
		return make_same(set, b, theirs);
	}
	return -EPROTO;
}

int fdmap_make(struct session *s, const char *text, size_t size, unsigned count, struct fdset *set,
	       char *reason)
{
	struct buf b;
	int err = 0;

	buf_init_const(&b, text, size);
	set->n = 0;
	for (unsigned i = 0; i < count && !err; i++) {
		int theirs = -1;

		err = make_one(s, &b, set, &theirs);
		if (theirs >= 0)
			set->fd[set->n++] = theirs;
	}
	if (!err && !buf_done(&b))
		err = -EPROTO;
	if (err)
		snprintf(reason, FDMAP_REASON_MAX, "a passed descriptor cannot be made on this side: %s",
			 err == -EXDEV ? "a file or directory below no share (--share)" : strerror(-err));
	return err;
}
