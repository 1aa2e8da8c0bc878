/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 *
 * The socket is registered once, edge-triggered. An event sets `readable` and `writable`; a
 * read or write that says EAGAIN clears them, or a read of less than there was room for.
 * Everything else is done by turns of session_pump() (or of the control link), which call
 * transport_receive() and transport_flush() until neither gets anywhere.
 *
 * transport_receive() reads into the worker's buffer and feeds from there; only what was not
 * taken is copied to `in`. While `in` holds bytes, they are fed first, and the socket is read
 * again only to complete a frame that is incomplete there.
 */
#include "transport.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "canon.h"
#include "fdpass.h"
#include "hold.h"
#include "link.h"
#include "session.h"
#include "splice.h"
#include "util.h"

#define HELLO_MS 10000
#define POOL_MAX 256	  /* transports at rest for each worker; those beyond retire */
#define POOL_MIN 4	  /* what is kept of them when nothing needs them */
#define CLOGGED 65536	  /* bytes of answers that nobody takes */
#define RECEIVE_TURNS 4	  /* reads before others have their turn */
#define AHEAD_MAX (WIRE_WINDOW + 2 * WIRE_PAYLOAD_MAX) /* more than a peer that keeps to the window sends */
#define AHEAD_READ 65536
#define STUCK_MS 5	  /* that no ack comes, before what lies behind what the local end does not take is read */
#define FLUSH_PIECES 16	  /* of a writev(2) */
#define ABORT_MS 10000	  /* a peer that does not read may take to hear that a connection has ended */

static void on_event(struct io *io, uint32_t events);
static void on_timer(struct timer *t);
static int handle_idle(struct transport *t, const struct frame_header *h, const uint8_t *payload);
static int put_older_first(struct transport *t);
static int walk(struct transport *t, const uint8_t *data, size_t len);

/* ---- life --------------------------------------------------------------------------- */

static void transport_free(struct grave *g)
{
	struct transport *t = CONTAINER_OF(g, struct transport, grave);

	fifo_clear(&t->in);
	fifo_clear(&t->out);
	fifo_clear(&t->older);
	free(t);
}

static struct transport *transport_new(struct worker *w, int fd, bool dialled)
{
	struct transport *t = calloc(1, sizeof(*t));
	int err;

	if (!t) {
		close_keep_errno(fd);
		return NULL;
	}
	t->worker = w;
	t->fd = fd;
	t->dialled = dialled;
	io_init(&t->io, on_event);
	timer_init(&t->timer, on_timer);
	err = io_start(&w->events, &t->io, fd, EVENTS_EDGE);
	if (err) {
		close(fd);
		free(t);
		errno = -err;
		return NULL;
	}
	timer_start(&w->events, &t->timer, HELLO_MS);
	LIST_INSERT_HEAD(&w->transports, t, entry);
	log_debug("transport %d: %s", fd, dialled ? "dialled" : "accepted");
	return t;
}

static void send_hello(struct transport *t, uint16_t role)
{
	struct frame_hello hello = {
		.version = WIRE_VERSION,
		.role = role,
		.payload_max = WIRE_PAYLOAD_MAX,
		.instance = t->worker->daemon->instance,
	};
	uint8_t payload[64];
	struct buf b;

	buf_init(&b, payload, sizeof(payload));
	frame_put_hello(&b, &hello);
	transport_send(t, WIRE_HELLO, payload, b.pos);
}

static void leave_pool(struct transport *t)
{
	if (!t->in_pool)
		return;
	LIST_REMOVE(t, idle_entry);
	t->worker->n_idle--;
	t->worker->least_idle = MIN(t->worker->least_idle, t->worker->n_idle);
	t->in_pool = false;
}

static struct transport *dial_new(struct worker *w, uint16_t role)
{
	const struct config *c = &w->daemon->config;
	int fd = addr_connect(&c->peer, &c->addr);
	struct transport *t;

	if (fd < 0) {
		errno = -fd;
		return NULL;
	}
	t = transport_new(w, fd, true);
	if (t)
		send_hello(t, role);
	return t;
}

