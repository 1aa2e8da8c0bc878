/* SPDX-License-Identifier: Apache-2.0 */
/*
 * wire.h - the protocol between two udsproxyd, on one page; docs/PROTOCOL.md says it in words
 * (a test holds the two equal)
 *
 * A transport (one TCP or vsock connection) carries frames: a header of 16 bytes and a
 * payload. All numbers are big-endian. Each side's first frame is HELLO. What comes after
 * is the control link's (PING, PONG) or one connection's at a time: OPEN by the side that
 * dialled, OPENED by the other, then both ways DATA, MSG, ORDER, SHUT, STOP, ACK, and END
 * by each; after both ENDs the transport is idle and may carry the next OPEN.
 */
#ifndef WIRE_H
#define WIRE_H

#include <stdint.h>

#define WIRE_MAGIC 0x55445350u /* "UDSP" */
#define WIRE_VERSION 3u

/* Limits: what exceeds one is a violation and ends the transport. */
#define WIRE_HEADER 16u		   /* bytes of a frame header */
#define WIRE_PAYLOAD_MAX 262144u   /* bytes of a payload */
#define WIRE_DESCRIPTORS_MAX 253u  /* descriptors of one MSG (SCM_MAX_FD) */
#define WIRE_NAME_MAX 108u	   /* a socket's name (sun_path) */
#define WIRE_PATH_MAX 4096u	   /* a file's name */
#define WIRE_TAP_NAME_MAX 15u	   /* an interface's name */
#define WIRE_COPY_NAME_MAX 200u	   /* a copy's name, which only people read */
#define WIRE_GROUPS_MAX 1024u	   /* supplementary groups of a client */
#define WIRE_REASON_MAX 256u	   /* a sentence for a person */
#define WIRE_ORDER_MAX 1024u	   /* pipes named in one ORDER */
#define WIRE_ID_SIZE 16u	   /* connection, channel and instance ids: 128 random bits */
#define WIRE_WINDOW 1048576u	   /* so many counted bytes unacknowledged: no further frame begins */
#define WIRE_ACK_EVERY 262144u	   /* counted bytes delivered without a frame to carry the ack */
#define WIRE_PING_SECONDS 3u	   /* a control link silent for so long is asked */
#define WIRE_DEAD_SECONDS 15u	   /* and taken for broken after so much silence */

/*
 * Header: u32 payload length, u8 type, u8 flags (0), u16 count, u64 ack.
 *
 * Counted frames make up the connection's stream: each direction numbers the bytes of its
 * counted frames, headers included, from 0 at OPEN. `ack` is how many of the *receiver's*
 * counted bytes the sender of this frame has delivered; it is what a resumed connection
 * continues from.
 */
enum wire_type {
	WIRE_HELLO = 1,	  /* u32 magic, u16 version, u16 role, u32 features, u32 payload max, id instance */
	WIRE_PING = 2,	  /* control: no payload; answered by PONG */
	WIRE_PONG = 3,	  /* control */
	WIRE_OPEN = 4,	  /* id connection, u8 target, u8 socktype, u16 flags, credentials, str name */
	WIRE_OPENED = 5,  /* u16 errno, str reason; errno 0: the connection is open */
	WIRE_DATA = 6,	  /* counted; bytes (of a packet or datagram socket: one packet) */
	WIRE_MSG = 7,	  /* counted; count descriptors: u32 length, descriptions; then the bytes they came with */
	WIRE_ORDER = 8,	  /* counted; count times (id channel, u64 bytes): deliver these first */
	WIRE_SHUT = 9,	  /* counted; no payload: no more DATA comes */
	WIRE_STOP = 10,	  /* counted; no payload: DATA sent to me is thrown away, my reader is gone */
	WIRE_ACK = 11,	  /* no payload: only the header's ack */
	WIRE_END = 12,	  /* no payload: SHUT sent and received, the transport is free */
	WIRE_ABORT = 13,  /* u16 errno, str reason: the connection ends here, and the transport with it */
	WIRE_RETIRE = 14, /* no payload, by the dialler on an idle transport: close this one first */
	WIRE_RESUME = 15, /* id connection, u64 counted bytes received: instead of OPEN, after a broken transport */
	WIRE_RESUMED = 16, /* u16 errno, u64 counted bytes received; errno 0: each side goes on from there */
	WIRE_GONE = 17,	   /* control: id channel: nobody listens on that twin any more */
	WIRE_TYPE_MAX = 17,
};

