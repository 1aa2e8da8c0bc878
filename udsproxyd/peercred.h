/* SPDX-License-Identifier: Apache-2.0 */
/* peercred.h - who is at the other end of a UNIX socket (unix(7): SO_PEERCRED, SO_PEERGROUPS) */
#ifndef PEERCRED_H
#define PEERCRED_H

#include "frame.h"

/** peercred_get() - uid, gid and groups of who connected @fd; 0 or a negative errno. Groups that
 * cannot be told, or are more than WIRE_GROUPS_MAX, are left out: less power, not more. */
int peercred_get(int fd, struct frame_credentials *to);

#endif
