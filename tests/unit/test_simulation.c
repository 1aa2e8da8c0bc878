/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Two daemons, joined by transports that break: a deterministic simulation
 *
 * conn.c, stream.c, fifo.c and frame.c are the real ones. What stands around them in session.c, bulk.c, transport.c and
 * hold.c is here once more, under the same names and in the same order, as far as it touches a connection's stream:
 * feeding, reading ahead, splicing, flushing, reading the local end, ending, holding and resuming. Who changes it there
 * changes it here.
 *
 * What is modelled of the world:
 *	- a transport: two queues with a bound, whose bytes arrive later. A cut loses what is under way, from any
 *	  byte on, in each direction by itself; each side notices when it does: by a read or write that fails, or at
 *	  once, as from the control link. What was sent before a close may get over or not.
 *	- several transports at a time: an attempt that was given up may still be read by the other side, late. What
 *	  resumes a connection may be moved to another thread. A transport that is free carries the next connection.
 *	- local ends: a program that writes in pieces, packets, with descriptors, half-closes; one that reads late,
 *	  not at all, or goes away. What it does is told once, by an event that comes later.
 *	- the pipes that large payloads go through, which hold so many pieces, of whatever size.
 *	- ORDER as something that is fulfilled later; a PARKED acceptor, and a client that is still OFFERED.
 *	- the budget as what others take of it, at any time; with none left the window is 4 KiB, and acks are the timer's.
 * Not modelled: refusals and ABORT, the end of the hold time, pipes that are passed again, lack of memory.
 *
 * What must hold: every byte and descriptor comes once and in order, and nothing after SHUT; no violation; what is kept
 * and what is read ahead stay within their bounds; and when cuts end and programs do what they have left to do, all
 * ends in order. Before that, in every other schedule, one side's programs do not read at all, and what they write must
 * get over in spite of it.
 *
 * A schedule is its seed. SEED=n runs that one, and tells what happens; STEPS=m: with no more random steps than that.
 * SCHEDULES=n runs so many, from SEED on where that is given.
 */
#include <check.h>
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "conn.h"
#include "fifo.h"
#include "stream.h"
#include "util.h"

#define SCHEDULES 20000u	/* where the environment says nothing */
#define CONNECTIONS_MAX 3	/* of a schedule, one after the other */
#define TRANSPORTS_MAX 12	/* at a time */
#define SPLICE_PIPE 65536u	/* bytes that a splice holds */
#define PATTERN 65521u		/* the bytes that programs write repeat themselves after so many */

/* As in transport.c and session_out.c. */
#define AHEAD_MAX (WIRE_WINDOW + 2 * WIRE_PAYLOAD_MAX)
#define AHEAD_READ 65536u
#define FLUSH_PIECES 16
#define PUMP_TURNS 8
#define RECEIVE_TURNS 4
#define READ_SMALL 8128u
#define PIECES_MAX 64u /* fewer than a pipe has */

enum { DIALLER, ACCEPTOR };

/* Bytes on their way to one end. */
struct wire {
	struct fifo f;
	size_t arrived;	 /* of them */
	size_t capacity;
	size_t swallows; /* once it is cut: bytes that the writer is still relieved of */
	bool cut;
	bool over; /* the reader's kernel knows */
};

/* One side of a transport. */
struct transport {
	struct transport *peer;
	struct wire wire; /* towards it */
	int side;
	bool open;
	bool greeted;
	bool event; /* something to be read has come, and was not told yet */
	bool readable;
	bool ending;
	bool error;
	struct frame_header moved; /* and what was moved with it, to another thread; type 0: it was not */
	uint8_t moved_payload[64];
	struct session *session;
	struct fifo in, out, older;
	uint32_t data_left;
	size_t wanted, behind;
	bool bulk;
	bool timing; /* its timer is pending */
	uint64_t acked_before;
	bool stuck;
};

/* A pipe: bytes, in pieces. */
struct splice {
	struct fifo f;
	unsigned n;
	size_t pieces[PIECES_MAX]; /* bytes of each */
};

struct bulk {
	struct splice *ahead, *kept;
	size_t unframed;
};

enum state { NOT_YET, OPENING, OFFERED, PARKED, RUNNING, ENDED };
enum how { IN_ORDER, FORGOTTEN, TOLD };

/* A local end: the program on the other side of the socket. */
struct program {
	uint64_t goal;	  /* bytes, or packets, that it would like to write */
	uint64_t written; /* that it wrote */
	uint64_t read;	  /* that were read from it */
	uint64_t bytes;	  /* of packets: in all that were read */
	uint64_t mark;	  /* where the next descriptor is; UINT64_MAX: nowhere */
	uint64_t marks;	  /* descriptors that were read */
	uint64_t dropped; /* bytes that were read, and never framed, as nobody wanted them any more */
	bool event;	  /* it has done something that was not told yet */
	bool eof;	  /* it writes no more */
	bool gone;	  /* it reads no more */
	size_t room;	  /* bytes that it will take */
	uint64_t seen;	  /* bytes that came for it, or would have */
	uint64_t packets, descriptors;
};

struct session {
	int side;
	unsigned id;
	enum state state;
	struct conn conn;
	struct stream_out out;
	struct stream_in in;
	struct transport *transport;
	struct program program;
	bool packets;
	bool resuming;
	bool end_sent;
	bool owing;
	bool readable;
	bool large;
	bool arriving;	/* the descriptor of the MSG at hand is made */
	bool fulfilled; /* the ORDER that it waits for */
	bool waiting;
	bool shut_local;
	bool held;
	struct fifo held_in;
	uint32_t held_data_left;
	struct fifo splice;
	struct bulk *bulk;
};

struct daemon {
	struct stream_budget budget;
	struct stream_pool pool;
	size_t others; /* of the budget */
	struct session sessions[CONNECTIONS_MAX];
};

/* What kind of schedule it is. */
struct profile {
	unsigned connections;
	bool packets;
	bool descriptors;
	bool orders;
	bool threads;
	bool leavers;
	bool splices;
	bool bulk;
	bool pipes; /* the local ends are such: nobody asks first how much there is, and splices go there at once */
	uint32_t splice_min;
	size_t bulk_min, read_small;
	unsigned pieces;
	unsigned marks; /* one write in so many is with descriptors */
	bool waits;	/* a program does not end before what it wrote has come */
	unsigned cuts;	    /* in 1024 steps */
	unsigned hesitation; /* how rarely readers read, in 8 */
	size_t write_max;
	size_t capacity;
	uint64_t goal_max;
};

static struct daemon daemons[2];
static struct transport *transports[TRANSPORTS_MAX][2];
static struct transport *pooled; /* the dialler's that is free */
static struct profile profile;
static uint64_t seed, random_state, moves;
static unsigned step_number;
static bool telling;

/* What happened in all schedules together: what never does is not tested. */
static struct {
	uint64_t resumed, within_data, reopened, late, moved, forgotten, told, waited, full, ahead, spliced, thrown, older,
		bulk, copied, inside, within_outside, stuck, closes;
} seen;
static uint8_t pattern[PATTERN + WIRE_PAYLOAD_MAX];
static uint8_t outbound[WIRE_PAYLOAD_MAX], inbound[WIRE_HEADER + WIRE_PAYLOAD_MAX];

static void transport_close(struct transport *t);
static void session_transport_broken(struct session *s);
static void session_pump(struct session *s);

/* ---- telling ------------------------------------------------------------------------------- */

__attribute__((format(printf, 1, 2), noreturn)) static void wrong(const char *format, ...)
{
	char what[256];
	va_list args;

	va_start(args, format);
	vsnprintf(what, sizeof(what), format, args);
	va_end(args);
	ck_abort_msg("SEED=%" PRIu64 " STEPS=%u: %s", seed, step_number + 1, what);
	abort();
}

#define must(condition) ((condition) ? (void)0 : wrong("line %d: not so: %s", __LINE__, #condition))

__attribute__((format(printf, 1, 2))) static void tell(const char *format, ...)
{
	va_list args;

	if (!telling)
		return;
	printf("# %u: ", step_number);
	va_start(args, format);
	vprintf(format, args);
	va_end(args);
	putchar('\n');
	fflush(stdout);
}

/* ---- chance -------------------------------------------------------------------------------- */

static uint64_t mix(uint64_t v)
{
	v = (v ^ v >> 30) * 0xbf58476d1ce4e5b9;
	v = (v ^ v >> 27) * 0x94d049bb133111eb;
	return v ^ v >> 31;
}

/* 0 to @n - 1 */
static uint64_t rnd(uint64_t n)
{
	random_state += 0x9e3779b97f4a7c15;
	return n ? mix(random_state) % n : 0;
}

static bool one_in(unsigned n)
{
	return rnd(n) == 0;
}

/* Small ones are as likely as large ones. */
static uint64_t rnd_size(uint64_t max)
{
	uint64_t limit = one_in(2) ? max : (uint64_t)1 << rnd(18);

	return rnd(MIN(limit, max) + 1);
}

