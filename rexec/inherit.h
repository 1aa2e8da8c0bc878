/* SPDX-License-Identifier: Apache-2.0 */
/*
 * inherit.h - the descriptors that rexec was started with, and how each reaches the program
 */
#ifndef INHERIT_H
#define INHERIT_H

#include <stdbool.h>
#include <stddef.h>

#define INHERIT_REASON_MAX 512
#define INHERIT_COPY_MAX (1 << 20) /* bytes of a file that is passed as a copy */

enum inherit_kind {
	INHERIT_PASS,	   /* passed over the connection */
	INHERIT_LISTENER,  /* stays here; a twin stands there */
	INHERIT_RELAY_IN,  /* rexec reads it into a pipe that is passed */
	INHERIT_RELAY_OUT, /* rexec writes to it what comes from a pipe that is passed */
	INHERIT_NULL,	   /* /dev/null instead */
	INHERIT_TTY,	   /* the program's terminal, which is made there */
	INHERIT_HELD,	   /* what it writes there is held for whoever attaches */
};

struct inherited {
	int number; /* the caller's, and the program's */
	int first;  /* the number of the first that is the same open file and of the same kind */
	enum inherit_kind kind;
	int socktype; /* of a LISTENER */
};

struct inherit_list {
	size_t n, size;
	struct inherited *list;
};

/** inherit_collect() - every descriptor that is not close-on-exec, in the order of numbers
 * Zero-initialise @l; inherit_drop() and inherit_null() work on it; free(l->list) at the end.
 * Return: 0 or -ENOMEM */
int inherit_collect(struct inherit_list *l);
/** inherit_drop() - keep @number back; false when it is not there */
bool inherit_drop(struct inherit_list *l, int number);
/** inherit_as() - let the program have NULL, TTY or HELD at @number, whatever is here; 0 or -ENOMEM */
int inherit_as(struct inherit_list *l, int number, enum inherit_kind kind);
/** inherit_keep() - of those above 2 only the @n in @numbers stay */
void inherit_keep(struct inherit_list *l, const int *numbers, size_t n);
/**
 * inherit_classify() - decide the kind of each
 * @local	the program runs on this machine: regular files and devices can be passed as they
 * are
 * @reason	INHERIT_REASON_MAX bytes; names the descriptor that cannot cross, and the remedy
 * Return: 0 or a negative errno
 */
int inherit_classify(struct inherit_list *l, bool local, char *reason);

#endif
