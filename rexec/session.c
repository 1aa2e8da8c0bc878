/* SPDX-License-Identifier: Apache-2.0 */
/*
 * session.c - how a client holds on to its program
 *
 * The session's id is chosen here and goes with EXEC, so that a client whose connection broke
 * can ask for its keeper whether or not STARTED had come. "The keeper is gone" ends a program
 * for libvirt, so it is only said when it is certain: through udsproxyd, ENOENT and ECONNREFUSED
 * may also come from a daemon that died under the question, and count only when rexec_server
 * answers in between.
 */
#include "session.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>

#include "canon.h"
#include "fdpass.h"
#include "loop.h"
#include "offsets.h"
#include "printable.h"
#include "proxyclient.h"
#include "request.h"
#include "util.h"

#define SEND_TIMEOUT_MS 10000
#define LIST_TIMEOUT_MS 30000
#define ANSWER_TIMEOUT_MS 5000

struct listener {
	int number, socktype;
};

struct session {
	bool local;
	int sock;	      /* -1: lost, or over */
	int life;	      /* our end of the life line */
	bool started, exited; /* told */
	bool over;	      /* nothing can follow any more */
	uint64_t asked;	      /* when the keeper was, and has not answered; 0: it has */
	struct frame_in in;
	struct fdset outputs; /* borrowed: what session_attach() passes anew */
	uint32_t output_numbers[FDSET_MAX];
	struct offsets offsets;
	size_t n_listeners;
	struct listener *listeners;
	char id[REQUEST_ID_SIZE];
};

/* ---- connecting ---- */

static const char *runtime_dir(void)
{
	const char *dir = secure_getenv("REXEC_RUNTIME_DIR");

	return dir && *dir ? dir : REXEC_RUNTIME_DIR;
}

static int connect_local(int sock, const struct sockaddr_un *to)
{
	/* A full backlog is to be told, not waited for. */
	int err = fcntl(sock, F_SETFL, O_NONBLOCK);

	if (!err)
		err = connect(sock, (const struct sockaddr *)to, sizeof(*to));
	return err || fcntl(sock, F_SETFL, 0) ? -errno : 0;
}

/* What a person can do about the failure @err to reach @to; @reason may say it already. */
static void explain(bool local, int err, const struct sockaddr_un *to, char *reason)
{
	const char *where = local ? "here" : "on the peer";

	if (err == -ENETUNREACH && !local)
		snprintf(reason, SESSION_REASON_MAX,
			 "udsproxyd does not let %s through: qtcfg -w udsconnect -x %s",
			 to->sun_path, runtime_dir());
	else if (*reason && err != -ENOENT)
		return;
	else if (err == -ENOENT || err == -ECONNREFUSED)
		snprintf(reason, SESSION_REASON_MAX,
			 "rexec_server is not running %s: nobody listens on %s", where,
			 to->sun_path);
	else
		snprintf(reason, SESSION_REASON_MAX, "cannot connect to %s %s: %s", to->sun_path,
			 where, strerrordesc_np(-err));
}

/* A blocking socket connected to RUNTIME/@name, or a negative errno with a reason. */
static int dial(bool local, int type, const char *name, char *reason)
{
	_cleanup_close_ int sock = socket(AF_UNIX, type | SOCK_CLOEXEC, 0);
	struct sockaddr_un to = { .sun_family = AF_UNIX };
	int n, err;

	*reason = '\0';
	if (sock < 0)
		return -errno;
	n = snprintf(to.sun_path, sizeof(to.sun_path), "%s/%s", runtime_dir(), name);
	if (n < 0 || (size_t)n >= sizeof(to.sun_path)) {
		snprintf(reason, SESSION_REASON_MAX, "%s: too long for a socket's name",
			 runtime_dir());
		return -ENAMETOOLONG;
	}
	err = local ? connect_local(sock, &to)
		    : proxyclient_connect(sock, &to, sizeof(to), reason, SESSION_REASON_MAX);
	printable(reason);
	if (!err)
		return take_fd(&sock);
	explain(local, err, &to, reason);
	return err;
}

