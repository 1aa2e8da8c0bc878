/* SPDX-License-Identifier: Apache-2.0 */
/*
 * keeper.c - how a program is kept
 *
 * In execution order:
 *  1. admit() receives the request and decides. A refusal is answered, logged, and that is all.
 *  2. prepare() makes the session's directory with the client's small files, keeper.sock and the
 *     listening twins, and with `keep` a pipe of ours before each output pipe.
 *  3. start() forks and executes; STARTED.
 *  4. The loop. Four things come in: SIGCHLD (we are the subreaper: our children are the program
 *     and whatever it left behind), frames of the client, the end of its life line, visitors on
 *     keeper.sock. After each turn settle() decides from the state alone what is to be told and
 *     whether we are done.
 *
 * The client's end and the link's end are told apart by the life line (request.h). Behind a
 * udsproxyd its end of file counts only while that udsproxyd lives: one that was killed had no
 * time to say that the link was lost. A client that attached must confirm before its end counts:
 * it may have given its attempt up meanwhile.
 *
 * An outcome that the client has not acknowledged is kept: for OUTCOME_HOLD_MS when the client
 * may come back, for LINGER_MS when it may not.
 */
#include "keeper.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "admit.h"
#include "canon.h"
#include "child.h"
#include "log.h"
#include "loop.h"
#include "outputs.h"
#include "proctree.h"
#include "relay.h"
#include "request.h"
#include "session.h"
#include "sessiondir.h"
#include "util.h"

#define TERM_TIMEOUT_MS 5000 /* from SIGTERM to SIGKILL */
#define KILL_AGAIN_MS 100
#define PEER_SETTLE_MS 200   /* in which a killed udsproxyd is seen to be dead */
#define LIFE_TIMEOUT_MS 2000 /* in which the life line's end follows the connection's */
#define LINGER_MS 10000
#define OUTCOME_HOLD_MS 86400000
#define VISITOR_TIMEOUT_MS 10000
#define VISITORS_MAX 64

struct keeper {
	const struct keeper_setup *setup;
	struct loop loop;
	struct admission admission;
	struct sessiondir dir;
	struct outputs outputs;
	int signals; /* signalfd */
	int door;    /* keeper.sock */
	unsigned visitors;
	struct loop_io signals_io, door_io;

	/* the client */
	int conn, life; /* -1: nobody is attached */
	int peer;	/* pidfd of who is at the other end, -1 unknown */
	bool keep, proxied, confirmed;
	struct loop_io conn_io, life_io;
	struct loop_timer peer_timer, life_timer;
	struct frame_in in;

	/* the program */
	pid_t pid;
	int status;
	bool exited;	/* it ended */
	bool survivors; /* and left something running */
	bool gone;	/* nothing of it is left */
	bool told_exited, told_gone, acknowledged;
	bool ending, abandoned; /* being ended; nobody waits for the outcome */
	bool over;
	struct loop_timer killing, holding;
};

/* A connection on keeper.sock whose first frame is awaited. */
struct visitor {
	struct keeper *k;
	int fd;
	struct loop_io io;
	struct loop_timer timeout;
	struct fdset fds;
	struct frame_in in;
};

/* ---- telling the client ---- */

/* The few frames that a connection ever gets fit its buffer; one that cannot be sent is noticed
 * by reading. */
static void send_frame(int fd, struct frame_out *f)
{
	if (fd >= 0)
		fd_sendmsg(fd, f->data, frame_end(f), MSG_DONTWAIT, NULL, NULL);
}

static void tell_refused(int fd, int status, const char *reason)
{
	struct frame_out f;

	frame_start(&f, REQUEST_REFUSED);
	buf_put_u8(&f.buf, (uint8_t)status);
	frame_text(&f, reason);
	send_frame(fd, &f);
}

static void tell_started(const struct keeper *k)
{
	struct frame_out f;

	frame_start(&f, REQUEST_STARTED);
	buf_put_u32(&f.buf, (uint32_t)k->pid);
	send_frame(k->conn, &f);
}

