/* SPDX-License-Identifier: Apache-2.0 */
#include "keeper_parts.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "canon.h"
#include "control.h"
#include "fdpass.h"
#include "log.h"
#include "proctree.h"
#include "util.h"

#define PEER_SETTLE_MS 200   /* in which a killed udsproxyd is seen to be dead */
#define LIFE_TIMEOUT_MS 2000 /* in which the life line's end follows the connection's */

/* ---- telling the client ---- */

void keeper_send(int fd, struct frame_out *f)
{
	if (fd >= 0)
		fd_sendmsg(fd, f->data, frame_end(f), MSG_DONTWAIT, NULL, NULL);
}

void keeper_tell_refused(int fd, int status, const char *reason)
{
	struct frame_out f;

	frame_start(&f, REQUEST_REFUSED);
	buf_put_u8(&f.buf, (uint8_t)status);
	frame_text(&f, reason);
	keeper_send(fd, &f);
}

void keeper_tell_started(const struct keeper *k)
{
	struct frame_out f;

	frame_start(&f, REQUEST_STARTED);
	buf_put_u32(&f.buf, (uint32_t)k->pid);
	buf_put_u64(&f.buf, k->file);
	keeper_send(k->conn, &f);
}

uint8_t keeper_status(const struct keeper *k)
{
	return WIFSIGNALED(k->status) ? canon_signal(WTERMSIG(k->status)) : (uint8_t)WEXITSTATUS(k->status);
}

void keeper_tell_exited(const struct keeper *k)
{
	struct frame_out f;

	frame_start(&f, REQUEST_EXITED);
	buf_put_u8(&f.buf, WIFSIGNALED(k->status));
	buf_put_u8(&f.buf, keeper_status(k));
	buf_put_u8(&f.buf, k->survivors);
	buf_put_u8(&f.buf, k->timed_out);
	offsets_put(&k->offsets, &f.buf);
	keeper_send(k->conn, &f);
}

void keeper_tell_gone(const struct keeper *k)
{
	struct frame_out f;

	frame_start(&f, REQUEST_GONE);
	keeper_send(k->conn, &f);
}

void keeper_tell_taken(const struct keeper *k)
{
	struct frame_out f;

	frame_start(&f, REQUEST_TAKEN);
	keeper_send(k->conn, &f);
}

/* ---- the client's end, and the link's ---- */

void keeper_hang_up(struct keeper *k, bool lost)
{
	loop_io_stop(&k->conn_io);
	loop_io_stop(&k->life_io);
	loop_timer_stop(&k->peer_timer);
	loop_timer_stop(&k->life_timer);
	replace_fd(&k->conn, -1);
	replace_fd(&k->life, -1);
	replace_fd(&k->peer, -1);
	outputs_detach(&k->outputs, lost);
	pty_detach(&k->pty);
}

void keeper_client_gone(struct keeper *k)
{
	bool ends = !k->detached;

	if (!k->gone)
		log_info("session %s: there is no client any more, pid %d is %s", k->dir.id, k->pid,
			 ends ? "ended" : "kept");
	/* What a client of a detached program has not read is for the next one. */
	keeper_hang_up(k, !ends);
	if (!ends)
		return;
	k->abandoned = true;
	keeper_end_program(k);
}

static void link_lost(struct keeper *k)
{
	if (!k->keep) {
		keeper_client_gone(k);
		return;
	}
	log_info("session %s: the link was lost, pid %d is kept", k->dir.id, k->pid);
	keeper_hang_up(k, true);
}

static void on_life_timeout(void *arg)
{
	link_lost(arg);
}

static void on_peer_settled(void *arg)
{
	struct keeper *k = arg;
	struct pollfd p = { .fd = k->peer, .events = POLLIN };

	if (!k->confirmed || (k->peer >= 0 && poll(&p, 1, 0) > 0))
		link_lost(k);
	else
		keeper_client_gone(k);
}

/* ---- what the client sends ---- */

void keeper_signal(struct keeper *k, int signo, bool group)
{
	if (k->gone)
		return;
	if (k->exited)
		proctree_kill_children(signo, group);
	else
		kill(group ? -k->pid : k->pid, signo);
}

static void do_signal(struct keeper *k, struct buf *payload)
{
	int signo = local_signal(buf_get_u8(payload));
	bool group = buf_get_u8(payload);

	if (!payload->bad && signo)
		keeper_signal(k, signo, group);
}