/* ---- memory -------------------------------------------------------------------------------- */

/* What everything else keeps of the daemon's budget. */
static void others_keep(struct daemon *d, size_t used)
{
	atomic_fetch_add(&d->budget.used, used - d->others);
	d->others = used;
}

static void others_change(struct daemon *d)
{
	others_keep(d, one_in(2) ? 0 : rnd(d->budget.limit));
}

/* Another thread's connections may change it between any two calls. */
static size_t room_now(const struct session *s)
{
	if (profile.threads && one_in(8))
		others_change(&daemons[s->side]);
	return stream_room(&s->out);
}

/* ---- the network --------------------------------------------------------------------------- */

static size_t wire_room(const struct wire *w)
{
	return w->cut ? w->swallows : w->capacity - MIN(w->capacity, fifo_len(&w->f));
}

/* At most as much as there is room for, and not always that. Return: what was taken. */
static size_t kernel_write(struct transport *t, const struct iovec *iov, int n)
{
	struct wire *w = &t->peer->wire;
	size_t room = wire_room(w), taken = 0;

	if (t->wire.over) {
		t->error = true;
		return 0;
	}
	if (one_in(4))
		room = rnd(room + 1);
	for (int i = 0; i < n && taken < room; i++) {
		size_t part = MIN(iov[i].iov_len, room - taken);

		must(w->cut || !fifo_add(&w->f, iov[i].iov_base, part));
		taken += part;
	}
	if (w->cut)
		w->swallows -= taken;
	moves += taken;
	return taken;
}

static void wire_cut(struct wire *w)
{
	size_t lost = rnd(fifo_len(&w->f) + 1);

	if (w->cut)
		return;
	w->cut = true;
	w->swallows = rnd(w->capacity);
	fifo_cut(&w->f, lost);
	w->arrived = MIN(w->arrived, fifo_len(&w->f));
}

static void wire_arrive(struct transport *t, size_t n)
{
	struct wire *w = &t->wire;

	n = MIN(n, fifo_len(&w->f) - w->arrived);
	w->arrived += n;
	t->event |= n > 0;
	moves += n;
}

/* ---- splice.c ------------------------------------------------------------------------------ */

static const uint8_t *bytes_at(const struct session *s, int side, uint64_t position)
{
	return pattern + (position + s->id * 1009u + (unsigned)side * 30011u) % PATTERN;
}

static struct splice *splice_get(void)
{
	struct splice *p = calloc(1, sizeof(*p));

	must(p);
	return p;
}

static void splice_put(struct splice *p)
{
	if (p)
		fifo_clear(&p->f);
	free(p);
}

/* False: it holds as many as it can. */
static bool add_piece(struct splice *p, const uint8_t *data, size_t len)
{
	if (p->n == profile.pieces)
		return false;
	must(len && !fifo_add(&p->f, data, len));
	p->pieces[p->n++] = len;
	return true;
}

/* The first @len bytes are gone. What is left of a piece is one. */
static void splice_skip(struct splice *p, size_t len)
{
	unsigned gone = 0;

	must(len <= fifo_len(&p->f));
	if (len)
		fifo_skip(&p->f, len);
	for (; len && len >= p->pieces[gone]; gone++)
		len -= p->pieces[gone];
	p->n -= gone;
	memmove(p->pieces, p->pieces + gone, p->n * sizeof(p->pieces[0]));
	if (len)
		p->pieces[0] -= len;
}

/* What the program of @s wrote, in pieces of any size, and not always all. */
static ssize_t splice_fill(struct splice *p, struct session *s, size_t len)
{
	struct program *q = &s->program;
	size_t n = 0;

	len = (size_t)MIN(len, q->written - q->read);
	if (!len)
		return q->eof ? 0 : -EAGAIN;
	while (n < len && (!n || !one_in(8))) {
		size_t part = 1 + rnd_size(len - n - 1);

		if (!add_piece(p, bytes_at(s, s->side, q->read), part))
			break;
		q->read += part;
		n += part;
	}
	moves += n;
	return n ? (ssize_t)n : -EAGAIN;
}

static size_t splice_drain(struct splice *p, struct transport *t, size_t len)
{
	struct iovec iov = { .iov_base = fifo_peek(&p->f), .iov_len = MIN(len, fifo_len(&p->f)) };
	size_t n = kernel_write(t, &iov, 1);

	splice_skip(p, n);
	return n;
}

static size_t splice_tee(const struct splice *p, struct splice *copy, size_t len)
{
	size_t n = 0;

	for (unsigned i = 0; i < p->n && n < len; i++) {
		size_t part = MIN(p->pieces[i], len - n);

		if (!add_piece(copy, fifo_peek(&p->f) + n, part))
			break;
		n += part;
	}
	return n;
}

static void splice_read(struct splice *p, uint8_t *to, size_t len)
{
	must(len <= fifo_len(&p->f));
	memcpy(to, fifo_peek(&p->f), len);
	splice_skip(p, len);
}

static void splice_forget(struct splice *p, size_t len)
{
	splice_skip(p, len);
}

/* ---- bulk.c -------------------------------------------------------------------------------- */

static struct bulk *bulk_of(struct session *s)
{
	struct bulk *b = s->bulk;

	if (!b)
		b = s->bulk = calloc(1, sizeof(*b));
	must(b);
	if (!b->ahead)
		b->ahead = splice_get();
	if (!b->kept)
		b->kept = splice_get();
	return b;
}

static ssize_t queued(const struct session *s)
{
	const struct program *p = &s->program;

	if (profile.pipes)
		return (ssize_t)WIRE_PAYLOAD_MAX;
	if (p->read == p->written)
		return p->eof ? 0 : -EAGAIN;
	return p->mark != UINT64_MAX ? 0 : (ssize_t)(p->written - p->read);
}

static ssize_t bulk_fill(struct session *s, size_t room)
{
	struct bulk *b = s->bulk;
	ssize_t n;

	room = MIN(room, WIRE_PAYLOAD_MAX);
	if (b && b->unframed)
		return (ssize_t)MIN(b->unframed, room);
	n = queued(s);
	if (n < (ssize_t)profile.bulk_min || room < profile.bulk_min)
		return MIN(n, 0);
	b = bulk_of(s);
	while (n > 0 && b->unframed < room) {
		n = splice_fill(b->ahead, s, MIN((size_t)n, room - b->unframed));
		if (n > 0)
			b->unframed += (size_t)n;
		if (profile.pipes)
			break;
		n = n > 0 ? queued(s) : 0;
	}
	if (n == -EAGAIN)
		s->readable = false;
	return (ssize_t)b->unframed;
}

static void forget(struct session *s)
{
	size_t n = s->out.forgotten;

	s->out.forgotten = 0;
	splice_forget(s->bulk->kept, n);
}

static void frame_copied(struct session *s, size_t n)
{
	struct bulk *b = s->bulk;
	size_t len;
	uint8_t *to = stream_reserve(&s->out, MIN(n, STREAM_READ_MAX), &len);

	must(to);
	splice_read(b->ahead, to, len);
	stream_commit(&s->out, WIRE_DATA, stream_ack(&s->in), len);
	b->unframed -= len;
	seen.copied++;
}

static void bulk_frame(struct session *s, size_t n)
{
	struct bulk *b = s->bulk;
	size_t kept;

	forget(s);
	kept = splice_tee(b->ahead, b->kept, n);
	if (kept > 0) {
		b->unframed -= kept;
		must(!stream_add_outside(&s->out, stream_ack(&s->in), kept));
		seen.bulk++;
	} else {
		frame_copied(s, n);
	}
	s->readable |= b->unframed > 0;
	moves++;
}

static size_t bulk_send(struct session *s, struct transport *t)
{
	return splice_drain(s->bulk->ahead, t, stream_unsent_outside(&s->out));
}

static void bulk_bring_inside(struct session *s)
{
	struct bulk *b = s->bulk;
	uint8_t *to;
	size_t len;

	if (!b || !b->kept)
		return;
	forget(s);
	splice_forget(b->ahead, fifo_len(&b->ahead->f) - b->unframed);
	while ((to = stream_bring_inside(&s->out, &len))) {
		splice_read(b->kept, to, len);
		seen.inside++;
	}
	must(!len);
}

static void bulk_tidy(struct session *s)
{
	struct bulk *b = s->bulk;

	if (!b || !b->kept || s->out.outside || fifo_len(&b->ahead->f))
		return;
	forget(s);
	splice_put(b->ahead);
	splice_put(b->kept);
	b->ahead = b->kept = NULL;
}

static void bulk_end(struct session *s)
{
	struct bulk *b = s->bulk;

	s->bulk = NULL;
	if (!b)
		return;
	s->program.dropped = b->unframed;
	splice_put(b->ahead);
	splice_put(b->kept);
	free(b);
}

/* ---- transport.c --------------------------------------------------------------------------- */

static struct transport *transport_new(int side)
{
	struct transport *t = calloc(1, sizeof(*t));

