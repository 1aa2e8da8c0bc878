/* SPDX-License-Identifier: Apache-2.0 */
/*
 * affinity.h - sets of CPUs, as they are written and as session_affinity() takes them
 *
 * Pure.
 */
#ifndef AFFINITY_H
#define AFFINITY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define AFFINITY_CPUS_MAX 8192 /* as many as Linux knows */

/* CPU n is bit n % 8 of byte n / 8, whatever this machine's byte order. */
struct affinity {
	uint8_t cpus[AFFINITY_CPUS_MAX / 8];
	size_t size; /* up to the last byte that is not 0 */
};

/** affinity_add() - @cpu, which is below AFFINITY_CPUS_MAX */
void affinity_add(struct affinity *a, unsigned int cpu);
/** affinity_all() - every CPU that any machine may have */
void affinity_all(struct affinity *a);
/** affinity_has() - is @cpu in it? */
bool affinity_has(const struct affinity *a, unsigned int cpu);

/**
 * affinity_parse() - a list as the kernel, taskset(1) and libvirt write it: "0-3,8"
 * @end		set to what follows the list
 * Return: false when @text begins with no list of at least one CPU
 */
bool affinity_parse(struct affinity *a, const char *text, const char **end);

/**
 * affinity_named() - the list of @name in "NAME=LIST NAME=LIST ..."; the last one counts
 * Return: false when there is none
 */
bool affinity_named(struct affinity *a, const char *words, const char *name);
/** affinity_check() - Return: the first word of @words that is none of "emulator=LIST",
 * "vcpuN=LIST", "iothreadN=LIST"; NULL when all are good */
const char *affinity_check(const char *words);

#endif
