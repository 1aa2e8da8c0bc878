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
 * is connected to that name, and then a random datagram is sent from the client's own socket to
 * ours: a connected one receives from its peer alone, so when it arrives, the name was the
 * client's. Until then nothing is written there.
 *
 * The server's side. Another socket that is connected to the server's name is refused
 * (ECONNREFUSED) when the server has its own no more, and notices nothing when it has. That is
 * tried each second.
 */
#include "dgram.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "connector.h"
#include "util.h"

#define SCAN_FIRST_MS 250  /* between looks for those that have left, */
#define SCAN_LAST_MS 5000  /* doubled up to this */
#define PROBE_MS 1000	   /* between looks whether the server is there */
#define DGRAM_WAIT_MS 5000 /* for the server to make room for the one datagram */

#define PATH_OFFSET offsetof(struct sockaddr_un, sun_path)

struct dgram {
	LIST_ENTRY(dgram) entry;
	struct session *session;
	int fd;		/* the session's local end */
	uint16_t flags; /* enum wire_dgram_flags, at the server's side */
	struct event timer;

	int server;    /* O_PATH of its name, -1: it is abstract, and fd's peer name */
	ino_t ino;     /* of the client's side's fd; 0 at the server's side */
	unsigned refs; /* to it, when last looked at */
	bool answers;  /* the client's socket may be written to, as far as is known */
	bool asked;    /* whether it is the client's: `question` is under way */
	struct frame_id question;
};

static void on_timer(evutil_socket_t fd, short what, void *arg);

static struct dgram *dgram_new(struct session *s, int fd)
{
	struct dgram *d = calloc(1, sizeof(*d));

	if (!d)
		return NULL;
	d->session = s;
	d->fd = fd;
	d->server = -1;
	event_assign(&d->timer, s->worker->base, -1, 0, on_timer, d);
	LIST_INSERT_HEAD(&s->worker->dgrams, d, entry);
	s->dgram = d;
	return d;
}

void dgram_end(struct session *s)
{
	struct dgram *d = s->dgram;

	s->dgram = NULL;
	LIST_REMOVE(d, entry);
	event_del(&d->timer);
	if (d->flags & WIRE_OPEN_PATH)
		connector_remove_name(d->fd);
	close_keep_errno(d->server);
	free(d);
}

/* The other end was closed. What is still queued is read, and then it is the end. */
static void note_gone(struct session *s)
{
	s->gone = s->readable = true;
	if (s->transport)
		event_active(&s->transport->event, 0, 0); /* to be pumped */
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
			note_gone(list[i]->session);
}

static void scan_in(struct worker *w, unsigned ms)
{
	struct timeval tv = { .tv_sec = ms / 1000, .tv_usec = (suseconds_t)(ms % 1000) * 1000 };

	w->dgrams_ms = ms;
	event_add(&w->dgrams_event, &tv);
}

static void on_scan(evutil_socket_t fd, short what, void *arg)
{
	struct worker *w = arg;

	(void)fd;
	(void)what;
	if (!count_clients(w))
		return;
	scan(w);
	scan_in(w, MIN(2 * w->dgrams_ms, SCAN_LAST_MS));
}

