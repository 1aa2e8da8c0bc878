/* SPDX-License-Identifier: Apache-2.0 */
/*
 * argv.h - what QEMU's arguments mean to two machines
 *
 * Most arguments mean the same on the HOST. Those that name something of this machine are
 * rewritten to a name in the session's private directory there ("@DIR@/..."), and the plan
 * says what the name stands for:
 *
 *	-qmp unix:PATH,server ...	QEMU listens there; so do we at PATH, and carry
 *	-chardev socket,path=PATH,server, -vnc unix:PATH ...
 *	-pidfile P			QEMU's pid goes there; ours into P
 *	-object secret,file=F ...	a copy of F is handed over
 *
 * and which of the listening sockets speak QMP: -mon chardev=ID,mode=control and -qmp. Pure.
 */
#ifndef ARGV_H
#define ARGV_H

#include <stdbool.h>
#include <stddef.h>

/* What is spoken on a socket that QEMU listens on. */
enum argv_channel {
	ARGV_MONITOR, /* QMP */
	ARGV_DEVICE,  /* a character device's bytes: serial port, guest agent */
	ARGV_DISPLAY, /* a protocol that begins anew with each connection */
};

/* A socket that QEMU makes, and the path at which this machine looks for it. */
struct argv_socket {
	char *name; /* in @DIR@ */
	char *path;
	enum argv_channel channel;
};

/* A file that QEMU reads. */
struct argv_file {
	char *name;
	char *path;
};

struct argv_plan {
	char **argv; /* rewritten; NULL at the end */
	size_t argc;
	struct argv_socket *sockets;
	size_t n_sockets;
	struct argv_file *files;
	size_t n_files;
	int *monitors; /* inherited listening descriptors that speak QMP */
	size_t n_monitors;
	char *pidfile; /* NULL: none */
	bool daemonize;
};

/**
 * argv_plan() - fill @plan (argv_plan_free()) for @argc arguments @argv, program first
 * @have	is this file here? Only then is it handed over; else the name is HOST's to judge.
 * Return: 0, or -ENOMEM.
 */
int argv_plan(struct argv_plan *plan, int argc, char *const *argv, bool (*have)(const char *path));
/** argv_plan_free() - right at any time after argv_plan(), also when that failed */
void argv_plan_free(struct argv_plan *plan);
/** argv_is_monitor() - does inherited descriptor @fd speak QMP? */
bool argv_is_monitor(const struct argv_plan *plan, int fd);

#endif
