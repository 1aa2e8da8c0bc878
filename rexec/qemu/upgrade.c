/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How it works: QEMU is started on the HOST with --version. What it says, and the identity of the
 * program's file that the keeper tells with STARTED, are one number, which is compared with the one
 * noted last time. The words are there for a QEMU behind a script, the file for a build of the same
 * version. It is noted after the trampoline was touched: to touch it once more does no harm.
 */
#include "upgrade.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "log.h"
#include "loop.h"
#include "session.h"
#include "util.h"

#define TRAMPOLINE_MAX 4096 /* bytes that are looked into */
#define SAID_MAX 65536	    /* bytes of QEMU's answer that count */
#define TIMEOUT_MS 20000

extern char **environ;

/* ---- asking ---- */

/* One run of QEMU on the HOST. */
struct run {
	struct session *session;
	int output; /* the read end of its standard output */
	char said[SAID_MAX + 1];
	size_t n;
	uint64_t file;
	int status; /* an exit status; of a program that ended by a signal EXIT_OUTCOME_UNKNOWN */
	bool ended;
	char reason[SESSION_REASON_MAX];
};

static int run_start(struct run *r, const char *program, bool local)
{
	_cleanup_close_ int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	_cleanup_close_ int output = -1;
	char *argv[] = { strdup(program), strdup("--version"), NULL };
	struct session_fd fds[] = { { .number = 0 }, { .number = 1 }, { .number = 2 } };
	const struct session_spec spec = {
		.argv = argv, .env = environ, .cwd = "/", .umask = 022, .fds = fds, .n_fds = 3
	};
	int pair[2], ret = null < 0 || pipe2(pair, O_CLOEXEC) ? -errno : 0;

	if (!ret) {
		r->output = pair[0];
		output = pair[1];
		fds[0].fd = fds[2].fd = null;
		fds[1].fd = output;
		ret = argv[0] && argv[1] ? session_open(&r->session, &spec, local, r->reason)
					 : -ENOMEM;
	}
	free(argv[0]);
	free(argv[1]);
	if (ret && !*r->reason)
		snprintf(r->reason, sizeof(r->reason), "%s", strerrordesc_np(-ret));
	return ret;
}

static void run_event(struct run *r, const struct session_event *event)
{
	switch (event->kind) {
	case SESSION_STARTED:
		r->file = event->file;
		return;
	case SESSION_EXITED:
		r->status = WIFEXITED(event->status) ? WEXITSTATUS(event->status)
						     : EXIT_OUTCOME_UNKNOWN;
		if (r->status)
			snprintf(r->reason, sizeof(r->reason), "it failed");
		break;
	case SESSION_REFUSED:
		r->status = event->status;
		memcpy(r->reason, event->reason, sizeof(r->reason));
		break;
	case SESSION_LOST:
		r->status = EXIT_OUTCOME_UNKNOWN;
		snprintf(r->reason, sizeof(r->reason), "the link to the HOST was lost");
		break;
	case SESSION_NONE:
	case SESSION_GONE:
		return;
	}
	r->ended = true;
}

/* What comes beyond SAID_MAX is read and forgotten. Return: false at the end. */
static bool run_read(struct run *r)
{
	char more[4096];
	ssize_t n = read(r->output, more, sizeof(more));

	if (n <= 0)
		return n < 0 && errno == EINTR;
	n = MIN(n, (ssize_t)(SAID_MAX - r->n));
	memcpy(r->said + r->n, more, (size_t)n);
	r->n += (size_t)n;
	return true;
}

static void run_await(struct run *r)
{
	uint64_t deadline = loop_now() + TIMEOUT_MS;
	struct session_event event = { .kind = SESSION_STARTED };
	bool more = true;

	while ((more || !r->ended) && loop_now() < deadline) {
		struct pollfd p[] = { { .fd = r->ended ? -1 : session_fd(r->session),
					.events = POLLIN },
				      { .fd = more ? r->output : -1, .events = POLLIN } };

		poll(p, ARRAY_LEN(p), (int)(deadline - loop_now()));
		if (p[1].revents)
			more = run_read(r);
		do {
			session_next(r->session, &event);
			run_event(r, &event);
		} while (event.kind != SESSION_NONE);
	}
	if (r->ended && !more)
		return;
	r->status = EXIT_OUTCOME_UNKNOWN;
	snprintf(r->reason, sizeof(r->reason), "no answer within %d s", TIMEOUT_MS / 1000);
}

