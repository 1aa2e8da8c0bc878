/* SPDX-License-Identifier: Apache-2.0 */
/*
 * rexec_server.c - the listener: one keeper is forked for each connection
 *
 * It holds no state of its programs: a keeper lives on when this process ends, and clients
 * that come back find it by its own socket. So a restart ends nothing.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

#include "fdpass.h"
#include "keeper.h"
#include "listcheck.h"
#include "log.h"
#include "loop.h"
#include "policy.h"
#include "request.h"
#include "session.h"
#include "sessiondir.h"
#include "util.h"

#ifndef TEST_MODE_DEFAULT
#define TEST_MODE_DEFAULT false
#endif

#define BACKLOG 1024
#define KEEPERS_MAX 4096	 /* forked by this process and still alive */
#define KEEPERS_USER_MAX 1024 /* of them for one user other than root: the others' programs are to start, too */
#define ACCEPT_PAUSE_MS 100
#define PID_FILE "rexec_server.pid" /* locked; holds the pid, which qtcfg takes from the lock */
/* How often the whitelist was read again, and what was wrong with it the last time, if anything: so
 * qtcfg, which sends SIGHUP, learns whether we follow. Not there before the first time. */
#define RELOAD_FILE "rexec_server.reload"
/* A session's sockets must fit sun_path: RUNTIME/sessions/ID/fd65535.sock. */
#define RUNTIME_MAX                                                                                \
	(sizeof(((struct sockaddr_un *)0)->sun_path) - 1 - (sizeof("/" REXEC_SESSIONS "/") - 1) -  \
	 REQUEST_ID_SIZE - (sizeof("fd65535.sock") - 1))

struct options {
	const char *runtime;
	const char *whitelist;
	const char *check; /* a whitelist to be looked at instead of serving */
	bool test_mode;
	enum log_level level;
};

struct keeper_process {
	pid_t pid;
	uid_t client;
};

struct server {
	struct options options;
	char runtime[PATH_MAX]; /* absolute, without links */
	struct policy policy;
	struct loop loop;
	int lock, sessions, listener, signals;
	unsigned reloads;
	bool activated; /* systemd made the socket, and keeps it */
	unsigned n_keepers;
	struct keeper_process keepers[KEEPERS_MAX];
	struct loop_io listener_io, signals_io;
	struct loop_timer pause;
	bool over;
};

/* ---- options ---- */

static const char usage[] =
	"usage: rexec_server [OPTION]...\n"
	"Starts listed programs for rexec clients, here or on the peer.\n"
	"\n"
	"  --whitelist FILE    the programs that may be started (default " POLICY_FILE ")\n"
	"  --check FILE        say what FILE allows as a whitelist and what is wrong with it, and "
	"end:\n"
	"                      0 nothing, 2 something\n"
	"  --runtime-dir DIR   where sockets are (default " REXEC_RUNTIME_DIR ")\n"
	"  --test-mode[=no]    a missing whitelist allows everything; files need not be root's\n"
	"  --log-level LEVEL   error, warning, info (default) or debug\n"
	"  --help, --version\n";

static void bad_value(const char *option, const char *value, const char *known)
{
	fprintf(stderr, "rexec_server: %s %s: %s are known\n", option, value, known);
	exit(2);
}

static void parse_options(struct options *o, int argc, char **argv)
{
	enum { WHITELIST = 256, CHECK, RUNTIME, TEST_MODE, LOG_LEVEL, HELP, PRINT_VERSION };
	static const struct option known[] = {
		{ "whitelist", required_argument, NULL, WHITELIST },
		{ "check", required_argument, NULL, CHECK },
		{ "runtime-dir", required_argument, NULL, RUNTIME },
		{ "test-mode", optional_argument, NULL, TEST_MODE },
		{ "log-level", required_argument, NULL, LOG_LEVEL },
		{ "help", no_argument, NULL, HELP },
		{ "version", no_argument, NULL, PRINT_VERSION },
		{ 0 },
	};
	int c, level;

	while ((c = getopt_long(argc, argv, "", known, NULL)) != -1) {
		switch (c) {
		case WHITELIST:
			o->whitelist = optarg;
			break;
		case CHECK:
			o->check = optarg;
			break;
		case RUNTIME:
			o->runtime = optarg;
			break;
		case TEST_MODE:
			o->test_mode = !optarg || !strcmp(optarg, "yes");
			if (!o->test_mode && strcmp(optarg, "no") != 0)
				bad_value("--test-mode", optarg, "yes and no");
			break;
		case LOG_LEVEL:
			level = log_parse_level(optarg);
			if (level < 0)
				bad_value("--log-level", optarg, "error, warning, info and debug");
			o->level = (enum log_level)level;
			break;
		case HELP:
			fputs(usage, stdout);
			exit(0);
		case PRINT_VERSION:
			puts("rexec_server " VERSION);
			exit(0);
		default:
			fputs("Try 'rexec_server --help'.\n", stderr);
			exit(2);
		}
	}
	if (optind < argc) {
		fprintf(stderr, "rexec_server: surplus argument '%s'\n%s", argv[optind], usage);
		exit(2);
	}
}

