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
#include "dgram.h"
#include "fdmap.h"
#include "fdpass.h"
#include "peercred.h"
#include "proxyreq.h"
#include "rules.h"
#include "session.h"
#include "util.h"

#define REQUEST_MS 10000 /* to ask, and to send what belongs to it */
#define UNWATCHED_MS 10	 /* most have their answer before that, and nobody has to look whether they leave */
#define DESCRIPTORS_LOST "descriptors were lost: too many are open"

enum client_state {
	CLIENT_ASKS,
	CLIENT_SENDS, /* its next packet is the datagram that it wants to be sent */
	CLIENT_WAITS, /* for the peer */
};

struct client {
	union {
		LIST_ENTRY(client) entry;
		struct grave grave;
	};
	struct worker *worker;
	int fd; /* the private connection */
	struct io io;
	struct timer timer; /* until it has asked; then, until it is watched */
	bool control;
	enum client_state state;
	struct session *session; /* WAITS */
	uint16_t flags;		 /* enum wire_dgram_flags */
	size_t name_len;
	char name[WIRE_NAME_MAX];

	int socket; /* its own, to be connected; or -1 */
	int path;   /* O_PATH of its name, if it is of datagrams and has one; or -1 */
	int socktype;

	struct pairing *pairing; /* while it and ours are being connected, or NULL */

	uint8_t *datagram; /* to be sent, and its descriptors */
	size_t size;
	struct fdset *set;
};

/* Its own name may be on a file system that has to be waited for (aside.h). */
struct pairing {
	struct client *client; /* NULL: it has left meanwhile */
	struct dgram_pair pair;
};

static void on_client(struct io *io, uint32_t events);
static void on_timer(struct timer *t);

static void client_free(struct grave *g)
{
	free(CONTAINER_OF(g, struct client, grave));
}

/* What is kept until the peer has answered counts like what is kept of a connection. */
static bool take_room(struct client *c, size_t size)
{
	struct stream_budget *b = &c->worker->daemon->budget;

	if (atomic_fetch_add(&b->used, size) + size <= b->limit)
		return true;
	atomic_fetch_sub(&b->used, size);
	return false;
}

static void drop_datagram(struct client *c)
{
	if (!c->set)
		return;
	atomic_fetch_sub(&c->worker->daemon->budget.used, c->size);
	aside_close_set(c->set);
	free(c->set);
	free(c->datagram);
	c->set = NULL;
	c->datagram = NULL;
}

static void client_end(struct client *c)
{
	LIST_REMOVE(c, entry);
	timer_stop(&c->worker->events, &c->timer);
	io_close(&c->worker->events, &c->io, take_fd(&c->fd));
	close_keep_errno(c->socket);
	aside_close(c->path);
	if (c->pairing)
		c->pairing->client = NULL;
	drop_datagram(c);
	worker_bury(c->worker, &c->grave, client_free);
}

static void leave(struct client *c)
{
	struct session *s = c->session;

	client_end(c);
	if (s)
		session_client_gone(s);
}

static struct client *client_new(struct worker *w, int fd, bool control)
{
	struct client *c = calloc(1, sizeof(*c));

	if (!c) {
		close(fd);
		return NULL;
	}
	c->worker = w;
	c->fd = fd;
	c->socket = c->path = -1;
	c->control = control;
	io_init(&c->io, on_client);
	timer_init(&c->timer, on_timer);
	timer_start(&w->events, &c->timer, REQUEST_MS);
	LIST_INSERT_HEAD(&w->clients, c, entry);
	return c;
}

static void watch(struct client *c)
{
	if (io_start(&c->worker->events, &c->io, c->fd, EPOLLIN))
		leave(c);
}

/* The request has nearly always come with the connection: look at once. */
static void begin(struct worker *w, int fd, bool control)
{
	struct client *c = client_new(w, fd, control);

	if (!c)
		return;
	on_client(&c->io, 0);
	if (c->fd < 0)
		return;
	if (c->state == CLIENT_WAITS)
		timer_start(&w->events, &c->timer, UNWATCHED_MS);
	else
		watch(c);
}

static void take_over(struct worker *w, void *arg)
{
	begin(w, (int)(intptr_t)arg, false);
	atomic_fetch_sub_explicit(&w->n_sessions, 1, memory_order_relaxed);
}

/* It counts from now on, or all that come meanwhile would be given to the same. Return: false and nothing happened. */
static bool give(struct worker *to, int fd)
{
	atomic_fetch_add_explicit(&to->n_sessions, 1, memory_order_relaxed);
	if (!worker_post(to, take_over, (void *)(intptr_t)fd))
		return true;
	atomic_fetch_sub_explicit(&to->n_sessions, 1, memory_order_relaxed);
	return false;
}

