/* SPDX-License-Identifier: Apache-2.0 */
#include "channel.h"

#include <errno.h>
#include <fcntl.h>
#include <search.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>

#include "session.h"
#include "splice.h"
#include "util.h"
#include "watch.h"

struct channel_table {
	pthread_mutex_t passing; /* held by channel_pass(), before any other lock */
	pthread_mutex_t lock;
	void *by_id;  /* tsearch(3) trees of struct channel */
	void *by_key; /* those that have a key */
};

#define EXPECTED_SECONDS 30
#define PIPE_USUAL 65536 /* pipe(7); of another size, somebody wants it so */
#define PIPE_WIDE 524288
#define PIPES_WIDE_MAX 32 /* at once: a quarter of what a user's pipes may hold (pipe(7), pipe-user-pages-soft) */

static atomic_uint pipes_wide;

_Static_assert(CONFIG_THREADS_MAX <= 64, "a worker is a bit of `kick`");

static int compare_ids(const void *a, const void *b)
{
	const struct channel *x = a, *y = b;

	return memcmp(&x->id, &y->id, sizeof(x->id));
}

static int compare_keys(const void *a, const void *b)
{
	const struct channel_key *x = &((const struct channel *)a)->key;
	const struct channel_key *y = &((const struct channel *)b)->key;

	if (x->dev != y->dev)
		return x->dev < y->dev ? -1 : 1;
	if (x->ino != y->ino)
		return x->ino < y->ino ? -1 : 1;
	return (int)x->kind - (int)y->kind;
}

struct channel_table *channels_new(void)
{
	struct channel_table *table = calloc(1, sizeof(*table));

	if (!table)
		die("out of memory");
	pthread_mutex_init(&table->passing, NULL);
	pthread_mutex_init(&table->lock, NULL);
	return table;
}

/* A reference to what @tree has for @wanted, or NULL. The table is locked. */
static struct channel *find(void *const *tree, const struct channel *wanted,
			    int (*compare)(const void *, const void *))
{
	struct channel *const *found = tfind(wanted, tree, compare);

	return found ? channel_ref(*found) : NULL;
}

struct channel *channel_by_id(struct channel_table *table, const struct frame_id *id)
{
	struct channel wanted = { .id = *id };
	struct channel *c;

	pthread_mutex_lock(&table->lock);
	c = find(&table->by_id, &wanted, compare_ids);
	pthread_mutex_unlock(&table->lock);
	return c;
}

static bool insert(void **tree, struct channel *c, int (*compare)(const void *, const void *))
{
	struct channel **there = tsearch(c, tree, compare);

	return there && *there == c;
}

static bool insert_both(struct channel_table *table, struct channel *c)
{
	if (!insert(&table->by_id, c, compare_ids))
		return false;
	if (!c->key.kind || insert(&table->by_key, c, compare_keys))
		return true;
	tdelete(c, &table->by_id, compare_ids);
	return false;
}

/* As @like, in the table, which is locked, with a reference for the caller; NULL: out of memory. */
static struct channel *channel_new(struct channel_table *table, const struct channel *like)
{
	struct channel *c = malloc(sizeof(*c));

	if (!c)
		return NULL;
	*c = *like;
	c->fd = c->kept = -1;
	atomic_init(&c->refs, 2); /* the table's and the caller's */
	pthread_mutex_init(&c->lock, NULL);
	if (insert_both(table, c))
		return c;
	pthread_mutex_destroy(&c->lock);
	free(c);
	return NULL;
}

struct channel *channel_obtain(struct channel_table *table, const struct frame_id *id, uint8_t kind)
{
	struct channel wanted = { .id = *id, .kind = kind };
	struct channel *c;

	pthread_mutex_lock(&table->lock);
	c = find(&table->by_id, &wanted, compare_ids);
	if (!c)
		c = channel_new(table, &wanted);
	pthread_mutex_unlock(&table->lock);
	return c;
}

