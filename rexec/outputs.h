/* SPDX-License-Identifier: Apache-2.0 */
/*
 * outputs.h - output pipes that survive their reader's link
 *
 * Between the program and each output pipe that the client passed stands a pipe of the keeper's:
 * while no client is attached, what the program writes is held, the last OUTPUTS_HOLD bytes of it
 * or up to one read less.
 */
#ifndef OUTPUTS_H
#define OUTPUTS_H

#include <stdbool.h>
#include <stddef.h>

#include "fdpass.h"
#include "flow.h"
#include "loop.h"

#define OUTPUTS_HOLD 262144u
/* A reader that is gone is known from a link that is gone by the link's being told of by then. */
#define OUTPUTS_ORPHAN_MS 3000

struct output {
	struct flow flow;
	int number;  /* in the program */
	int program; /* the program's end, ours until outputs_start() */
	int from, to;
	struct loop_timer orphan;
};

/* Zero-initialised: none. Must stay where it is. */
struct outputs {
	struct loop *loop;
	size_t n;
	struct output *list;
};

/** outputs_init() - room for @max outputs; 0 or -ENOMEM */
int outputs_init(struct outputs *o, struct loop *l, size_t max);
/** outputs_add() - stand before @to (taken; -1: what is written is held until somebody attaches), which is @number in
 * the program; Return: the end that the program is to have (borrowed), or -errno */
int outputs_add(struct outputs *o, int to, int number);
/** outputs_start() - the program has its ends: forget ours, and carry */
void outputs_start(struct outputs *o);
/** outputs_drain() - has all that the program wrote until now been delivered, or lost its reader?
 */
bool outputs_drain(struct outputs *o);
/** outputs_detach() - there is no client: hold. @lost: nor is there anybody else who could read what is
 * in the pipes, which is held, too */
void outputs_detach(struct outputs *o, bool lost);
/** outputs_attach() - after outputs_detach(): deliver to the @fds from @first on, what was held first; @numbers[i]
 * says which output @fds[@first + i] is for. Taken is what there is an output for; one for which there is none here goes on
 * being held. */
void outputs_attach(struct outputs *o, struct fdset *fds, int first, const uint32_t *numbers);
/** outputs_deinit() - close and free; what is held is lost */
void outputs_deinit(struct outputs *o);

#endif
