/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How it works: a new thread has its maker's CPUs, on both sides, so one that was made when the
 * emulator had not been pinned is like its shadow from the beginning, and the HOST need not be told
 * of it. All others are told of once, and again when they change. The emulator's CPUs are given to
 * all of QEMU's threads, because the HOST knows some that we do not; a moment later those that we
 * know get their own back.
 */
#include "shadow.h"

#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "affinity.h"
#include "log.h"
#include "util.h"

#define SYSTEM_CPUS "/sys/devices/system/cpu/"

typedef unsigned long cpu_words[AFFINITY_CPUS_MAX / (8 * sizeof(unsigned long))];

struct shadow {
	struct shadow *next;
	int64_t host; /* 0: all threads */
	pid_t local;
	cpu_words cpus; /* as the HOST was told last */
	bool told;	/* it ever was */
	bool due;	/* it is to be, whether or not they have changed */
	struct affinity *fixed;
	sem_t born;
};

static void *stand(void *arg)
{
	struct shadow *s = arg;

	s->local = gettid();
	sem_post(&s->born);
	for (;;)
		pause();
	return NULL;
}

static bool thread_start(struct shadow *s)
{
	pthread_attr_t attr;
	pthread_t thread;
	int ret;

	if (pthread_attr_init(&attr))
		return false;
	pthread_attr_setstacksize(&attr, (size_t)PTHREAD_STACK_MIN);
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	ret = pthread_create(&thread, &attr, stand, s);
	pthread_attr_destroy(&attr);
	if (ret)
		return false;
	while (sem_wait(&s->born))
		;
	return true;
}

static void get_cpus(pid_t thread, cpu_words cpus)
{
	memset(cpus, 0, sizeof(cpu_words));
	sched_getaffinity(thread, sizeof(cpu_words), (cpu_set_t *)(void *)cpus);
}

pid_t shadow_of(struct shadows *s, int64_t host)
{
	struct shadow *new;

	for (const struct shadow *i = s->list; i; i = i->next)
		if (i->host == host)
			return i->local;
	new = s->n < SHADOW_MAX ? calloc(1, sizeof(*new)) : NULL;
	if (!new)
		return getpid();
	sem_init(&new->born, 0, 0);
	if (!thread_start(new)) {
		log_warning("no thread to stand for QEMU's thread %lld: it cannot be pinned",
			    (long long)host);
		free(new);
		return getpid();
	}
	new->host = host;
	get_cpus(new->local, new->cpus);
	new->due = s->emulator && s->emulator->told;
	new->next = s->list;
	s->list = new;
	s->n++;
	return new->local;
}

/* ---- CPUs that nobody here can change ---- */

static void fix(struct shadow *shadow, const char *words, const char *name)
{
	struct affinity *cpus = malloc(sizeof(*cpus));

	if (shadow->fixed || !cpus || !affinity_named(cpus, words, name)) {
		free(cpus);
		return;
	}
	shadow->fixed = cpus;
	shadow->due = true;
}

void shadow_name(struct shadows *s, pid_t local, const char *name)
{
	for (struct shadow *i = s->list; s->fixed && i; i = i->next)
		if (i->local == local)
			fix(i, s->fixed, name);
}

/* ---- what the HOST is told ---- */

/* The CPUs in a file of sysfs. Return: false when it has none. */
static bool read_cpus(const char *path, struct affinity *cpus)
{
	_cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC);
	char text[4096];
	const char *end;
	ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);

	text[n > 0 ? n : 0] = '\0';
	return affinity_parse(cpus, text, &end);
}

/* The CPUs that the kernel has, whatever sysfs was made to show. */
static void kernel_cpus(struct affinity *cpus)
{
	FILE *stat = fopen("/proc/stat", "re");
	_cleanup_free_ char *line = NULL;
	size_t size = 0;
	unsigned int cpu;

	*cpus = (struct affinity){ 0 };
	while (stat && getline(&line, &size, stat) > 0)
		if (sscanf(line, "cpu%u ", &cpu) == 1 && cpu < AFFINITY_CPUS_MAX)
			affinity_add(cpus, cpu);
	if (stat)
		fclose(stat);
}

/* Has it every CPU of this machine that libvirt gives to what is not pinned? */
static bool is_everywhere(const struct affinity *cpus)
{
	struct affinity ours, online, isolated;
	bool some_isolated = read_cpus(SYSTEM_CPUS "isolated", &isolated);
	bool known = read_cpus(SYSTEM_CPUS "online", &online);

	kernel_cpus(&ours);
	for (unsigned int cpu = 0; cpu < 8 * ours.size; cpu++) {
		if (!affinity_has(&ours, cpu) || (known && !affinity_has(&online, cpu)) ||
		    (some_isolated && affinity_has(&isolated, cpu)))
			continue;
		if (!affinity_has(cpus, cpu))
			return false;
	}
	return true;
}

/* Return: false when it may run everywhere. */
static bool to_affinity(const cpu_words words, struct affinity *cpus)
{
	unsigned int word_bits = 8 * sizeof(*words);

	*cpus = (struct affinity){ 0 };
	for (unsigned int cpu = 0; cpu < AFFINITY_CPUS_MAX; cpu++)
		if (words[cpu / word_bits] >> cpu % word_bits & 1)
			affinity_add(cpus, cpu);
	if (!is_everywhere(cpus))
		return true;
	affinity_all(cpus);
	return false;
}

struct teller {
	int (*pin)(void *arg, pid_t host, const uint8_t *cpus, size_t size);
	void *arg;
};

static bool tell(struct shadow *s, const struct teller *teller, const struct affinity *cpus)
{
	s->due = teller->pin(teller->arg, (pid_t)s->host, cpus->cpus, cpus->size);
	s->told |= !s->due;
	return !s->due;
}

/* Return: whether the HOST was told. */
static bool mirror(struct shadow *s, const struct teller *teller)
{
	struct affinity cpus;
	cpu_words now;

	if (s->fixed)
		return s->due && tell(s, teller, s->fixed);
	get_cpus(s->local, now);
	if (!s->due && !memcmp(now, s->cpus, sizeof(now)))
		return false;
	if (!to_affinity(now, &cpus) && !s->told && !s->due) {
		memcpy(s->cpus, now, sizeof(now)); /* as it was, on both sides */
		return false;
	}
	if (!tell(s, teller, &cpus))
		return false;
	memcpy(s->cpus, now, sizeof(now));
	return true;
}

static struct shadow *emulator_of(struct shadows *s)
{
	struct shadow *new = s->emulator ? NULL : calloc(1, sizeof(*new));

	if (new) {
		new->local = getpid();
		if (s->fixed)
			fix(new, s->fixed, "emulator");
		s->emulator = new;
	}
	return s->emulator;
}

bool shadow_mirror(struct shadows *s,
		   int (*pin)(void *arg, pid_t host, const uint8_t *cpus, size_t size), void *arg)
{
	const struct teller teller = { pin, arg };
	struct shadow *emulator = emulator_of(s);
	bool all = emulator && mirror(emulator, &teller), left = emulator && emulator->due;

	for (struct shadow *i = s->list; i; i = i->next) {
		i->due |= all;
		mirror(i, &teller);
		left |= i->due;
	}
	return !left;
}

void shadow_tell_again(struct shadows *s)
{
	if (s->emulator)
		s->emulator->due |= s->emulator->told;
	for (struct shadow *i = s->list; i; i = i->next)
		i->due |= i->told;
}
