/* SPDX-License-Identifier: Apache-2.0 */
#include "manage.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "canon.h"
#include "printable.h"
#include "session.h"
#include "util.h"

#define ID_SHOWN 12 /* digits: enough to differ */

/* ---- which ---- */

struct search {
	const char *begin;
	char *id;
	unsigned n;
};

static void compare(const struct request_program *p, void *arg)
{
	struct search *s = arg;

	if (strncmp(p->id, s->begin, strlen(s->begin)) != 0)
		return;
	if (!s->n++)
		strcpy(s->id, p->id);
}

int manage_find(const struct options *o, char id[REQUEST_ID_SIZE], char *reason)
{
	struct search s = { .begin = o->id, .id = id };
	int err;

	if (strlen(o->id) == REQUEST_ID_SIZE - 1) {
		strcpy(id, o->id);
		return 0;
	}
	err = session_list(o->local, compare, &s, reason);
	if (err || s.n == 1)
		return err;
	if (s.n)
		snprintf(reason, SESSION_REASON_MAX, "%u programs have an ID that begins with %s", s.n, o->id);
	else
		snprintf(reason, SESSION_REASON_MAX, "there is no program whose ID begins with %s", o->id);
	return -ESRCH;
}

/* ---- list ---- */

static const char *describe_state(const struct request_program *p, char *text, size_t size)
{
	const char *how = p->state == REQUEST_SURVIVED ? "left" : "ended";
	int signo = p->killed ? local_signal(p->status) : 0;

	if (p->state == REQUEST_RUNNING)
		return p->attached ? "running" : "detached";
	if (signo)
		snprintf(text, size, "%s:%s", how, sigabbrev_np(signo));
	else
		snprintf(text, size, "%s:%u", how, p->status);
	return text;
}

static void tell(const struct request_program *p, void *arg)
{
	char state[32], command[REQUEST_REASON_MAX];
	uint64_t s = p->age_s;

	(void)arg;
	/* Arguments may be another user's, and hold what a terminal acts on. */
	snprintf(command, sizeof(command), "%s", p->command);
	printable(command);
	printf("%.*s %8u %8u %3" PRIu64 ":%02" PRIu64 ":%02" PRIu64 " %-10s %s\n", ID_SHOWN, p->id, p->pid, p->user,
	       s / 3600, s / 60 % 60, s % 60, describe_state(p, state, sizeof(state)), command);
}

/* ---- the commands ---- */

static int list(const struct options *o, char *reason)
{
	printf("%-*s %8s %8s %9s %-10s %s\n", ID_SHOWN, "ID", "PID", "UID", "TIME", "STATE", "PROGRAM");
	return session_list(o->local, tell, NULL, reason);
}

/* A number or a name, with SIG before it or not; 0: neither. */
static int parse_signal(const char *word)
{
	char *end;
	long n = strtol(word, &end, 10);

	if (isdigit((unsigned char)*word))
		return !*end && n > 0 && n < NSIG && canon_signal((int)n) ? (int)n : 0;
	if (!strncasecmp(word, "SIG", 3))
		word += 3;
	for (int signo = 1; signo < NSIG; signo++)
		if (sigabbrev_np(signo) && !strcasecmp(sigabbrev_np(signo), word))
			return signo;
	return 0;
}

static int kill_it(const struct options *o, char *reason)
{
	int signo = *o->argv ? parse_signal(*o->argv) : 0;
	char id[REQUEST_ID_SIZE];
	int err;

	if (*o->argv && !signo) {
		snprintf(reason, SESSION_REASON_MAX, "no such signal: %s", *o->argv);
		return -EINVAL;
	}
	err = manage_find(o, id, reason);
	return err ? err : session_kill(id, signo, o->local, reason);
}

static int set(const struct options *o, char *reason)
{
	char id[REQUEST_ID_SIZE], why[SESSION_REASON_MAX];
	int err = manage_find(o, id, reason);

	for (char **at = o->argv; !err && *at; at++) {
		err = session_set(id, o->thread, *at, o->local, why);
		if (err)
			snprintf(reason, SESSION_REASON_MAX, "%.64s: %.400s", *at, why);
	}
	return err;
}

int manage(struct options *o)
{
	char reason[SESSION_REASON_MAX] = "";
	int err;

	if (o->command == COMMAND_LIST)
		err = list(o, reason);
	else
		err = o->command == COMMAND_KILL ? kill_it(o, reason) : set(o, reason);
	if (err)
		complain("%s", *reason ? reason : strerrordesc_np(-err));
	options_deinit(o);
	return err ? EXIT_REXEC_FAILED : 0;
}
