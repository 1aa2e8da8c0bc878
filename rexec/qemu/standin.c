/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How it works
 *
 * One thread, one loop: the session with QEMU's keeper on the HOST, signals, the outlets, and
 * a tick while there are threads or terminals that nobody tells us about.
 *
 * A lost link. While the outcome is unknown we stay: libvirt takes our end for QEMU's, and would
 * start a second one on the same disk. So session_attach() is tried for ever, and connections to
 * QEMU are dialled anew (connection.c). Only when the keeper is certainly gone, and QEMU with it,
 * do we end without its status.
 *
 * The end. The session tells it after the last byte of QEMU's output (udsproxyd sees to that).
 * A monitor that ends earlier is not hung up yet, but dialled again; so libvirt, which reads the
 * log when its monitor ends, finds all of QEMU's words there: those that we carry (cross.c), too.
 * Then the connections deliver what QEMU still said and are closed, the sockets that we made are
 * unlinked, and we exit.
 *
 * A QEMU that daemonizes. Its started process exits and it stays; so do we: the child of a fork
 * goes on with everything, its pid goes into the pid file, and the parent exits with QEMU's
 * status.
 */
#include "standin.h"

#include <errno.h>
#include <fcntl.h>
#include <json-c/json.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "log.h"
#include "util.h"

#define ATTACH_FIRST_MS 50
#define ATTACH_LAST_MS 1000
#define ATTACH_TIMEOUT_MS 5000
#define UNSURE_MS 12000 /* in which a keeper may still be about to start QEMU: admit.h */
#define TICK_MS 200
#define DELIVER_MS 5000 /* for what QEMU said last, after its end */
#define CONNECT_MS 1000 /* for libvirt to come to the monitor of a QEMU that failed at once */

static const int passed_on[] = { SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2, SIGCONT };

/* ---- names of the HOST ---- */

static int pin(void *arg, pid_t host, const uint8_t *cpus, size_t size)
{
	struct standin *s = arg;

	return session_affinity(s->session, host, cpus, size);
}

static void on_tick(void *arg)
{
	struct standin *s = arg;
	bool told = shadow_mirror(&s->shadows, pin, s);

	terminal_look(&s->terminals);
	if (s->shadows.n || s->terminals.n || !told)
		loop_timer_start(&s->loop, &s->tick, TICK_MS, on_tick, s);
}

static void need_tick(struct standin *s)
{
	if (!s->tick.loop)
		loop_timer_start(&s->loop, &s->tick, TICK_MS, on_tick, s);
}

static bool local_thread(void *arg, int64_t host, int64_t *local)
{
	struct standin *s = arg;

	if (host <= 0)
		return false; /* QEMU's way to say that there is none */
	*local = shadow_of(&s->shadows, host);
	need_tick(s);
	return true;
}

/* Of an answer to query-cpus-fast or query-iothreads. */
static void name_thread(struct standin *s, struct json_object *of)
{
	struct json_object *thread, *value;
	char name[64] = "";

	if (!json_object_object_get_ex(of, "thread-id", &thread))
		return;
	if (json_object_object_get_ex(of, "cpu-index", &value))
		snprintf(name, sizeof(name), "vcpu%d", json_object_get_int(value));
	else if (json_object_object_get_ex(of, "id", &value))
		snprintf(name, sizeof(name), "%.60s", json_object_get_string(value));
	shadow_name(&s->shadows, json_object_get_int(thread), name);
}

static void name_threads(void *arg, const char *message)
{
	struct standin *s = arg;
	struct json_object *root = s->shadows.fixed ? json_tokener_parse(message) : NULL, *list;

	if (json_object_object_get_ex(root, "return", &list) &&
	    json_object_is_type(list, json_type_array))
		for (size_t i = 0; i < json_object_array_length(list); i++)
			name_thread(s, json_object_array_get_idx(list, i));
	json_object_put(root);
}

static const char *local_terminal(void *arg, const char *host)
{
	struct standin *s = arg;

	need_tick(s);
	return terminal_of(&s->terminals, host);
}

static int dial_terminal(void *arg, const char *path)
{
	struct standin *s = arg;

	return session_open_tty(s->session, path);
}

static int dial_outlet(void *arg, int number, const char *name)
{
	struct standin *s = arg;

	return name ? session_dial_file(s->session, name) : session_dial(s->session, number);
}

/* ---- the end ---- */

static int write_pidfile(const char *path, pid_t pid)
{
	_cleanup_close_ int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	return fd < 0 || dprintf(fd, "%d\n", pid) < 0 ? -errno : 0;
}

static void unlink_pidfile(const struct standin *s)
{
	if (s->in_pidfile)
		unlink(s->plan->pidfile);
}

static void end(struct standin *s, int status, bool known)
{
	s->over = true;
	s->status = status;
	s->known = known;
	s->deadline = loop_now() + DELIVER_MS;
	loop_timer_stop(&s->attach);
	loop_io_stop(&s->on_session);
	given_release(s->given);
}

