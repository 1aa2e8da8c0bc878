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

#include <sys/stat.h>

#include "channel.h"
#include "description.h"
#include "fdpass.h"

struct session;

/* A descriptor here, looked at. */
struct item {
	struct description d;
	struct channel_key key;
	char name[WIRE_PATH_MAX]; /* the description's */
	bool snapshot;		  /* what crosses is how it is now, not what becomes of it */
};

/* A message's descriptors on their way out. */
struct outgoing {
	struct session *session; /* that they came in over */
	struct fdset *set;
	int i;			 /* the one at hand */
	char *reason;		 /* FDMAP_REASON_MAX bytes */
	struct feeding *feeding; /* the copies among them, or NULL */
};

/* A message's descriptors that come in: those that are fetched. */
struct fetching {
	const struct config *config;
	uint64_t left; /* bytes that copies may still have */
	int cancel;    /* an eventfd: the message is not wanted any more; -1: there are no copies */
	bool cancelled; /* the same, see kind_cancel_fetching() */
	bool admitted;
	time_t until; /* when copies have to be there */
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
int kind_look_file(const struct config *c, int fd, struct item *item);
int kind_look_copy(const struct config *c, int fd, const char *kernel_name, const struct statx *st,
		   struct item *item, char *reason);
int kind_look_device(const struct config *c, dev_t rdev, struct item *item, char *reason);
/** kind_look_tap() - of /dev/net/tun; -ENODEV: it is nothing but the device */
int kind_look_tap(const struct config *c, int fd, struct item *item, char *reason);
bool kind_is_tun(dev_t rdev);

/* Passing. Return: the same. */
int kind_pass_channel(struct outgoing *o, struct item *item);
int kind_pass_copy(struct outgoing *o, struct item *item);
/** kind_pass_pipe() - carry the pipe whose read end is @fd (the caller's) to the peer; its channel
 * is @id */
int kind_pass_pipe(struct outgoing *o, int fd, struct frame_id *id);
/** kind_start_feeding() - the message is described: read what it copies. 0, or a negative errno */
int kind_start_feeding(struct session *s, struct feeding *feeding);
/** kind_free_feeding() - instead of that, or NULL */
void kind_free_feeding(struct feeding *feeding);
/** kind_forget_feeding() - @s ends */
void kind_forget_feeding(struct session *s);

/* Making, for @s's local end. Return: a descriptor, or a negative errno; -EPROTO is a violation. */
int kind_make_channel(struct session *s, const struct description *d);
int kind_make_device(struct session *s, const struct description *d);
int kind_make_copy(struct session *s, const struct description *d);
int kind_make_tap(struct session *s, const struct description *d);
/* Fetching, where waiting is allowed (aside.h). @from: what was made of it before, taken; or -1 */
int kind_fetch_file(struct fetching *f, const struct description *d, int from);
int kind_fetch_copy(struct fetching *f, const struct description *d, int from);
/** kind_fetching_init(), kind_fetching_deinit() - @copies: are there any? 0, or a negative errno */
int kind_fetching_init(struct fetching *f, const struct config *c, bool copies);
void kind_fetching_deinit(struct fetching *f);
/** kind_fetched() - everything is, or will not be: others may */
void kind_fetched(struct fetching *f);
/** kind_cancel_fetching() - from another thread: let it end soon */
void kind_cancel_fetching(struct fetching *f);

/** kind_adopt_channel() - the parked session @s is to carry channel @id; -EPROTO: it is carried
 * already */
int kind_adopt_channel(struct session *s, const struct frame_id *id);

#endif
