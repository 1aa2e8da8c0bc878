/* SPDX-License-Identifier: Apache-2.0 */
/*
 * frame.h - frames of wire.h between bytes and structs
 *
 * Pure: no I/O, no allocation, no clock. Strings in decoded structs point into the bytes
 * that were decoded. Every decoder rejects what is too long, too short or has bytes left.
 */
#ifndef FRAME_H
#define FRAME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "buf.h"
#include "wire.h"

struct frame_header {
	uint32_t length;
	uint8_t type;
	uint8_t flags;
	uint16_t count;
	uint64_t ack;
};

struct frame_id {
	uint8_t bytes[WIRE_ID_SIZE];
};

struct frame_hello {
	uint16_t version;
	uint16_t role;
	uint32_t features;
	uint32_t payload_max;
	struct frame_id instance;
};

struct frame_credentials {
	uint32_t uid;
	uint32_t gid;
	uint16_t n_groups;
	uint32_t groups[WIRE_GROUPS_MAX];
};

struct frame_open {
	struct frame_id id;
	uint8_t target;	  /* enum wire_target */
	uint8_t socktype; /* enum wire_socktype */
	uint16_t flags;	  /* enum wire_dgram_flags */
	struct frame_credentials credentials;
	size_t name_len;
	const char *name; /* WIRE_TARGET_NAME: the name; else a channel's 16 bytes */
};

struct frame_opened {
	uint16_t error; /* canonical errno */
	size_t reason_len;
	const char *reason;
};

struct frame_resume {
	struct frame_id id;
	uint64_t received;
};

struct frame_resumed {
	uint16_t error; /* canonical errno */
	uint64_t received;
};

/** frame_put_header() - write @h at @to, WIRE_HEADER bytes */
void frame_put_header(void *to, const struct frame_header *h);
/** frame_get_header() - read one; Return: 0, or -EPROTO for an unknown type, flags or a length
 * above WIRE_PAYLOAD_MAX, or any of a type that has no payload: the one length check, made before anything is read or allocated */
int frame_get_header(struct frame_header *h, const void *from);
/** frame_counted() - does a frame of this type belong to the connection's stream? */
bool frame_counted(uint8_t type);

void frame_put_id(struct buf *b, const struct frame_id *id);
void frame_get_id(struct buf *b, struct frame_id *id);

/* Payloads. put: nothing happens beyond the buffer's end (b->bad). get: 0 or -EPROTO. */
void frame_put_hello(struct buf *b, const struct frame_hello *h);
int frame_get_hello(struct frame_hello *h, const void *data, size_t size);
void frame_put_open(struct buf *b, const struct frame_open *o);
int frame_get_open(struct frame_open *o, const void *data, size_t size);
void frame_put_opened(struct buf *b, const struct frame_opened *o); /* ABORT's payload too */
int frame_get_opened(struct frame_opened *o, const void *data, size_t size);
void frame_put_resume(struct buf *b, const struct frame_resume *r);
int frame_get_resume(struct frame_resume *r, const void *data, size_t size);
void frame_put_resumed(struct buf *b, const struct frame_resumed *r);
int frame_get_resumed(struct frame_resumed *r, const void *data, size_t size);

#endif
