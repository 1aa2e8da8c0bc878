/* SPDX-License-Identifier: Apache-2.0 */
#include "roster.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "canon.h"
#include "fdpass.h"
#include "request.h"
#include "sessiondir.h"
#include "util.h"

#define KEEPER_TIMEOUT_MS 500 /* one that does not answer by then is left out */
#define CLIENT_TIMEOUT_MS 10000

/* Neither a keeper nor a client that does nothing is waited for longer. */
static int set_patience(int sock, unsigned ms)
{
	const struct timeval patience = { .tv_sec = ms / 1000, .tv_usec = ms % 1000 * 1000 };

	return setsockopt(sock, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience)) ||
	       setsockopt(sock, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
}

/* What the keeper answers, into @p, whose texts lie in @in; false when it is nothing. */
static bool ask(int keeper, struct frame_in *in, struct request_program *p)
{
	struct frame_out f;
	struct buf payload;
	uint8_t type;

	frame_start(&f, REQUEST_INFO);
	if (fd_sendmsg(keeper, f.data, frame_end(&f), 0, NULL, NULL) < 0)
		return false;
	while (frame_next(in, &type, &payload) == 0) {
		size_t space;
		void *at = frame_space(in, &space);
		ssize_t n = recv(keeper, at, space, 0);

		if (n <= 0)
			return false;
		frame_received(in, (size_t)n);
	}
	return frame_next(in, &type, &payload) > 0 && type == REQUEST_PROGRAM && !frame_get_program(&payload, p);
}

/* What the keeper of @id says, for @client's eyes, on to @conn; a negative errno when nobody takes it. */
static int tell_one(int conn, int sessions, const char *id, uid_t client)
{
	_cleanup_close_ int keeper = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct frame_in in = { .have = 0 };
	struct request_program p;
	struct frame_out f;

	if (keeper < 0 || set_patience(keeper, KEEPER_TIMEOUT_MS) || sessiondir_connect(keeper, sessions, id))
		return 0;
	if (!ask(keeper, &in, &p) || (client && p.client != client))
		return 0;
	frame_start(&f, REQUEST_PROGRAM);
	frame_put_program(&f, &p);
	return (int)MIN(fd_sendmsg(conn, f.data, frame_end(&f), 0, NULL, NULL), 0);
}

void roster_serve(int conn, int sessions)
{
	_cleanup_close_ int copy = openat(sessions, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = copy < 0 ? NULL : fdopendir(copy);
	struct ucred cred;
	const struct dirent *e;
	struct frame_out f;
	int err = dir ? 0 : EIO;

	if (dir)
		take_fd(&copy);
	if (set_patience(conn, CLIENT_TIMEOUT_MS) || fd_peer(conn, &cred))
		err = EIO;
	while (!err && (e = readdir(dir)))
		if (strlen(e->d_name) == REQUEST_ID_SIZE - 1)
			err = -tell_one(conn, sessions, e->d_name, cred.uid);
	if (dir)
		closedir(dir);
	frame_start(&f, REQUEST_RESULT);
	buf_put_u16(&f.buf, canon_errno(err));
	frame_text(&f, "");
	fd_sendmsg(conn, f.data, frame_end(&f), 0, NULL, NULL);
}