struct transport *transport_dial(struct worker *w, bool fresh)
{
	struct transport *t = LIST_FIRST(&w->idle);

	if (t && !fresh) {
		leave_pool(t);
		return t;
	}
	t = dial_new(w, WIRE_ROLE_DATA);
	if (t) {
		t->dialling = true;
		w->n_dialling++;
	}
	return t;
}

/* It is greeted, or given up. */
static void end_dialling(struct transport *t)
{
	if (!t->dialling)
		return;
	t->dialling = false;
	t->worker->n_dialling--;
	hold_next_turn(t->worker);
}

struct transport *transport_dial_control(struct worker *w, struct link *link)
{
	struct transport *t = dial_new(w, WIRE_ROLE_CONTROL);

	if (t)
		t->link = link;
	return t;
}

void transport_accept(struct worker *w, int fd)
{
	const struct config *c = &w->daemon->config;
	struct sockaddr_storage peer;
	socklen_t len = sizeof(peer);
	char host[ADDR_TEXT];
	struct transport *t;

	/* One that is gone already has no name any more. */
	if (getpeername(fd, (struct sockaddr *)&peer, &len)) {
		close(fd);
		return;
	}
	if (!addr_same_host(&c->peer, &peer)) {
		addr_host(&peer, host);
		log_warning("refused a connection from %s: the peer is %s", host, c->peer.text);
		close(fd);
		return;
	}
	addr_tune(&c->addr, fd);
	t = transport_new(w, fd, false);
	if (!t)
		return;
	t->writable = true;
	send_hello(t, WIRE_ROLE_DATA);
	transport_flush(t);
}

/* The accepting side closes first: then no port of ours lingers in TIME_WAIT. */
static void retire(struct transport *t)
{
	leave_pool(t);
	transport_send(t, WIRE_RETIRE, NULL, 0);
	transport_flush(t);
}

void transport_trim_pool(struct worker *w)
{
	for (unsigned n = w->least_idle; n > POOL_MIN; n--)
		retire(LIST_FIRST(&w->idle));
	w->least_idle = w->n_idle;
}

void transport_release(struct transport *t)
{
	struct worker *w = t->worker;

	t->session = NULL;
	t->pooled = true;
	t->stuck = t->bulk = false;
	/* What comes next may be there already, and makes no event any more. */
	if (t->fd >= 0 && t->readable)
		transport_again(t);
	if (!t->dialled || t->fd < 0)
		return;
	if (w->n_idle >= POOL_MAX) {
		retire(t);
		return;
	}
	LIST_INSERT_HEAD(&w->idle, t, idle_entry);
	w->n_idle++;
	t->in_pool = true;
	hold_next_turn(w);
}

void transport_close(struct transport *t)
{
	if (t->fd < 0)
		return;
	leave_pool(t);
	end_dialling(t);
	timer_stop(&t->worker->events, &t->timer);
	io_close(&t->worker->events, &t->io, take_fd(&t->fd));
	t->session = NULL;
	t->link = NULL;
	LIST_REMOVE(t, entry);
	worker_bury(t->worker, &t->grave, transport_free);
}

struct moved {
	int fd;
	struct frame_id peer_instance;
	struct frame_header h;
	size_t behind;
	uint8_t payload[]; /* and the bytes behind it */
};

/* What was read with the frame that moved it, an ABORT perhaps, comes before what is read now. */
static int take_behind(struct transport *t, const struct moved *m)
{
	const uint8_t *behind = m->payload + m->h.length;

	if (fifo_add(&t->in, behind, m->behind))
		return -ENOMEM;
	return walk(t, behind, m->behind) || put_older_first(t) ? -EPROTO : 0;
}

static void arrive(struct worker *w, void *arg)
{
	struct moved *m = arg;
	struct transport *t = transport_new(w, m->fd, false);

	if (t) {
		t->greeted = t->readable = t->writable = true;
		t->peer_instance = m->peer_instance;
		timer_stop(&w->events, &t->timer);
		w->behind = m->behind;
		if (handle_idle(t, &m->h, m->payload) || (t->fd >= 0 && take_behind(t, m)))
			transport_broken(t, EPROTO, "the peer broke the protocol");
		else
			transport_again(t);
	}
	free(m);
}

