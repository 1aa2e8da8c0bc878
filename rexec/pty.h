/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pty.h - the terminal that a keeper makes for its program
 *
 * The program has the slave, and it is its controlling terminal. The keeper has the master and carries
 * it to a socket of the client's (owntty.h). Whoever has started the program is waited for, and the
 * program waits, too, when it writes much. Later, while there is no client, what it writes is held, the
 * last PTY_HOLD bytes of it.
 */
#ifndef PTY_H
#define PTY_H

#include <stdbool.h>
#include <sys/types.h>

#include "flow.h"
#include "loop.h"
#include "request.h"

#define PTY_HOLD 262144u
#define PTY_PATIENCE_MS 5000 /* after the program's end, until its client takes what it wrote */

/* PTY_NONE: no terminal. Must stay where it is. */
struct pty {
	int master, slave; /* slave: open here while the program runs, or a program that closes it
			    * for a moment would hang it up */
	int client;	   /* -1: none now */
	struct flow out, in;
	struct loop_timer patience;
	bool left; /* nobody comes for what is there */
};

#define PTY_NONE                                                                                   \
	(struct pty)                                                                               \
	{                                                                                          \
		.master = -1, .slave = -1, .client = -1                                            \
	}

/** pty_open() - make it, as @like says, the slave owned by @uid; 0 or -errno */
int pty_open(struct pty *p, const struct request_terminal *like, uid_t uid);
/** pty_start() - the program has the slave: read what it writes. No-op for none. */
void pty_start(struct pty *p, struct loop *l);
/** pty_attach() - carry it to @client (taken) from now on, a former one is hung up */
void pty_attach(struct pty *p, struct loop *l, int client);
/** pty_detach() - whoever has started the program is gone, and not waited for any more. No-op for none. */
void pty_detach(struct pty *p);
/** pty_resize() - give it this size; the program gets SIGWINCH when that changes it */
void pty_resize(struct pty *p, const struct request_terminal *size);
/** pty_drained() - the program has ended: has all that it wrote been taken, or will nobody? Always
 * true for none. */
bool pty_drained(struct pty *p, struct loop *l);
/** pty_end() - its client was told of the program's end: show it the end of what was written, behind the last byte */
void pty_end(struct pty *p);
/** pty_deinit() - hang up and close */
void pty_deinit(struct pty *p);

#endif
