/* SPDX-License-Identifier: Apache-2.0 */
/*
 * session.h - one proxied connection: a local descriptor, a transport, and the pure state between
 *
 * A session outlives its transport: when that breaks, it is held (hold.h) until it goes on over another.
 *
 * A session carries a local client's connection (it dialled), a connection to a local server
 * (it was dialled), or a descriptor that was passed over another session (a channel), on
 * either side. All are the same once they run.
 */
#ifndef SESSION_H
#define SESSION_H

#include "conn.h"
#include "fdpass.h"
#include "stream.h"
#include "transport.h"

struct announcement;
struct bulk;
struct channel;
struct client;
struct dgram;
struct feeding;
struct held;
struct passed;
struct splice;

enum session_state {
	SESSION_OPENING,    /* we sent OPEN; OPENED has not come */
	SESSION_OFFERED,    /* the far side is connected; our client is being */
	SESSION_CONNECTING, /* the local server's backlog is full: trying again */
	SESSION_PARKED,	    /* an OPEN came for a descriptor that is still under way */
	SESSION_RUNNING,
	SESSION_ENDED,
	SESSION_STATES
};

enum session_local {
	SESSION_STREAM, /* a byte stream with descriptors and half-close */
	SESSION_PACKET, /* one frame is one message */
	SESSION_DATAGRAM, /* the same, but no half-close, and no event tells that the other end is closed (`dgram`) */
	SESSION_PIPE,	/* bytes, one way */
};

/** session_local_of() - what a local end of this enum wire_socktype is */
static inline enum session_local session_local_of(uint8_t socktype)
{
	switch (socktype) {
	case WIRE_STREAM:
		return SESSION_STREAM;
	case WIRE_DGRAM:
		return SESSION_DATAGRAM;
	}
	return SESSION_PACKET;
}

struct session {
	union {
		LIST_ENTRY(session) entry;
		struct grave grave;
	};
	LIST_ENTRY(session) waiting_entry;
	LIST_ENTRY(session) owing_entry;
	struct worker *worker;
	struct transport *transport; /* NULL: it is broken, and the session is held */
	struct stream_out out;
	struct stream_in in;
	struct frame_id id;
	struct io io;	    /* of the local end, once it runs */
	struct timer timer; /* of OPENING and CONNECTING; of patience; and of a byte that stays */

	int fd; /* the local end, -1 before and after; a channel's fd belongs to the channel too */
	struct conn conn;
	struct ucred credentials;
	enum session_state state : 8;
	enum session_local local : 8;
	uint16_t seen; /* of a pipe: passes known of when what is said of it next was found; of a socket: is it closed? */
	uint16_t n_announced;
	uint16_t open_size;
	uint8_t connect_tries;
	bool readable : 1;
	bool writable : 1;
	bool unsure : 1;   /* a short read need not be the last: EVENTS_LAST */
	bool primed : 1;   /* the byte at the head of what fd reads is done with: see session_adopt() */
	bool sticky : 1;   /* a stream that stays so */
	bool gone : 1;     /* the other end of a datagram socket is closed */
	bool dialled : 1;  /* by us */
	bool resuming : 1; /* RESUME was sent, RESUMED has not come */
	bool end_sent : 1; /* END, on this transport */
	bool owing : 1;    /* an ack, which a timer will send */
	bool large : 1;    /* what was read last filled its room */
	bool waiting : 1;  /* for pipes: an ORDER is not fulfilled yet */
	bool explicit : 1; /* messages carry `credentials` */
	bool wide : 1;	   /* fd has a larger buffer, and counts among those that do */
	bool patient : 1;  /* for a pipe: a pass that is under way is waited for */
	bool closed_there : 1; /* SHUT and STOP tell of a close; whoever has fd, too, goes on with it */
	bool forsaken : 1; /* its descriptor's message has perhaps been lost: the answer to OPEN is not waited for long */
	bool retried : 1;  /* OPEN was sent a second time for a client, on a fresh transport */
	uint8_t *open_payload; /* the OPEN that was sent, until OPENED; of a dialled session */
	struct fdmap_files *files; /* that the MSG at hand names, being opened or open */
	struct connecting *connecting; /* a slow file system is asked for the server's name */
	struct fdset *arriving; /* descriptors of the MSG at hand, until its first byte is sent */
	struct feeding *feeding; /* what its last message copies is being read: fd waits */
	struct held *held;     /* while it has no transport, or none that carries it yet */
	struct splice *splice; /* bytes on their way past us, to the local end */
	struct bulk *bulk;     /* and from it */

	struct dgram *dgram;	 /* what datagrams need, or NULL */
	struct client *client;	 /* OPENING, OFFERED, and for the whole of a single datagram: who asked */
	struct channel *channel; /* the passed descriptor that this is */
	struct passed *passed;	 /* pipes that were passed over this session and are read here */
	LIST_HEAD(, announcement) announced; /* channels begun by its messages, not answered yet: announced.h */
};

/* ---- beginning ---- */

/** session_open() - dial: send OPEN @o
 * @local	what `fd` will be
 * @client	who asked and is told the outcome, or NULL
 * @channel	whose descriptor it carries (a reference is taken), or NULL
 * @fd		the local end, taken also on failure, -1 when it comes later; @channel's own when
 *		there is one
 * Return: the session, which ends by itself; NULL and nothing happened. */