/* The same to a file of the session's directory. */
static int dial_session(const struct session *s, int type, const char *file)
{
	char name[REQUEST_ID_SIZE + REQUEST_NAME_MAX + 32];
	char reason[SESSION_REASON_MAX];

	snprintf(name, sizeof(name), REXEC_SESSIONS "/%s/%s", s->id, file);
	return dial(s->local, type, name, reason);
}

static int dial_keeper(const struct session *s)
{
	char name[REQUEST_ID_SIZE + 32];
	char reason[SESSION_REASON_MAX];

	snprintf(name, sizeof(name), REXEC_SESSIONS "/" REXEC_KEEPER_FORMAT, s->id);
	return dial(s->local, SOCK_STREAM, name, reason);
}

/* ---- sending and receiving ---- */

/* All of @n bytes, the descriptors with the first; waits until @deadline. */
static int send_all(int sock, const void *data, size_t n, const struct fdset *fds,
		    uint64_t deadline)
{
	size_t sent = 0;

	while (sent < n) {
		struct pollfd p = { .fd = sock, .events = POLLOUT };
		uint64_t now = loop_now();
		ssize_t done = fd_sendmsg(sock, (const char *)data + sent, n - sent, MSG_DONTWAIT,
					  sent ? NULL : fds, NULL);

		if (done >= 0)
			sent += (size_t)done;
		else if (done != -EAGAIN)
			return (int)done;
		else if (now >= deadline)
			return -ETIMEDOUT;
		else
			poll(&p, 1, (int)(deadline - now));
	}
	return 0;
}

static int send_frame(int sock, struct frame_out *f, const struct fdset *fds, uint64_t deadline)
{
	size_t n = frame_end(f);

	if (sock < 0)
		return -ENOTCONN;
	return n ? send_all(sock, f->data, n, fds, deadline) : -EMSGSIZE;
}

/* One receive into @in: 1 something came, 0 nothing now, -errno the connection is over. */
static int receive(int sock, struct frame_in *in, size_t max)
{
	size_t space;
	void *at = frame_space(in, &space);
	ssize_t n = recv(sock, at, MIN(space, max), MSG_DONTWAIT);

	if (n > 0) {
		frame_received(in, (size_t)n);
		return 1;
	}
	if (n == 0)
		return -ECONNRESET;
	return errno == EAGAIN || errno == EINTR ? 0 : -errno;
}

/*
 * Waits for one frame and takes from @sock not a byte beyond it: what follows may be a
 * terminal's. Return: 0, or a negative errno.
 */
static int await_frame(int sock, struct frame_in *in, uint8_t *type, struct buf *payload,
		       uint64_t deadline)
{
	int got;

	while ((got = frame_next(in, type, payload)) == 0) {
		struct pollfd p = { .fd = sock, .events = POLLIN };
		uint32_t length = 0;
		uint64_t now = loop_now();
		int err;

		if (now >= deadline)
			return -ETIMEDOUT;
		if (in->have >= REQUEST_HEADER && frame_header(in->data, &length, type))
			return -EPROTO;
		poll(&p, 1, (int)(deadline - now));
		err = receive(sock, in, REQUEST_HEADER + length - in->have);
		if (err < 0)
			return err;
	}
	return got < 0 ? got : 0;
}

/* ---- the request ---- */

static int make_id(char *id)
{
	uint8_t random[(REQUEST_ID_SIZE - 1) / 2];

	if (getrandom(random, sizeof(random), 0) != (ssize_t)sizeof(random))
		return -EIO;
	for (size_t i = 0; i < sizeof(random); i++)
		snprintf(id + 2 * i, 3, "%02x", random[i]);
	return 0;
}

static uint64_t canon_signals(uint64_t local)
{
	uint64_t set = 0;

	for (int signo = 1; signo <= 64; signo++) {
		uint8_t canon = local >> (signo - 1) & 1 ? canon_signal(signo) : 0;

		if (canon)
			set |= UINT64_C(1) << (canon - 1);
	}
	return set;
}

static uint64_t limit_value(rlim_t v)
{
	return v == RLIM_INFINITY ? UINT64_MAX : (uint64_t)v;
}

