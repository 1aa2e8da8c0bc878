/* SPDX-License-Identifier: Apache-2.0 */
#include "splice.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>

#include "util.h"
#include "worker.h"

#define PIPE_SIZE 262144 /* a frame's payload, or 64 pieces */

static void splice_free(struct splice *p, struct daemon *d)
{
	close(p->ends[0]);
	close(p->ends[1]);
	atomic_fetch_sub(&d->splices, p->wide ? SPLICE_WIDE : 1);
	free(p);
}

/* An empty pipe; NULL: none to be had. One that may hold little is slower than a copy. */
static struct splice *splice_new(struct daemon *d)
{
	struct splice *p = NULL;

	if (atomic_fetch_add(&d->splices, 1) < SPLICES_MAX)
		p = calloc(1, sizeof(*p));
	if (!p || pipe2(p->ends, O_CLOEXEC | O_NONBLOCK)) {
		free(p);
		atomic_fetch_sub(&d->splices, 1);
		return NULL;
	}
	if (fcntl(p->ends[1], F_SETPIPE_SZ, PIPE_SIZE) < 0) {
		splice_free(p, d);
		return NULL;
	}
	return p;
}

void splices_init(struct worker *w)
{
	struct splices *all = &w->splices;

	while (all->n < SPLICES_KEPT && (all->rest[all->n] = splice_new(w->daemon)))
		all->n++;
}

void splices_free(struct worker *w)
{
	while (w->splices.n)
		splice_free(w->splices.rest[--w->splices.n], w->daemon);
}

struct splice *splice_get(struct worker *w)
{
	struct splices *all = &w->splices;

	return all->n ? all->rest[--all->n] : splice_new(w->daemon);
}

void splice_put(struct worker *w, struct splice *p)
{
	struct splices *all = &w->splices;

	if (p && (p->filled || p->wide)) {
		splice_free(p, w->daemon);
		p = all->n < SPLICES_KEPT ? splice_new(w->daemon) : NULL;
	}
	if (p && all->n < SPLICES_KEPT)
		all->rest[all->n++] = p;
	else if (p)
		splice_free(p, w->daemon);
}

bool splice_widen(struct worker *w, struct splice *p)
{
	atomic_uint *count = &w->daemon->splices;
	const unsigned more = SPLICE_WIDE - 1;

	if (p->wide)
		return false;
	p->wide = atomic_fetch_add(count, more) + more < SPLICES_MAX &&
		  fcntl(p->ends[1], F_SETPIPE_SZ, SPLICE_WIDE * PIPE_SIZE) >= 0;
	if (!p->wide)
		atomic_fetch_sub(count, more);
	return p->wide;
}

ssize_t splice_through(int from, int to, size_t len)
{
	ssize_t n;

	do
		n = splice(from, NULL, to, NULL, len, SPLICE_F_MOVE | SPLICE_F_NONBLOCK);
	while (n < 0 && errno == EINTR);
	return n < 0 ? -errno : n;
}

ssize_t splice_fill(struct splice *p, int from, size_t len)
{
	ssize_t n = splice_through(from, p->ends[1], len);

	if (n > 0)
		p->filled += (size_t)n;
	return n;
}

ssize_t splice_drain(struct splice *p, int to, size_t len)
{
	ssize_t n = splice_through(p->ends[0], to, len);

	if (n > 0)
		p->filled -= (size_t)n;
	return n;
}

ssize_t splice_tee(struct splice *p, struct splice *copy, size_t len)
{
	ssize_t n;

	do
		n = tee(p->ends[0], copy->ends[1], len, SPLICE_F_NONBLOCK);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;
	copy->filled += (size_t)n;
	return n;
}

/* One read(2). */
static ssize_t read_piece(struct splice *p, uint8_t *to, size_t len)
{
	ssize_t n;

	do
		n = read(p->ends[0], to, len);
	while (n < 0 && errno == EINTR);
	if (n <= 0)
		return n ? -errno : -EIO;
	p->filled -= (size_t)n;
	return n;
}

ssize_t splice_read_whole(struct splice *p, uint8_t *to, size_t len)
{
	size_t done = 0;

	while (done < len && (len - done >= PIPE_BUF || len - done >= p->filled)) {
		ssize_t n = read_piece(p, to + done, len - done);

		if (n < 0)
			return n;
		done += (size_t)n;
	}
	return (ssize_t)done;
}

int splice_read(struct splice *p, uint8_t *to, size_t len)
{
	while (len) {
		ssize_t n = read_piece(p, to, len);

		if (n < 0)
			return (int)n;
		to += n;
		len -= (size_t)n;
	}
	return 0;
}

int splice_forget(struct splice *p, int null, size_t len)
{
	while (len) {
		ssize_t n = splice_drain(p, null, len);

		if (n <= 0)
			return n ? (int)n : -EIO;
		len -= (size_t)n;
	}
	return 0;
}
