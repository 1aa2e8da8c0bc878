/* SPDX-License-Identifier: Apache-2.0 */
/*
 * rules.h - which sockets may be reached: the lists udsconnect and udsaccept
 *
 * An entry of a list (listfile.h) is a rule. Its path is absolute, or @NAME for an abstract
 * name (unix(7)). It covers what it names and everything below, component by component:
 * /var/lib/libvirt covers /var/lib/libvirt/qemu/a.sock and never /var/lib/libvirt-evil; a
 * trailing slash changes nothing; / covers every path, and no abstract name. Options:
 *
 *	uid=LIST	only clients with one of these uids (numbers or names, commas between)
 *	gid=LIST	only clients with one of these gids, as their gid or among their groups
 *	creds=no	the server does not look at SCM_CREDENTIALS: bytes may be spliced
 *
 * Rules are tried in the order of the list, drop-ins last; the first that covers the name and
 * admits the client counts. Nothing is allowed that no rule allows.
 *
 * The serving side opens `root` once, following links, and what lies below it without any.
 */
#ifndef RULES_H
#define RULES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/un.h>

#include "idlist.h"
#include "listfile.h"

/* A socket's name and a terminator: what path_normalise() and rules_match() write. */
#define RULES_NAME_SIZE (sizeof(((struct sockaddr_un *)0)->sun_path) + 1)
#define RULES_ERROR_MAX (LISTFILE_ERROR_MAX)

struct rule {
	char root[RULES_NAME_SIZE]; /* normalised path, or the abstract name without its NUL or @ */
	size_t root_len; /* bytes of it that are compared: 0 covers everything of its kind */
	bool abstract;
	bool creds; /* messages carry the client's SCM_CREDENTIALS; false: creds=no */
	struct idlist uids;
	struct idlist gids;
};

struct rules {
	struct rule *rule;
	size_t n;
	bool allow_all; /* test mode, and there is no list */
};

/* Who asks. */
struct rules_client {
	uid_t uid;
	gid_t gid;
	const gid_t *groups; /* borrowed */
	size_t n_groups;
};

/**
 * rules_load() - read a list and its drop-ins
 * @file		must be writable by its owner only, root or us
 * @allow_all_when_missing  test mode: a @file that does not exist allows everything (drop-ins or
 *			not); otherwise it allows nothing beyond its drop-ins. An empty one
 *			allows nothing in either mode.
 * @err			RULES_ERROR_MAX bytes: on failure a sentence that names file, line, remedy
 *
 * Return: the rules (rules_free()), or NULL. Looks up users and groups by name.
 */
struct rules *rules_load(const char *file, bool allow_all_when_missing, char *err);

/** rules_parse() - the rules of a list that was read already; as rules_load() */
struct rules *rules_parse(const struct listfile *list, char *err);

/** rules_free() - NULL is fine */
void rules_free(struct rules *rules);

/**
 * rules_match() - the rule that lets @client reach a socket
 * @name, @len	as asked for: a path without terminator, or an abstract name, whose first byte is
 *		NUL; need not be normalised
 * @rest	RULES_NAME_SIZE bytes: what follows the rule's root, without a leading slash; ""
 *		when @name is the root itself, or abstract. May be NULL.
 *
 * Return: the rule (borrowed from @rules), or NULL: not allowed, or not a legal name.
 */
const struct rule *rules_match(const struct rules *rules, const char *name, size_t len,
			       const struct rules_client *client, char *rest);

/**
 * path_normalise() - an absolute path in the one form in which paths are compared
 *
 * Collapses // and /./, drops trailing slashes, and turns a leading /var/run into /run. No
 * link is followed, nothing is looked up.
 * @out, @size	where it goes, terminated
 * @path, @len	need not be terminated
 *
 * Return: its length; -EINVAL when @path is empty, relative, holds a NUL or a `..` component;
 * -ENAMETOOLONG when it does not fit.
 */
ssize_t path_normalise(char *out, size_t size, const char *path, size_t len);

#endif