static void put_limits(struct request *r)
{
	for (unsigned i = 0; i < REQUEST_LIMITS; i++) {
		struct rlimit limit = { RLIM_INFINITY, RLIM_INFINITY };

		getrlimit((__rlimit_resource_t)request_limit_resource(i), &limit);
		r->limits[i].soft = limit_value(limit.rlim_cur);
		r->limits[i].hard = limit_value(limit.rlim_max);
	}
}

/* The write end of a pipe, which the keeper holds for a client that comes back. */
static bool is_output(int fd)
{
	struct stat st;

	return !fstat(fd, &st) && S_ISFIFO(st.st_mode) &&
	       (fcntl(fd, F_GETFL) & O_ACCMODE) == O_WRONLY;
}

/* The index of @fd in what is passed; entries of one descriptor share it. -E2BIG: too many. */
static int pass(struct fdset *passed, int fd)
{
	for (int i = 1; i < passed->n; i++)
		if (passed->fd[i] == fd)
			return i;
	if (passed->n == FDSET_MAX)
		return -E2BIG;
	passed->fd[passed->n] = fd;
	return passed->n++;
}

static void add_output(struct session *s, int fd, int number)
{
	s->output_numbers[s->outputs.n] = (uint32_t)number;
	s->outputs.fd[s->outputs.n++] = fd;
}

static int put_fd(struct session *s, const struct session_spec *spec, const struct session_fd *from,
		  struct request_fd *to, struct fdset *passed)
{
	int index, before = passed->n;

	to->number = (uint32_t)from->number;
	switch (from->kind) {
	case SESSION_FD_LISTENER:
		to->kind = REQUEST_FD_LISTENER;
		to->value = canon_socktype(from->socktype);
		s->listeners[s->n_listeners++] = (struct listener){ from->number, from->socktype };
		return 0;
	case SESSION_FD_TTY:
		to->kind = REQUEST_FD_TTY;
		return 0;
	case SESSION_FD_HELD:
		to->kind = REQUEST_FD_OUTPUT;
		to->value = REQUEST_OUTPUT_HELD;
		return 0;
	case SESSION_FD_PASS:
		break;
	}
	index = pass(passed, from->fd);
	if (index < 0)
		return index;
	to->kind = spec->keep && is_output(from->fd) ? REQUEST_FD_OUTPUT : REQUEST_FD_PASS;
	to->value = (uint16_t)index;
	if (to->kind == REQUEST_FD_OUTPUT && passed->n > before)
		add_output(s, from->fd, from->number);
	return 0;
}

static size_t count(char *const *list)
{
	size_t n = 0;

	while (list && list[n])
		n++;
	return n;
}

static void put_env(struct request *r, char *const *env, bool named)
{
	for (; env && *env; env++)
		if (strchr(*env, '=') > *env)
			r->env[r->n_env++] = (struct request_env){ *env, named };
}

/* The request's tables, from @spec; the arrays are the request's, to be freed. */
static int put_tables(struct session *s, const struct session_spec *spec, struct request *r,
		      struct fdset *passed)
{
	int err = 0;

	r->env = calloc(count(spec->env) + count(spec->env_named) + 1, sizeof(*r->env));
	r->fds = calloc(spec->n_fds + 1, sizeof(*r->fds));
	r->files = calloc(spec->n_files + 1, sizeof(*r->files));
	s->listeners = calloc(spec->n_fds + 1, sizeof(*s->listeners));
	if (!r->env || !r->fds || !r->files || !s->listeners)
		return -ENOMEM;
	put_env(r, spec->env, false);
	put_env(r, spec->env_named, true);
	for (; !err && r->n_fds < spec->n_fds; r->n_fds++)
		err = put_fd(s, spec, &spec->fds[r->n_fds], &r->fds[r->n_fds], passed);
	for (size_t i = 0; i < spec->n_files; i++)
		r->files[r->n_files++] =
			(struct request_file){ spec->files[i].name, spec->files[i].data,
					       spec->files[i].size };
	r->n_passed = (uint16_t)passed->n;
	return err;
}