/* Ours is closed before theirs is used: who closes the last one only can rely on epoll to forget it (io_close()). */
int transport_move(struct transport *t, struct worker *to, const struct frame_header *h,
		   const uint8_t *payload)
{
	size_t behind = t->worker->behind;
	struct moved *m = malloc(sizeof(*m) + h->length + behind);

	if (!m)
		return -ENOMEM;
	m->fd = fcntl(t->fd, F_DUPFD_CLOEXEC, 0);
	if (m->fd < 0) {
		free(m);
		return -ENOMEM;
	}
	m->peer_instance = t->peer_instance;
	m->h = *h;
	m->behind = behind;
	memcpy(m->payload, payload, h->length + behind);
	log_debug("transport %d: worker %d has it", t->fd, to->number);
	io_stop(&t->worker->events, &t->io); /* or it would go on telling of what is open still */
	transport_close(t);
	if (worker_post(to, arrive, m)) { /* then it is as if it had broken */
		close(m->fd);
		free(m);
	}
	return 0;
}

void transport_again(struct transport *t)
{
	io_again(&t->worker->events, &t->io);
}

void transport_broken(struct transport *t, int error, const char *why)
{
	struct session *s = t->session;
	struct link *link = t->link;

	if (t->fd < 0)
		return;
	log_debug("transport %d: %s: %s", t->fd, why, strerror(error));
	if (s)
		session_transport_broken(s, error, why);
	else if (link)
		link_transport_broken(link, t, error, why);
	transport_close(t);
}

/* ---- sending ------------------------------------------------------------------------ */

/* Return: what the kernel took, 0 when it takes nothing now. What is wrong with the socket shows
 * when it is read. */
static size_t write_result(struct transport *t, ssize_t n)
{
	if (n >= 0)
		return (size_t)n;
	t->writable = false;
	if (n != -EAGAIN) {
		/* What the peer said last is read before it is given up. */
		t->error = (int)-n;
		t->readable = true;
		transport_again(t);
	}
	return 0;
}

static size_t kernel_write(struct transport *t, struct iovec *iov, int n, int flags)
{
	struct msghdr msg = { .msg_iov = iov, .msg_iovlen = (size_t)n };
	ssize_t sent;

	flags |= MSG_NOSIGNAL | MSG_DONTWAIT;
	if (n == 1)
		return write_result(t, fd_sendmsg(t->fd, iov->iov_base, iov->iov_len, flags, NULL, NULL));
	do
		sent = sendmsg(t->fd, &msg, flags);
	while (sent < 0 && errno == EINTR);
	return write_result(t, sent < 0 ? -errno : sent);
}

void transport_send(struct transport *t, uint8_t type, const void *payload, size_t size)
{
	struct frame_header h = { .type = type, .length = (uint32_t)size };
	uint8_t head[WIRE_HEADER];

	if (t->fd < 0)
		return;
	if (type == WIRE_OPEN)
		h.count = worker_hint(t->worker);
	if (t->session)
		h.ack = stream_ack(&t->session->in);
	frame_put_header(head, &h);
	if (fifo_add(&t->out, head, sizeof(head)) || fifo_add(&t->out, payload, size))
		transport_broken(t, ENOMEM, "cannot queue");
}

/* What can be written at once: the rest of a counted frame, uncounted ones, more counted ones.
 * Return: the pieces; @before: bytes that come before the uncounted ones. */
static int pieces(const struct transport *t, struct iovec iov[FLUSH_PIECES], size_t *before)
{
	struct stream_out *out = t->session ? session_may_send(t->session) : NULL;
	size_t queued = fifo_len(&t->out);
	int n = 0;

	*before = 0;
	if (!queued)
		return out ? stream_unsent(out, iov, FLUSH_PIECES) : 0;
	if (out)
		*before = stream_frame_left(out);
	if (*before) {
		stream_unsent(out, iov, 1);
		if (iov->iov_len < *before) /* of its header; the rest lies outside */
			return 1;
		iov[n++].iov_len = *before;
	}
	iov[n++] = (struct iovec){ .iov_base = fifo_peek(&t->out), .iov_len = queued };
	if (out && !*before)
		n += stream_unsent(out, iov + n, FLUSH_PIECES - n);
	return n;
}

