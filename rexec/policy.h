/* SPDX-License-Identifier: Apache-2.0 */
/*
 * policy.h - which programs rexec_server starts, and for whom: the whitelist
 *
 * The file (listfile.h, whitelist.h) must be owned by root, or by the server's own user, and of
 * mode 0400. No file: nothing is allowed, and in test mode everything. An empty file allows
 * nothing.
 */
#ifndef POLICY_H
#define POLICY_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "listfile.h"
#include "request.h"
#include "whitelist.h"

#define POLICY_FILE SYSCONFDIR "/rexec/whitelist"
#define POLICY_REASON_MAX 512

struct policy {
	bool test_mode; /* files need not be root's */
	bool allow_all;
	size_t n;
	struct whitelist_entry *entries;
	struct listfile list;
};

/* Takes a sentence about one thing that is wrong: FILE:LINE: what, and what to do. */
typedef void policy_tell(void *arg, const char *sentence);

/** policy_load() - read the whitelist @file
 * @tell	is told of each line that is malformed, or of why there are no lines
 * Return: 0, or a negative errno when it was told anything. policy_free() whatever comes back.
 * Looks up users and groups by name. */
int policy_load(struct policy *p, const char *file, bool test_mode, policy_tell *tell, void *arg);
/** policy_survey() - tell what cannot be started as things are: programs that are missing, that
 * others can change, or whose SHA-256 is another; requests for them will be refused */
void policy_survey(const struct policy *p, policy_tell *tell, void *arg);
/** policy_free() - free what policy_load() made */
void policy_free(struct policy *p);

/* Who asks for what. */
struct policy_request {
	uid_t uid;
	gid_t gid;
	const gid_t *groups;
	size_t n_groups;
	uid_t user;		 /* as whom it is to run */
	const char *const *argv; /* as the program will get them; the first is its name */
	size_t argc;		 /* at least 1 */
	const struct request_env *env;
	size_t n_env;
};

/**
 * policy_check() - may it be started, and which file is it?
 * @path	PATH_MAX bytes: on success the absolute path to execute
 * @program	on success -1, or a descriptor for the caller to close, which is to be executed
 *instead of the path (pin.h)
 * @reason	POLICY_REASON_MAX bytes: on refusal a sentence for a person, without any argument
 * Return: 0, or the exit status that says no: 126 refused or not executable, 127 not found.
 */
int policy_check(const struct policy *p, const struct policy_request *rq, char *path, int *program,
		 char *reason);

#endif
