/* SPDX-License-Identifier: Apache-2.0 */
#include "affinity.h"

#include <string.h>

#define BLANKS " \t\n"
#define DIGITS "0123456789"

void affinity_add(struct affinity *a, unsigned int cpu)
{
	a->cpus[cpu / 8] |= (uint8_t)(1u << cpu % 8);
	if (a->size <= cpu / 8)
		a->size = cpu / 8 + 1;
}

void affinity_all(struct affinity *a)
{
	memset(a->cpus, 0xff, sizeof(a->cpus));
	a->size = sizeof(a->cpus);
}

bool affinity_has(const struct affinity *a, unsigned int cpu)
{
	return cpu < AFFINITY_CPUS_MAX && a->cpus[cpu / 8] >> cpu % 8 & 1;
}

/* ---- lists ---- */

static bool parse_cpu(const char **at, unsigned int *cpu)
{
	const char *p = *at;

	for (*cpu = 0; *p >= '0' && *p <= '9'; p++) {
		*cpu = *cpu * 10 + (unsigned int)(*p - '0');
		if (*cpu >= AFFINITY_CPUS_MAX)
			return false;
	}
	if (p == *at)
		return false;
	*at = p;
	return true;
}

static bool parse_range(struct affinity *a, const char **at)
{
	unsigned int first, last;

	if (!parse_cpu(at, &first))
		return false;
	last = first;
	if (**at == '-') {
		++*at;
		if (!parse_cpu(at, &last) || last < first)
			return false;
	}
	for (; first <= last; first++)
		affinity_add(a, first);
	return true;
}

bool affinity_parse(struct affinity *a, const char *text, const char **end)
{
	*a = (struct affinity){ 0 };
	while (parse_range(a, &text)) {
		*end = text;
		if (*text++ != ',')
			return true;
	}
	return false;
}

/* ---- words ---- */

/* The word at or behind @p; NULL when there is none. */
static const char *next_word(const char *p)
{
	p += strspn(p, BLANKS);
	return *p ? p : NULL;
}

static const char *word_end(const char *word)
{
	return word + strcspn(word, BLANKS);
}

/* Where the list of the word at @word begins when it is @name's, else NULL. */
static const char *list_of(const char *word, const char *name)
{
	size_t n = strlen(name);

	return !strncmp(word, name, n) && word[n] == '=' ? word + n + 1 : NULL;
}

bool affinity_named(struct affinity *a, const char *words, const char *name)
{
	const char *list, *end;
	bool found = false;

	for (const char *w = next_word(words); w; w = next_word(word_end(w))) {
		list = list_of(w, name);
		if (list)
			found = affinity_parse(a, list, &end);
	}
	return found;
}

static bool is_numbered(const char *word, const char *name)
{
	size_t n = strlen(name), digits = 0;

	if (!strncmp(word, name, n))
		digits = strspn(word + n, DIGITS);
	return digits && word[n + digits] == '=';
}

static bool is_good(const char *word)
{
	struct affinity a;
	const char *end;

	if (!list_of(word, "emulator") && !is_numbered(word, "vcpu") &&
	    !is_numbered(word, "iothread"))
		return false;
	return affinity_parse(&a, strchr(word, '=') + 1, &end) && end == word_end(word);
}

const char *affinity_check(const char *words)
{
	for (const char *w = next_word(words); w; w = next_word(word_end(w)))
		if (!is_good(w))
			return w;
	return NULL;
}
