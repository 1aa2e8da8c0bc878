/* SPDX-License-Identifier: Apache-2.0 */
/*
 * listcheck.h - rexec_server --check: a whitelist looked at without serving anybody
 */
#ifndef LISTCHECK_H
#define LISTCHECK_H

#include <stdbool.h>

/**
 * listcheck() - print to stderr whatever is wrong with @file, as FILE:LINE: what and what to
 * do, and to stdout what it allows
 * Return: the exit status: 0 all of it can be used; 2 something is wrong.
 */
int listcheck(const char *file, bool test_mode);

#endif
