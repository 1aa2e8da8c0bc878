/* SPDX-License-Identifier: Apache-2.0 */
/*
 * offsets.h - where the files stand that were passed to another machine
 *
 * A file that udsproxyd opened anew, or copied, has an offset of its own there. Both sides watch
 * what they passed or were passed; when the program has ended the keeper tells where it has left
 * those that it moved (with EXITED), and the client sets its caller's to that. On one machine they
 * are the same open files, and nothing is to be done; nor for rexec-qemu: QEMU closes its files
 * long before it ends.
 */
#ifndef OFFSETS_H
#define OFFSETS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "buf.h"
#include "fdpass.h"

/* Zero-initialised: none. */
struct offsets {
	int n;
	struct offset {
		int fd; /* a duplicate of ours, -1 when it is not needed any more */
		uint16_t place;
		bool moved;
		off_t at;
	} * file;
};

/** offsets_watch() - the regular files among @passed, by their place in it */
void offsets_watch(struct offsets *o, const struct fdset *passed);
/** offsets_note() - remember which have moved, and where to; then let them go */
void offsets_note(struct offsets *o);
/** offsets_put() - what was noted: for each that has moved u16 place, u64 offset */
void offsets_put(const struct offsets *o, struct buf *b);
/** offsets_set() - move those that are watched to what offsets_put() has put, up to the end of @b
 */
void offsets_set(struct offsets *o, struct buf *b);
/** offsets_forget() - let all go, and free */
void offsets_forget(struct offsets *o);

#endif
