/* SPDX-License-Identifier: Apache-2.0 */
/*
 * edit.h - change a file so that nobody ever sees half of it and no change is lost
 *
 * How it works: the directory is locked (flock(2), so no lock file is left behind); the file is
 * read under the lock; the new text goes to a temporary file beside it, with the owner and mode
 * of the old one, and is synced; the temporary file takes the name (rename(2)); the directory is
 * synced; the lock goes with its descriptor.
 */
#ifndef EDIT_H
#define EDIT_H

#include <sys/types.h>

/* Another qtcfg's edit takes milliseconds; a lock held for so long is held by something else. */
#define EDIT_LOCK_SECONDS 10

struct edit {
	int dir; /* owned: the locked directory */
	char *dir_name;
	char *file;
};

#define EDIT_NULL                                                                                  \
	{                                                                                          \
		.dir = -1                                                                          \
	}

/**
 * edit_begin() - lock the directory of @file for this process
 * @err		LISTFILE_ERROR_MAX bytes: on failure a sentence
 * Return: 0, or a negative errno. The directory is made (mode 0755) when only it is missing.
 */
int edit_begin(struct edit *edit, const char *file, char *err);

/**
 * edit_save() - replace the file's text
 * @mode	of a file that does not exist yet
 * Return: 0, or a negative errno, with the file as it was and a sentence in @err.
 */
int edit_save(const struct edit *edit, const char *text, size_t size, mode_t mode, char *err);

/** edit_end() - unlock; fine after a failed edit_begin(), too */
void edit_end(struct edit *edit);

#endif
