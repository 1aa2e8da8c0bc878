/* SPDX-License-Identifier: Apache-2.0 */
/*
 * qtcfg - show and edit the whitelists of udsproxyd and rexec_server; qtcfg(8)
 *
 * How an edit works: the request is checked by itself; the list's directory is locked; the
 * list is read; the new text is made of the old one by a line more or a line less, so that
 * comments, order and options stay; it is parsed as the daemon will parse it; it replaces the
 * file at once (edit.h); a running daemon is told (notify.h).
 */
#include <getopt.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "edit.h"
#include "listfile.h"
#include "lists.h"
#include "notify.h"
#include "status.h"
#include "util.h"

struct request {
	const struct list *list; /* NULL: all */
	const struct command *command;
	const char *argument;  /* -x's path or -y's index */
	char normal[PATH_MAX]; /* -x's path in the form in which paths are compared */
	const char **options;  /* -o's, in order */
	size_t n_options;
	bool force;
	const char *config_dir;
	const char *runtime_dir; /* NULL: the list's own */
};

struct command {
	int letter;
	bool one_list; /* needs -w */
	enum status (*run)(struct request *rq);
};

/* A list while it is edited. */
struct work {
	struct edit edit;
	char *file;
	char *text;
	struct listfile entries; /* the file's own first, then its drop-ins' */
	size_t n_own;
};

/* ---- reading ---------------------------------------------------------------------------- */

static char *list_file(const struct request *rq, const struct list *list)
{
	char *file;

	return asprintf(&file, "%s/%s", rq->config_dir, list->file) < 0 ? NULL : file;
}

static size_t count_own(const struct listfile *entries, const char *file)
{
	size_t n = 0;

	while (n < entries->n && strcmp(entries->entries[n]->file, file) == 0)
		n++;
	return n;
}

static enum status show_entry(const struct listfile_entry *entry)
{
	_cleanup_free_ char *path = listfile_escape(entry->path);

	if (!path)
		return fail(STATUS_FILE, "no memory");
	fputs(path, stdout);
	for (size_t i = 0; i < entry->n_options; i++) {
		_cleanup_free_ char *value = listfile_escape(entry->options[i].value);

		if (!value)
			return fail(STATUS_FILE, "no memory");
		printf(" %s=%s", entry->options[i].key, value);
	}
	return STATUS_OK;
}

static enum status show_entries(const struct listfile *entries, const char *file)
{
	size_t n_own = count_own(entries, file);
	enum status status = STATUS_OK;

	if (entries->missing)
		printf("  (no such file: in test mode everything is allowed, else nothing%s)\n",
		       entries->n ? " but this" : "");
	else if (entries->n == 0)
		puts("  (empty: nothing is allowed)");
	for (size_t i = 0; i < entries->n && status == STATUS_OK; i++) {
		bool own = i < n_own;

		if (own)
			printf("%3zu  ", i);
		else
			printf("  -  ");
		status = show_entry(entries->entries[i]);
		if (own)
			putchar('\n');
		else
			printf("  # %s\n", entries->entries[i]->file);
	}
	return status;
}

static enum status show_list(const struct request *rq, const struct list *list)
{
	_cleanup_free_ char *file = list_file(rq, list);
	struct listfile entries = { 0 };
	char err[LISTFILE_ERROR_MAX];
	enum status status;

	if (!file)
		return fail(STATUS_FILE, "no memory");
	if (list->read(&entries, file, list->forbidden, err) < 0) {
		status = fail(STATUS_FILE, "%s", err);
	} else {
		printf("%s: %s\n", list->name, file);
		status = show_entries(&entries, file);
	}
	listfile_free(&entries);
	return status;
}

/* -z: what can be shown is shown, whatever is wrong with other lists. */
static enum status run_show(struct request *rq)
{
	enum status status = STATUS_OK;

