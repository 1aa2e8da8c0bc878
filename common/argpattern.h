/* SPDX-License-Identifier: Apache-2.0 */
/*
 * argpattern.h - a pattern for one argument of a program
 *
 *	?	any byte but /
 *	*	any bytes but /, also none
 *	**	any bytes, also none
 *	[a-z]	one byte of a set, but never /; [!a-z] one that is not in it; a ] that is meant
 *		stands first. So [*] is an asterisk
 *
 * Everything else is itself; no byte is special at the beginning, and none quotes another. A
 * wildcard does not lead out of a directory: where an argument has a component `..` (also one
 * that begins behind = , or :, as in --file=../x), no pattern with a wildcard matches it but `**`
 * alone, which matches everything.
 *
 * Not fnmatch(3), whose * either matches / or cannot be made to, which knows locales, and takes
 * exponential time for a hostile argument. Pure: bytes, linear in the argument.
 */
#ifndef ARGPATTERN_H
#define ARGPATTERN_H

#include <stdbool.h>

/** argpattern_wrong() - NULL, or what is wrong with @pattern: the rest of a sentence */
const char *argpattern_wrong(const char *pattern);
/** argpattern_matches() - does @pattern, which is not wrong, match all of @argument? */
bool argpattern_matches(const char *pattern, const char *argument);

#endif
