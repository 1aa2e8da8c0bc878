/* SPDX-License-Identifier: Apache-2.0 */
#include "stream.h"
#include "util.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

void fail(const char *what)
{
	perror(what);
	exit(1);
}

void usage(const char *text)
{
	fprintf(stderr, "usage: %s\n", text);
	exit(2);
}

void ignore_sigpipe(void)
{
	signal(SIGPIPE, SIG_IGN);
}

uint64_t now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

struct sockaddr_un unix_address(const char *path)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };

	if (strlen(path) >= sizeof(address.sun_path))
		usage("a socket's path has at most 107 bytes");
	strcpy(address.sun_path, path);
	return address;
}

void *allocate(size_t size)
{
	void *p = calloc(1, size);

	if (!p)
		fail("calloc");
	return p;
}

bool told(const char *line)
{
	char c = 0;

	puts(line);
	fflush(stdout);
	while (c != '\n')
		if (read(STDIN_FILENO, &c, 1) != 1)
			return false;
	return true;
}

uint64_t nanoseconds(const char *text)
{
	return (uint64_t)(atof(text) * 1e9);
}

bool write_all(int fd, const void *data, size_t size)
{
	const char *p = data;

	while (size) {
		ssize_t n = write(fd, p, size);

		if (n < 0)
			return false;
		p += n;
		size -= (size_t)n;
	}
	return true;
}

bool read_all(int fd, void *data, size_t size)
{
	char *p = data;

	while (size) {
		ssize_t n = read(fd, p, size);

		if (n <= 0)
			return false;
		p += n;
		size -= (size_t)n;
	}
	return true;
}

bool past(void *deadline)
{
	return now() >= *(uint64_t *)deadline;
}

uint64_t run_write(int fd, char *block, size_t size, bool (*ended)(void *arg), void *arg)
{
	uint64_t total = 0;
	bool last;

	do {
		last = ended(arg);
		block[0] = last;
		if (!write_all(fd, block, size))
			return 0;
		total += size;
	} while (!last);
	return total;
}

uint64_t run_read(int fd, char *buffer, size_t size)
{
	uint64_t total = 0;
	bool last = false;

	do {
		ssize_t n = read(fd, buffer, READ_SIZE);

		if (n <= 0)
			return 0;
		for (size_t i = (size - total % size) % size; i < (size_t)n; i += size)
			last |= buffer[i] == 1;
		total += (uint64_t)n;
	} while (!last || total % size);
	return total;
}
