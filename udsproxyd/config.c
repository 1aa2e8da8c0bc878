/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include <errno.h>
#include <getopt.h>
#include <grp.h>
#include <ini.h>
#include <pwd.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "proxyreq.h"
#include "util.h"

#ifndef TEST_MODE_DEFAULT
#define TEST_MODE_DEFAULT false
#endif

#define ERROR_MAX 256

static const char usage_text[] =
	"usage: udsproxyd [OPTION...] THREADS ADDR PORT PEER-ADDR PEER-PORT\n"
	"Connect local programs to UNIX sockets of the peer machine, and its programs to ours.\n"
	"\n"
	"  THREADS               threads that carry connections, 1 to 64\n"
	"  ADDR PORT             where to listen: an IP address (TCP) or a CID (vsock)\n"
	"  PEER-ADDR PEER-PORT   where the peer's udsproxyd listens\n"
	"\n"
	"      --test-mode         allow plain TCP; a missing list allows everything\n"
	"      --share=LOCAL=PEER  files below LOCAL are the peer's files below PEER\n"
	"      --device=PATH       this device may be passed, too\n"
	"      --copy-max=SIZE     pass files of no share as copies up to SIZE (default 64M)\n"
	"      --map-uid=FROM:TO   the peer's user FROM is user TO here (number, or name for TO)\n"
	"      --map-gid=FROM:TO   the same for groups\n"
	"      --hold-time=SECONDS a broken link may last so long before its connections end (60)\n"
	"      --buffer-limit=MIB  memory for what is under way on all connections (256)\n"
	"      --config-dir=DIR    lists and udsproxyd.conf (default " SYSCONFDIR "/udsproxyd)\n"
	"      --runtime-dir=DIR   sockets (default " PROXYREQ_RUNTIME_DIR ")\n"
	"      --log-level=LEVEL   error, warning, info (default) or debug\n"
	"      --help, --version\n"
	"\n"
	"See udsproxyd(8).\n";

static void __attribute__((format(printf, 1, 2), noreturn)) usage_error(const char *format, ...)
{
	va_list args;

	fputs("udsproxyd: ", stderr);
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fputs("\nTry 'udsproxyd --help'.\n", stderr);
	exit(2);
}

/* ---- values ------------------------------------------------------------------------- */

static bool parse_number(const char *text, uint32_t *v)
{
	unsigned long n;
	char *end;

	errno = 0;
	n = strtoul(text, &end, 10);
	if (*text < '0' || *text > '9' || *end || errno || n > UINT32_MAX - 1)
		return false;
	*v = (uint32_t)n;
	return true;
}

/* A number of bytes, or of K, M or G. */
static bool parse_size(const char *text, uint64_t *v)
{
	static const char units[] = "KMG";
	size_t digits = strspn(text, "0123456789");
	const char *unit = text[digits] ? strchr(units, text[digits]) : NULL;
	unsigned shift = unit ? 10 * (unsigned)(unit - units + 1) : 0;

	if (!digits || digits > 15 || (text[digits] && (!unit || text[digits + 1])))
		return false;
	*v = strtoull(text, NULL, 10);
	if (*v > CONFIG_COPY_LIMIT >> shift)
		return false;
	*v <<= shift;
	return true;
}

static bool lookup_user(const char *name, uint32_t *id)
{
	const struct passwd *pw = getpwnam(name);

	if (pw)
		*id = pw->pw_uid;
	return pw;
}

static bool lookup_group(const char *name, uint32_t *id)
{
	const struct group *gr = getgrnam(name);

	if (gr)
		*id = gr->gr_gid;
	return gr;
}

static int add_map(struct config_map *maps, size_t *n, const char *value,
		   bool (*lookup)(const char *, uint32_t *), char *error)
{
	const char *colon = strchr(value, ':');
	struct config_map map;
	char from[16];

	if (*n == CONFIG_MAPS_MAX) {
		snprintf(error, ERROR_MAX, "more than %d mappings", CONFIG_MAPS_MAX);
		return -EINVAL;
	}
	if (!colon || (size_t)(colon - value) >= sizeof(from)) {
		snprintf(error, ERROR_MAX, "'%.80s' is not FROM:TO", value);
		return -EINVAL;
	}
	memcpy(from, value, (size_t)(colon - value));
	from[colon - value] = '\0';
	if (!parse_number(from, &map.from)) {
		snprintf(error, ERROR_MAX, "'%s' is not a number: the peer's names are not known here",
			 from);
		return -EINVAL;
	}
	if (!parse_number(colon + 1, &map.to) && !lookup(colon + 1, &map.to)) {
		snprintf(error, ERROR_MAX, "'%.80s' is neither a number nor known here", colon + 1);
		return -EINVAL;
	}
	maps[(*n)++] = map;
	return 0;
}

