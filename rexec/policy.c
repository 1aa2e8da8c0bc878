/* SPDX-License-Identifier: Apache-2.0 */
/*
 * policy.c - how a name becomes a file that may be executed
 *
 * A bare name is looked up in ENVIRON_PATH. What was found is compared with the entries by place:
 * the real path of its directory and its own name, so that /bin/ls is /usr/bin/ls where /bin is a
 * link, and one applet of a multi-call binary is not another. What is executed is the file at that
 * place, by whatever way it was asked for. Outside test mode the way to it, the way that was asked
 * for, and the one that the entry names must be writable by root (or the server's own user) alone.
 *
 * The first entry that allows it counts. When none does the client is told of the constraint that
 * refused it last, so of a line that is for this client where there is one.
 */
#include "policy.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "environ.h"
#include "pin.h"
#include "session.h"
#include "trust.h"
#include "util.h"

/* ---- the file ---- */

static int parse_lines(struct policy *p, const char *file, const char *text, size_t size,
		       policy_tell *tell, void *arg)
{
	char err[LISTFILE_ERROR_MAX];
	int ret = listfile_parse_each(&p->list, file, text, size, tell, arg);

	p->entries = calloc(p->list.n + 1, sizeof(*p->entries));
	if (!p->entries)
		return -ENOMEM;
	for (size_t i = 0; i < p->list.n; i++) {
		int rc = whitelist_parse(&p->entries[p->n], p->list.entries[i], err);

		if (!rc) {
			p->n++;
			continue;
		}
		whitelist_free(&p->entries[p->n]);
		tell(arg, err);
		ret = rc;
	}
	return ret;
}

int policy_load(struct policy *p, const char *file, bool test_mode, policy_tell *tell, void *arg)
{
	_cleanup_free_ char *text = NULL;
	char err[LISTFILE_ERROR_MAX];
	size_t size = 0;
	int ret;

	*p = (struct policy){ .test_mode = test_mode };
	ret = listfile_load(file, LISTFILE_MODE_0400, &text, &size, err);
	if (ret == -ENOENT) {
		p->list.missing = true;
		p->allow_all = test_mode;
		return 0;
	}
	if (ret) {
		tell(arg, err);
		return ret;
	}
	ret = parse_lines(p, file, text, size, tell, arg);
	if (ret == -ENOMEM)
		tell(arg, "out of memory");
	return ret;
}

void policy_free(struct policy *p)
{
	for (size_t i = 0; i < p->n; i++)
		whitelist_free(&p->entries[i]);
	free(p->entries);
	listfile_free(&p->list);
	*p = (struct policy){ 0 };
}

/* ---- finding the file ---- */

static bool is_program(const char *path)
{
	struct stat st;

	return !stat(path, &st) && S_ISREG(st.st_mode) && st.st_mode & 0111;
}

/* @name in ENVIRON_PATH; false when there is no such program. */
static bool find_in_path(const char *name, char *path)
{
	char dirs[] = ENVIRON_PATH;
	char *rest = dirs, *dir;

	while ((dir = strsep(&rest, ":"))) {
		int n = snprintf(path, PATH_MAX, "%s/%s", dir, name);

		if (n > 0 && n < PATH_MAX && is_program(path))
			return true;
	}
	return false;
}

/* Where @path is: its directory without links, and its own name. */
static bool place(const char *path, char *out)
{
	const char *name = strrchr(path, '/') + 1;
	char dir[PATH_MAX], real[PATH_MAX];
	int n;

	snprintf(dir, sizeof(dir), "%.*s", (int)(name - path), path);
	if (!*name || !realpath(dir, real))
		return false;
	n = snprintf(out, PATH_MAX, "%s/%s", strcmp(real, "/") ? real : "", name);
	return n > 0 && n < PATH_MAX;
}

/* The path that @e names, in @path where it has to be looked for; NULL: there is none. */
static const char *path_of(const struct whitelist_entry *e, char *path)
{
	const char *program = e->at->path;

	if (*program == '/')
		return strlen(program) < PATH_MAX ? program : NULL;
	return find_in_path(program, path) ? path : NULL;
}

static bool names(const struct whitelist_entry *e, const char *where)
{
	char found[PATH_MAX], entry_place[PATH_MAX];
	const char *path = path_of(e, found);

	return path && place(path, entry_place) && !strcmp(entry_place, where);
}

static int locate(const char *program, char *path, char *reason)
{
	if (*program == '/') {
		if (snprintf(path, PATH_MAX, "%s", program) < PATH_MAX)
			return 0;
		snprintf(reason, POLICY_REASON_MAX, "the program's path is too long");
		return EXIT_REFUSED;
	}
	if (strchr(program, '/')) {
		snprintf(reason, POLICY_REASON_MAX,
			 "%.300s: a relative path; give an absolute path or a bare name", program);
		return EXIT_REFUSED;
	}
	if (*program && find_in_path(program, path))
		return 0;
	snprintf(reason, POLICY_REASON_MAX, "%.300s: not found in %s", program, ENVIRON_PATH);
	return EXIT_NOT_FOUND;
}

