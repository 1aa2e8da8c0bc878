/* SPDX-License-Identifier: Apache-2.0 */
#include "splice.h"

#include <errno.h>
#include <fcntl.h>

#include "util.h"
#include "worker.h"

#define PIPE_SIZE 262144 /* a frame's payload; the kernel may give less */

struct splice *splice_new(void)
{
	struct splice *p = calloc(1, sizeof(*p));

	if (!p || pipe2(p->ends, O_CLOEXEC | O_NONBLOCK)) {
		free(p);
		return NULL;
	}
	fcntl(p->ends[1], F_SETPIPE_SZ, PIPE_SIZE);
	return p;
}

void splice_free(struct splice *p)
{
	if (!p)
		return;
	close(p->ends[0]);
	close(p->ends[1]);
	free(p);
}

struct splice *splice_get(struct worker *w)
{
	struct splice *p = w->splice;

	w->splice = NULL;
	return p ? p : splice_new();
}

void splice_put(struct worker *w, struct splice *p)
{
	if (p->filled) {
		splice_free(p);
		p = w->splice ? NULL : splice_new();
	}
	if (w->splice)
		splice_free(p);
	else
		w->splice = p;
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

ssize_t splice_drain(struct splice *p, int to)
{
	ssize_t n = splice_through(p->ends[0], to, p->filled);

	if (n > 0)
		p->filled -= (size_t)n;
	return n;
}
