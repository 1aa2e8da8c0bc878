/* SPDX-License-Identifier: Apache-2.0 */
/*
 * request.h - what rexec and a program's keeper say to each other
 *
 * A SOCK_STREAM connection carries frames: u32 length of the payload, u8 type, payload; all
 * numbers big-endian. The first frame says what the connection is for:
 *
 *	EXEC	on rexec.sock: run a program. With its first byte come descriptors: the life line,
 *		then those that the program is passed. STARTED or REFUSED answers, then SIGNAL,
 *		AFFINITY, WINDOW, PING and DONE one way, EXITED, GONE and PONG the other.
 *	LIST	on rexec.sock: a PROGRAM answers for each that the client may see, then RESULT.
 *	ATTACH	on sessions/ID.keeper: be the client of this program from now on. With its
 *		first byte come a new life line and output pipes. STARTED or REFUSED answers,
 *		CONFIRM follows (until then the end of the new life line means nothing), and what
 *		was not acknowledged by DONE comes again.
 *	TTY	on ID.keeper: RESULT answers, and after errno 0 the connection is the terminal.
 *	INFO	on ID.keeper: PROGRAM answers.
 *	KILL, SET	on ID.keeper: RESULT answers.
 *
 * The life line is one end of a socketpair(2) on which nothing is ever written. Its end of file
 * means that the client ended; ECONNRESET (which udsproxyd sees to) that the link was lost.
 *
 * A text is a u32 length and so many bytes, the last of which, and no other, is NUL. Signals and
 * errno are the numbers of canon.h. Pure: bytes in, structs out; bounded before allocation.
 */
#ifndef REQUEST_H
#define REQUEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "buf.h"

#define REQUEST_MAGIC 0x52455843u /* "REXC" */
#define REQUEST_VERSION 3
#define REQUEST_HEADER 5u
#define REQUEST_EXEC_MAX 4194304u /* payload of EXEC */
#define REQUEST_SMALL_MAX 8192u	  /* payload of everything else */
#define REQUEST_FDS_MAX 1024u	  /* entries of the descriptor table */
#define REQUEST_FILES_MAX 64u
#define REQUEST_NAME_MAX 64u	  /* of a file, with its NUL */
#define REQUEST_NUMBER_MAX 65535u /* the highest descriptor number */
#define REQUEST_CPUS_MAX 1024u	  /* bytes of a CPU set */
#define REQUEST_REASON_MAX 512u
#define REQUEST_ID_SIZE 33u /* 32 hexadecimal digits and NUL */

#define REXEC_RUNTIME_DIR "/run/rexec"
#define REXEC_SOCKET "rexec.sock"
#define REXEC_SESSIONS "sessions"
#define REXEC_KEEPER_FORMAT "%s.keeper" /* of the ID; beside its directory */
#define REXEC_TWIN_FORMAT "fd%d.sock"
#define REXEC_DIR_MARK "@DIR@"

enum request_type {
	REQUEST_EXEC = 1,
	REQUEST_ATTACH = 2, /* u32 magic, u16 version, u16 flags, u16 descriptors that come along, and for
			     * each but the life line u32 the number of the program's that it is for */
	REQUEST_TTY = 3,    /* text path; "": the terminal that EXEC asked for */
	REQUEST_SIGNAL = 4, /* u8 signal, u8 to the process group */
	REQUEST_AFFINITY = 5, /* u32 thread (0: all), the rest: CPU n is bit n % 8 of byte n / 8 */
	REQUEST_DONE = 6,     /* EXITED without survivors, or GONE, has arrived */
	REQUEST_CONFIRM = 7,  /* the answer to ATTACH has arrived */
	REQUEST_LIST = 8,     /* u32 magic, u16 version */
	REQUEST_INFO = 9,
	REQUEST_KILL = 10,    /* u8 signal, to the process group; 0: SIGTERM to all, then SIGKILL */
	REQUEST_SET = 11,     /* u32 thread, 0: all that there are; text NAME=VALUE (control.h) */
	REQUEST_PING = 12,    /* PONG answers */
	REQUEST_WINDOW = 13,  /* the terminal's size: u16 rows, columns, and both in pixels */
	REQUEST_STARTED = 16, /* u32 pid, u64 another number for another file of the program */
	REQUEST_REFUSED = 17, /* u8 exit status, text reason */
	REQUEST_EXITED = 18,  /* u8 killed, u8 exit status or signal, u8 survivors, u8 its time was over, and
			       * with OFFSETS what offsets_put() puts */
	REQUEST_GONE = 19,
	REQUEST_RESULT = 20, /* u16 errno, text reason */
	REQUEST_PONG = 21,
	REQUEST_PROGRAM = 22, /* struct request_program, in its order */
	REQUEST_TAKEN = 23,   /* to who was the client until now: another is */
};

