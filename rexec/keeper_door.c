/* SPDX-License-Identifier: Apache-2.0 */
/*
 * keeper_door.c - who visits a keeper on its own socket, and may: root, and who asked for the program
 *
 * A visitor says one thing, which is answered, or it becomes the client, or the terminal's other end.
 */
#include "keeper_parts.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "canon.h"
#include "control.h"
#include "fdpass.h"
#include "log.h"
#include "proctree.h"
#include "relay.h"
#include "session.h"
#include "util.h"

#define VISITOR_TIMEOUT_MS 10000
#define VISITORS_MAX 64
#define SET_TIMEOUT_MS 2000

/* A connection on ID.keeper whose first frame is awaited. */
struct visitor {
	struct keeper *k;
	int fd;
	uid_t uid;
	struct loop_io io;
	struct loop_timer timeout;
	struct fdset fds;
	struct frame_in in;
};

/* ---- visitors ---- */

static void visitor_leaves(struct visitor *v)
{
	loop_io_stop(&v->io);
	loop_timer_stop(&v->timeout);
	fdset_close(&v->fds);
	close_keep_errno(v->fd);
	v->k->visitors--;
	free(v);
}

static void on_visitor_timeout(void *arg)
{
	visitor_leaves(arg);
}

/* ---- what they ask ---- */

static void answer(const struct visitor *v, int error, const char *reason)
{
	struct frame_out f;

	frame_start(&f, REQUEST_RESULT);
	buf_put_u16(&f.buf, canon_errno(error));
	frame_text(&f, reason ? reason : error ? strerrordesc_np(error) : "");
	keeper_send(v->fd, &f);
}

static const char *attach_visitor(struct visitor *v, struct buf *payload)
{
	struct keeper *k = v->k;
	uint32_t numbers[FDSET_MAX] = { 0 };
	bool known = frame_get_version(payload);
	uint16_t flags = buf_get_u16(payload);

	if (!known)
		return "rexec and rexec_server are of different versions";
	if (buf_get_u16(payload) != v->fds.n || v->fds.n < 1)
		return "malformed request";
	for (int i = 1; i < v->fds.n; i++)
		numbers[i - 1] = buf_get_u32(payload);
	if (!buf_done(payload))
		return "malformed request";
	if (!k->keep || k->abandoned)
		return "the program does not outlive its client";
	/* The old connection may not know yet that it is broken. If it is not, who has it is not to come back: the
	 * two would take the program from each other for ever. What it has not read is taken back before: it may say so into
	 * the same pipe. */
	outputs_detach(&k->outputs, true);
	keeper_tell_taken(k);
	keeper_hang_up(k, true);
	outputs_attach(&k->outputs, &v->fds, 1, numbers);
	keeper_attach(k, take_fd(&v->fd), fdset_take(&v->fds, 0), flags & REQUEST_PROXIED);
	k->confirmed = k->told_exited = k->told_gone = false;
	log_info("session %s: a client attached to pid %d", k->dir.id, k->pid);
	keeper_tell_started(k);
	return NULL;
}

static uint8_t state_of(const struct keeper *k)
{
	if (k->gone)
		return REQUEST_ENDED;
	return k->exited ? REQUEST_SURVIVED : REQUEST_RUNNING;
}

/* The arguments as one would type them, nearly: what does not fit is cut. */
static void put_command(const struct request *r, char *to, size_t size)
{
	char *at = to, *end = to + size - 1;

	for (size_t i = 0; i < r->argc && at < end; i++) {
		if (i)
			*at++ = ' ';
		at = (char *)memccpy(at, r->argv[i], '\0', (size_t)(end - at));
		at = at ? at - 1 : end;
	}
	*at = '\0';
}

static void tell_info(const struct visitor *v)
{
	const struct keeper *k = v->k;
	char command[REQUEST_REASON_MAX];
	const struct request_program p = {
		.id = k->dir.id,
		.pid = (uint32_t)k->pid,
		.client = k->admission.client,
		.user = k->admission.identity.uid,
		.age_s = (loop_now() - k->started) / 1000,
		.state = state_of(k),
		.killed = k->exited && WIFSIGNALED(k->status),
		.status = k->exited ? keeper_status(k) : 0,
		.attached = k->conn >= 0,
		.command = command,
	};
	struct frame_out f;

	put_command(&k->admission.request, command, sizeof(command));
	frame_start(&f, REQUEST_PROGRAM);
	frame_put_program(&f, &p);
	keeper_send(v->fd, &f);
}

static void serve_kill(struct visitor *v, struct buf *payload)
{
	struct keeper *k = v->k;
	uint8_t canon = buf_get_u8(payload);
	int signo = local_signal(canon);

	if (!buf_done(payload) || (canon && !signo)) {
		answer(v, EINVAL, NULL);
		return;
	}
	log_info("session %s: uid %u sends %s to pid %d", k->dir.id, v->uid,
		 signo ? sigabbrev_np(signo) : "its end", k->pid);
	if (signo) {
		keeper_signal(k, signo, true);
	} else {
		k->forget = true;
		keeper_end_program(k);
	}
	answer(v, k->gone && signo ? ESRCH : 0, NULL);
}

