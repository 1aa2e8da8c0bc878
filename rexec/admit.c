/* SPDX-License-Identifier: Apache-2.0 */
#include "admit.h"

#include <errno.h>
#include <grp.h>
#include <poll.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "environ.h"
#include "fdpass.h"
#include "loop.h"
#include "session.h"
#include "util.h"

/* ---- receiving ---- */

/* @n bytes, and into @fds the descriptors that come with the first of all. */
static int receive(int conn, void *data, size_t n, uint64_t deadline, struct fdset *fds)
{
	size_t have = 0;

	while (have < n) {
		struct pollfd p = { .fd = conn, .events = POLLIN };
		uint64_t now = loop_now();
		struct fdset more;
		ssize_t got;

		if (now >= deadline)
			return -ETIMEDOUT;
		if (poll(&p, 1, (int)(deadline - now)) <= 0)
			continue;
		got = fd_recvmsg(conn, (char *)data + have, n - have, MSG_DONTWAIT, &more);
		if (got == -EAGAIN)
			continue;
		if (got <= 0)
			return got ? (int)got : -ECONNRESET;
		if (fds && !have)
			*fds = more;
		else
			fdset_close(&more);
		have += (size_t)got;
	}
	return 0;
}

/* Anybody may ask for it; what it tells is the client's own. */
static int check_list(const void *payload, uint32_t length)
{
	struct buf b;

	buf_init_const(&b, payload, length);
	if (!frame_get_version(&b))
		return -EPROTONOSUPPORT;
	return buf_done(&b) ? 0 : -EPROTO;
}

static int receive_request(struct admission *a, int conn)
{
	uint64_t deadline = loop_now() + ADMIT_TIMEOUT_MS;
	uint8_t header[REQUEST_HEADER], type;
	uint32_t length;
	int err = receive(conn, header, sizeof(header), deadline, &a->passed);

	if (err)
		return err;
	if (frame_header(header, &length, &type) || (type != REQUEST_EXEC && type != REQUEST_LIST))
		return -EPROTO;
	a->payload = malloc((size_t)length + 1);
	if (!a->payload)
		return -ENOMEM;
	err = receive(conn, a->payload, length, deadline, NULL);
	a->list = !err && type == REQUEST_LIST;
	if (a->list)
		return check_list(a->payload, length);
	if (!err)
		err = request_decode(&a->request, a->payload, length);
	if (!err && (!a->passed.n || a->request.n_passed != a->passed.n))
		err = -EPROTO;
	return err;
}

/* What @err of receive_request() means to the client; negative: there is nobody to tell. */
static int explain(int err, char *reason)
{
	const char *why = strerrordesc_np(-err);

	if (err == -ECONNRESET || err == -EPIPE)
		return err;
	if (err == -EPROTONOSUPPORT)
		why = "rexec and rexec_server are of different versions";
	else if (err == -EPROTO)
		why = "malformed request";
	else if (err == -ETIMEDOUT)
		why = "the request did not arrive in time";
	snprintf(reason, POLICY_REASON_MAX, "%s", why);
	return EXIT_REXEC_FAILED;
}

/* ---- identity ---- */

static int get_groups(struct child_identity *id, int conn)
{
	socklen_t size = 0;

	/* With no room the kernel says how much it takes. */
	if (!getsockopt(conn, SOL_SOCKET, SO_PEERGROUPS, NULL, &size))
		return 0;
	if (errno != ERANGE)
		return -errno;
	id->groups = malloc(size);
	if (!id->groups)
		return -ENOMEM;
	if (getsockopt(conn, SOL_SOCKET, SO_PEERGROUPS, id->groups, &size))
		return -errno;
	id->n_groups = size / sizeof(gid_t);
	return 0;
}

static int get_client(struct admission *a, int conn)
{
	struct ucred cred;
	int err = fd_peer(conn, &cred);

	if (err)
		return err;
	a->client = cred.uid;
	a->client_pid = cred.pid;
	a->peer.uid = cred.uid;
	a->peer.gid = cred.gid;
	return get_groups(&a->peer, conn);
}

static int take_groups(struct child_identity *id, const struct passwd *pw)
{
	int n = 0;

	id->groups = NULL; /* the peer's */
	id->n_groups = 0;
	getgrouplist(pw->pw_name, pw->pw_gid, NULL, &n);
	id->groups = calloc((size_t)n + 1, sizeof(*id->groups));
	if (!id->groups)
		return -ENOMEM;
	if (getgrouplist(pw->pw_name, pw->pw_gid, id->groups, &n) < 0)
		return -EAGAIN;
	id->n_groups = (size_t)n;
	return 0;
}

