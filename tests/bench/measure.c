/* SPDX-License-Identifier: Apache-2.0 */
/*
 * measure.c - the bench's measuring program, which is client or server
 *
 *	measure serve PATH
 *	measure PATH warm
 *	measure PATH rtt SIZE SECONDS		round trips of so many bytes, one after the other
 *	measure PATH send SIZE SECONDS CONNECTIONS	one way, in writes of so many bytes
 *	measure PATH both SIZE SECONDS		both ways at once
 *	measure PATH pipe-out SIZE SECONDS	through a passed pipe, from the client
 *	measure PATH pipe-in SIZE SECONDS	to the client
 *	measure PATH requests CONNECTIONS SECONDS	64 bytes back and forth, on all of them
 *	measure PATH connects THREADS SECONDS	connect, exchange one byte, close
 *	measure PATH idle CONNECTIONS...	hold so many, at the next line so many
 *
 * What is said on a connection is in stream.h. A client talks with who has started it: it says
 * "ready" on stdout when its connections stand and are warm, goes on when a line comes on stdin,
 * prints what it has measured, as JSON, and closes its connections when another line or the end
 *comes. So the CPU time of relays can be taken just before and after, while their processes live.
 */
#include "stream.h"
#include "util.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>

enum { REQUEST_SIZE = 64, WARM_TRIPS = 200, WARM_RUN = 50000000 };
enum { SAMPLES_MAX = 1 << 20, EVENTS = 256, LINE = 200 };

static struct sockaddr_un server;

static int try_connect(void)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0)
		fail("socket");
	if (connect(fd, (struct sockaddr *)&server, sizeof(server))) {
		close_keep_errno(fd);
		return -1;
	}
	return fd;
}

/* Send the operation, perhaps with a descriptor, and see it come back. */
static bool greet(int fd, enum op op, int passed)
{
	union {
		struct cmsghdr align;
		char space[CMSG_SPACE(sizeof(int))];
	} control = { .align = { .cmsg_len = CMSG_LEN(sizeof(int)),
				 .cmsg_level = SOL_SOCKET,
				 .cmsg_type = SCM_RIGHTS } };
	char byte = (char)op;
	struct iovec iov = { .iov_base = &byte, .iov_len = 1 };
	struct msghdr message = { .msg_iov = &iov, .msg_iovlen = 1 };

	if (passed >= 0) {
		memcpy(CMSG_DATA(&control.align), &passed, sizeof(int));
		message.msg_control = &control;
		message.msg_controllen = sizeof(control);
	}
	return sendmsg(fd, &message, 0) == 1 && read_all(fd, &byte, 1) && byte == (char)op;
}

static int join(enum op op, int passed)
{
	int fd = try_connect();

	if (fd < 0)
		fail("connect");
	if (!greet(fd, op, passed))
		fail("the first exchange");
	return fd;
}

/* ---- round trips -------------------------------------------------------------------------------
 */

static int by_size(const void *a, const void *b)
{
	uint64_t left = *(const uint64_t *)a, right = *(const uint64_t *)b;

	return (left > right) - (left < right);
}

static void trip(int fd, char *data, size_t size)
{
	if (!write_all(fd, data, size) || !read_all(fd, data, size))
		fail("a round trip");
}

static void round_trips(size_t size, uint64_t time)
{
	int fd = join(OP_ECHO, -1);
	_cleanup_free_ char *data = allocate(size);
	_cleanup_free_ uint64_t *took = allocate(SAMPLES_MAX * sizeof(*took));
	char line[LINE] = "ready";

	for (int i = 0; i < WARM_TRIPS; i++)
		trip(fd, data, size);
	while (told(line)) {
		uint64_t start = now(), last = start, end;
		size_t n = 0;

		do {
			trip(fd, data, size);
			end = now();
			took[n++] = end - last;
			last = end;
		} while (end - start < time && n < SAMPLES_MAX);
		qsort(took, n, sizeof(*took), by_size);
		snprintf(line, sizeof(line),
			 "{\"trips\": %zu, \"p50\": %.3f, \"p99\": %.3f, \"max\": %.3f}", n,
			 (double)took[n / 2] * 1e-3, (double)took[n * 99 / 100] * 1e-3,
			 (double)took[n - 1] * 1e-3);
	}
	close(fd);
}

/* ---- throughput --------------------------------------------------------------------------------
 */

struct stream {
	pthread_t thread;
	int fd;	  /* the connection */
	int data; /* where bytes go or come from: the connection or a pipe */
	uint32_t size;
	uint64_t time;
	uint64_t bytes;
	void (*run)(struct stream *stream);
};

