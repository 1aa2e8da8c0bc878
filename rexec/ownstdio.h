/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ownstdio.h - descriptors that rexec relays itself: terminals, and files that cross neither as
 * they are nor as a copy
 *
 * Each becomes a pipe, one end of which is passed; rexec copies between the other and the
 * caller's descriptor, whose flags stay as they are and whose offset ends where the program
 * left it (for input: as far as is known, what still lies in the pipe not counted).
 */
#ifndef OWNSTDIO_H
#define OWNSTDIO_H

#include <stdbool.h>
#include <stddef.h>

#include "flow.h"
#include "loop.h"

struct stdio_relay {
	struct flow flow;
	int passed; /* the program's end of the pipe; -1 when ours is not needed any more */
	int pipe;   /* ours */
	int number; /* the caller's descriptor */
	int own;    /* the caller's file or terminal, a descriptor of our own to it */
	bool input;
	bool rewinds; /* an input file, whose offset is set back at the end */
	struct stdio_relay *next;
};

/**
 * stdio_add() - relay @fd; input: from it to the program
 * @list	the new relay is put in front; stdio_free() frees all
 * Return: the pipe's end to be passed (borrowed), or a negative errno
 */
int stdio_add(struct stdio_relay **list, int fd, bool input);
/** stdio_start() - the ends were passed: forget them (unless @keep) and copy */
void stdio_start(struct stdio_relay *list, struct loop *l, bool keep);
/** stdio_drained() - has everything that the program wrote been written on? */
bool stdio_drained(struct stdio_relay *list);
/** stdio_lost() - an output that took no more of what the program wrote: its descriptor, and why in
 * @error; -1 when there is none (any more: each is told once) */
int stdio_lost(struct stdio_relay *list, int *error);
/** stdio_finish() - stop copying and set files' offsets back to what the program has read */
void stdio_finish(struct stdio_relay *list);

#endif
