/* SPDX-License-Identifier: Apache-2.0 */
/*
 * notify.h - have a running daemon read its lists again
 *
 * Both return 0 when the daemon follows, or when none runs (it will read the list when it
 * starts); else a negative errno, with a sentence in @reason (NOTIFY_REASON_MAX bytes).
 */
#ifndef NOTIFY_H
#define NOTIFY_H

#define NOTIFY_REASON_MAX 512
#define NOTIFY_SECONDS 5 /* the longest wait for each step of the answer */

/** notify_udsproxyd() - ask on @runtime_dir/control.sock and wait for the answer */
int notify_udsproxyd(const char *runtime_dir, char *reason);

/**
 * notify_rexec_server() - SIGHUP to the process that holds the POSIX lock (fcntl(2)) on
 * @runtime_dir/rexec_server.pid, and wait for that file's second line to say what it made of the
 * list
 */
int notify_rexec_server(const char *runtime_dir, char *reason);

#endif
