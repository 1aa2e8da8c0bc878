/* SPDX-License-Identifier: Apache-2.0 */
#include "shadow.h"

#include <limits.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "log.h"

#define CPUS_MAX 8192

typedef unsigned long cpu_words[CPUS_MAX / (8 * sizeof(unsigned long))];

struct shadow {
	struct shadow *next;
	int64_t host;
	pid_t local;
	cpu_words cpus; /* as the HOST was told last */
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
	new->next = s->list;
	s->list = new;
	s->n++;
	return new->local;
}

/* The set as session_affinity() has it, whatever this machine's byte order. */
static size_t to_bytes(const cpu_words cpus, uint8_t *bytes)
{
	size_t word_bits = 8 * sizeof(*cpus), size = 0;

	memset(bytes, 0, CPUS_MAX / 8);
	for (size_t cpu = 0; cpu < CPUS_MAX; cpu++) {
		if (!(cpus[cpu / word_bits] >> cpu % word_bits & 1))
			continue;
		bytes[cpu / 8] |= (uint8_t)(1u << cpu % 8);
		size = cpu / 8 + 1;
	}
	return size;
}

void shadow_mirror(struct shadows *s,
		   int (*pin)(void *arg, pid_t host, const uint8_t *cpus, size_t size), void *arg)
{
	uint8_t bytes[CPUS_MAX / 8];
	cpu_words now;

	for (struct shadow *i = s->list; i; i = i->next) {
		get_cpus(i->local, now);
		if (!memcmp(now, i->cpus, sizeof(now)))
			continue;
		if (!pin(arg, (pid_t)i->host, bytes, to_bytes(now, bytes)))
			memcpy(i->cpus, now, sizeof(now));
	}
}