static void tell_exited(const struct keeper *k)
{
	bool killed = WIFSIGNALED(k->status);
	struct frame_out f;

	frame_start(&f, REQUEST_EXITED);
	buf_put_u8(&f.buf, killed);
	buf_put_u8(&f.buf,
		   killed ? canon_signal(WTERMSIG(k->status)) : (uint8_t)WEXITSTATUS(k->status));
	buf_put_u8(&f.buf, k->survivors);
	send_frame(k->conn, &f);
}

static void tell_gone(const struct keeper *k)
{
	struct frame_out f;

	frame_start(&f, REQUEST_GONE);
	send_frame(k->conn, &f);
}

/* ---- ending the program ---- */

static void on_kill(void *arg)
{
	struct keeper *k = arg;

	proctree_kill(SIGKILL);
	/* Again and again: what forked meanwhile was missed. */
	loop_timer_start(&k->loop, &k->killing, KILL_AGAIN_MS, on_kill, k);
}

static void end_program(struct keeper *k)
{
	if (k->ending)
		return;
	k->ending = true;
	proctree_kill(SIGTERM);
	/* A stopped process takes its SIGTERM only so. */
	proctree_kill(SIGCONT);
	loop_timer_start(&k->loop, &k->killing, TERM_TIMEOUT_MS, on_kill, k);
}

static void reap(struct keeper *k)
{
	int status;
	pid_t pid;

	while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
		if (pid != k->pid)
			continue;
		k->exited = true;
		k->status = status;
	}
	/* Orphans became our children before their parent's end was told, so what the program
	 * leaves behind is already here. */
	k->gone = k->exited && pid < 0 && errno == ECHILD;
	if (k->exited && !k->gone)
		k->survivors = true;
	if (k->gone)
		loop_timer_stop(&k->killing);
}

static void on_signal(void *arg, short revents)
{
	struct keeper *k = arg;
	struct signalfd_siginfo info;

	(void)revents;
	while (read(k->signals, &info, sizeof(info)) == (ssize_t)sizeof(info)) {
		if (info.ssi_signo != SIGTERM)
			continue;
		/* Of a program that is gone only its outcome is kept here. */
		k->over = k->gone;
		end_program(k);
	}
	reap(k);
}

/* ---- the client's end, and the link's ---- */

static void hang_up(struct keeper *k, bool lost)
{
	loop_io_stop(&k->conn_io);
	loop_io_stop(&k->life_io);
	loop_timer_stop(&k->peer_timer);
	loop_timer_stop(&k->life_timer);
	replace_fd(&k->conn, -1);
	replace_fd(&k->life, -1);
	replace_fd(&k->peer, -1);
	outputs_detach(&k->outputs, lost);
}

static void client_gone(struct keeper *k)
{
	if (!k->gone)
		log_info("session %s: there is no client any more, pid %d is ended", k->dir.id,
			 k->pid);
	hang_up(k, false);
	k->abandoned = true;
	end_program(k);
}

static void link_lost(struct keeper *k)
{
	if (!k->keep) {
		client_gone(k);
		return;
	}
	log_info("session %s: the link was lost, pid %d is kept", k->dir.id, k->pid);
	hang_up(k, true);
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
		client_gone(k);
}

/* ---- what the client sends ---- */

static void do_signal(struct keeper *k, struct buf *payload)
{
	int signo = local_signal(buf_get_u8(payload));
	bool group = buf_get_u8(payload);

	if (payload->bad || !signo || k->gone)
		return;
	if (k->exited)
		proctree_kill_children(signo, group);
	else
		kill(group ? -k->pid : k->pid, signo);
}

static void do_affinity(struct keeper *k, struct buf *payload)
{
	pid_t tid = (pid_t)buf_get_u32(payload);
	size_t n = buf_left(payload);
	const uint8_t *bits = buf_get_bytes(payload, n);
	cpu_set_t *set = bits ? CPU_ALLOC(8 * n) : NULL;
	size_t size = CPU_ALLOC_SIZE(8 * n);
	int err = 0;

	if (!set)
		return;
	CPU_ZERO_S(size, set);
	for (size_t cpu = 0; cpu < 8 * n; cpu++)
		if (bits[cpu / 8] >> cpu % 8 & 1)
			CPU_SET_S(cpu, size, set);
	if (!proctree_has(tid))
		err = ESRCH;
	else if (sched_setaffinity(tid, size, set))
		err = errno;
	if (err)
		log_warning("session %s: the affinity of thread %d cannot be set: %s", k->dir.id,
			    tid, strerrordesc_np(err));
	CPU_FREE(set);
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
		client_gone(k);
}