static int encode(struct session *s, const struct session_spec *spec, struct fdset *passed,
		  void **frame, ssize_t *size)
{
	struct request r = {
		.flags = (uint16_t)((spec->keep ? REQUEST_KEEP : 0) |
				    (spec->detached ? REQUEST_DETACHED : 0) |
				    (spec->expand_dir ? REQUEST_EXPAND_DIR : 0) |
				    (spec->offsets && !s->local ? REQUEST_OFFSETS : 0) |
				    (s->local ? 0 : REQUEST_PROXIED)),
		.umask = spec->umask,
		.ignored = canon_signals(spec->ignored),
		.blocked = canon_signals(spec->blocked),
		.id = s->id,
		.cwd = spec->cwd,
		.user = spec->user ? spec->user : "",
		.timeout_s = spec->timeout_s,
		.argc = count(spec->argv),
	};
	int err;

	/* Arguments are only read; const is what execve(2) and argv lack. */
	memcpy(&r.argv, &spec->argv, sizeof(r.argv));
	put_limits(&r);
	if (spec->terminal)
		r.terminal = *spec->terminal;
	err = put_tables(s, spec, &r, passed);
	*size = err ? err : request_encode(&r, frame);
	r.argv = NULL;
	request_deinit(&r);
	return *size < 0 ? (int)*size : 0;
}

/* ---- the public functions ---- */

static int open_life(int *ours, int *theirs)
{
	int pair[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair))
		return -errno;
	*ours = pair[0];
	*theirs = pair[1];
	return 0;
}

static int open_session(struct session *s, const struct session_spec *spec, char *reason)
{
	_cleanup_free_ void *frame = NULL;
	_cleanup_close_ int theirs = -1;
	struct fdset passed = { .n = 1 };
	ssize_t size;
	int err = make_id(s->id);

	if (!err)
		err = open_life(&s->life, &theirs);
	if (err)
		return err;
	passed.fd[0] = theirs;
	err = encode(s, spec, &passed, &frame, &size);
	if (err == -E2BIG)
		snprintf(reason, SESSION_REASON_MAX,
			 "too much to pass: at most %u bytes and %d descriptors that differ",
			 REQUEST_EXEC_MAX, SESSION_PASSED_MAX);
	if (err)
		return err;
	if (spec->offsets && !s->local)
		offsets_watch(&s->offsets, &passed);
	s->sock = dial(s->local, SOCK_STREAM, REXEC_SOCKET, reason);
	if (s->sock < 0)
		return s->sock;
	err = send_all(s->sock, frame, (size_t)size, &passed, loop_now() + SEND_TIMEOUT_MS);
	/* A server that hung up early may have said why. */
	return err == -EPIPE || err == -ECONNRESET ? 0 : err;
}

int session_open(struct session **out, const struct session_spec *spec, bool local, char *reason)
{
	struct session *s = calloc(1, sizeof(*s));
	int err;

	*reason = '\0';
	if (!s)
		return -ENOMEM;
	s->local = local;
	s->sock = s->life = -1;
	err = open_session(s, spec, reason);
	if (!err) {
		*out = s;
		return 0;
	}
	if (!*reason)
		snprintf(reason, SESSION_REASON_MAX, "%s", strerrordesc_np(-err));
	session_free(s);
	return err;
}

int session_adopt(struct session **out, const char *id, const struct session_fd *outputs, size_t n, bool local)
{
	struct session *s;

	if (strlen(id) != REQUEST_ID_SIZE - 1 || strspn(id, "0123456789abcdef") != REQUEST_ID_SIZE - 1)
		return -EINVAL;
	s = calloc(1, sizeof(*s));
	if (!s)
		return -ENOMEM;
	s->local = local;
	s->sock = s->life = -1;
	strcpy(s->id, id);
	for (size_t i = 0; i < n; i++)
		add_output(s, outputs[i].fd, outputs[i].number);
	*out = s;
	return 0;
}

const char *session_id(const struct session *s)
{
	return s->id;
}

int session_fd(const struct session *s)
{
	return s->sock;
}

static void hang_up(struct session *s)
{
	replace_fd(&s->sock, -1);
	s->in.have = 0;
	s->asked = 0;
}

/* Nothing follows: the keeper may forget us. */
static void finish(struct session *s)
{
	struct frame_out f;

	frame_start(&f, REQUEST_DONE);
	send_frame(s->sock, &f, NULL, 0);
	hang_up(s);
	s->over = true;
}