/* The user that root asks for. */
static int take_user(struct admission *a, char *reason)
{
	const struct passwd *pw;

	if (a->client) {
		snprintf(reason, POLICY_REASON_MAX, "only root may ask for another user");
		return EXIT_REFUSED;
	}
	pw = getpwnam(a->request.user);
	if (!pw) {
		snprintf(reason, POLICY_REASON_MAX, "there is no user '%.100s' there",
			 a->request.user);
		return EXIT_REFUSED;
	}
	a->identity.uid = pw->pw_uid;
	a->identity.gid = pw->pw_gid;
	snprintf(a->home, sizeof(a->home), "HOME=%s", pw->pw_dir);
	snprintf(a->user, sizeof(a->user), "USER=%s", pw->pw_name);
	snprintf(a->logname, sizeof(a->logname), "LOGNAME=%s", pw->pw_name);
	if (take_groups(&a->identity, pw)) {
		snprintf(reason, POLICY_REASON_MAX, "the groups of '%s' cannot be had",
			 pw->pw_name);
		return EXIT_REXEC_FAILED;
	}
	return 0;
}

/* ---- environment ---- */

static int make_env(struct admission *a, char *reason)
{
	const char *fixed[] = { "PATH=" ENVIRON_PATH, *a->home ? a->home : NULL, a->user,
				a->logname, NULL };
	const char *name;

	if (a->request.n_env > ADMIT_ENV_MAX) {
		snprintf(reason, POLICY_REASON_MAX, "more than %d variables", ADMIT_ENV_MAX);
		return EXIT_REXEC_FAILED;
	}
	name = environ_refused(a->request.env, a->request.n_env);
	if (name) {
		snprintf(reason, POLICY_REASON_MAX, "the environment's %.*s is never passed on",
			 (int)MIN(strcspn(name, "="), 60), name);
		return EXIT_REFUSED;
	}
	a->env = environ_build(a->request.env, a->request.n_env, fixed);
	if (a->env)
		return 0;
	snprintf(reason, POLICY_REASON_MAX, "out of memory");
	return EXIT_REXEC_FAILED;
}

/* ---- arguments ---- */

static size_t expanded_size(const char *arg, const char *dir)
{
	size_t n = strlen(arg) + 1;

	while ((arg = strstr(arg, REXEC_DIR_MARK))) {
		n += strlen(dir);
		arg += strlen(REXEC_DIR_MARK);
	}
	return n;
}

/* @arg at @to, with @dir for each mark. Return: behind its NUL. */
static char *expand(char *to, const char *arg, const char *dir)
{
	const char *next;

	while ((next = strstr(arg, REXEC_DIR_MARK))) {
		to = stpcpy(mempcpy(to, arg, (size_t)(next - arg)), dir);
		arg = next + strlen(REXEC_DIR_MARK);
	}
	return stpcpy(to, arg) + 1;
}

/* The name that the session's directory will have: in all arguments, where they say so. */
static int expand_args(struct admission *a, const char *runtime, char *reason)
{
	struct request *r = &a->request;
	char dir[PATH_MAX];
	size_t size = 0;
	char *to;

	if (!(r->flags & REQUEST_EXPAND_DIR))
		return 0;
	snprintf(dir, sizeof(dir), "%s/" REXEC_SESSIONS "/%s", runtime, r->id);
	for (size_t i = 0; i < r->argc; i++)
		size += expanded_size(r->argv[i], dir);
	a->arguments = to = malloc(size);
	if (!to) {
		snprintf(reason, POLICY_REASON_MAX, "out of memory");
		return EXIT_REXEC_FAILED;
	}
	for (size_t i = 0; i < r->argc; i++) {
		char *next = expand(to, r->argv[i], dir);

		r->argv[i] = to;
		to = next;
	}
	return 0;
}

/* ---- the decision ---- */

static int decide(struct admission *a, const struct policy *policy, char *reason)
{
	const struct policy_request rq = {
		.uid = a->peer.uid,
		.gid = a->peer.gid,
		.groups = a->peer.groups,
		.n_groups = a->peer.n_groups,
		.user = a->identity.uid,
		.argv = a->request.argv,
		.argc = a->request.argc,
		.env = a->request.env,
		.n_env = a->request.n_env,
	};

	return policy_check(policy, &rq, a->path, &a->program, reason);
}

int admit(struct admission *a, int conn, const struct policy *policy, const char *runtime,
	  char *reason)
{
	int ret;

	*a = (struct admission){ .program = -1 };
	*reason = '\0';
	/* First of all: what is refused for any reason is to be logged with who asked. */
	ret = get_client(a, conn);
	if (!ret)
		ret = receive_request(a, conn);
	if (ret)
		return explain(ret, reason);
	if (a->list)
		return 0;
	a->switch_user = geteuid() == 0;
	if (!a->switch_user && a->client != geteuid()) {
		snprintf(reason, POLICY_REASON_MAX,
			 "rexec_server runs as uid %u and serves only that", geteuid());
		return EXIT_REFUSED;
	}
	a->identity = a->peer;
	if (*a->request.user)
		ret = take_user(a, reason);
	if (!ret)
		ret = expand_args(a, runtime, reason);
	if (!ret)
		ret = decide(a, policy, reason);
	if (!ret)
		ret = make_env(a, reason);
	return ret;
}

void admission_deinit(struct admission *a)
{
	fdset_close(&a->passed);
	request_deinit(&a->request);
	close_keep_errno(a->program);
	free(a->payload);
	free(a->arguments);
	if (a->identity.groups != a->peer.groups)
		free(a->identity.groups);
	free(a->peer.groups);
	free(a->env);
}
