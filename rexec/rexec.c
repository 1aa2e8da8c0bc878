/* SPDX-License-Identifier: Apache-2.0 */
/*
 * rexec.c - run a program on the peer as if it ran here
 *
 * In execution order: options; the inherited descriptors are collected, and each is passed,
 * relayed or twinned (inherit.h); the request is sent (session.h); from then on a loop relays,
 * forwards signals, and waits for the outcome. Output that rexec itself relays is written out
 * before it exits with the program's status. When the program left something running, a child of
 * ours stays as its stand-in.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
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
#include "ownstdio.h"
#include "session.h"
#include "trampoline.h"
#include "util.h"

#define SETTLE_MS 2000 /* in which connections of a program that ended are delivered */
#define ATTACH_MS 5000 /* for one attempt */
#define RETRY_FIRST_MS 50
#define RETRY_MAX_MS 1000

static const int forwarded[] = { SIGINT,  SIGTERM,  SIGHUP,  SIGQUIT, SIGUSR1,
				 SIGUSR2, SIGWINCH, SIGTSTP, SIGCONT };

struct options {
	bool local, no_stdin, keep;
	const char *cwd, *user;
	char **env; /* --env, as NAME=VALUE */
	size_t n_env;
	int *drop;
	size_t n_drop;
	int status_fd;
	char **argv; /* the program's */
};

struct rexec {
	struct options options;
	struct loop loop;
	struct inherit_list inherited;
	struct stdio_relay *relays;
	struct session *session;
	struct listeners *listeners;
	int signals;
	struct loop_io session_io, signals_io;
	struct loop_timer retry, settling;
	unsigned retry_ms;
	bool lost;	  /* no connection at present */
	int asked_to_end; /* the signal that came while it was so */
	bool exited, survivors, standin, unsettled, over;
	int status; /* the exit status of rexec */
};

/* ---- words ---- */

static const char usage[] =
	"usage: rexec [OPTION]... PROGRAM [ARG]...\n"
	"Runs PROGRAM on the peer, with this process's descriptors, directory, user and signals.\n"
	"\n"
	"  -n                    read no standard input\n"
	"  --local               on this machine, without udsproxyd\n"
	"  --cwd DIR             start in DIR there (default: this directory)\n"
	"  --env NAME[=VALUE]    pass this on, too; may be repeated\n"
	"  --user NAME           as this user (root only)\n"
	"  --drop-fd N           do not pass descriptor N on; may be repeated\n"
	"  --on-disconnect=kill  when the link is lost end the program (default), or\n"
	"  --on-disconnect=keep  let it run and go on when the link is back\n"
	"  --status-fd N         write to N how it ended: exited, signaled, refused, unknown\n"
	"  --help, --version\n"
	"\n"
	"Exit status: the program's; 128+N when signal N ended it; 125 rexec failed; 126 refused "
	"or\n"
	"not executable; 127 not found; 123 outcome unknown.\n";

static void complain(const char *format, ...) __attribute__((format(printf, 1, 2)));
static void complain(const char *format, ...)
{
	char line[SESSION_REASON_MAX + 256];
	va_list args;
	int n;

	va_start(args, format);
	n = vsnprintf(line, sizeof(line), format, args);
	va_end(args);
	if (n >= 0)
		dprintf(STDERR_FILENO, "rexec: %s\n", line);
}

static void bad_usage(const char *what, const char *value)
{
	complain("%s '%s'", what, value);
	dprintf(STDERR_FILENO, "Try 'rexec --help'.\n");
	exit(2);
}

/* ---- options ---- */

static int parse_fd(const char *word)
{
	char *end;
	long n = strtol(word, &end, 10);

	if (!*word || *end || n < 0 || n > 65535)
		bad_usage("not a descriptor number:", word);
	return (int)n;
}

static void *grow(void *list, size_t n, size_t size)
{
	void *more = reallocarray(list, n + 1, size);

	if (!more) {
		complain("out of memory");
		exit(EXIT_REXEC_FAILED);
	}
	return more;
}

