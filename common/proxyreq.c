/* SPDX-License-Identifier: Apache-2.0 */
#include "proxyreq.h"

#include <errno.h>
#include <string.h>

#include "buf.h"
#include "util.h"

static void put_head(struct buf *b, uint16_t code)
{
	buf_put_u32(b, PROXYREQ_MAGIC);
	buf_put_u16(b, PROXYREQ_VERSION);
	buf_put_u16(b, code);
}

static int get_head(struct buf *b, uint16_t *code)
{
	uint32_t magic = buf_get_u32(b);
	uint16_t version = buf_get_u16(b);

	*code = buf_get_u16(b);
	if (b->bad || magic != PROXYREQ_MAGIC)
		return -EPROTO;
	return version == PROXYREQ_VERSION ? 0 : -EPROTONOSUPPORT;
}

/* A string that must fit @size bytes at @to; returns its length. */
static size_t get_string(struct buf *b, char *to, size_t size)
{
	size_t n;
	const char *s = buf_get_str(b, &n);

	if (n > size) {
		b->bad = true;
		return 0;
	}
	if (s)
		memcpy(to, s, n);
	return n;
}

size_t proxyreq_encode(const struct proxyreq *r, void *data, size_t size)
{
	struct buf b;

	buf_init(&b, data, size);
	put_head(&b, r->op);
	buf_put_u16(&b, r->flags);
	buf_put_str(&b, r->name, r->name_len);
	return b.bad ? 0 : b.pos;
}

int proxyreq_decode(struct proxyreq *r, const void *data, size_t size)
{
	struct buf b;
	int err;

	*r = (struct proxyreq){ 0 };
	buf_init_const(&b, data, size);
	err = get_head(&b, &r->op);
	if (err)
		return err;
	r->flags = buf_get_u16(&b);
	r->name_len = get_string(&b, r->name, sizeof(r->name));
	return buf_done(&b) ? 0 : -EPROTO;
}

size_t proxyreply_encode(const struct proxyreply *r, void *data, size_t size)
{
	struct buf b;

	buf_init(&b, data, size);
	put_head(&b, (uint16_t)r->error);
	buf_put_str(&b, r->reason, strnlen(r->reason, sizeof(r->reason) - 1));
	return b.bad ? 0 : b.pos;
}

int proxyreply_decode(struct proxyreply *r, const void *data, size_t size)
{
	struct buf b;
	uint16_t error;
	int err;

	*r = (struct proxyreply){ 0 };
	buf_init_const(&b, data, size);
	err = get_head(&b, &error);
	if (err)
		return err;
	r->error = error;
	get_string(&b, r->reason, sizeof(r->reason) - 1);
	return buf_done(&b) ? 0 : -EPROTO;
}
