/* SPDX-License-Identifier: Apache-2.0 */
/* daemon.h - the lists in force, asked by every worker */
#ifndef DAEMON_H
#define DAEMON_H

#include "worker.h"

/** daemon_load_rules() - read udsconnect and udsaccept; on failure the old ones stay and @reason
 * says why. Return: 0 or a negative errno. */
int daemon_load_rules(struct daemon *d, char *reason, size_t size);
/** daemon_free_rules() - at the end */
void daemon_free_rules(struct daemon *d);
/** daemon_may_connect() - may this local client reach the peer's socket @name? */
bool daemon_may_connect(struct daemon *d, const char *name, size_t len,
			const struct frame_credentials *who);
/** daemon_may_accept() - may the peer's client @who (ids mapped) reach our socket @name?
 * @root, @rest	RULES_NAME_SIZE bytes each: the rule's root, and what lies below it
 * @creds	does the rule want the client's credentials with each message? */
bool daemon_may_accept(struct daemon *d, const char *name, size_t len,
		       const struct frame_credentials *who, char *root, char *rest, bool *creds);

#endif
