/* SPDX-License-Identifier: Apache-2.0 */
#include "client.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>

#include "alias.h"
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

#define REQUEST_SECONDS 10 /* to ask */

struct client {
	LIST_ENTRY(client) entry;
	struct worker *worker;
	struct grave grave;
	int fd; /* the private connection */
	struct event event;
	bool control;
	struct session *session; /* since it has asked, for as long as nothing is settled */
	int socket;		 /* its own, to be connected; or -1 */
	int socktype;
	size_t name_len;
	char name[WIRE_NAME_MAX];
};

static void on_client(evutil_socket_t fd, short what, void *arg);

static void client_free(struct grave *g)
{
	free((struct client *)((char *)g - offsetof(struct client, grave)));
}

static void client_end(struct client *c)
{
	LIST_REMOVE(c, entry);
	event_del(&c->event);
	close(c->fd);
	close_keep_errno(c->socket);
	worker_bury(c->worker, &c->grave);
}

static struct client *client_new(struct worker *w, int fd, bool control)
{
	static const struct timeval limit = { .tv_sec = REQUEST_SECONDS };
	struct client *c = calloc(1, sizeof(*c));

	if (!c) {
		close(fd);
		return NULL;
	}
	c->worker = w;
	c->grave.free = client_free;
	c->fd = fd;
	c->socket = -1;
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

static void answer(struct client *c, int error, const char *reason)
{
	struct proxyreply r = { .error = error };
	uint8_t packet[PROXYREQ_MAX];
	ssize_t sent;

	snprintf(r.reason, sizeof(r.reason), "%s", reason);
	sent = fd_sendmsg(c->fd, packet, proxyreply_encode(&r, packet, sizeof(packet)), MSG_DONTWAIT,
			  NULL, NULL);
	if (sent < 0 && sent != -EPIPE)
		log_debug("a client was not answered: %s", strerror((int)-sent));
	client_end(c);
}

void client_refuse(struct client *c, int error, const char *reason)
{
	answer(c, error, reason);
}

/* ---- connecting -------------------------------------------------------------------------- */

/* One that waits no longer must not find its socket connected. */
static bool has_left(const struct client *c)
{
	struct pollfd p = { .fd = c->fd, .events = POLLRDHUP };

	return poll(&p, 1, 0) > 0 && p.revents & (POLLRDHUP | POLLHUP | POLLERR);
}

void client_offer(struct client *c)
{
	struct session *s = c->session;
	int fd = has_left(c) ? -ECANCELED
			     : alias_connect(c->worker, c->socket, c->socktype, c->name, c->name_len);

	if (fd < 0) {
		answer(c, -fd, "the program's socket cannot be connected");
		session_client_gone(s);
		return;
	}
	answer(c, 0, "");
	session_client_connected(s, fd);
}

/* Is it of a kind that is carried? Only then it is the client's @socket. */
static int take_socket(struct client *c, struct fdset *set)
{
	socklen_t len = sizeof(int);
	int domain;

	if (set->n != 1 || getsockopt(set->fd[0], SOL_SOCKET, SO_DOMAIN, &domain, &len) ||
	    domain != AF_UNIX || getsockopt(set->fd[0], SOL_SOCKET, SO_TYPE, &c->socktype, &len))
		return -EPROTO;
	c->socket = fdset_take(set, 0);
	return 0;
}

static void connect_peer(struct client *c, const struct proxyreq *q, struct fdset *set)
{
	struct daemon *d = c->worker->daemon;
	char reason[PROXYREQ_REASON_MAX];
	struct frame_open o = {
		.target = WIRE_TARGET_NAME,
		.name = q->name,
		.name_len = q->name_len,
	};

	if (take_socket(c, set)) {
		answer(c, EPROTO, "one UNIX socket has to come with the request");
		return;
	}
	o.socktype = canon_socktype(c->socktype);
	if (o.socktype != WIRE_STREAM && o.socktype != WIRE_SEQPACKET) {
		answer(c, EPROTONOSUPPORT, "only stream and seqpacket sockets are carried");
		return;
	}
	if (peercred_get(c->fd, &o.credentials)) {
		answer(c, EACCES, "it cannot be told who asks");
		return;
	}
	if (!daemon_may_connect(d, q->name, q->name_len, &o.credentials)) {
		answer(c, EPERM, "no udsconnect rule allows it");
		return;
	}
	c->name_len = q->name_len;
	memcpy(c->name, q->name, q->name_len);
	worker_random_id(&o.id);
	c->session = session_open(c->worker, &o, session_local_of(o.socktype), c, NULL, -1);
	if (!c->session) {
		snprintf(reason, sizeof(reason), "the peer's udsproxyd (%s) is not reachable: %s",
			 d->config.peer.text, strerror(errno));
		answer(c, ECONNREFUSED, reason);
	}
}

/* ---- requests ---------------------------------------------------------------------------- */

static void crosses(struct client *c, struct fdset *set)
{
	char reason[FDMAP_REASON_MAX] = "";
	int err = set->n == 1 ? fdmap_crosses(c->worker->daemon, set->fd[0], reason) : -EINVAL;

	if (set->n == 1)
		aside_close(fdset_take(set, 0));
	answer(c, -err, reason);
}

static void reload(struct client *c)
{
	char reason[PROXYREQ_REASON_MAX] = "";
	int err = daemon_load_rules(c->worker->daemon, reason, sizeof(reason));

	answer(c, -err, reason);
}

static void handle(struct client *c, const struct proxyreq *q, struct fdset *set)
{
	if (q->op == PROXYREQ_CONNECT && !c->control && q->name_len)
		connect_peer(c, q, set);
	else if (q->op == PROXYREQ_CROSSES && !c->control)
		crosses(c, set);
	else if (q->op == PROXYREQ_RELOAD && c->control)
		reload(c);
	else
		answer(c, EOPNOTSUPP, "there is no such request");
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
		if (!s)
			client_end(c);
		return;
	}
	n = fd_recvmsg(fd, packet, sizeof(packet), MSG_DONTWAIT, &set);
	if (n == -EAGAIN)
		return;
	if (n > 0 && !s) {
		err = proxyreq_decode(&q, packet, (size_t)n);
		if (err)
			answer(c, -err, "the request is malformed, or of another version");
		else
			handle(c, &q, &set);
	} else if (n <= 0) {
		client_end(c);
		if (s)
			session_client_gone(s);
	}
	aside_close_set(&set);
}