static void get_exited(struct buf *payload, struct session_event *e)
{
	bool killed = buf_get_u8(payload);
	uint8_t number = buf_get_u8(payload);

	e->kind = SESSION_EXITED;
	/* As wait(2) has it. A signal that is not known here was one all the same. */
	if (killed)
		e->status = local_signal(number) ? local_signal(number) : SIGKILL;
	else
		e->status = number << 8;
	e->survivors = buf_get_u8(payload);
	e->timed_out = buf_get_u8(payload);
}

static void get_refused(struct buf *payload, struct session_event *e)
{
	const char *reason;

	e->kind = SESSION_REFUSED;
	e->status = buf_get_u8(payload);
	reason = frame_get_text(payload);
	snprintf(e->reason, sizeof(e->reason), "%s", reason ? reason : "");
	printable(e->reason);
}

/* Return: whether @e is an event to tell. */
static bool handle(struct session *s, uint8_t type, struct buf *payload, struct session_event *e)
{
	switch (type) {
	case REQUEST_STARTED:
		e->kind = SESSION_STARTED;
		e->pid = (pid_t)buf_get_u32(payload);
		e->file = buf_get_u64(payload);
		s->started = true;
		return true;
	case REQUEST_REFUSED:
		get_refused(payload, e);
		return true;
	case REQUEST_EXITED:
		get_exited(payload, e);
		offsets_set(&s->offsets, payload);
		offsets_forget(&s->offsets);
		/* A keeper tells again what it does not know to have arrived. */
		if (s->exited)
			e->kind = SESSION_NONE;
		s->exited = true;
		return e->kind != SESSION_NONE;
	case REQUEST_GONE:
		e->kind = SESSION_GONE;
		return true;
	case REQUEST_TAKEN:
		e->kind = SESSION_LOST;
		e->taken = true;
		snprintf(e->reason, sizeof(e->reason), "another client has the program now");
		return true;
	case REQUEST_PONG:
		s->asked = 0;
		return false;
	default:
		return false;
	}
}

static bool is_last(const struct session_event *e)
{
	return e->kind == SESSION_REFUSED || e->kind == SESSION_GONE ||
	       (e->kind == SESSION_EXITED && !e->survivors);
}

static bool is_silent(const struct session *s)
{
	return s->asked && loop_now() - s->asked >= SESSION_SILENCE_MS;
}

void session_next(struct session *s, struct session_event *event)
{
	struct buf payload;
	uint8_t type;
	int got = 1;

	*event = (struct session_event){ .kind = SESSION_NONE };
	while (s->sock >= 0 && got > 0) {
		bool told = false;

		got = frame_next(&s->in, &type, &payload);
		if (got > 0) {
			told = handle(s, type, &payload, event);
			frame_skip(&s->in);
		}
		if (told) {
			if (is_last(event))
				finish(s);
			else if (event->kind == SESSION_LOST)
				hang_up(s);
			return;
		}
		if (got == 0)
			got = receive(s->sock, &s->in, SIZE_MAX);
	}
	if (got < 0) {
		event->kind = SESSION_LOST;
		snprintf(event->reason, sizeof(event->reason), "%s",
			 is_silent(s) ? "rexec_server does not answer" : "the connection to rexec_server was lost");
		hang_up(s);
	}
}

int session_signal(struct session *s, int signo, bool group)
{
	struct frame_out f;

	if (!canon_signal(signo))
		return -EINVAL;
	frame_start(&f, REQUEST_SIGNAL);
	buf_put_u8(&f.buf, canon_signal(signo));
	buf_put_u8(&f.buf, group);
	return send_frame(s->sock, &f, NULL, 0);
}

int session_resize(struct session *s, const struct request_terminal *size)
{
	struct frame_out f;

	frame_start(&f, REQUEST_WINDOW);
	frame_put_size(&f.buf, size);
	return send_frame(s->sock, &f, NULL, 0);
}

/* A keeper that is stopped, or a HOST that is frozen, keeps its connections, and says nothing. */
void session_beat(struct session *s)
{
	struct frame_out f;

	if (s->sock < 0)
		return;
	if (!s->asked) {
		s->asked = loop_now();
		frame_start(&f, REQUEST_PING);
		send_frame(s->sock, &f, NULL, 0);
	} else if (is_silent(s)) {
		shutdown(s->sock, SHUT_RD);
	}
}

