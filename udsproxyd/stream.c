/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 *
 * Out: frames lie in chunks, whole and in order, as they go over the wire. A small chunk holds
 * many small frames; for a busy connection a chunk is what one large frame needs. The kernel is
 * given pieces of chunks; a resumption moves `sent` back. An acknowledgement frees the frames
 * that it covers as a whole, so that `kept` is always a frame's beginning: that is how any byte's
 * frame is found, by going from header to header.
 *
 * A payload that lies outside has a chunk that holds no more than its frame's header. Offsets in a chunk go
 * on over what is outside, as if it were there.
 *
 * In: stream_walk() follows the headers of what comes, whether or not it can be delivered yet. It is
 * the one place where acks are read, and it knows at any time how much of the stream is here.
 */
#include "stream.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "util.h"

#define CHUNK_HEAD offsetof(struct stream_chunk, data)
#define CHUNK_SMALL (8192u - CHUNK_HEAD)
#define CHUNK_LARGE (STREAM_READ_MAX + WIRE_HEADER)
#define CHUNK_EXACT 1024u	/* up to here a chunk is made for one frame: many connections keep one that is small */
#define CHUNK_USEFUL 512u	/* room in a chunk that is worth reading into */
#define REST_MAX 8u		/* chunks of each size that a pool keeps: what was used last is still in a cache */
#define BUDGET_SHARES 8u	/* one connection may take this part of what is left */
#define ROOM_MIN 4096u		/* what a connection may keep however many others there are */
#define ROOM_PARTS 16u		/* less than this part of what it may keep is no room: what is large goes in large pieces */

struct stream_chunk {
	struct stream_chunk *next;
	uint32_t size; /* of data */
	uint32_t end;  /* bytes used */
	uint32_t outside; /* bytes that follow them elsewhere */
	uint8_t data[];
};

/* ---- memory ----------------------------------------------------------------------------- */

void stream_pool_init(struct stream_pool *pool, struct stream_budget *budget)
{
	*pool = (struct stream_pool){ .budget = budget };
}

static struct stream_chunk *new_chunk(size_t size)
{
	struct stream_chunk *c = malloc(MAX(CHUNK_HEAD + size, sizeof(*c)));

	if (c)
		*c = (struct stream_chunk){ .size = (uint32_t)size };
	return c;
}

/* An empty one for @size bytes. */
static struct stream_chunk *take(struct stream_pool *pool, size_t size)
{
	bool large = size > CHUNK_SMALL;
	struct stream_chunk *c = size > CHUNK_LARGE ? NULL : pool->rest[large];

	if (c) {
		pool->rest[large] = c->next;
		pool->n_rest[large]--;
	} else {
		c = new_chunk(MAX(size, large ? CHUNK_LARGE : CHUNK_SMALL));
		if (!c)
			return NULL;
	}
	c->next = NULL;
	c->end = 0;
	return c;
}

static void give_back(struct stream_pool *pool, struct stream_chunk *c)
{
	bool large = c->size == CHUNK_LARGE;

	if ((!large && c->size != CHUNK_SMALL) || pool->n_rest[large] == REST_MAX) {
		free(c);
		return;
	}
	c->next = pool->rest[large];
	pool->rest[large] = c;
	pool->n_rest[large]++;
}

static void give_reserved_back(struct stream_pool *pool)
{
	if (pool->reserved)
		give_back(pool, pool->reserved);
	pool->reserved = NULL;
}

void stream_pool_free(struct stream_pool *pool)
{
	give_reserved_back(pool);
	for (int i = 0; i < 2; i++) {
		struct stream_chunk *c;

		while ((c = pool->rest[i])) {
			pool->rest[i] = c->next;
			free(c);
		}
	}
}

/* ---- out -------------------------------------------------------------------------------- */

void stream_out_init(struct stream_out *o, struct stream_pool *pool)
{
	*o = (struct stream_out){ .pool = pool };
}

/* What it costs, here and elsewhere. */
static void charge(struct stream_out *o, const struct stream_chunk *c)
{
	atomic_fetch_add(&o->pool->budget->used, CHUNK_HEAD + c->size + c->outside);
}

static void uncharge(struct stream_out *o, const struct stream_chunk *c)
{
	atomic_fetch_sub(&o->pool->budget->used, CHUNK_HEAD + c->size + c->outside);
}

static void drop_first(struct stream_out *o)
{
	struct stream_chunk *c = o->first;

	if (o->cursor == c) {
		o->cursor = NULL;
		o->cursor_at = 0;
	}
	o->first = c->next;
	o->first_at = 0;
	if (!o->first)
		o->last = NULL;
	o->outside -= c->outside;
	o->forgotten += c->outside;
	uncharge(o, c);
	give_back(o->pool, c);
}

void stream_out_free(struct stream_out *o)
{
	while (o->first)
		drop_first(o);
}

static void append(struct stream_out *o, struct stream_chunk *c)
{
	charge(o, c);
	if (o->last)
		o->last->next = c;
	else
		o->first = c;
	o->last = c;
}