static void written(struct transport *t, size_t sent, size_t before)
{
	size_t first = MIN(sent, before);
	size_t queued = MIN(sent - first, fifo_len(&t->out));

	if (queued)
		fifo_skip(&t->out, queued);
	if (t->session && sent > queued)
		stream_sent(&t->session->out, sent - queued);
}

/* Return: bytes that went. */
static size_t send_some(struct transport *t)
{
	struct stream_out *out = t->session ? session_may_send(t->session) : NULL;
	struct iovec iov[FLUSH_PIECES];
	size_t before, sent;
	int n;

	if (!t->writable)
		return 0;
	if (out && stream_unsent_outside(out)) {
		sent = write_result(t, session_send_outside(t->session, t->fd));
		stream_sent(out, sent);
		return sent;
	}
	n = pieces(t, iov, &before);
	if (!n)
		return 0;
	sent = kernel_write(t, iov, n, out && (stream_ends_outside(out) || session_has_more(t->session)) ? MSG_MORE : 0);
	written(t, sent, before);
	return sent;
}

bool transport_flush(struct transport *t)
{
	bool any = false;

	while (t->fd >= 0 && send_some(t))
		any = true;
	if (t->doomed && t->fd >= 0 && !fifo_len(&t->out))
		shutdown(t->fd, SHUT_WR);
	return any;
}

/* What is left of a session's stream follows by itself, or what was begun of it at least. */
static int take_unsent(struct transport *t, const struct stream_out *out)
{
	struct iovec iov[FLUSH_PIECES];
	int n = stream_unsent(out, iov, FLUSH_PIECES);

	if (stream_frame_left(out))
		fifo_clear(&t->out); /* which must not come in between, and means nothing any more */
	for (int i = 0; i < n; i++)
		if (fifo_add(&t->out, iov[i].iov_base, iov[i].iov_len))
			return -ENOMEM;
	return 0;
}

void transport_abort(struct transport *t, int error, const char *why)
{
	struct stream_out *out = t->session ? session_may_send(t->session) : NULL;
	uint8_t payload[WIRE_REASON_MAX + 8];
	struct frame_opened o = {
		.error = canon_errno(error), .reason = why, .reason_len = strlen(why)
	};
	struct buf b;

	if (t->fd < 0)
		return;
	if (out && take_unsent(t, out)) {
		transport_close(t);
		return;
	}
	buf_init(&b, payload, sizeof(payload));
	frame_put_opened(&b, &o);
	transport_send(t, WIRE_ABORT, payload, b.pos);
	if (t->fd < 0)
		return;
	t->session = NULL;
	t->doomed = true;
	timer_start(&t->worker->events, &t->timer, ABORT_MS);
	transport_again(t);
	transport_flush(t);
}

/* ---- receiving ---------------------------------------------------------------------- */

static int handle_hello(struct transport *t, const struct frame_header *h, const uint8_t *payload)
{
	struct frame_hello hello;

	if (h->type != WIRE_HELLO || frame_get_hello(&hello, payload, h->length)) {
		log_warning("%s speaks another protocol", t->worker->daemon->config.peer.text);
		return -EPROTO;
	}
	if (hello.version != WIRE_VERSION) {
		log_error("%s runs protocol version %u, this udsproxyd %u: install the same on both sides",
			  t->worker->daemon->config.peer.text, hello.version, WIRE_VERSION);
		return -EPROTONOSUPPORT;
	}
	t->greeted = true;
	end_dialling(t);
	t->peer_instance = hello.instance;
	timer_stop(&t->worker->events, &t->timer);
	if (t->link)
		link_greeted(t->link, t);
	else if (!t->dialled && hello.role == WIRE_ROLE_CONTROL)
		link_accepted(t);
	if (t->session)
		session_greeted(t->session);
	return 0;
}

