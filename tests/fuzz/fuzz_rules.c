/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_rules - lists and asked names, both hostile
 *
 * The input is a name, a newline, and a list. What must hold besides not crashing: whatever is
 * written back by listfile_escape() reads the same, and what a rule covers lies below its root.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "listfile.h"
#include "rules.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define must(condition) ((condition) ? (void)0 : abort())

static void check_escape(const struct listfile *list)
{
	char err[LISTFILE_ERROR_MAX];

	for (size_t i = 0; i < list->n; i++) {
		const char *path = list->entries[i]->path;
		char *escaped = listfile_escape(path);
		struct listfile again = { 0 };

		must(listfile_parse(&again, "again", escaped, strlen(escaped), err) == 0);
		must(again.n == 1 && again.entries[0]->n_options == 0);
		must(strcmp(again.entries[0]->path, path) == 0);
		listfile_free(&again);
		free(escaped);
	}
}

/* The rule's root and the rest together are the name asked for. */
static void check_below(const struct rule *rule, const char *rest, const char *name, size_t len)
{
	char normal[RULES_NAME_SIZE], joined[2 * RULES_NAME_SIZE];

	if (rule->abstract) {
		must(len > 1 && *name == '\0' && *rest == '\0');
		must(memcmp(name + 1, rule->root, rule->root_len) == 0);
		return;
	}
	must(path_normalise(normal, sizeof(normal), name, len) > 0);
	snprintf(joined, sizeof(joined), "%s%s%s", rule->root_len ? rule->root : "",
		 *rest || !rule->root_len ? "/" : "", rest);
	must(strcmp(joined, normal) == 0);
}

static void check_match(const struct rules *rules, const char *name, size_t len)
{
	static const struct rules_client client = { .uid = 1000, .gid = 1000 };
	char rest[RULES_NAME_SIZE];
	const struct rule *rule = rules_match(rules, name, len, &client, rest);

	if (rule)
		check_below(rule, rest, name, len);
}

/* A normal path is its own normal form, and has nothing in it that leads elsewhere. */
static void check_normal(const char *name, size_t len)
{
	char once[RULES_NAME_SIZE], twice[RULES_NAME_SIZE];
	ssize_t n = path_normalise(once, sizeof(once), name, len);

	if (n < 0)
		return;
	must(n > 0 && strlen(once) == (size_t)n && *once == '/');
	must(!strstr(once, "//") && !strstr(once, "/../") && !strstr(once, "/./"));
	must(path_normalise(twice, sizeof(twice), once, (size_t)n) > 0);
	must(strcmp(once, twice) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const char *name = (const char *)data;
	const char *newline = size ? memchr(name, '\n', size) : NULL;
	struct listfile list = { 0 };
	char err[LISTFILE_ERROR_MAX];
	size_t len;

	if (!newline)
		return 0;
	len = (size_t)(newline - name);
	check_normal(name, len);
	if (listfile_parse(&list, "list", newline + 1, size - len - 1, err) == 0) {
		struct rules *rules = rules_parse(&list, err);

		check_escape(&list);
		if (rules)
			check_match(rules, name, len);
		rules_free(rules);
	}
	listfile_free(&list);
	return 0;
}
