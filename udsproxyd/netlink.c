/* SPDX-License-Identifier: Apache-2.0 */
#include "netlink.h"

#include <errno.h>
#include <net/if.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <linux/if_link.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <linux/sock_diag.h>
#include <linux/unix_diag.h>

#include "util.h"

#define ANSWER_MAX 32768 /* the kernel's largest (netlink(7)) */

union answer {
	struct nlmsghdr header;
	char space[ANSWER_MAX];
};

/* A question with one answer. Return: 0, or a negative errno. */
static int ask(int protocol, const struct nlmsghdr *question, union answer *answer)
{
	_cleanup_close_ int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, protocol);
	const struct nlmsgerr *refusal;
	ssize_t n;

	if (fd < 0 || send(fd, question, question->nlmsg_len, 0) < 0)
		return -errno;
	/* It is there already: the kernel has answered within send(2). */
	n = recv(fd, answer, sizeof(*answer), MSG_DONTWAIT);
	if (n < 0)
		return -errno;
	if (!NLMSG_OK(&answer->header, (size_t)n))
		return -EBADMSG;
	if (answer->header.nlmsg_type != NLMSG_ERROR)
		return 0;
	refusal = NLMSG_DATA(&answer->header);
	return answer->header.nlmsg_len >= NLMSG_LENGTH(sizeof(*refusal)) && refusal->error < 0
		       ? refusal->error
		       : -EBADMSG;
}

/* The attribute @type of those at @first, or NULL. */
static const struct rtattr *find(const struct rtattr *first, size_t len, unsigned short type)
{
	const struct rtattr *a = first;
	int left = (int)len;

	for (; RTA_OK(a, left); a = RTA_NEXT(a, left))
		if ((a->rta_type & NLA_TYPE_MASK) == type)
			return a;
	return NULL;
}

static const struct rtattr *find_within(const struct rtattr *nest, unsigned short type)
{
	return nest ? find(RTA_DATA(nest), RTA_PAYLOAD(nest), type) : NULL;
}

int netlink_tun_has_pi(const char *name)
{
	struct {
		struct nlmsghdr header;
		struct ifinfomsg link;
	} question = {
		.header = { .nlmsg_len = sizeof(question),
			    .nlmsg_type = RTM_GETLINK,
			    .nlmsg_flags = NLM_F_REQUEST },
		.link = { .ifi_family = AF_UNSPEC, .ifi_index = (int)if_nametoindex(name) },
	};
	const struct rtattr *a;
	union answer answer;
	size_t len;
	int err = question.link.ifi_index ? ask(NETLINK_ROUTE, &question.header, &answer) : -ENODEV;

	if (err)
		return err;
	if (answer.header.nlmsg_type != RTM_NEWLINK ||
	    answer.header.nlmsg_len < NLMSG_LENGTH(sizeof(struct ifinfomsg)))
		return -EBADMSG;
	len = IFLA_PAYLOAD(&answer.header);
	a = find(IFLA_RTA(NLMSG_DATA(&answer.header)), len, IFLA_LINKINFO);
	a = find_within(find_within(a, IFLA_INFO_DATA), IFLA_TUN_PI);
	return !a || RTA_PAYLOAD(a) < 1 ? -ENODATA : *(const uint8_t *)RTA_DATA(a) != 0;
}

/* What unix_diag shows of the UNIX socket @inode: the attribute @type of it, within @answer, at least so large. Return: 0, -ENOTCONN
 * when it has none, or another negative errno. */
static int show_socket(uint32_t inode, uint32_t show, unsigned short type, size_t size, union answer *answer,
		       const void **found)
{
	struct {
		struct nlmsghdr header;
		struct unix_diag_req socket;
	} question = {
		.header = { .nlmsg_len = sizeof(question),
			    .nlmsg_type = SOCK_DIAG_BY_FAMILY,
			    .nlmsg_flags = NLM_F_REQUEST },
		.socket = { .sdiag_family = AF_UNIX,
			    .udiag_states = UINT32_MAX,
			    .udiag_ino = inode,
			    .udiag_show = show,
			    .udiag_cookie = { ~0u, ~0u } },
	};
	const struct rtattr *a;
	int err = ask(NETLINK_SOCK_DIAG, &question.header, answer);

	if (err)
		return err;
	if (answer->header.nlmsg_len < NLMSG_LENGTH(sizeof(struct unix_diag_msg)))
		return -EBADMSG;
	a = find((const struct rtattr *)((const char *)NLMSG_DATA(&answer->header) +
					 NLMSG_ALIGN(sizeof(struct unix_diag_msg))),
		 NLMSG_PAYLOAD(&answer->header, sizeof(struct unix_diag_msg)), type);
	if (!a || RTA_PAYLOAD(a) < size)
		return -ENOTCONN;
	*found = RTA_DATA(a);
	return 0;
}

/* The inode of the socket that @fd is connected to; 0: nobody has it open. */
static int peer_inode(int fd, uint32_t *inode)
{
	union answer answer;
	const void *peer;
	struct stat st;
	int err = fstat(fd, &st) ? -errno : 0;

	if (!err)
		err = show_socket((uint32_t)st.st_ino, UDIAG_SHOW_PEER, UNIX_DIAG_PEER, sizeof(*inode),
				  &answer, &peer);
	if (!err)
		memcpy(inode, peer, sizeof(*inode));
	return err;
}

int netlink_peer_closed(int fd)
{
	uint32_t inode;
	int err = peer_inode(fd, &inode);

	return err ? err : inode == 0;
}

int netlink_peer_cannot_write(int fd)
{
	uint32_t inode, memory[SK_MEMINFO_SNDBUF + 1];
	union answer answer;
	const void *shown;
	int err = peer_inode(fd, &inode);

	if (err || !inode)
		return err;
	err = show_socket(inode, UDIAG_SHOW_MEMINFO, UNIX_DIAG_MEMINFO, sizeof(memory), &answer, &shown);
	if (err)
		return err;
	memcpy(memory, shown, sizeof(memory));
	return memory[SK_MEMINFO_WMEM_ALLOC] > memory[SK_MEMINFO_SNDBUF] / 4;
}
