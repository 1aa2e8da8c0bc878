/* SPDX-License-Identifier: Apache-2.0 */
#include "client.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "aside.h"
#include "canon.h"
#include "daemon.h"
#include "fdmap.h"
#include "fdpass.h"
#include "peercred.h"
#include "proxyreq.h"
#include "rules.h"
#include "session.h"
#include "util.h"

#define REQUEST_SECONDS 10 /* to ask, and to come to the one-time address */

struct client {
	LIST_ENTRY(client) entry;
	struct worker *worker;
	struct grave grave;
	int fd; /* the private connection */
	struct event event;
	bool control;
	bool asked;
	struct ucred who;
	struct session *session;
	int once_fd; /* listening at the one-time address, or -1 */
	struct event once_event;
	struct sockaddr_un once;
	int socktype;
};

static void on_client(evutil_socket_t fd, short what, void *arg);
static void on_once(evutil_socket_t fd, short what, void *arg);

static void client_free(struct grave *g)
{
	free((struct client *)((char *)g - offsetof(struct client, grave)));
}

static void client_end(struct client *c)
{
	LIST_REMOVE(c, entry);
	event_del(&c->event);
	close(c->fd);
	if (c->once_fd >= 0) {
		event_del(&c->once_event);
		close(c->once_fd);
		unlink(c->once.sun_path);
	}
	worker_bury(c->worker, &c->grave);
}

static struct client *client_new(struct worker *w, int fd, bool control)
{
	static const struct timeval limit = { .tv_sec = REQUEST_SECONDS };
	struct client *c = calloc(1, sizeof(*c));
	socklen_t len = sizeof(c->who);

	if (!c || getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &c->who, &len)) {
		free(c);
		close(fd);
		return NULL;
	}
	c->worker = w;
	c->grave.free = client_free;
	c->fd = fd;
	c->once_fd = -1;
	c->control = control;
	event_assign(&c->event, w->base, fd, EV_READ | EV_PERSIST, on_client, c);
	event_add(&c->event, &limit);
	LIST_INSERT_HEAD(&w->clients, c, entry);
	return c;
}

/* The request has nearly always come with the connection: look at once. */
void client_accept(struct worker *w, int fd)
{
	struct client *c = client_new(w, fd, false);

	if (c)
		on_client(fd, EV_READ, c);
}

void client_accept_control(struct worker *w, int fd)
{
	struct client *c = client_new(w, fd, true);

	if (c)
		on_client(fd, EV_READ, c);
}

void client_end_all(struct worker *w)
{
	struct client *c;

	while ((c = LIST_FIRST(&w->clients)))
		client_end(c);
}

static void send_reply(struct client *c, const struct proxyreply *r)
{
	uint8_t packet[PROXYREQ_MAX];
	size_t n = proxyreply_encode(r, packet, sizeof(packet));
	ssize_t sent = fd_sendmsg(c->fd, packet, n, MSG_DONTWAIT, NULL, NULL);

	if (sent < 0 && sent != -EPIPE)
		log_debug("a client was not answered: %s", strerror((int)-sent));
}

void client_refuse(struct client *c, int error, const char *reason)
{
	struct proxyreply r = { .error = error };

	snprintf(r.reason, sizeof(r.reason), "%s", reason);
	c->session = NULL;
	if (c->once_fd < 0)
		send_reply(c, &r);
	client_end(c);
}

/* ---- connecting -------------------------------------------------------------------------- */

static int make_once(struct client *c)
{
	struct daemon *d = c->worker->daemon;
	struct frame_id id;
	char hex[WIRE_ID_SIZE * 2 + 1];
	int fd;

	worker_random_id(&id);
	for (size_t i = 0; i < sizeof(id.bytes); i++)
		snprintf(hex + 2 * i, 3, "%02x", id.bytes[i]);
	c->once.sun_family = AF_UNIX;
	snprintf(c->once.sun_path, sizeof(c->once.sun_path), "%s/once/%s", d->config.runtime_dir, hex);
	fd = socket(AF_UNIX, c->socktype | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -errno;
	/* Its name is secret, and who comes is checked; the client may be anybody. The process's
	 * umask lets everybody write to what it makes. */
	if (!bind(fd, (struct sockaddr *)&c->once, sizeof(c->once))) {
		if (!listen(fd, 1))
			return fd;
		unlink(c->once.sun_path);
	}
	close_keep_errno(fd);
	return -errno;
}

void client_offer(struct client *c)
{
	static const struct timeval limit = { .tv_sec = REQUEST_SECONDS };
	struct proxyreply r = { 0 };

	c->once_fd = make_once(c);
	if (c->once_fd < 0) {
		int error = -c->once_fd;
		struct session *s = c->session;

		c->once_fd = -1;
		log_error("cannot make a one-time socket: %s", strerror(error));
		client_refuse(c, error, "udsproxyd cannot make a one-time socket");
		session_client_gone(s);
		return;
	}
	event_assign(&c->once_event, c->worker->base, c->once_fd, EV_READ | EV_PERSIST, on_once, c);
	event_add(&c->once_event, &limit);
	r.name_len = strlen(c->once.sun_path);
	memcpy(r.name, c->once.sun_path, r.name_len);
	send_reply(c, &r);
}

static bool is_same_process(const struct client *c, int fd)
{
	struct ucred who;
	socklen_t len = sizeof(who);

	return !getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &len) && who.pid == c->who.pid &&
	       who.uid == c->who.uid;
}

