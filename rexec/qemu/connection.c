/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How it works: each callback reads or writes what it can, marks in the struct what ended, and
 * leaves by settle(), the only place that decides what is waited for next and whether this was
 * the end. A monitor's bytes go through a struct talk, the others through two queues.
 */
#include "connection.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "fdpass.h"
#include "fifo.h"
#include "log.h"
#include "talk.h"
#include "util.h"

#define REDIAL_FIRST_MS 20
#define REDIAL_LAST_MS 1000
#define TO_REMOTE_MAX (256u << 10) /* queued bytes that stop the other side from being read */
#define TO_CLIENT_MAX (1u << 20)
#define PIECE 65536

struct connection {
	const struct connection_setting *setting;
	const struct connection_hooks *hooks;
	enum argv_channel channel;

	int client, remote; /* owned; remote: -1 while it is not connected */
	bool client_ended;  /* it sends no more */
	bool client_broken; /* and it takes no more */
	bool remote_told;   /* the remote knows that the client has ended */
	bool remote_deaf;   /* it takes no more; what it said before is still to be read */
	bool remote_final;  /* a lost remote is not dialled again */

	struct talk talk;		  /* of a monitor */
	struct fifo to_client, to_remote; /* of the others */

	struct loop_io on_client, on_remote;
	struct loop_timer redial;
	unsigned int redial_ms;
};

static char piece[PIECE];

static bool is_monitor(const struct connection *c)
{
	return c->channel == ARGV_MONITOR;
}

static struct fifo *client_queue(struct connection *c)
{
	return is_monitor(c) ? &c->talk.to_client : &c->to_client;
}

static bool remote_pending(const struct connection *c)
{
	return is_monitor(c) ? talk_next(&c->talk) != NULL : fifo_len(&c->to_remote) > 0;
}

/* ---- what is waited for, and the end ---- */

void connection_close(struct connection *c)
{
	loop_io_stop(&c->on_client);
	loop_io_stop(&c->on_remote);
	loop_timer_stop(&c->redial);
	close_keep_errno(c->client);
	close_keep_errno(c->remote);
	talk_clear(&c->talk);
	fifo_clear(&c->to_client);
	fifo_clear(&c->to_remote);
	c->hooks->closed(c->hooks->arg, c);
	free(c);
}

static bool is_over(struct connection *c)
{
	if (c->client_broken)
		return true;
	return c->remote < 0 && (c->remote_final || c->client_ended) && !fifo_len(client_queue(c));
}

/* The client's end of file goes to QEMU when nothing of the client's is left to be sent. */
static void tell_remote(struct connection *c)
{
	if (c->remote < 0 || !c->client_ended || c->remote_told || remote_pending(c))
		return;
	if (is_monitor(c) && (c->talk.waiting.n || c->talk.remote != TALK_READY))
		return;
	shutdown(c->remote, SHUT_WR);
	c->remote_told = true;
}

static short client_events(struct connection *c)
{
	bool room = is_monitor(c) ? talk_wants_client(&c->talk)
				  : fifo_len(&c->to_remote) < TO_REMOTE_MAX;

	return (short)((room && !c->client_ended ? POLLIN : 0) |
		       (fifo_len(client_queue(c)) ? POLLOUT : 0));
}

static short remote_events(struct connection *c)
{
	bool room = fifo_len(client_queue(c)) < TO_CLIENT_MAX;

	return (short)((room ? POLLIN : 0) | (remote_pending(c) && !c->remote_deaf ? POLLOUT : 0));
}

static void settle(struct connection *c)
{
	if (is_over(c)) {
		connection_close(c);
		return;
	}
	tell_remote(c);
	c->on_client.events = client_events(c);
	if (c->remote >= 0)
		c->on_remote.events = remote_events(c);
}

/* ---- the client ---- */

static void write_client(struct connection *c)
{
	struct fifo *queue = client_queue(c);
	ssize_t n;

	while (fifo_len(queue)) {
		n = fd_sendmsg(c->client, fifo_peek(queue), fifo_len(queue), MSG_DONTWAIT, NULL,
			       NULL);
		if (n < 0) {
			c->client_broken = n != -EAGAIN;
			return;
		}
		fifo_skip(queue, (size_t)n);
	}
}

static void cargo_free(void *cargo)
{
	fdset_close(cargo);
	free(cargo);
}

/* The descriptors of @fds made fit to cross, as a talk's cargo; NULL with @why when one is not. */
static void *cargo_new(struct connection *c, struct fdset *fds, char *why, size_t size)
{
	struct fdset *cargo = malloc(sizeof(*cargo));
	int fd;

	if (!cargo)
		return NULL;
	for (cargo->n = 0; cargo->n < fds->n; cargo->fd[cargo->n++] = fd) {
		fd = cross_prepare(c->setting->crossing, fds->fd[cargo->n], CROSS_UNKNOWN, why,
				   size);
		if (fd < 0) {
			cargo_free(cargo);
			return NULL;
		}
	}
	return cargo;
}

static int monitor_from_client(struct connection *c, size_t n, struct fdset *fds)
{
	char why[512] = "no memory";
	void *cargo = NULL;

	if (fds->n) {
		cargo = cargo_new(c, fds, why, sizeof(why));
		if (!cargo) {
			log_warning("a descriptor cannot be passed to QEMU: %s", why);
			talk_refuse(&c->talk, why);
		}
	}
	return talk_from_client(&c->talk, piece, n, cargo);
}

