/* SPDX-License-Identifier: Apache-2.0 */
#include "whitelist.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "argpattern.h"
#include "util.h"

/* ---- reading ---------------------------------------------------------------------------- */

__attribute__((format(printf, 3, 4))) static int wrong(char *err, const struct listfile_entry *from,
						       const char *format, ...)
{
	int n = snprintf(err, LISTFILE_ERROR_MAX, "%.200s:%u: ", from->file, from->line);
	va_list ap;

	va_start(ap, format);
	vsnprintf(err + n, LISTFILE_ERROR_MAX - (size_t)n, format, ap);
	va_end(ap);
	return -EINVAL;
}

size_t whitelist_next_word(const char **list, const char **word)
{
	size_t len = strcspn(*list, ",");

	*word = *list;
	*list = (*list)[len] ? *list + len + 1 : NULL;
	return len;
}

static int parse_ids(struct idlist *ids, const struct listfile_entry *from,
		     const struct listfile_option *o,
		     int (*parse)(struct idlist *list, const char *value, char **bad), char *err)
{
	_cleanup_free_ char *bad = NULL;
	int rc;

	if (ids->ids)
		return wrong(err, from, "%s= stands there twice: put commas between", o->key);
	rc = parse(ids, o->value, &bad);
	if (rc == -EINVAL)
		wrong(err, from,
		      "%s=%.100s: there is no '%.100s' on this machine: give a number or a known "
		      "name",
		      o->key, o->value, bad);
	else if (rc < 0)
		wrong(err, from, "no memory");
	return rc;
}

/* Is @word, @len bytes, a variable's name, or the beginning of some with a * behind it? */
static bool is_name(const char *word, size_t len)
{
	bool many = len > 0 && word[len - 1] == '*';

	return len > many && !memchr(word, '=', len) && !memchr(word, '*', len - many);
}

static int parse_env(struct whitelist_entry *e, const struct listfile_option *o, char *err)
{
	const char *rest = o->value, *word;

	if (e->env)
		return wrong(err, e->at, "env= stands there twice: put commas between the names");
	e->env = o->value;
	while (rest) {
		size_t len = whitelist_next_word(&rest, &word);

		if (!is_name(word, len))
			return wrong(err, e->at,
				     "env=%.200s: '%.*s' is no name of a variable; NAME, NAME* "
				     "(all that begin so) with commas between, or none alone are "
				     "possible",
				     o->value, (int)MIN(len, 60), word);
	}
	return 0;
}

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* The bytes that 64 hexadecimal digits stand for. */
static bool parse_digest(const char *word, size_t len, unsigned char *digest)
{
	if (len != (size_t)2 * WHITELIST_DIGEST_SIZE)
		return false;
	for (size_t i = 0; i < WHITELIST_DIGEST_SIZE; i++) {
		int high = hex_digit(word[2 * i]), low = hex_digit(word[2 * i + 1]);

		if (high < 0 || low < 0)
			return false;
		digest[i] = (unsigned char)(high << 4 | low);
	}
	return true;
}

static int parse_digests(struct whitelist_entry *e, const struct listfile_option *o, char *err)
{
	unsigned char digest[WHITELIST_DIGEST_SIZE];
	const char *rest = o->value, *word;

	if (e->digests)
		return wrong(err, e->at, "sha256= stands there twice: put commas between");
	e->digests = o->value;
	while (rest) {
		size_t len = whitelist_next_word(&rest, &word);

		if (!parse_digest(word, len, digest))
			return wrong(err, e->at,
				     "sha256=%.100s: 64 hexadecimal digits are needed, as "
				     "sha256sum(1) prints them, not '%.*s'",
				     o->value, (int)MIN(len, 100), word);
	}
	return 0;
}

static int parse_arg(struct whitelist_entry *e, const struct listfile_option *o, char *err)
{
	const char *bad = argpattern_wrong(o->value);

	if (e->counted && !e->n_args && !e->more)
		return wrong(err, e->at, "args=none and arg= contradict each other");
	if (e->more)
		return wrong(err, e->at, "arg=... (any others) must be the last arg=");
	if (bad)
		return wrong(err, e->at, "arg=%.200s: %s", o->value, bad);
	e->counted = true;
	e->more = !strcmp(o->value, "...");
	if (!e->more)
		e->args[e->n_args++] = o->value;
	return 0;
}

