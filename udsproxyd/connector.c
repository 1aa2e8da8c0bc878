/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 *
 * Only the calling thread takes the client's credentials on, with the raw system calls (the
 * C library's functions change all threads), and only the effective ids: the real and saved
 * ones stay root's, so they can be taken off again. While they are on, the path is resolved
 * and connected to, nothing else. The kernel records the effective ids as the connection's
 * SO_PEERCRED (unix(7)). A message's implicit SCM_CREDENTIALS come from the real ids, so a client
 * that is not root needs explicit ones with each message.
 */
#include "connector.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/un.h>

#include "aside.h"
#include "canon.h"
#include "daemon.h"
#include "rules.h"
#include "runtime.h"
#include "util.h"
#include "watch.h"

static int switch_ids(uid_t uid, gid_t gid, size_t n_groups, const gid_t *groups)
{
	if (syscall(SYS_setgroups, n_groups, groups) || syscall(SYS_setresgid, -1, gid, -1) ||
	    syscall(SYS_setresuid, -1, uid, -1))
		return -errno;
	return 0;
}

static void switch_back(gid_t gid)
{
	/* Root's effective uid first: the others need its capabilities. A thread that cannot
	 * become itself again must not go on. */
	if (syscall(SYS_setresuid, -1, 0, -1) || syscall(SYS_setresgid, -1, gid, -1) ||
	    syscall(SYS_setgroups, 0, NULL))
		abort();
}

/* Six calls for nothing otherwise, and most clients are services that run as root. main() has dropped our own groups; a server
 * may ask for the client's (SO_PEERGROUPS). */
static bool is_like_us(const struct daemon *d, const struct frame_credentials *c)
{
	if (d->self.uid != 0)
		return c->uid == d->self.uid;
	return c->uid == 0 && c->gid == d->self.gid && !c->n_groups;
}

static int become(const struct daemon *d, const struct frame_credentials *c)
{
	int err;

	if (is_like_us(d, c))
		return 0;
	if (d->self.uid != 0) /* an unprivileged daemon serves its own user only */
		return -EACCES;
	err = switch_ids(c->uid, c->gid, c->n_groups, c->groups);
	if (err)
		switch_back(d->self.gid);
	return err;
}

static void become_self(const struct daemon *d, const struct frame_credentials *c)
{
	if (!is_like_us(d, c))
		switch_back(d->self.gid);
}

void connector_remove_name(int fd)
{
	struct sockaddr_un sa = { 0 };
	socklen_t len = sizeof(sa) - 1;

	if (!getsockname(fd, (struct sockaddr *)&sa, &len) && sa.sun_path[0])
		unlink(sa.sun_path);
}

void connector_drop(const struct connector_result *r)
{
	if (r->fd >= 0)
		connector_remove_name(r->fd);
	close_keep_errno(r->fd);
}

/* A server answers to the name of who has sent, which must be one that it can resolve. */
static int make_socket(struct daemon *d, int socktype, uint16_t flags)
{
	_cleanup_close_ int fd = socket(AF_UNIX, socktype | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	socklen_t len = sizeof(sa.sun_family); /* autobind (unix(7)) */

	if (fd < 0)
		return -errno;
	if (flags & WIRE_OPEN_PATH) {
		runtime_fresh(d->config.runtime_dir, "once", &sa);
		len = sizeof(sa);
	}
	if (flags & (WIRE_OPEN_PATH | WIRE_OPEN_ABSTRACT) && bind(fd, (struct sockaddr *)&sa, len))
		return -errno;
	return take_fd(&fd);
}

static int connect_address(int fd, const struct sockaddr_un *sa, socklen_t len)
{
	return connect(fd, (const struct sockaddr *)sa, len) ? -errno : 0;
}

int connector_connect_inode(int fd, int path_fd)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };

	snprintf(sa.sun_path, sizeof(sa.sun_path), "/proc/self/fd/%d", path_fd);
	return connect_address(fd, &sa, sizeof(sa));
}

