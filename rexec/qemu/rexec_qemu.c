/* SPDX-License-Identifier: Apache-2.0 */
/*
 * rexec_qemu.c - rexec-qemu(8): runs on the DPU in QEMU's place, and QEMU on the HOST
 *
 * From the top: what was inherited, options, which of the HOST's programs, what the arguments mean
 * (argv.c), which descriptors cross (given.c); then QEMU is started, and from there on
 * standin.c is in charge.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <glob.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "affinity.h"
#include "listfile.h"
#include "log.h"
#include "map.h"
#include "standin.h"
#include "upgrade.h"
#include "util.h"

#define MAP_FILE SYSCONFDIR "/rexec/qemu.map"
#define SEEN_DIR "/var/lib/rexec-qemu"
#define HANDED_OVER_MAX 65536 /* bytes of a file that is handed over */

extern char **environ;

struct options {
	bool local, check;
	const char *map, *seen;
	const char *cpus; /* as affinity_named() has them */
};

static void usage(FILE *to)
{
	fputs("usage: rexec-qemu [--local] [--map FILE] NAME [ARGUMENT...]\n"
	      "       rexec-qemu [--local] [--map FILE] --check [TRAMPOLINE...]\n"
	      "Runs the QEMU that NAME stands for on the HOST, as if it ran here. See "
	      "rexec-qemu(8).\n"
	      "  --local     on this machine, without udsproxyd (REXEC_LOCAL=1)\n"
	      "  --map FILE  which program of the HOST stands behind NAME (" MAP_FILE ")\n"
	      "  --check     touch each TRAMPOLINE (those in libvirt's places) behind which the "
	      "HOST has\n"
	      "              another QEMU than before, for libvirt to probe it\n"
	      "  --seen DIR  where that is noted (" SEEN_DIR ")\n"
	      "  --help, --version\n",
	      to);
}

static void parse_options(struct options *o, int argc, char **argv)
{
	static const struct option known[] = {
		{ "local", no_argument, NULL, 'l' },
		{ "map", required_argument, NULL, 'm' },
		{ "check", no_argument, NULL, 'c' },
		{ "seen", required_argument, NULL, 's' },
		{ "help", no_argument, NULL, 'h' },
		{ "version", no_argument, NULL, 'v' },
		{ NULL, 0, NULL, 0 },
	};
	const char *local = getenv("REXEC_LOCAL");
	int c;

	*o = (struct options){ .local = local && !strcmp(local, "1"),
			       .map = MAP_FILE,
			       .seen = SEEN_DIR,
			       .cpus = getenv("REXEC_QEMU_CPUS") };
	/* "+": what follows NAME is QEMU's. */
	while ((c = getopt_long(argc, argv, "+", known, NULL)) != -1) {
		switch (c) {
		case 'l':
			o->local = true;
			break;
		case 'm':
			o->map = optarg;
			break;
		case 'c':
			o->check = true;
			break;
		case 's':
			o->seen = optarg;
			break;
		case 'h':
			usage(stdout);
			exit(0);
		case 'v':
			puts("rexec-qemu " VERSION);
			exit(0);
		default:
			usage(stderr);
			exit(2);
		}
	}
	if (optind == argc && !o->check) {
		fputs("rexec-qemu: NAME is missing: what QEMU was called by here\n", stderr);
		usage(stderr);
		exit(2);
	}
}

static void check_cpus(const char *cpus)
{
	const char *bad = cpus ? affinity_check(cpus) : NULL;

	if (!bad)
		return;
	log_error("REXEC_QEMU_CPUS: emulator=LIST, vcpuN=LIST and iothreadN=LIST are known, not "
		  "%.*s",
		  (int)strcspn(bad, " \t\n"), bad);
	exit(2);
}

static void find_programs(const struct options *o, const char *name, struct map_programs *programs)
{
	char err[LISTFILE_ERROR_MAX];
	_cleanup_free_ char *text = NULL, *terminated = NULL;
	struct utsname machine;
	unsigned int line = 0;
	size_t size = 0;
	int ret = listfile_load(o->map, LISTFILE_MODE_TRUSTED, &text, &size, err);

	if (ret && ret != -ENOENT) {
		log_error("%s", err);
		exit(EXIT_REXEC_FAILED);
	}
	terminated = strndup(text ? text : "", size);
	uname(&machine);
	ret = map_lookup(terminated ? terminated : "", name, machine.machine, programs, &line);
	if (ret) {
		log_error("%s, line %u: NAME and absolute or bare PROGRAMs, %d at most, are wanted",
			  o->map, line, MAP_PROGRAMS_MAX);
		exit(EXIT_REXEC_FAILED);
	}
}

static int check_one(const struct options *o, const char *path, bool found)
{
	const struct upgrade upgrade = { .seen = o->seen, .local = o->local, .found = found };
	struct map_programs programs;
	int status;

	find_programs(o, path, &programs);
	status = upgrade_check(&upgrade, path, &programs);
	map_free(&programs);
	return status;
}

/* Where libvirt looks for QEMU. */
static int check_places(const struct options *o)
{
	glob_t found = { 0 };
	int status = 0, one;

	glob("/usr/bin/qemu-kvm", 0, NULL, &found);
	glob("/usr/libexec/qemu-kvm", GLOB_APPEND, NULL, &found);
	glob("/usr/bin/qemu-system-*", GLOB_APPEND, NULL, &found);
	for (size_t i = 0; i < found.gl_pathc; i++) {
		if (!upgrade_is_trampoline(found.gl_pathv[i]))
			continue;
		one = check_one(o, found.gl_pathv[i], true);
		status = one ? one : status;
	}
	globfree(&found);
	return status;
}

