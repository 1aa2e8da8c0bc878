/* SPDX-License-Identifier: Apache-2.0 */
/*
 * udsproxyd - a program here connects to a UNIX socket there, and neither notices
 *
 * Start-up, in order: options; limits; the runtime directory, which is locked; the lists; the
 * listening sockets; the workers; READY. Then worker 0 runs on this
 * thread, with the signals and the control link, the others on theirs. Up to READY a failure
 * ends the program with a reason; after it nothing that a client or the peer sends does.
 *
 * The way of a connection: client.c takes the request, session.c dials through transport.c; over
 * there session.c has connector.c connect to the server; fdmap.c remakes what descriptors come
 * along, and conn.c knows how it ends.
 */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <systemd/sd-daemon.h>

#include "accepted.h"
#include "acceptor.h"
#include "alias.h"
#include "announced.h"
#include "aside.h"
#include "channel.h"
#include "client.h"
#include "daemon.h"
#include "link.h"
#include "proxyreq.h"
#include "runtime.h"
#include "session.h"
#include "transport.h"
#include "util.h"
#include "watch.h"

struct acceptors {
	struct acceptor *requests, *transports;
};

static void raise_limits(struct daemon *d)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit))
		return;
	limit.rlim_cur = limit.rlim_max;
	if (setrlimit(RLIMIT_NOFILE, &limit))
		log_warning("the limit of open files stays low: %m");
	getrlimit(RLIMIT_NOFILE, &limit);
	announced_init(d, limit.rlim_cur);
}

static int listen_for_peer(struct daemon *d)
{
	int fd = addr_listen(&d->config.addr);

	if (fd < 0)
		die("cannot listen on %s: %s%s", d->config.addr.text, strerror(-fd),
		    fd != -EADDRNOTAVAIL	       ? ""
		    : addr_is_vsock(&d->config.addr) ? ": this machine does not have this CID"
						       : ": no interface here has this address");
	return fd;
}

struct signals {
	struct io io; /* of a signalfd(2) */
	struct daemon *daemon;
};

static void reload(struct daemon *d)
{
	char reason[512];

	sd_notify(0, "RELOADING=1");
	if (daemon_load_rules(d, reason, sizeof(reason)))
		log_error("the old lists stay in force: %s", reason);
	sd_notify(0, "READY=1");
}

static void on_signal(struct io *io, uint32_t events)
{
	struct daemon *d = CONTAINER_OF(io, struct signals, io)->daemon;
	struct signalfd_siginfo got;

	(void)events;
	if (read(io->fd, &got, sizeof(got)) != sizeof(got))
		return;
	if (got.ssi_signo == SIGHUP) {
		reload(d);
	} else {
		log_info("ended by signal %u", got.ssi_signo);
		workers_stop(d);
	}
}

/* Before any thread is started: they inherit it. Return: a descriptor that tells of them. */
static int take_signals(void)
{
	sigset_t set;
	int fd;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGHUP);
	fd = sigprocmask(SIG_BLOCK, &set, NULL) ? -1 : signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	if (fd < 0)
		die("cannot handle signals: %m");
	return fd;
}

static void watch_signals(struct signals *s, struct daemon *d, int fd)
{
	s->daemon = d;
	io_init(&s->io, on_signal);
	if (io_start(&d->workers[0].events, &s->io, fd, EPOLLIN))
		die("cannot handle signals");
}

static void *run(void *arg)
{
	worker_run(arg);
	return NULL;
}

static void start_threads(struct daemon *d)
{
	for (int i = 1; i < d->config.threads; i++) {
		int err = pthread_create(&d->workers[i].thread, NULL, run, &d->workers[i]);

		if (err)
			die("cannot start thread %d: %s", i, strerror(err));
	}
}

static void join_threads(struct daemon *d)
{
	for (int i = 1; i < d->config.threads; i++)
		pthread_join(d->workers[i].thread, NULL);
}

