/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_whitelist - lines of rexec's whitelist and the arguments of a request, both hostile
 *
 * The input is arguments, tabs between them, a newline, and a list. What must hold besides not
 * crashing: an argument is matched by a pattern without wildcards only if they are equal; one with
 * wildcards leads nowhere by `..`, and matches as many slashes as it has.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "argpattern.h"
#include "whitelist.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define must(condition) ((condition) ? (void)0 : abort())
#define ARGS_MAX 64

static size_t count(const char *text, char c)
{
	size_t n = 0;

	for (; *text; text++)
		n += *text == c;
	return n;
}

static void check_match(const char *pattern, const char *argument)
{
	if (!argpattern_matches(pattern, argument) || !strcmp(pattern, "**"))
		return;
	if (!strpbrk(pattern, "*?["))
		must(!strcmp(pattern, argument));
	else
		must(!strstr(argument, "/../") && strncmp(argument, "../", 3) != 0);
	if (!strstr(pattern, "**") && !strchr(pattern, '['))
		must(count(pattern, '/') == count(argument, '/'));
}

static void check_entry(const struct whitelist_entry *e, const char *const *args, size_t n)
{
	bool allowed = whitelist_allows_args(e, args, n);

	if (!e->counted) {
		must(allowed);
		return;
	}
	must(!allowed || (e->more ? n >= e->n_args : n == e->n_args));
	for (size_t i = 0; i < e->n_args && i < n; i++) {
		must(!argpattern_wrong(e->args[i]));
		check_match(e->args[i], args[i]);
		must(!allowed || argpattern_matches(e->args[i], args[i]));
	}
}

static void check_words(const struct whitelist_entry *e, const char *word)
{
	unsigned char digest[WHITELIST_DIGEST_SIZE] = { 0 };

	must(whitelist_allows_variable(e, word) || e->env);
	must(whitelist_allows_digest(e, digest) || e->digests);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const char *text = (const char *)data;
	const char *newline = size ? memchr(text, '\n', size) : NULL;
	const char *args[ARGS_MAX];
	struct listfile list = { 0 };
	char err[LISTFILE_ERROR_MAX];
	char *copy, *rest;
	size_t n = 0;

	if (!newline)
		return 0;
	copy = rest = strndup(text, (size_t)(newline - text));
	must(copy);
	while (n < ARGS_MAX && rest)
		args[n++] = strsep(&rest, "\t");
	listfile_parse(&list, "list", newline + 1, size - (size_t)(newline - text) - 1, err);
	for (size_t i = 0; i < list.n; i++) {
		struct whitelist_entry entry;

		if (!whitelist_parse(&entry, list.entries[i], err)) {
			check_entry(&entry, args, n);
			check_words(&entry, copy);
		}
		whitelist_free(&entry);
	}
	listfile_free(&list);
	free(copy);
	return 0;
}
