/* SPDX-License-Identifier: Apache-2.0 */
/*
 * trust.h - can nobody but root change what a path leads to?
 */
#ifndef TRUST_H
#define TRUST_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/stat.h>

/**
 * trust_path() - is everything on the way to @path, which is absolute, root's (or ours) alone?
 *
 * The way is walked as the kernel does: each directory, each symbolic link with the directories
 * on its own way, and the file. What others may write, by its mode, is not trusted.
 *
 * @reason	@size bytes: what is wrong, as a sentence that names where
 */
bool trust_path(const char *path, char *reason, size_t size);
/** trust_stat() - the same for one file, @path for the sentence */
bool trust_stat(const char *path, const struct stat *st, char *reason, size_t size);

#endif