	for (size_t i = 0; i < n_lists; i++) {
		enum status this;

		if (rq->list && rq->list != &lists[i])
			continue;
		this = show_list(rq, &lists[i]);
		if (this != STATUS_OK)
			status = this;
	}
	if (fflush(stdout) != 0)
		return fail(STATUS_FILE, "cannot write to stdout: %s", strerror(errno));
	return status;
}

/* ---- editing ---------------------------------------------------------------------------- */

/* The line after the @n-th one of @text, or its end. */
static const char *skip_lines(const char *text, unsigned n)
{
	for (; n > 0; n--) {
		const char *newline = strchr(text, '\n');

		if (!newline)
			return text + strlen(text);
		text = newline + 1;
	}
	return text;
}

static enum status work_open(struct work *work, const struct request *rq)
{
	const struct list *list = rq->list;
	char err[LISTFILE_ERROR_MAX];
	size_t size;
	int rc;

	work->file = list_file(rq, list);
	if (!work->file)
		return fail(STATUS_FILE, "no memory");
	rc = edit_begin(&work->edit, work->file, err);
	if (rc == 0)
		rc = list->read(&work->entries, work->file, list->forbidden, err);
	if (rc == 0 && work->entries.missing)
		work->text = strdup("");
	else if (rc == 0)
		rc = listfile_load(work->file, list->forbidden, &work->text, &size, err);
	if (rc < 0)
		return fail(STATUS_FILE, "%s", err);
	if (!work->text)
		return fail(STATUS_FILE, "no memory");
	work->n_own = count_own(&work->entries, work->file);
	return STATUS_OK;
}

static void work_close(struct work *work)
{
	listfile_free(&work->entries);
	free(work->text);
	free(work->file);
	edit_end(&work->edit);
}

/* Would the daemon take @text in the place of the list? */
static enum status check_text(const struct work *work, const struct list *list, const char *text)
{
	struct listfile entries = { 0 };
	char err[LISTFILE_ERROR_MAX];
	int rc;

	if (strlen(text) > LISTFILE_SIZE_MAX)
		return fail(STATUS_FILE, "%s would be larger than 1 MiB", work->file);
	rc = listfile_parse(&entries, work->file, text, strlen(text), err);
	if (rc == 0)
		rc = list->check(&entries, err);
	listfile_free(&entries);
	return rc < 0 ? fail(STATUS_FILE, "%s: nothing was changed", err) : STATUS_OK;
}

/* What a change means that one might not expect. */
static void note_consequence(const struct work *work, const struct request *rq)
{
	if (work->entries.missing)
		note("there was no %s, which in test mode allows everything: from now on only "
		     "what is listed is allowed",
		     work->file);
	else if (rq->command->letter == 'y' && work->entries.n == 1)
		note("%s is empty now: nothing is allowed", work->file);
}

static enum status work_save(const struct work *work, const struct request *rq, const char *text)
{
	const struct list *list = rq->list;
	char err[MAX(LISTFILE_ERROR_MAX, NOTIFY_REASON_MAX)];
	enum status status = check_text(work, list, text);

	if (status != STATUS_OK)
		return status;
	if (edit_save(&work->edit, text, strlen(text), list->mode, err) < 0)
		return fail(STATUS_FILE, "%s", err);
	note_consequence(work, rq);
	if (list->notify(rq->runtime_dir ? rq->runtime_dir : list->runtime_dir, err) < 0)
		return fail(STATUS_REFUSED, "the list is saved, but the old one is in force: %s",
			    err);
	return STATUS_OK;
}

/* Change a list: @change makes its new text, for this function to free. */
static enum status change_list(const struct request *rq,
			       enum status (*change)(const struct work *work,
						     const struct request *rq, char **text))
{
	struct work work = { .edit = EDIT_NULL };
	char *text = NULL;
	enum status status = work_open(&work, rq);

	if (status == STATUS_OK)
		status = change(&work, rq, &text);
	if (status == STATUS_OK)
		status = work_save(&work, rq, text);
	free(text);
	work_close(&work);
	return status;
}

