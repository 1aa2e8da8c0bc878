/* SPDX-License-Identifier: Apache-2.0 */
/*
 * shim-anywhere.c - connects and sends where little is allowed; for the test shim-anywhere
 *
 * usage: shim-anywhere MODE PATH; PATH is an echo server's socket, PATH.d one of its for datagrams.
 * Exit status 0: all was well.
 */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#define expect(condition)                                                                          \
	do {                                                                                       \
		if (!(condition)) {                                                                \
			fprintf(stderr, "line %d: not " #condition ": %m\n", __LINE__);            \
			_exit(1);                                                                  \
		}                                                                                  \
	} while (0)

static struct sockaddr_un server = { .sun_family = AF_UNIX }, datagrams = { .sun_family = AF_UNIX };

static bool refused_with(int error, int fd, const void *to, socklen_t len)
{
	errno = 0;
	return connect(fd, to, len) == -1 && errno == error;
}

/* Only what a signal handler and a vforked child may call. */
static bool connect_and_echo(void)
{
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);
	char c = 0;
	bool good = fd >= 0 && connect(fd, (struct sockaddr *)&server, sizeof(server)) == 0 &&
		    write(fd, "x", 1) == 1 && read(fd, &c, 1) == 1 && c == 'x';

	close(fd);
	return good;
}

static bool send_datagrams(void)
{
	char x[] = "x";
	struct iovec iov = { .iov_base = x, .iov_len = 1 };
	struct msghdr msg = { .msg_name = &datagrams,
			      .msg_namelen = sizeof(datagrams),
			      .msg_iov = &iov,
			      .msg_iovlen = 1 };
	int fd = socket(AF_UNIX, SOCK_DGRAM, 0);
	bool good = fd >= 0 &&
		    sendto(fd, "x", 1, 0, (struct sockaddr *)&datagrams, sizeof(datagrams)) == 1 &&
		    sendmsg(fd, &msg, 0) == 1 &&
		    connect(fd, (struct sockaddr *)&datagrams, sizeof(datagrams)) == 0 &&
		    send(fd, "x", 1, 0) == 1;

	close(fd);
	return good;
}

/* ---- modes -------------------------------------------------------------------------- */

static void just_connect(void)
{
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	expect(refused_with(ENOENT, fd, &server, sizeof(server)));
	expect(refused_with(ENOENT, fd, &server, sizeof(server)));
}

static volatile sig_atomic_t handled;

static void handle(int signo)
{
	int saved = errno;

	(void)signo;
	expect(connect_and_echo() && send_datagrams());
	handled++;
	errno = saved;
}

/* A handler that interrupts malloc() and printf() would wait for their locks for ever. */
static void from_signal_handler(void)
{
	struct itimerval often = { .it_interval.tv_usec = 3000, .it_value.tv_usec = 3000 };
	struct sigaction action = { .sa_handler = handle, .sa_flags = SA_RESTART };
	FILE *null = fopen("/dev/null", "w");

	expect(sigaction(SIGALRM, &action, NULL) == 0);
	expect(setitimer(ITIMER_REAL, &often, NULL) == 0);
	while (handled < 100) {
		free(malloc(1000));
		fprintf(null, "%d %s\n", handled, getenv("PATH"));
	}
	setitimer(ITIMER_REAL, &(struct itimerval){ 0 }, NULL);
	fclose(null);
}

static void from_vforked_child(void)
{
	for (int i = 0; i < 100; i++) {
		int status = -1;
		pid_t child = vfork();

		if (child == 0)
			_exit(connect_and_echo() && send_datagrams() ? 0 : 1);
		expect(waitpid(child, &status, 0) == child && status == 0);
	}
}

static void *connect_to_silence(void *unused)
{
	/* Nobody has this address of the veth's network. */
	struct sockaddr_in nobody = { .sin_family = AF_INET, .sin_port = htons(1) };
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	nobody.sin_addr.s_addr = htonl(0x0ad60063);
	connect(fd, (struct sockaddr *)&nobody, sizeof(nobody));
	return unused;
}

static void cancelled(void)
{
	pthread_t thread;
	struct timespec limit;
	void *result;

	expect(pthread_create(&thread, NULL, connect_to_silence, NULL) == 0);
	usleep(100000);
	expect(pthread_cancel(thread) == 0);
	clock_gettime(CLOCK_REALTIME, &limit);
	limit.tv_sec++;
	expect(pthread_timedjoin_np(thread, &result, &limit) == 0 && result == PTHREAD_CANCELED);
}

