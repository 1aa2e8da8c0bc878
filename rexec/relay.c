/* SPDX-License-Identifier: Apache-2.0 */
#include "relay.h"

#include <stdlib.h>
#include <sys/socket.h>

#include "util.h"

static enum relay_side side_of(const struct relay *r, const struct flow *f)
{
	return f == &r->from[RELAY_CLIENT] ? RELAY_CLIENT : RELAY_SERVER;
}

static enum relay_side other(enum relay_side side)
{
	return side == RELAY_CLIENT ? RELAY_SERVER : RELAY_CLIENT;
}

static void on_data(struct flow *f, const void *bytes, size_t n, struct fdset *fds)
{
	struct relay *r = f->arg;

	if (r->hooks && r->hooks->data)
		r->hooks->data(r, side_of(r, f), bytes, n, fds);
	else
		flow_send(f, bytes, n, fds);
}

static void on_eof(struct flow *f, int error)
{
	struct relay *r = f->arg;

	if (r->hooks && r->hooks->eof)
		r->hooks->eof(r, side_of(r, f), error);
	else
		flow_shut(f);
}

static void on_closed(struct flow *f, int error)
{
	struct relay *r = f->arg;
	enum relay_side side = side_of(r, f);

	/* Nobody reads any more what this side writes: it is to know. */
	if (error)
		shutdown(r->fd[side], SHUT_RD);
	r->over[side] = true;
	if (!r->over[other(side)])
		return;
	close_keep_errno(take_fd(&r->fd[RELAY_CLIENT]));
	close_keep_errno(take_fd(&r->fd[RELAY_SERVER]));
	if (r->hooks && r->hooks->closed)
		r->hooks->closed(r);
	free(r);
}

static const struct flow_hooks flow_hooks = { .data = on_data, .eof = on_eof, .closed = on_closed };

struct relay *relay_new(struct loop *l, int client, int server, const struct relay_hooks *hooks,
			void *arg)
{
	struct relay *r = calloc(1, sizeof(*r));

	if (!r) {
		close_keep_errno(client);
		close_keep_errno(server);
		return NULL;
	}
	r->loop = l;
	r->fd[RELAY_CLIENT] = client;
	r->fd[RELAY_SERVER] = server;
	r->hooks = hooks;
	r->arg = arg;
	flow_start(&r->from[RELAY_CLIENT], l, client, server, &flow_hooks, r);
	flow_start(&r->from[RELAY_SERVER], l, server, client, &flow_hooks, r);
	return r;
}

void relay_send(struct relay *r, enum relay_side to, const void *bytes, size_t n, struct fdset *fds)
{
	flow_send(&r->from[other(to)], bytes, n, fds);
}

void relay_shut(struct relay *r, enum relay_side to)
{
	flow_shut(&r->from[other(to)]);
}

void relay_close(struct relay *r)
{
	flow_stop(&r->from[RELAY_CLIENT]);
	flow_stop(&r->from[RELAY_SERVER]);
	close_keep_errno(r->fd[RELAY_CLIENT]);
	close_keep_errno(r->fd[RELAY_SERVER]);
	free(r);
}

size_t relay_queued(const struct relay *r, enum relay_side to)
{
	return r->from[other(to)].queued;
}