static int add_share(struct config *c, const char *value, char *error)
{
	const char *equals = strchr(value, '=');
	const char *peer = equals ? equals + 1 : value;
	size_t local_len = equals ? (size_t)(equals - value) : strlen(value);
	struct config_share *share = &c->shares[c->n_shares];

	if (c->n_shares == CONFIG_SHARES_MAX) {
		snprintf(error, ERROR_MAX, "more than %d shares", CONFIG_SHARES_MAX);
		return -EINVAL;
	}
	if (value[0] != '/' || peer[0] != '/') {
		snprintf(error, ERROR_MAX, "'%.80s' is not LOCAL=PEER, two absolute directories", value);
		return -EINVAL;
	}
	share->local = strndup(value, local_len);
	share->peer = strdup(peer);
	c->n_shares++;
	return 0;
}

static int add_device(struct config *c, const char *value, char *error)
{
	if (c->n_devices == CONFIG_DEVICES_MAX || strncmp(value, "/dev/", 5)) {
		snprintf(error, ERROR_MAX, "'%.80s' is not below /dev, or one too many", value);
		return -EINVAL;
	}
	c->devices[c->n_devices++] = strdup(value);
	return 0;
}

static int parse_bool(bool *v, const char *value, char *error)
{
	*v = !strcmp(value, "yes");
	if (*v || !strcmp(value, "no"))
		return 0;
	snprintf(error, ERROR_MAX, "'%.80s' is neither yes nor no", value);
	return -EINVAL;
}

static int parse_range(uint32_t *v, const char *value, uint32_t min, uint32_t max, char *error)
{
	if (parse_number(value, v) && *v >= min && *v <= max)
		return 0;
	snprintf(error, ERROR_MAX, "'%.80s' is not a number from %u to %u", value, min, max);
	return -EINVAL;
}

/* The one place that knows the keys, of the command line and of the file. */
static int set(struct config *c, const char *key, const char *value, char *error)
{
	uint32_t number;
	int level;

	if (!strcmp(key, "test-mode"))
		return parse_bool(&c->test_mode, value ? value : "yes", error);
	if (!strcmp(key, "share"))
		return add_share(c, value, error);
	if (!strcmp(key, "device"))
		return add_device(c, value, error);
	if (!strcmp(key, "copy-max")) {
		if (parse_size(value, &c->copy_max))
			return 0;
		snprintf(error, ERROR_MAX, "'%.80s' is not a size of at most 1024G: 64M, for example",
			 value);
		return -EINVAL;
	}
	if (!strcmp(key, "map-uid"))
		return add_map(c->map_uid, &c->n_map_uid, value, lookup_user, error);
	if (!strcmp(key, "map-gid"))
		return add_map(c->map_gid, &c->n_map_gid, value, lookup_group, error);
	if (!strcmp(key, "hold-time"))
		return parse_range(&c->hold_seconds, value, 0, CONFIG_HOLD_MAX, error);
	if (!strcmp(key, "buffer-limit")) {
		if (parse_range(&number, value, 1, CONFIG_BUFFER_MAX, error))
			return -EINVAL;
		c->buffer_limit = (size_t)number << 20;
		return 0;
	}
	if (!strcmp(key, "config-dir")) {
		c->config_dir = value;
		return 0;
	}
	if (!strcmp(key, "runtime-dir")) {
		c->runtime_dir = value;
		return 0;
	}
	if (!strcmp(key, "log-level")) {
		level = log_parse_level(value);
		if (level < 0) {
			snprintf(error, ERROR_MAX, "'%.80s' is not error, warning, info or debug", value);
			return -EINVAL;
		}
		c->log_level = (enum log_level)level;
		return 0;
	}
	snprintf(error, ERROR_MAX, "there is no such key");
	return -EINVAL;
}

/* ---- the file ----------------------------------------------------------------------- */

struct file_state {
	struct config *c;
	FILE *stream;
	char error[ERROR_MAX];
};

static int file_entry(void *arg, const char *section, const char *key, const char *value)
{
	struct file_state *state = arg;
	char error[ERROR_MAX] = "";

	if (*section)
		snprintf(error, sizeof(error), "section [%.40s]: there are no sections", section);
	else if (!strcmp(key, "config-dir") || !strcmp(key, "runtime-dir"))
		snprintf(error, sizeof(error), "only on the command line");
	else
		set(state->c, key, value, error);
	if (*error && !*state->error)
		snprintf(state->error, sizeof(state->error), "%.40s: %.200s", key, error);
	return !*error;
}

/* inih takes the rest of a long line for another. */
static char *read_line(char *line, int size, void *arg)
{
	struct file_state *state = arg;
	char *found = fgets(line, size, state->stream);

	if (found && strlen(line) == (size_t)size - 1 && line[size - 2] != '\n' && !*state->error)
		snprintf(state->error, sizeof(state->error),
			 "'%.40s...': longer than %d bytes; give it on the command line", line, size - 2);
	return *state->error ? NULL : found;
}

