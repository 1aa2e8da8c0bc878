/* SPDX-License-Identifier: Apache-2.0 */
/*
 * listen.c - a connection to a listening socket that was inherited
 *
 * It is accepted here, joined with one to the program's twin, and relayed. While the twin cannot
 * be reached (its backlog is full, the link is down) the accepted connection waits.
 */
#include "listen.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>

#include "relay.h"
#include "util.h"

#define DIAL_AGAIN_MS 100
#define ACCEPT_NS 20000000

struct listener {
	struct listeners *all;
	int number;
	struct loop_io io;
	struct listener *next;
};

struct connection {
	struct listeners *all;
	int number;
	int client;	     /* -1: relayed */
	struct relay *relay; /* NULL: waiting */
	bool answered;	     /* the program sends no more */
	struct loop_timer again;
	struct connection *next;
};

struct listeners {
	struct loop *loop;
	struct session *session;
	struct listener *list;
	struct connection *connections;
};

static void forget(struct connection *c)
{
	struct connection **at;

	for (at = &c->all->connections; *at != c; at = &(*at)->next)
		;
	*at = c->next;
	loop_timer_stop(&c->again);
	close_keep_errno(c->client);
	free(c);
}

static void on_eof(struct relay *r, enum relay_side from, int error)
{
	struct connection *c = r->arg;

	(void)error;
	if (from == RELAY_SERVER)
		c->answered = true;
	relay_shut(r, from == RELAY_SERVER ? RELAY_CLIENT : RELAY_SERVER);
}

static void on_closed(struct relay *r)
{
	forget(r->arg);
}

static const struct relay_hooks hooks = { .eof = on_eof, .closed = on_closed };

static void on_again(void *arg);

static void join(struct connection *c)
{
	int server = session_dial(c->all->session, c->number);

	if (server == -ECONNREFUSED || server == -ENOENT || server == -EBADF) {
		/* The program does not listen any more. */
		forget(c);
		return;
	}
	if (server < 0) {
		loop_timer_start(c->all->loop, &c->again, DIAL_AGAIN_MS, on_again, c);
		return;
	}
	c->relay = relay_new(c->all->loop, take_fd(&c->client), server, &hooks, c);
	if (!c->relay)
		forget(c);
}

static void on_again(void *arg)
{
	join(arg);
}

/* It only interrupts. */
static void on_alarm(int signo)
{
	(void)signo;
}

/* Whoever else has the socket may have taken what poll(2) told of, and O_NONBLOCK would be theirs,
 * too. So the wait for the next is interrupted; again and again, lest the first comes before it. */
static int accept_soon(int fd)
{
	const struct itimerspec often = { { 0, ACCEPT_NS }, { 0, ACCEPT_NS } };
	struct sigevent event = { .sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGALRM };
	struct sigaction action = { .sa_handler = on_alarm }, before;
	timer_t timer;
	int client;

	if (timer_create(CLOCK_MONOTONIC, &event, &timer))
		return -1;
	sigaction(SIGALRM, &action, &before);
	timer_settime(timer, 0, &often, NULL);
	client = accept4(fd, NULL, NULL, SOCK_CLOEXEC);
	timer_delete(timer);
	sigaction(SIGALRM, &before, NULL);
	return client;
}

static void on_listener(void *arg, short revents)
{
	struct listener *l = arg;
	_cleanup_close_ int client = accept_soon(l->io.fd);
	struct connection *c = client < 0 ? NULL : calloc(1, sizeof(*c));

	(void)revents;
	if (!c)
		return;
	*c = (struct connection){ .all = l->all,
				  .number = l->number,
				  .client = take_fd(&client),
				  .next = l->all->connections };
	l->all->connections = c;
	join(c);
}

struct listeners *listeners_new(struct loop *l, struct session *s)
{
	struct listeners *all = calloc(1, sizeof(*all));

	if (all)
		*all = (struct listeners){ .loop = l, .session = s };
	return all;
}

int listeners_add(struct listeners *all, int fd, int number)
{
	struct listener *l = calloc(1, sizeof(*l));

	if (!l)
		return -ENOMEM;
	*l = (struct listener){ .all = all, .number = number, .next = all->list };
	all->list = l;
	loop_io_start(all->loop, &l->io, fd, 0, on_listener, l);
	return 0;
}

void listeners_start(struct listeners *all)
{
	for (struct listener *l = all->list; l; l = l->next)
		l->io.events = POLLIN;
}

bool listeners_settled(const struct listeners *all)
{
	for (const struct connection *c = all->connections; c; c = c->next)
		if (c->relay && (!c->answered || relay_queued(c->relay, RELAY_CLIENT)))
			return false;
	return true;
}

void listeners_free(struct listeners *all)
{
	while (all && all->connections) {
		if (all->connections->relay)
			relay_close(all->connections->relay);
		forget(all->connections);
	}
	while (all && all->list) {
		struct listener *l = all->list;

		all->list = l->next;
		loop_io_stop(&l->io);
		free(l);
	}
	free(all);
}
