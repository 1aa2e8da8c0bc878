/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 *
 * Pipes, sockets and listening sockets become channels: the descriptor stays here, a session of its
 * own (or, for a listening socket, a watch) carries what goes through it. The same pipe passed
 * again is the same channel: two would split its bytes between them.
 *
 * On the other side the counterpart is made, and our end of it remembered under the channel's id.
 * The channel's session may come before or after the message, on any worker: whichever is second
 * brings the two together.
 */
#include "kind.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "announced.h"
#include "canon.h"
#include "fdmap.h"
#include "netlink.h"
#include "session.h"
#include "util.h"
#include "watch.h"

/* ---- looking ----------------------------------------------------------------------------- */

static int int_option(int fd, int name)
{
	int value = -1;
	socklen_t len = sizeof(value);

	return getsockopt(fd, SOL_SOCKET, name, &value, &len) ? -1 : value;
}

int kind_look_socket(int fd, struct item *item, char *reason)
{
	struct description *d = &item->d;
	struct sockaddr_storage peer;
	socklen_t len = sizeof(peer);

	d->socktype = canon_socktype(int_option(fd, SO_TYPE));
	if (int_option(fd, SO_DOMAIN) != AF_UNIX)
		return kind_refuse(reason, "a socket that is not a UNIX socket");
	if (int_option(fd, SO_ACCEPTCONN) == 1)
		d->kind = WIRE_FD_LISTENER;
	else if (getpeername(fd, (struct sockaddr *)&peer, &len))
		return kind_refuse(reason, "an unconnected socket");
	else
		d->kind = WIRE_FD_SOCKET;
	return 0;
}

int kind_look_pipe(int flags, struct item *item, char *reason)
{
	switch (flags & O_ACCMODE) {
	case O_RDONLY:
		item->d.kind = WIRE_FD_PIPE_READ;
		return 0;
	case O_WRONLY:
		item->d.kind = WIRE_FD_PIPE_WRITE;
		return 0;
	}
	return kind_refuse(reason, "a FIFO opened for both reading and writing");
}

/* ---- passing ----------------------------------------------------------------------------- */

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

static int start_carrying(struct channel *c, const struct outgoing *o)
{
	bool pipe = channel_is_pipe(c);

	c->fd = pipe ? channel_reopen(o->set->fd[o->i],
				      O_NONBLOCK |
					      (c->kind == WIRE_FD_PIPE_READ ? O_RDONLY : O_WRONLY))
		     : fdset_take(o->set, o->i);
	if (c->fd < 0) {
		int err = c->fd;

		c->fd = -1;
		return err;
	}
	if (c->kind == WIRE_FD_LISTENER)
		return watch_original(o->session->worker, c);
	return carry(o->session->worker, c);
}

static int start_channel(struct channel *c, void *arg)
{
	const struct outgoing *o = arg;
	int err = start_carrying(c, o);

	if (err)
		channel_end(o->session->worker->daemon->channels, c, o->session->worker->daemon);
	return err;
}

static int pass(struct outgoing *o, const struct channel_key *key, uint8_t socktype,
		struct channel **c, uint16_t *count)
{
	int made = channel_pass(o->session->worker->daemon->channels, key, socktype, start_channel,
				o, c, count);

	if (made < 0)
		snprintf(o->reason, FDMAP_REASON_MAX, "a descriptor cannot be carried: %s",
			 strerror(-made));
	return made;
}

int kind_pass_channel(struct outgoing *o, struct item *item)
{
	struct session *s = o->session;
	struct description *d = &item->d;
	struct channel *c;
	uint16_t count;
	int made = pass(o, &item->key, d->socktype, &c, &count);
	int err = 0;

	if (made < 0)
		return made;
	d->id = c->id;
	d->times = count;
	d->flags &= WIRE_O_NONBLOCK;
	if (!channel_is_pipe(c) && !made)
		err = kind_refuse(o->reason, "a socket that was passed before");
	if (!err && ((channel_reads(c) && session_pass(s, c)) ||
		     (made && c->kind != WIRE_FD_LISTENER && announced_add(s, c))))
		err = kind_refuse(o->reason, "out of memory");
	channel_unref(c);
	return err;
}

