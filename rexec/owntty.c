/* SPDX-License-Identifier: Apache-2.0 */
#include "owntty.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "util.h"

#define FOREGROUND_MS 200

/* A terminal's own description does not block us when somebody else reads what poll(2) told of; a file's offset is the
 * caller's. */
static int own_descriptor(int fd, int access_mode)
{
	int own = isatty(fd) ? flow_reopen(fd, access_mode) : fcntl(fd, F_DUPFD_CLOEXEC, 3);

	return own < 0 ? open("/dev/null", access_mode | O_CLOEXEC) : own;
}

bool owntty_size(const struct owntty *t, struct request_terminal *size)
{
	struct winsize ws;

	if (t->terminal < 0 || ioctl(t->terminal, TIOCGWINSZ, &ws))
		return false;
	size->rows = ws.ws_row;
	size->columns = ws.ws_col;
	size->width = ws.ws_xpixel;
	size->height = ws.ws_ypixel;
	return true;
}

int owntty_open(struct owntty *t, struct request_terminal *like, bool input)
{
	*t = (struct owntty){ .terminal = -1, .remote = -1, .end = 4 };
	*like = (struct request_terminal){ 0 };
	t->in = input ? own_descriptor(STDIN_FILENO, O_RDONLY) : open("/dev/null", O_RDONLY | O_CLOEXEC);
	t->out = own_descriptor(STDOUT_FILENO, O_WRONLY);
	if (t->in < 0 || t->out < 0)
		return -EMFILE;
	if (isatty(t->in))
		t->terminal = t->in;
	else if (isatty(t->out))
		t->terminal = t->out;
	if (!owntty_size(t, like) || tcgetattr(t->terminal, &t->mode))
		return 0;
	like->input = t->mode.c_iflag;
	like->output = t->mode.c_oflag;
	like->control = t->mode.c_cflag;
	like->local = t->mode.c_lflag;
	memcpy(like->characters, t->mode.c_cc, MIN(sizeof(t->mode.c_cc), sizeof(like->characters)));
	t->end = t->mode.c_cc[VEOF];
	return 0;
}

/* ---- carrying ---- */

static void on_typed(struct flow *f, const void *bytes, size_t n, struct fdset *fds)
{
	struct owntty *t = f->arg;

	t->line_begun = ((const char *)bytes)[n - 1] != '\n';
	flow_send(f, bytes, n, fds);
}

/* A terminal knows no end of file but this character: the first one ends a line that was begun. */
static void on_input_end(struct flow *f, int error)
{
	struct owntty *t = f->arg;
	const uint8_t ends[2] = { t->end, t->end };

	(void)error;
	if (t->terminal != t->in)
		flow_send(f, ends, t->line_begun ? 2 : 1, NULL);
}

static void on_closed(struct flow *f, int error)
{
	(void)f;
	(void)error;
}

static void on_unseen(struct flow *f, int error)
{
	struct owntty *t = f->arg;

	(void)error;
	t->unseen = true;
	if (t->terminal == t->out)
		t->terminal = -1;
	replace_fd(&t->out, open("/dev/null", O_WRONLY | O_CLOEXEC));
	flow_retarget(f, t->out);
}

static const struct flow_hooks typed = { .data = on_typed, .eof = on_input_end, .closed = on_closed };
static const struct flow_hooks shown = { .lost = on_unseen, .closed = on_closed };

/* Only what is typed is to be raw: the output of a pipeline that starts here, `rexec -t x <file`, goes to a terminal that
 * others use, too, but nothing is typed for us then. */
static bool is_typed(const struct owntty *t)
{
	return t->terminal >= 0 && t->terminal == t->in;
}

static void be_raw(struct owntty *t)
{
	struct termios mode = t->mode;

	cfmakeraw(&mode);
	t->raw = !tcsetattr(t->terminal, TCSANOW, &mode);
}

/* To set a terminal's mode there, or to read, would stop us. */
static bool in_background(const struct owntty *t)
{
	pid_t foreground = tcgetpgrp(t->terminal);

	return foreground > 0 && foreground != getpgrp();
}

static void on_later(void *arg)
{
	owntty_resume(arg);
}

void owntty_resume(struct owntty *t)
{
	if (!t->loop || !is_typed(t))
		return;
	flow_stop(&t->to);
	if (in_background(t)) { /* no signal tells when that is over */
		loop_timer_start(t->loop, &t->later, FOREGROUND_MS, on_later, t);
		return;
	}
	be_raw(t);
	flow_start(&t->to, t->loop, t->in, t->remote, &typed, t);
}

void owntty_restore(struct owntty *t)
{
	loop_timer_stop(&t->later);
	if (t->loop && is_typed(t))
		flow_stop(&t->to);
	if (t->raw)
		tcsetattr(t->terminal, TCSANOW, &t->mode);
	t->raw = false;
}

void owntty_start(struct owntty *t, struct loop *l, int remote)
{
	owntty_restore(t);
	if (t->loop) {
		flow_stop(&t->to);
		flow_stop(&t->from);
	}
	t->loop = l;
	replace_fd(&t->remote, remote);
	flow_start(&t->from, l, remote, t->out, &shown, t);
	flow_start(&t->to, l, t->in, remote, &typed, t);
	owntty_resume(t);
}

bool owntty_drained(struct owntty *t)
{
	if (t->remote < 0)
		return true;
	flow_drain(&t->from);
	/* Empty is not enough: what was written may be on its way still when the outcome is here. */
	return t->from.over;
}

void owntty_deinit(struct owntty *t)
{
	owntty_restore(t);
	if (t->loop) {
		flow_stop(&t->to);
		flow_stop(&t->from);
	}
	t->loop = NULL;
	replace_fd(&t->remote, -1);
	replace_fd(&t->in, -1);
	replace_fd(&t->out, -1);
}
