/* SPDX-License-Identifier: Apache-2.0 */
/*
 * config.h - what udsproxyd was told: command line, then DIR/udsproxyd.conf
 *
 * A key of the file is a long option without its dashes; the command line wins for single
 * values, and repeatable ones add up.
 */
#ifndef CONFIG_H
#define CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "addr.h"
#include "log.h"

#define CONFIG_THREADS_MAX 64
#define CONFIG_MAPS_MAX 64
#define CONFIG_SHARES_MAX 64
#define CONFIG_DEVICES_MAX 64
#define CONFIG_HOLD_MAX 86400  /* seconds */
#define CONFIG_BUFFER_MAX 65536 /* MiB */
#define CONFIG_COPY_MAX (UINT64_C(64) << 20)   /* the default */
#define CONFIG_COPY_LIMIT (UINT64_C(1) << 40) /* of what may be configured */

/* Ids of the peer's clients (from) are these here (to). */
struct config_map {
	uint32_t from, to;
};

/* A directory that both sides see: `local` here, `peer` there. */
struct config_share {
	char *local;
	char *peer;
};

struct config {
	int threads;
	struct addr addr;
	struct addr peer;
	bool test_mode;
	const char *runtime_dir;
	const char *config_dir;
	enum log_level log_level;
	unsigned hold_seconds; /* a connection outlives its transport for so long; 0: not at all */
	size_t buffer_limit;   /* bytes that all connections keep until they are acknowledged */
	uint64_t copy_max; /* bytes of the files and memfds of one message that cross as copies */
	size_t n_map_uid, n_map_gid, n_shares, n_devices;
	struct config_map map_uid[CONFIG_MAPS_MAX];
	struct config_map map_gid[CONFIG_MAPS_MAX];
	struct config_share shares[CONFIG_SHARES_MAX];
	char *devices[CONFIG_DEVICES_MAX];
};

/**
 * config_parse() - fill @c; on wrong use says what on stderr and exits with 2
 * --help and --version print and exit with 0.
 */
void config_parse(struct config *c, int argc, char **argv);
/** config_mapped() - @id as the peer gave it, as it is here */
uint32_t config_mapped(const struct config_map *maps, size_t n, uint32_t id);

#endif
