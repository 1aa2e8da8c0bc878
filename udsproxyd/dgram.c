/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 *
 * The client's side. A program's datagram socket refers to the one that it is connected to, and
 * /proc/net/unix says how many refer to a socket. When nobody but this process refers to ours, the
 * program has closed its own, or has connected it elsewhere. (It costs a line for each UNIX socket
 * there is, so it is looked at soon after a session has begun, and ever less often, for all
 * sessions of a worker.)
 *
 * Answers have to be sent to the client's socket by its name, for there is no other way to it. A
 * name is what the client says it is, and might lead to some other program's socket. So our socket
 * is connected to that name, and then the client's to ours, once more: the kernel lets nobody send
 * to a connected socket, nor connect to it, but that one's own peer. (First the client's is
 * connected to ours: as long as it is connected to another server it could not be connected to.)
 *
 * The server's side. Our socket is connected to the server's, and whether that is closed is asked
 * of the kernel (netlink.h) each second. Nothing else is: the server's name may be another's by
 * now, and to look at a path may mean to wait for a file system. A kernel that cannot tell leaves
 * it to the next datagram, which is refused.
 */
#include "dgram.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "alias.h"
#include "aside.h"
#include "connector.h"
#include "netlink.h"
#include "util.h"

#define SCAN_FIRST_MS 250  /* between looks for those that have left, */
#define SCAN_LAST_MS 5000  /* doubled up to this; */
#define SCAN_SHARE 20	   /* at least so many times as long as the last one took */
#define PROBE_MS 1000	   /* between looks whether the server is there */
#define DGRAM_WAIT_MS 5000 /* for the server to make room for the one datagram */
#define RETRY_MS 10	   /* after a failure that is not the other end's */

#define PATH_OFFSET offsetof(struct sockaddr_un, sun_path)

struct dgram {
	LIST_ENTRY(dgram) entry;
	struct session *session;
	int fd;		    /* the session's local end */
	uint16_t flags;	    /* enum wire_dgram_flags, at the server's side */
	struct timer timer; /* the next look at the server, or the end of the wait for room */
	struct timer retry;

	ino_t ino;     /* of the client's side's fd; 0 at the server's side */
	unsigned refs; /* to it, when last looked at */
	bool answers;  /* the client's socket may be written to */
};

static void on_timer(struct timer *t);
static void on_retry(struct timer *t);

static struct dgram *dgram_new(struct session *s, int fd)
{
	struct dgram *d = calloc(1, sizeof(*d));

	if (!d)
		return NULL;
	d->session = s;
	d->fd = fd;
	timer_init(&d->timer, on_timer);
	timer_init(&d->retry, on_retry);
	LIST_INSERT_HEAD(&s->worker->dgrams, d, entry);
	s->dgram = d;
	return d;
}

void dgram_end(struct session *s)
{
	struct dgram *d = s->dgram;

	s->dgram = NULL;
	LIST_REMOVE(d, entry);
	timer_stop(&s->worker->events, &d->timer);
	timer_stop(&s->worker->events, &d->retry);
	if (d->flags & WIRE_OPEN_PATH)
		connector_remove_name(d->fd);
	free(d);
}

/* ---- the client's side ----------------------------------------------------------------------- */

static int compare(const void *a, const void *b)
{
	const struct dgram *const *x = a, *const *y = b;

	return (*x)->ino < (*y)->ino ? -1 : (*x)->ino > (*y)->ino;
}

/* Of each socket that is in the (sorted) @list: how often it is referred to. Those that are not
 * found keep what they have. */
static void count_references(struct dgram **list, size_t n)
{
	FILE *f = fopen("/proc/net/unix", "re");
	struct dgram key, *wanted = &key, **found;
	char *line = NULL;
	size_t size = 0;
	unsigned refs;

	while (f && getline(&line, &size, f) > 0) {
		if (sscanf(line, "%*s %x %*x %*x %*x %*x %lu", &refs, &key.ino) != 2)
			continue;
		found = bsearch(&wanted, list, n, sizeof(*list), compare);
		if (found)
			(*found)->refs = refs;
	}
	free(line);
	if (f)
		fclose(f);
}

static size_t count_clients(const struct worker *w)
{
	const struct dgram *d;
	size_t n = 0;

	LIST_FOREACH(d, &w->dgrams, entry)
	n += d->ino != 0;
	return n;
}

/* Nobody has the socket that ours is connected to when ours is referred to no more than one that
 * nobody knows. */