size_t stream_room(const struct stream_out *o)
{
	const struct stream_budget *budget = o->pool->budget;
	size_t used = atomic_load_explicit(&budget->used, memory_order_relaxed);
	size_t left = used < budget->limit ? (budget->limit - used) / BUDGET_SHARES : 0;
	size_t limit = MIN(MAX(left, ROOM_MIN), WIRE_WINDOW);
	uint64_t out = o->end - o->acked;

	return out + limit / ROOM_PARTS <= limit ? limit - (size_t)out : 0;
}

/* Bytes of it, wherever they lie. */
static uint32_t chunk_end(const struct stream_chunk *c)
{
	return c->end + c->outside;
}

static size_t chunk_room(const struct stream_chunk *c)
{
	return c ? c->size - c->end : 0;
}

uint8_t *stream_reserve(struct stream_out *o, size_t want, size_t *len)
{
	struct stream_chunk *c = o->last;

	give_reserved_back(o->pool);
	if (chunk_room(c) < WIRE_HEADER + MAX(want / 2, CHUNK_USEFUL))
		c = o->pool->reserved = take(o->pool, WIRE_HEADER + want);
	if (!c)
		return NULL;
	*len = MIN(want, chunk_room(c) - WIRE_HEADER);
	return c->data + c->end + WIRE_HEADER;
}

static void put_header(struct stream_out *o, uint8_t type, uint16_t count, uint64_t ack, size_t length)
{
	struct frame_header h = { .type = type, .count = count, .ack = ack, .length = (uint32_t)length };
	struct stream_chunk *c = o->last;

	frame_put_header(c->data + c->end, &h);
	c->end += WIRE_HEADER;
	o->end += WIRE_HEADER + length;
}

/* The payload is behind the header's place already. */
static void put_frame(struct stream_out *o, uint8_t type, uint16_t count, uint64_t ack, size_t length)
{
	put_header(o, type, count, ack, length);
	o->last->end += (uint32_t)length;
}

void stream_commit(struct stream_out *o, uint8_t type, uint64_t ack, size_t n)
{
	struct stream_chunk *c = o->pool->reserved;
	struct stream_chunk *exact = c && n <= CHUNK_EXACT ? new_chunk(WIRE_HEADER + n) : NULL;

	if (exact)
		memcpy(exact->data + WIRE_HEADER, c->data + WIRE_HEADER, n);
	else
		o->pool->reserved = NULL;
	if (c)
		append(o, exact ? exact : c);
	put_frame(o, type, 0, ack, n);
}

int stream_add(struct stream_out *o, uint8_t type, uint16_t count, uint64_t ack, const struct iovec *iov,
	       int n)
{
	size_t length = 0;
	uint8_t *to;

	for (int i = 0; i < n; i++)
		length += iov[i].iov_len;
	if (chunk_room(o->last) < WIRE_HEADER + length) {
		size_t size = WIRE_HEADER + length;
		struct stream_chunk *c = length <= CHUNK_EXACT ? new_chunk(size) : take(o->pool, size);

		if (!c)
			return -ENOMEM;
		append(o, c);
	}
	to = o->last->data + o->last->end + WIRE_HEADER;
	for (int i = 0; i < n; i++) {
		if (iov[i].iov_len)
			memcpy(to, iov[i].iov_base, iov[i].iov_len);
		to += iov[i].iov_len;
	}
	put_frame(o, type, count, ack, length);
	return 0;
}

int stream_add_outside(struct stream_out *o, uint64_t ack, size_t n)
{
	struct stream_chunk *c = new_chunk(WIRE_HEADER);

	if (!c)
		return -ENOMEM;
	c->outside = (uint32_t)n;
	append(o, c);
	put_header(o, WIRE_DATA, 0, ack, n);
	o->outside += n;
	return 0;
}

int stream_unsent(const struct stream_out *o, struct iovec *iov, int max)
{
	struct stream_chunk *c = o->cursor ? o->cursor : o->first;
	uint32_t at = o->cursor ? o->cursor_at : o->first_at;
	int n = 0;

	for (; c && n < max; c = c->next, at = 0) {
		if (at < c->end)
			iov[n++] = (struct iovec){ .iov_base = c->data + at, .iov_len = c->end - at };
		if (c->outside && at < chunk_end(c))
			break;
	}
	return n;
}

size_t stream_unsent_outside(const struct stream_out *o)
{
	const struct stream_chunk *c = o->cursor;

	if (!c)
		return 0;
	if (o->cursor_at < c->end || o->cursor_at == chunk_end(c))
		return 0;
	return chunk_end(c) - o->cursor_at;
}

bool stream_ends_outside(const struct stream_out *o)
{
	return o->sent != o->end && o->last->outside;
}

