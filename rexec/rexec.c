/* SPDX-License-Identifier: Apache-2.0 */
/*
 * rexec.c - run a program on the peer as if it ran here
 *
 * In execution order: options; the inherited descriptors are collected, and each is passed,
 * relayed or twinned (inherit.h); the request is sent (session.h); from then on a loop relays,
 * forwards signals, and waits for the outcome. Output that rexec itself relays is written out
 * before it exits with the program's status. When the program left something running, a child of
 * ours stays as its stand-in. --attach enters where a program runs already; the other commands about such are
 * in manage.c.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "environ.h"
#include "inherit.h"
#include "listen.h"
#include "loop.h"
#include "manage.h"
#include "options.h"
#include "ownstdio.h"
#include "owntty.h"
#include "request.h"
#include "session.h"
#include "trampoline.h"
#include "util.h"

#define SETTLE_MS 2000 /* in which connections of a program that ended are delivered */
#define ATTACH_MS 5000 /* for one attempt */
#define TIMEOUT_GRACE_MS 15000 /* from --timeout to when its outcome is no longer waited for without a link */
#define RETRY_FIRST_MS 50
#define RETRY_MAX_MS 1000

static const int forwarded[] = { SIGINT,  SIGTERM,  SIGHUP,  SIGQUIT, SIGUSR1,
				 SIGUSR2, SIGWINCH, SIGTSTP, SIGCONT };

struct rexec {
	struct options options;
	struct loop loop;
	struct inherit_list inherited;
	struct stdio_relay *relays;
	bool has_tty; /* the program has a terminal of ours */
	struct owntty tty;
	struct request_terminal terminal;
	struct session *session;
	struct listeners *listeners;
	int signals;
	struct loop_io session_io, signals_io;
	struct loop_timer retry, settling, beat, timeout;
	unsigned retry_ms;
	bool lost;	  /* no connection at present */
	bool overdue;	  /* its time was over, and how it ended should have been told */
	bool hung_up;	  /* the program was told that its terminal is gone */
	int asked_to_end; /* the signal that came while it was so */
	bool exited, survivors, standin, unsettled, over;
	int status; /* the exit status of rexec */
};

/* ---- the outcome ---- */

static void tell_status(const struct rexec *x, const char *format, ...)
	__attribute__((format(printf, 2, 3)));
static void tell_status(const struct rexec *x, const char *format, ...)
{
	va_list args;

	if (x->options.status_fd < 0 || x->standin)
		return;
	va_start(args, format);
	vdprintf(x->options.status_fd, format, args);
	va_end(args);
}

static void refused(struct rexec *x, int status, const char *reason)
{
	if (x->has_tty)
		owntty_restore(&x->tty);
	complain("%s", reason);
	tell_status(x, "refused %d %s\n", status, reason);
	x->status = status;
	x->over = true;
}

static void outcome_unknown(struct rexec *x, const char *why)
{
	if (x->has_tty)
		owntty_restore(&x->tty);
	complain("%s; the outcome is unknown", why);
	tell_status(x, "unknown\n");
	x->status = EXIT_OUTCOME_UNKNOWN;
	x->over = true;
}

static void exited(struct rexec *x, const struct session_event *e)
{
	x->exited = true;
	x->survivors = e->survivors;
	/* What it left has no limit; nor has whoever reads what it wrote. */
	loop_timer_stop(&x->timeout);
	if (e->timed_out) {
		complain("ended: its time was over");
		tell_status(x, "timeout\n");
		x->status = EXIT_TIMED_OUT;
	} else if (WIFSIGNALED(e->status)) {
		tell_status(x, "signaled %d\n", WTERMSIG(e->status));
		x->status = 128 + WTERMSIG(e->status);
	} else {
		tell_status(x, "exited %d\n", WEXITSTATUS(e->status));
		x->status = WEXITSTATUS(e->status);
	}
}

/* ---- the connection ---- */

