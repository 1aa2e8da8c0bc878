/* SPDX-License-Identifier: Apache-2.0 */
/*
 * standin.h - the process that is QEMU for libvirt: its pid, its monitor, its end
 */
#ifndef STANDIN_H
#define STANDIN_H

#include <signal.h>
#include <stdbool.h>

#include "argv.h"
#include "cross.h"
#include "given.h"
#include "loop.h"
#include "outlet.h"
#include "qmp.h"
#include "session.h"
#include "shadow.h"
#include "terminal.h"

/* Embedded in main()'s frame; its parts know its address. */
struct standin {
	const struct argv_plan *plan;
	struct given *given;
	struct session *session;

	struct loop loop;
	struct crossing crossing;
	struct outlets outlets;
	struct shadows shadows;
	struct terminals terminals;
	struct qmp_names names;

	struct loop_io on_session, on_signal;
	struct loop_timer attach, tick;
	unsigned int attach_ms;
	uint64_t lost_at; /* loop_now() when the link was lost */
	sigset_t signals; /* that are passed on */
	sigset_t unsent;  /* that came while the link was lost */
	int signal_fd;

	bool started;	 /* it certainly is, or was */
	bool leave;	 /* QEMU daemonized: leave a process behind and exit */
	bool in_pidfile; /* our pid is: we unlink the file */
	bool over;	 /* QEMU has ended */
	bool finishing;	 /* and its connections are ending */
	int status;	 /* wait(2)'s; or, without `known`, an exit status of ours */
	bool known;
	uint64_t deadline; /* of what is to be delivered before we leave */
};

/** standin_init() - everything is borrowed. @local: QEMU runs on this machine */
void standin_init(struct standin *s, const struct argv_plan *plan, struct given *given, bool local);

/**
 * standin_run() - be QEMU until it ends
 * @session	taken
 * @first	its first event, which is not SESSION_REFUSED
 * Return: never. Exits with QEMU's status or dies of its signal; of a QEMU that daemonizes, a
 * child goes on to the end of QEMU.
 */
void standin_run(struct standin *s, struct session *session, const struct session_event *first)
	__attribute__((noreturn));

/** standin_fail() - undo what was made at paths and exit with @status */
void standin_fail(struct standin *s, int status) __attribute__((noreturn));

#endif