/* What libc refuses is refused in the same way. */
static void bad_arguments(void)
{
	int fd = socket(AF_UNIX, SOCK_STREAM, 0), dgram = socket(AF_UNIX, SOCK_DGRAM, 0);
	struct sockaddr *to = (struct sockaddr *)&datagrams;
	struct mmsghdr msgs = { .msg_hdr = { .msg_name = (void *)8,
					     .msg_namelen = sizeof(datagrams) } };
	struct sockaddr_un name;
	socklen_t len = sizeof(name);
	int pipes[2];

	expect(pipe(pipes) == 0);
	expect(sendto(dgram, "x", 1, 0, (void *)8, sizeof(datagrams)) == -1 && errno == EFAULT);
	expect(sendto(dgram, (void *)8, 1, 0, to, sizeof(datagrams)) == -1 && errno == EFAULT);
	expect(sendto(dgram, "x", 1, 0, to, 0) == -1 && errno == ENOTCONN);
	expect(sendto(dgram, "x", 1, 0, to, sizeof(datagrams) + 1) == -1 && errno == EINVAL);
	expect(sendto(dgram, "x", 1, 0, NULL, 0) == -1 && errno == ENOTCONN);
	expect(sendto(-1, "x", 1, 0, to, sizeof(datagrams)) == -1 && errno == EBADF);
	expect(sendto(pipes[1], "x", 1, 0, to, sizeof(datagrams)) == -1 && errno == ENOTSOCK);
	expect(sendmsg(dgram, (void *)8, 0) == -1 && errno == EFAULT);
	expect(sendmsg(dgram, &msgs.msg_hdr, 0) == -1 && errno == EFAULT);
	expect(sendmmsg(dgram, (void *)8, 1, 0) == -1 && errno == EFAULT);
	expect(sendmmsg(dgram, &msgs, 1, 0) == -1 && errno == EFAULT);
	expect(sendmmsg(dgram, NULL, 0, 0) == 0);
	expect(getpeername(dgram, (void *)&name, &len) == -1 && errno == ENOTCONN);
	expect(getpeername(-1, (void *)&name, &len) == -1 && errno == EBADF);
	expect(getpeername(dgram, (void *)&name, (void *)8) == -1 && errno == ENOTCONN);
	expect(getpeername(-1, (void *)8, NULL) == -1 && errno == EBADF);
	expect(socketpair(AF_UNIX, SOCK_STREAM, 0, pipes) == 0);
	expect(getpeername(pipes[0], (void *)&name, (void *)8) == -1 && errno == EFAULT);
	expect(getpeername(pipes[0], (void *)&name, (void *)-8) == -1 && errno == EFAULT);
	expect(getpeername(pipes[0], (void *)&name, NULL) == -1 && errno == EFAULT);
	expect(getpeername(pipes[0], (void *)8, &len) == -1 && errno == EFAULT);
	expect(pipe(pipes) == 0);
	expect(refused_with(EFAULT, fd, (void *)8, sizeof(server)));
	expect(refused_with(EINVAL, fd, &server, 0));
	expect(refused_with(EINVAL, fd, &server, sizeof(server) + 1));
	expect(refused_with(EINVAL, fd, &server, (socklen_t)-1));
	expect(refused_with(EINVAL, fd, &server, offsetof(struct sockaddr_un, sun_path)));
	expect(refused_with(EBADF, -1, &server, sizeof(server)));
	expect(refused_with(ENOTSOCK, pipes[0], &server, sizeof(server)));
	expect(refused_with(ENOTSOCK, pipes[0], &server, sizeof(server)));
}

static void unaligned_and_errno(void)
{
	char space[sizeof(server) + 1];
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	memcpy(space + 1, &server, sizeof(server));
	errno = 77;
	expect(connect(fd, (struct sockaddr *)(space + 1), sizeof(server)) == 0);
	expect(errno == 77);
	memcpy(space + 1, &datagrams, sizeof(datagrams));
	fd = socket(AF_UNIX, SOCK_DGRAM, 0);
	expect(sendto(fd, "x", 1, 0, (struct sockaddr *)(space + 1), sizeof(datagrams)) == 1);
	expect(connect(fd, (struct sockaddr *)(space + 1), sizeof(datagrams)) == 0);
	expect(errno == 77);
}

static void ignore(int signo)
{
	(void)signo;
}

/* Signals without SA_RESTART come while the answer is waited for. */
static void interrupted(void)
{
	struct itimerval often = { .it_interval.tv_usec = 50, .it_value.tv_usec = 50 };
	struct sigaction action = { .sa_handler = ignore };
	int fd;

	expect(sigaction(SIGALRM, &action, NULL) == 0);
	expect(setitimer(ITIMER_REAL, &often, NULL) == 0);
	for (int i = 0; i < 300; i++) {
		fd = socket(AF_UNIX, SOCK_STREAM, 0);
		expect(connect(fd, (struct sockaddr *)&server, sizeof(server)) == 0);
		close(fd);
		if (i % 10 == 0)
			expect(send_datagrams());
	}
}

int main(int argc, char **argv)
{
	static const struct {
		const char *name;
		void (*run)(void);
	} modes[] = {
		{ "just-connect", just_connect },   { "signal-handler", from_signal_handler },
		{ "vfork", from_vforked_child },    { "cancelled", cancelled },
		{ "bad-arguments", bad_arguments }, { "unaligned-and-errno", unaligned_and_errno },
		{ "interrupted", interrupted },
	};

	if (argc != 3 || strlen(argv[2]) >= sizeof(server.sun_path))
		return 2;
	strcpy(server.sun_path, argv[2]);
	snprintf(datagrams.sun_path, sizeof(datagrams.sun_path), "%.100s.d", argv[2]);
	for (size_t i = 0; i < sizeof(modes) / sizeof(modes[0]); i++) {
		if (strcmp(argv[1], modes[i].name) == 0) {
			modes[i].run();
			return 0;
		}
	}
	return 2;
}
