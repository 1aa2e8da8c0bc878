/* SPDX-License-Identifier: Apache-2.0 */
/*
 * lists.h - the lists that qtcfg knows, and what differs between them
 */
#ifndef LISTS_H
#define LISTS_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "listfile.h"
#include "status.h"

struct list {
	const char *name;
	const char *file;	 /* below the configuration directory */
	mode_t mode;		 /* of a new file */
	mode_t forbidden;	 /* mode bits that the daemon refuses */
	const char *runtime_dir; /* where its daemon is found */
	bool several;		 /* a path may stand on several lines, with different options */

	/* listfile_read(), or listfile_read_all() where the daemon reads drop-ins. */
	int (*read)(struct listfile *entries, const char *file, mode_t forbidden, char *err);
	/* The form in which two of its paths are compared, in @out of PATH_MAX bytes; or what is
	 * wrong with the path, in @err of LISTFILE_ERROR_MAX bytes. */
	enum status (*normalise)(const char *path, char *out, char *err);
	/* Would the daemon take these entries? 0, or negative and @err. */
	int (*check)(const struct listfile *entries, char *err);
	/* Have the daemon follow; as notify.h says. */
	int (*notify)(const char *runtime_dir, char *reason);
};

extern const struct list lists[];
extern const size_t n_lists;

/** list_find() - the list called @name, or NULL */
const struct list *list_find(const char *name);

#endif