static int device_from_client(struct connection *c, size_t n, struct fdset *fds)
{
	if (fds->n)
		return -EOPNOTSUPP;
	return fifo_add(&c->to_remote, piece, n);
}

static void read_client(struct connection *c)
{
	struct fdset fds;
	ssize_t n = fd_recvmsg(c->client, piece, sizeof(piece), MSG_DONTWAIT, &fds);
	int ret = 0;

	if (n == -EAGAIN)
		return;
	if (n <= 0) {
		c->client_ended = true;
		c->client_broken = n < 0;
		return;
	}
	ret = is_monitor(c) ? monitor_from_client(c, (size_t)n, &fds)
			    : device_from_client(c, (size_t)n, &fds);
	fdset_close(&fds);
	if (ret) {
		log_warning("a client of QEMU's is hung up on: %s", strerrordesc_np(-ret));
		c->client_broken = true;
	}
}

/* ---- the remote ---- */

static void write_device(struct connection *c)
{
	ssize_t n = fd_sendmsg(c->remote, fifo_peek(&c->to_remote), fifo_len(&c->to_remote),
			       MSG_DONTWAIT, NULL, NULL);

	if (n >= 0)
		fifo_skip(&c->to_remote, (size_t)n);
	else if (n != -EAGAIN)
		c->remote_deaf = true;
}

static void write_monitor(struct connection *c)
{
	const struct talk_command *command = talk_next(&c->talk);
	ssize_t n =
		fd_sendmsg(c->remote, command->text + command->sent, command->len - command->sent,
			   MSG_DONTWAIT, command->sent ? NULL : command->cargo, NULL);

	if (n >= 0)
		talk_sent(&c->talk, (size_t)n);
	else if (n != -EAGAIN)
		c->remote_deaf = true;
}

static void on_redial(void *arg);

static void remote_lost(struct connection *c)
{
	loop_io_stop(&c->on_remote);
	replace_fd(&c->remote, -1);
	c->remote_deaf = c->remote_told = false;
	if (is_monitor(c))
		talk_remote_down(&c->talk);
	if (c->channel == ARGV_DISPLAY)
		c->remote_final = true;
	if (!c->remote_final)
		loop_timer_start(c->setting->loop, &c->redial, c->redial_ms, on_redial, c);
}

static void read_remote(struct connection *c)
{
	struct fdset fds;
	ssize_t n = fd_recvmsg(c->remote, piece, sizeof(piece), MSG_DONTWAIT, &fds);
	int ret;

	if (n == -EAGAIN)
		return;
	if (n <= 0) {
		remote_lost(c);
		return;
	}
	fdset_close(&fds); /* QEMU sends none */
	ret = is_monitor(c) ? talk_from_remote(&c->talk, piece, (size_t)n)
			    : fifo_add(&c->to_client, piece, (size_t)n);
	c->redial_ms = REDIAL_FIRST_MS;
	if (ret) {
		log_warning("a connection to QEMU is given up: %s", strerrordesc_np(-ret));
		c->redial_ms = REDIAL_LAST_MS;
		remote_lost(c);
	}
}

static void remote_ready(void *arg, short revents)
{
	struct connection *c = arg;

	if (revents & POLLOUT && remote_pending(c)) {
		if (is_monitor(c))
			write_monitor(c);
		else
			write_device(c);
	}
	if (revents & (POLLIN | POLLHUP | POLLERR))
		read_remote(c);
	write_client(c);
	settle(c);
}

static void client_ready(void *arg, short revents)
{
	struct connection *c = arg;

	if (revents & POLLOUT)
		write_client(c);
	if (revents & (POLLIN | POLLHUP | POLLERR))
		read_client(c);
	settle(c);
}

static void on_redial(void *arg)
{
	struct connection *c = arg;
	int fd = c->hooks->dial(c->hooks->arg);

	if (fd < 0) {
		c->redial_ms = MIN(c->redial_ms * 2, (unsigned int)REDIAL_LAST_MS);
		loop_timer_start(c->setting->loop, &c->redial, c->redial_ms, on_redial, c);
		return;
	}
	c->remote = fd;
	loop_io_start(c->setting->loop, &c->on_remote, fd, 0, remote_ready, c);
	if (is_monitor(c))
		talk_remote_up(&c->talk);
	settle(c);
}

/* ---- the public functions ---- */

struct connection *connection_new(const struct connection_setting *setting, int client,
				  enum argv_channel channel, const struct connection_hooks *hooks)
{
	struct connection *c = calloc(1, sizeof(*c));

	if (!c) {
		close(client);
		return NULL;
	}
	c->setting = setting;
	c->hooks = hooks;
	c->channel = channel;
	c->client = client;
	c->remote = -1;
	c->redial_ms = REDIAL_FIRST_MS;
	talk_init(&c->talk, setting->names, cargo_free);
	loop_io_start(setting->loop, &c->on_client, client, POLLIN, client_ready, c);
	loop_timer_start(setting->loop, &c->redial, 0, on_redial, c);
	return c;
}

void connection_finish(struct connection *c)
{
	c->remote_final = true;
	loop_timer_stop(&c->redial);
	settle(c);
}