/* The kernel wakes whoever waits, whatever else each has. */
void client_accept(struct worker *w, int fd)
{
	struct worker *to = worker_less_busy(w);

	if (to == w || !give(to, fd))
		begin(w, fd, false);
}

void client_accept_control(struct worker *w, int fd)
{
	begin(w, fd, true);
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
	sent = fd_sendmsg(c->fd, packet, proxyreply_encode(&r, packet, sizeof(packet)),
			  MSG_DONTWAIT, NULL, NULL);
	if (sent < 0 && sent != -EPIPE)
		log_debug("a client was not answered: %s", strerror((int)-sent));
	client_end(c);
}

void client_refuse(struct client *c, int error, const char *reason)
{
	answer(c, error, reason);
}

void client_done(struct client *c)
{
	answer(c, 0, "");
}

static bool has_left(const struct client *c)
{
	struct pollfd p = { .fd = c->fd, .events = POLLRDHUP };

	return poll(&p, 1, 0) > 0 && p.revents & (POLLRDHUP | POLLHUP | POLLERR);
}

/* ---- the far side ------------------------------------------------------------------------ */

/* To the peer's socket that it has asked for. */
static void open_session(struct client *c, int socktype, uint16_t flags)
{
	struct daemon *d = c->worker->daemon;
	char reason[PROXYREQ_REASON_MAX];
	struct frame_open o = {
		.target = WIRE_TARGET_NAME,
		.socktype = canon_socktype(socktype),
		.flags = flags,
		.name = c->name,
		.name_len = c->name_len,
	};

	if (peercred_get(c->fd, &o.credentials)) {
		answer(c, EACCES, "it cannot be told who asks");
		return;
	}
	if (!daemon_may_connect(d, c->name, c->name_len, &o.credentials)) {
		answer(c, ENETUNREACH, "no udsconnect rule allows it");
		return;
	}
	worker_random_id(&o.id);
	c->state = CLIENT_WAITS;
	c->session = session_open(c->worker, &o, session_local_of(o.socktype), c, NULL, -1);
	if (!c->session) {
		snprintf(reason, sizeof(reason), "the peer's udsproxyd (%s) is not reachable: %s",
			 d->config.peer.text, strerror(errno));
		answer(c, ECONNREFUSED, reason);
	}
}

/* Its socket is connected to @fd (taken), or to nothing: a negative errno. */
static void socket_connected(struct client *c, int fd)
{
	struct session *s = c->session;

	if (fd < 0) {
		answer(c, -fd, "the program's socket cannot be connected");
		session_client_gone(s);
		return;
	}
	answer(c, 0, "");
	session_client_connected(s, fd);
}

static void connect_back(void *arg)
{
	struct pairing *p = arg;

	dgram_pair_back(&p->pair);
}

static void paired(struct worker *w, void *arg)
{
	struct pairing *p = arg;
	struct client *c = p->client;

	(void)w;
	if (c)
		c->pairing = NULL;
	if (c && !has_left(c)) {
		socket_connected(c, dgram_pair_end(&p->pair, c->socket, c->session));
	} else {
		dgram_pair_drop(&p->pair);
		if (c)
			leave(c);
	}
	free(p);
}

static void connect_datagrams(struct client *c)
{
	struct pairing *p = malloc(sizeof(*p));
	int err = -ENOMEM;

	if (p)
		err = dgram_pair_begin(&p->pair, c->worker, c->socket, take_fd(&c->path), c->name,
				       c->name_len);
	if (err) {
		free(p);
		socket_connected(c, err);
		return;
	}
	p->client = c;
	c->pairing = p;
	if (p->pair.path < 0) {
		connect_back(p);
		paired(c->worker, p);
		return;
	}
	err = aside_run(c->worker, connect_back, paired, p);
	if (!err)
		return;
	c->pairing = NULL;
	dgram_pair_drop(&p->pair);
	free(p);
	socket_connected(c, err);
}

void client_offer(struct client *c)
{
	struct session *s = c->session;

	/* It must not find its socket connected, nor may a datagram be sent that it takes for lost, and sends again. */
	if (has_left(c)) {
		leave(c);
	} else if (c->set) {
		session_send_once(s, c->datagram, c->size, c->set);
		drop_datagram(c);
	} else if (c->socktype == SOCK_DGRAM) {
		connect_datagrams(c);
	} else {
		socket_connected(
			c, alias_connect(c->worker, c->socket, c->socktype, c->name, c->name_len));
	}
}

/* ---- requests ---------------------------------------------------------------------------- */

/* The client's socket, of a kind that is carried. */
static int take_socket(struct client *c, struct fdset *set)
{
	socklen_t len = sizeof(int);
	int domain;

	if (!set->n || getsockopt(set->fd[0], SOL_SOCKET, SO_DOMAIN, &domain, &len) ||
	    domain != AF_UNIX || getsockopt(set->fd[0], SOL_SOCKET, SO_TYPE, &c->socktype, &len) ||
	    set->n > 1 + (c->socktype == SOCK_DGRAM))
		return -EPROTO;
	c->socket = fdset_take(set, 0);
	if (set->n > 1)
		c->path = fdset_take(set, 1);
	return 0;
}

