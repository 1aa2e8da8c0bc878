/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 *
 * A tap is not carried: an interface of the same name and flags is made (or, if there is one that
 * waits for a program, taken) on the other side, and what it is connected to is that side's
 * business.
 *
 * Making one takes root's rights on behalf of whoever passed it, so both sides have to list the
 * device. And only a tap of our own network namespace is passed: whoever has made one in a
 * namespace of his own may call it as he likes.
 */
#include "kind.h"

#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <linux/if_tun.h>

#include "fdmap.h"
#include "netlink.h"
#include "session.h"
#include "util.h"

#ifndef TUNGETDEVNETNS
#define TUNGETDEVNETNS _IO('T', 227) /* Linux 5.2 */
#endif

#define DEVICE "/dev/net/tun"

_Static_assert(WIRE_TAP_NAME_MAX == IFNAMSIZ - 1, "an interface's name");

static const struct {
	short local;
	uint32_t wire;
} tap_flags[] = {
	{ IFF_TUN, WIRE_TAP_TUN },
	{ IFF_TAP, WIRE_TAP_TAP },
	{ IFF_NO_PI, WIRE_TAP_NO_PI },
	{ IFF_VNET_HDR, WIRE_TAP_VNET_HDR },
	{ IFF_MULTI_QUEUE, WIRE_TAP_MULTI_QUEUE },
};

static bool is_listed(const struct config *c)
{
	bool listed = false;

	for (size_t i = 0; i < c->n_devices; i++)
		listed |= !strcmp(c->devices[i], DEVICE);
	return listed;
}

bool kind_is_tun(dev_t rdev)
{
	return rdev == makedev(10, 200);
}

/* ---- looking ----------------------------------------------------------------------------- */

/* Return: 1, 0, or a negative errno. */
static int is_of_our_network(int fd)
{
	_cleanup_close_ int network = ioctl(fd, TUNGETDEVNETNS);
	struct stat its, ours;

	if (network < 0 || fstat(network, &its) || stat("/proc/self/ns/net", &ours))
		return -errno;
	return its.st_dev == ours.st_dev && its.st_ino == ours.st_ino;
}

int kind_look_tap(const struct config *c, int fd, struct item *item, char *reason)
{
	struct description *d = &item->d;
	struct ifreq ifr = { 0 };
	int header = 0, ours, pi;

	if (ioctl(fd, TUNGETIFF, &ifr))
		return -ENODEV;
	if (!is_listed(c))
		return kind_refuse(reason, "a tap: " DEVICE " is not listed (--device)");
	ours = is_of_our_network(fd);
	if (ours < 0)
		return kind_refuse(reason, "a tap whose network namespace cannot be told");
	if (!ours)
		return kind_refuse(reason, "a tap of another network namespace");
	/* Of TUNGETIFF this bit is another one's, too (IFF_NOFILTER). */
	pi = netlink_tun_has_pi(ifr.ifr_name);
	if (pi < 0)
		return kind_refuse(reason, "a tap that the kernel does not describe");
	ifr.ifr_flags = (short)((ifr.ifr_flags & ~IFF_NO_PI) | (pi ? 0 : IFF_NO_PI));
	for (size_t i = 0; i < ARRAY_LEN(tap_flags); i++)
		if (ifr.ifr_flags & tap_flags[i].local)
			d->tap |= tap_flags[i].wire;
	if (d->tap & WIRE_TAP_VNET_HDR && !ioctl(fd, TUNGETVNETHDRSZ, &header))
		d->vnet_header = (uint32_t)header;
	d->kind = WIRE_FD_TAP;
	kind_set_name(item, ifr.ifr_name);
	return 0;
}

/* ---- making ------------------------------------------------------------------------------ */

int kind_make_tap(struct session *s, const struct description *d)
{
	int flags = O_RDWR | O_CLOEXEC | (d->flags & WIRE_O_NONBLOCK ? O_NONBLOCK : 0);
	int header = (int)d->vnet_header;
	_cleanup_close_ int fd = -1;
	struct ifreq ifr = { 0 };

	if (!is_listed(&s->worker->daemon->config))
		return -EACCES;
	fd = open(DEVICE, flags);
	if (fd < 0)
		return -errno;
	memcpy(ifr.ifr_name, d->name, d->name_len);
	for (size_t i = 0; i < ARRAY_LEN(tap_flags); i++)
		if (d->tap & tap_flags[i].wire)
			ifr.ifr_flags |= tap_flags[i].local;
	if (ioctl(fd, TUNSETIFF, &ifr))
		return -errno;
	if (header && ioctl(fd, TUNSETVNETHDRSZ, &header))
		return -errno;
	return take_fd(&fd);
}
