/* SPDX-License-Identifier: Apache-2.0 */
/*
 * argpattern.c - how an argument is matched
 *
 * From left to right, without recursion: after a mismatch the last `*` takes one byte more, and
 * when it may not, the last `**` does. Earlier ones need not be tried again: whatever they leave
 * to the last one, it could have taken itself. Since nothing but a `/` in the pattern and `**`
 * match a `/`, a start of what follows `**` that fails at a `/` or at the end has shown all later
 * starts before the next `/` to fail as well: they are passed over, which keeps it linear.
 */
#include "argpattern.h"

#include <stddef.h>
#include <string.h>

/* Behind the set that begins at @p, or NULL when it has no end. */
static const char *set_end(const char *p)
{
	p++;
	if (*p == '!')
		p++;
	if (!*p)
		return NULL;
	p = strchr(p + 1, ']'); /* the first byte may be a ] */
	return p ? p + 1 : NULL;
}

/* Does one of the bytes and ranges from @p to @end hold @c? */
static bool holds(const char *p, const char *end, unsigned char c)
{
	while (p < end) {
		bool range = end - p > 2 && p[1] == '-';
		unsigned char low = (unsigned char)*p, high = (unsigned char)p[range ? 2 : 0];

		if (c >= low && c <= high)
			return true;
		p += range ? 3 : 1;
	}
	return false;
}

/* Does what stands at *@p (no `*`) match @c? Then *@p is behind it. */
static bool matches_byte(const char **p, char c)
{
	const char *end = *p + 1;
	bool matches;

	if (**p == '[') {
		bool not = (*p)[1] == '!';

		end = set_end(*p);
		matches = c != '/' && holds(*p + 1 + not, end - 1, (unsigned char)c) != not ;
	} else {
		matches = **p == '?' ? c != '/' : **p == c;
	}
	if (matches)
		*p = end;
	return matches;
}

static bool matches(const char *p, const char *t)
{
	const char *star = NULL,
		   *star_at = NULL;		/* what follows the last `*`, and its end so far */
	const char *all = NULL, *all_at = NULL; /* the same for the last `**` */

	for (;;) {
		if (*p == '*' && p[1] == '*') {
			p += strspn(p, "*");
			if (!*p)
				return true;
			all = p;
			all_at = t;
			star = NULL;
		} else if (*p == '*') {
			star = ++p;
			star_at = t;
		} else if (*t && *p && matches_byte(&p, *t)) {
			t++;
		} else if (!*t && !*p) {
			return true;
		} else if (star && *star_at && *star_at != '/') {
			t = ++star_at;
			p = star;
		} else if (star && *star_at && all) {
			all_at = strchr(all_at, '/'); /* at star_at, or before it */
			t = ++all_at;
			p = all;
			star = NULL;
		} else if (!star && all && *all_at) {
			t = ++all_at;
			p = all;
		} else {
			return false;
		}
	}
}

static bool has_dot_dot(const char *argument)
{
	for (const char *at = argument; (at = strstr(at, "..")); at++)
		if ((at == argument || strchr("/=,:", at[-1])) && strchr("/,:", at[2]))
			return true;
	return false;
}

const char *argpattern_wrong(const char *pattern)
{
	for (const char *p = pattern; (p = strchr(p, '[')); p++) {
		const char *end = set_end(p);

		if (!end)
			return "a [ needs a ] behind it; one that is meant is written [[]";
		p += p[1] == '!';
		for (p++; p < end - 1; p++) {
			if (p[1] != '-' || p + 2 >= end - 1)
				continue;
			if ((unsigned char)*p > (unsigned char)p[2])
				return "a range in [] goes from the lower byte to the higher";
			p += 2;
		}
	}
	return NULL;
}

bool argpattern_matches(const char *pattern, const char *argument)
{
	if (!strcmp(pattern, "**"))
		return true;
	if (strpbrk(pattern, "*?[") && has_dot_dot(argument))
		return false;
	return matches(pattern, argument);
}
