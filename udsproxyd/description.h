/* SPDX-License-Identifier: Apache-2.0 */
/*
 * description.h - what a MSG says of each of its descriptors (wire.h), between bytes and a struct
 *
 * Pure: no I/O, no allocation, no clock.
 */
#ifndef DESCRIPTION_H
#define DESCRIPTION_H

#include "frame.h"

/* Which fields count depends on the kind; the others are zero. */
struct description {
	uint8_t kind;	  /* enum wire_descriptor */
	uint8_t socktype; /* enum wire_socktype */
	uint16_t index;	  /* of an earlier descriptor of the message */
	uint16_t mode;	  /* permissions */
	uint32_t times;	  /* that the pipe was passed by now */
	uint32_t flags;	  /* enum wire_open_flags */
	uint32_t seals;	  /* enum wire_seals */
	uint32_t tap;	  /* enum wire_tap_flags */
	uint32_t vnet_header;
	uint64_t offset;
	struct frame_id id; /* of the channel */
	size_t name_len;
	const char *name; /* borrowed; got: without a NUL, shorter than WIRE_PATH_MAX */
};

/** description_put() - append @d; nothing happens beyond the buffer's end (b->bad) */
void description_put(struct buf *b, const struct description *d);
/** description_get() - the next one of @b; Return: 0, or -EPROTO: it breaks the protocol */
int description_get(struct buf *b, struct description *d);

/** description_flags(), description_local_flags() - open(2)'s flags in the wire's bits, and back */
uint32_t description_flags(int local);
int description_local_flags(uint32_t flags);
/** description_seals(), description_local_seals() - F_SEAL_* in the wire's bits, and back */
uint32_t description_seals(int local);
int description_local_seals(uint32_t seals);

#endif
