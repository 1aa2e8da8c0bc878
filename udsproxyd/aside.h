/* SPDX-License-Identifier: Apache-2.0 */
/*
 * aside.h - what may wait for a network file system, on a thread of its own
 *
 * The DPU mounts the HOST's directories by sshfs over rexec, that is, through this very daemon. A
 * worker that waited for such a file system would wait for itself. So a worker opens only what
 * the kernel has at hand (RESOLVE_CACHED, openat2(2)) and leaves the rest to a thread made for it:
 * all of it where there is no openat2(2), the closing of files (which may write, fuse(4)), and
 * connecting to a path that a stranger has passed.
 */
#ifndef ASIDE_H
#define ASIDE_H

#include "fdpass.h"
#include "worker.h"

/** aside_run() - call @work(@arg) on another thread, then @done(@w, @arg) on @w's
 * Return: 0, or a negative errno and neither is called. */
int aside_run(struct worker *w, void (*work)(void *arg), void (*done)(struct worker *w, void *arg),
	      void *arg);
/** aside_close() - close @fd (taken), elsewhere when it is a file */
void aside_close(int fd);
/** aside_close_set() - the same for all of @set, which is empty then */
void aside_close_set(struct fdset *set);
/** aside_open() - open @path with @flags, following links
 * @cached	fail with -EAGAIN rather than wait for the file system
 * Return: a descriptor, the caller's, or a negative errno. */
int aside_open(const char *path, int flags, bool cached);
/** aside_open_beneath() - the same below directory @dir: following no link, leaving it never */
int aside_open_beneath(int dir, const char *path, int flags, bool cached);
/** aside_busy() - is some thread still at it? */
bool aside_busy(void);

#endif
