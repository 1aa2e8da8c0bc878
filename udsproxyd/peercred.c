/* SPDX-License-Identifier: Apache-2.0 */
#include "peercred.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

int peercred_get(int fd, struct frame_credentials *to)
{
	struct ucred who;
	gid_t groups[WIRE_GROUPS_MAX];
	socklen_t len = sizeof(who);

	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &len))
		return -errno;
	to->uid = who.uid;
	to->gid = who.gid;
	to->n_groups = 0;
	len = sizeof(groups);
	if (!getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, groups, &len)) {
		to->n_groups = (uint16_t)(len / sizeof(gid_t));
		memcpy(to->groups, groups, len);
	}
	return 0;
}
