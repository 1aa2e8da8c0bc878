/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fdmap.h - descriptors that come with a message: described here, made anew over there
 *
 * Which kinds cross, and as what, is docs/what-crosses.md. A kind that does not cross ends the
 * connection with a reason that names it: never fewer descriptors than were sent.
 */
#ifndef FDMAP_H
#define FDMAP_H

#include "fdpass.h"
#include "session.h"

#define FDMAP_REASON_MAX 256

/* MSG's descriptions, as they are sent. */
struct fdmap_text {
	uint8_t length[4];
	uint8_t *bytes; /* the caller frees it */
	size_t size;
};

/**
 * fdmap_describe() - describe the descriptors of @set, which came in over @s
 * What is still needed of them is taken over by channels; the caller closes @set.
 * Return: 0, or a negative errno with @reason, FDMAP_REASON_MAX bytes.
 */
int fdmap_describe(struct session *s, struct fdset *set, struct fdmap_text *text, char *reason);

/**
 * fdmap_open_files() - open what files @count descriptions name, off the worker (aside.h)
 * Return: 1: fdmap_make() can be called; 0: not yet, and @s is pumped when it can; or a negative
 * errno with nothing begun.
 */
int fdmap_open_files(struct session *s, const char *text, size_t size, unsigned count);
/** fdmap_forget_files() - @s ends, or fdmap_make() has taken them */
void fdmap_forget_files(struct session *s);

/**
 * fdmap_make() - make what @count descriptions of the peer describe, for @s's local end, after
 * fdmap_open_files()
 * Return: 0 and @set owns them, in order; -EPROTO: malformed; another negative errno with @reason.
 * After a failure @set holds what was made, for the caller to close.
 */
int fdmap_make(struct session *s, const char *text, size_t size, unsigned count, struct fdset *set,
	       char *reason);

/** fdmap_crosses() - would @fd cross? 0, or a negative errno with @reason */
int fdmap_crosses(struct daemon *d, int fd, char *reason);

#endif
