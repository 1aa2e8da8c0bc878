/* SPDX-License-Identifier: Apache-2.0 */
#include "accepted.h"

#include <errno.h>
#include <search.h>
#include <string.h>

#include "util.h"

struct accepted {
	pthread_mutex_t lock;
	void *by_id; /* tsearch(3) tree of struct session */
};

static int compare(const void *a, const void *b)
{
	const struct session *x = a, *y = b;

	return memcmp(&x->id, &y->id, sizeof(x->id));
}

struct accepted *accepted_new(void)
{
	struct accepted *table = calloc(1, sizeof(*table));

	if (!table)
		die("out of memory");
	pthread_mutex_init(&table->lock, NULL);
	return table;
}

static void keep(void *node)
{
	(void)node;
}

void accepted_free(struct accepted *table)
{
	tdestroy(table->by_id, keep);
	pthread_mutex_destroy(&table->lock);
	free(table);
}

int accepted_add(struct accepted *table, struct session *s)
{
	struct session **there;
	int err = 0;

	pthread_mutex_lock(&table->lock);
	there = tsearch(s, &table->by_id, compare);
	if (!there)
		err = -ENOMEM;
	else if (*there != s) /* a node is the lock's, too: others' tdelete(3) may free it */
		err = -EEXIST;
	pthread_mutex_unlock(&table->lock);
	return err;
}

void accepted_remove(struct accepted *table, struct session *s)
{
	struct session **there;

	pthread_mutex_lock(&table->lock);
	there = tfind(s, &table->by_id, compare);
	if (there && *there == s)
		tdelete(s, &table->by_id, compare);
	pthread_mutex_unlock(&table->lock);
}

struct session *accepted_find(struct accepted *table, const struct frame_id *id, struct worker **w)
{
	const struct session wanted = { .id = *id };
	struct session **there, *found = NULL;

	pthread_mutex_lock(&table->lock);
	there = tfind(&wanted, &table->by_id, compare);
	if (there) {
		found = *there;
		*w = found->worker;
	}
	pthread_mutex_unlock(&table->lock);
	return found;
}
