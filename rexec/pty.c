/* SPDX-License-Identifier: Apache-2.0 */
#include "pty.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <termios.h>
#include <unistd.h>

#include "util.h"

/* ---- making it ---- */

static void set_mode(int slave, const struct request_terminal *like)
{
	struct termios mode;

	if (!like->control || tcgetattr(slave, &mode)) /* none was said: as the kernel makes them */
		return;
	mode.c_iflag = like->input;
	mode.c_oflag = like->output;
	mode.c_cflag = like->control;
	mode.c_lflag = like->local;
	memcpy(mode.c_cc, like->characters, MIN(sizeof(mode.c_cc), sizeof(like->characters)));
	tcsetattr(slave, TCSANOW, &mode);
}

/* As grantpt(3) of old: its user's, and write(1) may write to it. */
static int give(int slave, uid_t uid)
{
	const struct group *tty = getgrnam("tty");

	if (geteuid())
		return 0;
	return fchown(slave, uid, tty ? tty->gr_gid : (gid_t)-1) || fchmod(slave, 0620) ? -errno : 0;
}

int pty_open(struct pty *p, const struct request_terminal *like, uid_t uid)
{
	int err;

	p->master = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC | O_NONBLOCK);
	if (p->master < 0 || unlockpt(p->master))
		return -errno;
	p->slave = ioctl(p->master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
	if (p->slave < 0)
		return -errno;
	err = give(p->slave, uid);
	if (err)
		return err;
	set_mode(p->slave, like);
	pty_resize(p, like);
	return 0;
}

void pty_resize(struct pty *p, const struct request_terminal *size)
{
	const struct winsize ws = { .ws_row = size->rows,
				    .ws_col = size->columns,
				    .ws_xpixel = size->width,
				    .ws_ypixel = size->height };

	if (p->master >= 0)
		ioctl(p->master, TIOCSWINSZ, &ws);
}

/* ---- carrying it ---- */

static void forget_client(struct pty *p)
{
	if (p->client < 0)
		return;
	flow_stop(&p->in);
	replace_fd(&p->client, -1);
}

static void on_lost(struct flow *f, int error)
{
	(void)error;
	forget_client(f->arg);
}

/* Behind the last byte that was written by whoever had the slave: EIO. */
static void on_out_closed(struct flow *f, int error)
{
	(void)error;
	forget_client(f->arg);
}

/* The client sends no more; it may still read. */
static void on_in_eof(struct flow *f, int error)
{
	(void)f;
	(void)error;
}

static void on_in_closed(struct flow *f, int error)
{
	(void)f;
	(void)error;
}

static const struct flow_hooks out_hooks = { .lost = on_lost, .closed = on_out_closed };
static const struct flow_hooks in_hooks = { .eof = on_in_eof, .closed = on_in_closed };

void pty_start(struct pty *p, struct loop *l)
{
	if (p->master < 0)
		return;
	flow_start(&p->out, l, p->master, -1, &out_hooks, p); /* as much as a flow queues, and no more yet */
}

void pty_detach(struct pty *p)
{
	if (p->out.loop)
		flow_hold(&p->out, PTY_HOLD);
}

void pty_attach(struct pty *p, struct loop *l, int client)
{
	forget_client(p);
	if (p->out.over) { /* nothing can come any more */
		close_keep_errno(client);
		return;
	}
	p->client = client;
	flow_start(&p->in, l, client, p->master, &in_hooks, p);
	flow_hold(&p->out, PTY_HOLD);
	flow_retarget(&p->out, client);
}

static void on_patience(void *arg)
{
	struct pty *p = arg;

	p->left = true;
}

bool pty_drained(struct pty *p, struct loop *l)
{
	if (p->master < 0)
		return true;
	replace_fd(&p->slave, -1);
	if (flow_drain(&p->out) || p->left)
		return true;
	if (p->client < 0 && !p->patience.loop)
		loop_timer_start(l, &p->patience, PTY_PATIENCE_MS, on_patience, p);
	return false;
}

void pty_end(struct pty *p)
{
	if (p->client < 0 || !flow_drain(&p->out))
		return;
	flow_retarget(&p->out, -1);
	forget_client(p);
}

void pty_deinit(struct pty *p)
{
	if (p->out.loop)
		flow_stop(&p->out);
	forget_client(p);
	loop_timer_stop(&p->patience);
	replace_fd(&p->slave, -1);
	replace_fd(&p->master, -1);
}
