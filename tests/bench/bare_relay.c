/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bare_relay.c - the least that can carry a UNIX connection to another machine
 *
 *	bare-relay FROM TO		each a UNIX socket's path, or ADDRESS:PORT
 *
 * What `make bench` compares with. Two of these, one on each side, are the practical limit for a
 * relay in user space: for each connection that is accepted at FROM another is made to TO, and
 *bytes are spliced between the two, with no frame, no copy and no knowledge of them. One thread,
 *one epoll.
 *
 * A direction has a pipe only while bytes are in it: read when the pipe is empty, write until it
 * is. So an idle connection costs two descriptors and a struct, and pipes stay warm in a pool.
 * Events are level-triggered and asked for as needed, so that a small message costs three calls:
 * epoll_wait, splice in, splice out.
 */
#include "stream.h"
#include "util.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/queue.h>

enum { PIPE_SIZE = 256 << 10, PIPES_KEPT = 64, EVENTS = 64 };

/* One end of a relayed connection, and the bytes that were read from it. */
struct end {
	int fd;
	uint32_t asked; /* of epoll; 0: not registered */
	bool connecting, eof;
	int pipe[2];
	size_t held; /* bytes in the pipe */
	struct end *other;
	struct relayed *relayed;
};

struct relayed {
	struct end ends[2];
	bool dead;
	SLIST_ENTRY(relayed) next;
};

static int epoll_fd;
static int pipes[PIPES_KEPT][2];
static size_t pipes_kept;
static SLIST_HEAD(, relayed) dead = SLIST_HEAD_INITIALIZER(dead);

/* ---- addresses ---------------------------------------------------------------------------- */

struct address {
	int family;
	socklen_t length;
	union {
		struct sockaddr any;
		struct sockaddr_un un;
		struct sockaddr_in in;
	} as;
};

static struct address parse(const char *text)
{
	struct address address = { .family = AF_UNIX, .length = sizeof(struct sockaddr_un) };
	const char *port = strrchr(text, ':');
	char host[INET_ADDRSTRLEN] = "";

	if (*text == '/') {
		address.as.un = unix_address(text);
		return address;
	}
	if (!port || (size_t)(port - text) >= sizeof(host))
		usage("an address is /PATH or ADDRESS:PORT");
	memcpy(host, text, (size_t)(port - text));
	address.family = AF_INET;
	address.length = sizeof(struct sockaddr_in);
	address.as.in = (struct sockaddr_in){ .sin_family = AF_INET,
					      .sin_port = htons((uint16_t)atoi(port + 1)) };
	if (inet_pton(AF_INET, host, &address.as.in.sin_addr) != 1)
		usage("an address is /PATH or ADDRESS:PORT");
	return address;
}

static void no_delay(int fd, const struct address *address)
{
	if (address->family == AF_INET)
		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){ 1 }, sizeof(int));
}

static int listen_at(const struct address *address)
{
	int fd = socket(address->family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	if (fd < 0)
		fail("socket");
	if (address->family == AF_INET)
		setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &(int){ 1 }, sizeof(int));
	if (bind(fd, &address->as.any, address->length) || listen(fd, BACKLOG))
		fail("bind");
	return fd;
}

/* ---- one connection ----------------------------------------------------------------------- */

static void pipe_take(struct end *end)
{
	if (pipes_kept) {
		memcpy(end->pipe, pipes[--pipes_kept], sizeof(end->pipe));
		return;
	}
	if (pipe2(end->pipe, O_NONBLOCK | O_CLOEXEC))
		fail("pipe2");
	fcntl(end->pipe[0], F_SETPIPE_SZ, PIPE_SIZE);
}

/* Bytes that are still in it would appear in another connection: then it is closed. */
static void pipe_give_back(struct end *end)
{
	if (end->pipe[0] < 0)
		return;
	if (!end->held && pipes_kept < PIPES_KEPT) {
		memcpy(pipes[pipes_kept++], end->pipe, sizeof(end->pipe));
	} else {
		close(end->pipe[0]);
		close(end->pipe[1]);
	}
	end->pipe[0] = end->pipe[1] = -1;
}

/* Events of the same batch may still point to it: it is freed after them. */
static void finish(struct relayed *relayed)
{
	relayed->dead = true;
	SLIST_INSERT_HEAD(&dead, relayed, next);
	for (size_t i = 0; i < 2; i++) {
		pipe_give_back(&relayed->ends[i]);
		close(relayed->ends[i].fd);
	}
}

