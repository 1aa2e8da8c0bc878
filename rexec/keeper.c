/* SPDX-License-Identifier: Apache-2.0 */
/*
 * keeper.c - how a program is kept
 *
 * In execution order:
 *  1. admit() receives the request and decides. A refusal is answered, logged, and that is all.
 *  2. prepare() makes the session's directory with the client's small files, its own socket and the
 *     listening twins, and with `keep` a pipe of ours before each output pipe.
 *  3. start() forks and executes; STARTED.
 *  4. The loop. Four things come in: SIGCHLD (we are the subreaper: our children are the program
 *     and whatever it left behind), frames of the client, the end of its life line, visitors on
 *     that socket. After each turn settle() decides from the state alone what is to be told and
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
#include "keeper_parts.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "canon.h"
#include "log.h"
#include "proctree.h"
#include "roster.h"
#include "session.h"
#include "util.h"

#define TERM_TIMEOUT_MS 5000 /* from SIGTERM to SIGKILL */
#define KILL_AGAIN_MS 100
#define LINGER_MS 10000
#define OUTCOME_HOLD_MS 86400000

/* ---- ending the program ---- */

static void on_kill(void *arg)
{
	struct keeper *k = arg;

	proctree_kill(SIGKILL);
	/* Again and again: what forked meanwhile was missed. */
	loop_timer_start(&k->loop, &k->killing, KILL_AGAIN_MS, on_kill, k);
}

void keeper_end_program(struct keeper *k)
{
	if (k->ending || k->gone)
		return;
	k->ending = true;
	proctree_kill(SIGTERM);
	/* A stopped process takes its SIGTERM only so. */
	proctree_kill(SIGCONT);
	loop_timer_start(&k->loop, &k->killing, TERM_TIMEOUT_MS, on_kill, k);
}

static void on_timeout(void *arg)
{
	struct keeper *k = arg;

	log_info("session %s: pid %d has had its %u s", k->dir.id, k->pid,
		 k->admission.request.timeout_s);
	k->timed_out = true;
	keeper_end_program(k);
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
		offsets_note(&k->offsets);
	}
	/* Orphans became our children before their parent's end was told, so what the program
	 * leaves behind is already here. */
	k->gone = k->exited && pid < 0 && errno == ECHILD;
	if (k->exited && !k->gone)
		k->survivors = true;
	if (k->exited)
		loop_timer_stop(&k->timeout);
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
		keeper_end_program(k);
	}
	reap(k);
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
	k->door = sessiondir_listen_beside(&k->dir, k->admission.client);
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
static int prepare_outputs(struct keeper *k, struct child_fd *fds, int *passed)
{
	const struct request *r = &k->admission.request;
	bool seen[FDSET_MAX] = { false };
	int err = outputs_init(&k->outputs, &k->loop, k->keep ? r->n_fds : 0);

	for (size_t i = 0; !err && i < r->n_fds; i++) {
		unsigned index = r->fds[i].value;

		if (r->fds[i].kind != REQUEST_FD_OUTPUT)
			continue;
		if (index == REQUEST_OUTPUT_HELD)
			fds[i].fd = outputs_add(&k->outputs, -1, (int)r->fds[i].number);
		else if (!seen[index])
			passed[index] = outputs_add(&k->outputs, fdset_take(&k->admission.passed, (int)index),
						    (int)r->fds[i].number);
		if (index != REQUEST_OUTPUT_HELD)
			fds[i].fd = passed[index];
		seen[index] = true;
		err = MIN(fds[i].fd, 0);
	}
	return err;
}

static int prepare_terminal(struct keeper *k)
{
	const struct request *r = &k->admission.request;

	for (size_t i = 0; i < r->n_fds; i++)
		if (r->fds[i].kind == REQUEST_FD_TTY)
			return pty_open(&k->pty, &r->terminal, k->admission.identity.uid);
	return 0;
}

