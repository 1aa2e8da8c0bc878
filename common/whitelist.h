/* SPDX-License-Identifier: Apache-2.0 */
/*
 * whitelist.h - a line of rexec's whitelist: which program, for whom, and how called
 *
 * A line (listfile.h) is an absolute path or a bare name, then constraints, all of which must hold:
 *
 *	uid=LIST	only clients with one of these uids (numbers or names, commas between)
 *	gid=LIST	only clients with one of these gids, as their gid or among their groups
 *	user=LIST	only to run as one of these users
 *	arg=PATTERN	(repeated) the arguments: as many as there are arg=, each matching its own
 *			PATTERN (argpattern.h). arg=... as the last one is any others, or none.
 *			Without arg= any are allowed
 *	args=none	no arguments
 *	env=LIST	of the variables that the client passes by name only these; NAME* are all
 *			that begin so; env=none: none of them
 *	sha256=LIST	only while the file's SHA-256 is one of these (64 hexadecimal digits each)
 *
 * But for arg= each stands once. A program may have several lines; one that allows is enough.
 */
#ifndef WHITELIST_H
#define WHITELIST_H

#include <stdbool.h>
#include <stddef.h>

#include "idlist.h"
#include "listfile.h"

#define WHITELIST_DIGEST_SIZE 32

struct whitelist_entry {
	const struct listfile_entry *at; /* borrowed; at->path is the program */
	struct idlist uids, gids, users;
	bool counted;	   /* the arguments are constrained: */
	bool more;	   /* by arg=... behind the patterns */
	const char **args; /* the array is ours, the patterns borrowed */
	size_t n_args;
	const char *env;     /* NULL: not constrained */
	const char *digests; /* the same */
};

/**
 * whitelist_parse() - what a line means
 * @entry	filled; whitelist_free() whatever comes back
 * @from	must stay while @entry is used
 * @err		LISTFILE_ERROR_MAX bytes: on failure FILE:LINE: what is wrong, and the remedy
 * Return: 0, -EINVAL, -ENOMEM. Looks up users and groups by name.
 */
int whitelist_parse(struct whitelist_entry *entry, const struct listfile_entry *from, char *err);
/** whitelist_free() - empty it */
void whitelist_free(struct whitelist_entry *entry);

/** whitelist_allows_args() - may the program be given these arguments (its name is none)? */
bool whitelist_allows_args(const struct whitelist_entry *entry, const char *const *args, size_t n);
/** whitelist_allows_variable() - may the client pass @assignment, NAME=VALUE, by name? */
bool whitelist_allows_variable(const struct whitelist_entry *entry, const char *assignment);
/** whitelist_allows_digest() - is the file with this SHA-256 the one? */
bool whitelist_allows_digest(const struct whitelist_entry *entry,
			     const unsigned char digest[WHITELIST_DIGEST_SIZE]);
/** whitelist_next_word() - the word at *@list, which ends at a comma; then *@list is the next one,
 * NULL behind the last. Return: its length. */
size_t whitelist_next_word(const char **list, const char **word);

#endif
