/* SPDX-License-Identifier: Apache-2.0 */
#include "notify.h"

#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <time.h>

#include "proxyreq.h"
#include "util.h"

#define REXEC_PID_FILE "rexec_server.pid"
#define REXEC_RELOAD_FILE "rexec_server.reload"
#define ANSWER_RETRY_MS 10

static int failed(char *reason, const char *what, int rc)
{
	snprintf(reason, NOTIFY_REASON_MAX, "%s: %s", what,
		 rc == -EAGAIN ? "no answer in time" : strerror(-rc));
	return rc;
}

/* Return: a socket connected to udsproxyd's control socket, whose waits are bounded; or -errno. */
static int connect_control(const char *runtime_dir)
{
	const struct timeval limit = { .tv_sec = NOTIFY_SECONDS };
	struct sockaddr_un to = { .sun_family = AF_UNIX };
	_cleanup_close_ int fd = -1;
	int n = snprintf(to.sun_path, sizeof(to.sun_path), "%s/" PROXYREQ_CONTROL, runtime_dir);

	if (n < 0 || (size_t)n >= sizeof(to.sun_path))
		return -ENAMETOOLONG;
	fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit)) < 0 ||
	    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit)) < 0 ||
	    connect(fd, (struct sockaddr *)&to, sizeof(to)) < 0)
		return -errno;
	return take_fd(&fd);
}

static int ask_reload(int fd, struct proxyreply *reply)
{
	const struct proxyreq request = { .op = PROXYREQ_RELOAD };
	unsigned char packet[PROXYREQ_MAX];
	size_t size = proxyreq_encode(&request, packet, sizeof(packet));
	ssize_t n;

	if (send(fd, packet, size, MSG_NOSIGNAL) < 0)
		return -errno;
	n = recv(fd, packet, sizeof(packet), 0);
	if (n < 0)
		return -errno;
	return n == 0 ? -ECONNRESET : proxyreply_decode(reply, packet, (size_t)n);
}

int notify_udsproxyd(const char *runtime_dir, char *reason)
{
	_cleanup_close_ int fd = connect_control(runtime_dir);
	struct proxyreply reply;
	int rc;

	if (fd == -ENOENT || fd == -ECONNREFUSED)
		return 0;
	if (fd < 0)
		return failed(reason, "udsproxyd's control socket", fd);
	rc = ask_reload(fd, &reply);
	if (rc < 0)
		return failed(reason, "udsproxyd's answer", rc);
	if (reply.error)
		snprintf(reason, NOTIFY_REASON_MAX, "udsproxyd refused it: %s",
			 *reply.reason ? reply.reason : strerror(reply.error));
	return -reply.error;
}

/* Return: who holds a lock on @fd, 0 when nobody does, or -errno. */
static pid_t lock_holder(int fd)
{
	struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET };

	if (fcntl(fd, F_GETLK, &lock) < 0)
		return -errno;
	if (lock.l_type == F_UNLCK)
		return 0;
	/* 0: the holder lives in another pid namespace; -1: the lock has no process. */
	return lock.l_pid > 0 ? lock.l_pid : -ESRCH;
}

struct answer {
	unsigned reloads;
	char wrong[NOTIFY_REASON_MAX - 64]; /* "": the list is in force */
};

/* What rexec_server made of its list the last time; false: nothing was ever said. */
static bool read_answer(const char *runtime_dir, struct answer *answer)
{
	_cleanup_free_ char *file = NULL;
	_cleanup_close_ int fd = -1;
	char text[sizeof(answer->wrong) + 16];
	ssize_t n;
	char *end;

	if (asprintf(&file, "%s/" REXEC_RELOAD_FILE, runtime_dir) < 0) {
		file = NULL;
		return false;
	}
	fd = open(file, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
	if (n < 0)
		return false;
	text[n] = '\0';
	answer->reloads = (unsigned)strtoul(text, &end, 10);
	if (*end != ' ')
		return false;
	end[1 + strcspn(end + 1, "\n")] = '\0';
	snprintf(answer->wrong, sizeof(answer->wrong), "%.*s", (int)sizeof(answer->wrong) - 1,
		 end + 1);
	return true;
}

/* Until there is another answer than @before; or the server, which holds a lock on @fd, has ended:
 * it reads the list when it starts. */
static int wait_for_answer(const char *runtime_dir, int fd, const struct answer *before,
			   char *reason)
{
	const struct timespec pause = { .tv_nsec = ANSWER_RETRY_MS * 1000000L };
	struct answer answer;

	for (int waited = 0; waited < NOTIFY_SECONDS * 1000; waited += ANSWER_RETRY_MS) {
		bool ended = lock_holder(fd) == 0;

		if (read_answer(runtime_dir, &answer) && answer.reloads != before->reloads) {
			if (!*answer.wrong)
				return 0;
			snprintf(reason, NOTIFY_REASON_MAX, "rexec_server refused it: %s",
				 answer.wrong);
			return -EINVAL;
		}
		if (ended)
			return 0;
		nanosleep(&pause, NULL);
	}
	return failed(reason, "rexec_server's answer", -EAGAIN);
}

int notify_rexec_server(const char *runtime_dir, char *reason)
{
	_cleanup_close_ int fd = -1;
	_cleanup_free_ char *file = NULL;
	struct answer before = { 0 };
	pid_t pid;

	if (asprintf(&file, "%s/" REXEC_PID_FILE, runtime_dir) < 0) {
		file = NULL;
		return failed(reason, REXEC_PID_FILE, -ENOMEM);
	}
	fd = open(file, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0)
		return errno == ENOENT ? 0 : failed(reason, file, -errno);
	pid = lock_holder(fd);
	if (pid < 0)
		return failed(reason, "finding rexec_server by its lock", pid);
	if (pid == 0)
		return 0;
	read_answer(runtime_dir, &before);
	if (kill(pid, SIGHUP) < 0)
		return errno == ESRCH ? 0 : failed(reason, "SIGHUP to rexec_server", -errno);
	return wait_for_answer(runtime_dir, fd, &before, reason);
}
