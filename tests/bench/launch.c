/* SPDX-License-Identifier: Apache-2.0 */
/*
 * launch.c - the bench's program that starts programs, and what it starts
 *
 *	launch warm -- COMMAND			until it ends with 0
 *	launch starts AT_ONCE SECONDS LEAST -- COMMAND	again and again, so many at a time, for so
 *						long and at least so often
 *	launch answers SECONDS LEAST -- COMMAND	one after the other; what each says is read from a
 *						pipe to its end
 *	launch output SIZE SECONDS -- COMMAND	COMMAND runs "launch source SIZE": its output
 *	launch input SIZE SECONDS -- COMMAND	COMMAND runs "launch sink SIZE": its input
 *	launch idle COUNT... -- COMMAND		hold so many that run, at the next line so many
 *	launch source SIZE, launch sink SIZE	the other end of output and input
 *
 * It talks with who has started it as measure.c does. A COMMAND is whatever brings a program to
 * run somewhere; it is started by vfork(2), which costs a small process like this one the same
 * for all. One that does not end with 0 ends us, and so does our end the commands.
 *
 * source and sink speak of runs as stream.h does for OP_PIPE_WRITE and OP_SINK, on their standard
 * input and output.
 */
#include "stream.h"
#include "util.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>

enum { SAMPLES_MAX = 1 << 16, WARM_RUN = 50000000, RETRY_US = 20000 };
#define WARM_LIMIT 20000000000u /* ns */

static const char how[] = "launch WHAT NUMBER... -- COMMAND...: see launch.c";

struct launched {
	pid_t pid; /* 0: none */
	uint64_t since;
};

static int null_device(void)
{
	static int fd = -1;

	if (fd < 0)
		fd = open("/dev/null", O_RDWR | O_CLOEXEC);
	if (fd < 0)
		fail("/dev/null");
	return fd;
}

static pid_t launch(char **command, int in, int out)
{
	pid_t pid = vfork();

	if (pid < 0)
		fail("vfork");
	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		dup2(in, STDIN_FILENO);
		dup2(out, STDOUT_FILENO);
		execvp(*command, command);
		_exit(127);
	}
	return pid;
}