/* A frame on a data transport that carries nothing. */
static int handle_idle(struct transport *t, const struct frame_header *h, const uint8_t *payload)
{
	if (t->dialled)
		return -EPROTO;
	switch (h->type) {
	case WIRE_OPEN:
		return session_accept(t, h, payload);
	case WIRE_RESUME:
		return session_resume(t, h, payload);
	case WIRE_RETIRE:
		transport_close(t);
		return 0;
	}
	return -EPROTO;
}

/*
 * One frame that is there as a whole. Return: bytes that are done with, as of session_frame(), 0 when it cannot be
 * taken yet, or a negative errno.
 */
static ssize_t handle_frame(struct transport *t, const struct frame_header *h, const uint8_t *payload)
{
	int err;

	if (t->greeted && t->session)
		return session_frame(t->session, h, payload);
	if (!t->greeted)
		err = handle_hello(t, h, payload);
	else if (t->link)
		err = link_frame(t->link, t, h, payload);
	else
		err = handle_idle(t, h, payload);
	return err ? err : (ssize_t)(WIRE_HEADER + h->length);
}

/* The frame at the head of @data, or the piece of it that can be passed on: as handle_frame(). */
static ssize_t feed_one(struct transport *t, const uint8_t *data, size_t len)
{
	struct frame_header h;
	ssize_t n;

	if (t->data_left) {
		n = session_data(t->session, data, MIN(len, t->data_left));
		if (n > 0)
			t->data_left -= (uint32_t)n;
		return n;
	}
	t->wanted = WIRE_HEADER;
	if (len < t->wanted)
		return 0;
	if (frame_get_header(&h, data))
		return -EPROTO;
	if (t->session && session_passes_on(t->session, h.type)) {
		n = session_data_begins(t->session);
		t->data_left = n < 0 ? 0 : h.length;
		t->bulk = h.length >= SPLICE_MIN && session_can_splice(t->session, h.length);
		return n;
	}
	t->wanted = WIRE_HEADER + h.length;
	if (len < t->wanted)
		return 0;
	t->worker->behind = len - t->wanted;
	t->wanted = 0;
	n = handle_frame(t, &h, data + WIRE_HEADER);
	/* Of a MSG the first bytes went with the descriptors; the others are like DATA. */
	if (n > 0 && (size_t)n < WIRE_HEADER + h.length)
		t->data_left = (uint32_t)(WIRE_HEADER + h.length - (size_t)n);
	return n;
}

/* A peer that asks and does not listen to the answers is not listened to either. */
static bool is_clogged(const struct transport *t)
{
	return !t->session && fifo_len(&t->out) >= CLOGGED;
}

/* Does a session follow what is read? */
static bool is_walked(const struct transport *t)
{
	return t->session && session_walks(t->session);
}

static int walk(struct transport *t, const uint8_t *data, size_t len)
{
	return is_walked(t) ? stream_walk(&t->session->in, &t->session->out, data, len) : 0;
}

/* Hand out what can be: Return: bytes done with, or a negative errno. */
static ssize_t feed(struct transport *t, const uint8_t *data, size_t len)
{
	size_t used = 0;

	t->wanted = 0;
	/* A session that goes on here may have older bytes to be handed out first. */
	while (used < len && t->fd >= 0 && !t->doomed && !is_clogged(t) && !fifo_len(&t->older)) {
		bool walked = is_walked(t);
		ssize_t n = feed_one(t, data + used, len - used);

		if (n < 0)
			return n;
		if (!n)
			break;
		used += (size_t)n;
		if (walked || !is_walked(t))
			continue;
		if (walk(t, data + used, len - used))
			return -EPROTO;
		break; /* what the session has spliced comes before what is here */
	}
	return (ssize_t)used;
}

