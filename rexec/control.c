/* SPDX-License-Identifier: Apache-2.0 */
#include "control.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proctree.h"
#include "util.h"

static const struct {
	const char *name;
	int value;
	bool realtime;
} policies[] = {
	{ "other", SCHED_OTHER, false }, { "batch", SCHED_BATCH, false }, { "idle", SCHED_IDLE, false },
	{ "fifo", SCHED_FIFO, true },	 { "rr", SCHED_RR, true },
};

static const struct {
	const char *name;
	int resource;
} limits[] = {
	{ "as", RLIMIT_AS },	       { "core", RLIMIT_CORE },	    { "cpu", RLIMIT_CPU },
	{ "data", RLIMIT_DATA },       { "fsize", RLIMIT_FSIZE },   { "locks", RLIMIT_LOCKS },
	{ "memlock", RLIMIT_MEMLOCK }, { "msgqueue", RLIMIT_MSGQUEUE }, { "nice", RLIMIT_NICE },
	{ "nofile", RLIMIT_NOFILE },   { "nproc", RLIMIT_NPROC },   { "rss", RLIMIT_RSS },
	{ "rtprio", RLIMIT_RTPRIO },   { "rttime", RLIMIT_RTTIME }, { "sigpending", RLIMIT_SIGPENDING },
	{ "stack", RLIMIT_STACK },
};

/* ---- parsing ---- */

/* A decimal number of at most @max at *@s, which is moved behind it; -1 when there is none. */
static long get_number(const char **s, long max)
{
	long n = 0;

	if (**s < '0' || **s > '9')
		return -1;
	for (; **s >= '0' && **s <= '9'; (*s)++) {
		n = 10 * n + (**s - '0');
		if (n > max)
			return -1;
	}
	return n;
}

static const char *parse_affinity(struct control *c, const char *s)
{
	static const char wrong[] = "affinity wants CPUs, as in 0-3,5";

	CPU_ZERO(&c->cpus);
	do {
		long first = get_number(&s, CPU_SETSIZE - 1), last = first;

		if (first >= 0 && *s == '-') {
			s++;
			last = get_number(&s, CPU_SETSIZE - 1);
		}
		if (first < 0 || last < first)
			return wrong;
		for (long cpu = first; cpu <= last; cpu++)
			CPU_SET((size_t)cpu, &c->cpus);
	} while (*s == ',' && s++);
	return *s ? wrong : NULL;
}

static const char *parse_scheduler(struct control *c, const char *s)
{
	size_t n = strcspn(s, ":");

	for (size_t i = 0; i < ARRAY_LEN(policies); i++) {
		if (strlen(policies[i].name) != n || strncmp(s, policies[i].name, n) != 0)
			continue;
		c->policy = policies[i].value;
		s += n;
		if (*s)
			s++;
		c->priority = *s ? (int)get_number(&s, 99) : 0;
		if (*s || c->priority < 0 || policies[i].realtime != (c->priority > 0))
			return "scheduler: fifo and rr want a priority, as in fifo:10, the others none";
		return NULL;
	}
	return "scheduler wants other, batch, idle, fifo:N or rr:N";
}

static const char *parse_nice(struct control *c, const char *s)
{
	int sign = *s == '-' ? -1 : 1;
	long n;

	if (*s == '-')
		s++;
	n = get_number(&s, 20);
	if (n < 0 || *s)
		return "nice wants a number from -20 to 19";
	c->priority = sign * (int)n;
	return NULL;
}

static bool get_limit(const char **s, rlim_t *value)
{
	static const char unlimited[] = "unlimited";
	char *end;

	if (!strncmp(*s, unlimited, strlen(unlimited))) {
		*value = RLIM_INFINITY;
		*s += strlen(unlimited);
		return true;
	}
	if (**s < '0' || **s > '9')
		return false;
	errno = 0;
	*value = strtoull(*s, &end, 10);
	*s = end;
	return !errno;
}

static const char *parse_limit(struct control *c, const char *name, size_t n, const char *s)
{
	static const char wrong[] = "limit.NAME wants a number or unlimited, or two of them, as in 1024:4096";
	size_t i = 0;

	while (i < ARRAY_LEN(limits) && (strlen(limits[i].name) != n || strncmp(name, limits[i].name, n) != 0))
		i++;
	if (i == ARRAY_LEN(limits))
		return "limit.NAME: no such limit; prlimit(1) lists them";
	c->resource = limits[i].resource;
	if (!get_limit(&s, &c->limit.rlim_cur))
		return wrong;
	c->limit.rlim_max = c->limit.rlim_cur;
	if (*s == ':' && (s++, !get_limit(&s, &c->limit.rlim_max)))
		return wrong;
	if (*s)
		return wrong;
	return c->limit.rlim_cur > c->limit.rlim_max ? "limit.NAME: the soft limit is above the hard one" : NULL;
}

const char *control_parse(struct control *c, const char *text)
{
	static const struct {
		const char *name;
		enum control_what what;
		const char *(*parse)(struct control *c, const char *s);
	} known[] = {
		{ "affinity=", CONTROL_AFFINITY, parse_affinity },
		{ "scheduler=", CONTROL_SCHEDULER, parse_scheduler },
		{ "nice=", CONTROL_NICE, parse_nice },
	};
	const char *value = strchr(text, '=');

	*c = (struct control){ .what = CONTROL_LIMIT };
	if (!value)
		return "it wants NAME=VALUE";
	value++;
	for (size_t i = 0; i < ARRAY_LEN(known); i++) {
		if (strncmp(text, known[i].name, strlen(known[i].name)) != 0)
			continue;
		c->what = known[i].what;
		return known[i].parse(c, value);
	}
	if (!strncmp(text, "limit.", 6))
		return parse_limit(c, text + 6, (size_t)(value - 1 - text - 6), value);
	return "affinity, scheduler, nice and limit.NAME are known";
}

/* ---- doing ---- */

static int apply_to_thread(const struct control *c, pid_t tid)
{
	const struct sched_param param = { .sched_priority = c->priority };
	int ret = 0;

	switch (c->what) {
	case CONTROL_AFFINITY:
		ret = sched_setaffinity(tid, sizeof(c->cpus), &c->cpus);
		break;
	case CONTROL_SCHEDULER:
		ret = sched_setscheduler(tid, c->policy, &param);
		break;
	case CONTROL_NICE:
		ret = setpriority(PRIO_PROCESS, (id_t)tid, c->priority);
		break;
	case CONTROL_LIMIT:
		ret = prlimit(tid, (__rlimit_resource_t)c->resource, &c->limit, NULL);
		break;
	}
	return ret ? -errno : 0;
}

static int apply_to_process(pid_t pid, void *arg)
{
	const struct control *c = arg;
	char path[32];
	const struct dirent *e;
	int err = 0;
	DIR *dir;

	if (c->what == CONTROL_LIMIT) {
		err = apply_to_thread(c, pid);
		return err == -ESRCH ? 0 : err;
	}
	snprintf(path, sizeof(path), "/proc/%d/task", pid);
	dir = opendir(path);
	while (dir && !err && (e = readdir(dir))) {
		if (*e->d_name == '.')
			continue;
		err = apply_to_thread(c, (pid_t)atoi(e->d_name));
		if (err == -ESRCH) /* it has just ended */
			err = 0;
	}
	if (dir)
		closedir(dir);
	return err;
}

int control_apply(const struct control *c, pid_t top, pid_t tid)
{
	if (!tid)
		return proctree_each(top, apply_to_process, (void *)(uintptr_t)c);
	return proctree_has(top, tid) ? apply_to_thread(c, tid) : -ESRCH;
}