/* @conn and @life are taken: who holds them is the client from now on. */
static void attach(struct keeper *k, int conn, int life, bool proxied)
{
	struct ucred cred;
	socklen_t size = sizeof(cred);

	k->conn = conn;
	k->life = life;
	k->proxied = proxied;
	k->in.have = 0;
	if (!getsockopt(conn, SOL_SOCKET, SO_PEERCRED, &cred, &size) && cred.pid > 0)
		k->peer = (int)syscall(SYS_pidfd_open, cred.pid, 0);
	loop_io_start(&k->loop, &k->conn_io, conn, POLLIN, on_conn, k);
	loop_io_start(&k->loop, &k->life_io, life, POLLIN, on_life, k);
}

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

static const char *attach_visitor(struct visitor *v, struct buf *payload)
{
	struct keeper *k = v->k;
	bool known =
		buf_get_u32(payload) == REQUEST_MAGIC && buf_get_u16(payload) == REQUEST_VERSION;
	uint16_t flags = buf_get_u16(payload);

	if (!known)
		return "rexec and rexec_server are of different versions";
	if (buf_get_u16(payload) != v->fds.n || !buf_done(payload) || v->fds.n < 1)
		return "malformed request";
	if (!k->keep || k->abandoned)
		return "the program does not outlive its client";
	if ((size_t)v->fds.n != 1 + k->outputs.n)
		return "not the outputs that were passed first";
	/* The old connection may not know yet that it is broken. */
	hang_up(k, true);
	outputs_attach(&k->outputs, &v->fds, 1);
	attach(k, take_fd(&v->fd), fdset_take(&v->fds, 0), flags & REQUEST_PROXIED);
	k->confirmed = k->told_exited = k->told_gone = false;
	log_info("session %s: a client attached to pid %d", k->dir.id, k->pid);
	tell_started(k);
	return NULL;
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
	const char *path = frame_get_text(payload);
	int tty = path ? open_tty(path, v->k->admission.identity.uid) : -EPROTO;
	struct frame_out f;

	frame_start(&f, REQUEST_RESULT);
	buf_put_u16(&f.buf, canon_errno(tty < 0 ? -tty : 0));
	frame_text(&f, tty < 0 ? strerrordesc_np(-tty) : "");
	send_frame(v->fd, &f);
	/* The relay lives until one side closes, or until we do. */
	if (tty >= 0)
		relay_new(&v->k->loop, take_fd(&v->fd), tty, NULL, NULL);
}

