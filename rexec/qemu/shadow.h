/* SPDX-License-Identifier: Apache-2.0 */
/*
 * shadow.h - threads of this process that stand for QEMU's threads on the HOST
 *
 * libvirt pins threads with sched_setaffinity(2) and reads /proc/PID/task/TID. So each thread
 * that QEMU tells of gets an idle one here, and this process's first thread stands for the
 * emulator: for all that QEMU does not tell of. Nothing tells us when somebody pins one, so
 * shadow_mirror() is to be called now and then.
 *
 * A thread that may run on every CPU of this machine is not pinned, and its like on the HOST may
 * run on every CPU of the HOST, however many more those are.
 */
#ifndef SHADOW_H
#define SHADOW_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define SHADOW_MAX 4096 /* threads; QEMU has no more vCPUs */

struct shadow;

struct shadows {
	const char *fixed; /* borrowed: CPUs as affinity_named() has them, which nobody here can
			      change; NULL: none */
	struct shadow *emulator;
	struct shadow *list;
	size_t n;
};

/**
 * shadow_of() - the local thread for HOST's thread @host; made when it is new
 * Signals must be blocked in the caller if no thread is to take them. Beyond SHADOW_MAX, or when
 * no thread can be made, it is this process itself: never a HOST's number.
 */
pid_t shadow_of(struct shadows *s, int64_t host);

/** shadow_name() - the local thread @local stands for "vcpu0", "iothread1", ...: see `fixed` */
void shadow_name(struct shadows *s, pid_t local, const char *name);

/**
 * shadow_mirror() - tell of each shadow that was pinned since the last call
 * @pin		returns 0 when the HOST was told; else the same is told again next time. @host is
 *		0 for all threads, and those that have a shadow are told again after that. CPU n is
 *		bit n % 8 of byte n / 8.
 * Return: whether all was told.
 */
bool shadow_mirror(struct shadows *s,
		   int (*pin)(void *arg, pid_t host, const uint8_t *cpus, size_t size), void *arg);

/** shadow_tell_again() - what the HOST was told last may not have arrived */
void shadow_tell_again(struct shadows *s);

#endif