/* The client's connection to its one-time address, if it is there: then @c has done its work. */
static bool take_connection(struct client *c)
{
	_cleanup_close_ int fd = accept4(c->once_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	struct session *s = c->session;

	if (fd < 0)
		return false;
	if (!is_same_process(c, fd)) {
		log_warning("a stranger came to a one-time socket");
		return false;
	}
	client_end(c);
	session_client_connected(s, take_fd(&fd));
	return true;
}

static void on_once(evutil_socket_t listening, short what, void *arg)
{
	struct client *c = arg;
	struct session *s = c->session;

	(void)listening;
	if (!(what & EV_TIMEOUT)) {
		take_connection(c);
		return;
	}
	client_end(c);
	session_client_gone(s);
}

static void connect_peer(struct client *c, const struct proxyreq *q)
{
	struct daemon *d = c->worker->daemon;
	char reason[PROXYREQ_REASON_MAX];
	struct frame_open o = {
		.target = WIRE_TARGET_NAME,
		.socktype = canon_socktype(q->socktype),
		.name = q->name,
		.name_len = q->name_len,
	};

	if (o.socktype != WIRE_STREAM && o.socktype != WIRE_SEQPACKET) {
		client_refuse(c, EPROTONOSUPPORT, "only stream and seqpacket sockets are carried");
		return;
	}
	if (peercred_get(c->fd, &o.credentials)) {
		client_refuse(c, EACCES, "it cannot be told who asks");
		return;
	}
	if (!daemon_may_connect(d, q->name, q->name_len, &o.credentials)) {
		client_refuse(c, EPERM, "no udsconnect rule allows it");
		return;
	}
	c->socktype = q->socktype;
	worker_random_id(&o.id);
	c->session = session_open(c->worker, &o, session_local_of(o.socktype), c, NULL, -1);
	if (!c->session) {
		snprintf(reason, sizeof(reason), "the peer's udsproxyd (%s) is not reachable: %s",
			 d->config.peer.text, strerror(errno));
		client_refuse(c, ECONNREFUSED, reason);
	}
}

/* ---- requests ---------------------------------------------------------------------------- */

static void crosses(struct client *c, struct fdset *set)
{
	char reason[FDMAP_REASON_MAX] = "";
	int err = set->n == 1 ? fdmap_crosses(c->worker->daemon, set->fd[0], reason) : -EINVAL;

	if (set->n == 1)
		aside_close(fdset_take(set, 0));
	client_refuse(c, -err, reason);
}

static void reload(struct client *c)
{
	char reason[PROXYREQ_REASON_MAX] = "";
	int err = daemon_load_rules(c->worker->daemon, reason, sizeof(reason));

	client_refuse(c, -err, reason);
}

static void handle(struct client *c, const struct proxyreq *q, struct fdset *set)
{
	if (q->op == PROXYREQ_CONNECT && !c->control && q->name_len)
		connect_peer(c, q);
	else if (q->op == PROXYREQ_CROSSES && !c->control)
		crosses(c, set);
	else if (q->op == PROXYREQ_RELOAD && c->control)
		reload(c);
	else
		client_refuse(c, EOPNOTSUPP, "there is no such request");
}

/* Its one packet, its end, or its limit. */
static void on_client(evutil_socket_t fd, short what, void *arg)
{
	struct client *c = arg;
	struct session *s = c->session;
	uint8_t packet[PROXYREQ_MAX];
	struct proxyreq q;
	struct fdset set;
	ssize_t n;
	int err;

	if (what & EV_TIMEOUT) {
		if (!c->asked)
			client_end(c);
		return;
	}
	n = fd_recvmsg(fd, packet, sizeof(packet), MSG_DONTWAIT, &set);
	if (n == -EAGAIN)
		return;
	if (n <= 0) {
		aside_close_set(&set);
		/* It closes this as soon as it is connected: then that is what has to be seen. */
		if (c->once_fd >= 0 && take_connection(c))
			return;
		client_end(c);
		if (s)
			session_client_gone(s);
		return;
	}
	if (c->asked) {
		aside_close_set(&set);
		return;
	}
	c->asked = true;
	err = proxyreq_decode(&q, packet, (size_t)n);
	if (err)
		client_refuse(c, -err, "the request is malformed, or of another version");
	else
		handle(c, &q, &set);
	aside_close_set(&set);
}