/* ---- what an entry says of a request ---- */

/* In the order in which they are asked; the later, the more of an entry holds. */
enum refusal { REFUSED_UNLISTED, REFUSED_CLIENT, REFUSED_ARGS, REFUSED_ENV, REFUSED_FILE, ALLOWED };

static const char *refused_variable(const struct whitelist_entry *e,
				    const struct policy_request *rq)
{
	for (size_t i = 0; i < rq->n_env; i++)
		if (rq->env[i].named && !whitelist_allows_variable(e, rq->env[i].assignment))
			return rq->env[i].assignment;
	return NULL;
}

static enum refusal ask(const struct whitelist_entry *e, const struct policy_request *rq)
{
	if (!idlist_has(&e->uids, rq->uid) || !idlist_has(&e->users, rq->user) ||
	    !idlist_has_member(&e->gids, rq->gid, rq->groups, rq->n_groups))
		return REFUSED_CLIENT;
	if (!whitelist_allows_args(e, rq->argv + 1, rq->argc - 1))
		return REFUSED_ARGS;
	return refused_variable(e, rq) ? REFUSED_ENV : ALLOWED;
}

static void explain(const struct policy *p, const char *path, const struct policy_request *rq,
		    enum refusal why, const struct whitelist_entry *e, char *reason)
{
	const char *variable;

	switch (why) {
	case REFUSED_UNLISTED:
		snprintf(reason, POLICY_REASON_MAX, "%.300s: %s", path,
			 p->list.missing ? "rexec_server has no whitelist and allows nothing"
					 : "not on rexec_server's whitelist");
		break;
	case REFUSED_CLIENT:
		snprintf(reason, POLICY_REASON_MAX,
			 "%.300s: the whitelist does not allow it for uid %u as uid %u", path,
			 rq->uid, rq->user);
		break;
	case REFUSED_ARGS:
		snprintf(reason, POLICY_REASON_MAX,
			 "%.300s: its arguments are not among those that the whitelist allows "
			 "(line %u)",
			 path, e->at->line);
		break;
	case REFUSED_ENV:
		variable = refused_variable(e, rq);
		snprintf(reason, POLICY_REASON_MAX,
			 "%.300s: the whitelist does not allow to pass it %.*s (line %u)", path,
			 (int)MIN(strcspn(variable, "="), 60), variable, e->at->line);
		break;
	case REFUSED_FILE:
		snprintf(reason, POLICY_REASON_MAX,
			 "%.300s: the file is not the one that the whitelist allows, by its "
			 "SHA-256 (line %u)",
			 path, e->at->line);
		break;
	case ALLOWED:
		break;
	}
}

/* ---- the decision ---- */

/* The first entry from @e on that allows the program at @where, but for the file itself, or NULL.
 * @why, @by: what refused it so far, and which entry did. */
static const struct whitelist_entry *next(const struct policy *p, const struct whitelist_entry *e,
					  const char *where, const struct policy_request *rq,
					  enum refusal *why, const struct whitelist_entry **by)
{
	for (; e < p->entries + p->n; e++) {
		enum refusal refusal = names(e, where) ? ask(e, rq) : REFUSED_UNLISTED;

		if (refusal == ALLOWED)
			return e;
		if (refusal > *why) {
			*why = refusal;
			*by = e;
		}
	}
	return NULL;
}

/* Is @path a file that can be started, and nobody else's? Then it is where it is. */
static int check_file(const struct policy *p, char *path, char *reason)
{
	char where[PATH_MAX];
	struct stat st;

	if (stat(path, &st)) {
		int err = errno;

		snprintf(reason, POLICY_REASON_MAX, "%.300s: %s", path, strerrordesc_np(err));
		return err == ENOENT || err == ENOTDIR ? EXIT_NOT_FOUND : EXIT_REFUSED;
	}
	if (!is_program(path)) {
		snprintf(reason, POLICY_REASON_MAX, "%.300s: not an executable file", path);
		return EXIT_REFUSED;
	}
	if (!p->test_mode && !trust_path(path, reason, POLICY_REASON_MAX))
		return EXIT_REFUSED;
	/* A link of /proc may lead elsewhere than its text says: what was compared is executed. */
	if (!place(path, where)) {
		snprintf(reason, POLICY_REASON_MAX, "%.300s: its directory cannot be found", path);
		return EXIT_REFUSED;
	}
	strcpy(path, where);
	if (!p->test_mode && !trust_path(path, reason, POLICY_REASON_MAX))
		return EXIT_REFUSED;
	if (is_program(path))
		return 0;
	snprintf(reason, POLICY_REASON_MAX, "%.300s: not an executable file", path);
	return EXIT_REFUSED;
}