static void serve_visitor(struct visitor *v, uint8_t type, struct buf *payload)
{
	const char *refused;

	loop_io_stop(&v->io);
	if (type == REQUEST_TTY) {
		serve_tty(v, payload);
	} else if (type == REQUEST_ATTACH) {
		refused = attach_visitor(v, payload);
		if (refused)
			tell_refused(v->fd, EXIT_REXEC_FAILED, refused);
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

static bool may_visit(const struct keeper *k, int fd)
{
	struct ucred cred;
	socklen_t size = sizeof(cred);

	return !getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &size) &&
	       (cred.uid == 0 || cred.uid == k->admission.client);
}

static void on_door(void *arg, short revents)
{
	struct keeper *k = arg;
	_cleanup_close_ int fd = accept4(k->door, NULL, NULL, SOCK_CLOEXEC);
	struct visitor *v;

	(void)revents;
	if (fd < 0 || !may_visit(k, fd) || k->visitors >= VISITORS_MAX)
		return;
	v = calloc(1, sizeof(*v));
	if (!v)
		return;
	v->k = k;
	v->fd = take_fd(&fd);
	k->visitors++;
	loop_io_start(&k->loop, &v->io, v->fd, POLLIN, on_visitor, v);
	loop_timer_start(&k->loop, &v->timeout, VISITOR_TIMEOUT_MS, on_visitor_timeout, v);
}

/* ---- making ready ---- */

static int prepare_dir(struct keeper *k)
{
	const struct request *r = &k->admission.request;
	int err = sessiondir_make(&k->dir, k->setup->sessions, k->setup->runtime, r->id,
				  k->admission.identity.uid, k->admission.identity.gid);

	for (size_t i = 0; !err && i < r->n_files; i++)
		err = sessiondir_write(&k->dir, &r->files[i]);
	if (err)
		return err;
	k->door = sessiondir_listen(&k->dir, REXEC_KEEPER_SOCKET, SOCK_STREAM);
	return MIN(k->door, 0);
}

static int make_twin(struct keeper *k, const struct request_fd *fd)
{
	char name[REQUEST_NAME_MAX];
	int type = local_socktype((uint8_t)fd->value);

	if (type != SOCK_STREAM && type != SOCK_SEQPACKET)
		return -ESOCKTNOSUPPORT;
	snprintf(name, sizeof(name), REXEC_TWIN_FORMAT, (int)fd->number);
	return sessiondir_listen(&k->dir, name, type);
}

/* Puts a pipe of ours before each output: @passed[i] becomes the program's end of it. */
static int prepare_outputs(struct keeper *k, int *passed)
{
	const struct request *r = &k->admission.request;
	bool seen[FDSET_MAX] = { false };
	int err = outputs_init(&k->outputs, &k->loop, k->keep ? r->n_fds : 0);

	for (int index = 1; !err && k->keep && index < r->n_passed; index++) {
		for (size_t i = 0; i < r->n_fds && !seen[index]; i++)
			seen[index] =
				r->fds[i].kind == REQUEST_FD_OUTPUT && r->fds[i].value == index;
		if (!seen[index])
			continue;
		passed[index] = outputs_add(&k->outputs, fdset_take(&k->admission.passed, index));
		err = MIN(passed[index], 0);
	}
	return err;
}

/* The program's descriptor table; twins are added to @twins. */
static int prepare_fds(struct keeper *k, struct child_fd *fds, struct fdset *twins)
{
	const struct request *r = &k->admission.request;
	int passed[FDSET_MAX];
	int err;

	memcpy(passed, k->admission.passed.fd, sizeof(passed));
	err = prepare_outputs(k, passed);
	for (size_t i = 0; !err && i < r->n_fds; i++) {
		fds[i].number = (int)r->fds[i].number;
		if (r->fds[i].kind != REQUEST_FD_LISTENER) {
			fds[i].fd = passed[r->fds[i].value];
		} else if (twins->n == FDSET_MAX) {
			err = -E2BIG;
		} else {
			fds[i].fd = make_twin(k, &r->fds[i]);
			err = MIN(fds[i].fd, 0);
			if (!err)
				twins->fd[twins->n++] = fds[i].fd;
		}
	}
	return err;
}

static uint64_t local_signals(uint64_t canon)
{
	uint64_t set = 0;

	for (unsigned i = 1; i <= 64; i++) {
		int signo = canon >> (i - 1) & 1 ? local_signal((uint8_t)i) : 0;

		if (signo)
			set |= UINT64_C(1) << (signo - 1);
	}
	return set;
}

static pid_t spawn(struct keeper *k, const struct child_fd *fds, const char **failed)
{
	const struct admission *a = &k->admission;
	const struct child_spec spec = {
		.path = a->path,
		.program = a->program,
		.argv = a->request.argv,
		.env = a->env,
		.cwd = a->request.cwd,
		.umask = a->request.umask,
		.ignored = local_signals(a->request.ignored),
		.blocked = local_signals(a->request.blocked),
		.limits = a->request.limits,
		.fds = fds,
		.n_fds = a->request.n_fds,
		.identity = a->switch_user ? &a->identity : NULL,
	};

	return child_spawn(&spec, failed);
}

/* Return: the exit status of a failure, with @reason, 0 when the program runs. */
static int start(struct keeper *k, char *reason)
{
	struct child_fd fds[REQUEST_FDS_MAX];
	struct fdset twins = { 0 };
	const char *failed = "the session's directory";
	int err = prepare_dir(k);

	if (!err) {
		failed = "descriptors";
		err = prepare_fds(k, fds, &twins);
	}
	if (!err) {
		failed = "the session's directory";
		err = sessiondir_give(&k->dir);
	}
	if (!err) {
		k->pid = spawn(k, fds, &failed);
		replace_fd(&k->admission.program, -1);
		err = MIN(k->pid, 0);
	}
	fdset_close(&twins);
	if (!err) {
		outputs_start(&k->outputs);
		return 0;
	}
	snprintf(reason, POLICY_REASON_MAX, "%.300s: %s: %s",
		 strcmp(failed, "chdir") ? k->admission.path : k->admission.request.cwd, failed,
		 strerrordesc_np(-err));
	return strcmp(failed, "execve") ? EXIT_REXEC_FAILED : EXIT_REFUSED;
}

/* ---- the loop ---- */

static void on_hold_end(void *arg)
{
	struct keeper *k = arg;

	k->over = true;
}

static void settle(struct keeper *k)
{
	bool attached = k->conn >= 0;

	if (attached && k->exited && !k->told_exited && outputs_drain(&k->outputs)) {
		tell_exited(k);
		k->told_exited = true;
	}
	if (attached && k->gone && k->told_exited && !k->told_gone && k->survivors &&
	    outputs_drain(&k->outputs)) {
		tell_gone(k);
		k->told_gone = true;
	}
	if (!k->gone)
		return;
	if (k->acknowledged || k->abandoned)
		k->over = true;
	else if (!k->holding.loop)
		loop_timer_start(&k->loop, &k->holding, k->keep ? OUTCOME_HOLD_MS : LINGER_MS,
				 on_hold_end, k);
}

static int open_signals(void)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGCHLD);
	sigaddset(&set, SIGTERM);
	sigprocmask(SIG_SETMASK, &set, NULL);
	return signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}

