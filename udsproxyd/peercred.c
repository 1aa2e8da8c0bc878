/* SPDX-License-Identifier: Apache-2.0 */
#include "peercred.h"

#include <string.h>
#include <sys/socket.h>

#include "fdpass.h"

int peercred_get(int fd, struct frame_credentials *to)
{
	struct ucred who;
	gid_t groups[WIRE_GROUPS_MAX];
	socklen_t len = sizeof(groups);
	int err = fd_peer(fd, &who);

	if (err)
		return err;
	to->uid = who.uid;
	to->gid = who.gid;
	to->n_groups = 0;
	if (!getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, groups, &len)) {
		to->n_groups = (uint16_t)(len / sizeof(gid_t));
		memcpy(to->groups, groups, len);
	}
	return 0;
}
