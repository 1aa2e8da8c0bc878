/* SPDX-License-Identifier: Apache-2.0 */
/*
 * session.h - the client's side of one program that runs on the HOST
 *
 * Used by rexec (any program) and by rexec-qemu (QEMU for libvirt). A session outlives
 * its connection: the keeper that rexec_server forks for each program listens on a socket
 * of its own, RUNTIME/sessions/ID.keeper, and a client that lost its connection attaches
 * there again; so restarts of udsproxyd, or of rexec_server, end nothing.
 *
 * Not thread-safe. No signal handlers of its own (SIGPIPE is never raised). Blocking calls are
 * bounded. Survives fork(2): the child may go on with the session when the parent leaves by
 * _exit(2) without session_free(); the program goes on while one of the two lives.
 *
 * RUNTIME is /run/rexec, or $REXEC_RUNTIME_DIR.
 */
#ifndef SESSION_H
#define SESSION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define SESSION_REASON_MAX 512
#define SESSION_PASSED_MAX                                                                         \
	252 /* descriptors of kind PASS that differ (SCM_MAX_FD, less the life line) */

/* Exit statuses that are ours, not the program's (rexec(1)). */
enum {
	EXIT_OUTCOME_UNKNOWN = 123,
	EXIT_TIMED_OUT = 124,
	EXIT_REXEC_FAILED = 125,
	EXIT_REFUSED = 126,
	EXIT_NOT_FOUND = 127,
};

/* What the program finds at descriptor `number`. Entries of one `fd` are one there, too. */
enum session_fd_kind {
	SESSION_FD_PASS,     /* `fd`, passed over the connection (udsproxyd remakes it there) */
	SESSION_FD_TTY,	     /* the program's terminal, made there as spec.terminal says; carried by
				session_open_tty() with the path "" */
	SESSION_FD_HELD,     /* what is written there is held (`keep`) until a session_attach() has an output
				for it */
	SESSION_FD_LISTENER, /* a listening twin made by the keeper; `fd` stays here and the client
				accepts on it and joins each connection with session_dial() */
};

struct session_fd {
	int number;
	int fd; /* borrowed; with `keep`, for as long as the session: output pipes are passed anew
		   by session_attach(). Any value for a TTY, HELD or LISTENER. */
	enum session_fd_kind kind;
	int socktype; /* of a LISTENER: SOCK_STREAM or SOCK_SEQPACKET */
};

/* A small file that the program is given: written to the session's private directory on the
 * HOST, owned by the program's user, mode 0600. */
struct session_file {
	const char *name; /* no slash, does not begin with "." or "fd" */
	const void *data;
	size_t size;
};

struct session_spec {
	char *const *argv; /* argv[0] names the program: a bare name or an absolute path */
	char *const
		*env; /* offered: what the policy's allowlist knows arrives, the rest is dropped */
	char *const
		*env_named; /* asked for by name: arrives, or the request is refused; may be NULL */
	const char *cwd;
	mode_t umask;
	uint64_t ignored; /* signals that the program is to ignore: bit signo - 1 */
	uint64_t blocked; /* and to find blocked */
	const struct session_fd *fds;
	size_t n_fds;
	const struct session_file *files; /* all together less than 2 MiB */
	size_t n_files;
	bool expand_dir; /* "@DIR@" in an argument, also within it, stands for the session's
			    private directory */
	bool keep; /* a lost link leaves the program running, its output is held for re-attachment
		    */
	bool detached; /* with `keep`: its client's end does not end it either */
	unsigned timeout_s; /* end it when it runs that long; 0: never */
	const struct request_terminal *terminal; /* NULL: no descriptor is TTY */
	bool offsets; /* files that udsproxyd opens there are at the offset here where the program
			 has left them, when it has ended; until then they are held open */
	const char *user; /* NULL: as the caller; only root may name another */
};

enum session_event_kind {
	SESSION_NONE,	 /* nothing yet */
	SESSION_STARTED, /* execve succeeded; pid is the HOST's */
	SESSION_REFUSED, /* never ran: `status` is 125, 126 or 127, `reason` says why */
	SESSION_EXITED, /* the started process ended with wait status `status` (of this machine, for
			   WIFEXITED and so on); `survivors`: descendants go on (it daemonized) */
	SESSION_GONE,	/* the last descendant ended, too; follows EXITED with survivors */
	SESSION_LOST,	/* the connection broke without an outcome, see `reason`; session_attach() may mend it */
};

struct session_event {
	enum session_event_kind kind;
	int status;
	bool survivors;
	bool timed_out; /* EXITED: because its time was over */
	bool taken;	/* LOST: because another is the program's client now; session_attach() takes it back */
	pid_t pid;
	uint64_t file; /* of STARTED: another number when the program is another file, or changed */
	char reason[SESSION_REASON_MAX];
};

