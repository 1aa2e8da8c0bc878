/* SPDX-License-Identifier: Apache-2.0 */
/*
 * splice.h - bytes from one descriptor to another without passing through this program's memory
 *
 * splice(2) needs a pipe between two sockets. What the second does not take stays in the pipe, so a
 * pipe belongs to a session as long as it holds anything; a worker keeps some that are empty.
 */
#ifndef SPLICE_H
#define SPLICE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct worker;

#define SPLICE_MIN 16384u /* bytes that are worth it */

struct splice {
	int ends[2];
	size_t filled;
	bool wide;
};

/* Empty ones at rest; a worker's. Always so many, that a daemon at rest has the same descriptors. */
#define SPLICES_KEPT 4
#define SPLICES_MAX 128 /* of a daemon: 32 MiB of the 64 that a user's pipes may have (pipe(7), pipe-user-pages-soft) */
#define SPLICE_WIDE 4	/* one that is wide counts so often */

struct splices {
	struct splice *rest[SPLICES_KEPT];
	unsigned n;
};

/** splices_init() - as many as can be had */
void splices_init(struct worker *w);
void splices_free(struct worker *w);

/** splice_get() - one of this worker's, or another, the caller's until splice_put(); NULL: none to be had */
struct splice *splice_get(struct worker *w);
/** splice_put() - give it back; what it holds is lost. NULL: nothing happens */
void splice_put(struct worker *w, struct splice *p);

/** splice_widen() - room for a whole window, even in pieces of a page, until it is given back; false: there is none */
bool splice_widen(struct worker *w, struct splice *p);

/** splice_fill() - at most @len bytes of @from into @p. Return: bytes, 0 at the end of file, or a negative
 * errno (-EAGAIN: nothing there, or no room). */
ssize_t splice_fill(struct splice *p, int from, size_t len);
/** splice_drain() - at most @len bytes of what it holds to @to. Return: bytes, or a negative errno. */
ssize_t splice_drain(struct splice *p, int to, size_t len);
/** splice_through() - from @from to @to at once, where either is a pipe itself */
ssize_t splice_through(int from, int to, size_t len);
/** splice_tee() - the first @len bytes of what it holds to @copy, too. Return: bytes, fewer when there is no more
 * room, or a negative errno. */
ssize_t splice_tee(struct splice *p, struct splice *copy, size_t len);
/** splice_read_whole() - at most @len bytes of what it holds to memory, and no less than whole pieces: of a pipe whose
 * writer has set O_DIRECT the rest of one would be lost. @len is PIPE_BUF at least, or all. Return: bytes, or a negative
 * errno. */
ssize_t splice_read_whole(struct splice *p, uint8_t *to, size_t len);
/** splice_read() - the first @len bytes of what it holds, all of them, to memory; 0 or a negative errno */
int splice_read(struct splice *p, uint8_t *to, size_t len);
/** splice_forget() - the first @len bytes of what it holds, all of them, to nowhere (@null: /dev/null); 0 or a
 * negative errno */
int splice_forget(struct splice *p, int null, size_t len);

#endif