/* -x's line, as it will stand in the file. NULL: no memory. */
static char *new_line(const struct request *rq)
{
	char *line = listfile_escape(rq->argument);

	for (size_t i = 0; line && i < rq->n_options; i++) {
		_cleanup_free_ char *option = listfile_escape(rq->options[i]);
		char *longer;

		if (!option || asprintf(&longer, "%s %s", line, option) < 0)
			longer = NULL;
		free(line);
		line = longer;
	}
	return line;
}

/* Is @entry's path the one whose normal form is @wanted? */
static bool is_same(const struct list *list, const struct listfile_entry *entry, const char *wanted)
{
	char normal[PATH_MAX];
	char err[LISTFILE_ERROR_MAX];

	return list->normalise(entry->path, normal, err) == STATUS_OK &&
	       strcmp(normal, wanted) == 0;
}

/* Are the options of @entry those of -o? */
static bool has_options(const struct listfile_entry *entry, const struct request *rq)
{
	if (entry->n_options != rq->n_options)
		return false;
	for (size_t i = 0; i < entry->n_options; i++) {
		const struct listfile_option *o = &entry->options[i];
		size_t len = strlen(o->key);

		if (strncmp(rq->options[i], o->key, len) != 0 || rq->options[i][len] != '=' ||
		    strcmp(rq->options[i] + len + 1, o->value) != 0)
			return false;
	}
	return true;
}

static enum status refuse_duplicate(const struct work *work, const struct request *rq)
{
	for (size_t i = 0; i < work->entries.n; i++) {
		const struct listfile_entry *entry = work->entries.entries[i];

		if (!is_same(rq->list, entry, rq->normal))
			continue;
		if (rq->list->several && !has_options(entry, rq)) {
			note("%s is on the list already, with other options: entry %zu; what "
			     "either allows is allowed",
			     rq->argument, i);
			continue;
		}
		if (i < work->n_own)
			return fail(STATUS_DUPLICATE,
				    "%s is on the list already: entry %zu (to change its options, "
				    "delete it first: qtcfg -w %s -y %zu)",
				    rq->argument, i, rq->list->name, i);
		return fail(STATUS_DUPLICATE, "%s is on the list already: %s, line %u",
			    rq->argument, entry->file, entry->line);
	}
	return STATUS_OK;
}

static enum status add_entry(const struct work *work, const struct request *rq, char **text)
{
	_cleanup_free_ char *line = new_line(rq);
	size_t len = strlen(work->text);
	bool open_end = len > 0 && work->text[len - 1] != '\n';
	enum status status = refuse_duplicate(work, rq);

	if (status != STATUS_OK)
		return status;
	if (!line || asprintf(text, "%s%s%s\n", work->text, open_end ? "\n" : "", line) < 0) {
		*text = NULL;
		return fail(STATUS_FILE, "no memory");
	}
	return STATUS_OK;
}

static enum status delete_entry(const struct work *work, const struct request *rq, char **text)
{
	unsigned long index = strtoul(rq->argument, NULL, 10);
	const char *line, *next;

	if (index >= work->n_own && work->n_own < work->entries.n)
		return fail(STATUS_BAD_INDEX,
			    "there is no entry %s: %s has %zu; those without an index are deleted "
			    "in their own file (%s)",
			    rq->argument, work->file, work->n_own,
			    work->entries.entries[work->n_own]->file);
	if (index >= work->n_own)
		return fail(STATUS_BAD_INDEX, "there is no entry %s: %s has %zu (qtcfg -w %s -z)",
			    rq->argument, work->file, work->n_own, rq->list->name);
	line = skip_lines(work->text, work->entries.entries[index]->line - 1);
	next = skip_lines(line, 1);
	if (asprintf(text, "%.*s%s", (int)(line - work->text), work->text, next) < 0) {
		*text = NULL;
		return fail(STATUS_FILE, "no memory");
	}
	return STATUS_OK;
}

