/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How it works: the options that matter are found by name in a table, each with the
 * function that looks at its value. A value is a list of KEY=VALUE between commas (a comma
 * within a value is doubled), or JSON for -object. Which character devices are QMP monitors
 * is known from -mon, which may stand before or after -chardev: so that is read first.
 */
#include "argv.h"

#include <errno.h>
#include <json-c/json.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "text.h"
#include "util.h"

struct work {
	struct argv_plan *plan;
	bool (*have)(const char *path);
	char **monitor_ids; /* character devices that -mon reads QMP from */
	size_t n_monitor_ids;
};

/* @array of @n members grown by one, which is zero; NULL without memory, and @array is as it was.
 */
static void *append(void *array, size_t n, size_t size)
{
	char *grown = realloc(array, (n + 1) * size);

	if (grown)
		memset(grown + n * size, 0, size);
	return grown;
}

/* ---- lists of KEY=VALUE ---- */

/* The end of the item at @p: a comma that is not doubled, or the end. */
static const char *item_end(const char *p)
{
	for (; *p; p++) {
		if (*p != ',')
			continue;
		if (p[1] != ',')
			break;
		p++;
	}
	return p;
}

static const char *item_next(const char *end)
{
	return *end ? end + 1 : NULL;
}

/* The value of the item at @p when its key is @key, else NULL. "key" alone means "key=on". */
static const char *item_value(const char *p, const char *key)
{
	size_t n = strlen(key);

	if (strncmp(p, key, n) != 0)
		return NULL;
	if (p[n] == '=')
		return p + n + 1;
	return !p[n] || p[n] == ',' ? "on" : NULL;
}

/* Where the value of @key stands in @opts (the last one counts), NULL when nowhere. */
static const char *opts_find(const char *opts, const char *key)
{
	const char *found = NULL, *value;

	for (const char *p = opts; p; p = item_next(item_end(p))) {
		value = item_value(p, key);
		if (value)
			found = value;
	}
	return found;
}

/* A copy of the value at @p without doubled commas. */
static char *value_dup(const char *p)
{
	const char *end = item_end(p);
	char *copy = malloc((size_t)(end - p) + 1), *to = copy;

	for (; copy && p < end; p++) {
		*to++ = *p;
		if (*p == ',')
			p++;
	}
	if (copy)
		*to = '\0';
	return copy;
}

static bool opts_on(const char *opts, const char *key)
{
	const char *value = opts_find(opts, key);

	return value && (!strncmp(value, "on", 2) || !strncmp(value, "yes", 3) ||
			 !strncmp(value, "true", 4));
}

/* @opts with "@DIR@/@name" in the place of the value at @value. */
static char *opts_replace(const char *opts, const char *value, const char *name)
{
	struct text t = { 0 };

	text_add(&t, opts, (size_t)(value - opts));
	text_puts(&t, "@DIR@/");
	text_puts(&t, name);
	text_puts(&t, item_end(value));
	return text_take(&t);
}

static int set_arg(char **arg, char *value)
{
	if (!value)
		return -ENOMEM;
	free(*arg);
	*arg = value;
	return 0;
}

/* ---- sockets ---- */

/* QEMU listens at the path at @value in @*arg: let it do so in its private directory. */
static int plan_socket(struct work *w, char **arg, const char *value, enum argv_channel channel)
{
	struct argv_plan *plan = w->plan;
	struct argv_socket *s = append(plan->sockets, plan->n_sockets, sizeof(*s));

	if (!s)
		return -ENOMEM;
	plan->sockets = s;
	s += plan->n_sockets++;
	s->channel = channel;
	s->path = value_dup(value);
	if (!s->path || asprintf(&s->name, "socket%zu", plan->n_sockets) < 0) {
		s->name = NULL;
		return -ENOMEM;
	}
	return set_arg(arg, opts_replace(*arg, value, s->name));
}

static bool listens(const char *opts)
{
	return opts_on(opts, "server") && !opts_on(opts, "abstract");
}

/* -qmp, -monitor, -serial: unix:PATH,server=on,... */
static int plan_unix(struct work *w, char **arg, enum argv_channel channel)
{
	if (strncmp(*arg, "unix:", 5) != 0 || !listens(*arg))
		return 0;
	return plan_socket(w, arg, *arg + 5, channel);
}