enum wire_role {
	WIRE_ROLE_CONTROL = 1,
	WIRE_ROLE_DATA = 2,
};

/* What an OPEN asks to be connected to. */
enum wire_target {
	WIRE_TARGET_NAME = 1,	 /* the listening socket `name` on your side, as this client */
	WIRE_TARGET_CHANNEL = 2, /* the descriptor that a MSG announced; `name` is its 16-byte channel id */
	WIRE_TARGET_LISTENER = 3, /* the listening socket that I passed to you as channel `name`: its twin */
};

/* Credentials: u32 uid, u32 gid, u16 number of groups, u32 each. */

/* Socket types, our own numbers. */
enum wire_socktype {
	WIRE_STREAM = 1,
	WIRE_DGRAM = 2,
	WIRE_SEQPACKET = 3,
};

/* OPEN's flags, of WIRE_DGRAM. The client's socket has a name of that kind: give yours one, so that the
 * server can answer. Or: one datagram comes; when the server has no room for it (for a while, or at all),
 * ABORT with EAGAIN. */
enum wire_dgram_flags {
	WIRE_OPEN_PATH = 1,
	WIRE_OPEN_ABSTRACT = 2,
	WIRE_OPEN_ONE = 4,
	WIRE_OPEN_NOWAIT = 8, /* with WIRE_OPEN_ONE */
};

/* A descriptor's description in MSG: u8 kind, then */
enum wire_descriptor {
	WIRE_FD_PIPE_READ = 1,	/* id channel, u32 open flags, u32 times passed: the receiver gets a read end */
	WIRE_FD_PIPE_WRITE = 2, /* id channel, u32 open flags, u32 times passed: the receiver gets a write end */
	WIRE_FD_SOCKET = 3,	/* id channel, u32 open flags, u8 socktype: one end of a new socketpair */
	WIRE_FD_LISTENER = 4,	/* id channel, u32 open flags, u8 socktype: a listening twin */
	WIRE_FD_FILE = 5,	/* u32 open flags, u64 offset, str path: reopened below a share */
	WIRE_FD_DEVICE = 6,	/* u32 open flags, str name: the same device */
	WIRE_FD_SAME = 7,	/* u16 index of an earlier descriptor of this message: a duplicate of it */
	WIRE_FD_COPY = 8,	/* id channel, u32 open flags, u64 offset, u32 seals, u16 mode, str name: a memfd */
	WIRE_FD_TAP = 9,	/* u32 open flags, u32 tap flags, u32 vnet header bytes, str name: an interface */
};

/*
 * The channel of a copy is a pipe's read end, passed once. In it: any number of times u32 length (not 0)
 * and so many bytes; then u32 0 and u16 errno, 0 when these were all.
 */

/* Of a network interface of a program, our own bits; one of the first two. */
enum wire_tap_flags {
	WIRE_TAP_TUN = 1, /* it has packets */
	WIRE_TAP_TAP = 2, /* it has Ethernet frames */
	WIRE_TAP_NO_PI = 4,
	WIRE_TAP_VNET_HDR = 8,
	WIRE_TAP_MULTI_QUEUE = 16,
};

/* Seals of a copy, our own bits. */
enum wire_seals {
	WIRE_SEAL_SEAL = 1,
	WIRE_SEAL_SHRINK = 2,
	WIRE_SEAL_GROW = 4,
	WIRE_SEAL_WRITE = 8,
	WIRE_SEAL_FUTURE_WRITE = 16,
	WIRE_SEAL_EXEC = 32,
};

/* Open flags, our own bits (open(2) has other numbers on other CPUs). */
enum wire_open_flags {
	WIRE_O_READ = 1,
	WIRE_O_WRITE = 2,
	WIRE_O_APPEND = 4,
	WIRE_O_NONBLOCK = 8,
	WIRE_O_SYNC = 16,
	WIRE_O_DSYNC = 32,
	WIRE_O_DIRECT = 64,
	WIRE_O_DIRECTORY = 128,
};

#endif