static void run(struct keeper *k)
{
	loop_io_start(&k->loop, &k->signals_io, k->signals, POLLIN, on_signal, k);
	loop_io_start(&k->loop, &k->door_io, k->door, POLLIN, on_door, k);
	while (!k->over) {
		if (loop_turn(&k->loop, -1))
			client_gone(k);
		settle(k);
	}
}

static void log_decision(const struct keeper *k, int refused, const char *reason)
{
	const struct admission *a = &k->admission;
	const char *program = a->request.argc ? a->request.argv[0] : "?";

	if (refused)
		log_warning("uid %u (pid %d): %.200s refused (%d): %s", a->client, a->client_pid,
			    program, refused, reason);
	else
		log_info("session %s: uid %u started %s as uid %u, pid %d", k->dir.id, a->client,
			 a->path, a->identity.uid, k->pid);
}

void keeper_run(const struct keeper_setup *setup)
{
	struct keeper k = { .setup = setup,
			    .dir = SESSIONDIR_NONE,
			    .signals = -1,
			    .door = -1,
			    .conn = -1,
			    .life = -1,
			    .peer = -1,
			    .confirmed = true };
	char reason[POLICY_REASON_MAX];
	int refused;

	prctl(PR_SET_NAME, "rexec-keeper");
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	setsid();
	signal(SIGPIPE, SIG_IGN);
	loop_init(&k.loop);
	k.signals = open_signals();
	refused = admit(&k.admission, setup->conn, setup->policy, setup->runtime, reason);
	k.keep = k.admission.request.flags & REQUEST_KEEP;
	if (!refused)
		refused = start(&k, reason);
	if (refused >= 0)
		log_decision(&k, refused, reason);
	if (refused) {
		tell_refused(setup->conn, refused, reason);
		close(setup->conn);
	} else {
		attach(&k, setup->conn, fdset_take(&k.admission.passed, 0),
		       k.admission.request.flags & REQUEST_PROXIED);
		/* The program has what it was passed; the last holder is who ends it. */
		fdset_close(&k.admission.passed);
		tell_started(&k);
		run(&k);
	}
	hang_up(&k, false);
	sessiondir_remove(&k.dir);
	outputs_deinit(&k.outputs);
	admission_deinit(&k.admission);
	loop_deinit(&k.loop);
}