static void on_session(void *arg, short revents);
static void on_retry(void *arg);

static void watch_session(struct rexec *x)
{
	loop_io_stop(&x->session_io);
	if (session_fd(x->session) >= 0)
		loop_io_start(&x->loop, &x->session_io, session_fd(x->session), POLLIN, on_session,
			      x);
}

static void connection_lost(struct rexec *x, const struct session_event *e)
{
	if (!x->options.keep || e->taken || x->overdue) {
		outcome_unknown(x, e->reason);
		return;
	}
	/* While it is not reached ^C is for us. */
	if (x->has_tty)
		owntty_restore(&x->tty);
	complain("%s; the program runs on, and so do attempts to reach it", e->reason);
	x->lost = true;
	x->retry_ms = RETRY_FIRST_MS;
	on_retry(x);
}

/* Carry the program's terminal. When that cannot be had, the connection is about to be lost, too. */
static void open_terminal(struct rexec *x)
{
	int remote = session_open_tty(x->session, "");

	if (remote < 0)
		complain("no terminal: %s", strerrordesc_np(-remote));
	else
		owntty_start(&x->tty, &x->loop, remote);
}

static void on_retry(void *arg)
{
	struct rexec *x = arg;
	int err = session_attach(x->session, ATTACH_MS);

	if (!err) {
		complain("the program is reached again");
		x->lost = false;
		if (x->has_tty)
			open_terminal(x);
		watch_session(x);
		/* What was received behind the answer is told without more coming. */
		on_session(x, POLLIN);
		if (x->asked_to_end)
			session_signal(x->session, x->asked_to_end, false);
	} else if (err == -ESRCH) {
		outcome_unknown(x, "the link was lost, and the program's keeper with it");
	} else {
		loop_timer_start(&x->loop, &x->retry, x->retry_ms, on_retry, x);
		x->retry_ms = MIN(2 * x->retry_ms, (unsigned)RETRY_MAX_MS);
	}
}

static void started(struct rexec *x)
{
	listeners_start(x->listeners);
	if (x->has_tty)
		open_terminal(x);
	if (x->options.detach) {
		printf("%s\n", session_id(x->session));
		x->over = true;
	}
}

static void on_session(void *arg, short revents)
{
	struct rexec *x = arg;
	struct session_event e;

	(void)revents;
	/* What comes behind STARTED is another's when we leave it alone. */
	while (!x->over) {
		session_next(x->session, &e);
		switch (e.kind) {
		case SESSION_NONE:
			watch_session(x);
			return;
		case SESSION_STARTED:
			started(x);
			break;
		case SESSION_REFUSED:
			refused(x, e.status, e.reason);
			break;
		case SESSION_EXITED:
			exited(x, &e);
			break;
		case SESSION_GONE:
			x->survivors = false;
			break;
		case SESSION_LOST:
			connection_lost(x, &e);
			return;
		}
	}
}

static void on_beat(void *arg)
{
	struct rexec *x = arg;

	on_session(x, 0); /* what has come was an answer, however long we slept */
	session_beat(x->session);
	loop_timer_start(&x->loop, &x->beat, SESSION_BEAT_MS, on_beat, x);
}

/* As long as its keeper answers, what it wrote is still under way. */
static void on_timeout(void *arg)
{
	struct rexec *x = arg;

	x->overdue = true;
	if (x->lost)
		outcome_unknown(x, "its time is over, and nothing is heard of it");
}

/* ---- signals ---- */

