/* SPDX-License-Identifier: Apache-2.0 */
/*
 * splice.h - bytes from one socket to another without passing through this program's memory
 *
 * splice(2) needs a pipe between the two. What the second socket does not take stays in the pipe,
 * so a pipe belongs to a session as long as it holds anything; a worker keeps one that is empty.
 */
#ifndef SPLICE_H
#define SPLICE_H

#include <sys/types.h>

struct worker;

struct splice {
	int ends[2];
	size_t filled;
};

/** splice_new() - an empty pipe; NULL: none to be had */
struct splice *splice_new(void);
/** splice_free() - what it holds is lost */
void splice_free(struct splice *p);
/** splice_get() - this worker's, or another, the caller's until splice_put(); NULL: none to be had */
struct splice *splice_get(struct worker *w);
/** splice_put() - give it back; what it holds is lost */
void splice_put(struct worker *w, struct splice *p);
/** splice_fill() - at most @len bytes of @from into @p, which is empty. Return: bytes, 0 at the end of file,
 * or a negative errno (-EAGAIN: nothing there). */
ssize_t splice_fill(struct splice *p, int from, size_t len);
/** splice_drain() - what it holds to @to. Return: bytes, or a negative errno. */
ssize_t splice_drain(struct splice *p, int to);
/** splice_through() - the same at once, where @to is a pipe itself */
ssize_t splice_through(int from, int to, size_t len);

#endif
