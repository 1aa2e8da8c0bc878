/* SPDX-License-Identifier: Apache-2.0 */
/* addr.h - where udsproxyd listens and where its peer does: an IP address (TCP) or a CID (vsock(7)) */
#ifndef ADDR_H
#define ADDR_H

#include <stdbool.h>
#include <sys/socket.h>

#define ADDR_TEXT 80

struct addr {
	struct sockaddr_storage sa;
	socklen_t len;
	char text[ADDR_TEXT]; /* "10.0.0.1:12121", "[::1]:12121", "vsock:3:12121" */
};

/**
 * addr_parse() - @host (an IP address, or a number: a CID) and @port
 * @error	ADDR_TEXT * 2 bytes for what is wrong
 * Return: 0 or -EINVAL.
 */
int addr_parse(struct addr *a, const char *host, const char *port, char *error);
/** addr_is_vsock() - AF_VSOCK rather than TCP? */
bool addr_is_vsock(const struct addr *a);
/** addr_listen() - a listening non-blocking socket, or a negative errno; the caller's */
int addr_listen(const struct addr *a);
/** addr_connect() - start connecting from @from's host to @to: a non-blocking socket, or a
 * negative errno. Writable tells the end, SO_ERROR how. */
int addr_connect(const struct addr *to, const struct addr *from);
/** addr_same_host() - does the peer of @fd come from @a's host (whatever its port)? */
bool addr_same_host(const struct addr *a, const struct sockaddr_storage *peer);
/** addr_host() - the host of @peer as @text, of ADDR_TEXT bytes: "10.0.0.1", "vsock:3" */
void addr_host(const struct sockaddr_storage *peer, char *text);
/** addr_tune() - options for a fresh transport: no delay (TCP), large buffers (vsock) */
void addr_tune(const struct addr *a, int fd);

#endif