/* What is asked of epoll follows from what an end has to do. */
static void ask(struct end *end)
{
	bool up = !end->connecting && !end->other->connecting;
	uint32_t want = 0;
	int op;

	if (up && !end->eof && !end->held)
		want |= EPOLLIN;
	if (end->connecting || (up && end->other->held))
		want |= EPOLLOUT;
	if (want == end->asked)
		return;
	/* not 0: EPOLLHUP would be told again and again */
	op = !want ? EPOLL_CTL_DEL : end->asked ? EPOLL_CTL_MOD : EPOLL_CTL_ADD;
	if (epoll_ctl(epoll_fd, op, end->fd,
		      &(struct epoll_event){ .events = want, .data.ptr = end }))
		fail("epoll_ctl");
	end->asked = want;
}

/* Move what there is from @end to the other. False: the connection is broken. */
static bool pump(struct end *end)
{
	ssize_t n;

	if (!end->held && !end->eof) {
		if (end->pipe[0] < 0)
			pipe_take(end);
		n = splice(end->fd, NULL, end->pipe[1], NULL, PIPE_SIZE,
			   SPLICE_F_MOVE | SPLICE_F_NONBLOCK);
		if (n < 0 && errno != EAGAIN)
			return false;
		end->eof = n == 0;
		end->held = n > 0 ? (size_t)n : 0;
	}
	while (end->held) {
		n = splice(end->pipe[0], NULL, end->other->fd, NULL, end->held,
			   SPLICE_F_MOVE | SPLICE_F_NONBLOCK);
		if (n < 0)
			return errno == EAGAIN;
		end->held -= (size_t)n;
	}
	pipe_give_back(end);
	if (end->eof)
		shutdown(end->other->fd, SHUT_WR);
	return true;
}

static void handle(struct end *end, uint32_t events)
{
	struct relayed *relayed = end->relayed;
	struct end *other = end->other;
	socklen_t length = sizeof(int);
	bool alive = true;
	int error = 0;

	if (relayed->dead)
		return;
	if (end->connecting) {
		getsockopt(end->fd, SOL_SOCKET, SO_ERROR, &error, &length);
		end->connecting = false;
		alive = !error;
	} else {
		if (events & EPOLLOUT)
			alive = pump(other);
		if (alive && !end->held && !end->eof && events & ~(uint32_t)EPOLLOUT)
			alive = pump(end);
	}
	if (!alive || (end->eof && other->eof && !end->held && !other->held)) {
		finish(relayed);
		return;
	}
	ask(end);
	ask(other);
}

static void accept_one(int listener, const struct address *from, const struct address *to)
{
	int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	struct relayed *relayed;
	int onward;

	if (fd < 0) {
		if (errno == EAGAIN || errno == ECONNABORTED)
			return;
		fail("accept4");
	}
	onward = socket(to->family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	relayed = calloc(1, sizeof(*relayed));
	if (onward < 0 || !relayed)
		fail("a connection onward");
	no_delay(fd, from);
	no_delay(onward, to);
	for (size_t i = 0; i < 2; i++)
		relayed->ends[i] = (struct end){ .fd = i ? onward : fd,
						 .pipe = { -1, -1 },
						 .other = &relayed->ends[!i],
						 .relayed = relayed };
	if (connect(onward, &to->as.any, to->length)) {
		if (errno != EINPROGRESS) {
			finish(relayed);
			return;
		}
		relayed->ends[1].connecting = true;
	}
	ask(&relayed->ends[0]);
	ask(&relayed->ends[1]);
}

int main(int argc, char **argv)
{
	struct epoll_event events[EVENTS];
	struct address from, to;
	struct relayed *relayed;
	int listener;

	if (argc != 3)
		usage("bare-relay FROM TO");
	ignore_sigpipe();
	from = parse(argv[1]);
	to = parse(argv[2]);
	listener = listen_at(&from);
	epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (epoll_fd < 0 || epoll_ctl(epoll_fd, EPOLL_CTL_ADD, listener,
				      &(struct epoll_event){ .events = EPOLLIN, .data.ptr = NULL }))
		fail("epoll");
	for (;;) {
		int n = epoll_wait(epoll_fd, events, EVENTS, -1);

		if (n < 0 && errno != EINTR)
			fail("epoll_wait");
		for (int i = 0; i < n; i++) {
			if (events[i].data.ptr)
				handle(events[i].data.ptr, events[i].events);
			else
				accept_one(listener, &from, &to);
		}
		while ((relayed = SLIST_FIRST(&dead))) {
			SLIST_REMOVE_HEAD(&dead, next);
			free(relayed);
		}
	}
}