	must(t);
	t->side = side;
	t->open = true;
	t->wire.capacity = profile.capacity;
	return t;
}

static void transport_send(struct transport *t, uint8_t type, const void *payload, size_t size)
{
	struct frame_header h = { .type = type, .length = (uint32_t)size };
	uint8_t head[WIRE_HEADER];

	if (!t->open)
		return;
	if (t->session)
		h.ack = stream_ack(&t->session->in);
	frame_put_header(head, &h);
	must(!fifo_add(&t->out, head, sizeof(head)) && !fifo_add(&t->out, payload, size));
}

static void send_hello(struct transport *t)
{
	struct frame_hello hello = { .version = WIRE_VERSION, .role = WIRE_ROLE_DATA };
	uint8_t payload[64];
	struct buf b;

	buf_init(&b, payload, sizeof(payload));
	frame_put_hello(&b, &hello);
	transport_send(t, WIRE_HELLO, payload, b.pos);
}

/* NULL: not now. */
static struct transport *dial_new(void)
{
	for (int i = 0; i < TRANSPORTS_MAX; i++) {
		struct transport **pair = transports[i];

		if (pair[0] && (pair[0]->open || pair[1]->open))
			continue;
		for (int j = 0; j < 2; j++) {
			free(pair[j]);
			pair[j] = transport_new(j);
		}
		for (int j = 0; j < 2; j++) {
			pair[j]->peer = pair[!j];
			send_hello(pair[j]);
		}
		tell("transport %d is dialled", i);
		moves++;
		return pair[DIALLER];
	}
	return NULL;
}

static struct stream_out *session_may_send(struct session *s)
{
	return s->resuming ? NULL : &s->out;
}

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

static size_t send_some(struct transport *t)
{
	struct stream_out *out = t->session ? session_may_send(t->session) : NULL;
	struct iovec iov[FLUSH_PIECES];
	size_t before, sent;
	int n;

	if (out && stream_unsent_outside(out)) {
		sent = bulk_send(t->session, t);
		stream_sent(out, sent);
		return sent;
	}
	n = pieces(t, iov, &before);
	if (!n)
		return 0;
	sent = kernel_write(t, iov, n);
	written(t, sent, before);
	return sent;
}

static bool transport_flush(struct transport *t)
{
	bool any = false;

	while (t->open && send_some(t))
		any = true;
	return any;
}

static void transport_close(struct transport *t)
{
	if (!t->open)
		return;
	t->open = t->timing = false;
	if (pooled == t)
		pooled = NULL;
	t->session = NULL;
	fifo_clear(&t->in);
	fifo_clear(&t->out);
	fifo_clear(&t->older);
	wire_cut(&t->wire);
	fifo_clear(&t->wire.f);
	t->wire.arrived = 0;
	/* What it had sent may get over, or (a reset) not. */
	if (one_in(2))
		wire_cut(&t->peer->wire);
	t->peer->wire.cut = true;
	moves++;
}

/* Its connection has ended in order. */
static void transport_release(struct transport *t)
{
	t->session = NULL;
	t->bulk = false;
	if (t->side == DIALLER && t->open)
		pooled = t;
}

static void transport_broken(struct transport *t, bool violated, const char *why)
{
	if (!t->open)
		return;
	/* An attempt that was given up and comes late may be told so; nothing else. */
	if (violated && (t->session || t->peer->open))
		wrong("side %d: a violation", t->side);
	seen.late += violated;
	tell("side %d: its transport is broken: %s", t->side, why);
	if (t->session)
		session_transport_broken(t->session);
	transport_close(t);
}

/* ---- session.c, session_out.c ---------------------------------------------------------------- */

static void session_end(struct session *s, enum how how)
{
	if (s->state == ENDED)
		return;
	tell("side %d, connection %u: ended, %d", s->side, s->id, how);
	s->state = ENDED;
	seen.forgotten += how == FORGOTTEN;
	seen.told += how == TOLD;
	s->held = false;
	fifo_clear(&s->held_in);
	fifo_clear(&s->splice);
	bulk_end(s);
	stream_out_free(&s->out);
	s->transport = NULL;
	moves++;
}

static void release_transport(struct session *s)
{
	struct transport *t = s->transport;

	s->transport = NULL;
	transport_flush(t);
	transport_release(t);
}

static void send_counted(struct session *s, uint8_t type, uint16_t count, const struct iovec *iov, int n)
{
	must(!stream_add(&s->out, type, count, stream_ack(&s->in), iov, n));
}

static bool send_end(struct session *s)
{
	if (!conn_complete(&s->conn) || s->end_sent || !s->transport || s->resuming ||
	    s->out.sent != s->out.end)
		return false;
	transport_send(s->transport, WIRE_END, NULL, 0);
	s->end_sent = true;
	return true;
}

static bool flush(struct session *s)
{
	bool any = transport_flush(s->transport);

	return send_end(s) ? transport_flush(s->transport) || any : any;
}

static void apply(struct session *s, unsigned actions)
{
	if (actions & CONN_VIOLATION)
		wrong("side %d: a violation, says conn.c", s->side);
	if (actions & CONN_SHUT_LOCAL)
		s->shut_local = true;
	if (actions & CONN_SEND_SHUT)
		send_counted(s, WIRE_SHUT, 0, NULL, 0);
	if (actions & CONN_SEND_STOP)
		send_counted(s, WIRE_STOP, 0, NULL, 0);
	if (actions & CONN_SEND_END)
		send_end(s);
	if (actions & CONN_IDLE) {
		release_transport(s);
		session_end(s, IN_ORDER);
	}
}

static unsigned happens(struct session *s, enum conn_event event)
{
	static const char *const names[] = { "end of file", "reader gone", "SHUT", "STOP", "END" };

	tell("side %d, connection %u: %s", s->side, s->id, names[event]);
	moves++;
	return conn_step(&s->conn, event);
}

static void step(struct session *s, enum conn_event event)
{
	apply(s, happens(s, event));
}

static void steps(struct session *s, enum conn_event first, enum conn_event second)
{
	unsigned actions = happens(s, first);

	apply(s, actions | happens(s, second));
}

static size_t packet_size(const struct session *s, int side, uint64_t number)
{
	uint64_t v = mix(seed ^ mix(number * 64 + s->id * 2 + (unsigned)side));

	return v % 8 ? v / 8 % MIN(profile.write_max + 1, WIRE_PAYLOAD_MAX - 64u) : 0;
}

static void forward_message(struct session *s, const uint8_t *data, size_t len)
{
	uint8_t text[20];
	struct iovec iov[2] = { { .iov_base = text, .iov_len = sizeof(text) },
				{ .iov_base = (void *)data, .iov_len = len } };
	struct program *p = &s->program;
	struct buf b;

	buf_init(&b, text, sizeof(text));
	buf_put_u32(&b, 16);
	buf_put_u64(&b, p->marks++);
	buf_put_u64(&b, p->mark);
	p->mark = UINT64_MAX;
	send_counted(s, WIRE_MSG, 1, iov, 2);
}

static bool hung_up(const struct session *s)
{
	return s->program.gone && s->program.eof;
}

static void reader_gone(struct session *s)
{
	step(s, CONN_LOCAL_GONE);
}

static void end_of_file(struct session *s)
{
	s->readable = false;
	if (hung_up(s))
		step(s, CONN_LOCAL_GONE);
	if (s->state != ENDED)
		step(s, CONN_LOCAL_EOF);
}

/* What the program wrote, as a socket gives it. 0: nothing, or the end. */
static size_t read_bytes(struct session *s, uint8_t *to, size_t len)
{
	struct program *p = &s->program;
	size_t n;

	if (s->packets) {
		n = packet_size(s, s->side, p->read++);
		memcpy(to, bytes_at(s, s->side, p->bytes), n);
		p->bytes += n;
		return n;
	}
	n = (size_t)MIN(len, p->written - p->read);
	memcpy(to, bytes_at(s, s->side, p->read), n);
	p->read += n;
	return n;
}

static size_t room_needed(const struct session *s)
{
	return s->bulk && s->bulk->unframed ? MIN(s->bulk->unframed, PIPE_BUF) : 1;
}

static bool session_needs_ack(const struct session *s)
{
	return s->state == RUNNING && conn_reads(&s->conn) && room_now(s) < room_needed(s);
}

static uint8_t *reading_room(struct session *s, size_t room, size_t *len)
{
	if (s->packets || profile.orders) {
		*len = s->packets ? sizeof(outbound) : MIN(room, STREAM_READ_MAX);
		return outbound;
	}
	return stream_reserve(&s->out, MIN(room, s->large ? STREAM_READ_MAX : profile.read_small), len);
}

/* Before what was read from byte, or packet, @at on. */
static void send_order(struct session *s, uint64_t at)
{
	uint8_t channel[WIRE_ID_SIZE + 8] = { 0 };
	struct iovec iov = { .iov_base = channel, .iov_len = sizeof(channel) };
	struct buf b;

	buf_init(&b, channel + WIRE_ID_SIZE, 8);
	buf_put_u64(&b, at);
	if (one_in(4))
		send_counted(s, WIRE_ORDER, 1, &iov, 1);
}

