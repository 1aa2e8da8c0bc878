/* SPDX-License-Identifier: Apache-2.0 */
#include "options.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "session.h"
#include "util.h"

static const char usage[] =
	"usage: rexec [OPTION]... PROGRAM [ARG]...\n"
	"       rexec [--local] --list | --attach ID | --kill ID [SIGNAL]\n"
	"       rexec [--local] --set ID [--thread TID] NAME=VALUE...\n"
	"Runs PROGRAM on the peer, with this process's descriptors, directory, user and signals.\n"
	"\n"
	"  -n                    read no standard input\n"
	"  -t, -T                give it a terminal, or none (default: when 0 and 1 are one here)\n"
	"  --local               on this machine, without udsproxyd\n"
	"  --cwd DIR             start in DIR there (default: this directory)\n"
	"  --env NAME[=VALUE]    pass this on, too; may be repeated\n"
	"  --user NAME           as this user (root only)\n"
	"  --drop-fd N           do not pass descriptor N on; may be repeated\n"
	"  --keep-fd N           above 2 pass on only N; may be repeated\n"
	"  --timeout DURATION    end it after so long: seconds, or with s, m, h, d behind\n"
	"  --on-disconnect=kill  when the link is lost end the program (default), or\n"
	"  --on-disconnect=keep  let it run and go on when the link is back\n"
	"  --detach              let it run without us; prints its ID\n"
	"  --status-fd N         write to N how it ended: exited, signaled, timeout, refused, unknown\n"
	"  --help, --version\n"
	"\n"
	"  --list                what runs there\n"
	"  --attach ID           be the one who waits for it and has its output\n"
	"  --kill ID [SIGNAL]    end it and all that it started, or send SIGNAL\n"
	"  --set ID NAME=VALUE   affinity=0-3, scheduler=fifo:10, nice=5, limit.nofile=1024:4096\n"
	"\n"
	"Exit status: the program's; 128+N when signal N ended it; 124 its time was over; 125 rexec\n"
	"failed; 126 refused or not executable; 127 not found; 123 outcome unknown.\n";

void complain(const char *format, ...)
{
	char line[SESSION_REASON_MAX + 256];
	va_list args;
	int n;

	va_start(args, format);
	n = vsnprintf(line, sizeof(line), format, args);
	va_end(args);
	if (n >= 0)
		dprintf(STDERR_FILENO, "rexec: %s\n", line);
}

static void bad_usage(const char *what, const char *value)
{
	complain("%s '%s'", what, value);
	dprintf(STDERR_FILENO, "Try 'rexec --help'.\n");
	exit(2);
}

static int parse_number(const char *word, long max, const char *what)
{
	char *end;
	long n = strtol(word, &end, 10);

	if (!*word || *end || n < 0 || n > max)
		bad_usage(what, word);
	return (int)n;
}

static int parse_fd(const char *word)
{
	return parse_number(word, 65535, "not a descriptor number:");
}

/* As timeout(1) takes it, but whole seconds at least. */
static unsigned parse_duration(const char *word)
{
	static const struct {
		const char *unit;
		double seconds;
	} units[] = { { "", 1 }, { "s", 1 }, { "m", 60 }, { "h", 3600 }, { "d", 86400 } };
	char *end;
	double n = strtod(word, &end);

	for (size_t i = 0; i < ARRAY_LEN(units) && end != word; i++) {
		double s = n * units[i].seconds;

		/* A NaN is in no range. */
		if (!strcmp(end, units[i].unit) && s > 0 && s <= UINT32_MAX)
			return (unsigned)s < s ? (unsigned)s + 1 : (unsigned)s;
	}
	bad_usage("--timeout wants a duration, as in 90, 1.5m or 2h, not", word);
	return 0;
}

static void *grow(void *list, size_t n, size_t size)
{
	void *more = reallocarray(list, n + 1, size);

	if (!more) {
		complain("out of memory");
		exit(EXIT_REXEC_FAILED);
	}
	return more;
}

static void add_fd(int **list, size_t *n, const char *word)
{
	*list = grow(*list, *n, sizeof(**list));
	(*list)[(*n)++] = parse_fd(word);
}

static void add_open_fd(int **list, size_t *n, const char *word)
{
	add_fd(list, n, word);
	if (fcntl((*list)[*n - 1], F_GETFD) < 0)
		bad_usage("--keep-fd: not an open descriptor:", word);
}

/* Both NAME and NAME=VALUE; a name that is not set here is passed on as not set. */
static void add_env(struct options *o, char *word)
{
	char *assignment = word;

	if (!*word || *word == '=')
		bad_usage("--env wants NAME or NAME=VALUE, not", word);
	if (!strchr(word, '=')) {
		const char *value = getenv(word);

		if (!value)
			return;
		if (asprintf(&assignment, "%s=%s", word, value) < 0)
			assignment = NULL;
	}
	o->env = grow(o->env, o->n_env + 1, sizeof(*o->env));
	o->env[o->n_env++] = assignment == word ? strdup(word) : assignment;
	o->env[o->n_env] = NULL;
}

