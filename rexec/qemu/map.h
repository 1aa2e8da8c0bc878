/* SPDX-License-Identifier: Apache-2.0 */
/*
 * map.h - which program of the HOST stands behind a name here
 *
 *	# /etc/rexec/qemu.map
 *	qemu-kvm	/usr/libexec/qemu-kvm qemu-system-x86_64
 *
 * A name, then programs, absolute or bare (looked up by rexec_server), tried in order until one
 * is there and allowed. What is not listed stands for the same name; qemu-kvm for the names that
 * distributions give it. Pure.
 */
#ifndef MAP_H
#define MAP_H

#include <stddef.h>

#define MAP_PROGRAMS_MAX 8

struct map_programs {
	size_t n;
	char *program[MAP_PROGRAMS_MAX];
};

/**
 * map_lookup() - the programs for @name (a path counts by its last part)
 * @text	the file's, NUL-terminated; "" when there is none
 * @machine	uname(2)'s, for the defaults
 * @out		map_free()
 * Return: 0; -ENOMEM; or -EINVAL with the number of a malformed line in *@line
 */
int map_lookup(const char *text, const char *name, const char *machine, struct map_programs *out,
	       unsigned int *line);
void map_free(struct map_programs *programs);

#endif
