/* SPDX-License-Identifier: Apache-2.0 */
#include "lists.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "notify.h"
#include "proxyreq.h"
#include "rules.h"
#include "util.h"
#include "whitelist.h"

#define REXEC_RUNTIME_DIR "/run/rexec"

static bool has_dot_dot(const char *path)
{
	for (;;) {
		size_t len = strcspn(path, "/");

		if (len == 2 && memcmp(path, "..", 2) == 0)
			return true;
		if (path[len] == '\0')
			return false;
		path += len + 1;
	}
}

static enum status normalise_path(const char *path, char *out, size_t size, char *err)
{
	if (*path != '/') {
		snprintf(err, LISTFILE_ERROR_MAX, "\"%s\" is not an absolute path: begin it with /",
			 path);
		return STATUS_BAD_PATH;
	}
	if (has_dot_dot(path)) {
		snprintf(err, LISTFILE_ERROR_MAX, "\"%s\" has a \"..\" in it: write where it leads",
			 path);
		return STATUS_DOT_DOT;
	}
	if (path_normalise(out, size, path, strlen(path)) < 0) {
		snprintf(err, LISTFILE_ERROR_MAX, "at most %zu bytes are possible, not so many: %s",
			 size - 1, path);
		return STATUS_BAD_PATH;
	}
	return STATUS_OK;
}

static enum status normalise_socket(const char *path, char *out, char *err)
{
	size_t len = strlen(path);

	if (*path != '@')
		return normalise_path(path, out, RULES_NAME_SIZE, err);
	if (len < 2 || len > RULES_NAME_SIZE - 1) {
		snprintf(err, LISTFILE_ERROR_MAX,
			 "an abstract name is @ and 1 to %zu bytes, not \"%s\"",
			 RULES_NAME_SIZE - 2, path);
		return STATUS_BAD_PATH;
	}
	memcpy(out, path, len + 1);
	return STATUS_OK;
}

/* A program is an absolute path, or a bare name that rexec_server looks for. */
static enum status normalise_program(const char *path, char *out, char *err)
{
	size_t len = strlen(path);

	if (len == 0 || len >= PATH_MAX || strchr(path, '/') || has_dot_dot(path))
		return normalise_path(path, out, PATH_MAX, err);
	memcpy(out, path, len + 1);
	return STATUS_OK;
}

static int check_sockets(const struct listfile *entries, char *err)
{
	struct rules *rules = rules_parse(entries, err);

	rules_free(rules);
	return rules ? 0 : -EINVAL;
}

static int check_programs(const struct listfile *entries, char *err)
{
	int rc = 0;

	for (size_t i = 0; i < entries->n && rc == 0; i++) {
		struct whitelist_entry entry;

		rc = whitelist_parse(&entry, entries->entries[i], err);
		whitelist_free(&entry);
	}
	return rc;
}

const struct list lists[] = {
	{ "udsconnect", "udsproxyd/udsconnect", 0644, LISTFILE_MODE_TRUSTED, PROXYREQ_RUNTIME_DIR,
	  false, listfile_read_all, normalise_socket, check_sockets, notify_udsproxyd },
	{ "udsaccept", "udsproxyd/udsaccept", 0644, LISTFILE_MODE_TRUSTED, PROXYREQ_RUNTIME_DIR,
	  false, listfile_read_all, normalise_socket, check_sockets, notify_udsproxyd },
	{ "rexec", "rexec/whitelist", 0400, LISTFILE_MODE_0400, REXEC_RUNTIME_DIR, true,
	  listfile_read, normalise_program, check_programs, notify_rexec_server },
};
const size_t n_lists = ARRAY_LEN(lists);

const struct list *list_find(const char *name)
{
	for (size_t i = 0; i < n_lists; i++)
		if (strcmp(lists[i].name, name) == 0)
			return &lists[i];
	return NULL;
}