static void scan(struct worker *w)
{
	_cleanup_free_ struct dgram **list =
		malloc((count_clients(w) + 1) * sizeof(struct dgram *));
	_cleanup_close_ int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	struct dgram unknown = { .refs = 0 };
	struct dgram *d;
	struct stat st;
	size_t n = 0;

	if (!list || fd < 0 || fstat(fd, &st))
		return;
	unknown.ino = st.st_ino;
	list[n++] = &unknown;
	LIST_FOREACH(d, &w->dgrams, entry)
	{
		if (!d->ino)
			continue;
		d->refs = UINT_MAX;
		list[n++] = d;
	}
	qsort(list, n, sizeof(*list), compare);
	count_references(list, n);
	for (size_t i = 0; i < n; i++)
		if (list[i] != &unknown && list[i]->refs <= unknown.refs)
			session_other_end_closed(list[i]->session);
}

static void scan_in(struct worker *w, unsigned ms)
{
	w->dgrams_ms = MAX(ms, w->dgrams_least_ms);
	timer_start(&w->events, &w->dgrams_timer, w->dgrams_ms);
}

static int64_t cpu_time_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

static void on_scan(struct timer *t)
{
	struct worker *w = CONTAINER_OF(t, struct worker, dgrams_timer);
	int64_t began = cpu_time_us();

	if (!count_clients(w))
		return;
	scan(w);
	w->dgrams_least_ms = (unsigned)((cpu_time_us() - began) * SCAN_SHARE / 1000);
	scan_in(w, MIN(2 * w->dgrams_ms, SCAN_LAST_MS));
}

void dgrams_init(struct worker *w)
{
	LIST_INIT(&w->dgrams);
	timer_init(&w->dgrams_timer, on_scan);
}

/* The socket's name; Return: its length, PATH_OFFSET at most when it has none. */
static socklen_t get_name(int fd, struct sockaddr_un *sa)
{
	socklen_t len = sizeof(*sa);

	*sa = (struct sockaddr_un){ 0 };
	return getsockname(fd, (struct sockaddr *)sa, &len) ? 0 : MIN(len, sizeof(*sa));
}

uint16_t dgram_flags(int client)
{
	struct sockaddr_un sa;
	int passcred = 0;
	socklen_t len = sizeof(passcred);

	if (get_name(client, &sa) > PATH_OFFSET)
		return sa.sun_path[0] ? WIRE_OPEN_PATH : WIRE_OPEN_ABSTRACT;
	/* Such a one is given a name when it is connected (unix(7)). */
	return !getsockopt(client, SOL_SOCKET, SO_PASSCRED, &passcred, &len) && passcred
		       ? WIRE_OPEN_ABSTRACT
		       : 0;
}

static int connect_to(int fd, const struct sockaddr_un *to, socklen_t len)
{
	return connect(fd, (const struct sockaddr *)to, len) ? -errno : 0;
}

/* A socket, as far as can be told without waiting for its file system. */
static bool is_socket(int path)
{
	struct statx st;

	return !statx(path, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC, STATX_TYPE, &st) &&
	       S_ISSOCK(st.stx_mode);
}

int dgram_pair_begin(struct dgram_pair *p, struct worker *w, int client, int path, const char *name,
		     size_t len)
{
	int err;

	*p = (struct dgram_pair){ .path = path };
	p->fd = alias_datagrams(w, name, len, &p->at);
	err = p->fd < 0 ? p->fd : connect_to(client, &p->at, sizeof(p->at));
	if (err) {
		dgram_pair_drop(p);
		return err;
	}
	p->name_len = get_name(client, &p->name);
	if (p->path >= 0 &&
	    (p->name_len <= PATH_OFFSET || !p->name.sun_path[0] || !is_socket(p->path))) {
		aside_close(p->path);
		p->path = -1;
	}
	return 0;
}

void dgram_pair_back(struct dgram_pair *p)
{
	int err = -ENOENT;

	if (p->path >= 0)
		err = connector_connect_inode(p->fd, p->path);
	else if (p->name_len > PATH_OFFSET && !p->name.sun_path[0])
		err = connect_to(p->fd, &p->name, p->name_len);
	p->answers = !err;
	if (err != -ENOENT)
		log_debug("a client's socket is answered: %s", strerror(-err));
}

void dgram_pair_drop(struct dgram_pair *p)
{
	if (p->fd >= 0)
		unlink(p->at.sun_path);
	close_keep_errno(p->fd);
	aside_close(p->path);
}