/* @n bytes, the last of which may have come with a descriptor. */
static void forward(struct session *s, const uint8_t *data, size_t n)
{
	const struct program *p = &s->program;
	uint64_t begin = s->packets ? p->read - 1 : p->read - n;
	bool message = p->mark >= begin && p->mark < p->read;
	size_t plain = !message ? n : s->packets ? 0 : (size_t)(p->mark - begin);
	struct iovec iov = { .iov_base = (void *)data, .iov_len = plain };

	if (profile.orders)
		send_order(s, begin);
	if (message && data != outbound)
		memcpy(outbound, data + plain, n - plain);
	if (plain || !message) {
		if (data == outbound)
			send_counted(s, WIRE_DATA, 0, &iov, 1);
		else
			stream_commit(&s->out, WIRE_DATA, stream_ack(&s->in), plain);
	}
	if (message)
		forward_message(s, data == outbound ? data + plain : outbound, n - plain);
}

static bool is_bulk(const struct session *s)
{
	return s->bulk || (profile.bulk && s->large && !s->packets);
}

static ssize_t read_bulk(struct session *s, size_t room)
{
	ssize_t n = bulk_fill(s, room);

	if (n <= 0)
		return n;
	if (profile.orders)
		send_order(s, s->program.read - s->bulk->unframed);
	bulk_frame(s, (size_t)n);
	return n;
}

static bool read_local(struct session *s)
{
	struct program *p = &s->program;
	uint8_t *data;
	size_t room, len, n;

	if (s->state != RUNNING || !s->readable)
		return false;
	if (!conn_reads(&s->conn)) {
		s->readable = false;
		if (conn_writes(&s->conn) && hung_up(s))
			reader_gone(s);
		return false;
	}
	if (s->resuming || s->out.sent != s->out.end)
		return false;
	room = room_now(s);
	if (room < room_needed(s)) {
		seen.full++;
		return false;
	}
	if (is_bulk(s)) {
		ssize_t got = read_bulk(s, room);

		if (got > 0)
			return true;
		if (got == -EAGAIN) {
			s->readable = false;
			return false;
		}
	}
	data = reading_room(s, room, &len);
	must(data);
	if (p->read == p->written && !p->eof) {
		s->readable = false; /* and what was reserved is not used */
		return false;
	}
	if (p->read == p->written) {
		end_of_file(s);
		return true;
	}
	n = read_bytes(s, data, len);
	moves += n + 1;
	s->large = n == len || (s->large && n > profile.read_small);
	forward(s, data, n);
	return true;
}

/* ---- session_in.c -------------------------------------------------------------------------- */

static bool session_walks(const struct session *s)
{
	return !s->resuming;
}

static void delivered(struct session *s, size_t n)
{
	s->in.delivered += n;
	s->owing = true;
	moves += n;
}

/* @n bytes of the peer's program are done with. */
static void check_bytes(struct session *s, const uint8_t *data, size_t n)
{
	struct program *p = &s->program;

	if (s->shut_local)
		wrong("side %d: bytes after SHUT", s->side);
	if (memcmp(data, bytes_at(s, !s->side, p->seen), n) != 0)
		wrong("side %d: other bytes at %" PRIu64, s->side, p->seen);
	p->seen += n;
}

/* Return: how many are done with, or -EAGAIN. */
static ssize_t deliver(struct session *s, const uint8_t *data, size_t len)
{
	struct program *p = &s->program;
	size_t n = len;

	seen.thrown += !conn_writes(&s->conn);
	if (conn_writes(&s->conn) && p->gone) {
		reader_gone(s);
	} else if (conn_writes(&s->conn)) {
		if (!p->room)
			return -EAGAIN;
		if (!s->packets)
			n = MIN(n, p->room);
		p->room -= MIN(n, p->room);
	}
	if (s->packets && n != packet_size(s, !s->side, p->packets))
		wrong("side %d: another packet", s->side);
	p->packets++;
	check_bytes(s, data, n);
	s->arriving = false;
	return (ssize_t)n;
}

static ssize_t session_data_begins(struct session *s)
{
	if (s->conn.flags & CONN_SHUT_RECEIVED)
		return -EPROTO;
	delivered(s, WIRE_HEADER);
	return WIRE_HEADER;
}

static ssize_t session_data(struct session *s, const uint8_t *data, size_t len)
{
	ssize_t n = deliver(s, data, len);

	if (n < 0)
		return 0;
	delivered(s, (size_t)n);
	return n;
}

static bool session_passes_on(const struct session *s, uint8_t type)
{
	return type == WIRE_DATA && !s->packets && s->state == RUNNING && !s->resuming;
}

static bool session_can_splice(const struct session *s, size_t len)
{
	if (len < profile.splice_min && !profile.pipes)
		return false;
	return profile.splices && s->state == RUNNING && !s->arriving && conn_writes(&s->conn) && !s->packets;
}

static bool session_drain(struct session *s)
{
	struct program *p = &s->program;
	size_t n = fifo_len(&s->splice);

	if (!n)
		return true;
	if (!p->gone && !p->room)
		return false;
	if (!p->gone)
		n = MIN(n, p->room);
	p->room -= p->gone ? 0 : n;
	check_bytes(s, fifo_peek(&s->splice), n);
	fifo_skip(&s->splice, n);
	delivered(s, n);
	if (p->gone)
		reader_gone(s);
	return !fifo_len(&s->splice);
}

/* Bytes, or the end: what it is shows when the pipe takes some. */
static bool is_there(const struct wire *w)
{
	return w->arrived || w->over;
}

/* splice(2) from a transport to a pipe that takes @room bytes. It looks at the pipe first. */
static ssize_t splice_through(struct wire *w, struct fifo *to, size_t room, size_t len)
{
	size_t n = MIN(MIN(len, w->arrived), room);

	if (!room)
		return -EAGAIN;
	if (!n)
		return w->over ? 0 : -EAGAIN;
	n = one_in(2) ? n : 1 + rnd(n);
	must(!fifo_add(to, fifo_peek(&w->f), n));
	fifo_skip(&w->f, n);
	w->arrived -= n;
	moves += n;
	seen.spliced++;
	return (ssize_t)n;
}

static ssize_t splice_to_pipe(struct session *s, struct wire *w, size_t len)
{
	bool was_there = false;
	ssize_t n;

	if (s->program.gone) {
		reader_gone(s);
		return -EBUSY;
	}
	while ((n = splice_through(w, &s->splice, s->program.room, len)) == -EAGAIN) {
		if (was_there)
			return -EBUSY;
		was_there = is_there(w);
		if (!was_there)
			return n;
	}
	if (n > 0) {
		stream_walked(&s->in, (size_t)n);
		must(session_drain(s));
	}
	return n;
}

static ssize_t session_splice(struct session *s, struct wire *w, size_t len)
{
	ssize_t n;

	if (profile.pipes)
		return splice_to_pipe(s, w, len);
	if (!s->program.room && !s->program.gone)
		return -EBUSY;
	n = splice_through(w, &s->splice, SPLICE_PIPE - fifo_len(&s->splice), len);
	if (n > 0) {
		stream_walked(&s->in, (size_t)n);
		session_drain(s);
	}
	return n;
}

static ssize_t frame_msg(struct session *s, const struct frame_header *h, const uint8_t *payload)
{
	struct program *p = &s->program;
	uint64_t number, place;
	struct buf b;
	ssize_t n;

	buf_init_const(&b, payload, h->length);
	must(buf_get_u32(&b) == 16 && h->count == 1);
	number = buf_get_u64(&b);
	place = buf_get_u64(&b);
	if (!s->arriving && number != p->descriptors++)
		wrong("side %d: another descriptor", s->side);
	s->arriving = true;
	if (place != (s->packets ? p->packets : p->seen))
		wrong("side %d: a descriptor at another place", s->side);
	n = deliver(s, payload + b.pos, buf_left(&b));
	if (n < 0)
		return 0;
	n += (ssize_t)(WIRE_HEADER + b.pos);
	delivered(s, (size_t)n);
	return n;
}

static ssize_t frame_packet(struct session *s, const struct frame_header *h, const uint8_t *payload)
{
	if (deliver(s, payload, h->length) < 0)
		return 0;
	delivered(s, WIRE_HEADER + h->length);
	return (ssize_t)(WIRE_HEADER + h->length);
}

static ssize_t frame_order(struct session *s, const struct frame_header *h, const uint8_t *payload)
{
	const struct program *p = &s->program;
	struct buf b;

	buf_init_const(&b, payload + WIRE_ID_SIZE, 8);
	if (buf_get_u64(&b) != (s->packets ? p->packets : p->seen))
		wrong("side %d: an ORDER at another place", s->side);
	if (!s->fulfilled) {
		s->waiting = true;
		return 0;
	}
	s->fulfilled = s->waiting = false;
	delivered(s, WIRE_HEADER + h->length);
	return (ssize_t)(WIRE_HEADER + h->length);
}