/* The way that an entry names leads where it did when root wrote it. */
static bool entry_is_trusted(const struct policy *p, const struct whitelist_entry *e, char *reason)
{
	char found[PATH_MAX];
	const char *path = path_of(e, found);

	return p->test_mode || (path && trust_path(path, reason, POLICY_REASON_MAX));
}

/* Among the entries from @e on one that allows the file at @path, too. */
static int choose(const struct policy *p, const struct whitelist_entry *e, const char *path,
		  const struct policy_request *rq, int *program, char *reason)
{
	enum refusal why = REFUSED_UNLISTED;
	const struct whitelist_entry *by = NULL;
	unsigned char digest[WHITELIST_DIGEST_SIZE];
	_cleanup_close_ int pinned = -1;

	*reason = '\0';
	for (; e; e = next(p, e + 1, path, rq, &why, &by)) {
		if (!entry_is_trusted(p, e, reason))
			continue;
		if (!e->digests)
			return 0;
		if (pinned < 0)
			pinned = pin_open(path, p->test_mode, digest, reason, POLICY_REASON_MAX);
		if (pinned < 0)
			continue;
		if (whitelist_allows_digest(e, digest)) {
			*program = take_fd(&pinned);
			return 0;
		}
		explain(p, path, rq, REFUSED_FILE, e, reason);
	}
	return EXIT_REFUSED;
}

int policy_check(const struct policy *p, const struct policy_request *rq, char *path, int *program,
		 char *reason)
{
	enum refusal why = REFUSED_UNLISTED;
	const struct whitelist_entry *e = NULL, *by = NULL;
	char where[PATH_MAX];
	int ret = locate(rq->argv[0], path, reason);

	*program = -1;
	if (ret)
		return ret;
	if (!p->allow_all) {
		if (place(path, where))
			e = next(p, p->entries, where, rq, &why, &by);
		if (!e) {
			explain(p, path, rq, why, by, reason);
			return EXIT_REFUSED;
		}
	}
	ret = check_file(p, path, reason);
	if (ret || p->allow_all)
		return ret;
	/* The directory's links may have changed since: what counts is where the file is now. */
	e = next(p, p->entries, path, rq, &why, &by);
	if (!e) {
		explain(p, path, rq, why, by, reason);
		return EXIT_REFUSED;
	}
	return choose(p, e, path, rq, program, reason);
}

/* ---- the list as things are ---- */

static bool survey_program(const struct policy *p, const struct whitelist_entry *e, char *reason)
{
	char path[PATH_MAX], found[PATH_MAX];
	unsigned char digest[WHITELIST_DIGEST_SIZE];
	_cleanup_close_ int pinned = -1;
	const char *named = path_of(e, found);
	int err;

	if (!named) {
		snprintf(reason, POLICY_REASON_MAX,
			 "%.300s: not found in " ENVIRON_PATH ": install it, or remove the line",
			 e->at->path);
		return false;
	}
	strcpy(path, named);
	err = check_file(p, path, reason);
	if (err == EXIT_NOT_FOUND)
		snprintf(reason, POLICY_REASON_MAX,
			 "%.300s: there is no such file: install it, or remove the line", named);
	if (err)
		return false;
	if (!e->digests)
		return true;
	pinned = pin_open(path, p->test_mode, digest, reason, POLICY_REASON_MAX);
	if (pinned < 0)
		return false;
	if (whitelist_allows_digest(e, digest))
		return true;
	snprintf(reason, POLICY_REASON_MAX,
		 "%.300s: its SHA-256 is another than sha256= says: look why, and if that is right "
		 "write what sha256sum(1) says",
		 path);
	return false;
}

/* A variable that env= names, and that never goes along. */
static bool survey_env(const struct whitelist_entry *e, char *reason)
{
	const char *rest = e->env, *word;

	while (rest) {
		size_t len = whitelist_next_word(&rest, &word);
		char name[128];

		snprintf(name, sizeof(name), "%.*s", (int)MIN(len, sizeof(name) - 1), word);
		if (!environ_forbidden(name))
			continue;
		snprintf(reason, POLICY_REASON_MAX, "env=: %s is never passed on: remove it", name);
		return false;
	}
	return true;
}

static void tell_line(const struct whitelist_entry *e, const char *reason, policy_tell *tell,
		      void *arg)
{
	char sentence[POLICY_REASON_MAX + PATH_MAX];

	snprintf(sentence, sizeof(sentence), "%s:%u: %s", e->at->file, e->at->line, reason);
	tell(arg, sentence);
}

void policy_survey(const struct policy *p, policy_tell *tell, void *arg)
{
	char reason[POLICY_REASON_MAX];

	for (size_t i = 0; i < p->n; i++) {
		const struct whitelist_entry *e = &p->entries[i];

		if (!survey_program(p, e, reason))
			tell_line(e, reason, tell, arg);
		if (!survey_env(e, reason))
			tell_line(e, reason, tell, arg);
	}
}