static void run_send(struct stream *stream)
{
	_cleanup_free_ char *block = allocate(stream->size);
	uint64_t deadline = now() + stream->time;
	char answer;

	stream->bytes = run_write(stream->data, block, stream->size, past, &deadline);
	if (!stream->bytes || !read_all(stream->fd, &answer, 1))
		fail("sending");
}

static void *write_run(void *arg)
{
	struct stream *stream = arg;
	_cleanup_free_ char *block = allocate(stream->size);
	uint64_t deadline = now() + stream->time;

	stream->bytes = run_write(stream->fd, block, stream->size, past, &deadline);
	if (!stream->bytes)
		fail("sending");
	return NULL;
}

static void run_both(struct stream *stream)
{
	_cleanup_free_ char *buffer = allocate(READ_SIZE);
	pthread_t writer;
	uint64_t received;

	if (pthread_create(&writer, NULL, write_run, stream))
		fail("pthread_create");
	received = run_read(stream->fd, buffer, stream->size);
	pthread_join(writer, NULL);
	if (!received)
		fail("receiving");
	stream->bytes += received;
}

static void run_ask(struct stream *stream)
{
	_cleanup_free_ char *buffer = allocate(READ_SIZE);

	if (!write_all(stream->fd, &stream->time, sizeof(stream->time)))
		fail("asking");
	stream->bytes = run_read(stream->data, buffer, stream->size);
	if (!stream->bytes)
		fail("receiving");
}

static struct stream stream_new(enum op op, uint32_t size, void (*run)(struct stream *stream))
{
	struct stream stream = { .size = size, .run = run };
	int ends[2] = { -1, -1 };
	size_t passed = op == OP_PIPE_WRITE;

	if (!size || size > BLOCK_MAX)
		usage("SIZE is 1 to 16777216");
	if (op != OP_PIPE_READ && op != OP_PIPE_WRITE) {
		stream.fd = stream.data = join(op, -1);
	} else {
		if (pipe(ends))
			fail("pipe");
		stream.fd = join(op, ends[passed]);
		close(ends[passed]);
		stream.data = ends[!passed];
	}
	if (!write_all(stream.fd, &size, sizeof(size)))
		fail("the block size");
	return stream;
}

static void *run_thread(void *arg)
{
	struct stream *stream = arg;

	stream->run(stream);
	return NULL;
}

static void run_all(struct stream *streams, size_t n, uint64_t time)
{
	for (size_t i = 0; i < n; i++) {
		streams[i].time = time;
		if (pthread_create(&streams[i].thread, NULL, run_thread, &streams[i]))
			fail("pthread_create");
	}
	for (size_t i = 0; i < n; i++)
		pthread_join(streams[i].thread, NULL);
}

static void throughput(enum op op, uint32_t size, uint64_t time, size_t n,
		       void (*run)(struct stream *stream))
{
	_cleanup_free_ struct stream *streams = allocate(n * sizeof(*streams));
	char line[LINE] = "ready";

	for (size_t i = 0; i < n; i++)
		streams[i] = stream_new(op, size, run);
	run_all(streams, n, WARM_RUN);
	while (told(line)) {
		uint64_t start = now(), bytes = 0;
		double seconds;

		run_all(streams, n, time);
		seconds = (double)(now() - start) * 1e-9;
		for (size_t i = 0; i < n; i++)
			bytes += streams[i].bytes;
		snprintf(line, sizeof(line), "{\"seconds\": %.6f, \"bytes\": %llu}", seconds,
			 (unsigned long long)bytes);
	}
}

/* ---- many connections --------------------------------------------------------------------------
 */

/*
 * One request on each connection, and a new one as soon as it is answered, until time is over; then
 * the last ones are waited for. The number of answers.
 */
static uint64_t request(const int *fds, size_t n, int epoll_fd, uint64_t time)
{
	struct epoll_event events[EVENTS];
	char data[REQUEST_SIZE] = "";
	uint64_t deadline = now() + time, answered = 0;
	size_t waiting = n;

	for (size_t i = 0; i < n; i++)
		if (!write_all(fds[i], data, sizeof(data)))
			fail("a request");
	while (waiting) {
		int ready = epoll_wait(epoll_fd, events, EVENTS, -1);
		bool over = now() >= deadline;

		for (int i = 0; i < ready; i++) {
			if (!read_all(events[i].data.fd, data, sizeof(data)))
				fail("an answer");
			answered++;
			if (over)
				waiting--;
			else if (!write_all(events[i].data.fd, data, sizeof(data)))
				fail("a request");
		}
	}
	return answered;
}

