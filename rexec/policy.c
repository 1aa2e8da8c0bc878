/* SPDX-License-Identifier: Apache-2.0 */
/*
 * policy.c - how a name becomes a file that may be executed
 *
 * A bare name is looked up in ENVIRON_PATH. What was found is compared with the entries by place:
 * the real path of its directory and its own name, so that /bin/ls is /usr/bin/ls where /bin is a
 * link, and one applet of a multi-call binary is not another. Outside test mode the file, every
 * directory above it, and every link on the way to it must be writable by root (or the server's
 * own user) alone.
 */
#include "policy.h"

#include <errno.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "environ.h"
#include "session.h"
#include "util.h"

#define LINKS_MAX 40

/* ---- the file ---- */

static int parse_user(const char *word, uid_t *uid)
{
	char *end;
	unsigned long n = strtoul(word, &end, 10);
	const struct passwd *pw;

	if (*word >= '0' && *word <= '9' && !*end && n < (uid_t)-1) {
		*uid = (uid_t)n;
		return 0;
	}
	pw = *word ? getpwnam(word) : NULL;
	if (!pw)
		return -EINVAL;
	*uid = pw->pw_uid;
	return 0;
}

static int add_users(struct policy_ids *to, const struct listfile_entry *e, const char *value,
		     char *err)
{
	_cleanup_free_ char *copy = strdup(value);
	char *rest = copy, *word;

	while (copy && (word = strsep(&rest, ","))) {
		uid_t *ids = reallocarray(to->ids, to->n + 1, sizeof(*ids));

		if (!ids)
			return -ENOMEM;
		to->ids = ids;
		if (parse_user(word, &ids[to->n])) {
			snprintf(err, POLICY_ERROR_MAX, "%s:%u: there is no user '%s'", e->file,
				 e->line, word);
			return -EINVAL;
		}
		to->n++;
	}
	return copy ? 0 : -ENOMEM;
}

static int add_entry(struct policy *p, const struct listfile_entry *e, char *err)
{
	struct policy_entry *to = &p->entries[p->n++];
	int ret = 0;

	to->program = e->path;
	if (*e->path != '/' && strchr(e->path, '/')) {
		snprintf(err, POLICY_ERROR_MAX,
			 "%s:%u: '%s' is a relative path; write an absolute path or a bare name",
			 e->file, e->line, e->path);
		return -EINVAL;
	}
	for (size_t i = 0; !ret && i < e->n_options; i++) {
		const struct listfile_option *o = &e->options[i];

		if (!strcmp(o->key, "uid")) {
			ret = add_users(&to->clients, e, o->value, err);
		} else if (!strcmp(o->key, "user")) {
			ret = add_users(&to->targets, e, o->value, err);
		} else {
			snprintf(err, POLICY_ERROR_MAX,
				 "%s:%u: unknown option '%s'; uid= and user= are known", e->file,
				 e->line, o->key);
			ret = -EINVAL;
		}
	}
	return ret;
}

static int take_entries(struct policy *p, char *err)
{
	int ret = 0;

	p->entries = calloc(p->list.n + 1, sizeof(*p->entries));
	if (!p->entries)
		return -ENOMEM;
	for (size_t i = 0; !ret && i < p->list.n; i++)
		ret = add_entry(p, p->list.entries[i], err);
	return ret;
}

int policy_load(struct policy *p, const char *file, bool test_mode, char *err)
{
	int ret;

	*p = (struct policy){ .test_mode = test_mode };
	snprintf(err, POLICY_ERROR_MAX, "%s: out of memory", file);
	ret = listfile_read(&p->list, file, LISTFILE_MODE_0400, err);
	if (!ret)
		ret = take_entries(p, err);
	if (ret)
		policy_free(p);
	else
		p->allow_all = p->list.missing && test_mode;
	return ret;
}