/* -o's by themselves, so that what is wrong with them is told as bad usage. */
static enum status check_options(const struct request *rq)
{
	_cleanup_free_ char *line = new_line(rq);
	struct listfile entries = { 0 };
	char err[LISTFILE_ERROR_MAX];
	int rc;

	if (!line)
		return fail(STATUS_FILE, "no memory");
	rc = listfile_parse(&entries, "-o", line, strlen(line), err);
	if (rc == 0 && rq->list->check)
		rc = rq->list->check(&entries, err);
	listfile_free(&entries);
	return rc < 0 ? fail(STATUS_USAGE, "%s", err) : STATUS_OK;
}

static enum status run_add(struct request *rq)
{
	char err[LISTFILE_ERROR_MAX];
	enum status status = rq->list->normalise(rq->argument, rq->normal, err);

	if (status != STATUS_OK)
		return fail(status, "%s", err);
	if (strcmp(rq->normal, "/") == 0 && !rq->force)
		return fail(STATUS_ROOT, "/ would allow every path: if that is meant, add --force");
	status = check_options(rq);
	return status == STATUS_OK ? change_list(rq, add_entry) : status;
}

static enum status run_delete(struct request *rq)
{
	if (!*rq->argument || rq->argument[strspn(rq->argument, "0123456789")])
		return fail(STATUS_BAD_INDEX,
			    "\"%s\" is not an index: it is the number that "
			    "qtcfg -w %s -z shows before the path",
			    rq->argument, rq->list->name);
	return change_list(rq, delete_entry);
}

/* ---- arguments -------------------------------------------------------------------------- */

static const struct command commands[] = {
	{ 'x', true, run_add },
	{ 'y', true, run_delete },
	{ 'z', false, run_show },
};

static const struct command *find_command(int letter)
{
	for (size_t i = 0; i < ARRAY_LEN(commands); i++)
		if (commands[i].letter == letter)
			return &commands[i];
	return NULL;
}

static const char usage[] =
	"usage: qtcfg -w LIST -x PATH [-o KEY=VALUE]... [--force]   add an entry\n"
	"       qtcfg -w LIST -y INDEX                              delete an entry\n"
	"       qtcfg [-w LIST] -z                                  show a list, or all\n"
	"\n"
	"LIST is one of\n"
	"  udsconnect  sockets that programs here may reach on the peer\n"
	"  udsaccept   sockets here that the peer's programs may reach\n"
	"  rexec       programs that rexec_server may run\n"
	"A running daemon follows at once.\n"
	"\n"
	"  -w, --list LIST           the list\n"
	"  -x, --add PATH            PATH and all below it; @NAME is an abstract socket;\n"
	"                            a program for rexec\n"
	"  -y, --delete INDEX        the number that -z shows\n"
	"  -z, --show\n"
	"  -o, --option KEY=VALUE    with -x: uid=LIST, gid=LIST, creds=no; for rexec uid=LIST,\n"
	"                            gid=LIST, user=LIST, arg=PATTERN, args=none, env=LIST,\n"
	"                            sha256=HEX (rexec_server(8))\n"
	"  -f, --force               with -x: allow / as PATH\n"
	"      --config-dir DIR      instead of " SYSCONFDIR "\n"
	"      --runtime-dir DIR     the daemon's, instead of /run/udsproxyd or /run/rexec\n"
	"  -h, --help\n"
	"  -V, --version\n"
	"\n"
	"Exit status: 0 done, 2 wrong usage, 3 PATH not absolute or too long, 4 listed already,\n"
	"5 wrong INDEX, 6 the list cannot be read or written, 7 saved but the daemon does not\n"
	"follow, 8 PATH with \"..\", 9 / without --force.\n";

