/* SPDX-License-Identifier: Apache-2.0 */
#include "trampoline.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "locked.h"

struct arguments {
	char **word;
	int n;
};

static int add(struct arguments *a, char *word)
{
	char **more = word ? reallocarray(a->word, (size_t)a->n + 2, sizeof(*more)) : NULL;

	if (!more)
		return -ENOMEM;
	a->word = more;
	more[a->n++] = word;
	more[a->n] = NULL;
	return 0;
}

static int add_locked(struct arguments *a)
{
	DIR *dir = opendir("/proc/self/fd");
	const struct dirent *e;
	int ret = 0;

	/* without /proc no lock can be told */
	while (!ret && dir && (e = readdir(dir))) {
		if (!isdigit((unsigned char)*e->d_name) || !locked_by_us(atoi(e->d_name)))
			continue;
		ret = add(a, strdup("--drop-fd"));
		if (!ret)
			ret = add(a, strdup(e->d_name));
	}
	if (dir)
		closedir(dir);
	return ret;
}

int trampoline_argv(int *argc, char ***argv)
{
	static char own_name[] = "rexec", keep[] = "--on-disconnect=keep", end[] = "--";
	char *path = *argc ? **argv : own_name, *slash = strrchr(path, '/');
	char *name = slash ? slash + 1 : path;
	static struct arguments a; /* reachable as long as the process lives */
	int ret;

	a = (struct arguments){ 0 };
	if (!*name || !strcmp(name, own_name))
		return 0;
	ret = add(&a, own_name);
	if (!ret)
		ret = add(&a, keep);
	if (!ret)
		ret = add_locked(&a);
	if (!ret)
		ret = add(&a, end);
	if (!ret)
		ret = add(&a, name);
	for (int i = 1; !ret && i < *argc; i++)
		ret = add(&a, (*argv)[i]);
	if (ret)
		return ret;
	*argc = a.n;
	*argv = a.word;
	return 0;
}
