/* SPDX-License-Identifier: Apache-2.0 */
/*
 * session_parts.h - what the files of a session share; session.h is for everybody else
 *
 *	session.c		what it consists of, how it ends, turns
 *	session_begin.c		we dial, or the peer does, until it runs
 *	session_out.c		from the local end to the transport
 *	session_in.c		from the transport to the local end
 *	session_resume.c	its transport breaks, and it goes on over another
 *
 * Where "may end it" is said the session may be over afterwards (SESSION_ENDED), and has no transport then.
 */
#ifndef SESSION_PARTS_H
#define SESSION_PARTS_H

#include "session.h"

/* A pipe's read end here that was passed over a session: what ORDER tells of. */
struct passed {
	struct passed *next;
	struct channel *channel;
	uint64_t told;
};

/* ---- session.c: life ---- */

/** session_new() - a session in @state that @t carries, or one of ours will (NULL); NULL: out of memory */
struct session *session_new(struct worker *w, struct transport *t, const struct frame_id *id,
			    enum session_state state);
/** session_end() - it is over; its transport was released, or is closed by the caller */
void session_end(struct session *s);
void session_set_state(struct session *s, enum session_state state);
/** session_release_transport() - give it back, whatever is still queued on it */
void session_release_transport(struct session *s);
/** session_tell_done() - the datagram that a client had sent, if it is one, was delivered */
void session_tell_done(struct session *s);
/** session_tell_verdict() - the peer has refused or ended it: tell its client, or the log as @what */
void session_tell_verdict(struct session *s, const struct frame_opened *o, const char *what);
/** session_step() - something happened that conn.c decides about; may end it */
void session_step(struct session *s, enum conn_event event);
/** session_steps() - two things happened, and what both lead to is done at once; may end it */
void session_steps(struct session *s, enum conn_event first, enum conn_event second);

/* ---- session.c: the local end ---- */

/** session_attach() - start looking at the local end @fd (taken); may end it */
void session_attach(struct session *s, int fd);
/** session_has_event() - poll(2) for these and errors, now */
bool session_has_event(const struct session *s, short events);
/** session_hung_up() - has everybody at the other end of it gone for good? */
bool session_hung_up(const struct session *s);
/** session_is_source() - is there anything (more) to read from it? */
bool session_is_source(const struct session *s);
/** session_is_sink() - may anything (more) be written to it? */
bool session_is_sink(const struct session *s);
/** session_forget_arriving() - close the descriptors of the MSG at hand that have not gone there */
void session_forget_arriving(struct session *s);

static inline bool session_has_packets(const struct session *s)
{
	return s->local == SESSION_PACKET || s->local == SESSION_DATAGRAM;
}

/* Does the other end of it see a shutdown? */
static inline bool session_is_connection(const struct session *s)
{
	return s->local == SESSION_STREAM || s->local == SESSION_PACKET;
}

/* ---- session.c: passed pipes ---- */

/** session_notice_pass() - before the state of a pipe made here is looked at: if it was passed again, what we said of it
 * before is void. What we say next is said knowing of so many passes, whatever happens meanwhile. */
void session_notice_pass(struct session *s);
/** session_notice_end() - before STOP or SHUT: of a pipe that was passed from here it is said with how many passes the peer has to
 * expect; of a socket made here, whether its holders have closed it, rather than shut it down */
void session_notice_end(struct session *s);
/** session_reader_gone() - nobody reads here any more; may end it */
void session_reader_gone(struct session *s);
/** session_stop_waiting() - for pipes that an ORDER names */
void session_stop_waiting(struct session *s);

/* ---- session.c: what is sent ---- */

/** session_owe_ack() - acks go with other frames, or after a while by themselves */
void session_owe_ack(struct session *s);
/** session_send_counted() - frame a copy; may end it */
void session_send_counted(struct session *s, uint8_t type, uint16_t count, const struct iovec *iov, int n);
/** session_send_end() - END goes when all that counts has gone, and again on a transport that comes after; true when
 * it went now */
bool session_send_end(struct session *s);
/** session_send_opened() - the answer to OPEN, on @t */
void session_send_opened(struct transport *t, int error, const char *reason);

/* ---- the others ---- */

/** session_read_local() - one read of the local end; true when it got anywhere; may end it */
bool session_read_local(struct session *s);
/** session_make_way() - nothing has come for a while: a byte that stays unread must not keep its writer from writing */
void session_make_way(struct session *s);
/** session_end_reader() - before the local end is closed: another's may have a larger buffer now */
void session_end_reader(struct session *s);
/** session_send_open() - OPEN, as it is remembered */
void session_send_open(struct session *s);
/** session_answer_is_late() - the timer of OPENING: wait on, or not; may end it */
void session_answer_is_late(struct session *s);
/** session_forsake() - of a channel in OPENING: its message went with a connection that is lost. If it was delivered, the answer
 * comes soon; if not, never */
void session_forsake(struct session *s);
/** session_attempt_connect() - connect to the server that OPEN names, once more; may end it */
void session_attempt_connect(struct session *s);
/** session_forget_connecting() - an attempt that waits for a file system: nobody waits for it */
void session_forget_connecting(struct session *s);
/** session_accept_again() - the answer to its OPEN was lost with its transport, or will have to come over @t; as
 * session_accept() */
int session_accept_again(struct session *s, struct transport *t);
/** session_opened(), session_resumed() - these frames, as session_frame() */
ssize_t session_opened(struct session *s, const struct frame_header *h, const uint8_t *payload);
ssize_t session_resumed(struct session *s, const struct frame_header *h, const uint8_t *payload);

#endif