static void must_be_zero(int status)
{
	if (!status)
		return;
	fprintf(stderr, "a command ended with %s %d\n", WIFSIGNALED(status) ? "signal" : "status",
		WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
	exit(1);
}

static int await(pid_t pid)
{
	int status;

	if (waitpid(pid, &status, 0) < 0)
		fail("waitpid");
	return status;
}

/* ---- starts ------------------------------------------------------------------------------------
 */

struct starts {
	uint64_t time;
	size_t least;
	size_t n;
	uint64_t *took; /* SAMPLES_MAX */
};

static bool is_enough(const struct starts *s, size_t started, uint64_t deadline)
{
	return started >= SAMPLES_MAX || (started >= s->least && now() >= deadline);
}

static void end_one(struct starts *s, struct launched *running, size_t at_once)
{
	int status;
	pid_t pid = waitpid(-1, &status, 0);
	uint64_t end = now();

	if (pid < 0)
		fail("waitpid");
	must_be_zero(status);
	for (size_t i = 0; i < at_once; i++) {
		if (running[i].pid != pid)
			continue;
		s->took[s->n++] = end - running[i].since;
		running[i].pid = 0;
	}
}

static void start_many(struct starts *s, char **command, size_t at_once)
{
	_cleanup_free_ struct launched *running = allocate(at_once * sizeof(*running));
	uint64_t deadline = now() + s->time;
	size_t started = 0;

	do {
		for (size_t i = 0; i < at_once && !is_enough(s, started, deadline); i++) {
			if (running[i].pid)
				continue;
			running[i].since = now();
			running[i].pid = launch(command, null_device(), null_device());
			started++;
		}
		if (s->n < started)
			end_one(s, running, at_once);
	} while (s->n < started || !is_enough(s, started, deadline));
}

/* Its output, to the end, and it. */
static void hear(char **command)
{
	char said[4096];
	ssize_t n, total = 0;
	int ends[2];
	pid_t pid;

	if (pipe2(ends, O_CLOEXEC))
		fail("pipe2");
	pid = launch(command, null_device(), ends[1]);
	close(ends[1]);
	while ((n = read(ends[0], said, sizeof(said))) > 0)
		total += n;
	close(ends[0]);
	must_be_zero(await(pid));
	if (!total) {
		fprintf(stderr, "a command ended with 0 and has said nothing\n");
		exit(1);
	}
}

static void hear_many(struct starts *s, char **command, size_t at_once)
{
	uint64_t deadline = now() + s->time;

	(void)at_once;
	while (!is_enough(s, s->n, deadline)) {
		uint64_t since = now();

		hear(command);
		s->took[s->n++] = now() - since;
	}
}

/* CPU time of us and of what has ended, in seconds. */
static double cpu_used(void)
{
	static const int whose[] = { RUSAGE_SELF, RUSAGE_CHILDREN };
	double seconds = 0;

	for (size_t i = 0; i < ARRAY_LEN(whose); i++) {
		struct rusage used;

		getrusage(whose[i], &used);
		seconds += (double)(used.ru_utime.tv_sec + used.ru_stime.tv_sec) +
			   (double)(used.ru_utime.tv_usec + used.ru_stime.tv_usec) * 1e-6;
	}
	return seconds;
}

/* Each one's microseconds, for p99 is that of many turns. */
static char *report(const struct starts *s, double seconds, double cpu)
{
	char *line = NULL;
	size_t size;
	FILE *out = open_memstream(&line, &size);

	if (!out)
		fail("open_memstream");
	fprintf(out, "{\"seconds\": %.6f, \"cpu\": %.6f, \"took\": [", seconds, cpu);
	for (size_t i = 0; i < s->n; i++)
		fprintf(out, "%s%.1f", i ? ", " : "", (double)s->took[i] * 1e-3);
	fprintf(out, "]}");
	fclose(out);
	return line;
}

static void starts(char **command, size_t at_once, uint64_t time, size_t least,
		   void (*run)(struct starts *s, char **command, size_t at_once))
{
	_cleanup_free_ uint64_t *took = allocate(SAMPLES_MAX * sizeof(*took));
	struct starts s = { .time = time, .least = least, .took = took };
	char *line = NULL;

	while (told(line ? line : "ready")) {
		uint64_t start = now();
		double cpu = cpu_used();

		s.n = 0;
		run(&s, command, at_once);
		free(line);
		line = report(&s, (double)(now() - start) * 1e-9, cpu_used() - cpu);
	}
	free(line);
}

/* ---- streams -----------------------------------------------------------------------------------
 */

static uint64_t take_output(int to, int from, uint32_t size, uint64_t time)
{
	_cleanup_free_ char *buffer = allocate(READ_SIZE);
	uint64_t bytes = 0;

	if (write_all(to, &time, sizeof(time)))
		bytes = run_read(from, buffer, size);
	if (!bytes)
		fail("receiving");
	return bytes;
}

static uint64_t give_input(int to, int from, uint32_t size, uint64_t time)
{
	_cleanup_free_ char *block = allocate(size);
	uint64_t deadline = now() + time;
	uint64_t bytes = run_write(to, block, size, past, &deadline);
	char answer;

	if (!bytes || !read_all(from, &answer, 1))
		fail("sending");
	return bytes;
}

static void stream(char **command, uint32_t size, uint64_t time,
		   uint64_t (*run)(int to, int from, uint32_t size, uint64_t time))
{
	char line[200] = "ready";
	int in[2], out[2];
	pid_t pid;

	if (pipe2(in, O_CLOEXEC) || pipe2(out, O_CLOEXEC))
		fail("pipe2");
	pid = launch(command, in[0], out[1]);
	close(in[0]);
	close(out[1]);
	run(in[1], out[0], size, WARM_RUN);
	while (told(line)) {
		uint64_t start = now();
		uint64_t bytes = run(in[1], out[0], size, time);

		snprintf(line, sizeof(line), "{\"seconds\": %.6f, \"bytes\": %llu}",
			 (double)(now() - start) * 1e-9, (unsigned long long)bytes);
	}
	close(in[1]);
	must_be_zero(await(pid));
}

static void source(uint32_t size)
{
	_cleanup_free_ char *block = allocate(size);
	uint64_t time;

	while (read_all(STDIN_FILENO, &time, sizeof(time))) {
		time += now();
		if (!run_write(STDOUT_FILENO, block, size, past, &time))
			fail("writing");
	}
}

static void sink(uint32_t size)
{
	_cleanup_free_ char *buffer = allocate(READ_SIZE);

	while (run_read(STDIN_FILENO, buffer, size))
		if (!write_all(STDOUT_FILENO, "k", 1))
			fail("answering");
}

/* ---- idle ones ---------------------------------------------------------------------------------
 */

static void must_run(size_t n)
{
	int status;
	pid_t pid = n ? waitpid(-1, &status, WNOHANG) : 0;

	if (!pid)
		return;
	fprintf(stderr, "a command that should have stayed ended\n");
	exit(1);
}

static void idle(size_t steps, char **counts, char **command)
{
	size_t most = steps ? strtoul(counts[steps - 1], NULL, 10) : 0, held = 0;
	_cleanup_free_ pid_t *pids = allocate(MAX(most, 1) * sizeof(*pids));

	for (size_t i = 0; i < steps && told(i ? "{}" : "ready"); i++) {
		must_run(held);
		for (size_t n = MIN(strtoul(counts[i], NULL, 10), most); held < n; held++)
			pids[held] = launch(command, null_device(), null_device());
	}
	told("{}");
	must_run(held);
	for (size_t i = 0; i < held; i++)
		kill(pids[i], SIGKILL);
	for (size_t i = 0; i < held; i++)
		await(pids[i]);
}

/* Until it works: whatever starts needs time for it. */
static void warm(char **command)
{
	uint64_t limit = now() + WARM_LIMIT;
	int status;

	while ((status = await(launch(command, null_device(), null_device())))) {
		if (now() > limit)
			must_be_zero(status);
		usleep(RETRY_US);
	}
	told("ready");
}

/* Behind "--", which becomes the end of the numbers; NULL: there is none. */
static char **find_command(char **argv)
{
	for (; *argv; argv++) {
		if (strcmp(*argv, "--") != 0)
			continue;
		*argv = NULL;
		return argv[1] ? argv + 1 : NULL;
	}
	return NULL;
}

int main(int argc, char **argv)
{
	char **command = find_command(argv);
	const char *what = argc > 1 ? argv[1] : "";
	char **numbers = argv + MIN(argc, 2);
	size_t n = 0;
	uint32_t size;

	while (numbers[n])
		n++;
	size = n ? (uint32_t)strtoul(numbers[0], NULL, 10) : 0;
	if (n && (!size || size > BLOCK_MAX) && strcmp(what, "answers") != 0)
		usage(how);
	if (!command && n == 1 && !strcmp(what, "source"))
		source(size);
	else if (!command && n == 1 && !strcmp(what, "sink"))
		sink(size);
	else if (command && !n && !strcmp(what, "warm"))
		warm(command);
	else if (command && n == 3 && !strcmp(what, "starts"))
		starts(command, size, nanoseconds(numbers[1]), strtoul(numbers[2], NULL, 10),
		       start_many);
	else if (command && n == 2 && !strcmp(what, "answers"))
		starts(command, 1, nanoseconds(numbers[0]), strtoul(numbers[1], NULL, 10),
		       hear_many);
	else if (command && n == 2 && !strcmp(what, "output"))
		stream(command, size, nanoseconds(numbers[1]), take_output);
	else if (command && n == 2 && !strcmp(what, "input"))
		stream(command, size, nanoseconds(numbers[1]), give_input);
	else if (command && n && !strcmp(what, "idle"))
		idle(n, numbers, command);
	else
		usage(how);
	return 0;
}