/* Ours is connected to the client's socket if that may be connected to ours, too (else EPERM). */
static void verify(struct dgram_pair *p, int client)
{
	static const struct sockaddr nobody = { .sa_family = AF_UNSPEC };
	int err = connect_to(client, &p->at, sizeof(p->at));

	if (!err)
		return;
	log_debug("a client's socket is not answered: %s", strerror(-err));
	p->answers = false;
	connect(p->fd, &nobody, sizeof(nobody));
}

int dgram_pair_end(struct dgram_pair *p, int client, struct session *s)
{
	struct dgram *d = dgram_new(s, p->fd);
	struct worker *w = s->worker;
	struct stat st;
	int fd;

	if (!d || fstat(p->fd, &st)) {
		if (d)
			dgram_end(s);
		dgram_pair_drop(p);
		return -ENOMEM;
	}
	if (p->answers)
		verify(p, client);
	d->ino = st.st_ino;
	d->answers = p->answers;
	fd = take_fd(&p->fd);
	unlink(p->at.sun_path);
	aside_close(p->path);
	if (w->dgrams_ms > MAX(SCAN_FIRST_MS, w->dgrams_least_ms) ||
	    !timer_pending(&w->dgrams_timer))
		scan_in(w, SCAN_FIRST_MS);
	return fd;
}

/* ---- sending -------------------------------------------------------------------------------- */

/* An ECONNRESET that the other end has left, once, when it disconnected from ours says nothing of
 * this datagram. */
static ssize_t send_to(int fd, const void *data, size_t len, const struct fdset *set,
		       const struct ucred *as)
{
	ssize_t n = fd_sendmsg(fd, data, len, MSG_DONTWAIT, set, as);

	return n == -ECONNRESET ? fd_sendmsg(fd, data, len, MSG_DONTWAIT, set, as) : n;
}

/* What is the machine's state rather than the other end's: it passes, and no event tells when. */
static bool is_passing(ssize_t error)
{
	return error == -ENOBUFS || error == -ENOMEM || error == -ETOOMANYREFS;
}

static void on_retry(struct timer *t)
{
	struct dgram *d = CONTAINER_OF(t, struct dgram, retry);

	d->session->writable = true;
	session_pump(d->session);
}

/* ---- the server's side ----------------------------------------------------------------------- */

int dgram_server(struct session *s, int fd, uint16_t flags)
{
	struct dgram *d = dgram_new(s, fd);

	if (!d) {
		if (flags & WIRE_OPEN_PATH)
			connector_remove_name(fd);
		close_keep_errno(fd);
		return -ENOMEM;
	}
	d->flags = flags;
	if (!(flags & WIRE_OPEN_ONE))
		timer_start(&s->worker->events, &d->timer, PROBE_MS);
	return fd;
}

static void on_timer(struct timer *t)
{
	struct dgram *d = CONTAINER_OF(t, struct dgram, timer);

	if (d->flags & WIRE_OPEN_ONE)
		session_abort(d->session, EAGAIN, "the server's queue stays full");
	else if (netlink_peer_closed(d->fd) == 1)
		session_other_end_closed(d->session);
	else
		timer_start(&d->session->worker->events, t, PROBE_MS);
}

/* The answer of the one datagram's session. */
static ssize_t sent_once(struct dgram *d, ssize_t n, size_t len)
{
	if (n == -EAGAIN && !(d->flags & WIRE_OPEN_NOWAIT)) {
		if (!timer_pending(&d->timer))
			timer_start(&d->session->worker->events, &d->timer, DGRAM_WAIT_MS);
		return n;
	}
	timer_stop(&d->session->worker->events, &d->timer);
	if (n < 0)
		session_abort(d->session, (int)-n,
			      "the server's socket does not take it"); /* frees @d */
	return (ssize_t)len;
}

ssize_t dgram_write(struct session *s, const void *data, size_t len)
{
	struct dgram *d = s->dgram;
	ssize_t n;

	if (!d) /* a passed socket */
		return send_to(s->fd, data, len, s->arriving, NULL);
	if (d->ino && !d->answers)
		return (ssize_t)len;
	n = send_to(d->fd, data, len, s->arriving, s->explicit ? &s->credentials : NULL);
	if (is_passing(n)) {
		timer_start(&s->worker->events, &d->retry, RETRY_MS);
		n = -EAGAIN;
	}
	if (d->flags & WIRE_OPEN_ONE)
		return sent_once(d, n, len);
	if (n >= 0 || n == -EAGAIN)
		return n < 0 ? n : (ssize_t)len;
	/* An answer that the client does not take is lost. A server that takes none, whatever the
	 * reason, is of no use any more. */
	return n == -ECONNREFUSED || !d->ino ? -ECONNREFUSED : (ssize_t)len;
}