static void connect_peer(struct client *c, struct fdset *set)
{
	if (take_socket(c, set))
		answer(c, EPROTO, "a UNIX socket has to come with the request");
	else
		open_session(c, c->socktype,
			     c->socktype == SOCK_DGRAM ? dgram_flags(c->socket) : 0);
}

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
	c->name_len = q->name_len;
	memcpy(c->name, q->name, q->name_len);
	if (q->op == PROXYREQ_CONNECT && !c->control && q->name_len) {
		connect_peer(c, set);
	} else if (q->op == PROXYREQ_SEND && !c->control && q->name_len) {
		c->flags = WIRE_OPEN_ONE | (q->flags & PROXYREQ_NOWAIT ? WIRE_OPEN_NOWAIT : 0);
		c->state = CLIENT_SENDS;
	} else if (q->op == PROXYREQ_CROSSES && !c->control) {
		crosses(c, set);
	} else if (q->op == PROXYREQ_RELOAD && c->control) {
		reload(c);
	} else {
		answer(c, EOPNOTSUPP, "there is no such request");
	}
}

static void take_request(struct client *c)
{
	uint8_t packet[PROXYREQ_MAX];
	struct proxyreq q;
	struct fdset set;
	ssize_t n = fd_recvmsg(c->fd, packet, sizeof(packet), MSG_DONTWAIT, &set);
	int err;

	if (n == -EAGAIN)
		return;
	if (n == -EPROTO) {
		answer(c, ENFILE, DESCRIPTORS_LOST);
	} else if (n <= 0) {
		client_end(c);
	} else {
		err = proxyreq_decode(&q, packet, (size_t)n);
		if (err)
			answer(c, -err, "the request is malformed, or of another version");
		else
			handle(c, &q, &set);
	}
	aside_close_set(&set);
}

static int keep_datagram(struct client *c, const void *data, size_t size, const struct fdset *set)
{
	if (!take_room(c, size))
		return -EAGAIN;
	c->datagram = malloc(size + 1); /* an empty one, too */
	c->set = malloc(sizeof(*set));
	c->size = size;
	if (!c->datagram || !c->set) {
		free(c->datagram);
		free(c->set);
		c->set = NULL;
		atomic_fetch_sub(&c->worker->daemon->budget.used, size);
		return -ENOMEM;
	}
	memcpy(c->datagram, data, size);
	*c->set = *set;
	return 0;
}

static void take_datagram(struct client *c)
{
	uint8_t data[STREAM_READ_MAX];
	struct fdset set;
	ssize_t n = fd_recvmsg(c->fd, data, sizeof(data), MSG_DONTWAIT | MSG_TRUNC, &set);
	int err;

	if (n == -EAGAIN)
		return;
	if (n > (ssize_t)sizeof(data)) {
		answer(c, EMSGSIZE, "a datagram is too large");
	} else if (n == -EPROTO) {
		answer(c, ENFILE, DESCRIPTORS_LOST);
	} else if (n < 0 || (!n && !set.n && has_left(c))) {
		client_end(c);
	} else {
		err = keep_datagram(c, data, (size_t)n, &set);
		if (!err) {
			open_session(c, SOCK_DGRAM, c->flags);
			return;
		}
		answer(c, -err,
		       err == -EAGAIN ? "too much is under way (--buffer-limit)" : "out of memory");
	}
	aside_close_set(&set);
}

/* Nothing more is expected of it, but that it may leave. */
static void take_leave(struct client *c)
{
	struct fdset set;
	uint8_t byte;
	ssize_t n = fd_recvmsg(c->fd, &byte, 1, MSG_DONTWAIT, &set);

	aside_close_set(&set);
	if (n <= 0 && n != -EAGAIN)
		leave(c);
}

static void on_client(struct io *io, uint32_t events)
{
	struct client *c = CONTAINER_OF(io, struct client, io);

	(void)events;
	switch (c->state) {
	case CLIENT_ASKS:
		take_request(c);
		/* What belongs to it has most likely come, too. */
		if (c->state == CLIENT_SENDS)
			take_datagram(c);
		return;
	case CLIENT_SENDS:
		take_datagram(c);
		return;
	case CLIENT_WAITS:
		take_leave(c);
		return;
	}
}

static void on_timer(struct timer *t)
{
	struct client *c = CONTAINER_OF(t, struct client, timer);

	if (c->state == CLIENT_WAITS && c->io.fd < 0)
		watch(c);
	else if (c->state != CLIENT_WAITS)
		client_end(c);
}