#define SESSION_BEAT_MS 5000
#define SESSION_SILENCE_MS 20000

struct session;
struct request_terminal;

/**
 * session_open() - connect to rexec_server and ask it to run @spec
 * @local	on this machine, without udsproxyd
 * @reason	a sentence for a person on failure, SESSION_REASON_MAX bytes: which of udsproxyd,
 *the peer or rexec_server is missing The caller's resource limits (getrlimit(2)) go along. STARTED
 *or REFUSED is the first event. Return: 0 and a session in @out (session_free()), or a negative
 *errno.
 */
int session_open(struct session **out, const struct session_spec *spec, bool local, char *reason);

/**
 * session_adopt() - hold a program that somebody else has begun; session_attach() makes us its client
 * @id		32 digits
 * @outputs	@n descriptors (borrowed, as those of struct session_spec) for what it writes to the numbers they
 *		bear there
 * Return: 0 and a session in @out, -EINVAL for what is no id, or -ENOMEM.
 */
int session_adopt(struct session **out, const char *id, const struct session_fd *outputs, size_t n, bool local);

/** session_id() - 32 hexadecimal digits by which others find the program; valid until session_free() */
const char *session_id(const struct session *s);

/** session_fd() - the descriptor to poll for POLLIN, then call session_next() until it returns
 * SESSION_NONE; -1 while lost, and when no event can follow. Changes with session_attach(). */
int session_fd(const struct session *s);

/** session_next() - the next event, without waiting; SESSION_NONE when there is none.
 * Never skips one and never tells one twice; after SESSION_LOST it returns SESSION_NONE until
 * session_attach(), and so it does after REFUSED, EXITED without survivors, and GONE. */
void session_next(struct session *s, struct session_event *event);

/** session_signal() - send @signo to the program (its process group with @group); when it
 * daemonized, to what stayed. 0 or -errno (-ENOTCONN while lost) */
int session_signal(struct session *s, int signo, bool group);

/** session_resize() - the program's terminal has this size now; 0 or -errno */
int session_resize(struct session *s, const struct request_terminal *size);

/** session_beat() - to be called every SESSION_BEAT_MS, after session_next() has said SESSION_NONE: hangs up when the keeper did not
 * answer for SESSION_SILENCE_MS, which session_next() then tells as SESSION_LOST. No-op while lost. */
void session_beat(struct session *s);

/** session_affinity() - pin HOST thread @tid, of this program (0: every thread that it has now), to
 * CPUs: CPU n is bit n % 8 of byte n / 8, @size bytes. 0 when sent (a refusal is in rexec_server's
 * log), or -errno. */
int session_affinity(struct session *s, pid_t tid, const uint8_t *cpus, size_t size);

/** session_dial() - a connected socket to the program's twin of listener @number, or a negative
 * errno: -EAGAIN try again soon (backlog full), -ECONNREFUSED the program closed it. The caller
 * owns it: CLOEXEC, blocking. Not before STARTED; works while the session's connection is lost. */
int session_dial(struct session *s, int number);

/** session_dial_file() - the same to a listening SOCK_STREAM socket `@DIR@/name` that the program
 * itself made */
int session_dial_file(struct session *s, const char *name);

/** session_open_tty() - the program's terminal @path (/dev/pts/N on the HOST; "": its own, which
 * SESSION_FD_TTY asked for), carried as a connected stream socket; -errno. Only terminals whose master a process of
 * this program holds. */
int session_open_tty(struct session *s, const char *path);

/** session_attach() - one attempt to attach again after SESSION_LOST, within about @timeout_ms.
 * Return: 0 attached; -ESRCH the keeper is gone (the outcome stays unknown); another negative
 * errno: not reachable now, try again. Output descriptors are passed anew. */
int session_attach(struct session *s, int timeout_ms);

/** session_free() - close and free; a program that still runs is ended (TERM, then KILL), unless it is detached */
void session_free(struct session *s);

/* ---- programs that somebody else, or an earlier process, has begun ---- */

struct request_program;

/**
 * session_list() - what runs there of the caller's (of root: all)
 * @tell	called for each
 * @reason	SESSION_REASON_MAX bytes, a sentence on failure
 * Return: 0 or a negative errno
 */
int session_list(bool local, void (*tell)(const struct request_program *p, void *arg), void *arg, char *reason);

/** session_kill() - program @id: send @signo to its process group, or with 0 end it and all that it started. Return: 0 or a
 * negative errno with a @reason. */
int session_kill(const char *id, int signo, bool local, char *reason);

/** session_set() - program @id: set NAME=VALUE (control.h) of thread @tid, of all with 0; as session_kill() */
int session_set(const char *id, pid_t tid, const char *assignment, bool local, char *reason);

#endif