static void read_file(struct config *c)
{
	char path[512];
	struct file_state state = { .c = c };
	int line;

	snprintf(path, sizeof(path), "%s/udsproxyd.conf", c->config_dir);
	if (access(path, F_OK))
		return;
	state.stream = fopen(path, "re");
	if (!state.stream)
		usage_error("%s: cannot be read: %s", path, strerror(errno));
	line = ini_parse_stream(read_line, &state, file_entry, &state);
	fclose(state.stream);
	if (line <= 0 && *state.error)
		usage_error("%s: %s", path, state.error);
	if (line > 0)
		usage_error("%s, line %d: %s", path, line,
			    *state.error ? state.error : "not KEY = VALUE");
}

/* ---- the command line ---------------------------------------------------------------- */

static void parse_positional(struct config *c, int n, char **args)
{
	static const char *const names[] = { "THREADS", "ADDR", "PORT", "PEER-ADDR", "PEER-PORT" };
	char error[ADDR_TEXT * 2];
	uint32_t threads;

	if (n < 5)
		usage_error("%s is missing: THREADS ADDR PORT PEER-ADDR PEER-PORT are wanted", names[n]);
	if (n > 5)
		usage_error("'%s' is one argument too many: THREADS ADDR PORT PEER-ADDR PEER-PORT are "
			    "wanted",
			    args[5]);
	if (!parse_number(args[0], &threads) || threads < 1 || threads > CONFIG_THREADS_MAX)
		usage_error("THREADS '%s': a number from 1 to %d is wanted", args[0],
			    CONFIG_THREADS_MAX);
	c->threads = (int)threads;
	if (addr_parse(&c->addr, args[1], args[2], error))
		usage_error("%s", error);
	if (addr_parse(&c->peer, args[3], args[4], error))
		usage_error("peer: %s", error);
	if (c->addr.sa.ss_family != c->peer.sa.ss_family)
		usage_error("%s and %s are not of one kind: both sides speak TCP (IP addresses) or vsock "
			    "(CIDs)",
			    args[1], args[3]);
}

void config_parse(struct config *c, int argc, char **argv)
{
	static const struct option options[] = {
		{ "test-mode", no_argument, NULL, 0 },
		{ "share", required_argument, NULL, 0 },
		{ "device", required_argument, NULL, 0 },
		{ "copy-max", required_argument, NULL, 0 },
		{ "map-uid", required_argument, NULL, 0 },
		{ "map-gid", required_argument, NULL, 0 },
		{ "hold-time", required_argument, NULL, 0 },
		{ "buffer-limit", required_argument, NULL, 0 },
		{ "config-dir", required_argument, NULL, 0 },
		{ "runtime-dir", required_argument, NULL, 0 },
		{ "log-level", required_argument, NULL, 0 },
		{ "help", no_argument, NULL, 'h' },
		{ "version", no_argument, NULL, 'V' },
		{ 0 },
	};
	char error[ERROR_MAX];
	int index, opt;

	*c = (struct config){
		.test_mode = TEST_MODE_DEFAULT,
		.runtime_dir = PROXYREQ_RUNTIME_DIR,
		.config_dir = SYSCONFDIR "/udsproxyd",
		.log_level = LOG_LEVEL_INFO,
		.hold_seconds = 60,
		.buffer_limit = (size_t)256 << 20,
		.copy_max = CONFIG_COPY_MAX,
	};
	/* Twice over: first the directory of the file, then the file, then what overrides it. */
	for (int pass = 1; pass <= 2; pass++) {
		optind = 1;
		opterr = pass == 1;
		while ((opt = getopt_long(argc, argv, "", options, &index)) != -1) {
			if (opt == 'h') {
				fputs(usage_text, stdout);
				exit(0);
			}
			if (opt == 'V') {
				puts("udsproxyd " VERSION);
				exit(0);
			}
			if (opt == '?') {
				fputs("Try 'udsproxyd --help'.\n", stderr);
				exit(2);
			}
			if (pass == 1 && strcmp(options[index].name, "config-dir"))
				continue;
			if (set(c, options[index].name, optarg, error))
				usage_error("--%s: %s", options[index].name, error);
		}
		if (pass == 1)
			read_file(c);
	}
	parse_positional(c, argc - optind, argv + optind);
	if (!c->test_mode && !addr_is_vsock(&c->addr))
		usage_error("plain TCP (%s) is not authenticated: it is allowed in test mode only "
			    "(--test-mode, or a build with UDS_TEST_MODE=1)",
			    c->addr.text);
}

uint32_t config_mapped(const struct config_map *maps, size_t n, uint32_t id)
{
	for (size_t i = 0; i < n; i++)
		if (maps[i].from == id)
			return maps[i].to;
	return id;
}