enum { OPT_CONFIG_DIR = 256, OPT_RUNTIME_DIR };

static const struct option long_options[] = {
	{ "list", required_argument, NULL, 'w' },
	{ "add", required_argument, NULL, 'x' },
	{ "delete", required_argument, NULL, 'y' },
	{ "show", no_argument, NULL, 'z' },
	{ "option", required_argument, NULL, 'o' },
	{ "force", no_argument, NULL, 'f' },
	{ "config-dir", required_argument, NULL, OPT_CONFIG_DIR },
	{ "runtime-dir", required_argument, NULL, OPT_RUNTIME_DIR },
	{ "help", no_argument, NULL, 'h' },
	{ "version", no_argument, NULL, 'V' },
	{ NULL, 0, NULL, 0 },
};

static enum status set_list(struct request *rq, const char *name)
{
	rq->list = list_find(name);
	if (!rq->list)
		return fail(STATUS_USAGE,
			    "\"%s\" is no list: udsconnect, udsaccept and rexec are known", name);
	return STATUS_OK;
}

static enum status set_command(struct request *rq, const struct command *command,
			       const char *argument)
{
	if (rq->command)
		return fail(STATUS_USAGE, "only one of -x, -y and -z is possible");
	rq->command = command;
	rq->argument = argument;
	return STATUS_OK;
}

static void print_and_exit(const char *text)
{
	fputs(text, stdout);
	exit(fflush(stdout) == 0 ? STATUS_OK : STATUS_FILE);
}

static enum status take_option(struct request *rq, int letter, const char *value)
{
	const struct command *command = find_command(letter);

	if (command)
		return set_command(rq, command, value);
	switch (letter) {
	case 'w':
		return set_list(rq, value);
	case 'o':
		rq->options[rq->n_options++] = value;
		return STATUS_OK;
	case 'f':
		rq->force = true;
		return STATUS_OK;
	case OPT_CONFIG_DIR:
		rq->config_dir = value;
		return STATUS_OK;
	case OPT_RUNTIME_DIR:
		rq->runtime_dir = value;
		return STATUS_OK;
	case 'h':
		print_and_exit(usage);
		return STATUS_OK;
	case 'V':
		print_and_exit("qtcfg " VERSION "\n");
		return STATUS_OK;
	}
	return STATUS_USAGE; /* getopt has said why */
}

static enum status check_request(const struct request *rq, const char *surplus)
{
	if (surplus)
		return fail(STATUS_USAGE, "\"%s\" is one argument too many", surplus);
	if (!rq->command)
		return fail(STATUS_USAGE, "one of -x PATH, -y INDEX and -z is needed");
	if (rq->command->one_list && !rq->list)
		return fail(STATUS_USAGE, "-%c needs -w LIST", rq->command->letter);
	if ((rq->n_options > 0 || rq->force) && rq->command->letter != 'x')
		return fail(STATUS_USAGE, "-o and --force go with -x only");
	return STATUS_OK;
}

static enum status parse_arguments(struct request *rq, int argc, char **argv)
{
	enum status status = STATUS_OK;
	int letter;

	while (status == STATUS_OK &&
	       (letter = getopt_long(argc, argv, "w:x:y:zo:fhV", long_options, NULL)) != -1)
		status = take_option(rq, letter, optarg);
	if (status == STATUS_OK)
		status = check_request(rq, argv[optind]);
	if (status != STATUS_OK)
		fputs("Try: qtcfg --help\n", stderr);
	return status;
}

int main(int argc, char **argv)
{
	struct request rq = { .config_dir = SYSCONFDIR };
	enum status status;

	rq.options = calloc((size_t)argc, sizeof(*rq.options));
	if (!rq.options)
		return fail(STATUS_FILE, "no memory");
	status = parse_arguments(&rq, argc, argv);
	if (status == STATUS_OK)
		status = rq.command->run(&rq);
	free(rq.options);
	return status;
}
