/* SPDX-License-Identifier: Apache-2.0 */
/*
 * owntty.h - the client's side of a terminal that the program has there (pty.h)
 *
 * What is typed here goes there as it is, so the terminal here is raw while that lasts. Standard input and output need
 * not be terminals: the program has one all the same.
 */
#ifndef OWNTTY_H
#define OWNTTY_H

#include <stdbool.h>
#include <termios.h>

#include "flow.h"
#include "loop.h"
#include "request.h"

struct owntty {
	int in, out;		/* of our own, to what is 0 and 1 here */
	int terminal;		/* of these the one that is a terminal; -1: neither is */
	struct termios mode;	/* which it had */
	bool raw;
	int remote; /* -1: not connected */
	uint8_t end;	  /* the character that the program's terminal takes for the end */
	bool line_begun; /* by what was sent last */
	bool unseen;	 /* nobody takes any more what the program writes: it goes nowhere */
	struct flow to, from;
	struct loop *loop;	 /* NULL: not started */
	struct loop_timer later; /* in the background: when to look again */
};

/** owntty_open() - before the program is asked for: @like is what its terminal is to be like; without @input nothing is read
 * here
 * Return: 0 or -errno; owntty_deinit() in either case */
int owntty_open(struct owntty *t, struct request_terminal *like, bool input);
/** owntty_start() - carry, to and from @remote (taken), and be raw. In the background nothing is read, nor set, as
 * long as that lasts: the terminal is another's. */
void owntty_start(struct owntty *t, struct loop *l, int remote);
/** owntty_size() - how large it is now; false when nobody knows */
bool owntty_size(const struct owntty *t, struct request_terminal *size);
/** owntty_restore() - give the terminal its mode back and read no more, as before a stop; owntty_resume(): raw again */
void owntty_restore(struct owntty *t);
void owntty_resume(struct owntty *t);
/** owntty_drained() - the program has ended: has all that it wrote come, and been written? */
bool owntty_drained(struct owntty *t);
/** owntty_deinit() - restore, close */
void owntty_deinit(struct owntty *t);

#endif