/* QEMU's last words are delivered, now the connections are to end. */
static void finish(struct standin *s)
{
	s->finishing = true;
	s->deadline = loop_now() + DELIVER_MS;
	outlets_finish(&s->outlets);
}

/* Die of the signal that QEMU died of; without a core, for it is not ours that matters. */
static void die_of(int signo)
{
	sigset_t set;

	setrlimit(RLIMIT_CORE, &(struct rlimit){ 0, 0 });
	signal(signo, SIG_DFL);
	sigemptyset(&set);
	sigaddset(&set, signo);
	raise(signo);
	sigprocmask(SIG_UNBLOCK, &set, NULL);
}

static void __attribute__((noreturn)) leave(struct standin *s)
{
	outlets_await_monitor(&s->outlets, CONNECT_MS);
	outlets_free(&s->outlets);
	unlink_pidfile(s);
	session_free(s->session);
	if (!s->known)
		exit(s->status);
	if (WIFSIGNALED(s->status))
		die_of(WTERMSIG(s->status));
	exit(WIFSIGNALED(s->status) ? 128 + WTERMSIG(s->status) : WEXITSTATUS(s->status));
}

void standin_fail(struct standin *s, int status)
{
	outlets_finish(&s->outlets);
	outlets_await_monitor(&s->outlets, CONNECT_MS);
	outlets_free(&s->outlets);
	exit(status);
}

/* ---- daemonizing ---- */

static void detach(void)
{
	_cleanup_close_ int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	setsid();
	for (int fd = 0; null >= 0 && fd <= 2; fd++)
		dup2(null, fd);
}

/* The parent's part: say who stays, and exit as QEMU did. */
static void __attribute__((noreturn)) exit_for(const struct standin *s, pid_t child)
{
	const char *path = s->plan->pidfile;
	int ret = path ? write_pidfile(path, child) : 0;

	if (!ret)
		_exit(WEXITSTATUS(s->status));
	log_error("%s: %s", path, strerrordesc_np(-ret));
	kill(child, SIGTERM); /* which ends QEMU, and then the child */
	_exit(EXIT_REXEC_FAILED);
}

static void daemonize(struct standin *s)
{
	int parent[2];
	pid_t pid;

	if (pipe2(parent, O_CLOEXEC) || (pid = fork()) < 0) {
		log_error("cannot leave a process behind for QEMU: %s", strerrordesc_np(errno));
		exit(EXIT_REXEC_FAILED);
	}
	if (pid > 0)
		exit_for(s, pid);
	/* The pid file is ours to unlink: wait until it is written. */
	close(parent[1]);
	while (read(parent[0], &(char){ 0 }, 1) < 0 && errno == EINTR)
		;
	close(parent[0]);
	/* Threads do not survive a fork; names are given anew. */
	s->shadows = (struct shadows){ .fixed = s->shadows.fixed };
	s->leave = false;
	s->in_pidfile = s->plan->pidfile;
	detach();
}

/* ---- the session ---- */

static void on_started(struct standin *s)
{
	const char *path = s->plan->daemonize ? NULL : s->plan->pidfile;
	int ret = path ? write_pidfile(path, getpid()) : 0;

	s->started = true;
	s->in_pidfile = path && !ret;
	if (ret)
		log_warning("%s: %s", path, strerrordesc_np(-ret));
	on_tick(s); /* libvirt pins the emulator before it executes us */
}

static void on_exited(struct standin *s, const struct session_event *event)
{
	if (!event->survivors || !s->plan->daemonize) {
		end(s, event->status, true);
		return;
	}
	s->leave = true;
	s->status = event->status;
	s->deadline = loop_now() + DELIVER_MS;
	given_release(s->given);
}

static void on_attach(void *arg);

static void on_lost(struct standin *s)
{
	if (s->started)
		log_warning("the link to the HOST is lost; QEMU goes on, and so do the attempts to "
			    "reach it");
	loop_io_stop(&s->on_session);
	s->lost_at = loop_now();
	s->attach_ms = ATTACH_FIRST_MS;
	loop_timer_start(&s->loop, &s->attach, s->attach_ms, on_attach, s);
}

/* Return: whether there may be more events. */
static bool on_event(struct standin *s, const struct session_event *event)
{
	switch (event->kind) {
	case SESSION_NONE:
		return false;
	case SESSION_STARTED:
		on_started(s);
		return true;
	case SESSION_REFUSED:
		log_error("%s", event->reason);
		end(s, event->status, false);
		return false;
	case SESSION_EXITED:
		on_exited(s, event);
		return !s->over;
	case SESSION_GONE:
		end(s, s->status, true);
		return false;
	case SESSION_LOST:
		on_lost(s);
		return false;
	}
	return false;
}

static void session_ready(void *arg, short revents)
{
	struct standin *s = arg;
	struct session_event event;

	(void)revents;
	do
		session_next(s->session, &event);
	while (on_event(s, &event));
}

