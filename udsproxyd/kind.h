/* SPDX-License-Identifier: Apache-2.0 */
/*
 * kind.h - the kinds of descriptors that cross: for each a row in fdmap.c's table, with functions
 * of a file kind_*.c
 *
 * Look here: what is it? Pass it from here: complete its description, and take over what is still
 * needed of it. Make it there.
 */
#ifndef KIND_H
#define KIND_H

#include "channel.h"
#include "description.h"
#include "fdpass.h"

struct session;

/* A descriptor here, looked at. */
struct item {
	struct description d;
	struct channel_key key;
	char name[WIRE_PATH_MAX]; /* the description's */
};

/* A message's descriptors on their way out. */
struct outgoing {
	struct session *session; /* that they came in over */
	struct fdset *set;
	int i;	      /* the one at hand */
	char *reason; /* FDMAP_REASON_MAX bytes */
};

/** kind_refuse() - say why a descriptor does not cross; Return: -EOPNOTSUPP */
int kind_refuse(char *reason, const char *what);
/** kind_set_name() - give @item a name, which fits */
void kind_set_name(struct item *item, const char *name);
/** kind_name_string() - @d's name, terminated: at most WIRE_PATH_MAX bytes at @name */
void kind_name_string(const struct description *d, char *name);

/* Looking. Return: 0, or a negative errno with @reason. */
int kind_look_socket(int fd, struct item *item, char *reason);
int kind_look_pipe(int flags, struct item *item, char *reason);
int kind_look_file(const struct config *c, int fd, struct item *item, char *reason);
int kind_look_device(const struct config *c, dev_t rdev, struct item *item, char *reason);

/* Passing. Return: the same. */
int kind_pass_channel(const struct outgoing *o, struct item *item);

/* Making, for @s's local end. Return: a descriptor, or a negative errno; -EPROTO is a violation.
 * kind_fetch_*: where waiting for a file system is allowed (aside.h). */
int kind_make_channel(struct session *s, const struct description *d);
int kind_make_device(struct session *s, const struct description *d);
int kind_fetch_file(const struct config *c, const struct description *d);

/** kind_adopt_channel() - the parked session @s is to carry channel @id; -EPROTO: it is carried
 * already */
int kind_adopt_channel(struct session *s, const struct frame_id *id);

#endif