static ssize_t frame_opened(struct session *s, const struct frame_header *h)
{
	if (s->state != OPENING)
		return -EPROTO;
	s->held = false;
	fifo_clear(&s->held_in);
	s->owing = true;
	s->state = one_in(2) ? RUNNING : OFFERED;
	moves++;
	return (ssize_t)(WIRE_HEADER + h->length);
}

/* ---- hold.c -------------------------------------------------------------------------------- */

static void hold_begin(struct session *s)
{
	struct transport *t = s->transport;

	if (!s->held) {
		s->held = true;
		s->held_in = t->in;
		t->in = (struct fifo){ 0 };
		fifo_cut(&s->held_in, stream_cut(&s->in));
		s->held_data_left = t->data_left;
	} else {
		stream_cut(&s->in); /* of an attempt */
	}
	s->transport = NULL;
	s->resuming = false;
	t->session = NULL;
}

static void hold_end(struct session *s)
{
	struct transport *t = s->transport;

	s->resuming = s->end_sent = false;
	if (s->held) {
		seen.older += fifo_len(&s->held_in) > 0;
		t->older = s->held_in;
		t->data_left = s->held_data_left;
		s->held_in = (struct fifo){ 0 };
	}
	s->held = false;
	moves++;
	seen.resumed++;
	seen.within_data += stream_frame_left(&s->out) > 0;
	tell("side %d, connection %u goes on; %" PRIu64 " came, %" PRIu64 " sent", s->side, s->id, s->in.received,
	     s->out.sent);
}

/* ---- session_resume.c ---------------------------------------------------------------------- */

static bool is_done(const struct session *s)
{
	return conn_complete(&s->conn) && s->out.acked == s->out.end;
}

static void session_transport_broken(struct session *s)
{
	if (is_done(s))
		session_end(s, FORGOTTEN);
	else
		hold_begin(s);
}

static void send_open(struct session *s)
{
	struct frame_id id = { { (uint8_t)s->id } };

	transport_send(s->transport, WIRE_OPEN, id.bytes, sizeof(id.bytes));
	transport_flush(s->transport);
}

static void put_resume(struct session *s, uint8_t payload[24])
{
	struct frame_resume r = { .id = { { (uint8_t)s->id } }, .received = s->in.received };
	struct buf b;

	buf_init(&b, payload, 24);
	frame_put_resume(&b, &r);
	must(!b.bad && b.pos == 24);
}

/* hold.c's dial(), and session_dialled_again() */
static void dial_again(struct session *s)
{
	uint8_t payload[24];
	struct transport *t = dial_new();

	if (!t)
		return;
	t->session = s;
	s->transport = t;
	if (s->state == OPENING) {
		send_open(s);
		return;
	}
	s->resuming = true;
	put_resume(s, payload);
	transport_send(t, WIRE_RESUME, payload, sizeof(payload));
	transport_flush(t);
}

static void send_opened(struct transport *t)
{
	struct frame_opened o = { .reason = "" };
	uint8_t payload[16];
	struct buf b;

	buf_init(&b, payload, sizeof(payload));
	frame_put_opened(&b, &o);
	transport_send(t, WIRE_OPENED, payload, b.pos);
	transport_flush(t);
}

static void send_resumed(struct transport *t, uint16_t error, uint64_t received)
{
	struct frame_resumed r = { .error = error, .received = received };
	uint8_t payload[16];
	struct buf b;

	buf_init(&b, payload, sizeof(payload));
	frame_put_resumed(&b, &r);
	transport_send(t, WIRE_RESUMED, payload, b.pos);
}

static void go_on_over(struct session *s, struct transport *t)
{
	struct transport *old = s->transport;

	if (old) {
		hold_begin(s);
		transport_close(old);
	}
	s->transport = t;
	t->session = s;
}

static struct session *accepted_find(const struct frame_id *id)
{
	struct session *s = &daemons[ACCEPTOR].sessions[id->bytes[0]];

	return s->state == NOT_YET || s->state == ENDED ? NULL : s;
}

/* What was acknowledged may be lost with the old transport. */
static void go_on(struct session *s)
{
	s->in.told = 0;
	s->owing = true;
	hold_end(s);
}

/* For the count alone: does a payload that lies outside begin before byte @at, and end after it? */
static bool is_outside(const struct session *s, uint64_t at)
{
	struct stream_out o = s->out;

	return stream_rewind(&o, at) && stream_unsent_outside(&o);
}

static int rewind_out(struct session *s, uint64_t received)
{
	seen.within_outside += is_outside(s, received);
	bulk_bring_inside(s);
	return stream_rewind(&s->out, received) ? 0 : -EPROTO;
}

static int session_resume(struct transport *t, const struct frame_header *h, const uint8_t *payload)
{
	struct frame_resume r;
	struct session *s;

	must(!frame_get_resume(&r, payload, h->length));
	s = accepted_find(&r.id);
	if (!s || s->state != RUNNING) {
		send_resumed(t, ENOTCONN, 0);
		return 0;
	}
	send_resumed(t, 0, s->in.received);
	transport_flush(t);
	if (fifo_len(&t->out)) /* which comes before the rest of a frame */
		return -EAGAIN;
	if (rewind_out(s, r.received))
		return -EPROTO;
	go_on_over(s, t);
	go_on(s);
	return 0;
}

static int accept_again(struct session *s, struct transport *t)
{
	if (s->in.heard || rewind_out(s, 0))
		return -EPROTO;
	go_on_over(s, t);
	seen.reopened++;
	if (s->state == RUNNING)
		send_opened(t);
	hold_end(s);
	return 0;
}

static void session_init(struct session *s, unsigned id, int side, struct transport *t, enum state state)
{
	*s = (struct session){
		.side = side, .id = id, .state = state, .transport = t, .packets = profile.packets,
		.readable = true,
		.program = { .goal = rnd_size(profile.goal_max), .mark = UINT64_MAX },
	};
	s->in.packets = profile.packets;
	conn_init(&s->conn);
	stream_out_init(&s->out, &daemons[side].pool);
	if (t)
		t->session = s;
}

/* The acceptor has its local end. */
static void answer(struct session *s)
{
	s->state = RUNNING;
	moves++;
	if (s->transport)
		send_opened(s->transport);
}

static int session_accept(struct transport *t, const struct frame_header *h, const uint8_t *payload)
{
	struct frame_id id;
	struct session *s;

	must(h->length == sizeof(id.bytes));
	memcpy(id.bytes, payload, sizeof(id.bytes));
	s = accepted_find(&id);
	if (s)
		return accept_again(s, t);
	s = &daemons[ACCEPTOR].sessions[*id.bytes];
	if (s->state == ENDED) /* an attempt that comes late finds another server, for whom nobody is there */
		return -EPROTO;
	session_init(s, *id.bytes, ACCEPTOR, t, PARKED);
	if (one_in(2))
		answer(s);
	return 0;
}

static ssize_t frame_resumed(struct session *s, const struct frame_header *h, const uint8_t *payload)
{
	struct frame_resumed r;

	must(!frame_get_resumed(&r, payload, h->length));
	if (!r.error && rewind_out(s, r.received))
		return -EPROTO;
	if (!r.error) {
		go_on(s);
		return (ssize_t)(WIRE_HEADER + h->length);
	}
	release_transport(s);
	if (!conn_complete(&s->conn))
		wrong("the peer does not know connection %u any more", s->id);
	session_end(s, TOLD);
	return (ssize_t)(WIRE_HEADER + h->length);
}

static bool is_close(const struct session *s, const uint8_t *behind)
{
	struct frame_header next;

	return s->transport->behind >= WIRE_HEADER && !frame_get_header(&next, behind) && next.type == WIRE_SHUT;
}

static ssize_t session_frame(struct session *s, const struct frame_header *h, const uint8_t *payload)
{
	ssize_t whole = (ssize_t)(WIRE_HEADER + h->length);

	if (s->resuming)
		return h->type == WIRE_RESUMED ? frame_resumed(s, h, payload) : -EPROTO;
	if (h->type == WIRE_OPENED)
		return frame_opened(s, h);
	if (s->state == OFFERED)
		return 0;
	if (s->state != RUNNING)
		return -EPROTO;
	if (s->conn.flags & CONN_SHUT_RECEIVED &&
	    (h->type == WIRE_DATA || h->type == WIRE_MSG || h->type == WIRE_ORDER))
		return -EPROTO;
	switch (h->type) {
	case WIRE_DATA:
		return frame_packet(s, h, payload);
	case WIRE_MSG:
		return frame_msg(s, h, payload);
	case WIRE_ORDER:
		return frame_order(s, h, payload);
	case WIRE_SHUT:
		delivered(s, WIRE_HEADER);
		step(s, CONN_PEER_SHUT);
		return whole;
	case WIRE_STOP:
		delivered(s, WIRE_HEADER);
		if (!is_close(s, payload)) {
			step(s, CONN_PEER_STOP);
			return whole;
		}
		seen.closes++;
		delivered(s, WIRE_HEADER);
		steps(s, CONN_PEER_STOP, CONN_PEER_SHUT);
		return whole + WIRE_HEADER;
	case WIRE_END:
		if (conn_complete(&s->conn) && !s->end_sent && !send_end(s))
			return 0; /* ours goes first */
		step(s, CONN_PEER_END);
		return whole;
	case WIRE_ACK:
		return whole;
	}
	return -EPROTO;
}

