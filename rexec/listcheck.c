/* SPDX-License-Identifier: Apache-2.0 */
#include "listcheck.h"

#include <stdio.h>
#include <stdlib.h>

#include "policy.h"
#include "util.h"

static void tell(void *arg, const char *sentence)
{
	unsigned *problems = arg;

	fprintf(stderr, "%s\n", sentence);
	++*problems;
}

static void print_ids(const char *what, const struct idlist *list)
{
	for (size_t i = 0; i < list->n; i++)
		printf("%s%u", i ? ", " : what, list->ids[i]);
}

static void print_args(const struct whitelist_entry *e)
{
	if (!e->counted)
		return;
	fputs(e->n_args ? "; arguments" : e->more ? "; any arguments" : "; no arguments", stdout);
	for (size_t i = 0; i < e->n_args; i++) {
		_cleanup_free_ char *arg = listfile_escape(e->args[i]);

		printf(" '%s'", arg ? arg : "?");
	}
	if (e->n_args && e->more)
		fputs(", then any", stdout);
}

static void print_entry(const struct whitelist_entry *e)
{
	_cleanup_free_ char *program = listfile_escape(e->at->path);

	printf("line %u: %s", e->at->line, program ? program : "?");
	if (!e->uids.n && !e->gids.n)
		fputs(" for everybody", stdout);
	print_ids(" for uid ", &e->uids);
	print_ids(e->uids.n ? " in group " : " for group ", &e->gids);
	print_ids("; as user ", &e->users);
	print_args(e);
	if (e->env)
		printf("; variables %s", e->env);
	puts(e->digests ? "; by SHA-256" : "");
}

int listcheck(const char *file, bool test_mode)
{
	unsigned problems = 0;
	struct policy p;

	policy_load(&p, file, test_mode, tell, &problems);
	if (p.list.missing) {
		fprintf(stderr, "%s: no such file: nothing is allowed (in test mode, everything)\n",
			file);
		problems++;
	}
	policy_survey(&p, tell, &problems);
	for (size_t i = 0; i < p.n; i++)
		print_entry(&p.entries[i]);
	if (problems)
		fprintf(stderr, "%s: %u problem%s\n", file, problems, problems == 1 ? "" : "s");
	else
		printf("%s: good, %zu line%s%s\n", file, p.n, p.n == 1 ? "" : "s",
		       p.n ? "" : ": nothing is allowed");
	policy_free(&p);
	return problems ? 2 : 0;
}