static void forward(struct rexec *x, const struct signalfd_siginfo *info)
{
	int signo = (int)info->ssi_signo;
	bool ends = signo == SIGINT || signo == SIGTERM || signo == SIGHUP || signo == SIGQUIT;

	if (x->has_tty && signo == SIGWINCH) { /* the kernel tells the program by what it becomes there */
		if (owntty_size(&x->tty, &x->terminal))
			session_resize(x->session, &x->terminal);
		return;
	}
	/* What the kernel sends (a terminal's ^C) it sends to the whole group. */
	if (session_signal(x->session, signo, info->ssi_code == SI_KERNEL) && x->lost && ends) {
		if (x->asked_to_end)
			outcome_unknown(x, "interrupted while the link is lost");
		x->asked_to_end = signo;
	}
	if (x->has_tty && signo == SIGTSTP)
		owntty_restore(&x->tty);
	if (signo == SIGTSTP)
		kill(getpid(), SIGSTOP);
	if (x->has_tty && signo == SIGCONT)
		owntty_resume(&x->tty);
}

static void on_signal(void *arg, short revents)
{
	struct rexec *x = arg;
	struct signalfd_siginfo info;

	(void)revents;
	while (read(x->signals, &info, sizeof(info)) == (ssize_t)sizeof(info))
		forward(x, &info);
}

/* As the caller has them: bit signo - 1. Then we block what is forwarded, ignored apart. */
static int open_signals(uint64_t *ignored, uint64_t *blocked)
{
	struct sigaction action;
	sigset_t set, old;

	sigprocmask(SIG_BLOCK, NULL, &old);
	*ignored = *blocked = 0;
	for (int signo = 1; signo <= 64; signo++) {
		if (!sigaction(signo, NULL, &action) && action.sa_handler == SIG_IGN)
			*ignored |= UINT64_C(1) << (signo - 1);
		if (sigismember(&old, signo) == 1)
			*blocked |= UINT64_C(1) << (signo - 1);
	}
	sigemptyset(&set);
	for (size_t i = 0; i < ARRAY_LEN(forwarded); i++)
		if (!(*ignored >> (forwarded[i] - 1) & 1))
			sigaddset(&set, forwarded[i]);
	sigprocmask(SIG_SETMASK, &set, NULL);
	signal(SIGPIPE, SIG_IGN);
	return signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}

/* ---- descriptors ---- */

static bool wants_terminal(const struct options *o)
{
	if (o->terminal != TERMINAL_AUTO)
		return o->terminal == TERMINAL_ALWAYS;
	return !o->no_stdin && !o->detach && isatty(STDIN_FILENO) && isatty(STDOUT_FILENO);
}

/* With -t all three are the terminal, else those that are one here. */
static int use_terminal(struct rexec *x)
{
	int err = owntty_open(&x->tty, &x->terminal, !x->options.no_stdin);

	x->has_tty = true;
	for (int fd = STDIN_FILENO; !err && fd <= STDERR_FILENO; fd++)
		if (x->options.terminal == TERMINAL_ALWAYS || isatty(fd))
			err = inherit_as(&x->inherited, fd, INHERIT_TTY);
	return err;
}

/* We leave: nobody feeds it, and its words are held. */
static int use_nothing(struct rexec *x)
{
	int err = inherit_as(&x->inherited, STDIN_FILENO, INHERIT_NULL);

	for (int fd = STDOUT_FILENO; !err && fd <= STDERR_FILENO; fd++)
		err = inherit_as(&x->inherited, fd, INHERIT_HELD);
	return err;
}

static int refuse_relays(const struct inherit_list *l, char *reason)
{
	for (size_t i = 0; i < l->n; i++) {
		enum inherit_kind kind = l->list[i].kind;

		if (kind != INHERIT_RELAY_IN && kind != INHERIT_RELAY_OUT && kind != INHERIT_LISTENER)
			continue;
		snprintf(reason, SESSION_REASON_MAX,
			 "descriptor %d cannot cross without a rexec that stays; --drop-fd %d keeps it back",
			 l->list[i].number, l->list[i].number);
		return -EOPNOTSUPP;
	}
	return 0;
}