void policy_free(struct policy *p)
{
	for (size_t i = 0; i < p->n; i++) {
		free(p->entries[i].clients.ids);
		free(p->entries[i].targets.ids);
	}
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

static bool has(const struct policy_ids *ids, uid_t uid)
{
	for (size_t i = 0; i < ids->n; i++)
		if (ids->ids[i] == uid)
			return true;
	return !ids->n;
}

static bool entry_names(const struct policy_entry *e, const char *where)
{
	char path[PATH_MAX], entry_place[PATH_MAX];

	if (*e->program != '/' && !find_in_path(e->program, path))
		return false;
	if (!place(*e->program == '/' ? e->program : path, entry_place))
		return false;
	return !strcmp(entry_place, where);
}

/* Whether an entry allows it; *@listed: one names the program at least. */
static bool listed_for(const struct policy *p, const char *path, uid_t client, uid_t target,
		       bool *listed)
{
	char where[PATH_MAX];

	*listed = false;
	if (!place(path, where))
		return false;
	for (size_t i = 0; i < p->n; i++) {
		if (!entry_names(&p->entries[i], where))
			continue;
		*listed = true;
		if (has(&p->entries[i].clients, client) && has(&p->entries[i].targets, target))
			return true;
	}
	return false;
}

/* ---- can nobody but root change it? ---- */

static bool safe(const char *path, char *reason)
{
	struct stat st;

	if (stat(path, &st)) {
		snprintf(reason, POLICY_REASON_MAX, "%s: %s", path, strerrordesc_np(errno));
		return false;
	}
	if ((st.st_uid && st.st_uid != geteuid()) || st.st_mode & 022) {
		snprintf(reason, POLICY_REASON_MAX,
			 "%s can be changed by others than root (owner %u, mode %04o)", path,
			 st.st_uid, st.st_mode & 07777);
		return false;
	}
	return true;
}

/* @path and each directory above it. */
static bool safe_from_root(const char *path, char *reason)
{
	char part[PATH_MAX];

	if (!safe("/", reason))
		return false;
	for (const char *at = path; at; at = strchr(at + 1, '/')) {
		snprintf(part, sizeof(part), "%.*s", (int)(at - path), path);
		if (*part && !safe(part, reason))
			return false;
	}
	return safe(path, reason);
}

/* The target of the link at @path, as an absolute path in @path; false when it is no link. */
static bool follow_link(char *path)
{
	char target[PATH_MAX], joined[2 * PATH_MAX];
	ssize_t n = readlink(path, target, sizeof(target) - 1);

	if (n <= 0)
		return false;
	target[n] = '\0';
	if (*target == '/')
		snprintf(joined, sizeof(joined), "%s", target);
	else
		snprintf(joined, sizeof(joined), "%.*s/%s", (int)(strrchr(path, '/') - path), path,
			 target);
	return snprintf(path, PATH_MAX, "%s", joined) < PATH_MAX;
}

static bool trusted(const char *path, char *reason)
{
	char at[PATH_MAX], real[PATH_MAX];
	int links = 0;

	snprintf(at, sizeof(at), "%s", path);
	do
		if (!safe_from_root(at, reason))
			return false;
	while (follow_link(at) && ++links < LINKS_MAX);
	return realpath(path, real) && safe_from_root(real, reason);
}

/* ---- the decision ---- */

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
			 "%s: a relative path; give an absolute path or a bare name", program);
		return EXIT_REFUSED;
	}
	if (*program && find_in_path(program, path))
		return 0;
	snprintf(reason, POLICY_REASON_MAX, "%s: not found in %s", program, ENVIRON_PATH);
	return EXIT_NOT_FOUND;
}

static int check_list(const struct policy *p, const char *path, uid_t client, uid_t target,
		      char *reason)
{
	bool listed;

	if (p->allow_all || listed_for(p, path, client, target, &listed))
		return 0;
	if (p->list.missing)
		snprintf(reason, POLICY_REASON_MAX,
			 "%s: rexec_server has no whitelist and allows nothing", path);
	else if (listed)
		snprintf(reason, POLICY_REASON_MAX,
			 "%s: the whitelist does not allow it for uid %u as uid %u", path, client,
			 target);
	else
		snprintf(reason, POLICY_REASON_MAX, "%s: not on rexec_server's whitelist", path);
	return EXIT_REFUSED;
}

int policy_check(const struct policy *p, const char *program, uid_t client, uid_t target,
		 char *path, char *reason)
{
	char where[PATH_MAX];
	struct stat st;
	int ret = locate(program, path, reason);

	if (!ret)
		ret = check_list(p, path, client, target, reason);
	if (ret)
		return ret;
	if (stat(path, &st)) {
		snprintf(reason, POLICY_REASON_MAX, "%s: %s", path, strerrordesc_np(errno));
		return errno == ENOENT || errno == ENOTDIR ? EXIT_NOT_FOUND : EXIT_REFUSED;
	}
	if (!is_program(path)) {
		snprintf(reason, POLICY_REASON_MAX, "%s: not an executable file", path);
		return EXIT_REFUSED;
	}
	if (p->test_mode)
		return 0;
	if (!trusted(path, reason))
		return EXIT_REFUSED;
	/* A link of /proc may lead elsewhere than its text says: what was compared is executed. */
	if (!place(path, where)) {
		snprintf(reason, POLICY_REASON_MAX, "%.300s: its directory cannot be found", path);
		return EXIT_REFUSED;
	}
	strcpy(path, where);
	return trusted(path, reason) ? 0 : EXIT_REFUSED;
}
