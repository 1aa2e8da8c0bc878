/* SPDX-License-Identifier: Apache-2.0 */
#include "frame.h"

#include <errno.h>
#include <string.h>

#include "util.h"

void frame_put_header(void *to, const struct frame_header *h)
{
	struct buf b;

	buf_init(&b, to, WIRE_HEADER);
	buf_put_u32(&b, h->length);
	buf_put_u8(&b, h->type);
	buf_put_u8(&b, h->flags);
	buf_put_u16(&b, h->count);
	buf_put_u64(&b, h->ack);
}

static bool has_payload(uint8_t type)
{
	switch ((enum wire_type)type) {
	case WIRE_PING:
	case WIRE_PONG:
	case WIRE_SHUT:
	case WIRE_STOP:
	case WIRE_ACK:
	case WIRE_END:
	case WIRE_RETIRE:
		return false;
	case WIRE_HELLO:
	case WIRE_OPEN:
	case WIRE_OPENED:
	case WIRE_DATA:
	case WIRE_MSG:
	case WIRE_ORDER:
	case WIRE_ABORT:
	case WIRE_RESUME:
	case WIRE_RESUMED:
	case WIRE_GONE:
		break;
	}
	return true;
}

int frame_get_header(struct frame_header *h, const void *from)
{
	struct buf b;

	buf_init_const(&b, from, WIRE_HEADER);
	h->length = buf_get_u32(&b);
	h->type = buf_get_u8(&b);
	h->flags = buf_get_u8(&b);
	h->count = buf_get_u16(&b);
	h->ack = buf_get_u64(&b);
	if (!h->type || h->type > WIRE_TYPE_MAX || h->flags || h->length > WIRE_PAYLOAD_MAX)
		return -EPROTO;
	return h->length && !has_payload(h->type) ? -EPROTO : 0;
}

bool frame_counted(uint8_t type)
{
	return type >= WIRE_DATA && type <= WIRE_STOP;
}

void frame_put_id(struct buf *b, const struct frame_id *id)
{
	buf_put_bytes(b, id->bytes, sizeof(id->bytes));
}

void frame_get_id(struct buf *b, struct frame_id *id)
{
	const void *p = buf_get_bytes(b, sizeof(id->bytes));

	if (p)
		memcpy(id->bytes, p, sizeof(id->bytes));
	else
		memset(id->bytes, 0, sizeof(id->bytes));
}

void frame_put_hello(struct buf *b, const struct frame_hello *h)
{
	buf_put_u32(b, WIRE_MAGIC);
	buf_put_u16(b, h->version);
	buf_put_u16(b, h->role);
	buf_put_u32(b, h->features);
	buf_put_u32(b, h->payload_max);
	frame_put_id(b, &h->instance);
}

int frame_get_hello(struct frame_hello *h, const void *data, size_t size)
{
	struct buf b;
	uint32_t magic;

	buf_init_const(&b, data, size);
	magic = buf_get_u32(&b);
	h->version = buf_get_u16(&b);
	h->role = buf_get_u16(&b);
	h->features = buf_get_u32(&b);
	h->payload_max = buf_get_u32(&b);
	frame_get_id(&b, &h->instance);
	/* A later version may say more behind this. */
	if (b.bad || magic != WIRE_MAGIC)
		return -EPROTO;
	return h->role == WIRE_ROLE_CONTROL || h->role == WIRE_ROLE_DATA ? 0 : -EPROTO;
}

static void put_credentials(struct buf *b, const struct frame_credentials *c)
{
	buf_put_u32(b, c->uid);
	buf_put_u32(b, c->gid);
	buf_put_u16(b, c->n_groups);
	for (size_t i = 0; i < c->n_groups; i++)
		buf_put_u32(b, c->groups[i]);
}

/* To setresuid(2) and its kin -1 means "leave it", which would be root: it is nobody's id. */
static uint32_t get_id_number(struct buf *b)
{
	uint32_t id = buf_get_u32(b);

	if (id == UINT32_MAX)
		b->bad = true;
	return id;
}

static void get_credentials(struct buf *b, struct frame_credentials *c)
{
	c->uid = get_id_number(b);
	c->gid = get_id_number(b);
	c->n_groups = buf_get_u16(b);
	if (c->n_groups > WIRE_GROUPS_MAX) {
		b->bad = true;
		c->n_groups = 0;
	}
	for (size_t i = 0; i < c->n_groups; i++)
		c->groups[i] = get_id_number(b);
}

void frame_put_open(struct buf *b, const struct frame_open *o)
{
	frame_put_id(b, &o->id);
	buf_put_u8(b, o->target);
	buf_put_u8(b, o->socktype);
	buf_put_u16(b, o->flags);
	put_credentials(b, &o->credentials);
	buf_put_str(b, o->name, o->name_len);
}

static bool open_is_valid(const struct frame_open *o)
{
	switch (o->target) {
	case WIRE_TARGET_NAME:
		return o->name_len > 0 && o->name_len <= WIRE_NAME_MAX;
	case WIRE_TARGET_CHANNEL:
	case WIRE_TARGET_LISTENER:
		return o->name_len == WIRE_ID_SIZE;
	}
	return false;
}

int frame_get_open(struct frame_open *o, const void *data, size_t size)
{
	struct buf b;

	buf_init_const(&b, data, size);
	frame_get_id(&b, &o->id);
	o->target = buf_get_u8(&b);
	o->socktype = buf_get_u8(&b);
	o->flags = buf_get_u16(&b);
	get_credentials(&b, &o->credentials);
	o->name = buf_get_str(&b, &o->name_len);
	return buf_done(&b) && open_is_valid(o) ? 0 : -EPROTO;
}

void frame_put_opened(struct buf *b, const struct frame_opened *o)
{
	buf_put_u16(b, o->error);
	buf_put_str(b, o->reason, MIN(o->reason_len, WIRE_REASON_MAX));
}

int frame_get_opened(struct frame_opened *o, const void *data, size_t size)
{
	struct buf b;

	buf_init_const(&b, data, size);
	o->error = buf_get_u16(&b);
	o->reason = buf_get_str(&b, &o->reason_len);
	return buf_done(&b) && o->reason_len <= WIRE_REASON_MAX ? 0 : -EPROTO;
}

void frame_put_resume(struct buf *b, const struct frame_resume *r)
{
	frame_put_id(b, &r->id);
	buf_put_u64(b, r->received);
}

int frame_get_resume(struct frame_resume *r, const void *data, size_t size)
{
	struct buf b;

	buf_init_const(&b, data, size);
	frame_get_id(&b, &r->id);
	r->received = buf_get_u64(&b);
	return buf_done(&b) ? 0 : -EPROTO;
}

void frame_put_resumed(struct buf *b, const struct frame_resumed *r)
{
	buf_put_u16(b, r->error);
	buf_put_u64(b, r->received);
}

int frame_get_resumed(struct frame_resumed *r, const void *data, size_t size)
{
	struct buf b;

	buf_init_const(&b, data, size);
	r->error = buf_get_u16(&b);
	r->received = buf_get_u64(&b);
	return buf_done(&b) ? 0 : -EPROTO;
}