int session_affinity(struct session *s, pid_t tid, const uint8_t *cpus, size_t size)
{
	struct frame_out f;

	if (size > REQUEST_CPUS_MAX)
		return -EINVAL;
	frame_start(&f, REQUEST_AFFINITY);
	buf_put_u32(&f.buf, (uint32_t)tid);
	buf_put_bytes(&f.buf, cpus, size);
	return send_frame(s->sock, &f, NULL, 0);
}

int session_dial(struct session *s, int number)
{
	char file[REQUEST_NAME_MAX];

	for (size_t i = 0; i < s->n_listeners; i++) {
		if (s->listeners[i].number != number)
			continue;
		snprintf(file, sizeof(file), REXEC_TWIN_FORMAT, number);
		return dial_session(s, s->listeners[i].socktype, file);
	}
	return -EBADF;
}

int session_dial_file(struct session *s, const char *name)
{
	if (strlen(name) >= REQUEST_NAME_MAX || strchr(name, '/'))
		return -EINVAL;
	return dial_session(s, SOCK_STREAM, name);
}

/* What RESULT answers to @f; @reason (may be NULL) says it in words. */
static int ask(int sock, struct frame_out *f, char *reason)
{
	uint64_t deadline = loop_now() + ANSWER_TIMEOUT_MS;
	struct frame_in in = { .have = 0 };
	const char *text;
	struct buf payload;
	uint8_t type;
	uint16_t canon;
	int err = send_frame(sock, f, NULL, deadline);

	if (!err)
		err = await_frame(sock, &in, &type, &payload, deadline);
	if (err)
		return err;
	if (type != REQUEST_RESULT)
		return -EPROTO;
	canon = buf_get_u16(&payload);
	text = frame_get_text(&payload);
	if (payload.bad)
		return -EPROTO;
	if (reason) {
		snprintf(reason, SESSION_REASON_MAX, "%s", text);
		printable(reason);
	}
	return -local_errno(canon);
}

int session_open_tty(struct session *s, const char *path)
{
	_cleanup_close_ int sock = dial_keeper(s);
	struct frame_out f;
	int err;

	if (sock < 0)
		return sock;
	frame_start(&f, REQUEST_TTY);
	frame_text(&f, path);
	err = ask(sock, &f, NULL);
	return err ? err : take_fd(&sock);
}

/* As dial_keeper(); -ESRCH when there is certainly none any more. */
static int find_keeper(const struct session *s)
{
	int sock = dial_keeper(s);

	if (sock != -ENOENT && sock != -ECONNREFUSED)
		return sock;
	if (!s->local) {
		char reason[SESSION_REASON_MAX];
		_cleanup_close_ int server = dial(false, SOCK_STREAM, REXEC_SOCKET, reason);

		if (server < 0)
			return sock;
		sock = dial_keeper(s);
		if (sock != -ENOENT && sock != -ECONNREFUSED)
			return sock;
	}
	return -ESRCH;
}

static int ask_attach(struct session *s, int sock, int theirs, struct frame_in *in,
		      uint64_t deadline)
{
	struct fdset passed = { .n = 1 + s->outputs.n };
	struct frame_out f;
	struct buf payload;
	uint8_t type;
	int err;

	passed.fd[0] = theirs;
	memcpy(passed.fd + 1, s->outputs.fd, sizeof(int) * (size_t)s->outputs.n);
	frame_start(&f, REQUEST_ATTACH);
	frame_put_version(&f.buf);
	buf_put_u16(&f.buf, s->local ? 0 : REQUEST_PROXIED);
	buf_put_u16(&f.buf, (uint16_t)passed.n);
	for (int i = 0; i < s->outputs.n; i++)
		buf_put_u32(&f.buf, s->output_numbers[i]);
	err = send_frame(sock, &f, &passed, deadline);
	if (!err)
		err = await_frame(sock, in, &type, &payload, deadline);
	if (err)
		return err;
	if (type == REQUEST_REFUSED)
		return -EPERM;
	if (type != REQUEST_STARTED)
		return -EPROTO;
	if (s->started)
		frame_skip(in);
	frame_start(&f, REQUEST_CONFIRM);
	err = send_frame(sock, &f, NULL, deadline);
	/* It may be another's by now, which is said behind STARTED. */
	return err == -EPIPE || err == -ECONNRESET ? 0 : err;
}