/* ---- the runtime directory ---- */

/* Takes the lock, or says who has it. The file may be removed by its last holder just before we
 * lock it: then it is not the one that the next server would see. */
static int take_lock(const char *path)
{
	struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
	struct stat ours, named;

	for (;;) {
		_cleanup_close_ int fd =
			open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0644);

		if (fd < 0)
			die("%s: %s", path, strerrordesc_np(errno));
		if (fcntl(fd, F_SETLK, &lock)) {
			fcntl(fd, F_GETLK, &lock);
			die("rexec_server is running already in this runtime directory, as pid %d "
			    "(%s)",
			    lock.l_pid, path);
		}
		if (fstat(fd, &ours) || stat(path, &named) || ours.st_ino != named.st_ino)
			continue;
		if (ftruncate(fd, 0) || dprintf(fd, "%d\n", getpid()) < 0)
			die("%s: %s", path, strerrordesc_np(errno));
		return take_fd(&fd);
	}
}

static void make_runtime_dir(struct server *s)
{
	const char *dir = s->options.runtime;
	char path[PATH_MAX + 32];

	if (mkdir(dir, 0755) && errno != EEXIST)
		die("%s: cannot be made: %s", dir, strerrordesc_np(errno));
	if (!realpath(dir, s->runtime))
		die("%s: %s", dir, strerrordesc_np(errno));
	if (strlen(s->runtime) > RUNTIME_MAX)
		die("%s: too long a path for the sockets in it (at most %zu bytes)", s->runtime,
		    RUNTIME_MAX);
	snprintf(path, sizeof(path), "%s/" PID_FILE, s->runtime);
	s->lock = take_lock(path);
	/* Of a server that was killed. */
	snprintf(path, sizeof(path), "%s/" RELOAD_FILE, s->runtime);
	unlink(path);
	snprintf(path, sizeof(path), "%s/" REXEC_SESSIONS, s->runtime);
	if (mkdir(path, 0711) && errno != EEXIST)
		die("%s: cannot be made: %s", path, strerrordesc_np(errno));
	s->sessions = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	/* Users enter their own session by its name and list nothing. */
	if (s->sessions < 0 || fchmod(s->sessions, 0711))
		die("%s: %s", path, strerrordesc_np(errno));
	sessiondir_sweep(s->sessions);
}

static int listen_here(const char *runtime)
{
	_cleanup_close_ int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	struct sockaddr_un at = { .sun_family = AF_UNIX };

	if (fd < 0)
		die("socket: %s", strerrordesc_np(errno));
	snprintf(at.sun_path, sizeof(at.sun_path), "%.80s/" REXEC_SOCKET, runtime);
	/* We hold the lock: a socket that is here has no server. */
	unlink(at.sun_path);
	/* Anybody may ask; who may have what is the policy's decision. */
	if (bind(fd, (const struct sockaddr *)&at, sizeof(at)) || chmod(at.sun_path, 0666) ||
	    listen(fd, BACKLOG))
		die("%s: %s", at.sun_path, strerrordesc_np(errno));
	return take_fd(&fd);
}

static void open_listener(struct server *s)
{
	s->activated = sd_listen_fds(1) == 1;
	s->listener = s->activated ? SD_LISTEN_FDS_START : listen_here(s->runtime);
	if (s->activated && fcntl(s->listener, F_SETFL, O_NONBLOCK))
		die("the socket that systemd passed: %s", strerrordesc_np(errno));
}