/* ---- transport.c: receiving ---------------------------------------------------------------- */

static int handle_idle(struct transport *t, const struct frame_header *h, const uint8_t *payload)
{
	if (t->side == ACCEPTOR && h->type == WIRE_OPEN)
		return session_accept(t, h, payload);
	if (t->side == ACCEPTOR && h->type == WIRE_RESUME)
		return session_resume(t, h, payload);
	wrong("side %d: frame %u on a free transport", t->side, h->type);
}

/* A session that another thread may have. */
static bool is_known(const struct frame_header *h, const uint8_t *payload)
{
	struct frame_id id;

	if (h->type != WIRE_RESUME && h->type != WIRE_OPEN)
		return false;
	memcpy(id.bytes, payload, sizeof(id.bytes));
	return accepted_find(&id);
}

static ssize_t handle_frame(struct transport *t, const struct frame_header *h, const uint8_t *payload)
{
	struct frame_hello hello;
	int err = 0;

	tell("side %d: frame %u, %u bytes, ack %" PRIu64, t->side, h->type, h->length, h->ack);
	if (t->greeted && t->session)
		return session_frame(t->session, h, payload);
	if (!t->greeted) {
		must(h->type == WIRE_HELLO && !frame_get_hello(&hello, payload, h->length));
		t->greeted = true;
	} else if (profile.threads && is_known(h, payload) && one_in(2)) {
		t->moved = *h;
		memcpy(t->moved_payload, payload, h->length);
	} else {
		err = handle_idle(t, h, payload);
	}
	return err ? err : (ssize_t)(WIRE_HEADER + h->length);
}

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
		t->bulk = h.length >= profile.splice_min && session_can_splice(t->session, h.length);
		return n;
	}
	t->wanted = WIRE_HEADER + h.length;
	if (len < t->wanted)
		return 0;
	t->behind = len - t->wanted;
	t->wanted = 0;
	n = handle_frame(t, &h, data + WIRE_HEADER);
	if (n > 0 && (size_t)n < WIRE_HEADER + h.length)
		t->data_left = (uint32_t)(WIRE_HEADER + h.length - (size_t)n);
	return n;
}

static bool is_walked(const struct transport *t)
{
	return t->session && session_walks(t->session);
}

static int walk(struct transport *t, const uint8_t *data, size_t len)
{
	return is_walked(t) ? stream_walk(&t->session->in, &t->session->out, data, len) : 0;
}

static ssize_t feed(struct transport *t, const uint8_t *data, size_t len)
{
	size_t used = 0;

	t->wanted = 0;
	while (used < len && t->open && !t->moved.type && !fifo_len(&t->older)) {
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
		break; /* what was spliced comes before what is here */
	}
	return (ssize_t)used;
}

/* What a read gave, as there. */
static ssize_t read_result(struct transport *t, ssize_t n)
{
	if (n == -EAGAIN) {
		t->readable = false;
		return 0;
	}
	return n ? n : -EPIPE;
}

static ssize_t kernel_read(struct transport *t, void *to, size_t len)
{
	struct wire *w = &t->wire;
	size_t n = MIN(len, w->arrived);

	if (!t->readable)
		return 0;
	if (!n)
		return read_result(t, w->over ? 0 : -EAGAIN);
	if (one_in(4))
		n = 1 + rnd(n);
	memcpy(to, fifo_peek(&w->f), n);
	fifo_skip(&w->f, n);
	w->arrived -= n;
	moves += n;
	return walk(t, to, n) ? -EPROTO : (ssize_t)n;
}

static ssize_t read_more(struct transport *t, size_t len)
{
	uint8_t *room = fifo_reserve(&t->in, len);
	ssize_t n;

	must(room);
	n = kernel_read(t, room, len);
	if (n > 0)
		fifo_commit(&t->in, (size_t)n);
	must(fifo_len(&t->in) <= AHEAD_MAX + AHEAD_READ);
	return n;
}

static bool is_stuck(struct transport *t)
{
	if (!t->stuck && !t->timing) {
		t->acked_before = t->session->out.acked;
		t->timing = true;
		moves++;
	}
	seen.stuck += t->stuck;
	return t->stuck;
}

static ssize_t read_ahead(struct transport *t)
{
	if (!t->session || t->session->in.over || fifo_len(&t->in) >= AHEAD_MAX)
		return 0;
	if (!t->ending && (!session_needs_ack(t->session) || !is_stuck(t)))
		return 0;
	seen.ahead++;
	return read_more(t, AHEAD_READ);
}

static ssize_t splice_turn(struct transport *t)
{
	ssize_t n;

	if (!t->readable)
		return 0;
	n = session_splice(t->session, &t->wire, t->data_left);
	if (n == -EBUSY)
		return read_ahead(t);
	n = read_result(t, n);
	if (n > 0)
		t->data_left -= (uint32_t)n;
	return n;
}

static void put_older_first(struct transport *t)
{
	if (!fifo_len(&t->older))
		return;
	must(!fifo_add(&t->older, fifo_peek(&t->in), fifo_len(&t->in)));
	fifo_clear(&t->in);
	t->in = t->older;
	t->older = (struct fifo){ 0 };
	t->wanted = 0;
}

static ssize_t feed_in(struct transport *t)
{
	ssize_t used = feed(t, fifo_peek(&t->in), fifo_len(&t->in));

	if (used < 0)
		return used;
	if (used)
		fifo_skip(&t->in, (size_t)used);
	t->stuck &= fifo_len(&t->in) > 0;
	put_older_first(t);
	return used;
}

static ssize_t read_and_feed(struct transport *t)
{
	size_t len = t->bulk ? t->data_left + WIRE_HEADER : sizeof(inbound);
	ssize_t n = kernel_read(t, inbound, len);
	ssize_t used;

	if (n <= 0)
		return n;
	used = feed(t, inbound, (size_t)n);
	if (used < 0)
		return used;
	if (t->open)
		must(!fifo_add(&t->in, inbound + used, (size_t)(n - used)));
	put_older_first(t);
	return n;
}

static ssize_t receive_turn(struct transport *t)
{
	bool drained = !t->session || session_drain(t->session);

	if (!drained && is_walked(t)) /* the answer to RESUME waits for nobody */
		return read_ahead(t);
	if (fifo_len(&t->in)) {
		ssize_t used = feed_in(t);

		if (used || !t->open)
			return used;
		if (t->wanted > fifo_len(&t->in))
			return read_more(t, t->wanted - fifo_len(&t->in));
		return read_ahead(t);
	}
	if (t->data_left && t->bulk && session_can_splice(t->session, t->data_left))
		return splice_turn(t);
	return read_and_feed(t);
}

static bool transport_receive(struct transport *t)
{
	bool any = false;

	for (int turn = 0; turn < RECEIVE_TURNS && t->open && !t->moved.type; turn++) {
		ssize_t n = receive_turn(t);

		if (n < 0 && t->open)
			transport_broken(t, n == -EPROTO, "by reading");
		if (n <= 0)
			break;
		any = true;
	}
	return any;
}

static void session_pump(struct session *s)
{
	struct transport *t = s->transport;
	bool more = true;

	for (uint64_t turn = rnd(PUMP_TURNS); more && t; turn--) {
		more = transport_receive(t);
		if (s->transport != t)
			return;
		more |= read_local(s);
		if (s->transport != t)
			return;
		if (stream_ack_due(&s->in) && !conn_complete(&s->conn))
			transport_send(t, WIRE_ACK, NULL, 0);
		more |= flush(s);
		if (s->transport != t)
			return;
		if (!turn)
			break;
	}
	bulk_tidy(s);
}

/* Another thread gets it. */
static void arrive(struct transport *t)
{
	struct frame_header h = t->moved;
	int err;

	t->moved.type = 0;
	t->stuck = false;
	t->timing = t->bulk = false;
	t->readable = true;
	seen.moved++;
	fifo_clear(&t->in);
	err = handle_idle(t, &h, t->moved_payload);
	if (err)
		transport_broken(t, err == -EPROTO, "late");
	put_older_first(t);
	moves++;
}