/* With the rights of whom the program runs as, so that the kernel decides what it does for them itself. */
static int set_as_user(const struct keeper *k, const struct control *c, pid_t tid, bool root)
{
	const struct admission *a = &k->admission;
	pid_t keeper = getpid(), pid = fork();
	struct pollfd p = { .events = POLLIN };
	int status, err;

	if (pid < 0)
		return errno;
	if (!pid) {
		err = a->switch_user && !root ? child_become(&a->identity) : 0;
		_exit(-(err ? err : control_apply(c, keeper, tid)));
	}
	/* It is the user's process, who may have stopped it: we are not to stand still with it. */
	p.fd = (int)syscall(SYS_pidfd_open, pid, 0);
	if (p.fd < 0 || poll(&p, 1, SET_TIMEOUT_MS) <= 0)
		kill(pid, SIGKILL);
	close_keep_errno(p.fd);
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return errno;
	return WIFEXITED(status) ? WEXITSTATUS(status) : EIO;
}

static void serve_set(struct visitor *v, struct buf *payload)
{
	pid_t tid = (pid_t)buf_get_u32(payload);
	const char *text = frame_get_text(payload);
	struct control c;
	const char *wrong;
	int err;

	if (!buf_done(payload)) {
		answer(v, EPROTO, NULL);
		return;
	}
	wrong = control_parse(&c, text);
	if (wrong) {
		answer(v, EINVAL, wrong);
		return;
	}
	/* The child that does it is below us, too: it is not to be taken for something that is there. */
	err = v->k->gone ? ESRCH : set_as_user(v->k, &c, tid, v->uid == 0);
	log_info("session %s: uid %u sets %.64s of %s%d: %s", v->k->dir.id, v->uid, text,
		 tid ? "thread " : "pid ", tid ? tid : v->k->pid, err ? strerrordesc_np(err) : "done");
	answer(v, err, NULL);
}

/* A terminal that a process of this program holds the master of, or a negative errno. */
static int open_tty(const char *path, uid_t user)
{
	char expected[32];
	unsigned index;
	struct stat st;
	int fd;

	if (sscanf(path, "/dev/pts/%u", &index) != 1)
		return -EINVAL;
	snprintf(expected, sizeof(expected), "/dev/pts/%u", index);
	if (strcmp(path, expected) != 0)
		return -EINVAL;
	if (!proctree_holds_pty(index))
		return -EACCES;
	fd = open(path, O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	/* The master may be of another devpts: its number alone does not make this its slave. */
	if (user && (fstat(fd, &st) || st.st_uid != user)) {
		close(fd);
		return -EACCES;
	}
	return fd;
}

static void serve_tty(struct visitor *v, struct buf *payload)
{
	struct keeper *k = v->k;
	const char *path = frame_get_text(payload);
	bool own = path && !*path;
	int tty = -EPROTO;

	if (own)
		tty = k->pty.master < 0 ? -ENOTTY : 0;
	else if (path)
		tty = open_tty(path, k->admission.identity.uid);
	answer(v, tty < 0 ? -tty : 0, NULL);
	if (tty < 0)
		return;
	if (own)
		pty_attach(&k->pty, &k->loop, take_fd(&v->fd));
	else /* The relay lives until one side closes, or until we do. */
		relay_new(&k->loop, take_fd(&v->fd), tty, NULL, NULL);
}

static void serve_visitor(struct visitor *v, uint8_t type, struct buf *payload)
{
	const char *refused;

	loop_io_stop(&v->io);
	switch (type) {
	case REQUEST_TTY:
		serve_tty(v, payload);
		break;
	case REQUEST_ATTACH:
		refused = attach_visitor(v, payload);
		if (refused)
			keeper_tell_refused(v->fd, EXIT_REXEC_FAILED, refused);
		break;
	case REQUEST_INFO:
		tell_info(v);
		break;
	case REQUEST_KILL:
		serve_kill(v, payload);
		break;
	case REQUEST_SET:
		serve_set(v, payload);
		break;
	}
	visitor_leaves(v);
}

static void on_visitor(void *arg, short revents)
{
	struct visitor *v = arg;
	struct fdset fds;
	struct buf payload;
	size_t space;
	void *at = frame_space(&v->in, &space);
	ssize_t n = fd_recvmsg(v->fd, at, space, MSG_DONTWAIT, &fds);
	uint8_t type;
	int got;

	(void)revents;
	if (n == -EAGAIN)
		return;
	if (n <= 0) {
		visitor_leaves(v);
		return;
	}
	if (v->in.have)
		fdset_close(&fds);
	else
		v->fds = fds;
	frame_received(&v->in, (size_t)n);
	got = frame_next(&v->in, &type, &payload);
	if (got > 0)
		serve_visitor(v, type, &payload);
	else if (got < 0)
		visitor_leaves(v);
}

void keeper_on_door(void *arg, short revents)
{
	struct keeper *k = arg;
	_cleanup_close_ int fd = accept4(k->door, NULL, NULL, SOCK_CLOEXEC);
	struct ucred cred;
	struct visitor *v;

	(void)revents;
	if (fd < 0 || fd_peer(fd, &cred))
		return;
	/* Root is let in though the user's own visitors take all the room. */
	if (cred.uid && (cred.uid != k->admission.client || k->visitors >= VISITORS_MAX))
		return;
	v = calloc(1, sizeof(*v));
	if (!v)
		return;
	v->k = k;
	v->uid = cred.uid;
	v->fd = take_fd(&fd);
	k->visitors++;
	loop_io_start(&k->loop, &v->io, v->fd, POLLIN, on_visitor, v);
	loop_timer_start(&k->loop, &v->timeout, VISITOR_TIMEOUT_MS, on_visitor_timeout, v);
}