static int on_qmp(struct work *w, char **arg)
{
	return plan_unix(w, arg, ARGV_MONITOR);
}

static int on_serial(struct work *w, char **arg)
{
	return plan_unix(w, arg, ARGV_DEVICE);
}

/* unix:PATH, or vnc=unix:PATH: always a server */
static int on_vnc(struct work *w, char **arg)
{
	const char *value = opts_find(*arg, "vnc");

	if (!value)
		value = *arg;
	return strncmp(value, "unix:", 5) ? 0 : plan_socket(w, arg, value + 5, ARGV_DISPLAY);
}

static int on_spice(struct work *w, char **arg)
{
	const char *path = opts_find(*arg, "addr");

	return path && opts_on(*arg, "unix") ? plan_socket(w, arg, path, ARGV_DISPLAY) : 0;
}

static bool is_monitor_id(const struct work *w, const char *id)
{
	for (size_t i = 0; i < w->n_monitor_ids; i++)
		if (!strcmp(w->monitor_ids[i], id))
			return true;
	return false;
}

static int plan_monitor(struct work *w, const char *fd)
{
	struct argv_plan *plan = w->plan;
	int *monitors = append(plan->monitors, plan->n_monitors, sizeof(*monitors));

	if (!monitors)
		return -ENOMEM;
	plan->monitors = monitors;
	monitors[plan->n_monitors++] = (int)strtol(fd, NULL, 10);
	return 0;
}

static int on_chardev(struct work *w, char **arg)
{
	const char *id_value = opts_find(*arg, "id"), *fd = opts_find(*arg, "fd");
	const char *path = opts_find(*arg, "path");
	_cleanup_free_ char *id = NULL;
	bool qmp;

	if (strncmp(*arg, "socket,", 7) != 0 || !id_value)
		return 0;
	id = value_dup(id_value);
	if (!id)
		return -ENOMEM;
	qmp = is_monitor_id(w, id);
	if (fd)
		return qmp ? plan_monitor(w, fd) : 0;
	if (!path || !listens(*arg))
		return 0;
	return plan_socket(w, arg, path, qmp ? ARGV_MONITOR : ARGV_DEVICE);
}

/* ---- files ---- */

static int plan_file(struct work *w, const char *path, char **name)
{
	struct argv_plan *plan = w->plan;
	struct argv_file *f = append(plan->files, plan->n_files, sizeof(*f));

	if (!f)
		return -ENOMEM;
	plan->files = f;
	f += plan->n_files++;
	f->path = strdup(path);
	if (!f->path || asprintf(&f->name, "file%zu", plan->n_files) < 0) {
		f->name = NULL;
		return -ENOMEM;
	}
	*name = f->name;
	return 0;
}

static int plan_object_json(struct work *w, char **arg)
{
	struct json_object *root = json_tokener_parse(*arg), *type, *file;
	_cleanup_free_ char *path = NULL;
	const char *word;
	char *name;
	int ret = 0;

	if (json_object_object_get_ex(root, "qom-type", &type) &&
	    json_object_object_get_ex(root, "file", &file)) {
		word = json_object_get_string(type);
		if (word && !strcmp(word, "secret") && w->have(json_object_get_string(file))) {
			ret = plan_file(w, json_object_get_string(file), &name);
			if (!ret && asprintf(&path, "@DIR@/%s", name) < 0) {
				path = NULL;
				ret = -ENOMEM;
			}
		}
	}
	if (path) {
		json_object_object_add(root, "file", json_object_new_string(path));
		ret = set_arg(arg, strdup(json_object_to_json_string_ext(
					   root, JSON_C_TO_STRING_PLAIN |
							 JSON_C_TO_STRING_NOSLASHESCAPE)));
	}
	json_object_put(root);
	return ret;
}

static int on_object(struct work *w, char **arg)
{
	const char *value = opts_find(*arg, "file");
	_cleanup_free_ char *path = NULL;
	char *name;
	int ret;

	if (**arg == '{')
		return plan_object_json(w, arg);
	if (strncmp(*arg, "secret,", 7) != 0 || !value)
		return 0;
	path = value_dup(value);
	if (!path)
		return -ENOMEM;
	if (!w->have(path))
		return 0;
	ret = plan_file(w, path, &name);
	return ret ? ret : set_arg(arg, opts_replace(*arg, value, name));
}