/* What the kernel has not at hand: to be tried again where waiting is allowed. */
static int not_at_hand(int fd, bool cached)
{
	/* EINVAL: a kernel before RESOLVE_CACHED (Linux 5.12). */
	return cached && (fd == -EAGAIN || fd == -EINVAL) ? -EINPROGRESS : fd;
}

static int connect_abstract(int fd, const char *name, size_t len)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };

	memcpy(sa.sun_path, name, len);
	return connect_address(fd, &sa, (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len));
}

/* @path becomes what is @rest below it, if there is any. */
static int connect_beneath(int fd, int *path, const char *rest, bool cached)
{
	if (*rest)
		replace_fd(path, aside_open_beneath(*path, rest, O_PATH, cached));
	return *path < 0 ? not_at_hand(*path, cached) : connector_connect_inode(fd, *path);
}

static int connect_name(struct daemon *d, const struct frame_open *o, int fd,
			const struct frame_credentials *c, bool cached, struct connector_result *r)
{
	_cleanup_close_ int path = -1;
	char root[RULES_NAME_SIZE + 1], rest[RULES_NAME_SIZE];
	bool creds;
	int err;

	if (!daemon_may_accept(d, o->name, o->name_len, c, root, rest, &creds)) {
		snprintf(r->reason, sizeof(r->reason),
			 "the peer does not accept it: no udsaccept rule there allows it");
		return -EACCES;
	}
	r->explicit_credentials &= creds;
	if (o->name[0] == '\0') {
		err = become(d, c);
		if (err)
			return err;
		err = connect_abstract(fd, o->name, o->name_len);
		become_self(d, c);
		return err;
	}
	path = aside_open(root, O_PATH, cached);
	if (path < 0)
		return not_at_hand(path, cached);
	err = become(d, c);
	if (err)
		return err;
	err = connect_beneath(fd, &path, rest, cached);
	become_self(d, c);
	return err;
}

static int connect_twin(struct daemon *d, const struct frame_open *o, int fd,
			const struct frame_credentials *c)
{
	_cleanup_close_ int twin = -1;
	struct frame_id id;
	int err;

	memcpy(id.bytes, o->name, sizeof(id.bytes));
	twin = watch_twin(d, &id);
	if (twin < 0)
		return twin;
	err = become(d, c);
	if (err)
		return err;
	err = connector_connect_inode(fd, twin);
	become_self(d, c);
	return err;
}

/* The client, in this side's numbers. */
static void map_credentials(const struct config *config, const struct frame_credentials *theirs,
			    struct frame_credentials *c)
{
	c->uid = config_mapped(config->map_uid, config->n_map_uid, theirs->uid);
	c->gid = config_mapped(config->map_gid, config->n_map_gid, theirs->gid);
	c->n_groups = theirs->n_groups;
	for (size_t i = 0; i < c->n_groups; i++)
		c->groups[i] = config_mapped(config->map_gid, config->n_map_gid, theirs->groups[i]);
}

void connector_connect(struct daemon *d, const struct frame_open *o, bool cached,
		       struct connector_result *r)
{
	struct frame_credentials c;
	int socktype = local_socktype(o->socktype);
	int err;

	*r = (struct connector_result){ .fd = -EPROTOTYPE };
	map_credentials(&d->config, &o->credentials, &c);
	r->credentials = (struct ucred){ .pid = d->self.pid, .uid = c.uid, .gid = c.gid };
	r->explicit_credentials = c.uid != 0 && d->self.uid == 0;
	if (!socktype)
		return;
	r->fd = make_socket(d, socktype, o->socktype == WIRE_DGRAM ? o->flags : 0);
	if (r->fd < 0)
		return;
	err = o->target == WIRE_TARGET_LISTENER ? connect_twin(d, o, r->fd, &c)
						: connect_name(d, o, r->fd, &c, cached, r);
	if (err) {
		connector_drop(r);
		r->fd = err;
	}
}