static void on_event(struct transport *t)
{
	if (!t->open)
		return;
	if (t->moved.type) {
		arrive(t);
		return;
	}
	t->readable |= t->event;
	t->event = false;
	if (!t->session) {
		transport_flush(t);
		transport_receive(t);
	}
	if (t->session)
		session_pump(t->session);
	else
		transport_flush(t);
	if (t->error)
		transport_broken(t, false, "by writing");
	if (t->open && t->readable && !t->ending && t->wire.over) {
		t->ending = true;
		moves++;
	}
}

static void on_timer(struct transport *t)
{
	if (!t->timing)
		return;
	t->timing = false;
	moves++;
	if (t->session) {
		t->stuck = t->session->out.acked == t->acked_before;
		session_pump(t->session);
	}
}

static void on_local_event(struct session *s)
{
	s->readable |= s->program.event;
	s->program.event = false;
	session_pump(s);
}

/* ---- programs ------------------------------------------------------------------------------ */

static void program_closes(struct program *p)
{
	p->event |= !p->eof;
	p->eof = true;
}

static void program_writes(struct session *s)
{
	struct program *p = &s->program;
	uint64_t n = s->packets ? rnd(8) + 1 : rnd_size(profile.write_max) + 1;

	if (p->eof || p->written - p->read > (s->packets ? 64 : 2 * profile.write_max))
		return;
	n = MIN(n, p->goal - p->written);
	if (n && profile.descriptors && p->mark == UINT64_MAX && one_in(profile.marks))
		p->mark = p->written;
	p->written += n;
	p->event |= n > 0;
	if (p->written == p->goal && !profile.waits && one_in(4))
		program_closes(p);
	moves += n;
}

static void program_reads(struct session *s)
{
	struct program *p = &s->program;
	size_t n = rnd_size(profile.write_max) + 1;

	p->room = MAX(p->room, n);
	s->fulfilled |= s->waiting;
}

/* It has written all that it would like to, and nothing keeps it. */
static bool is_content(const struct session *s)
{
	const struct program *p = &s->program, *q = &daemons[!s->side].sessions[s->id].program;

	if (p->written < p->goal)
		return false;
	return !profile.waits || s->conn.flags & CONN_STOP_RECEIVED ||
	       (daemons[!s->side].sessions[s->id].state != NOT_YET && (s->packets ? q->packets : q->seen) == p->written);
}

static void program_ends(struct session *s)
{
	struct program *p = &s->program;

	if (one_in(2)) {
		program_closes(p);
	} else if (profile.leavers) {
		p->event |= !p->gone;
		p->gone = true;
	}
}

static bool alive(const struct session *s)
{
	return s->state != NOT_YET && s->state != ENDED;
}

/* ---- steps --------------------------------------------------------------------------------- */

static void pay_acks(struct session *s)
{
	bool unheard = s->side == DIALLER && !s->out.sent && !s->in.told;

	if (!s->owing)
		return;
	s->owing = false;
	if (!s->transport || s->resuming || s->state == OPENING || conn_complete(&s->conn) ||
	    (s->in.delivered == s->in.told && !unheard))
		return;
	transport_send(s->transport, WIRE_ACK, NULL, 0);
	transport_flush(s->transport);
	moves++;
}

/* An attempt has taken too long; or, of a connection that is held, the next one begins. */
static void hold_timer(struct session *s)
{
	if (!s->held || s->side != DIALLER)
		return;
	if (!s->transport)
		dial_again(s);
	else if (s->state == OPENING && s->transport->greeted)
		s->held = false;
	else if (one_in(4))
		transport_broken(s->transport, false, "no answer");
}

/* The next connection, when the one before has ended. */
static void client_comes(void)
{
	struct daemon *d = &daemons[DIALLER];
	unsigned id = 0;
	struct transport *t;

	while (id < profile.connections && d->sessions[id].state == ENDED)
		id++;
	if (id == profile.connections || d->sessions[id].state != NOT_YET)
		return;
	t = pooled ? pooled : dial_new();
	if (!t)
		return;
	pooled = NULL;
	session_init(&d->sessions[id], id, DIALLER, t, OPENING);
	tell("connection %u begins", id);
	send_open(&d->sessions[id]);
}

static void session_timer(struct session *s)
{
	if (s->state == OFFERED) {
		s->state = RUNNING;
		moves++;
		session_pump(s);
	} else if (s->state == PARKED) {
		answer(s);
	}
}

/* One side's kernel, or its control link, finds out. The former tells of it once. */
static void notice(struct transport *t)
{
	if (!t->wire.cut || !t->open || t->wire.over)
		return;
	if (rnd(4))
		t->wire.over = t->event = true;
	else
		transport_broken(t, false, "as the link says");
}

static void cut(struct transport *pair[2])
{
	if (!pair[0])
		return;
	tell("a transport is cut");
	for (int i = 0; i < 2; i++)
		wire_cut(&pair[i]->wire);
	if (one_in(2))
		notice(pair[rnd(2)]);
}

static void check_bulk(const struct session *s)
{
	const struct bulk *b = s->bulk;

	if (!b || !b->kept) {
		must(!s->out.outside && !s->out.forgotten);
		return;
	}
	must(fifo_len(&b->kept->f) == s->out.outside + s->out.forgotten);
	must(b->unframed <= fifo_len(&b->ahead->f));
	must(fifo_len(&b->ahead->f) - b->unframed <= s->out.outside);
}

static void check_session(const struct session *s)
{
	const struct session *peer = &daemons[!s->side].sessions[s->id];
	const struct stream_out *o = &s->out;

	if (!alive(s))
		return;
	must(o->kept <= o->acked && o->acked <= o->sent && o->sent <= o->end);
	must(o->end - o->kept <= WIRE_WINDOW + WIRE_HEADER + WIRE_PAYLOAD_MAX + 8 * WIRE_HEADER);
	must(s->in.told <= s->in.delivered && s->in.delivered <= s->in.received);
	check_bulk(s);
	if (peer->state != NOT_YET)
		must(peer->out.acked <= s->in.delivered && s->in.received <= peer->out.end);
}

static void check(void)
{
	for (int side = 0; side < 2; side++)
		for (unsigned i = 0; i < profile.connections; i++)
			check_session(&daemons[side].sessions[i]);
}

/* Those that were dialled last are mostly the first. */
static struct transport **some_transport(void)
{
	return transports[rnd(one_in(4) ? TRANSPORTS_MAX : 3)];
}

/* There is hardly ever more than one on a side; NULL: none. */
static struct session *some_session(struct daemon *d)
{
	unsigned first = (unsigned)rnd(2);

	for (unsigned i = first; i < first + profile.connections; i++)
		if (alive(&d->sessions[i % profile.connections]))
			return &d->sessions[i % profile.connections];
	return NULL;
}

static void random_step(void)
{
	struct transport **pair = some_transport();
	int side = (int)rnd(2);
	struct session *s = some_session(&daemons[side]);

	if (rnd(1024) < profile.cuts)
		cut(pair);
	switch (rnd(20)) {
	case 0:
		client_comes();
		break;
	case 1:
	case 2:
		if (s)
			program_writes(s);
		break;
	case 3:
		if (s && rnd(8) >= profile.hesitation)
			program_reads(s);
		break;
	case 4:
		if (s && one_in(16))
			program_ends(s);
		break;
	case 5:
		if (s)
			hold_timer(s);
		break;
	case 6:
		if (s)
			pay_acks(s);
		break;
	case 7:
		if (s)
			session_timer(s);
		break;
	case 8:
		if (pair[0])
			notice(pair[side]);
		break;
	case 9:
		others_change(&daemons[side]);
		break;
	case 10:
	case 11:
	case 12:
		for (int i = 0; i < TRANSPORTS_MAX; i++)
			if (transports[i][0] && one_in(2))
				wire_arrive(transports[i][side], rnd_size(profile.capacity));
		break;
	case 13:
		if (s && s->held && !s->transport)
			hold_timer(s);
		break;
	case 14:
		if (s)
			on_local_event(s);
		break;
	case 15:
		if (s && s->transport)
			on_timer(s->transport);
		else if (pair[0])
			on_timer(pair[side]);
		break;
	default:
		if (s && s->transport)
			on_event(s->transport);
		else if (pair[0])
			on_event(pair[side]);
	}
}

/* ---- the end of a schedule ----------------------------------------------------------------- */

/* Everybody has a turn, and nothing breaks any more. @idle: a side whose programs read nothing, or -1. */
static void fair_round(int idle)
{
	client_comes();
	for (int side = 0; side < 2; side++) {
		for (unsigned i = 0; i < profile.connections; i++) {
			struct session *s = &daemons[side].sessions[i];

			if (!alive(s))
				continue;
			session_timer(s);
			for (int n = 0; n < 4; n++)
				program_writes(s);
			if (is_content(s))
				program_closes(&s->program);
			if (side != idle)
				program_reads(s);
			on_local_event(s);
			if (!alive(s))
				continue;
			if (!s->transport)
				hold_timer(s);
			pay_acks(s);
		}
		for (int i = 0; i < TRANSPORTS_MAX; i++) {
			struct transport *t = transports[i][side];

			if (!t)
				continue;
			wire_arrive(t, SIZE_MAX);
			notice(t);
			on_event(t);
			on_timer(t);
		}
	}
	check();
}