struct session *session_open(struct worker *w, const struct frame_open *o, enum session_local local,
			     struct client *client, struct channel *channel, int fd);
/** session_client_connected() - the client's socket is connected to @fd, taken; perhaps some time after
 * client_offer() */
void session_client_connected(struct session *s, int fd);
/** session_send_once() - send this datagram for the client, and nothing else; @set stays the caller's */
void session_send_once(struct session *s, uint8_t *data, size_t len, struct fdset *set);
/** session_client_gone() - the client left before that */
void session_client_gone(struct session *s);
/** session_accept() - an OPEN came in on @t: a new connection, or one whose OPENED was lost with its
 * transport; 0, or a negative errno for a violation */
int session_accept(struct transport *t, const struct frame_header *h, const uint8_t *payload);
/** session_resume() - a RESUME came in on @t; 0, or a negative errno for a violation */
int session_resume(struct transport *t, const struct frame_header *h, const uint8_t *payload);
/** session_adopt() - give a parked session its local end @fd (taken)
 * @primed	fd is one end of a socketpair whose other end wrote one byte: left unread until
 *		there is more, so that a close with the byte unread shows as ECONNRESET over
 *		there (unix(7)): how a lost link differs from an end. Of a stream the last byte
 *		that was forwarded takes its place; packets have the first one only. */
void session_adopt(struct session *s, int fd, enum session_local local, bool primed);
/** session_revive() - its pipe, which perhaps nobody here had any more, was passed again */
void session_revive(struct session *s);

/* ---- running ---- */

/** session_pump() - move what can be moved, for a while; the session may have ended after it */
void session_pump(struct session *s);
/** session_kick_waiting() - try those of this worker that wait for pipes again */
void session_kick_waiting(struct worker *w);
/** sessions_tidy() - look for datagram sockets whose other end is closed; every few seconds */
void sessions_tidy(struct worker *w);
/** session_other_end_closed() - of a datagram socket: what it had sent is read, and then it is the end */
void session_other_end_closed(struct session *s);
/** session_abort() - end it, telling the peer @error and why */
void session_abort(struct session *s, int error, const char *why);
/** session_pass() - remember that @channel, which is read here, was passed over @s */
int session_pass(struct session *s, struct channel *channel);

/** session_pay_acks() - those that are owed since the last call, by those of this worker */
void session_pay_acks(struct worker *w);

/* ---- when transports break ---- */

/** session_lost() - it ends, and its transport, and cannot tell the peer */
void session_lost(struct session *s, int error, const char *why);
/** session_dialled_again() - it was given a fresh transport by us: ask the peer to go on */
void session_dialled_again(struct session *s);
/** sessions_redial() - the peer can be reached again: whoever is held dials at once */
void sessions_redial(struct worker *w);
/** sessions_peer_gone() - that run of the peer, or any (NULL), is over: so is what is held of it */
void sessions_peer_gone(struct worker *w, const struct frame_id *instance);

/* ---- from transport.c ---- */

void session_transport_broken(struct session *s, int error, const char *why);
/** session_greeted() - the peer has taken its transport */
void session_greeted(struct session *s);
/** session_may_send() - what counted frames there are to send on its transport; NULL: not yet */
struct stream_out *session_may_send(struct session *s);
/** session_ends_soon() - END follows what there is to send */
bool session_ends_soon(const struct session *s);
/** session_has_more() - may what is sent now wait for company? The kernel lets it go after some 0.2 s (tcp(7): TCP_CORK) */
bool session_has_more(const struct session *s);
/** session_send_outside() - send to @to what the stream has to be sent next of outside, as it says. Return: bytes, or a
 * negative errno. */
ssize_t session_send_outside(struct session *s, int to);
/** session_walks() - is what comes on its transport its stream yet? */
bool session_walks(const struct session *s);
/** session_needs_ack() - must acks be found, for more to be sent? */
bool session_needs_ack(const struct session *s);
/** session_passes_on() - is this type of frame passed on before it is complete? */
bool session_passes_on(const struct session *s, uint8_t type);
/** session_data_begins(), session_data() - such a frame's header, and bytes of it. Return: bytes
 * done with, 0 when none can be taken now, or a negative errno. */
ssize_t session_data_begins(struct session *s);
ssize_t session_data(struct session *s, const void *data, size_t len);
/** session_can_splice(), session_splice() - the same for @len bytes that are still in the kernel, read from @from.
 * Return: bytes taken from there; 0 end of file; -EAGAIN none there; -EBUSY none can be taken now. */
bool session_can_splice(struct session *s, size_t len);
ssize_t session_splice(struct session *s, int from, size_t len);
/** session_drain() - pass on what was spliced and is not with the local end yet; false: not all */
bool session_drain(struct session *s);
/** session_frame() - any other frame; behind @payload are the worker's `behind` bytes of what follows.
 * Return: bytes that are done with (less than all of it: the rest is data to be passed on; more: what follows is, too), 0 to
 * be given it again later, or a negative errno. */
ssize_t session_frame(struct session *s, const struct frame_header *h, const uint8_t *payload);

#endif
