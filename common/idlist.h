/* SPDX-License-Identifier: Apache-2.0 */
/*
 * idlist.h - users or groups, as the lists name them: "0,libvirt-qemu"
 */
#ifndef IDLIST_H
#define IDLIST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct idlist {
	uint32_t *ids;
	size_t n; /* 0: everybody */
};

/**
 * idlist_parse_users() - numbers, or names of users of this machine, with commas between
 * @list	empty; idlist_free() whatever comes back
 * @bad		on -EINVAL the word that is neither, as a copy to be freed
 * Return: 0, -EINVAL, -ENOMEM.
 */
int idlist_parse_users(struct idlist *list, const char *value, char **bad);
/** idlist_parse_groups() - the same with groups */
int idlist_parse_groups(struct idlist *list, const char *value, char **bad);
/** idlist_free() - empty it */
void idlist_free(struct idlist *list);

/** idlist_has() - does it name @id? One that names nobody has every id. */
bool idlist_has(const struct idlist *list, uint32_t id);
/** idlist_has_member() - does it name @gid or one of the @n @groups? */
bool idlist_has_member(const struct idlist *list, gid_t gid, const gid_t *groups, size_t n);

#endif
