/* SPDX-License-Identifier: Apache-2.0 */
#include "splice.h"

#include <errno.h>
#include <fcntl.h>

#include "util.h"
#include "worker.h"

#define PIPE_SIZE (1u << 20) /* in pages, 256 pieces; the kernel may give less */

/* An empty pipe; NULL: none to be had. */
static struct splice *splice_new(void)
{
	struct splice *p = calloc(1, sizeof(*p));

	if (!p || pipe2(p->ends, O_CLOEXEC | O_NONBLOCK)) {
		free(p);
		return NULL;
	}
	fcntl(p->ends[1], F_SETPIPE_SZ, PIPE_SIZE);
	return p;
}

static void splice_free(struct splice *p)
{
	if (!p)
		return;
	close(p->ends[0]);
	close(p->ends[1]);
	free(p);
}

void splices_init(struct splices *all)
{
	all->n = 0;
	while (all->n < SPLICES_KEPT && (all->rest[all->n] = splice_new()))
		all->n++;
}

void splices_free(struct splices *all)
{
	while (all->n)
		splice_free(all->rest[--all->n]);
}

struct splice *splice_get(struct worker *w)
{
	struct splices *all = &w->splices;

	return all->n ? all->rest[--all->n] : splice_new();
}

void splice_put(struct worker *w, struct splice *p)
{
	struct splices *all = &w->splices;

	if (p && p->filled) {
		splice_free(p);
		p = all->n < SPLICES_KEPT ? splice_new() : NULL;
	}
	if (p && all->n < SPLICES_KEPT)
		all->rest[all->n++] = p;
	else
		splice_free(p);
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

int splice_read(struct splice *p, uint8_t *to, size_t len)
{
	while (len) {
		ssize_t n = read(p->ends[0], to, len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n ? -errno : -EIO;
		p->filled -= (size_t)n;
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