/* ---- the rest ---- */

static int on_pidfile(struct work *w, char **arg)
{
	free(w->plan->pidfile);
	w->plan->pidfile = strdup(*arg);
	return w->plan->pidfile ? set_arg(arg, strdup("@DIR@/pid")) : -ENOMEM;
}

static int on_mon(struct work *w, char **arg)
{
	const char *mode = opts_find(*arg, "mode"), *id = opts_find(*arg, "chardev");
	char **ids;

	if (!mode || strncmp(mode, "control", 7) != 0)
		return 0;
	ids = append(w->monitor_ids, w->n_monitor_ids, sizeof(*ids));
	if (!ids)
		return -ENOMEM;
	w->monitor_ids = ids;
	ids += w->n_monitor_ids++;
	*ids = value_dup(id ? id : *arg); /* without a key the first item is the chardev */
	return *ids ? 0 : -ENOMEM;
}

struct option {
	const char *name;
	int (*look)(struct work *w, char **arg);
};

static const struct option first_pass[] = { { "mon", on_mon }, { NULL, NULL } };
static const struct option second_pass[] = {
	{ "qmp", on_qmp },	   { "qmp-pretty", on_qmp },
	{ "monitor", on_serial },  { "serial", on_serial },
	{ "chardev", on_chardev }, { "object", on_object },
	{ "pidfile", on_pidfile }, { "vnc", on_vnc },
	{ "spice", on_spice },	   { NULL, NULL },
};

/* The option's name: QEMU takes one dash or two. NULL: it is no option. */
static const char *option_name(const char *arg)
{
	if (arg[0] != '-')
		return NULL;
	return arg[1] == '-' ? arg + 2 : arg + 1;
}

static int look_all(struct work *w, const struct option *options)
{
	char **argv = w->plan->argv;
	const char *name;
	int ret;

	for (size_t i = 1; i + 1 < w->plan->argc; i++) {
		name = option_name(argv[i]);
		for (const struct option *o = options; name && o->name; o++) {
			if (strcmp(name, o->name) != 0)
				continue;
			ret = o->look(w, &argv[++i]);
			if (ret)
				return ret;
			break;
		}
	}
	return 0;
}

static int copy_argv(struct argv_plan *plan, int argc, char *const *argv)
{
	const char *name;

	plan->argv = calloc((size_t)argc + 1, sizeof(*plan->argv));
	if (!plan->argv)
		return -ENOMEM;
	for (int i = 0; i < argc; i++) {
		plan->argv[plan->argc] = strdup(argv[i]);
		if (!plan->argv[plan->argc++])
			return -ENOMEM;
		name = option_name(argv[i]);
		if (i && name && !strcmp(name, "daemonize"))
			plan->daemonize = true;
	}
	return 0;
}

int argv_plan(struct argv_plan *plan, int argc, char *const *argv, bool (*have)(const char *path))
{
	struct work w = { .plan = plan, .have = have };
	int ret;

	*plan = (struct argv_plan){ 0 };
	ret = copy_argv(plan, argc, argv);
	if (!ret)
		ret = look_all(&w, first_pass);
	if (!ret)
		ret = look_all(&w, second_pass);
	for (size_t i = 0; i < w.n_monitor_ids; i++)
		free(w.monitor_ids[i]);
	free(w.monitor_ids);
	return ret;
}

void argv_plan_free(struct argv_plan *plan)
{
	for (size_t i = 0; i < plan->argc; i++)
		free(plan->argv[i]);
	for (size_t i = 0; i < plan->n_sockets; i++) {
		free(plan->sockets[i].name);
		free(plan->sockets[i].path);
	}
	for (size_t i = 0; i < plan->n_files; i++) {
		free(plan->files[i].name);
		free(plan->files[i].path);
	}
	free(plan->argv);
	free(plan->sockets);
	free(plan->files);
	free(plan->monitors);
	free(plan->pidfile);
	*plan = (struct argv_plan){ 0 };
}

bool argv_is_monitor(const struct argv_plan *plan, int fd)
{
	for (size_t i = 0; i < plan->n_monitors; i++)
		if (plan->monitors[i] == fd)
			return true;
	return false;
}
