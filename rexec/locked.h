/* SPDX-License-Identifier: Apache-2.0 */
/*
 * locked.h - does a POSIX lock keep a descriptor on this machine?
 *
 * A manager leaves its program a pid file that is locked: the lock says that the process is
 * alive, and is lost when that closes the file. Such a file stays with the process here.
 */
#ifndef LOCKED_H
#define LOCKED_H

#include <stdbool.h>

/** locked_by_us() - is @fd a regular file on which this process holds a POSIX lock? */
bool locked_by_us(int fd);

#endif