/* FNV-1a: for what nobody forges. */
static uint64_t identity(const struct run *r)
{
	uint64_t hash = UINT64_C(0xcbf29ce484222325) ^ r->file;

	for (size_t i = 0; i < r->n; i++)
		hash = (hash ^ (uint8_t)r->said[i]) * UINT64_C(0x100000001b3);
	return hash;
}

/* Return: 0 with *@id and the first line of what QEMU @said, or an exit status with a reason there.
 */
static int ask(const char *program, bool local, uint64_t *id, char *said, size_t size)
{
	struct run *r = calloc(1, sizeof(*r));
	int status = EXIT_REXEC_FAILED;

	if (!r) {
		snprintf(said, size, "no memory");
		return status;
	}
	r->output = -1;
	if (!run_start(r, program, local)) {
		run_await(r);
		status = r->status;
		session_free(r->session);
	}
	close_keep_errno(r->output);
	*id = identity(r);
	r->said[strcspn(r->said, "\n")] = '\0';
	snprintf(said, size, "%.200s", status ? r->reason : r->said);
	free(r);
	return status;
}

/* ---- what was seen last ---- */

/* /usr/bin/qemu-kvm is noted in SEEN/usr!bin!qemu-kvm. */
static void seen_path(const struct upgrade *u, const char *path, char *to, size_t size)
{
	int n = snprintf(to, size, "%s/", u->seen);

	snprintf(to + n, size - (size_t)n, "%s", path + strspn(path, "/"));
	for (char *p = to + n; (p = strchr(p, '/'));)
		*p = '!';
}

static bool seen_read(const char *file, uint64_t *id)
{
	FILE *f = fopen(file, "re");
	bool read = f && fscanf(f, "%16" SCNx64, id) == 1;

	if (f)
		fclose(f);
	return read;
}

static int seen_write(const struct upgrade *u, const char *file, uint64_t id, const char *said)
{
	FILE *f;
	int ret;

	if (mkdir(u->seen, 0755) && errno != EEXIST)
		return -errno;
	f = fopen(file, "we");
	if (!f)
		return -errno;
	ret = fprintf(f, "%016" PRIx64 " %s\n", id, said) < 0 ? -EIO : 0;
	return fclose(f) ? -errno : ret;
}

/* ---- the public functions ---- */

bool upgrade_is_trampoline(const char *path)
{
	_cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC);
	char text[TRAMPOLINE_MAX];
	ssize_t n = fd < 0 ? 0 : read(fd, text, sizeof(text));

	return n > 2 && !memcmp(text, "#!", 2) &&
	       memmem(text, (size_t)n, "rexec-qemu", strlen("rexec-qemu"));
}

int upgrade_check(const struct upgrade *u, const char *path, const struct map_programs *programs)
{
	char file[PATH_MAX], said[SESSION_REASON_MAX];
	uint64_t id = 0, last;
	int status = EXIT_NOT_FOUND, ret;

	for (size_t i = 0; i < programs->n && (status == EXIT_NOT_FOUND || status == EXIT_REFUSED);
	     i++)
		status = ask(programs->program[i], u->local, &id, said, sizeof(said));
	if (u->found && (status == EXIT_NOT_FOUND || status == EXIT_REFUSED))
		return 0;
	if (status) {
		log_error("%s: the HOST's QEMU cannot be asked: %s", path, said);
		return status;
	}
	seen_path(u, path, file, sizeof(file));
	if (seen_read(file, &last) && last == id)
		return 0;
	ret = utimensat(AT_FDCWD, path, NULL, 0) ? -errno : seen_write(u, file, id, said);
	if (ret) {
		log_error("%s: it cannot be noted that the HOST has another QEMU: %s", path,
			  strerrordesc_np(-ret));
		return EXIT_REXEC_FAILED;
	}
	log_info("%s: the HOST's QEMU is new here, libvirt is to probe it: %s", path, said);
	return 0;
}
