/* SPDX-License-Identifier: Apache-2.0 */
/*
 * options.h - what rexec was asked for
 */
#ifndef OPTIONS_H
#define OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

enum option_command {
	COMMAND_RUN, /* argv is the program's */
	COMMAND_ATTACH,
	COMMAND_LIST,
	COMMAND_KILL, /* argv: at most a signal */
	COMMAND_SET,  /* argv: assignments */
};

enum option_terminal {
	TERMINAL_AUTO, /* when both ends of a dialogue are one here */
	TERMINAL_NEVER,
	TERMINAL_ALWAYS,
};

struct options {
	enum option_command command;
	const char *id; /* of a program that runs already; may be shortened */
	pid_t thread;	/* COMMAND_SET; 0: all */
	bool local, no_stdin, keep, detach;
	enum option_terminal terminal;
	unsigned timeout_s;
	const char *cwd, *user;
	char **env; /* --env, as NAME=VALUE */
	size_t n_env;
	int *drop, *only; /* --drop-fd, --keep-fd */
	size_t n_drop, n_only;
	int status_fd;
	char **argv;
};

/** options_parse() - the command line; does not return when it is wrong or asks for help */
void options_parse(struct options *o, int argc, char **argv);
/** options_deinit() - free what was allocated */
void options_deinit(struct options *o);
/** complain() - one line on standard error, led by "rexec: " */
void complain(const char *format, ...) __attribute__((format(printf, 1, 2)));

#endif