int session_attach(struct session *s, int timeout_ms)
{
	uint64_t deadline = loop_now() + (uint64_t)MAX(timeout_ms, 0);
	struct frame_in in = { .have = 0 };
	_cleanup_close_ int ours = -1, theirs = -1, sock = -1;
	int err;

	if (s->over)
		return -ESRCH;
	sock = find_keeper(s);
	if (sock < 0)
		return sock;
	err = open_life(&ours, &theirs);
	if (!err)
		err = ask_attach(s, sock, theirs, &in, deadline);
	if (err)
		return err;
	replace_fd(&s->sock, take_fd(&sock));
	replace_fd(&s->life, take_fd(&ours));
	s->in = in;
	return 0;
}

void session_free(struct session *s)
{
	if (!s)
		return;
	hang_up(s);
	close_keep_errno(s->life);
	offsets_forget(&s->offsets);
	free(s->listeners);
	free(s);
}

/* ---- programs that somebody else has begun ---- */

/* One request to the keeper of @id, and its answer. */
static int ask_keeper(const char *id, struct frame_out *f, bool local, char *reason)
{
	_cleanup_close_ int sock = -1;
	struct session s = { .local = local };
	int err;

	*reason = '\0';
	if (strlen(id) >= sizeof(s.id))
		return -EINVAL;
	strcpy(s.id, id);
	sock = dial_keeper(&s);
	err = sock < 0 ? sock : ask(sock, f, reason);
	if (err && !*reason)
		snprintf(reason, SESSION_REASON_MAX, "%s",
			 err == -ENOENT || err == -ECONNREFUSED ? "there is no such program" : strerrordesc_np(-err));
	return err;
}

int session_kill(const char *id, int signo, bool local, char *reason)
{
	struct frame_out f;

	frame_start(&f, REQUEST_KILL);
	buf_put_u8(&f.buf, signo ? canon_signal(signo) : 0);
	return ask_keeper(id, &f, local, reason);
}

int session_set(const char *id, pid_t tid, const char *assignment, bool local, char *reason)
{
	struct frame_out f;

	if (strlen(assignment) >= REQUEST_REASON_MAX) { /* cut it would be another */
		snprintf(reason, SESSION_REASON_MAX, "it is too long");
		return -EMSGSIZE;
	}
	frame_start(&f, REQUEST_SET);
	buf_put_u32(&f.buf, (uint32_t)tid);
	frame_text(&f, assignment);
	return ask_keeper(id, &f, local, reason);
}

static int receive_list(int sock, void (*tell)(const struct request_program *p, void *arg), void *arg)
{
	uint64_t deadline = loop_now() + LIST_TIMEOUT_MS;
	struct frame_in in = { .have = 0 };
	struct request_program p;
	struct buf payload;
	uint8_t type;
	int err = 0;

	while (!err) {
		err = await_frame(sock, &in, &type, &payload, deadline);
		if (!err && type == REQUEST_RESULT)
			return -local_errno(buf_get_u16(&payload));
		if (!err && (type != REQUEST_PROGRAM || frame_get_program(&payload, &p)))
			err = -EPROTO;
		if (!err) {
			tell(&p, arg);
			frame_skip(&in);
		}
	}
	return err;
}

int session_list(bool local, void (*tell)(const struct request_program *p, void *arg), void *arg, char *reason)
{
	_cleanup_close_ int sock = dial(local, SOCK_STREAM, REXEC_SOCKET, reason);
	struct frame_out f;
	int err;

	if (sock < 0)
		return sock;
	frame_start(&f, REQUEST_LIST);
	frame_put_version(&f.buf);
	err = send_frame(sock, &f, NULL, loop_now() + SEND_TIMEOUT_MS);
	if (!err)
		err = receive_list(sock, tell, arg);
	if (err)
		snprintf(reason, SESSION_REASON_MAX, "rexec_server's answer: %s", strerrordesc_np(-err));
	return err;
}
