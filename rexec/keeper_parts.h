/* SPDX-License-Identifier: Apache-2.0 */
/*
 * keeper_parts.h - what the files of a keeper share; keeper.h is for everybody else
 *
 *	keeper.c	what it consists of: making ready, starting, the program's end, the loop
 *	keeper_client.c	its client: frames, the life line, what is told
 *	keeper_door.c	visitors on its own socket
 */
#ifndef KEEPER_PARTS_H
#define KEEPER_PARTS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "admit.h"
#include "keeper.h"
#include "loop.h"
#include "offsets.h"
#include "outputs.h"
#include "pty.h"
#include "request.h"
#include "sessiondir.h"

struct keeper {
	const struct keeper_setup *setup;
	struct loop loop;
	struct admission admission;
	struct sessiondir dir;
	struct outputs outputs;
	struct pty pty;
	struct offsets offsets;
	int signals; /* signalfd */
	int door;    /* ID.keeper */
	unsigned visitors;
	struct loop_io signals_io, door_io;

	/* the client */
	int conn, life; /* -1: nobody is attached */
	int peer;	/* pidfd of who is at the other end, -1 unknown */
	bool keep, detached, proxied, confirmed;
	struct loop_io conn_io, life_io;
	struct loop_timer peer_timer, life_timer;
	struct frame_in in;

	/* the program */
	pid_t pid;
	uint64_t file;	  /* another number for another file of the program */
	uint64_t started; /* loop_now() */
	int status;
	bool exited;	/* it ended */
	bool survivors; /* and left something running */
	bool gone;	/* nothing of it is left */
	bool told_exited, told_gone, acknowledged;
	bool ending, abandoned; /* being ended; nobody waits for the outcome */
	bool forget; /* nobody is to be told of the outcome later: only who is the client then */
	bool timed_out;
	bool over;
	struct loop_timer killing, holding, timeout;
};

/* ---- keeper.c ---- */

/** keeper_end_program() - SIGTERM to all of it, SIGKILL to what is left some time later */
void keeper_end_program(struct keeper *k);

/* ---- keeper_client.c ---- */

/** keeper_attach() - @conn and @life are taken: who holds them is the client from now on */
void keeper_attach(struct keeper *k, int conn, int life, bool proxied);
/** keeper_hang_up() - there is no client any more. @lost: the link was, so that nobody has what is under way */
void keeper_hang_up(struct keeper *k, bool lost);
/** keeper_client_gone() - it has ended, and the program with it unless that is detached */
void keeper_client_gone(struct keeper *k);
/** keeper_tell_started(), ..._exited(), ..._gone() - to the client, if there is one */
void keeper_tell_started(const struct keeper *k);
void keeper_tell_exited(const struct keeper *k);
void keeper_tell_gone(const struct keeper *k);
/** keeper_tell_taken() - to the client, if there is one, that it is it no more */
void keeper_tell_taken(const struct keeper *k);
/** keeper_status() - of a program that has ended: its exit status, or the canonical signal that killed it */
uint8_t keeper_status(const struct keeper *k);
/** keeper_send() - the few frames that a connection ever gets fit its buffer; one that cannot be sent
 * is noticed by reading */
void keeper_send(int fd, struct frame_out *f);
/** keeper_signal() - to the program (with @group to its process group), or to what it left behind */
void keeper_signal(struct keeper *k, int signo, bool group);

/* ---- keeper_door.c ---- */

/** keeper_on_door() - somebody visits; a loop_io's callback */
void keeper_on_door(void *arg, short revents);

#endif
