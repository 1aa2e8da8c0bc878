/* SPDX-License-Identifier: Apache-2.0 */
/*
 * listfile.h - the one grammar of all lists: udsconnect, udsaccept, rexec's whitelist
 *
 *	# a comment: `#` where a word could begin, to the end of the line
 *	/var/lib/libvirt/
 *	/run/rexec	uid=0,libvirt-qemu creds=no
 *	/srv/two\040words
 *
 * A line is an entry: a path (or name), then options `key=value`, separated by blanks or
 * tabs. A byte that would end a word is written as a backslash and three octal digits (blank
 * \040, newline \012, `#` \043, the backslash itself \134), in paths and in values alike.
 * Control characters are refused, so that a file with DOS line ends cannot go unnoticed.
 * What a path or an option means is the reader's business; an option may be repeated.
 *
 * FILE may have drop-ins: FILE.d/NAME, read after FILE in the order of their names.
 */
#ifndef LISTFILE_H
#define LISTFILE_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#define LISTFILE_SIZE_MAX 1048576 /* bytes of a file */
#define LISTFILE_ERROR_MAX 512	  /* room for an error sentence and its terminator */

/* Mode bits that a file must not have. */
#define LISTFILE_MODE_TRUSTED 0022 /* only its owner may write it */
#define LISTFILE_MODE_0400 07377   /* 0400, nothing else */

struct listfile_option {
	const char *key;   /* never empty */
	const char *value; /* may be empty */
};

struct listfile_entry {
	const char *path; /* decoded, never empty */
	const char *file; /* where it stands */
	unsigned line;	  /* from 1 */
	size_t n_options;
	struct listfile_option options[];
};

/* Zero-initialise; listfile_free() is right at any time. Entries stay where they are while the
 * list grows. */
struct listfile {
	struct listfile_entry **entries;
	size_t n;
	bool missing; /* FILE does not exist (its drop-ins may) */
};

/**
 * listfile_parse() - append the entries of a text; pure
 * @file	its name, for messages and entries (copied)
 * @text	@size bytes, need not be terminated
 * @err		LISTFILE_ERROR_MAX bytes: on failure a sentence that names file, line and remedy
 *
 * Return: 0; -EINVAL malformed (what came before the bad line is in @list); -ENOMEM.
 */
int listfile_parse(struct listfile *list, const char *file, const char *text, size_t size,
		   char *err);

/**
 * listfile_parse_each() - the same, to the end: @tell is told of each bad line, as FILE:LINE: what
 * is wrong, and the others are in @list
 */
int listfile_parse_each(struct listfile *list, const char *file, const char *text, size_t size,
			void (*tell)(void *arg, const char *sentence), void *arg);

/**
 * listfile_load() - the text of a file that can be trusted
 *
 * The descriptor that is read is the one that is checked: a regular file, not a symbolic link,
 * owned by root or by our effective uid, without any of the mode bits @forbidden, at most
 * LISTFILE_SIZE_MAX bytes.
 *
 * @text, @size	terminated beyond its size; the caller frees *@text
 * Return: 0, or a negative errno with a sentence in @err; -ENOENT: there is no such file.
 */
int listfile_load(const char *file, mode_t forbidden, char **text, size_t *size, char *err);

/**
 * listfile_read() - append the entries of @file, checked as listfile_load() says
 *
 * A file that does not exist is no error: @list gets `missing` and no entries.
 * Return: 0, or a negative errno with a sentence in @err.
 */
int listfile_read(struct listfile *list, const char *file, mode_t forbidden, char *err);

/**
 * listfile_read_all() - the same for @file and its drop-ins
 *
 * In @file.d, names that begin with "." or end with "~" are passed over. The directory is
 * checked like a file, for LISTFILE_MODE_TRUSTED. Its absence means no drop-ins.
 */
int listfile_read_all(struct listfile *list, const char *file, mode_t forbidden, char *err);

/** listfile_free() - free the entries and empty @list */
void listfile_free(struct listfile *list);

/** listfile_option() - the value of the first option @key of @entry, NULL when it has none */
const char *listfile_option(const struct listfile_entry *entry, const char *key);

/** listfile_escape() - @word as it is written in a file; the caller frees it. NULL: no memory. */
char *listfile_escape(const char *word);

#endif
