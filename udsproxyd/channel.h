/* SPDX-License-Identifier: Apache-2.0 */
/*
 * channel.h - descriptors that crossed, and the order between them and messages
 *
 * A channel is a passed pipe, socket or listening socket: the passed descriptor on one side, its
 * counterpart on the other, one 128-bit id. The table is shared by all workers. A channel's
 * bytes are carried by a session of its own (any worker's); a message that names it may be handled
 * on another worker, before or after that session's OPEN.
 *
 * The reading side of a pipe knows at any time how many bytes were written to it: those read so
 * far and those in it (FIONREAD). ORDER carries these counts ahead of a message; the other side
 * holds the message until so many bytes are delivered.
 */
#ifndef CHANNEL_H
#define CHANNEL_H

#include <pthread.h>
#include <stdatomic.h>
#include <sys/types.h>

#include "worker.h"

struct announcement;
struct channel_table;

/* What identifies a descriptor on this machine: its inode and, of a pipe, which end it is. */
struct channel_key {
	dev_t dev;
	ino_t ino;
	uint8_t kind; /* enum wire_descriptor */
};

struct channel {
	struct frame_id id;
	struct channel_key key; /* of a descriptor that was passed to us; else zero */
	uint8_t kind;		/* enum wire_descriptor */
	uint8_t socktype;
	bool ours; /* the original is here */
	atomic_int refs;

	pthread_mutex_t lock; /* for what follows */
	int fd;		      /* our end: a session's, or one that waits for its session */
	int kept;	      /* the read end of a pipe that nobody has here now, or -1 */
	bool primed;	      /* see session_adopt() */

	uint64_t moved;	      /* bytes read from fd, where it is a pipe's read end */
	bool abandoned;	      /* nobody came for it: it is being ended */
	struct session *session;
	struct worker *worker; /* session's */
	struct watch *watch;   /* of a listener: watch.h */
	struct announcement *announcement; /* session's worker's: announced.h */
	bool busy, wide;       /* session's, too: channel_widen() was called, and made it wide */

	atomic_uint_least64_t delivered; /* bytes written to fd, where it is a pipe's write end */
	atomic_uint_least64_t kick;	 /* workers (a bit each) with sessions that wait for more */
	atomic_uint_least16_t passed;	 /* how often, as channel_pass() says it */
	atomic_bool ended;
};

struct channel_table *channels_new(void);
void channels_free(struct channel_table *table);

/** channel_by_id() - a reference to it, or NULL */
struct channel *channel_by_id(struct channel_table *table, const struct frame_id *id);
/** channel_obtain() - the same, but made when it is not there; NULL: out of memory */
struct channel *channel_obtain(struct channel_table *table, const struct frame_id *id, uint8_t kind);
/**
 * channel_pass() - the channel of a descriptor here that is passed (once more)
 * @start	called for a new one, with no other pass going on; what it returns but 0 is the failure
 * @count	how often it was passed by now, modulo 65536
 * Return: 1, it is a new one, or 0, and a reference in @out; or a negative errno.
 */
int channel_pass(struct channel_table *table, const struct channel_key *key, uint8_t socktype,
		 int (*start)(struct channel *c, void *arg), void *arg, struct channel **out,
		 uint16_t *count);
/** channel_settle() - the peer says that nobody there has the pipe @c any more, knowing of @count
 * passes; false: it was passed again meanwhile. If not, it never will be: the next pass of the
 * pipe makes a new channel. */
bool channel_settle(struct channel_table *table, struct channel *c, uint16_t count);
/** channel_retire() - the pipe @c ended here: the same; Return: how often it was passed in all */
uint16_t channel_retire(struct channel_table *table, struct channel *c);
struct channel *channel_ref(struct channel *c);
void channel_unref(struct channel *c);
/** channel_is_pipe() - rather than a socket? */
bool channel_is_pipe(const struct channel *c);
/** channel_end() - out of the table, its descriptor closed, all who wait for it kicked */
void channel_end(struct channel_table *table, struct channel *c, struct daemon *d);

/** channel_expect() - @c was made here and waits for its session: end it when none comes (PROTOCOL.md
 * 8.1). On worker @w. */
void channel_expect(struct worker *w, struct channel *c);
/** channels_tidy() - end those that have waited too long; every few seconds, on worker @w */
void channels_tidy(struct worker *w);
/** channels_forget() - when @w's loop has ended */
void channels_forget(struct worker *w);

/** channel_reads() - is our end a pipe's read end? */
bool channel_reads(const struct channel *c);
/** channel_reopen() - the pipe that @fd is an end of, opened anew with @flags, which the original does
 * not share; or a negative errno */
int channel_reopen(int fd, int flags);
/** channel_keep() - have, or give up, a read end of the pipe whose write end is ours, so that it can be
 * written to while nobody reads it */
void channel_keep(struct channel *c, bool keep);
/** channel_read() - read(2) from our end and count; Return: bytes, or a negative errno */
ssize_t channel_read(struct channel *c, void *data, size_t len);
/** channel_widen() - its pipe carries much: give it room for more, unless too many have that. With what pipes have at first, 64 KiB, whoever is at
 * the other end would sleep and be woken that often. */
void channel_widen(struct channel *c);
/** channel_splice() - the same with splice_fill() */
ssize_t channel_splice(struct channel *c, struct splice *to, size_t len);
/** channel_position() - bytes ever written to the pipe whose read end is ours */
uint64_t channel_position(struct channel *c);
/** channel_delivered() - @n more bytes were written to our end */
void channel_delivered(struct channel *c, size_t n, struct daemon *d);
/** channel_has_delivered() - were so many? If not, @w is kicked when there are more. */
bool channel_has_delivered(struct channel *c, uint64_t bytes, const struct worker *w);
/** channel_listener_gone() - the peer says that nobody listens on the twin of ours any more */
void channel_listener_gone(struct channel_table *table, const struct frame_id *id);

#endif
