/* SPDX-License-Identifier: Apache-2.0 */
/*
 * talk.h - a conversation in QMP between libvirt and QEMU that outlives its connection
 *
 * libvirt takes the end of its monitor connection for the end of QEMU. So the connection to
 * QEMU may break and be made anew without libvirt seeing it: see talk.c.
 *
 * Pure: bytes and events in, bytes out; no I/O, no clock. "Client" is libvirt, "remote" QEMU.
 */
#ifndef TALK_H
#define TALK_H

#include "fifo.h"
#include "qmp.h"

#define TALK_COMMANDS_MAX 64 /* commands in flight and waiting; more are not read */

enum talk_remote {
	TALK_DOWN,     /* no connection to QEMU */
	TALK_GREETING, /* connected; QEMU speaks first */
	TALK_REPLAY,   /* our qmp_capabilities is on its way */
	TALK_READY,
};

/* One command: of the client, or of ours. */
struct talk_command {
	struct talk_command *next;
	char *text;
	size_t len, sent;
	char *id;	 /* JSON, NULL when it has none */
	bool ours;	 /* the answer is not the client's */
	bool again;	 /* running it twice does no harm */
	bool negotiates; /* qmp_capabilities */
	void *cargo;	 /* the descriptors that came with it */
};

struct talk_queue {
	struct talk_command *first, **last;
	size_t n;
};

struct talk {
	void (*cargo_free)(void *cargo);
	struct qmp_reader from_client, from_remote;
	struct fifo to_client; /* write these bytes to the client */
	struct talk_queue waiting, flying;
	void *cargo;   /* of the command that is being read */
	char *refusal; /* why the command that is being read is not to be sent */
	enum talk_remote remote;
	bool greeted;	  /* the client has had a greeting */
	char *negotiated; /* the qmp_capabilities that the client succeeded with */
};

/** talk_init() - for one client; @names as in qmp.h; @cargo_free frees what talk_from_client() was
 * given when it is not sent */
void talk_init(struct talk *t, const struct qmp_names *names, void (*cargo_free)(void *cargo));
/** talk_clear() - the client is gone */
void talk_clear(struct talk *t);

/** talk_wants_client() - may the client's bytes be read now? */
bool talk_wants_client(const struct talk *t);
/** talk_from_client() - @cargo (taken; may be NULL) came with the first of these bytes.
 * Return: 0, or a negative errno: the client speaks no QMP, hang up */
int talk_from_client(struct talk *t, const char *data, size_t len, void *cargo);
/** talk_refuse() - the command that begins with, or goes on in, the next bytes of the client is
 * answered with an error that says @why; QEMU never sees it */
void talk_refuse(struct talk *t, const char *why);

/** talk_remote_up() - connected to QEMU */
void talk_remote_up(struct talk *t);
/** talk_remote_down() - the connection to QEMU broke; connect anew and call talk_remote_up() */
void talk_remote_down(struct talk *t);
/** talk_from_remote() - Return: 0, or a negative errno: hang up and call talk_remote_down() */
int talk_from_remote(struct talk *t, const char *data, size_t len);

/** talk_next() - the command whose bytes from `sent` on are to be written to QEMU, its cargo with
 * the first; NULL: none now */
const struct talk_command *talk_next(const struct talk *t);
/** talk_sent() - @n more of its bytes were written */
void talk_sent(struct talk *t, size_t n);

#endif
