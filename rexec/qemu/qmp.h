/* SPDX-License-Identifier: Apache-2.0 */
/*
 * qmp.h - read a stream of QMP, message by message, and put local names in the place of
 * those that mean something on the HOST only
 *
 * QMP is JSON objects one after the other, without any other frame. The reader follows the
 * structure (strings, escapes, nesting) with a few words of state, so the input may be cut
 * anywhere. A message's text is kept as it came, byte for byte; only these values change:
 *
 *	"return": [{"thread-id": NUMBER		a thread (deeper, in "props", it is a number of a
 *CPU's) "filename": "pty:PATH" below "return"	a terminal "pty": "PATH" below "return"		a
 *terminal
 *
 * Pure: no I/O.
 */
#ifndef QMP_H
#define QMP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "text.h"

#define QMP_MESSAGE_MAX (64u << 20) /* bytes of a message; QEMU's own parser takes as much */
#define QMP_NESTING_MAX 1024u	    /* as in QEMU's parser */

/* What is put in the place of a HOST's name. */
struct qmp_names {
	/** the local thread for the HOST's; false: leave the number */
	bool (*thread)(void *arg, int64_t host, int64_t *local);
	/** the path of the local terminal for the HOST's, borrowed; NULL: leave the path */
	const char *(*terminal)(void *arg, const char *host);
	void *arg;
	/** a whole message in which threads were replaced, as text; may be NULL */
	void (*threads)(void *arg, const char *message);
};

enum qmp_kind {
	QMP_UNKNOWN,
	QMP_GREETING,
	QMP_RETURN,
	QMP_ERROR,
	QMP_EVENT,
	QMP_COMMAND,
};

/* A part of a message's text: [from, to). Empty: there was none. */
struct qmp_part {
	size_t from, to;
};

struct qmp_reader {
	const struct qmp_names *names; /* NULL: nothing is replaced */

	/* The message, complete when qmp_read() returned 1. */
	struct text text;
	enum qmp_kind kind;
	struct qmp_part id; /* the value of "id" as JSON text */
	bool threads;	    /* it has threads that were replaced */

	/* Where in the structure the next byte stands. */
	unsigned int depth;
	uint8_t objects[QMP_NESTING_MAX / 8]; /* a bit a level: an object, not an array */
	char quote;			      /* the quote that ends this string, or 0 */
	bool escaped;			      /* after a backslash */
	bool bare;			      /* in a number or a word */
	bool value;			      /* the next string is a value, not a key */
	size_t token;			      /* where the string or number began */
	struct qmp_part key;		      /* the last key, without quotes */
	struct qmp_part top;		      /* the last key of the outermost object */
	bool in_id;			      /* in the value of the outermost "id" */
};

/** qmp_reader_init() - @names is borrowed */
void qmp_reader_init(struct qmp_reader *r, const struct qmp_names *names);
void qmp_reader_clear(struct qmp_reader *r);

/**
 * qmp_read() - take bytes until a message is complete or all are taken
 * @used	how many were taken
 * Return: 1: a message is complete; take or use its text before the next call, which
 * begins the next one. 0: it needs more bytes. -EPROTO: this is no JSON object; -EMSGSIZE,
 * -ENOMEM. After an error only qmp_reader_init() helps.
 */
int qmp_read(struct qmp_reader *r, const char *data, size_t len, size_t *used);

/** qmp_idle() - true between two messages */
bool qmp_idle(const struct qmp_reader *r);

#endif