static void leave_runtime_dir(const struct server *s)
{
	char path[PATH_MAX + 32];

	if (!s->activated) {
		snprintf(path, sizeof(path), "%s/" REXEC_SOCKET, s->runtime);
		unlink(path);
	}
	/* Goes only when no keeper needs it any more. */
	snprintf(path, sizeof(path), "%s/" REXEC_SESSIONS, s->runtime);
	rmdir(path);
	snprintf(path, sizeof(path), "%s/" RELOAD_FILE, s->runtime);
	unlink(path);
	snprintf(path, sizeof(path), "%s/" PID_FILE, s->runtime);
	unlink(path);
}

/* ---- connections ---- */

static void become_keeper(struct server *s, int conn)
{
	const struct keeper_setup setup = {
		.conn = conn, .sessions = s->sessions, .runtime = s->runtime, .policy = &s->policy
	};

	close(s->lock);
	close(s->listener);
	close(s->signals);
	loop_deinit(&s->loop);
	unsetenv("NOTIFY_SOCKET");
	keeper_run(&setup);
	policy_free(&s->policy);
	close(s->sessions);
	exit(0);
}

static void on_pause_over(void *arg)
{
	struct server *s = arg;

	s->listener_io.events = POLLIN;
}

/* What is missing (descriptors, memory, processes) comes back; spinning would not help. */
static void pause_listening(struct server *s, const char *why)
{
	log_warning("no connections are taken for %d ms: %s", ACCEPT_PAUSE_MS, why);
	s->listener_io.events = 0;
	loop_timer_start(&s->loop, &s->pause, ACCEPT_PAUSE_MS, on_pause_over, s);
}

/* Who is at the other end; nobody, when the kernel does not say. */
static uid_t client_of(int conn)
{
	struct ucred cred;

	return fd_peer(conn, &cred) ? (uid_t)-1 : cred.uid;
}

static unsigned keepers_of(const struct server *s, uid_t client)
{
	unsigned n = 0;

	for (unsigned i = 0; i < s->n_keepers; i++)
		n += s->keepers[i].client == client;
	return n;
}

static void keeper_ended(struct server *s, pid_t pid)
{
	for (unsigned i = 0; i < s->n_keepers; i++) {
		if (s->keepers[i].pid != pid)
			continue;
		s->keepers[i] = s->keepers[--s->n_keepers];
		return;
	}
}

static void on_connection(void *arg, short revents)
{
	struct server *s = arg;
	_cleanup_close_ int conn = -1;
	uid_t client;
	pid_t pid;

	(void)revents;
	if (s->n_keepers == KEEPERS_MAX) {
		pause_listening(s, "too many programs are running");
		return;
	}
	conn = accept4(s->listener, NULL, NULL, SOCK_CLOEXEC);
	if (conn < 0) {
		if (errno != EAGAIN && errno != ECONNABORTED && errno != EINTR)
			pause_listening(s, strerrordesc_np(errno));
		return;
	}
	client = client_of(conn);
	if (client && keepers_of(s, client) >= KEEPERS_USER_MAX) {
		log_warning("uid %u: refused: it has %u programs already", client, KEEPERS_USER_MAX);
		keeper_tell_refused(conn, EXIT_REXEC_FAILED, "this user has too many programs there already");
		return;
	}
	pid = fork();
	if (!pid)
		become_keeper(s, take_fd(&conn));
	else if (pid < 0)
		pause_listening(s, strerrordesc_np(errno));
	else
		s->keepers[s->n_keepers++] = (struct keeper_process){ pid, client };
}

/* ---- signals ---- */

static void tell_error(void *arg, const char *sentence)
{
	char *first = arg; /* POLICY_REASON_MAX + PATH_MAX bytes */

	log_error("%s", sentence);
	if (!*first)
		snprintf(first, POLICY_REASON_MAX + PATH_MAX, "%s", sentence);
}

static void tell_warning(void *arg, const char *sentence)
{
	(void)arg;
	log_warning("%s; it will be refused", sentence);
}

/* What the list allows as things are. */
static void log_policy(const struct policy *p, const char *file)
{
	if (p->allow_all)
		log_warning("test mode, and there is no %s: EVERY program may be started", file);
	else if (p->list.missing)
		log_warning("there is no %s: no program may be started", file);
	else
		log_info("%s: %zu entries", file, p->n);
	policy_survey(p, tell_warning, NULL);
}