/* Both NAME and NAME=VALUE; a name that is not set here is passed on as not set. */
static void add_env(struct options *o, char *word)
{
	char *assignment = word;

	if (!*word || *word == '=')
		bad_usage("--env wants NAME or NAME=VALUE, not", word);
	if (!strchr(word, '=')) {
		const char *value = getenv(word);

		if (!value)
			return;
		if (asprintf(&assignment, "%s=%s", word, value) < 0)
			assignment = NULL;
	}
	o->env = grow(o->env, o->n_env + 1, sizeof(*o->env));
	o->env[o->n_env++] = assignment == word ? strdup(word) : assignment;
	o->env[o->n_env] = NULL;
}

static void parse_options(struct options *o, int argc, char **argv)
{
	enum {
		LOCAL = 256,
		CWD,
		ENV,
		USER,
		DROP_FD,
		ON_DISCONNECT,
		STATUS_FD,
		HELP,
		PRINT_VERSION
	};
	static const struct option known[] = {
		{ "local", no_argument, NULL, LOCAL },
		{ "cwd", required_argument, NULL, CWD },
		{ "env", required_argument, NULL, ENV },
		{ "user", required_argument, NULL, USER },
		{ "drop-fd", required_argument, NULL, DROP_FD },
		{ "on-disconnect", required_argument, NULL, ON_DISCONNECT },
		{ "status-fd", required_argument, NULL, STATUS_FD },
		{ "help", no_argument, NULL, HELP },
		{ "version", no_argument, NULL, PRINT_VERSION },
		{ 0 },
	};
	int c;

	while ((c = getopt_long(argc, argv, "+n", known, NULL)) != -1) {
		switch (c) {
		case 'n':
			o->no_stdin = true;
			break;
		case LOCAL:
			o->local = true;
			break;
		case CWD:
			if (*optarg != '/')
				bad_usage("--cwd wants an absolute path, not", optarg);
			o->cwd = optarg;
			break;
		case ENV:
			add_env(o, optarg);
			break;
		case USER:
			o->user = optarg;
			break;
		case DROP_FD:
			o->drop = grow(o->drop, o->n_drop, sizeof(*o->drop));
			o->drop[o->n_drop++] = parse_fd(optarg);
			break;
		case ON_DISCONNECT:
			o->keep = !strcmp(optarg, "keep");
			if (!o->keep && strcmp(optarg, "kill") != 0)
				bad_usage("--on-disconnect wants kill or keep, not", optarg);
			break;
		case STATUS_FD:
			o->status_fd = parse_fd(optarg);
			if (fcntl(o->status_fd, F_GETFD) < 0)
				bad_usage("--status-fd: not an open descriptor:", optarg);
			break;
		case HELP:
			fputs(usage, stdout);
			exit(0);
		case PRINT_VERSION:
			puts("rexec " VERSION);
			exit(0);
		default:
			dprintf(STDERR_FILENO, "Try 'rexec --help'.\n");
			exit(2);
		}
	}
	o->argv = argv + optind;
	if (!*o->argv) {
		complain("no program given");
		dprintf(STDERR_FILENO, "%s", usage);
		exit(2);
	}
}

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
	complain("%s", reason);
	tell_status(x, "refused %d %s\n", status, reason);
	x->status = status;
	x->over = true;
}

static void outcome_unknown(struct rexec *x, const char *why)
{
	complain("%s; the outcome is unknown", why);
	tell_status(x, "unknown\n");
	x->status = EXIT_OUTCOME_UNKNOWN;
	x->over = true;
}

