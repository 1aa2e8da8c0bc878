/* SPDX-License-Identifier: Apache-2.0 */
#include "map.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "util.h"

#define BLANKS " \t\r"

static int add(struct map_programs *out, const char *program)
{
	if (out->n == MAP_PROGRAMS_MAX)
		return -EINVAL;
	out->program[out->n] = strdup(program);
	return out->program[out->n] ? (out->n++, 0) : -ENOMEM;
}

/* A line's words: the name and at least one program. Only @name's are kept. */
static int parse_line(char *line, const char *name, struct map_programs *out)
{
	char *rest, *word = strtok_r(line, BLANKS, &rest), *program;
	int ret = 0;
	bool ours;

	if (!word || *word == '#')
		return 0;
	ours = !strcmp(word, name);
	program = strtok_r(NULL, BLANKS, &rest);
	if (!program || strchr(word, '/'))
		return -EINVAL;
	if (ours)
		map_free(out); /* the last line of a name counts */
	for (; program && !ret; program = strtok_r(NULL, BLANKS, &rest)) {
		if (*program == '#')
			break;
		if (strchr(program, '/') && *program != '/')
			return -EINVAL;
		ret = ours ? add(out, program) : 0;
	}
	return ret;
}

static int parse(char *text, const char *name, struct map_programs *out, unsigned int *number)
{
	int ret = 0;

	for (*number = 1; text && !ret; ++*number) {
		char *line = strsep(&text, "\n");

		ret = parse_line(line, name, out);
		if (ret)
			return ret;
	}
	return 0;
}

static int add_default(const char *name, const char *machine, struct map_programs *out)
{
	_cleanup_free_ char *system = NULL;
	int ret = add(out, name);

	if (ret || strcmp(name, "qemu-kvm") != 0)
		return ret;
	system = malloc(strlen("qemu-system-") + strlen(machine) + 1);
	if (!system)
		return -ENOMEM;
	strcpy(system, "qemu-system-");
	strcat(system, machine);
	ret = add(out, "/usr/libexec/qemu-kvm");
	return ret ? ret : add(out, system);
}

int map_lookup(const char *text, const char *name, const char *machine, struct map_programs *out,
	       unsigned int *line)
{
	_cleanup_free_ char *copy = strdup(text);
	const char *slash = strrchr(name, '/');
	int ret;

	*out = (struct map_programs){ 0 };
	if (!copy)
		return -ENOMEM;
	name = slash ? slash + 1 : name;
	ret = parse(copy, name, out, line);
	if (!ret && !out->n)
		ret = add_default(name, machine, out);
	if (ret)
		map_free(out);
	return ret;
}

void map_free(struct map_programs *programs)
{
	for (size_t i = 0; i < programs->n; i++)
		free(programs->program[i]);
	programs->n = 0;
}