static int collect(struct rexec *x, char *reason)
{
	const struct options *o = &x->options;
	int err = inherit_collect(&x->inherited);

	if (!err && wants_terminal(o))
		err = use_terminal(x);
	if (!err && o->detach)
		err = use_nothing(x);
	if (!err && o->no_stdin)
		err = inherit_as(&x->inherited, STDIN_FILENO, INHERIT_NULL);
	if (!err && o->n_only)
		inherit_keep(&x->inherited, o->only, o->n_only);
	if (!err && o->status_fd >= 0)
		inherit_drop(&x->inherited, o->status_fd);
	for (size_t i = 0; i < o->n_drop; i++)
		inherit_drop(&x->inherited, o->drop[i]);
	if (!err)
		err = inherit_classify(&x->inherited, o->local, reason);
	return !err && o->detach ? refuse_relays(&x->inherited, reason) : err;
}

/* The descriptor to be passed for @in; equal ones get the same. @done: what those before got. */
static int passed_for(struct rexec *x, const struct inherited *in, const struct session_fd *done,
		      int null)
{
	switch (in->kind) {
	case INHERIT_PASS:
	case INHERIT_LISTENER:
		return in->first;
	case INHERIT_NULL:
	case INHERIT_TTY:
	case INHERIT_HELD:
		return null;
	case INHERIT_RELAY_IN:
	case INHERIT_RELAY_OUT:
		break;
	}
	for (; in->first != in->number && done->number != in->first; done++)
		;
	if (in->first != in->number)
		return done->fd;
	return stdio_add(&x->relays, in->number, in->kind == INHERIT_RELAY_IN);
}

static enum session_fd_kind kind_of(const struct inherited *in)
{
	switch (in->kind) {
	case INHERIT_LISTENER:
		return SESSION_FD_LISTENER;
	case INHERIT_TTY:
		return SESSION_FD_TTY;
	case INHERIT_HELD:
		return SESSION_FD_HELD;
	default:
		return SESSION_FD_PASS;
	}
}

static int put_fds(struct rexec *x, struct session_fd *fds, int null)
{
	for (size_t i = 0; i < x->inherited.n; i++) {
		const struct inherited *in = &x->inherited.list[i];

		fds[i] = (struct session_fd){ .number = in->number,
					      .kind = kind_of(in),
					      .socktype = in->socktype };
		fds[i].fd = passed_for(x, in, fds, null);
		if (fds[i].fd < 0)
			return fds[i].fd;
	}
	return 0;
}

/*
 * The program has them now. Ours would keep a pipe open that the program closes: its writer, or
 * reader, is to notice. Only standard error stays, for what we may have to say.
 */
static void release(struct rexec *x, int null)
{
	for (size_t i = 0; i < x->inherited.n; i++) {
		const struct inherited *in = &x->inherited.list[i];

		if (in->kind == INHERIT_LISTENER || in->kind == INHERIT_HELD || in->number == STDERR_FILENO)
			continue;
		/* A session that is kept passes its output pipes again. */
		if (x->options.keep && in->kind == INHERIT_PASS && in->number != STDIN_FILENO)
			continue;
		if (in->number < STDERR_FILENO)
			dup2(null, in->number);
		else
			close(in->number);
	}
}

static int relay_listeners(struct rexec *x)
{
	int err = 0;

	x->listeners = listeners_new(&x->loop, x->session);
	if (!x->listeners)
		return -ENOMEM;
	for (size_t i = 0; !err && i < x->inherited.n; i++) {
		const struct inherited *in = &x->inherited.list[i];

		if (in->kind == INHERIT_LISTENER && in->first == in->number)
			err = listeners_add(x->listeners, in->number, in->number);
	}
	return err;
}

/* ---- starting ---- */

/* Those that the server would not drop: the rest is none of its business. */
static char **offered_env(void)
{
	size_t n = 0, used = 0;
	char **list;

	while (environ[n])
		n++;
	list = calloc(n + 1, sizeof(*list));
	for (size_t i = 0; list && i < n; i++)
		if (environ_offered(environ[i]))
			list[used++] = environ[i];
	return list;
}

