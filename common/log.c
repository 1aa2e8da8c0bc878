/* SPDX-License-Identifier: Apache-2.0 */
#include "log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "printable.h"
#include "util.h"

#define LINE_MAX_BYTES 1024

static const char *log_name = "?";
static enum log_level log_max = LOG_LEVEL_INFO;
static bool log_to_journal;

void log_init(const char *name, enum log_level max)
{
	log_name = name;
	log_max = max;
	log_to_journal = getenv("JOURNAL_STREAM") != NULL;
}

int log_parse_level(const char *word)
{
	static const struct {
		const char *word;
		enum log_level level;
	} levels[] = {
		{ "error", LOG_LEVEL_ERROR },
		{ "warning", LOG_LEVEL_WARNING },
		{ "info", LOG_LEVEL_INFO },
		{ "debug", LOG_LEVEL_DEBUG },
	};

	for (size_t i = 0; i < ARRAY_LEN(levels); i++)
		if (!strcmp(word, levels[i].word))
			return (int)levels[i].level;
	return -1;
}

static int prefix(char *line, size_t size, enum log_level level)
{
	struct timespec now;
	struct tm tm;

	if (log_to_journal)
		return snprintf(line, size, "<%d>", (int)level);
	clock_gettime(CLOCK_REALTIME, &now);
	localtime_r(&now.tv_sec, &tm);
	return snprintf(line, size, "%02d:%02d:%02d.%03ld %s: ", tm.tm_hour, tm.tm_min, tm.tm_sec,
			now.tv_nsec / 1000000, log_name);
}

static void __attribute__((format(printf, 2, 0))) vlog(enum log_level level, const char *format, va_list args)
{
	char line[LINE_MAX_BYTES];
	int saved = errno;
	size_t n = (size_t)prefix(line, sizeof(line), level);
	int more;

	errno = saved; /* for %m */
	more = vsnprintf(line + n, sizeof(line) - n - 1, format, args);
	n += MIN((size_t)MAX(more, 0), sizeof(line) - n - 2);
	/* A peer's name may hold a line break: one event stays one line. */
	printable(line);
	line[n++] = '\n';
	if (write(STDERR_FILENO, line, n) < 0) {
		/* Nobody to tell. */
	}
	errno = saved;
}

void log_line(enum log_level level, const char *format, ...)
{
	va_list args;

	if (level > log_max)
		return;
	va_start(args, format);
	vlog(level, format, args);
	va_end(args);
}

void die(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vlog(LOG_LEVEL_ERROR, format, args);
	va_end(args);
	exit(1);
}