/* Why a recv(2) gave nothing: vsock's says end of file or ENOTCONN, and SO_ERROR the reason. */
static int reason_of(const struct transport *t, int error)
{
	int pending = 0;
	socklen_t len = sizeof(pending);

	if (getsockopt(t->fd, SOL_SOCKET, SO_ERROR, &pending, &len) || !pending)
		return error;
	return pending;
}

/* What a read gave: bytes; 0 nothing now; or a negative errno, -EPIPE for the end. */
static ssize_t read_result(struct transport *t, ssize_t n)
{
	if (n < 0 && errno == EAGAIN) {
		t->readable = false;
		return 0;
	}
	return n > 0 ? n : -reason_of(t, n ? errno : EPIPE);
}

/* Is a read that gives less than it may the last one? So of stream sockets (epoll(7)), but some machines' vsock
 * gives one packet at a time. */
static bool is_last(const struct transport *t)
{
	return !t->ending && !addr_is_vsock(&t->worker->daemon->config.addr);
}

static ssize_t kernel_read(struct transport *t, void *to, size_t len)
{
	ssize_t n;

	if (!t->readable)
		return 0;
	do
		n = recv(t->fd, to, len, MSG_DONTWAIT);
	while (n < 0 && errno == EINTR);
	n = read_result(t, n);
	if (n > 0 && (size_t)n < len && is_last(t))
		t->readable = false;
	return n > 0 && walk(t, to, (size_t)n) ? -EPROTO : n;
}

/* @len bytes behind those of `in`. */
static ssize_t read_more(struct transport *t, size_t len)
{
	uint8_t *room = fifo_reserve(&t->in, len);
	ssize_t n;

	if (!room)
		return -ENOMEM;
	n = kernel_read(t, room, len);
	if (n > 0)
		fifo_commit(&t->in, (size_t)n);
	return n;
}

/* Has no ack come for a while? Most do soon, and bytes that lie here cost more. But once some do, it goes on. */
static bool is_stuck(struct transport *t)
{
	if (!t->stuck && !timer_pending(&t->timer)) {
		t->acked_before = (uint32_t)t->session->out.acked;
		timer_start(&t->worker->events, &t->timer, STUCK_MS);
	}
	return t->stuck;
}

/* The local end takes nothing, but the session waits for acks, which may be behind what lies here, or has
 * to go on over another transport before the peer has waited too long. */
static ssize_t read_ahead(struct transport *t)
{
	if (t->doomed || !t->session || t->session->in.over || fifo_len(&t->in) >= AHEAD_MAX)
		return 0;
	if (!t->ending && (!session_needs_ack(t->session) || !is_stuck(t)))
		return 0;
	return read_more(t, AHEAD_READ);
}

/* The payload of a large frame, past this program's memory. */
static ssize_t splice_turn(struct transport *t)
{
	ssize_t n;

	if (!t->readable)
		return 0;
	n = session_splice(t->session, t->fd, t->data_left);
	if (n == -EBUSY) /* the local end takes nothing */
		return read_ahead(t);
	errno = n < 0 ? (int)-n : 0;
	n = read_result(t, n < 0 ? -1 : n);
	if (n > 0)
		t->data_left -= (uint32_t)n;
	return n;
}

/* What was sent before the transport broke comes before what is here. */
static int put_older_first(struct transport *t)
{
	if (!fifo_len(&t->older))
		return 0;
	if (fifo_add(&t->older, fifo_peek(&t->in), fifo_len(&t->in)))
		return -ENOMEM;
	fifo_clear(&t->in);
	t->in = t->older;
	t->older = (struct fifo){ 0 };
	t->wanted = 0;
	return 0;
}

static ssize_t feed_in(struct transport *t)
{
	ssize_t used = feed(t, fifo_peek(&t->in), fifo_len(&t->in));

	if (used < 0)
		return used;
	if (used)
		fifo_skip(&t->in, (size_t)used);
	t->stuck &= fifo_len(&t->in) > 0;
	return put_older_first(t) ? -ENOMEM : used;
}