static void do_window(struct keeper *k, struct buf *payload)
{
	struct request_terminal size = { 0 };

	frame_get_size(payload, &size);
	if (!payload->bad)
		pty_resize(&k->pty, &size);
}

static void answer_ping(const struct keeper *k)
{
	struct frame_out f;

	frame_start(&f, REQUEST_PONG);
	keeper_send(k->conn, &f);
}

static void do_affinity(struct keeper *k, struct buf *payload)
{
	pid_t tid = (pid_t)buf_get_u32(payload);
	size_t n = buf_left(payload);
	const uint8_t *bits = buf_get_bytes(payload, n);
	struct control c = { .what = CONTROL_AFFINITY };
	int err;

	if (!bits)
		return;
	for (size_t cpu = 0; cpu < MIN(8 * n, (size_t)CPU_SETSIZE); cpu++)
		if (bits[cpu / 8] >> cpu % 8 & 1)
			CPU_SET(cpu, &c.cpus);
	err = control_apply(&c, getpid(), tid);
	/* A new thread has its maker's CPUs. One that was made between the look at the list and its
	 * maker's turn is found the second time. */
	if (!err && !tid)
		err = control_apply(&c, getpid(), tid);
	if (err)
		log_warning("session %s: the affinity of thread %d cannot be set: %s", k->dir.id,
			    tid, strerrordesc_np(-err));
}

static void handle_frame(struct keeper *k, uint8_t type, struct buf *payload)
{
	switch (type) {
	case REQUEST_SIGNAL:
		do_signal(k, payload);
		break;
	case REQUEST_AFFINITY:
		do_affinity(k, payload);
		break;
	case REQUEST_WINDOW:
		do_window(k, payload);
		break;
	case REQUEST_PING:
		answer_ping(k);
		break;
	case REQUEST_CONFIRM:
		k->confirmed = true;
		break;
	case REQUEST_DONE:
		k->acknowledged = true;
		break;
	default:
		log_warning("session %s: the client sent a frame of unknown type %u", k->dir.id,
			    type);
		break;
	}
}

/* 1: a frame was there; 0: none as yet; negative: the connection is of no more use. */
static int next_frame(struct keeper *k)
{
	struct buf payload;
	uint8_t type;
	int got = frame_next(&k->in, &type, &payload);

	if (got > 0) {
		handle_frame(k, type, &payload);
		frame_skip(&k->in);
	}
	return got;
}

/* What has come is handled; false when no more will. */
static bool read_conn(struct keeper *k)
{
	size_t space;
	void *at = frame_space(&k->in, &space);
	ssize_t n = recv(k->conn, at, space, MSG_DONTWAIT);
	int got = 1;

	if (n < 0)
		return errno == EAGAIN || errno == EINTR;
	frame_received(&k->in, (size_t)n);
	while (got > 0)
		got = next_frame(k);
	return n > 0 && got == 0;
}

static void on_conn(void *arg, short revents)
{
	struct keeper *k = arg;

	(void)revents;
	if (read_conn(k))
		return;
	/* The life line says what this means. */
	loop_io_stop(&k->conn_io);
	loop_timer_start(&k->loop, &k->life_timer, LIFE_TIMEOUT_MS, on_life_timeout, k);
}

static void on_life(void *arg, short revents)
{
	struct keeper *k = arg;
	char byte;
	ssize_t n = recv(k->life, &byte, sizeof(byte), MSG_DONTWAIT);

	(void)revents;
	if (n > 0 || (n < 0 && (errno == EAGAIN || errno == EINTR)))
		return;
	loop_io_stop(&k->life_io);
	read_conn(k);
	if (n < 0)
		link_lost(k);
	else if (k->keep && (k->proxied || !k->confirmed))
		/* The connection's last frames came another way, and may be behind. */
		loop_timer_start(&k->loop, &k->peer_timer, PEER_SETTLE_MS, on_peer_settled, k);
	else
		keeper_client_gone(k);
}

void keeper_attach(struct keeper *k, int conn, int life, bool proxied)
{
	struct ucred cred;

	k->conn = conn;
	k->life = life;
	k->proxied = proxied;
	k->in.have = 0;
	if (!fd_peer(conn, &cred) && cred.pid > 0)
		k->peer = (int)syscall(SYS_pidfd_open, cred.pid, 0);
	loop_io_start(&k->loop, &k->conn_io, conn, POLLIN, on_conn, k);
	loop_io_start(&k->loop, &k->life_io, life, POLLIN, on_life, k);
}

