/* SPDX-License-Identifier: Apache-2.0 */
#include "rules.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "util.h"

/* ---- names ------------------------------------------------------------------------------ */

/* Does @path, @len bytes, begin with the components of @prefix (which ends in no slash)? */
static bool has_prefix(const char *path, size_t len, const char *prefix, size_t prefix_len)
{
	return len >= prefix_len && memcmp(path, prefix, prefix_len) == 0 &&
	       (len == prefix_len || path[prefix_len] == '/');
}

/* Append "/" and @component to the @n bytes of @out. Return: the new length, or -errno. */
static ssize_t append_component(char *out, size_t size, size_t n, const char *component, size_t len)
{
	if (len == 0 || (len == 1 && *component == '.'))
		return (ssize_t)n;
	if (len == 2 && memcmp(component, "..", 2) == 0)
		return -EINVAL;
	if (len + 2 > size - n)
		return -ENAMETOOLONG;
	out[n] = '/';
	memcpy(out + n + 1, component, len);
	return (ssize_t)(n + 1 + len);
}

/* Turn a leading /var/run into /run. Return: the new length. */
static ssize_t shorten_var_run(char *path, size_t len)
{
	const size_t var = sizeof("/var") - 1;

	if (!has_prefix(path, len, "/var/run", sizeof("/var/run") - 1))
		return (ssize_t)len;
	memmove(path, path + var, len - var + 1);
	return (ssize_t)(len - var);
}

ssize_t path_normalise(char *out, size_t size, const char *path, size_t len)
{
	const char *const end = path + len;
	ssize_t n = 0;

	if (len == 0 || *path != '/' || memchr(path, '\0', len))
		return -EINVAL;
	if (size < sizeof("/"))
		return -ENAMETOOLONG;
	while (path < end) {
		const char *component = path + 1;
		const char *slash = memchr(component, '/', (size_t)(end - component));

		path = slash ? slash : end;
		n = append_component(out, size, (size_t)n, component, (size_t)(path - component));
		if (n < 0)
			return n;
	}
	if (n == 0)
		out[n++] = '/';
	out[n] = '\0';
	return shorten_var_run(out, (size_t)n);
}

/* ---- reading ---------------------------------------------------------------------------- */

/* Say in @err what is wrong with @entry. Return: -EINVAL, for the caller to return. */
__attribute__((format(printf, 3, 4))) static int
wrong(char *err, const struct listfile_entry *entry, const char *format, ...)
{
	int n = snprintf(err, RULES_ERROR_MAX, "%s: line %u: ", entry->file, entry->line);

	if (n >= 0 && n < RULES_ERROR_MAX) {
		va_list ap;

		va_start(ap, format);
		vsnprintf(err + n, RULES_ERROR_MAX - (size_t)n, format, ap);
		va_end(ap);
	}
	return -EINVAL;
}

static int parse_root(struct rule *rule, const struct listfile_entry *entry, char *err)
{
	const char *name = entry->path;
	ssize_t n;

	rule->abstract = *name == '@';
	if (rule->abstract) {
		rule->root_len = strlen(name + 1);
		/* sun_path holds the NUL before it, too. */
		if (rule->root_len == 0 || rule->root_len > RULES_NAME_SIZE - 2)
			return wrong(err, entry,
				     "@ needs an abstract name of 1 to %zu bytes behind it",
				     RULES_NAME_SIZE - 2);
		memcpy(rule->root, name + 1, rule->root_len + 1);
		return 0;
	}
	n = path_normalise(rule->root, sizeof(rule->root), name, strlen(name));
	if (n == -ENAMETOOLONG)
		return wrong(err, entry, "a socket's path has at most %zu bytes, not so many: %s",
			     RULES_NAME_SIZE - 1, name);
	if (n < 0)
		return wrong(err, entry,
			     "write a path from / on and without \"..\" (or @NAME, which is an "
			     "abstract name): %s",
			     name);
	rule->root_len = n == 1 ? 0 : (size_t)n;
	return 0;
}

static int option_ids(struct idlist *list, const struct listfile_entry *entry, const char *what,
		      const char *value,
		      int (*parse)(struct idlist *list, const char *value, char **bad), char *err)
{
	_cleanup_free_ char *bad = NULL;
	int rc;

	if (list->ids)
		return wrong(err, entry, "%s= stands there twice: put commas between the ids",
			     what);
	rc = parse(list, value, &bad);
	if (rc == -EINVAL)
		return wrong(
			err, entry,
			"%s=%s: there is no \"%s\" on this machine: give a number or a known name",
			what, value, bad);
	if (rc < 0)
		wrong(err, entry, "no memory");
	return rc;
}

