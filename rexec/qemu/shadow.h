/* SPDX-License-Identifier: Apache-2.0 */
/*
 * shadow.h - threads of this process that stand for QEMU's threads on the HOST
 *
 * libvirt pins threads with sched_setaffinity(2) and reads /proc/PID/task/TID. So each thread
 * that QEMU tells of gets an idle one here; nothing tells us when somebody pins it, so
 * shadow_mirror() is to be called now and then.
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
	struct shadow *list;
	size_t n;
};

/**
 * shadow_of() - the local thread for HOST's thread @host; made when it is new
 * Signals must be blocked in the caller if no thread is to take them. Beyond SHADOW_MAX, or when
 * no thread can be made, it is this process itself: never a HOST's number.
 */
pid_t shadow_of(struct shadows *s, int64_t host);

/**
 * shadow_mirror() - tell of each shadow that was pinned since the last call
 * @pin		returns 0 when the HOST was told; else the same is told again next time. CPU n is
 *bit n % 8 of byte n / 8.
 */
void shadow_mirror(struct shadows *s,
		   int (*pin)(void *arg, pid_t host, const uint8_t *cpus, size_t size), void *arg);

#endif
