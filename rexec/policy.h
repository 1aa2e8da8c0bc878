/* SPDX-License-Identifier: Apache-2.0 */
/*
 * policy.h - which programs rexec_server starts, and for whom: the whitelist
 *
 * The file (listfile.h) must be owned by root, or by the server's own user, and of mode 0400. An
 * entry is an absolute path, or a bare name that is looked up in ENVIRON_PATH. Options:
 *
 *	uid=LIST	only clients with one of these uids (numbers or names, commas between)
 *	user=LIST	only to run as one of these users
 *
 * No file: nothing is allowed, and in test mode everything. An empty file allows nothing.
 */
#ifndef POLICY_H
#define POLICY_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "listfile.h"

#define POLICY_FILE SYSCONFDIR "/rexec/whitelist"
#define POLICY_ERROR_MAX LISTFILE_ERROR_MAX
#define POLICY_REASON_MAX 512

struct policy_ids {
	uid_t *ids;
	size_t n; /* 0: everybody */
};

struct policy_entry {
	const char *program; /* borrowed from the list */
	struct policy_ids clients, targets;
};

struct policy {
	bool test_mode; /* files need not be root's */
	bool allow_all;
	size_t n;
	struct policy_entry *entries;
	struct listfile list;
};

/** policy_load() - read and check the whitelist @file
 * @err	POLICY_ERROR_MAX bytes, a sentence on failure. Looks up users by name.
 * Return: 0, or a negative errno; then there is nothing to free. */
int policy_load(struct policy *p, const char *file, bool test_mode, char *err);
/** policy_free() - free what policy_load() made */
void policy_free(struct policy *p);

/**
 * policy_check() - may @client start @program as @target, and which file is it?
 * @path	PATH_MAX bytes: on success the absolute path to execute
 * @reason	POLICY_REASON_MAX bytes: on refusal a sentence for a person
 * Return: 0, or the exit status that says no: 126 refused or not executable, 127 not found.
 */
int policy_check(const struct policy *p, const char *program, uid_t client, uid_t target,
		 char *path, char *reason);

#endif
