/* SPDX-License-Identifier: Apache-2.0 */
/*
 * roster.h - what runs here, for a client that asks
 *
 * The server has no state: every keeper is asked.
 */
#ifndef ROSTER_H
#define ROSTER_H

/** roster_serve() - answer the LIST that was received on @conn (borrowed): a PROGRAM for each of the client's own programs,
 * all of them for root, then RESULT. @sessions is RUNTIME/sessions. Waits, but
 * for no keeper longer than a moment. */
void roster_serve(int conn, int sessions);

#endif