/* The peer hears that each connection ends, and why; then nothing is left. */
static void end_connections(struct daemon *d)
{
	for (int i = 0; i < d->config.threads; i++) {
		struct session *s;
		struct transport *t;

		while ((s = LIST_FIRST(&d->workers[i].sessions)))
			session_abort(s, ECONNRESET, "udsproxyd is stopped");
		while ((t = LIST_FIRST(&d->workers[i].transports)))
			transport_close(t);
		client_end_all(&d->workers[i]);
		watch_end_all(&d->workers[i]);
		alias_end_all(&d->workers[i]);
	}
}

int main(int argc, char **argv)
{
	static struct daemon daemon = { .rules_lock = PTHREAD_MUTEX_INITIALIZER };
	struct daemon *d = &daemon;
	struct signals signals;
	struct acceptors *acceptors;
	struct acceptor *control;
	int lock, control_fd, signals_fd;
	bool busy;
	char reason[512];

	log_init("udsproxyd", LOG_LEVEL_INFO);
	config_parse(&d->config, argc, argv);
	log_init("udsproxyd", d->config.log_level);
	signal(SIGPIPE, SIG_IGN);
	umask(0); /* servers and clients of any user send to the sockets of once/ and twins/ */
	d->self = (struct ucred){ .pid = getpid(), .uid = getuid(), .gid = getgid() };
	if (d->self.uid == 0 && setgroups(0, NULL))
		die("cannot drop supplementary groups: %m");
	raise_limits(d);
	worker_random_id(&d->instance);

	lock = runtime_open(d->config.runtime_dir);
	if (daemon_load_rules(d, reason, sizeof(reason)))
		die("%s", reason);
	if (addr_is_vsock(&d->config.addr))
		log_warning("a CID names a machine, not a user: whoever can use vsock there is the peer");
	else
		log_warning("test mode: plain TCP on %s, nobody is authenticated", d->config.addr.text);
	d->transports_fd = listen_for_peer(d);
	d->requests_fd = runtime_listen(d->config.runtime_dir, PROXYREQ_SOCKET, 0666);
	control_fd = runtime_listen(d->config.runtime_dir, PROXYREQ_CONTROL, 0600);

	signals_fd = take_signals();
	alias_start(d);
	d->channels = channels_new();
	d->accepted = accepted_new();
	d->budget.limit = d->config.buffer_limit;
	d->null_fd = open("/dev/null", O_WRONLY | O_CLOEXEC);
	if (d->null_fd < 0)
		die("/dev/null: %m");
	workers_init(d);
	acceptors = calloc((size_t)d->config.threads, sizeof(*acceptors));
	if (!acceptors)
		die("out of memory");
	for (int i = 0; i < d->config.threads; i++) {
		struct worker *w = &d->workers[i];

		acceptors[i].requests = acceptor_new(w, d->requests_fd, client_accept);
		acceptors[i].transports = acceptor_new(w, d->transports_fd, transport_accept);
	}
	control = acceptor_new(&d->workers[0], control_fd, client_accept_control);
	watch_signals(&signals, d, signals_fd);
	d->link = link_new(&d->workers[0]);
	start_threads(d);
	log_info("listening on %s, peer %s, %d thread%s", d->config.addr.text, d->config.peer.text,
		 d->config.threads, d->config.threads == 1 ? "" : "s");
	sd_notify(0, "READY=1");

	worker_run(&d->workers[0]);

	sd_notify(0, "STOPPING=1");
	join_threads(d);
	busy = aside_busy(); /* what these threads post nobody takes any more */
	end_connections(d);
	link_free(d->link);
	for (int i = 0; i < d->config.threads; i++) {
		acceptor_free(acceptors[i].requests);
		acceptor_free(acceptors[i].transports);
	}
	acceptor_free(control);
	io_close(&d->workers[0].events, &signals.io, signals_fd);
	free(acceptors);
	if (busy || aside_busy()) { /* a file system that hangs must not hold us up */
		runtime_close(d->config.runtime_dir, lock);
		_exit(0);
	}
	alias_stop();
	workers_free(d);
	channels_free(d->channels);
	accepted_free(d->accepted);
	daemon_free_rules(d);
	close(d->transports_fd);
	close(d->requests_fd);
	close(d->null_fd);
	close(control_fd);
	runtime_close(d->config.runtime_dir, lock);
	return 0;
}