static ssize_t read_and_feed(struct transport *t)
{
	struct worker *w = t->worker;
	/* As far as the next header, when what follows it is to be spliced. */
	size_t len = t->bulk ? t->data_left + WIRE_HEADER : sizeof(w->inbound);
	ssize_t n = kernel_read(t, w->inbound, len);
	ssize_t used;

	if (n <= 0)
		return n;
	used = feed(t, w->inbound, (size_t)n);
	if (used < 0)
		return used;
	if (t->fd >= 0 && fifo_add(&t->in, w->inbound + used, (size_t)(n - used)))
		return -ENOMEM;
	return put_older_first(t) ? -ENOMEM : n;
}

/* One turn: Return: bytes done with or read, 0 when it got nowhere, or a negative errno. */
static ssize_t receive_turn(struct transport *t)
{
	bool drained = !t->session || session_drain(t->session);

	if (!drained && is_walked(t)) /* the answer to RESUME waits for nobody */
		return read_ahead(t);
	if (fifo_len(&t->in)) {
		ssize_t used = feed_in(t);

		if (used || t->fd < 0)
			return used;
		if (t->wanted > fifo_len(&t->in))
			return read_more(t, t->wanted - fifo_len(&t->in));
		return read_ahead(t);
	}
	if (t->session && t->data_left && t->bulk && session_can_splice(t->session, t->data_left))
		return splice_turn(t);
	return read_and_feed(t);
}

bool transport_receive(struct transport *t)
{
	bool any = false;

	if (t->feeding) /* a handler's pump: the loop below goes on with it */
		return false;
	t->feeding = true;
	for (int turn = 0; turn < RECEIVE_TURNS && t->fd >= 0 && !t->doomed; turn++) {
		ssize_t n = receive_turn(t);

		if (n < 0 && t->fd >= 0) {
			int end = t->error ? t->error : ECONNRESET; /* what a write was told is not told again */

			transport_broken(t, n == -EPIPE ? end : (int)-n,
					 n == -EPIPE  ? "the peer closed it"
					 : n == -EPROTO ? "the peer broke the protocol"
							: "broken");
		}
		if (n <= 0)
			break;
		any = true;
	}
	t->feeding = false;
	return any;
}

/* After ABORT it is the peer that closes. Were it closed here, what the peer still sends would be answered by a reset,
 * and that would throw away what it has not read. */
static void discard(struct transport *t)
{
	struct worker *w = t->worker;
	ssize_t n = 1;

	for (int turn = 0; turn < RECEIVE_TURNS && n > 0; turn++)
		n = recv(t->fd, w->inbound, sizeof(w->inbound), MSG_DONTWAIT);
	if (n > 0)
		transport_again(t);
	else if (!n || (errno != EAGAIN && errno != EINTR))
		transport_close(t);
}

/* ---- events ------------------------------------------------------------------------- */

static void on_event(struct io *io, uint32_t events)
{
	struct transport *t = CONTAINER_OF(io, struct transport, io);

	t->readable |= events & EVENTS_READ;
	t->writable |= events & EVENTS_WRITE;
	t->ending |= events & EVENTS_LAST;
	if (!t->session) {
		transport_flush(t);
		/* More than its turns are worth: go on at once, after the others. */
		if (transport_receive(t) && t->fd >= 0)
			transport_again(t);
	}
	if (t->session)
		session_pump(t->session);
	else
		transport_flush(t);
	if (t->fd >= 0 && t->doomed)
		discard(t);
	if (t->error)
		transport_broken(t, t->error, "broken");
}

static void on_timer(struct timer *timer)
{
	struct transport *t = CONTAINER_OF(timer, struct transport, timer);

	if (t->doomed) {
		transport_broken(t, ETIMEDOUT, "it was not closed");
	} else if (!t->greeted && t->dialled && worker_peer_is_alive(t->worker)) {
		timer_start(&t->worker->events, timer, HELLO_MS); /* in its backlog */
	} else if (!t->greeted) {
		transport_broken(t, ETIMEDOUT, "no greeting came");
	} else if (t->session) {
		t->stuck = (uint32_t)t->session->out.acked == t->acked_before;
		session_pump(t->session);
	}
}