static int parse_args(struct whitelist_entry *e, const struct listfile_option *o, char *err)
{
	if (strcmp(o->value, "none") != 0)
		return wrong(err, e->at,
			     "args=%.100s: args=none is possible, or arg=PATTERN for each argument",
			     o->value);
	if (e->counted)
		return wrong(err, e->at, "args=none and arg= contradict each other");
	e->counted = true;
	return 0;
}

static int parse_option(struct whitelist_entry *e, const struct listfile_option *o, char *err)
{
	if (!strcmp(o->key, "uid"))
		return parse_ids(&e->uids, e->at, o, idlist_parse_users, err);
	if (!strcmp(o->key, "gid"))
		return parse_ids(&e->gids, e->at, o, idlist_parse_groups, err);
	if (!strcmp(o->key, "user"))
		return parse_ids(&e->users, e->at, o, idlist_parse_users, err);
	if (!strcmp(o->key, "arg"))
		return parse_arg(e, o, err);
	if (!strcmp(o->key, "args"))
		return parse_args(e, o, err);
	if (!strcmp(o->key, "env"))
		return parse_env(e, o, err);
	if (!strcmp(o->key, "sha256"))
		return parse_digests(e, o, err);
	return wrong(err, e->at,
		     "%.100s=%.100s is no option: uid=, gid=, user=, arg=, args=none, env= and "
		     "sha256= are known",
		     o->key, o->value);
}

int whitelist_parse(struct whitelist_entry *entry, const struct listfile_entry *from, char *err)
{
	int rc = 0;

	*entry = (struct whitelist_entry){ .at = from };
	if (*from->path != '/' && strchr(from->path, '/'))
		return wrong(err, from,
			     "'%.200s' is a relative path; write an absolute path or a bare name",
			     from->path);
	entry->args = calloc(from->n_options + 1, sizeof(*entry->args));
	if (!entry->args) {
		wrong(err, from, "no memory");
		return -ENOMEM;
	}
	for (size_t i = 0; i < from->n_options && rc == 0; i++)
		rc = parse_option(entry, &from->options[i], err);
	return rc;
}

void whitelist_free(struct whitelist_entry *entry)
{
	idlist_free(&entry->uids);
	idlist_free(&entry->gids);
	idlist_free(&entry->users);
	free(entry->args);
	*entry = (struct whitelist_entry){ 0 };
}

/* ---- matching --------------------------------------------------------------------------- */

bool whitelist_allows_args(const struct whitelist_entry *entry, const char *const *args, size_t n)
{
	if (!entry->counted)
		return true;
	if (n < entry->n_args || (n > entry->n_args && !entry->more))
		return false;
	for (size_t i = 0; i < entry->n_args; i++)
		if (!argpattern_matches(entry->args[i], args[i]))
			return false;
	return true;
}

bool whitelist_allows_variable(const struct whitelist_entry *entry, const char *assignment)
{
	const char *rest = entry->env, *word;
	size_t n = strcspn(assignment, "=");

	if (!rest)
		return true;
	if (!strcmp(rest, "none"))
		return false;
	while (rest) {
		size_t len = whitelist_next_word(&rest, &word);
		bool many = word[len - 1] == '*';

		len -= many;
		if ((many ? n >= len : n == len) && !memcmp(word, assignment, len))
			return true;
	}
	return false;
}

bool whitelist_allows_digest(const struct whitelist_entry *entry,
			     const unsigned char digest[WHITELIST_DIGEST_SIZE])
{
	unsigned char allowed[WHITELIST_DIGEST_SIZE];
	const char *rest = entry->digests, *word;

	while (rest) {
		size_t len = whitelist_next_word(&rest, &word);

		if (parse_digest(word, len, allowed) && !memcmp(allowed, digest, sizeof(allowed)))
			return true;
	}
	return !entry->digests;
}
