/* SPDX-License-Identifier: Apache-2.0 */
/*
 * status.h - how qtcfg ends (qtcfg(8), EXIT STATUS), and what it says to stderr
 */
#ifndef STATUS_H
#define STATUS_H

enum status {
	STATUS_OK = 0,
	STATUS_USAGE = 2,
	STATUS_BAD_PATH = 3, /* relative, empty or too long */
	STATUS_DUPLICATE = 4,
	STATUS_BAD_INDEX = 5,
	STATUS_FILE = 6,    /* the list cannot be read or written; it is as it was */
	STATUS_REFUSED = 7, /* the list is saved, but its daemon does not follow it */
	STATUS_DOT_DOT = 8,
	STATUS_ROOT = 9, /* "/" without --force */
};

/** fail() - say what is wrong and what to do. Return: @status, for the caller to return. */
enum status fail(enum status status, const char *format, ...) __attribute__((format(printf, 2, 3)));

/** note() - say something that is no error */
void note(const char *format, ...) __attribute__((format(printf, 1, 2)));

#endif