static void exited(struct rexec *x, const struct session_event *e)
{
	x->exited = true;
	x->survivors = e->survivors;
	if (WIFSIGNALED(e->status)) {
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

static void connection_lost(struct rexec *x)
{
	if (!x->options.keep) {
		outcome_unknown(x, "the connection to rexec_server was lost");
		return;
	}
	x->lost = true;
	x->retry_ms = RETRY_FIRST_MS;
	on_retry(x);
}

static void on_retry(void *arg)
{
	struct rexec *x = arg;
	int err = session_attach(x->session, ATTACH_MS);

	if (!err) {
		x->lost = false;
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

static void on_session(void *arg, short revents)
{
	struct rexec *x = arg;
	struct session_event e;

	(void)revents;
	for (session_next(x->session, &e); e.kind != SESSION_NONE; session_next(x->session, &e)) {
		switch (e.kind) {
		case SESSION_NONE:
			break;
		case SESSION_STARTED:
			listeners_start(x->listeners);
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
			connection_lost(x);
			return;
		}
	}
	watch_session(x);
}

/* ---- signals ---- */

static void forward(struct rexec *x, const struct signalfd_siginfo *info)
{
	int signo = (int)info->ssi_signo;
	bool ends = signo == SIGINT || signo == SIGTERM || signo == SIGHUP || signo == SIGQUIT;

	/* What the kernel sends (a terminal's ^C) it sends to the whole group. */
	if (session_signal(x->session, signo, info->ssi_code == SI_KERNEL) && x->lost && ends) {
		if (x->asked_to_end)
			outcome_unknown(x, "interrupted while the link is lost");
		x->asked_to_end = signo;
	}
	if (signo == SIGTSTP)
		kill(getpid(), SIGSTOP);
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

static int collect(struct rexec *x, char *reason)
{
	const struct options *o = &x->options;
	int err = inherit_collect(&x->inherited);

	if (!err && o->no_stdin)
		err = inherit_null(&x->inherited, STDIN_FILENO);
	if (!err && o->status_fd >= 0)
		inherit_drop(&x->inherited, o->status_fd);
	for (size_t i = 0; i < o->n_drop; i++)
		inherit_drop(&x->inherited, o->drop[i]);
	return err ? err : inherit_classify(&x->inherited, o->local, reason);
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

static int put_fds(struct rexec *x, struct session_fd *fds, int null)
{
	for (size_t i = 0; i < x->inherited.n; i++) {
		const struct inherited *in = &x->inherited.list[i];

		fds[i] = (struct session_fd){ .number = in->number,
					      .kind = in->kind == INHERIT_LISTENER
							      ? SESSION_FD_LISTENER
							      : SESSION_FD_PASS,
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

		if (in->kind == INHERIT_LISTENER || in->number == STDERR_FILENO)
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
		.keep = o->keep,
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

/* Return: 0 when the loop may begin; else it was said why not. */
static int start(struct rexec *x)
{
	char reason[SESSION_REASON_MAX] = "";
	_cleanup_close_ int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	uint64_t ignored, blocked;
	int err = null < 0 ? -errno : collect(x, reason);

	x->signals = open_signals(&ignored, &blocked);
	if (!err)
		err = open_session(x, null, ignored, blocked, reason);
	if (!err)
		err = relay_listeners(x);
	if (err) {
		refused(x, EXIT_REXEC_FAILED, *reason ? reason : strerrordesc_np(-err));
		return err;
	}
	release(x, null);
	stdio_start(x->relays, &x->loop, x->options.keep);
	loop_io_start(&x->loop, &x->signals_io, x->signals, POLLIN, on_signal, x);
	watch_session(x);
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
	pid_t pid = fork();

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

static void settle(struct rexec *x)
{
	if (!x->exited || x->over || !stdio_drained(x->relays))
		return;
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
	stdio_finish(x->relays);
	listeners_free(x->listeners);
	session_free(x->session);
	loop_deinit(&x->loop);
	free(x->inherited.list);
	for (size_t i = 0; i < x->options.n_env; i++)
		free(x->options.env[i]);
	free(x->options.env);
	free(x->options.drop);
}

int main(int argc, char **argv)
{
	struct rexec x = { .options = { .status_fd = -1 }, .unsettled = true };

	if (trampoline_argv(&argc, &argv)) {
		complain("out of memory");
		return EXIT_REXEC_FAILED;
	}
	parse_options(&x.options, argc, argv);
	loop_init(&x.loop);
	if (!start(&x)) {
		while (!x.over) {
			if (loop_turn(&x.loop, -1))
				refused(&x, EXIT_REXEC_FAILED, "out of memory");
			settle(&x);
		}
	}
	clean_up(&x);
	return x.status;
}