static void watch_session(struct standin *s)
{
	loop_io_start(&s->loop, &s->on_session, session_fd(s->session), POLLIN, session_ready, s);
}

static void send_signal(struct standin *s, int signo)
{
	int ret = session_signal(s->session, signo, false);

	if (ret && ret != -EINVAL)
		sigaddset(&s->unsent, signo);
}

static void send_unsent(struct standin *s)
{
	for (size_t i = 0; i < ARRAY_LEN(passed_on); i++) {
		if (sigismember(&s->unsent, passed_on[i]) != 1)
			continue;
		sigdelset(&s->unsent, passed_on[i]);
		send_signal(s, passed_on[i]);
	}
}

static void on_attach(void *arg)
{
	struct standin *s = arg;
	int ret = session_attach(s->session, ATTACH_TIMEOUT_MS);

	if (!ret) {
		log_info("the link to the HOST is back");
		shadow_tell_again(&s->shadows);
		if (!s->started)
			on_started(s);
		else
			on_tick(s);
		send_unsent(s);
		watch_session(s);
		session_ready(s, POLLIN);
	} else if (ret == -ESRCH && s->started) {
		log_error("QEMU's keeper on the HOST is gone, and QEMU with it: how it ended is "
			  "not known");
		end(s, EXIT_OUTCOME_UNKNOWN, false);
	} else if (ret == -ESRCH && loop_now() - s->lost_at >= UNSURE_MS) {
		log_error("QEMU was not started: the HOST took the request, and hung up; see "
			  "udsproxyd's "
			  "and rexec_server's log");
		end(s, EXIT_REXEC_FAILED, false);
	} else {
		s->attach_ms = MIN(s->attach_ms * 2, (unsigned int)ATTACH_LAST_MS);
		loop_timer_start(&s->loop, &s->attach, s->attach_ms, on_attach, s);
	}
}

/* ---- signals ---- */

static void signal_ready(void *arg, short revents)
{
	struct standin *s = arg;
	struct signalfd_siginfo info;

	(void)revents;
	while (read(s->signal_fd, &info, sizeof(info)) == (ssize_t)sizeof(info))
		send_signal(s, (int)info.ssi_signo);
}

/* From now on signals are QEMU's; those that we were told to ignore stay ignored. */
static int take_signals(struct standin *s)
{
	struct sigaction now;

	sigemptyset(&s->signals);
	for (size_t i = 0; i < ARRAY_LEN(passed_on); i++)
		if (!sigaction(passed_on[i], NULL, &now) && now.sa_handler != SIG_IGN)
			sigaddset(&s->signals, passed_on[i]);
	if (sigprocmask(SIG_BLOCK, &s->signals, NULL))
		return -errno;
	s->signal_fd = signalfd(-1, &s->signals, SFD_CLOEXEC | SFD_NONBLOCK);
	if (s->signal_fd < 0)
		return -errno;
	loop_io_start(&s->loop, &s->on_signal, s->signal_fd, POLLIN, signal_ready, s);
	return 0;
}

/* ---- the public functions ---- */

void standin_init(struct standin *s, const struct argv_plan *plan, struct given *given, bool local)
{
	*s = (struct standin){ .plan = plan, .given = given, .signal_fd = -1 };
	loop_init(&s->loop);
	sigemptyset(&s->unsent);
	s->names = (struct qmp_names){ local_thread, local_terminal, s, name_threads };
	s->crossing = (struct crossing){ .loop = &s->loop, .local = local };
	s->outlets = (struct outlets){
		.setting = { &s->loop, &s->crossing, &s->names },
		.dial = dial_outlet,
		.arg = s,
	};
	s->terminals = (struct terminals){ .loop = &s->loop, .dial = dial_terminal, .arg = s };
}

static bool too_late(const struct standin *s)
{
	return loop_now() >= s->deadline;
}

static bool output_delivered(const struct standin *s)
{
	return cross_idle(&s->crossing) || too_late(s);
}

/* What is to be done between two turns of the loop. Return: false when all is done. */
static bool go_on(struct standin *s)
{
	if (s->over && !s->finishing && output_delivered(s))
		finish(s);
	if (s->leave && !s->over && output_delivered(s))
		daemonize(s);
	return !s->finishing || (!outlets_idle(&s->outlets) && !too_late(s));
}

void standin_run(struct standin *s, struct session *session, const struct session_event *first)
{
	int ret;

	s->session = session;
	ret = take_signals(s);
	if (ret) {
		log_error("signals: %s", strerrordesc_np(-ret));
		standin_fail(s, EXIT_REXEC_FAILED);
	}
	watch_session(s);
	if (on_event(s, first))
		session_ready(s, POLLIN); /* more may have come with it */
	while (go_on(s)) {
		ret = loop_turn(&s->loop, s->leave || s->over ? TICK_MS : -1);
		if (ret)
			log_warning("%s", strerrordesc_np(-ret));
	}
	leave(s);
}
