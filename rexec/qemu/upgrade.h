/* SPDX-License-Identifier: Apache-2.0 */
/*
 * upgrade.h - has the HOST another QEMU than before?
 *
 * libvirt probes a QEMU once and keeps what it found, until the ctime of the program changes. Here
 * that program is a trampoline, which stays when the HOST's QEMU is upgraded: so it is touched
 * then, and libvirt probes again when it next needs to know.
 */
#ifndef UPGRADE_H
#define UPGRADE_H

#include <stdbool.h>

#include "map.h"

struct upgrade {
	const char *seen; /* directory: a file a trampoline, which says what was behind it */
	bool local;	  /* QEMU runs on this machine */
	bool found; /* nobody named the trampoline: that its QEMU is not there, or not allowed, is
		       no error */
};

/** upgrade_is_trampoline() - does the file at @path run rexec-qemu? */
bool upgrade_is_trampoline(const char *path);

/**
 * upgrade_check() - ask the HOST for its QEMU, and touch @path when that is another than last
 * time
 * @programs	of which the first that is there and allowed is the one
 * Return: 0, or EXIT_... of session.h when the HOST could not be asked: then nothing was touched.
 * What happened is logged.
 */
int upgrade_check(const struct upgrade *u, const char *path, const struct map_programs *programs);

#endif
