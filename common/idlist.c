/* SPDX-License-Identifier: Apache-2.0 */
#include "idlist.h"

#include <grp.h>
#include <pwd.h>
#include <string.h>

#include "util.h"

/* A number that is an id, -1 (which the kernel takes for "none") excluded. */
static bool parse_id(const char *word, uint32_t *id)
{
	unsigned long value;
	char *end;

	if (*word < '0' || *word > '9')
		return false;
	errno = 0;
	value = strtoul(word, &end, 10);
	*id = (uint32_t)value;
	return *end == '\0' && errno == 0 && value < UINT32_MAX;
}

static bool find_user(const char *name, uint32_t *id)
{
	char room[16384];
	struct passwd pw, *found;

	if (getpwnam_r(name, &pw, room, sizeof(room), &found) != 0 || !found)
		return false;
	*id = found->pw_uid;
	return true;
}

static bool find_group(const char *name, uint32_t *id)
{
	char room[16384];
	struct group gr, *found;

	if (getgrnam_r(name, &gr, room, sizeof(room), &found) != 0 || !found)
		return false;
	*id = found->gr_gid;
	return true;
}

static int parse(struct idlist *list, const char *value, bool (*find)(const char *, uint32_t *),
		 char **bad)
{
	_cleanup_free_ char *copy = strdup(value);
	size_t commas = 0;
	char *rest = copy, *word;

	for (const char *c = value; *c; c++)
		commas += *c == ',';
	list->ids = calloc(commas + 1, sizeof(*list->ids));
	if (!copy || !list->ids)
		return -ENOMEM;
	while ((word = strsep(&rest, ","))) {
		if (!parse_id(word, &list->ids[list->n]) && !find(word, &list->ids[list->n])) {
			*bad = strdup(word);
			return *bad ? -EINVAL : -ENOMEM;
		}
		list->n++;
	}
	return 0;
}

int idlist_parse_users(struct idlist *list, const char *value, char **bad)
{
	return parse(list, value, find_user, bad);
}

int idlist_parse_groups(struct idlist *list, const char *value, char **bad)
{
	return parse(list, value, find_group, bad);
}

void idlist_free(struct idlist *list)
{
	free(list->ids);
	*list = (struct idlist){ 0 };
}

bool idlist_has(const struct idlist *list, uint32_t id)
{
	for (size_t i = 0; i < list->n; i++)
		if (list->ids[i] == id)
			return true;
	return list->n == 0;
}

bool idlist_has_member(const struct idlist *list, gid_t gid, const gid_t *groups, size_t n)
{
	if (idlist_has(list, gid))
		return true;
	for (size_t i = 0; i < n; i++)
		if (idlist_has(list, groups[i]))
			return true;
	return false;
}
