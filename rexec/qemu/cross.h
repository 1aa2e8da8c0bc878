/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cross.h - make a descriptor fit to be passed to the HOST
 *
 * What udsproxyd remakes there is passed as it is. A terminal, and a regular file outside the
 * shares, is replaced by a pipe; the bytes are carried here between the two, a file's from or
 * at its offset.
 */
#ifndef CROSS_H
#define CROSS_H

#include <stdbool.h>
#include <stddef.h>

#include "loop.h"

struct stream;

struct crossing {
	struct loop *loop;
	bool local; /* the program runs on this machine: everything can be passed */
	struct stream *streams;
};

/* What the program is going to do with a descriptor that is open for both. */
enum cross_use {
	CROSS_UNKNOWN, /* no pipe can stand for it */
	CROSS_INPUT,
	CROSS_OUTPUT,
};

/**
 * cross_prepare() - a descriptor to pass in the place of @fd (borrowed)
 * @why		on failure a sentence for a person, @size bytes
 * Return: a descriptor that the caller owns, or a negative errno.
 */
int cross_prepare(struct crossing *x, int fd, enum cross_use use, char *why, size_t size);

/** cross_idle() - true when every byte of the program's has been written */
bool cross_idle(const struct crossing *x);

#endif
