/* SPDX-License-Identifier: Apache-2.0 */
/*
 * terminal.h - pseudoterminals here that are carried to QEMU's on the HOST
 *
 * Like QEMU's own: raw, and while nobody has it open, what the guest prints is dropped, so
 * that a guest is never held up by a console that nobody looks at.
 */
#ifndef TERMINAL_H
#define TERMINAL_H

#include "loop.h"

#define TERMINAL_MAX 64

struct terminal;

struct terminals {
	struct loop *loop;
	/** a stream socket that is HOST's terminal @path, or a negative errno; -ENOENT: QEMU has it
	 * no more */
	int (*dial)(void *arg, const char *path);
	void *arg;
	struct terminal *list;
	size_t n;
};

/**
 * terminal_of() - the path of the local terminal for HOST's @path ("/dev/pts/N")
 * The same for the same @path as long as QEMU has it. Return: borrowed; NULL when @path is no
 * such path, "/dev/null" when no terminal can be had.
 */
const char *terminal_of(struct terminals *t, const char *path);

/** terminal_look() - has somebody opened one? Nothing tells, so call it now and then. */
void terminal_look(struct terminals *t);

#endif