int kind_pass_pipe(struct outgoing *o, int fd, struct frame_id *id)
{
	struct fdset set = { .n = 1, .fd = { fd } };
	struct outgoing one = { .session = o->session, .set = &set, .reason = o->reason };
	struct channel_key key = { .kind = WIRE_FD_PIPE_READ };
	struct channel *c;
	struct stat st;
	uint16_t count;
	int made, err = 0;

	if (fstat(fd, &st))
		return kind_refuse(o->reason, strerror(errno));
	key.dev = st.st_dev;
	key.ino = st.st_ino;
	made = pass(&one, &key, 0, &c, &count);
	if (made < 0)
		return made;
	*id = c->id;
	if (announced_add(o->session, c))
		err = kind_refuse(o->reason, "out of memory");
	channel_unref(c);
	return err;
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

int kind_adopt_channel(struct session *s, const struct frame_id *id)
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
static int make_pipe(struct channel *c)
{
	int ends[2];
	int ours = c->kind == WIRE_FD_PIPE_READ; /* they read, we write */

	if (pipe2(ends, O_CLOEXEC))
		return -errno;
	fcntl(ends[ours], F_SETFL, O_NONBLOCK);
	c->fd = ends[ours];
	return ends[!ours];
}

static int make_pair(struct channel *c)
{
	bool datagrams = c->socktype == WIRE_DGRAM;
	int ends[2];

	if (socketpair(AF_UNIX, local_socktype(c->socktype) | SOCK_CLOEXEC, 0, ends))
		return -errno;
	/* That theirs is closed is found by asking (sessions_tidy()): a kernel that does not say
	 * would let it go on for ever. */
	if (datagrams && netlink_peer_closed(ends[0]) < 0) {
		close(ends[0]);
		close(ends[1]);
		return -EOPNOTSUPP;
	}
	fcntl(ends[0], F_SETFL, O_NONBLOCK); /* splice(2) knows no MSG_DONTWAIT */
	/* Unread in our end until there is more: what makes a lost link a reset. */
	c->primed = !datagrams && send(ends[1], "", 1, MSG_NOSIGNAL) == 1;
	c->fd = ends[0];
	return ends[1];
}

/* The far end once more, while ours is open; what either side said of its end is void. */
static int make_again(struct channel *c)
{
	if (c->kept >= 0)
		return take_fd(&c->kept);
	return channel_reopen(c->fd, c->kind == WIRE_FD_PIPE_READ ? O_RDONLY : O_WRONLY);
}

/* The counterpart of a pipe or socket. The channel is locked. */
static int make_counterpart(struct channel *c, const struct description *d)
{
	bool pipe = d->kind == WIRE_FD_PIPE_READ || d->kind == WIRE_FD_PIPE_WRITE;
	int fd = -EPROTO;

	if (c->ours || (c->fd >= 0 && (c->kind != d->kind || !pipe)))
		return fd;
	if (c->fd >= 0) {
		fd = make_again(c);
	} else {
		c->kind = d->kind;
		c->socktype = d->socktype;
		fd = pipe ? make_pipe(c) : make_pair(c);
	}
	if (pipe && fd >= 0)
		atomic_fetch_add(&c->passed, 1);
	return fd;
}

static int make_twin(struct session *s, struct channel *c, const struct description *d)
{
	bool taken;

	pthread_mutex_lock(&c->lock);
	taken = c->ours || c->fd >= 0 || c->session;
	if (!taken) {
		c->kind = d->kind;
		c->socktype = d->socktype;
	}
	pthread_mutex_unlock(&c->lock);
	return taken ? -EPROTO : watch_make_twin(s->worker, c);
}

int kind_make_channel(struct session *s, const struct description *d)
{
	struct channel *c = channel_obtain(s->worker->daemon->channels, &d->id, d->kind);
	_cleanup_close_ int fd = -1;
	int err = 0;

	if (!c)
		return -ENOMEM;
	if (d->kind == WIRE_FD_LISTENER) {
		fd = make_twin(s, c, d);
	} else {
		pthread_mutex_lock(&c->lock);
		fd = make_counterpart(c, d);
		pthread_mutex_unlock(&c->lock);
	}
	if (fd >= 0 && d->flags & WIRE_O_NONBLOCK)
		fcntl(fd, F_SETFL, O_NONBLOCK);
	if (fd >= 0 && channel_is_pipe(c) && channel_reads(c))
		err = session_pass(s, c);
	if (fd >= 0 && !err) {
		join_soon(c);
		if (d->kind != WIRE_FD_LISTENER)
			channel_expect(s->worker, c);
	}
	channel_unref(c);
	return err ? err : take_fd(&fd);
}
