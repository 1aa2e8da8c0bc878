/* SPDX-License-Identifier: Apache-2.0 */
/*
 * stream.h - what the bench's client and server agree upon
 *
 * A connection begins with one byte, an operation, which the server sends back: so the client
 * knows that the server itself has accepted it, through whatever relay. What follows depends on it:
 *
 *	OP_ECHO		everything is sent back
 *	OP_SINK		uint32 block size; then runs from the client
 *	OP_BOTH		uint32 block size; then runs from both at once, which begin with the
 *client's OP_PIPE_READ	the byte comes with a pipe's read end; uint32 block size; runs come through
 *it OP_PIPE_WRITE	with its write end; uint32 block size; for each uint64, nanoseconds, that
 *the client sends, the server writes a run into it for so long
 *
 * A run is blocks of one size, the last of which begins with a byte of 1. Who has read a run
 * sends one byte over the connection (OP_SINK, OP_PIPE_READ). A run ends so, rather than by a
 * half-close, because not every relay carries one.
 */
#ifndef STREAM_H
#define STREAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/un.h>

enum op { OP_ECHO = 'e', OP_SINK = 's', OP_BOTH = 'b', OP_PIPE_READ = 'r', OP_PIPE_WRITE = 'w' };
enum { BACKLOG = 4096, READ_SIZE = 256 << 10, BLOCK_MAX = 16 << 20 };

/** fail() - say what failed, and errno, and exit(1) */
void fail(const char *what) __attribute__((noreturn));
/** usage() - say how it is used, and exit(2) */
void usage(const char *text) __attribute__((noreturn));
void ignore_sigpipe(void);
/** now() - nanoseconds of a clock that only goes forward */
uint64_t now(void);
struct sockaddr_un unix_address(const char *path);
/** allocate() - zeroed memory; ends the program when there is none */
void *allocate(size_t size);

/** told() - say a line to who has started us, on stdout, and wait for one on stdin; false: there
 * will be none any more */
bool told(const char *line);
/** nanoseconds() - of a number of seconds in words */
uint64_t nanoseconds(const char *text);

/** write_all(), read_all() - exactly @size bytes; false: error or end */
bool write_all(int fd, const void *data, size_t size);
bool read_all(int fd, void *data, size_t size);

/**
 * run_write() - a run of @size bytes a block, until @ended(@arg) before a block
 *
 * @block is zeroed and has @size bytes. Returns the bytes written, 0 when it failed.
 */
uint64_t run_write(int fd, char *block, size_t size, bool (*ended)(void *arg), void *arg);
/** run_read() - read a run of @size bytes a block into @buffer, READ_SIZE bytes; as run_write() */
uint64_t run_read(int fd, char *buffer, size_t size);
/** past() - an @ended of run_write(): is it later than *(uint64_t *)@deadline? */
bool past(void *deadline);

/** serve() - listen at @path and serve, as above; "ready" on stdout when it does */
void serve(const char *path) __attribute__((noreturn));

#endif