int channel_pass(struct channel_table *table, const struct channel_key *key, uint8_t socktype,
		 int (*start)(struct channel *c, void *arg), void *arg, struct channel **out,
		 uint16_t *count)
{
	struct channel wanted = { .key = *key, .kind = key->kind, .socktype = socktype, .ours = true };
	struct channel *c;
	int err = 0;

	worker_random_id(&wanted.id);
	pthread_mutex_lock(&table->passing);
	pthread_mutex_lock(&table->lock);
	c = find(&table->by_key, &wanted, compare_keys);
	if (!c)
		c = channel_new(table, &wanted);
	if (c)
		*count = (uint16_t)(atomic_fetch_add(&c->passed, 1) + 1);
	pthread_mutex_unlock(&table->lock);
	if (!c)
		err = -ENOMEM;
	else if (!memcmp(&c->id, &wanted.id, sizeof(c->id)))
		err = start(c, arg) ?: 1;
	pthread_mutex_unlock(&table->passing);
	if (err < 0 && c)
		channel_unref(c);
	*out = c;
	return err;
}

/* The table is locked. */
static void forget_key(struct channel_table *table, struct channel *c)
{
	if (c->key.kind)
		tdelete(c, &table->by_key, compare_keys);
	c->key.kind = 0;
}

bool channel_settle(struct channel_table *table, struct channel *c, uint16_t count)
{
	bool latest;

	pthread_mutex_lock(&table->lock);
	latest = atomic_load(&c->passed) == count;
	if (latest)
		forget_key(table, c);
	pthread_mutex_unlock(&table->lock);
	return latest;
}

uint16_t channel_retire(struct channel_table *table, struct channel *c)
{
	pthread_mutex_lock(&table->lock);
	forget_key(table, c);
	pthread_mutex_unlock(&table->lock);
	return (uint16_t)atomic_load(&c->passed);
}

struct channel *channel_ref(struct channel *c)
{
	atomic_fetch_add(&c->refs, 1);
	return c;
}

void channel_unref(struct channel *c)
{
	if (atomic_fetch_sub(&c->refs, 1) > 1)
		return;
	close_keep_errno(c->fd);
	close_keep_errno(c->kept);
	pthread_mutex_destroy(&c->lock);
	free(c);
}

static void kick_worker(struct worker *w, void *arg)
{
	(void)arg;
	session_kick_waiting(w);
}

/* Whoever waits looks again. */
static void kick(struct channel *c, struct daemon *d)
{
	uint64_t workers = atomic_exchange(&c->kick, 0);

	for (int i = 0; workers; i++, workers >>= 1)
		if (workers & 1)
			worker_post(&d->workers[i], kick_worker, NULL);
}

void channel_end(struct channel_table *table, struct channel *c, struct daemon *d)
{
	if (atomic_exchange(&c->ended, true))
		return;
	pthread_mutex_lock(&table->lock);
	tdelete(c, &table->by_id, compare_ids);
	forget_key(table, c);
	pthread_mutex_unlock(&table->lock);
	pthread_mutex_lock(&c->lock);
	if (c->wide)
		atomic_fetch_sub(&pipes_wide, 1);
	c->wide = false;
	replace_fd(&c->fd, -1);
	replace_fd(&c->kept, -1);
	c->session = NULL;
	pthread_mutex_unlock(&c->lock);
	kick(c, d);
	channel_unref(c);
}

static void forget(void *node)
{
	struct channel *c = node;

	atomic_store(&c->ended, true);
	channel_unref(c);
}

static void keep(void *node)
{
	(void)node;
}

void channels_free(struct channel_table *table)
{
	tdestroy(table->by_key, keep);
	tdestroy(table->by_id, forget);
	pthread_mutex_destroy(&table->passing);
	pthread_mutex_destroy(&table->lock);
	free(table);
}

bool channel_is_pipe(const struct channel *c)
{
	return c->kind == WIRE_FD_PIPE_READ || c->kind == WIRE_FD_PIPE_WRITE;
}

bool channel_reads(const struct channel *c)
{
	/* A read end that was passed to us is read here; for a write end we keep the read end. */
	return c->kind == (c->ours ? WIRE_FD_PIPE_READ : WIRE_FD_PIPE_WRITE);
}

int channel_reopen(int fd, int flags)
{
	char link[32];
	int new;

	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	new = open(link, flags | O_CLOEXEC);
	return new < 0 ? -errno : new;
}

void channel_keep(struct channel *c, bool keep)
{
	int fd = -1;

	pthread_mutex_lock(&c->lock);
	if (keep && c->fd >= 0)
		fd = channel_reopen(c->fd, O_RDONLY);
	replace_fd(&c->kept, MAX(fd, -1));
	pthread_mutex_unlock(&c->lock);
}