static void set_command(struct options *o, enum option_command command, const char *id)
{
	if (o->command != COMMAND_RUN) {
		complain("only one of --list, --attach, --kill and --set at a time");
		exit(2);
	}
	o->command = command;
	o->id = id;
	if (id && (!*id || strspn(id, "0123456789abcdef") != strlen(id)))
		bad_usage("not the ID of a program, which --list tells:", id);
}

/* What stands behind the options has to fit the command. */
static void check(const struct options *o, int n)
{
	if (o->command == COMMAND_RUN && !n) {
		complain("no program given");
		dprintf(STDERR_FILENO, "%s", usage);
		exit(2);
	}
	if ((o->command == COMMAND_LIST || o->command == COMMAND_ATTACH) && n)
		bad_usage("surplus argument", o->argv[0]);
	if (o->command == COMMAND_KILL && n > 1)
		bad_usage("surplus argument", o->argv[1]);
	if (o->command == COMMAND_SET && !n)
		bad_usage("--set wants NAME=VALUE behind", o->id);
	if (o->detach && (o->terminal == TERMINAL_ALWAYS || o->command != COMMAND_RUN))
		bad_usage("--detach goes with a program to start, and not with", o->command ? o->id : "-t");
	if (o->thread && o->command != COMMAND_SET)
		bad_usage("--thread goes with --set, not with", o->argv[0] ? o->argv[0] : "nothing");
}

void options_parse(struct options *o, int argc, char **argv)
{
	enum {
		LOCAL = 256,
		CWD,
		ENV,
		USER,
		DROP_FD,
		KEEP_FD,
		TIMEOUT,
		ON_DISCONNECT,
		DETACH,
		STATUS_FD,
		LIST,
		ATTACH,
		KILL,
		SET,
		THREAD,
		HELP,
		PRINT_VERSION
	};
	static const struct option known[] = {
		{ "local", no_argument, NULL, LOCAL },
		{ "cwd", required_argument, NULL, CWD },
		{ "env", required_argument, NULL, ENV },
		{ "user", required_argument, NULL, USER },
		{ "drop-fd", required_argument, NULL, DROP_FD },
		{ "keep-fd", required_argument, NULL, KEEP_FD },
		{ "timeout", required_argument, NULL, TIMEOUT },
		{ "on-disconnect", required_argument, NULL, ON_DISCONNECT },
		{ "detach", no_argument, NULL, DETACH },
		{ "status-fd", required_argument, NULL, STATUS_FD },
		{ "list", no_argument, NULL, LIST },
		{ "attach", required_argument, NULL, ATTACH },
		{ "kill", required_argument, NULL, KILL },
		{ "set", required_argument, NULL, SET },
		{ "thread", required_argument, NULL, THREAD },
		{ "help", no_argument, NULL, HELP },
		{ "version", no_argument, NULL, PRINT_VERSION },
		{ 0 },
	};
	int c;

	*o = (struct options){ .status_fd = -1 };
	while ((c = getopt_long(argc, argv, "+ntT", known, NULL)) != -1) {
		switch (c) {
		case 'n':
			o->no_stdin = true;
			break;
		case 't':
			o->terminal = TERMINAL_ALWAYS;
			break;
		case 'T':
			o->terminal = TERMINAL_NEVER;
			break;
		case LOCAL:
			o->local = true;
			break;
		case CWD:
			if (*optarg != '/')
				bad_usage("--cwd wants an absolute path, not", optarg);
			o->cwd = optarg;
			break;
		case ENV:
			add_env(o, optarg);
			break;
		case USER:
			o->user = optarg;
			break;
		case DROP_FD:
			add_fd(&o->drop, &o->n_drop, optarg);
			break;
		case KEEP_FD:
			add_open_fd(&o->only, &o->n_only, optarg);
			break;
		case TIMEOUT:
			o->timeout_s = parse_duration(optarg);
			break;
		case ON_DISCONNECT:
			o->keep = !strcmp(optarg, "keep");
			if (!o->keep && strcmp(optarg, "kill") != 0)
				bad_usage("--on-disconnect wants kill or keep, not", optarg);
			break;
		case DETACH:
			o->detach = true;
			break;
		case STATUS_FD:
			o->status_fd = parse_fd(optarg);
			if (fcntl(o->status_fd, F_GETFD) < 0)
				bad_usage("--status-fd: not an open descriptor:", optarg);
			break;
		case LIST:
			set_command(o, COMMAND_LIST, NULL);
			break;
		case ATTACH:
			set_command(o, COMMAND_ATTACH, optarg);
			break;
		case KILL:
			set_command(o, COMMAND_KILL, optarg);
			break;
		case SET:
			set_command(o, COMMAND_SET, optarg);
			break;
		case THREAD:
			o->thread = parse_number(optarg, INT32_MAX, "not a thread's number:");
			break;
		case HELP:
			fputs(usage, stdout);
			exit(0);
		case PRINT_VERSION:
			puts("rexec " VERSION);
			exit(0);
		default:
			dprintf(STDERR_FILENO, "Try 'rexec --help'.\n");
			exit(2);
		}
	}
	o->argv = argv + optind;
	check(o, argc - optind);
}

void options_deinit(struct options *o)
{
	for (size_t i = 0; i < o->n_env; i++)
		free(o->env[i]);
	free(o->env);
	free(o->drop);
	free(o->only);
}