static int check(const struct options *o, char *const *paths)
{
	int status = *paths ? 0 : check_places(o), one;

	signal(SIGPIPE, SIG_IGN);
	for (; *paths; paths++) {
		one = check_one(o, *paths, false);
		status = one ? one : status;
	}
	return status;
}

static bool have(const char *path)
{
	struct stat st;

	return path && !stat(path, &st) && S_ISREG(st.st_mode) && !access(path, R_OK);
}

/* The whole of a small file; NULL with a reason logged. */
static void *read_file(const char *path, size_t *size)
{
	_cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC);
	char *data = malloc(HANDED_OVER_MAX + 1);
	ssize_t n = 1;

	for (*size = 0; fd >= 0 && data && n > 0 && *size <= HANDED_OVER_MAX; *size += (size_t)n) {
		n = read(fd, data + *size, HANDED_OVER_MAX + 1 - *size);
		n = MAX(n, (ssize_t)0);
	}
	if (fd < 0)
		log_error("%s: %s", path, strerrordesc_np(errno));
	else if (*size > HANDED_OVER_MAX)
		log_error("%s: more than %d bytes are not handed over to the HOST", path,
			  HANDED_OVER_MAX);
	else if (data)
		return data;
	free(data);
	return NULL;
}

static struct session_file *read_files(const struct argv_plan *plan)
{
	struct session_file *files = calloc(plan->n_files + 1, sizeof(*files));

	if (!files)
		die("no memory");
	for (size_t i = 0; i < plan->n_files; i++) {
		size_t size;
		void *data = read_file(plan->files[i].path, &size);

		if (!data)
			exit(EXIT_REXEC_FAILED);
		files[i] = (struct session_file){ plan->files[i].name, data, size };
	}
	return files;
}

/* What the program is to inherit: signals as they were before we touched any. */
static void get_signals(struct session_spec *spec)
{
	struct sigaction action;
	sigset_t blocked;

	sigprocmask(SIG_BLOCK, NULL, &blocked);
	for (int signo = 1; signo < 64; signo++) {
		if (!sigaction(signo, NULL, &action) && action.sa_handler == SIG_IGN)
			spec->ignored |= UINT64_C(1) << (signo - 1);
		if (sigismember(&blocked, signo) == 1)
			spec->blocked |= UINT64_C(1) << (signo - 1);
	}
}

static mode_t get_umask(void)
{
	mode_t mask = umask(077);

	umask(mask);
	return mask;
}

static void await_event(struct session *session, struct session_event *event)
{
	do {
		struct pollfd p = { .fd = session_fd(session), .events = POLLIN };

		poll(&p, 1, -1);
		session_next(session, event);
	} while (event->kind == SESSION_NONE);
}

/* Start the first of @programs that is there and allowed, and be it; otherwise exit. */
static void __attribute__((noreturn))
start(struct standin *s, struct session_spec *spec, const struct map_programs *programs, bool local)
{
	struct session_event event = { .status = EXIT_NOT_FOUND };
	char reason[SESSION_REASON_MAX];
	struct session *session;

	for (size_t i = 0; i < programs->n; i++) {
		free(s->plan->argv[0]);
		s->plan->argv[0] = strdup(programs->program[i]);
		if (session_open(&session, spec, local, reason)) {
			log_error("%s", reason);
			standin_fail(s, EXIT_REXEC_FAILED);
		}
		await_event(session, &event);
		if (event.kind != SESSION_REFUSED)
			standin_run(s, session, &event);
		session_free(session);
		if (event.status != EXIT_NOT_FOUND && event.status != EXIT_REFUSED)
			break;
	}
	log_error("%s", event.reason);
	standin_fail(s, event.status);
}

static void listen_at_paths(struct standin *s)
{
	for (size_t i = 0; i < s->plan->n_sockets; i++) {
		const struct argv_socket *socket = &s->plan->sockets[i];
		int ret = outlet_at_path(&s->outlets, socket->path, socket->name, socket->channel);

		if (!ret)
			continue;
		log_error("cannot listen at %s: %s", socket->path, strerrordesc_np(-ret));
		standin_fail(s, EXIT_REXEC_FAILED);
	}
}

int main(int argc, char **argv)
{
	struct session_spec spec = { .cwd = "/", .env = environ, .expand_dir = true, .keep = true };
	struct map_programs programs;
	struct given given;
	struct argv_plan plan;
	struct options options;
	struct standin standin;
	char why[512];

	if (given_list(&given))
		return EXIT_REXEC_FAILED;
	log_init("rexec-qemu", LOG_LEVEL_INFO);
	get_signals(&spec);
	spec.umask = get_umask();
	parse_options(&options, argc, argv);
	check_cpus(options.cpus);
	if (options.check)
		exit(check(&options, argv + optind));
	find_programs(&options, argv[optind], &programs);
	if (argv_plan(&plan, argc - optind, argv + optind, have))
		die("no memory");

	standin_init(&standin, &plan, &given, options.local);
	standin.shadows.fixed = options.cpus;
	if (given_prepare(&given, &standin.crossing, &standin.outlets, &plan, why, sizeof(why))) {
		log_error("%s", why);
		standin_fail(&standin, EXIT_REXEC_FAILED);
	}
	spec.fds = given.fds;
	spec.n_fds = given.n_fds;
	spec.files = read_files(&plan);
	spec.n_files = plan.n_files;
	spec.argv = plan.argv;
	listen_at_paths(&standin);

	signal(SIGPIPE, SIG_IGN);
	start(&standin, &spec, &programs, options.local);
}