static mode_t current_umask(void)
{
	mode_t mask = umask(0);

	umask(mask);
	return mask;
}

static int open_session(struct rexec *x, int null, uint64_t ignored, uint64_t blocked, char *reason)
{
	const struct options *o = &x->options;
	_cleanup_free_ char *here = o->cwd ? NULL : get_current_dir_name();
	_cleanup_free_ char **env = offered_env();
	_cleanup_free_ struct session_fd *fds = calloc(x->inherited.n + 1, sizeof(*fds));
	const struct session_spec spec = {
		.argv = o->argv,
		.env = env,
		.env_named = o->env,
		.cwd = o->cwd ? o->cwd : here,
		.umask = current_umask(),
		.ignored = ignored,
		.blocked = blocked,
		.fds = fds,
		.n_fds = x->inherited.n,
		.keep = o->keep || o->detach,
		.offsets = !o->detach,
		.detached = o->detach,
		.timeout_s = o->timeout_s,
		.terminal = x->has_tty ? &x->terminal : NULL,
		.user = o->user,
	};
	int err;

	if (!fds || !env)
		return -ENOMEM;
	if (!spec.cwd) {
		snprintf(reason, SESSION_REASON_MAX,
			 "the current directory is gone; use --cwd DIR");
		return -ENOENT;
	}
	err = put_fds(x, fds, null);
	return err ? err : session_open(&x->session, &spec, o->local, reason);
}

/* The program that runs already. Its outputs are ours from now on: 1 and 2, however they cross. */
static int open_attached(struct rexec *x, int null, char *reason)
{
	struct session_fd fds[STDERR_FILENO];
	char id[REQUEST_ID_SIZE];
	int err = manage_find(&x->options, id, reason);

	if (!err)
		err = inherit_collect(&x->inherited);
	inherit_drop(&x->inherited, STDIN_FILENO);
	inherit_keep(&x->inherited, NULL, 0);
	if (!err)
		err = inherit_classify(&x->inherited, x->options.local, reason);
	if (!err)
		err = put_fds(x, fds, null);
	if (!err)
		err = session_adopt(&x->session, id, fds, x->inherited.n, x->options.local);
	if (err)
		return err;
	x->options.keep = true;
	err = session_attach(x->session, ATTACH_MS);
	if (err == -ESRCH)
		snprintf(reason, SESSION_REASON_MAX, "there is no such program any more");
	else if (err == -EPERM)
		snprintf(reason, SESSION_REASON_MAX, "its client must stay: it was not started with --detach");
	return err;
}

/* If it has a terminal, that comes with it. */
static void take_terminal(struct rexec *x)
{
	int remote = session_open_tty(x->session, "");

	if (remote < 0)
		return;
	x->has_tty = true;
	if (owntty_open(&x->tty, &x->terminal, !x->options.no_stdin)) {
		close(remote);
		return;
	}
	if (owntty_size(&x->tty, &x->terminal))
		session_resize(x->session, &x->terminal);
	owntty_start(&x->tty, &x->loop, remote);
}

static void start_timers(struct rexec *x)
{
	loop_timer_start(&x->loop, &x->beat, SESSION_BEAT_MS, on_beat, x);
	if (x->options.timeout_s)
		loop_timer_start(&x->loop, &x->timeout, x->options.timeout_s * UINT64_C(1000) + TIMEOUT_GRACE_MS,
				 on_timeout, x);
}

/* Return: 0 when the loop may begin; else it was said why not. */
static int start(struct rexec *x)
{
	bool attach = x->options.command == COMMAND_ATTACH;
	char reason[SESSION_REASON_MAX] = "";
	_cleanup_close_ int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	uint64_t ignored, blocked;
	int err = null < 0 ? -errno : attach ? 0 : collect(x, reason);

	x->signals = open_signals(&ignored, &blocked);
	if (!err)
		err = attach ? open_attached(x, null, reason) : open_session(x, null, ignored, blocked, reason);
	if (!err)
		err = relay_listeners(x);
	if (err) {
		refused(x, EXIT_REXEC_FAILED, *reason ? reason : strerrordesc_np(-err));
		return err;
	}
	if (attach)
		take_terminal(x);
	release(x, null);
	stdio_start(x->relays, &x->loop, x->options.keep);
	loop_io_start(&x->loop, &x->signals_io, x->signals, POLLIN, on_signal, x);
	start_timers(x);
	watch_session(x);
	on_session(x, 0); /* what came with the answer to an attach */
	return 0;
}

