/* SPDX-License-Identifier: Apache-2.0 */
/* share.h - files that both sides see: which name has this one over there, and which that one here */
#ifndef SHARE_H
#define SHARE_H

#include "config.h"

/**
 * share_peer_path() - the peer's name of the file or directory @fd
 *
 * Matched by file system and place in it, not by name: what was opened in a chroot has another
 * name outside it (proc_pid_mountinfo(5)).
 * Return: 0, or -EXDEV: it lies below no share. @size bytes at @path.
 */
int share_peer_path(const struct config *c, int fd, char *path, size_t size);

/** share_open() - open @path (ours, as the peer translated it) with @flags, below a share and
 * following no link; may wait for the file system (aside.h). Return: a descriptor, the caller's, or a negative errno; -EXDEV: no share. */
int share_open(const struct config *c, const char *path, int flags);

#endif