/* Its peer has done all that it could want of it, and forgotten it: it waits for the end of the hold time. */
static bool is_forgotten(const struct session *s)
{
	return s->side == ACCEPTOR && conn_complete(&s->conn) &&
	       daemons[DIALLER].sessions[s->id].state == ENDED;
}

static bool all_over(void)
{
	for (unsigned i = 0; i < profile.connections; i++) {
		const struct session *s = &daemons[ACCEPTOR].sessions[i];

		if (daemons[DIALLER].sessions[i].state != ENDED || (s->state != ENDED && !is_forgotten(s)))
			return false;
	}
	return true;
}

/* Has all that the programs of @side wrote on connections that it has got over? */
static bool got_over(int side)
{
	for (unsigned i = 0; i < profile.connections; i++) {
		const struct session *s = &daemons[side].sessions[i], *peer = &daemons[!side].sessions[i];

		if (!alive(s))
			continue;
		return s->state == RUNNING && peer->state != NOT_YET &&
		       (peer->state == ENDED || peer->conn.flags & CONN_SHUT_RECEIVED);
	}
	return true;
}

static void settle(int idle, unsigned max)
{
	unsigned still = 0;

	for (unsigned n = 0; idle < 0 ? !all_over() : !got_over(idle); n++) {
		uint64_t before = moves;

		fair_round(idle);
		step_number++;
		still = moves == before ? still + 1 : 0;
		if (still > 16 || n > max)
			wrong("%s after %u rounds%s", still > 16 ? "nothing moves" : "no end", n,
			     idle < 0 ? "" : ", while one side does not read");
	}
}

static void check_direction(const struct session *from, const struct session *to)
{
	const struct program *p = &from->program, *q = &to->program;
	bool whole = !(from->conn.flags & CONN_STOP_RECEIVED);

	must(p->read == p->written || !whole);
	must(!p->dropped || !whole);
	must((from->packets ? q->packets : q->seen) == p->read - p->dropped);
	must(q->descriptors == p->marks);
	must(to->in.received <= from->out.end && to->in.delivered <= to->in.received);
	must(!to->waiting && !to->arriving);
}

static void check_end(void)
{
	for (unsigned i = 0; i < profile.connections; i++) {
		struct session *s[2] = { &daemons[0].sessions[i], &daemons[1].sessions[i] };

		for (int side = 0; side < 2; side++) {
			must(conn_complete(&s[side]->conn));
			check_direction(s[side], s[!side]);
		}
		seen.waited += s[ACCEPTOR]->state != ENDED;
		session_end(s[ACCEPTOR], FORGOTTEN);
	}
}

/* ---- schedules ----------------------------------------------------------------------------- */

static void draw_profile(void)
{
	static const uint64_t goals[] = { 0, 100, 3000, 20000, 100000, 3000000 };
	unsigned kind = (unsigned)rnd(256);
	bool large = kind < 2, medium = kind < 16;

	profile = (struct profile){
		.connections = 1 + (unsigned)rnd(CONNECTIONS_MAX),
		.packets = one_in(4),
		.descriptors = one_in(2),
		.orders = one_in(4),
		.threads = one_in(2),
		.leavers = one_in(3),
		.splices = one_in(2),
		.bulk = !one_in(4),
		.pipes = one_in(4),
		.splice_min = 1 + (uint32_t)rnd(one_in(2) ? 16384 : 64),
		.bulk_min = 1 + rnd(one_in(4) ? 16384 : 64),
		.read_small = one_in(4) ? READ_SMALL : 64 + rnd(512),
		.pieces = 1 + (unsigned)rnd(one_in(4) ? 4 : PIECES_MAX),
		.marks = one_in(2) ? 2 : 16,
		.waits = one_in(2),
		.cuts = one_in(8) ? 0 : (unsigned)rnd(one_in(2) ? 128 : 16),
		.hesitation = (unsigned)rnd(9),
		.goal_max = goals[large ? 5 : medium ? 4 : one_in(2) ? 3 : rnd(3)],
		.write_max = 1 + rnd_size(large ? STREAM_READ_MAX : medium ? 20000 : 5000),
		.capacity = 64 + rnd_size(large ? 400000 : medium ? 65536 : 8192),
	};
	if (large)
		profile.capacity += 20000;
	if (profile.pipes) {
		profile.packets = profile.descriptors = false;
		profile.splices = true;
	}
	profile.goal_max = MIN(profile.goal_max, profile.write_max * 200);
	if (profile.packets)
		profile.goal_max = profile.goal_max / profile.write_max + 1;
	for (int side = 0; side < 2; side++)
		daemons[side].budget.limit = one_in(2) ? 0 : (size_t)(rnd(20) * (one_in(2) ? 1000000 : 10000));
}

static void begin(uint64_t number)
{
	seed = number;
	random_state = mix(number);
	step_number = 0;
	pooled = NULL;
	for (int side = 0; side < 2; side++) {
		struct daemon *d = &daemons[side];

		for (unsigned i = 0; i < CONNECTIONS_MAX; i++)
			d->sessions[i].state = NOT_YET;
		others_keep(d, 0);
		must(!atomic_load(&d->budget.used));
	}
	draw_profile();
}

static void end(void)
{
	for (int i = 0; i < TRANSPORTS_MAX; i++) {
		for (int j = 0; j < 2 && transports[i][j]; j++) {
			transport_close(transports[i][j]);
			fifo_clear(&transports[i][j]->wire.f);
		}
		for (int j = 0; j < 2; j++) {
			free(transports[i][j]);
			transports[i][j] = NULL;
		}
	}
}

static void run(uint64_t number, unsigned steps)
{
	unsigned drawn;

	begin(number);
	drawn = 20 + (unsigned)rnd(one_in(8) ? 2000 : 500);
	for (; step_number < MIN(steps, drawn); step_number++) {
		random_step();
		check();
	}
	tell("no more breaks");
	if (one_in(2))
		settle((int)rnd(2), 20000);
	settle(-1, 20000);
	check_end();
	end();
}

static uint64_t from_environment(const char *name, uint64_t otherwise)
{
	const char *value = getenv(name);

	return value && *value ? strtoull(value, NULL, 10) : otherwise;
}

/* @all: everything must have happened. */
static void tell_seen(bool all)
{
	const struct {
		uint64_t times;
		const char *what;
	} counts[] = {
		{ seen.resumed, "resumptions" },
		{ seen.within_data, "within a DATA" },
		{ seen.older, "with bytes that are not delivered" },
		{ seen.reopened, "OPENs repeated" },
		{ seen.late, "attempts refused that came late" },
		{ seen.moved, "transports moved to another thread" },
		{ seen.forgotten, "ends without the peer's END, all being acknowledged" },
		{ seen.told, "ends because the peer has forgotten it" },
		{ seen.waited, "ends by the hold time, all being done" },
		{ seen.full, "reads put off for want of acks" },
		{ seen.ahead, "reads ahead" },
		{ seen.spliced, "splices" },
		{ seen.stuck, "because no ack came for a while" },
		{ seen.thrown, "deliveries thrown away" },
		{ seen.bulk, "payloads outside" },
		{ seen.copied, "copied, as there was no room for pieces" },
		{ seen.inside, "brought inside to be sent again" },
		{ seen.within_outside, "resumptions within one" },
		{ seen.closes, "STOP and SHUT taken together" },
	};

	for (size_t i = 0; i < ARRAY_LEN(counts); i++) {
		printf("# %10" PRIu64 " %s\n", counts[i].times, counts[i].what);
		must(counts[i].times || !all);
	}
}

START_TEST(schedules)
{
	uint64_t first = from_environment("SEED", 1);
	uint64_t n = from_environment("SCHEDULES", getenv("SEED") ? 1 : SCHEDULES);

	telling = getenv("SEED") && n == 1;
	for (size_t i = 0; i < sizeof(pattern); i++)
		pattern[i] = i < PATTERN ? (uint8_t)mix(i) : pattern[i - PATTERN];
	for (int side = 0; side < 2; side++)
		stream_pool_init(&daemons[side].pool, &daemons[side].budget);
	for (uint64_t i = 0; i < n; i++)
		run(first + i, (unsigned)from_environment("STEPS", UINT32_MAX));
	for (int side = 0; side < 2; side++)
		stream_pool_free(&daemons[side].pool);
	printf("# %" PRIu64 " schedules from SEED=%" PRIu64 " on\n", n, first);
	tell_seen(n >= SCHEDULES);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("simulation");
	TCase *t = tcase_create("simulation");
	SRunner *sr = srunner_create(s);
	int failed;

	suite_add_tcase(s, t);
	tcase_set_timeout(t, 0); /* whoever runs it knows how many schedules he asked for */
	tcase_add_test(t, schedules);
	srunner_set_tap(sr, "-");
	srunner_run_all(sr, CK_SILENT);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed != 0;
}
