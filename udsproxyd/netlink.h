/* SPDX-License-Identifier: Apache-2.0 */
/*
 * netlink.h - questions that only netlink(7) answers, about the network namespace that we are in
 */
#ifndef NETLINK_H
#define NETLINK_H

#include <stdbool.h>

/** netlink_tun_has_pi() - do the packets of tun or tap interface @name begin with a struct tun_pi?
 * TUNGETIFF does not tell. Return: 1, 0, or a negative errno. */
int netlink_tun_has_pi(const char *name);
/** netlink_peer_closed() - is the socket closed that the UNIX datagram socket @fd is connected to?
 * No event tells, only sending does. Return: 1, 0, or a negative errno: -ENOTCONN, it is not
 * connected (any more); -ENOENT, it is of another network namespace, or the kernel cannot tell. */
int netlink_peer_closed(int fd);
/** netlink_peer_cannot_write() - has the UNIX socket that @fd is connected to so much unread that poll(2) does not tell of room
 * there: more than a quarter of its buffer? Return: as netlink_peer_closed(). */
int netlink_peer_cannot_write(int fd);

#endif