static void requests(size_t n, uint64_t time)
{
	_cleanup_free_ int *fds = allocate(n * sizeof(*fds));
	int epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	char line[LINE] = "ready";

	for (size_t i = 0; i < n; i++) {
		fds[i] = join(OP_ECHO, -1);
		if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fds[i],
			      &(struct epoll_event){ .events = EPOLLIN, .data.fd = fds[i] }))
			fail("epoll_ctl");
	}
	request(fds, n, epoll_fd, 0);
	while (told(line)) {
		uint64_t start = now(), answered = request(fds, n, epoll_fd, time);

		snprintf(line, sizeof(line), "{\"seconds\": %.6f, \"requests\": %llu}",
			 (double)(now() - start) * 1e-9, (unsigned long long)answered);
	}
}

struct connector {
	pthread_t thread;
	uint64_t deadline, connects, slowest;
};

static void *connect_often(void *arg)
{
	struct connector *connector = arg;
	uint64_t start = now(), end;

	do {
		close(join(OP_ECHO, -1));
		end = now();
		connector->slowest = MAX(connector->slowest, end - start);
		connector->connects++;
		start = end;
	} while (end < connector->deadline);
	return NULL;
}

static void connects(size_t n, uint64_t time)
{
	_cleanup_free_ struct connector *connectors = allocate(n * sizeof(*connectors));
	char line[LINE] = "ready";

	for (size_t i = 0; i < n; i++)
		close(join(OP_ECHO, -1));
	while (told(line)) {
		uint64_t start = now(), count = 0, slowest = 0;
		double seconds;

		for (size_t i = 0; i < n; i++) {
			connectors[i] = (struct connector){ .deadline = start + time };
			if (pthread_create(&connectors[i].thread, NULL, connect_often,
					   &connectors[i]))
				fail("pthread_create");
		}
		for (size_t i = 0; i < n; i++) {
			pthread_join(connectors[i].thread, NULL);
			count += connectors[i].connects;
			slowest = MAX(slowest, connectors[i].slowest);
		}
		seconds = (double)(now() - start) * 1e-9;
		snprintf(line, sizeof(line),
			 "{\"seconds\": %.6f, \"connects\": %llu, \"max\": %.3f}", seconds,
			 (unsigned long long)count, (double)slowest * 1e-3);
	}
}

/* The connections end with us. */
static void idle(size_t steps, char **counts)
{
	size_t held = 0;

	for (size_t i = 0; i < steps && told(i ? "{}" : "ready"); i++)
		for (size_t n = strtoul(counts[i], NULL, 10); held < n; held++)
			join(OP_ECHO, -1);
	told("{}");
}

/* Until a server answers: relays need time to start. */
static void warm(void)
{
	uint64_t limit = now() + 10000000000;
	int fd;

	while ((fd = try_connect()) < 0 || !greet(fd, OP_ECHO, -1)) {
		if (now() > limit)
			fail("no server after 10 s");
		close_keep_errno(fd);
		usleep(10000);
	}
	close(fd);
	told("ready");
}

int main(int argc, char **argv)
{
	const char *what = argc > 2 ? argv[2] : "";
	uint64_t time = argc > 4 ? nanoseconds(argv[4]) : 0;
	uint32_t number = argc > 3 ? (uint32_t)strtoul(argv[3], NULL, 10) : 0;

	ignore_sigpipe();
	if (argc == 3 && !strcmp(argv[1], "serve"))
		serve(argv[2]);
	if (argc < 3 || (strcmp(what, "warm") && !number))
		usage("measure serve PATH | measure PATH WHAT NUMBER...: see measure.c");
	server = unix_address(argv[1]);
	if (!strcmp(what, "warm"))
		warm();
	else if (!strcmp(what, "rtt"))
		round_trips(number, time);
	else if (!strcmp(what, "send"))
		throughput(OP_SINK, number, time, argc > 5 ? strtoul(argv[5], NULL, 10) : 1,
			   run_send);
	else if (!strcmp(what, "both"))
		throughput(OP_BOTH, number, time, 1, run_both);
	else if (!strcmp(what, "pipe-out"))
		throughput(OP_PIPE_READ, number, time, 1, run_send);
	else if (!strcmp(what, "pipe-in"))
		throughput(OP_PIPE_WRITE, number, time, 1, run_ask);
	else if (!strcmp(what, "requests"))
		requests(number, time);
	else if (!strcmp(what, "connects"))
		connects(number, time);
	else if (!strcmp(what, "idle"))
		idle((size_t)argc - 3, argv + 3);
	else
		usage("measure serve PATH | measure PATH WHAT NUMBER...: see measure.c");
	return 0;
}