enum request_flags {
	REQUEST_KEEP = 1,	/* a lost link does not end the program */
	REQUEST_EXPAND_DIR = 2, /* REXEC_DIR_MARK in arguments becomes the session's directory */
	REQUEST_PROXIED = 4,	/* the other end of the connection is a udsproxyd, not the client */
	REQUEST_DETACHED = 8,	/* the program outlives its clients, too; KEEP goes with it */
	REQUEST_OFFSETS = 16,	/* EXITED is to tell where the program has left files */
};

enum request_fd_kind {
	REQUEST_FD_PASS = 1,	 /* u16 index among the passed descriptors, the life line being 0 */
	REQUEST_FD_OUTPUT = 2,	 /* the same; the write end of a pipe that ATTACH passes anew */
	REQUEST_FD_LISTENER = 3, /* u16 canonical socket type: a listening twin */
	REQUEST_FD_TTY = 4,	 /* u16 0: the program's terminal, which is made there */
};

#define REQUEST_OUTPUT_HELD 0 /* the index of an OUTPUT that is passed by ATTACH only */

struct request_fd {
	uint32_t number; /* in the program */
	uint8_t kind;
	uint16_t value;
};

/* Resources that cross, in the wire's order; the local numbers differ between CPUs. */
#define REQUEST_LIMITS 14

struct request_limit {
	uint64_t soft, hard; /* UINT64_MAX: unlimited */
};

/** request_limit_resource() - RLIMIT_... of this machine for the wire's limit @i */
int request_limit_resource(unsigned i);

/* What a terminal is like: termios(3) in the numbers that Linux has on x86 and ARM. */
#define REQUEST_TTY_CHARACTERS 17u

struct request_terminal {
	uint16_t rows, columns, width, height; /* the last two in pixels */
	uint32_t input, output, control, local;
	uint8_t characters[REQUEST_TTY_CHARACTERS];
};

struct request_env {
	const char *assignment; /* NAME=VALUE */
	bool named;		/* asked for by name: arrives or is refused */
};

struct request_file {
	const char *name;
	const void *data;
	size_t size;
};

/* EXEC. To encode, everything is borrowed; decoded, texts point into the payload and the arrays
 * belong to the struct (request_deinit()). */
struct request {
	uint16_t flags;
	uint16_t n_passed; /* descriptors that come along, the life line included */
	uint32_t umask;
	uint64_t ignored, blocked; /* canonical signal n is bit n - 1 */
	const char
		*id; /* the session's, of the client's choice: it can attach before STARTED came */
	const char *cwd;
	const char *user; /* "": as the caller */
	struct request_limit limits[REQUEST_LIMITS];
	uint32_t timeout_s; /* after which the program is ended; 0: never */
	struct request_terminal terminal; /* where a descriptor is TTY */
	size_t argc;
	const char **argv; /* NULL-terminated when decoded */
	size_t n_env;
	struct request_env *env;
	size_t n_fds;
	struct request_fd *fds;
	size_t n_files;
	struct request_file *files;
};