ssize_t channel_read(struct channel *c, void *data, size_t len)
{
	ssize_t n;

	pthread_mutex_lock(&c->lock);
	n = read(c->fd, data, len);
	if (n > 0)
		c->moved += (uint64_t)n;
	else if (n < 0)
		n = -errno;
	pthread_mutex_unlock(&c->lock);
	return n;
}

static bool widen(int pipe)
{
	if (fcntl(pipe, F_GETPIPE_SZ) != PIPE_USUAL)
		return false;
	if (atomic_fetch_add(&pipes_wide, 1) < PIPES_WIDE_MAX && fcntl(pipe, F_SETPIPE_SZ, PIPE_WIDE) >= 0)
		return true;
	atomic_fetch_sub(&pipes_wide, 1);
	return false;
}

void channel_widen(struct channel *c)
{
	if (c->busy)
		return;
	c->busy = true;
	c->wide = widen(c->fd);
}

ssize_t channel_splice(struct channel *c, struct splice *to, size_t len)
{
	ssize_t n;

	channel_widen(c);
	pthread_mutex_lock(&c->lock);
	n = splice_fill(to, c->fd, len);
	if (n > 0)
		c->moved += (uint64_t)n;
	pthread_mutex_unlock(&c->lock);
	return n;
}

uint64_t channel_position(struct channel *c)
{
	uint64_t position;
	int inside = 0;

	pthread_mutex_lock(&c->lock);
	if (c->fd >= 0 && ioctl(c->fd, FIONREAD, &inside))
		inside = 0;
	position = c->moved + (uint64_t)inside;
	pthread_mutex_unlock(&c->lock);
	return position;
}

void channel_delivered(struct channel *c, size_t n, struct daemon *d)
{
	atomic_fetch_add(&c->delivered, n);
	if (atomic_load(&c->kick))
		kick(c, d);
}

bool channel_has_delivered(struct channel *c, uint64_t bytes, const struct worker *w)
{
	if (channel_reads(c) || atomic_load(&c->delivered) >= bytes)
		return true;
	atomic_fetch_or(&c->kick, UINT64_C(1) << w->number);
	/* Once more: it may have moved before the bit was there to see. */
	return atomic_load(&c->delivered) >= bytes || atomic_load(&c->ended);
}

void channel_listener_gone(struct channel_table *table, const struct frame_id *id)
{
	struct channel *c = channel_by_id(table, id);

	if (!c)
		return;
	if (c->kind == WIRE_FD_LISTENER && c->ours)
		watch_gone(c);
	channel_unref(c);
}

/* ---- those whose session does not come ---------------------------------------------------- */

struct expected {
	LIST_ENTRY(expected) entry;
	struct channel *channel;
	time_t since;
};

static time_t seconds(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec;
}

static void no_more_expected(struct expected *e)
{
	LIST_REMOVE(e, entry);
	channel_unref(e->channel);
	free(e);
}

void channel_expect(struct worker *w, struct channel *c)
{
	struct expected *e = malloc(sizeof(*e));

	if (!e)
		return; /* it waits for ever: nothing worse */
	e->channel = channel_ref(c);
	e->since = seconds();
	LIST_INSERT_HEAD(&w->expected, e, entry);
}

void channels_tidy(struct worker *w)
{
	struct expected *e, *next;

	for (e = LIST_FIRST(&w->expected); e; e = next) {
		struct channel *c = e->channel;
		bool there, late;

		next = LIST_NEXT(e, entry);
		pthread_mutex_lock(&c->lock);
		there = c->session || atomic_load(&c->ended);
		if (!worker_peer_is_alive(w))
			e->since = seconds(); /* it cannot come now */
		late = !there && seconds() - e->since >= EXPECTED_SECONDS;
		c->abandoned |= late; /* once and for all, whatever another worker expects */
		pthread_mutex_unlock(&c->lock);
		if (late)
			channel_end(w->daemon->channels, c, w->daemon);
		if (there || late)
			no_more_expected(e);
	}
}

void channels_forget(struct worker *w)
{
	while (!LIST_EMPTY(&w->expected))
		no_more_expected(LIST_FIRST(&w->expected));
}