void dgrams_init(struct worker *w)
{
	LIST_INIT(&w->dgrams);
	event_assign(&w->dgrams_event, w->base, -1, 0, on_scan, w);
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

static int connect_back(int fd, int client, int path)
{
	struct sockaddr_un sa;
	socklen_t len = get_name(client, &sa);

	if (len <= PATH_OFFSET || (sa.sun_path[0] && path < 0))
		return -ENOENT;
	if (sa.sun_path[0]) {
		snprintf(sa.sun_path, sizeof(sa.sun_path), "/proc/self/fd/%d", path);
		len = sizeof(sa);
	}
	return connect(fd, (struct sockaddr *)&sa, len) ? -errno : 0;
}

/* Is it the client's socket that our one is connected to? The answer is read later. Somebody else's
 * does not let the client's send (EPERM). */
static int ask_client(struct dgram *d, int client, const struct ucred *who)
{
	struct ucred as = { .pid = getpid(), .uid = who->uid, .gid = who->gid };
	ssize_t n;

	worker_random_id(&d->question);
	n = fd_sendmsg(client, &d->question, sizeof(d->question), MSG_DONTWAIT, NULL, &as);
	d->asked = n > 0;
	return n < 0 ? (int)n : 0;
}

int dgram_client(struct session *s, int fd, int client, int path, const struct ucred *who)
{
	static const struct sockaddr nobody = { .sa_family = AF_UNSPEC };
	struct dgram *d = dgram_new(s, fd);
	struct stat st;
	int err;

	if (!d || fstat(fd, &st))
		return -ENOMEM;
	d->ino = st.st_ino;
	err = connect_back(fd, client, path);
	if (!err)
		err = ask_client(d, client, who);
	d->answers = !err;
	if (err)
		connect(fd, &nobody, sizeof(nobody));
	if (err != -ENOENT)
		log_debug("a client's socket is answered: %s", strerror(-err));
	if (s->worker->dgrams_ms > SCAN_FIRST_MS ||
	    !event_pending(&s->worker->dgrams_event, EV_TIMEOUT, NULL))
		scan_in(s->worker, SCAN_FIRST_MS);
	return 0;
}

bool dgram_is_ours(struct session *s, const void *data, size_t len)
{
	struct dgram *d = s->dgram;

	if (!d->asked || len != sizeof(d->question) || memcmp(data, &d->question, len))
		return false;
	d->asked = false;
	s->writable = true;
	return true;
}

static ssize_t write_answer(struct dgram *d, const void *data, size_t len, const struct fdset *set)
{
	ssize_t n;

	if (d->asked)
		return -EAGAIN;
	n = d->answers ? fd_sendmsg(d->fd, data, len, MSG_DONTWAIT, set, NULL) : 0;
	return n == -EAGAIN || n == -ECONNREFUSED ? n : (ssize_t)len;
}

/* ---- the server's side ----------------------------------------------------------------------- */

static void arm(struct dgram *d, unsigned ms)
{
	struct timeval tv = { .tv_sec = ms / 1000, .tv_usec = (suseconds_t)(ms % 1000) * 1000 };

	event_add(&d->timer, &tv);
}

int dgram_server(struct session *s, int fd, int server, uint16_t flags)
{
	struct dgram *d = dgram_new(s, fd);

	if (!d) {
		if (flags & WIRE_OPEN_PATH)
			connector_remove_name(fd);
		close_keep_errno(server);
		close_keep_errno(fd);
		return -ENOMEM;
	}
	d->server = server;
	d->flags = flags;
	if (!(flags & WIRE_OPEN_ONE))
		arm(d, PROBE_MS);
	return fd;
}

static bool server_is_there(const struct dgram *d)
{
	_cleanup_close_ int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	socklen_t len = sizeof(sa);

	if (d->server >= 0)
		snprintf(sa.sun_path, sizeof(sa.sun_path), "/proc/self/fd/%d", d->server);
	else if (getpeername(d->fd, (struct sockaddr *)&sa, &len))
		return false;
	return fd < 0 || !connect(fd, (struct sockaddr *)&sa, len) || errno != ECONNREFUSED;
}

static void on_timer(evutil_socket_t fd, short what, void *arg)
{
	struct dgram *d = arg;
	struct session *s = d->session;

	(void)fd;
	(void)what;
	if (d->flags & WIRE_OPEN_ONE)
		session_abort(s, EAGAIN, "the server's queue stays full");
	else if (server_is_there(d))
		arm(d, PROBE_MS);
	else
		note_gone(s);
}

static ssize_t write_request(struct dgram *d, const void *data, size_t len, const struct fdset *set)
{
	struct session *s = d->session;
	ssize_t n = fd_sendmsg(d->fd, data, len, MSG_DONTWAIT, set,
			       s->explicit ? &s->credentials : NULL);

	if (n == -EAGAIN && !(d->flags & WIRE_OPEN_NOWAIT)) {
		if (d->flags & WIRE_OPEN_ONE && !event_pending(&d->timer, EV_TIMEOUT, NULL))
			arm(d, DGRAM_WAIT_MS);
		return n;
	}
	if (n >= 0)
		return (ssize_t)len;
	/* Whatever it is, the connection is of no use any more. */
	if (!(d->flags & WIRE_OPEN_ONE))
		return -ECONNREFUSED;
	session_abort(s, (int)-n, "the server's socket does not take it"); /* frees @d */
	return (ssize_t)len;
}

ssize_t dgram_write(struct session *s, const void *data, size_t len)
{
	struct dgram *d = s->dgram;

	return d->ino ? write_answer(d, data, len, s->arriving)
		      : write_request(d, data, len, s->arriving);
}