/**
 * request_encode() - @r as a whole frame
 * Return: its size with *@frame allocated (the caller frees it), -E2BIG when it would exceed
 * REQUEST_EXEC_MAX, -ENOMEM.
 */
ssize_t request_encode(const struct request *r, void **frame);

/**
 * request_decode() - the payload of an EXEC, which must stay while @r is used
 * Return: 0; -EPROTONOSUPPORT for another magic or version; -EPROTO malformed or beyond a
 * limit; -ENOMEM. On failure nothing needs freeing.
 */
int request_decode(struct request *r, const void *payload, size_t size);

/** request_deinit() - free the arrays of a decoded request */
void request_deinit(struct request *r);

/* What is told of a program that runs, or whose outcome nobody has taken yet. Texts are borrowed, when
 * decoded from the payload. */
struct request_program {
	const char *id;
	uint32_t pid;
	uint32_t client, user; /* who asked for it, and whom it runs as */
	uint64_t age_s;
	uint8_t state; /* enum request_state */
	uint8_t killed, status; /* as EXITED has them, once it has ended */
	uint8_t attached;	/* somebody is its client */
	const char *command;	/* its arguments, cut to what a frame may hold */
};

enum request_state {
	REQUEST_RUNNING = 1,
	REQUEST_SURVIVED = 2, /* it has ended and left something running */
	REQUEST_ENDED = 3,
};

/* Small frames are built in place: frame_start(), buf_put_...(), frame_end(). */
struct frame_out {
	uint8_t data[REQUEST_HEADER + REQUEST_SMALL_MAX];
	struct buf buf;
};

/** frame_start() - begin a frame of @type */
void frame_start(struct frame_out *f, enum request_type type);
/** frame_text() - put @s, cut to what REQUEST_REASON_MAX allows */
void frame_text(struct frame_out *f, const char *s);
/** frame_end() - Return: the whole frame's size, 0 when it did not fit */
size_t frame_end(struct frame_out *f);

/* Small frames as they come in, in any pieces. */
struct frame_in {
	uint8_t data[REQUEST_HEADER + REQUEST_SMALL_MAX];
	size_t have;
};

/** frame_space() - where to receive the next bytes; *@n how many at most (never 0 after
 * frame_next() returned 0) */
void *frame_space(struct frame_in *f, size_t *n);
/** frame_received() - @n bytes were received there */
void frame_received(struct frame_in *f, size_t n);
/**
 * frame_next() - the next whole frame
 * @type, @payload	set on 1; the payload is valid until frame_skip()
 * Return: 1 a frame, to be dropped by frame_skip(); 0 not yet; -EPROTO too long.
 */
int frame_next(const struct frame_in *f, uint8_t *type, struct buf *payload);
/** frame_skip() - drop the frame that frame_next() told of */
void frame_skip(struct frame_in *f);

/** frame_put_version() - the magic and the version that a connection's first frame begins with */
void frame_put_version(struct buf *b);
/** frame_get_version() - the same read; false for another's */
bool frame_get_version(struct buf *payload);

/** frame_put_size() - how large a terminal is: what WINDOW says, and EXEC first of one */
void frame_put_size(struct buf *b, const struct request_terminal *t);
/** frame_get_size() - the same read; of @t nothing else is touched */
void frame_get_size(struct buf *payload, struct request_terminal *t);

/** frame_put_program() - the payload of PROGRAM */
void frame_put_program(struct frame_out *f, const struct request_program *p);
/** frame_get_program() - the same decoded; 0 or -EPROTO */
int frame_get_program(struct buf *payload, struct request_program *p);

/** frame_header() - length and type of a frame's first REQUEST_HEADER bytes; 0, or -EPROTO when
 * the length is beyond what its type may have */
int frame_header(const void *header, uint32_t *length, uint8_t *type);
/** frame_get_text() - the next text of @payload, NULL (and bad) when it is not one; borrowed */
const char *frame_get_text(struct buf *payload);

#endif