static int parse_option(struct rule *rule, const struct listfile_entry *entry,
			const struct listfile_option *option, char *err)
{
	if (strcmp(option->key, "uid") == 0)
		return option_ids(&rule->uids, entry, "uid", option->value, idlist_parse_users,
				  err);
	if (strcmp(option->key, "gid") == 0)
		return option_ids(&rule->gids, entry, "gid", option->value, idlist_parse_groups,
				  err);
	if (strcmp(option->key, "creds") == 0 && strcmp(option->value, "no") == 0) {
		rule->creds = false;
		return 0;
	}
	return wrong(err, entry, "%s=%s is no option: uid=LIST, gid=LIST and creds=no are known",
		     option->key, option->value);
}

static int parse_rule(struct rule *rule, const struct listfile_entry *entry, char *err)
{
	int rc;

	rule->creds = true;
	rc = parse_root(rule, entry, err);
	for (size_t i = 0; rc == 0 && i < entry->n_options; i++)
		rc = parse_option(rule, entry, &entry->options[i], err);
	return rc;
}

static struct rules *rules_new(size_t room, char *err)
{
	struct rules *rules = calloc(1, sizeof(*rules));

	if (rules)
		rules->rule = calloc(room, sizeof(*rules->rule));
	if (rules && rules->rule)
		return rules;
	free(rules);
	snprintf(err, RULES_ERROR_MAX, "no memory for a list");
	return NULL;
}

struct rules *rules_parse(const struct listfile *list, char *err)
{
	struct rules *rules = rules_new(list->n + 1, err);
	int rc = 0;

	if (!rules)
		return NULL;
	for (size_t i = 0; i < list->n && rc == 0; i++)
		rc = parse_rule(&rules->rule[rules->n++], list->entries[i], err);
	if (rc == 0)
		return rules;
	rules_free(rules);
	return NULL;
}

static struct rules *allow_all(char *err)
{
	struct rules *rules = rules_new(2, err);

	if (!rules)
		return NULL;
	rules->rule[0] = (struct rule){ .root = "/", .creds = true };
	rules->rule[1] = (struct rule){ .abstract = true, .creds = true };
	rules->n = 2;
	rules->allow_all = true;
	return rules;
}

struct rules *rules_load(const char *file, bool allow_all_when_missing, char *err)
{
	struct listfile list = { 0 };
	struct rules *rules = NULL;

	if (listfile_read_all(&list, file, LISTFILE_MODE_TRUSTED, err) == 0)
		rules = list.missing && allow_all_when_missing ? allow_all(err)
							       : rules_parse(&list, err);
	listfile_free(&list);
	return rules;
}

void rules_free(struct rules *rules)
{
	if (!rules)
		return;
	for (size_t i = 0; i < rules->n; i++) {
		idlist_free(&rules->rule[i].uids);
		idlist_free(&rules->rule[i].gids);
	}
	free(rules->rule);
	free(rules);
}

/* ---- matching --------------------------------------------------------------------------- */

struct asked_name {
	char text[RULES_NAME_SIZE];
	size_t len;
	bool abstract;
};

static bool parse_asked(struct asked_name *asked, const char *name, size_t len)
{
	*asked = (struct asked_name){ .abstract = len > 0 && *name == '\0' };
	if (!asked->abstract) {
		ssize_t n = path_normalise(asked->text, sizeof(asked->text), name, len);

		asked->len = n > 0 ? (size_t)n : 0;
		return n > 0;
	}
	if (len < 2 || len > sizeof(asked->text) - 1)
		return false;
	asked->len = len - 1;
	memcpy(asked->text, name + 1, asked->len);
	return true;
}

static bool covers(const struct rule *rule, const struct asked_name *asked)
{
	return rule->abstract == asked->abstract &&
	       (rule->root_len == 0 ||
		has_prefix(asked->text, asked->len, rule->root, rule->root_len));
}

static bool admits(const struct rule *rule, const struct rules_client *client)
{
	return idlist_has(&rule->uids, client->uid) &&
	       idlist_has_member(&rule->gids, client->gid, client->groups, client->n_groups);
}

/* What of @asked lies below the root of @rule, which covers it. */
static const char *name_rest(const struct rule *rule, const struct asked_name *asked)
{
	const char *rest = asked->text + rule->root_len;

	if (asked->abstract)
		return "";
	return *rest == '/' ? rest + 1 : rest;
}

const struct rule *rules_match(const struct rules *rules, const char *name, size_t len,
			       const struct rules_client *client, char *rest)
{
	struct asked_name asked;

	if (!parse_asked(&asked, name, len))
		return NULL;
	for (size_t i = 0; i < rules->n; i++) {
		const struct rule *rule = &rules->rule[i];

		if (!covers(rule, &asked) || !admits(rule, client))
			continue;
		if (rest)
			strcpy(rest, name_rest(rule, &asked));
		return rule;
	}
	return NULL;
}
