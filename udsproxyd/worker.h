/* SPDX-License-Identifier: Apache-2.0 */
/*
 * worker.h - a thread with its event loop, and what all of them share
 *
 * A connection lives on one worker from its first event to its last; nothing of it is
 * touched from elsewhere but by worker_post(). What is shared between workers is in struct
 * daemon and in the channel table (channel.h), each with its lock.
 *
 * Handlers only mark what has ended (worker_bury()); it is freed when the turn is over, so
 * nothing that a handler still holds can vanish under it.
 */
#ifndef WORKER_H
#define WORKER_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>
#include <sys/socket.h>

#include "config.h"
#include "events.h"
#include "frame.h"
#include "splice.h"
#include "stream.h"
#include "wire.h"

struct alias;
struct dgram;
struct rules;
struct channel_table;
struct link;
struct expected;
struct worker;
struct session;
struct transport;
struct client;
struct held;
struct watch;

struct daemon {
	struct config config;
	struct frame_id instance; /* of this run of this daemon */
	struct ucred self;	  /* its process and real ids, which stay */
	struct worker *workers;
	struct channel_table *channels;
	struct accepted *accepted; /* sessions that the peer dialled, by their ids: accepted.h */
	struct link *link;	   /* worker 0's */
	struct stream_budget budget;

	pthread_mutex_t rules_lock;
	struct rules *connect_rules; /* what local clients may reach on the peer */
	struct rules *accept_rules;  /* what the peer's clients may reach here */

	atomic_bool peer_alive; /* the control link's opinion */
	int null_fd;		/* /dev/null */
	atomic_uint splices;	/* pipes: splice.h */
	atomic_uint announced;	/* channels that wait for an answer, and */
	unsigned announced_max; /* how many may: announced.h */
	int requests_fd;	/* listening sockets that every worker accepts on */
	int transports_fd;
};

/* Something to be freed when the current turn is over. */
struct grave {
	SLIST_ENTRY(grave) next;
	void (*free)(struct grave *);
};

struct post;

struct worker {
	struct daemon *daemon;
	struct events events;
	bool stopped;
	pthread_t thread;
	int number;

	SLIST_HEAD(, grave) graves;

	pthread_mutex_t posts_lock;
	STAILQ_HEAD(, post) posts;
	struct io posts_io; /* of an eventfd */

	LIST_HEAD(, session) sessions;
	atomic_uint n_sessions; /* and clients that were given to it */
	LIST_HEAD(, expected) expected; /* channels without a session: channel.c */
	LIST_HEAD(, session) waiting; /* for a pipe to deliver what an ORDER names */
	LIST_HEAD(, transport) transports;
	LIST_HEAD(, client) clients;
	LIST_HEAD(, alias) aliases; /* the one used last comes first */
	LIST_HEAD(, dgram) dgrams;  /* of sessions */
	struct timer dgrams_timer;  /* dgram.c */
	unsigned dgrams_ms, dgrams_least_ms;
	LIST_HEAD(, watch) watches;
	LIST_HEAD(, transport) idle; /* dialled ones that may carry the next connection */
	TAILQ_HEAD(turns, held) turns[2]; /* clients', and others', that wait to dial, the next one first: hold.h */
	unsigned turn;			  /* whose it is */
	struct timer turns_timer;
	unsigned n_dialling; /* transports that were dialled for sessions, and not greeted yet */
	unsigned n_idle;
	unsigned least_idle; /* since the pool was last trimmed */
	struct timer tidy_timer;
	LIST_HEAD(, session) owing; /* acks of what was delivered */
	struct timer owing_timer;
	struct splices splices;
	struct stream_pool pool;

	size_t behind; /* bytes that were read with the frame that is handed out, and follow it */

	/* Where an event's bytes pass through, towards the transport (where they are not read to where
	 * they are kept) and from it; what is left of them after the event is in a fifo. */
	uint8_t outbound[STREAM_READ_MAX];
	uint8_t inbound[WIRE_HEADER + WIRE_PAYLOAD_MAX];
};

/** workers_init() - as many as the config says, not running yet; exits on failure */
void workers_init(struct daemon *d);
/** worker_run() - the loop; returns after worker_stop() */
void worker_run(struct worker *w);
/** workers_stop() - make every worker's loop end soon; from any thread */
void workers_stop(struct daemon *d);
/** workers_free() - after their loops have ended */
void workers_free(struct daemon *d);
/** worker_post() - call @fn(@w, @arg) on @w's thread, soon; @fn owns @arg. From any thread.
 * Return: 0 or -ENOMEM. */
int worker_post(struct worker *w, void (*fn)(struct worker *w, void *arg), void *arg);
/** worker_hint() - the `count` of an OPEN that @w sends (PROTOCOL.md 5.3): how many workers, and which */
uint16_t worker_hint(const struct worker *w);
/** worker_beside() - the worker of @w's daemon that is to have what came to @w with this hint; @w itself when it may be any */
struct worker *worker_beside(struct worker *w, uint16_t hint);
/** worker_less_busy() - whoever of its daemon's has noticeably fewer connections than @w, or @w */
struct worker *worker_less_busy(struct worker *w);
/** worker_peer_is_alive() - in the control link's opinion, which is up to WIRE_DEAD_SECONDS old */
static inline bool worker_peer_is_alive(const struct worker *w)
{
	return atomic_load(&w->daemon->peer_alive);
}
/** worker_bury() - call @free_it(@g) when the current turn is over. @g may lie where the entry of a list was that its owner
 * has left: so nobody may keep an element as the next one while something is called that may end it. */
void worker_bury(struct worker *w, struct grave *g, void (*free_it)(struct grave *g));
/** worker_random_id() - 128 random bits */
void worker_random_id(struct frame_id *id);

#endif