/* For root to read: what is wrong with a line says what is in it. */
static int write_answer(const struct server *s, const char *wrong)
{
	char path[PATH_MAX + 32], new_path[PATH_MAX + 32];
	_cleanup_close_ int fd = -1;

	snprintf(path, sizeof(path), "%s/" RELOAD_FILE, s->runtime);
	snprintf(new_path, sizeof(new_path), "%s/" RELOAD_FILE "~", s->runtime);
	fd = open(new_path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0 || dprintf(fd, "%u %s\n", s->reloads, wrong) < 0 || rename(new_path, path))
		return -errno;
	return 0;
}

static void reload(struct server *s)
{
	char wrong[POLICY_REASON_MAX + PATH_MAX] = "";
	struct policy fresh;
	bool good;

	sd_notify(0, "RELOADING=1");
	s->reloads++;
	good = !policy_load(&fresh, s->options.whitelist, s->options.test_mode, tell_error, wrong);
	policy_free(good ? &s->policy : &fresh);
	if (good)
		s->policy = fresh;
	/* At once: looking at the programs may take its time. */
	if (write_answer(s, wrong))
		log_warning("%s/" RELOAD_FILE ": %s", s->runtime, strerrordesc_np(errno));
	if (good) {
		log_info("the whitelist was read again");
		log_policy(&s->policy, s->options.whitelist);
	} else {
		log_error("the whitelist stays as it was");
	}
	sd_notify(0, "READY=1");
}

static void on_signal(void *arg, short revents)
{
	struct server *s = arg;
	struct signalfd_siginfo info;
	pid_t pid;

	(void)revents;
	while (read(s->signals, &info, sizeof(info)) == (ssize_t)sizeof(info)) {
		switch (info.ssi_signo) {
		case SIGHUP:
			reload(s);
			break;
		case SIGCHLD:
			while ((pid = waitpid(-1, NULL, WNOHANG)) > 0)
				keeper_ended(s, pid);
			break;
		default:
			s->over = true;
			break;
		}
	}
}

/* What is blocked comes though it were ignored: SIGHUP reloads under nohup(1), too. */
static void open_signals(struct server *s)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGHUP);
	sigaddset(&set, SIGCHLD);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigprocmask(SIG_BLOCK, &set, NULL);
	s->signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	if (s->signals < 0)
		die("signalfd: %s", strerrordesc_np(errno));
}

static void raise_descriptor_limit(void)
{
	struct rlimit limit;

	if (!getrlimit(RLIMIT_NOFILE, &limit)) {
		limit.rlim_cur = limit.rlim_max;
		setrlimit(RLIMIT_NOFILE, &limit);
	}
}

static void load_policy(struct server *s)
{
	char wrong[POLICY_REASON_MAX + PATH_MAX] = "";

	if (policy_load(&s->policy, s->options.whitelist, s->options.test_mode, tell_error, wrong))
		exit(2);
	log_policy(&s->policy, s->options.whitelist);
}

int main(int argc, char **argv)
{
	static struct server s = { .options = { .runtime = REXEC_RUNTIME_DIR,
						.whitelist = POLICY_FILE,
						.test_mode = TEST_MODE_DEFAULT,
						.level = LOG_LEVEL_INFO } };

	parse_options(&s.options, argc, argv);
	if (s.options.check)
		return listcheck(s.options.check, s.options.test_mode);
	log_init("rexec_server", s.options.level);
	umask(022);
	signal(SIGPIPE, SIG_IGN);
	/* Before the lock, by which qtcfg finds whom to send SIGHUP. */
	open_signals(&s);
	load_policy(&s);
	make_runtime_dir(&s);
	raise_descriptor_limit();
	open_listener(&s);
	loop_init(&s.loop);
	loop_io_start(&s.loop, &s.signals_io, s.signals, POLLIN, on_signal, &s);
	loop_io_start(&s.loop, &s.listener_io, s.listener, POLLIN, on_connection, &s);
	log_info("ready in %s", s.runtime);
	sd_notify(0, "READY=1");
	while (!s.over && !loop_turn(&s.loop, -1))
		;
	sd_notify(0, "STOPPING=1");
	log_info("ends; %u programs stay with their keepers", s.n_keepers);
	leave_runtime_dir(&s);
	policy_free(&s.policy);
	loop_deinit(&s.loop);
	return 0;
}
