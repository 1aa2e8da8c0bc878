/* SPDX-License-Identifier: Apache-2.0 */
#include "addr.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>

#include <linux/vm_sockets.h>

#include "util.h"

#define LISTEN_BACKLOG 4096	 /* vsock resets at once what overflows it */
#define VSOCK_BUFFER (4ull << 20) /* its credit is 256 KiB by default, and comes back late */

/* A whole decimal number of at most @max; -1 when @text is none. */
static long long number(const char *text, unsigned long long max)
{
	unsigned long long v;
	char *end;

	if (*text < '0' || *text > '9')
		return -1;
	errno = 0;
	v = strtoull(text, &end, 10);
	return *end || errno || v > max ? -1 : (long long)v;
}

static int parse_ip(struct addr *a, const char *host, const char *port, char *error)
{
	struct sockaddr_in *in = (struct sockaddr_in *)&a->sa;
	struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)&a->sa;
	long long n = number(port, 65535);

	if (n < 1) {
		snprintf(error, ADDR_TEXT * 2, "port '%.40s': a TCP port is a number from 1 to 65535", port);
		return -EINVAL;
	}
	if (inet_pton(AF_INET, host, &in->sin_addr) == 1) {
		in->sin_family = AF_INET;
		in->sin_port = htons((uint16_t)n);
		a->len = sizeof(*in);
		snprintf(a->text, sizeof(a->text), "%.46s:%lld", host, n);
		return 0;
	}
	if (inet_pton(AF_INET6, host, &in6->sin6_addr) == 1) {
		in6->sin6_family = AF_INET6;
		in6->sin6_port = htons((uint16_t)n);
		a->len = sizeof(*in6);
		snprintf(a->text, sizeof(a->text), "[%.46s]:%lld", host, n);
		return 0;
	}
	snprintf(error, ADDR_TEXT * 2,
		 "address '%.60s': neither an IP address (TCP) nor a number (a vsock CID)", host);
	return -EINVAL;
}

int addr_parse(struct addr *a, const char *host, const char *port, char *error)
{
	struct sockaddr_vm *vm = (struct sockaddr_vm *)&a->sa;
	long long cid = number(host, UINT32_MAX - 1);
	long long n;

	memset(a, 0, sizeof(*a));
	if (cid < 0)
		return parse_ip(a, host, port, error);
	n = number(port, UINT32_MAX - 1);
	if (n < 1) {
		snprintf(error, ADDR_TEXT * 2, "port '%.40s': a vsock port is a number from 1 to %u",
			 port, UINT32_MAX - 1);
		return -EINVAL;
	}
	vm->svm_family = AF_VSOCK;
	vm->svm_cid = (unsigned)cid;
	vm->svm_port = (unsigned)n;
	a->len = sizeof(*vm);
	snprintf(a->text, sizeof(a->text), "vsock:%lld:%lld", cid, n);
	return 0;
}

bool addr_is_vsock(const struct addr *a)
{
	return a->sa.ss_family == AF_VSOCK;
}

void addr_tune(const struct addr *a, int fd)
{
	static const char congestion_control[] = "cubic";
	int on = 1;
	unsigned long long size = VSOCK_BUFFER;

	/* Failures cost speed only. Two machines with one link between them are no network: one that paces for a
	 * network's sake (bbr, if that is the system's) costs a fifth of the throughput, and as much CPU time more. */
	if (addr_is_vsock(a)) {
		setsockopt(fd, AF_VSOCK, SO_VM_SOCKETS_BUFFER_MAX_SIZE, &size, sizeof(size));
		setsockopt(fd, AF_VSOCK, SO_VM_SOCKETS_BUFFER_SIZE, &size, sizeof(size));
	} else {
		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
		setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, congestion_control, sizeof(congestion_control) - 1);
	}
}

static int new_socket(const struct addr *a)
{
	int fd = socket(a->sa.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	return fd < 0 ? -errno : fd;
}

int addr_listen(const struct addr *a)
{
	_cleanup_close_ int fd = new_socket(a);
	int on = 1;

	if (fd < 0)
		return fd;
	if (!addr_is_vsock(a))
		setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	addr_tune(a, fd);
	if (bind(fd, (const struct sockaddr *)&a->sa, a->len) || listen(fd, LISTEN_BACKLOG))
		return -errno;
	return take_fd(&fd);
}

/* The peer knows us by our address, so dial from it; its port is the listener's, ours any. */
static int bind_host(int fd, const struct addr *from)
{
	struct sockaddr_storage sa = from->sa;
	int on = 1;

	if (sa.ss_family == AF_INET)
		((struct sockaddr_in *)&sa)->sin_port = 0;
	else
		((struct sockaddr_in6 *)&sa)->sin6_port = 0;
	setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof(on));
	return bind(fd, (const struct sockaddr *)&sa, from->len) ? -errno : 0;
}

int addr_connect(const struct addr *to, const struct addr *from)
{
	_cleanup_close_ int fd = new_socket(to);
	int err;

	if (fd < 0)
		return fd;
	addr_tune(to, fd);
	/* A vsock socket has its machine's CID by itself. */
	if (!addr_is_vsock(from)) {
		err = bind_host(fd, from);
		if (err)
			return err;
	}
	if (connect(fd, (const struct sockaddr *)&to->sa, to->len) && errno != EINPROGRESS)
		return -errno;
	return take_fd(&fd);
}

bool addr_same_host(const struct addr *a, const struct sockaddr_storage *peer)
{
	if (a->sa.ss_family != peer->ss_family)
		return false;
	switch (peer->ss_family) {
	case AF_INET:
		return ((const struct sockaddr_in *)&a->sa)->sin_addr.s_addr ==
		       ((const struct sockaddr_in *)peer)->sin_addr.s_addr;
	case AF_INET6:
		return !memcmp(&((const struct sockaddr_in6 *)&a->sa)->sin6_addr,
			       &((const struct sockaddr_in6 *)peer)->sin6_addr,
			       sizeof(struct in6_addr));
	case AF_VSOCK:
		return ((const struct sockaddr_vm *)&a->sa)->svm_cid ==
		       ((const struct sockaddr_vm *)peer)->svm_cid;
	}
	return false;
}

void addr_host(const struct sockaddr_storage *peer, char *text)
{
	char ip[INET6_ADDRSTRLEN] = "";

	if (peer->ss_family == AF_VSOCK) {
		snprintf(text, ADDR_TEXT, "vsock:%u", ((const struct sockaddr_vm *)peer)->svm_cid);
		return;
	}
	if (peer->ss_family == AF_INET)
		inet_ntop(AF_INET, &((const struct sockaddr_in *)peer)->sin_addr, ip, sizeof(ip));
	else
		inet_ntop(AF_INET6, &((const struct sockaddr_in6 *)peer)->sin6_addr, ip, sizeof(ip));
	snprintf(text, ADDR_TEXT, "%s", ip);
}