/* ---- ending ---- */

static void on_settle_timeout(void *arg)
{
	struct rexec *x = arg;

	x->unsettled = false;
}

/* The parent leaves with the program's status; the child stays for what the program left. */
static void become_standin(struct rexec *x)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	pid_t pid;

	if (x->has_tty)
		owntty_deinit(&x->tty);
	x->has_tty = false;
	pid = fork();
	if (pid > 0)
		_exit(x->status);
	if (pid < 0) {
		complain("no stand-in for what the program left running: %s",
			 strerrordesc_np(errno));
		x->over = true;
	}
	x->standin = true;
	setsid();
	for (int fd = STDIN_FILENO; null >= 0 && fd <= STDERR_FILENO; fd++)
		dup2(null, fd);
	close_keep_errno(null);
	if (x->options.status_fd > STDERR_FILENO)
		close(x->options.status_fd);
	for (size_t i = 0; i < x->inherited.n; i++)
		if (x->inherited.list[i].kind == INHERIT_PASS &&
		    x->inherited.list[i].number > STDERR_FILENO && x->options.keep)
			close(x->inherited.list[i].number);
}

/* The program that wrote it may have ended without knowing. */
static void report_lost_output(struct rexec *x)
{
	int number, err;

	while ((number = stdio_lost(x->relays, &err)) >= 0) {
		complain("descriptor %d took less than the program wrote: %s", number,
			 strerrordesc_np(-err));
		if (!x->status)
			x->status = EXIT_REXEC_FAILED;
	}
}

/* As when a terminal's window is closed. */
static void hang_up_terminal(struct rexec *x)
{
	if (x->has_tty && x->tty.unseen && !x->hung_up)
		x->hung_up = !session_signal(x->session, SIGHUP, true);
}

static void settle(struct rexec *x)
{
	hang_up_terminal(x);
	if (!x->exited || x->over || !stdio_drained(x->relays) || (x->has_tty && !owntty_drained(&x->tty)))
		return;
	report_lost_output(x);
	if (x->survivors) {
		if (!x->standin)
			become_standin(x);
		return;
	}
	if (!x->standin && x->unsettled && !listeners_settled(x->listeners)) {
		if (!x->settling.loop)
			loop_timer_start(&x->loop, &x->settling, SETTLE_MS, on_settle_timeout, x);
		return;
	}
	x->over = true;
}

static void clean_up(struct rexec *x)
{
	if (x->has_tty)
		owntty_deinit(&x->tty);
	stdio_finish(x->relays);
	listeners_free(x->listeners);
	session_free(x->session);
	loop_deinit(&x->loop);
	free(x->inherited.list);
	options_deinit(&x->options);
}

static int run(struct rexec *x)
{
	loop_init(&x->loop);
	if (!start(x)) {
		while (!x->over) {
			if (loop_turn(&x->loop, -1))
				refused(x, EXIT_REXEC_FAILED, "out of memory");
			settle(x);
		}
	}
	clean_up(x);
	return x->status;
}

int main(int argc, char **argv)
{
	struct rexec x = { .unsettled = true };

	if (trampoline_argv(&argc, &argv)) {
		complain("out of memory");
		return EXIT_REXEC_FAILED;
	}
	options_parse(&x.options, argc, argv);
	if (x.options.command == COMMAND_RUN || x.options.command == COMMAND_ATTACH)
		return run(&x);
	return manage(&x.options);
}