uint8_t *stream_bring_inside(struct stream_out *o, size_t *len)
{
	struct stream_chunk **link = &o->first, *previous = NULL, *c, *whole;

	*len = o->outside;
	if (!o->outside)
		return NULL;
	for (; !(*link)->outside; link = &previous->next)
		previous = *link;
	c = *link;
	whole = new_chunk(chunk_end(c));
	if (!whole)
		return NULL;
	memcpy(whole->data, c->data, c->end);
	whole->end = whole->size;
	whole->next = c->next;
	*len = c->outside;
	o->outside -= c->outside;
	*link = whole;
	if (o->cursor == c)
		o->cursor = whole;
	if (o->last == c)
		o->last = whole;
	charge(o, whole);
	uncharge(o, c);
	give_back(o->pool, c);
	return whole->data + WIRE_HEADER;
}

/* Bytes of the frame that begins at @at. */
static uint32_t frame_size(const struct stream_chunk *c, uint32_t at)
{
	struct buf b;

	buf_init_const(&b, c->data + at, WIRE_HEADER);
	return WIRE_HEADER + buf_get_u32(&b);
}

void stream_sent(struct stream_out *o, size_t n)
{
	o->sent += n;
	if (!o->cursor && n) {
		o->cursor = o->first;
		o->cursor_at = o->first_at;
	}
	while (n) {
		uint32_t part;

		if (o->cursor_at == chunk_end(o->cursor)) {
			o->cursor = o->cursor->next;
			o->cursor_at = 0;
		}
		if (!o->frame_left)
			o->frame_left = frame_size(o->cursor, o->cursor_at);
		part = (uint32_t)MIN(n, o->frame_left);
		o->cursor_at += part;
		o->frame_left -= part;
		n -= part;
	}
}

size_t stream_frame_left(const struct stream_out *o)
{
	return o->frame_left;
}

/* Of the frames that are acknowledged as a whole nothing is kept. */
static void drop_acked(struct stream_out *o)
{
	while (o->kept < o->acked) {
		uint32_t size = frame_size(o->first, o->first_at);

		if (o->kept + size > o->acked)
			return;
		o->kept += size;
		o->first_at += size;
		if (o->first_at == chunk_end(o->first))
			drop_first(o);
	}
}

bool stream_acked(struct stream_out *o, uint64_t ack)
{
	if (ack > o->sent)
		return false;
	/* An older one is that of a frame that was sent again. */
	o->acked = MAX(o->acked, ack);
	drop_acked(o);
	return true;
}

bool stream_rewind(struct stream_out *o, uint64_t received)
{
	o->reached = MAX(o->reached, o->sent);
	if (received < o->acked || received > o->reached)
		return false;
	o->cursor = NULL;
	o->cursor_at = 0;
	o->frame_left = 0;
	o->sent = o->kept;
	stream_sent(o, (size_t)(received - o->kept));
	return true;
}

/* ---- in --------------------------------------------------------------------------------- */

static bool is_of_connection(uint8_t type)
{
	return type != WIRE_HELLO && type != WIRE_OPEN && type != WIRE_RETIRE && type != WIRE_RESUME;
}

/* @n bytes of the current frame, its header's among them. */
static void count(struct stream_in *in, uint32_t n)
{
	in->came += n;
	if (in->direct) {
		in->received += n;
	} else if (!in->left) {
		in->received += in->counted ? in->came : 0;
		in->came = in->over ? in->came : 0;
	}
}

static int walk_header(struct stream_in *in, struct stream_out *o)
{
	struct frame_header h;

	if (frame_get_header(&h, in->head) || (is_of_connection(h.type) && !stream_acked(o, h.ack)))
		return -EPROTO;
	in->head_len = 0;
	in->heard = true;
	in->aborted = h.type == WIRE_ABORT;
	in->over = h.type == WIRE_END || in->aborted;
	in->counted = frame_counted(h.type);
	in->direct = h.type == WIRE_DATA && !in->packets;
	in->left = h.length;
	in->came = 0;
	count(in, WIRE_HEADER);
	return 0;
}

void stream_walked(struct stream_in *in, size_t n)
{
	in->left -= (uint32_t)n;
	count(in, (uint32_t)n);
}

int stream_walk(struct stream_in *in, struct stream_out *o, const uint8_t *data, size_t len)
{
	while (len && !in->over) {
		size_t n = MIN(len, in->left ? in->left : WIRE_HEADER - in->head_len);

		if (in->left) {
			stream_walked(in, n);
		} else {
			memcpy(in->head + in->head_len, data, n);
			in->head_len += (uint8_t)n;
			if (in->head_len == WIRE_HEADER && walk_header(in, o))
				return -EPROTO;
		}
		data += n;
		len -= n;
	}
	return 0;
}

size_t stream_cut(struct stream_in *in)
{
	size_t cut = in->head_len;

	in->head_len = 0;
	if (in->over || (in->left && !in->direct)) {
		cut = in->came;
		in->left = 0;
		in->over = false;
	}
	return cut;
}

uint64_t stream_ack(struct stream_in *in)
{
	in->told = in->delivered;
	return in->told;
}

bool stream_ack_due(const struct stream_in *in)
{
	return in->delivered - in->told >= WIRE_ACK_EVERY;
}
