/* SPDX-License-Identifier: Apache-2.0 */
/*
 * serve.c - the bench's server
 *
 * One thread accepts, and echoes on any number of connections. One that carries runs is given a
 * thread of its own, with blocking calls.
 */
#include "stream.h"
#include "util.h"

#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>

enum { EVENTS = 256, ECHO_SIZE = 64 << 10 };

struct client {
	int fd;
	bool greeted;
	enum op op;
	int passed;
	uint32_t size;
	bool run_over; /* of OP_BOTH: the client's; atomic */
};

static void client_free(struct client *client)
{
	close_keep_errno(client->passed);
	close(client->fd);
	free(client);
}

/* ---- runs ----------------------------------------------------------------------------------- */

static bool client_is_over(void *arg)
{
	return __atomic_load_n(&((struct client *)arg)->run_over, __ATOMIC_ACQUIRE);
}

static void *write_back(void *arg)
{
	struct client *client = arg;
	_cleanup_free_ char *block = allocate(client->size);

	run_write(client->fd, block, client->size, client_is_over, client);
	return NULL;
}

static bool run_both(struct client *client, char *buffer)
{
	struct pollfd begun = { .fd = client->fd, .events = POLLIN };
	pthread_t writer;
	bool good;

	if (poll(&begun, 1, -1) != 1 || recv(client->fd, buffer, 1, MSG_PEEK) != 1)
		return false;
	client->run_over = false;
	if (pthread_create(&writer, NULL, write_back, client))
		fail("pthread_create");
	good = run_read(client->fd, buffer, client->size);
	__atomic_store_n(&client->run_over, true, __ATOMIC_RELEASE);
	pthread_join(writer, NULL);
	return good;
}

static bool run(struct client *client, char *buffer, char *block)
{
	uint64_t time;

	switch (client->op) {
	case OP_SINK:
		return run_read(client->fd, buffer, client->size) && write_all(client->fd, "k", 1);
	case OP_BOTH:
		return run_both(client, buffer);
	case OP_PIPE_READ:
		return run_read(client->passed, buffer, client->size) &&
		       write_all(client->fd, "k", 1);
	case OP_PIPE_WRITE:
		if (!read_all(client->fd, &time, sizeof(time)))
			return false;
		time += now();
		return run_write(client->passed, block, client->size, past, &time);
	case OP_ECHO:
		break;
	}
	return false;
}

static void *serve_runs(void *arg)
{
	struct client *client = arg;
	_cleanup_free_ char *buffer = allocate(READ_SIZE);
	_cleanup_free_ char *block = NULL;

	if (read_all(client->fd, &client->size, sizeof(client->size)) && client->size &&
	    client->size <= BLOCK_MAX) {
		block = allocate(client->size);
		while (run(client, buffer, block))
			;
	}
	client_free(client);
	return NULL;
}

/* ---- the beginning, and echoes -------------------------------------------------------------- */

/* Its first byte: the operation, perhaps with a descriptor. False: it is gone. */
static bool greet(struct client *client, int epoll_fd)
{
	union {
		struct cmsghdr align;
		char space[CMSG_SPACE(sizeof(int))];
	} control;
	char op = 0;
	struct iovec iov = { .iov_base = &op, .iov_len = 1 };
	struct msghdr message = { .msg_iov = &iov,
				  .msg_iovlen = 1,
				  .msg_control = &control,
				  .msg_controllen = sizeof(control) };
	struct cmsghdr *header;
	pthread_t thread;

	if (recvmsg(client->fd, &message, MSG_CMSG_CLOEXEC) != 1)
		return false;
	header = CMSG_FIRSTHDR(&message);
	if (header && header->cmsg_type == SCM_RIGHTS)
		memcpy(&client->passed, CMSG_DATA(header), sizeof(int));
	client->op = (enum op)op;
	client->greeted = true;
	if (!write_all(client->fd, &op, 1))
		return false;
	if (op == OP_ECHO)
		return true;
	if (epoll_ctl(epoll_fd, EPOLL_CTL_DEL, client->fd, NULL) ||
	    pthread_create(&thread, NULL, serve_runs, client) || pthread_detach(thread))
		fail("a thread for a client");
	return true;
}

static void handle(struct client *client, int epoll_fd)
{
	static char buffer[ECHO_SIZE];
	ssize_t n;

	if (!client->greeted) {
		if (!greet(client, epoll_fd))
			client_free(client);
		return;
	}
	n = read(client->fd, buffer, sizeof(buffer));
	/* what it asked for it also reads: this never waits for long */
	if (n <= 0 || !write_all(client->fd, buffer, (size_t)n))
		client_free(client);
}

static void accept_one(int listener, int epoll_fd)
{
	struct client *client;
	int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);

	if (fd < 0)
		fail("accept4");
	client = allocate(sizeof(*client));
	client->fd = fd;
	client->passed = -1;
	if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd,
		      &(struct epoll_event){ .events = EPOLLIN, .data.ptr = client }))
		fail("epoll_ctl");
}

void serve(const char *path)
{
	struct sockaddr_un address = unix_address(path);
	struct epoll_event events[EVENTS];
	int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int epoll_fd = epoll_create1(EPOLL_CLOEXEC);

	if (listener < 0 || bind(listener, (struct sockaddr *)&address, sizeof(address)) ||
	    listen(listener, BACKLOG))
		fail(path);
	if (epoll_fd < 0 || epoll_ctl(epoll_fd, EPOLL_CTL_ADD, listener,
				      &(struct epoll_event){ .events = EPOLLIN, .data.ptr = NULL }))
		fail("epoll");
	puts("ready");
	fflush(stdout);
	for (;;) {
		int n = epoll_wait(epoll_fd, events, EVENTS, -1);

		for (int i = 0; i < n; i++) {
			if (events[i].data.ptr)
				handle(events[i].data.ptr, epoll_fd);
			else
				accept_one(listener, epoll_fd);
		}
	}
}