/* The program's descriptor table; twins are added to @twins. */
static int prepare_fds(struct keeper *k, struct child_fd *fds, struct fdset *twins)
{
	const struct request *r = &k->admission.request;
	int passed[FDSET_MAX];
	int err;

	memcpy(passed, k->admission.passed.fd, sizeof(passed));
	err = prepare_outputs(k, fds, passed);
	if (!err)
		err = prepare_terminal(k);
	for (size_t i = 0; !err && i < r->n_fds; i++) {
		fds[i].number = (int)r->fds[i].number;
		switch ((enum request_fd_kind)r->fds[i].kind) {
		case REQUEST_FD_OUTPUT:
			break;
		case REQUEST_FD_PASS:
			fds[i].fd = passed[r->fds[i].value];
			break;
		case REQUEST_FD_TTY:
			fds[i].fd = k->pty.slave;
			break;
		case REQUEST_FD_LISTENER:
			fds[i].fd = twins->n < FDSET_MAX ? make_twin(k, &r->fds[i]) : -E2BIG;
			err = MIN(fds[i].fd, 0);
			if (!err)
				twins->fd[twins->n++] = fds[i].fd;
			break;
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
		.terminal = k->pty.slave,
	};

	return child_spawn(&spec, failed);
}

/* A number that changes when a package brings another file, or somebody writes to it. */
static uint64_t file_number(const char *path)
{
	struct stat st;
	uint64_t parts[6], number = 0;

	if (stat(path, &st))
		return 0;
	parts[0] = st.st_ino;
	parts[1] = (uint64_t)st.st_size;
	parts[2] = (uint64_t)st.st_mtim.tv_sec;
	parts[3] = (uint64_t)st.st_mtim.tv_nsec;
	parts[4] = (uint64_t)st.st_ctim.tv_sec;
	parts[5] = (uint64_t)st.st_ctim.tv_nsec;
	for (size_t i = 0; i < ARRAY_LEN(parts); i++)
		number = (number ^ parts[i]) * UINT64_C(0x9e3779b97f4a7c15);
	return number;
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
		k->file = file_number(k->admission.path);
		k->pid = spawn(k, fds, &failed);
		replace_fd(&k->admission.program, -1);
		err = MIN(k->pid, 0);
	}
	fdset_close(&twins);
	if (!err) {
		k->started = loop_now();
		outputs_start(&k->outputs);
		pty_start(&k->pty, &k->loop);
		if (k->admission.request.timeout_s)
			loop_timer_start(&k->loop, &k->timeout, k->admission.request.timeout_s * UINT64_C(1000),
					 on_timeout, k);
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

static bool is_drained(struct keeper *k)
{
	return outputs_drain(&k->outputs) && pty_drained(&k->pty, &k->loop);
}

static void settle(struct keeper *k)
{
	bool attached = k->conn >= 0;

	if (attached && k->exited && !k->told_exited && is_drained(k)) {
		keeper_tell_exited(k);
		k->told_exited = true;
	}
	if (k->told_exited)
		pty_end(&k->pty);
	if (attached && k->gone && k->told_exited && !k->told_gone && k->survivors && is_drained(k)) {
		keeper_tell_gone(k);
		k->told_gone = true;
	}
	if (!k->gone)
		return;
	if (k->acknowledged || k->abandoned || (k->forget && !attached))
		k->over = true;
	/* A client that is to take the output first has the time that this takes. */
	else if (!k->holding.loop && (!attached || k->told_gone || (k->told_exited && !k->survivors)))
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
	loop_io_start(&k->loop, &k->door_io, k->door, POLLIN, keeper_on_door, k);
	while (!k->over) {
		if (loop_turn(&k->loop, -1))
			keeper_client_gone(k);
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

/* The client is answered, and has a program when 0 is returned. */
static int begin(struct keeper *k)
{
	const struct keeper_setup *setup = k->setup;
	struct admission *a = &k->admission;
	char reason[POLICY_REASON_MAX];
	int refused = admit(a, setup->conn, setup->policy, setup->runtime, reason);

	if (!refused && a->list) {
		roster_serve(setup->conn, setup->sessions);
		close(setup->conn);
		return -1;
	}
	k->keep = a->request.flags & REQUEST_KEEP;
	k->detached = k->keep && a->request.flags & REQUEST_DETACHED;
	if (!refused && a->request.flags & REQUEST_OFFSETS)
		offsets_watch(&k->offsets, &a->passed);
	if (!refused)
		refused = start(k, reason);
	if (refused >= 0)
		log_decision(k, refused, reason);
	if (refused) {
		keeper_tell_refused(setup->conn, refused, reason);
		close(setup->conn);
		return refused;
	}
	keeper_attach(k, setup->conn, fdset_take(&a->passed, 0), a->request.flags & REQUEST_PROXIED);
	/* The program has what it was passed; the last holder is who ends it. */
	fdset_close(&a->passed);
	keeper_tell_started(k);
	return 0;
}

void keeper_run(const struct keeper_setup *setup)
{
	struct keeper k = { .setup = setup,
			    .dir = SESSIONDIR_NONE,
			    .pty = PTY_NONE,
			    .signals = -1,
			    .door = -1,
			    .conn = -1,
			    .life = -1,
			    .peer = -1,
			    .confirmed = true };

	prctl(PR_SET_NAME, "rexec-keeper");
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	setsid();
	signal(SIGPIPE, SIG_IGN);
	loop_init(&k.loop);
	k.signals = open_signals();
	if (!begin(&k))
		run(&k);
	keeper_hang_up(&k, false);
	sessiondir_remove(&k.dir);
	outputs_deinit(&k.outputs);
	pty_deinit(&k.pty);
	offsets_forget(&k.offsets);
	admission_deinit(&k.admission);
	loop_deinit(&k.loop);
}
