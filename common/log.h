/* SPDX-License-Identifier: Apache-2.0 */
/*
 * log.h - one line an event, to stderr; never a payload, an environment or a key
 *
 * Lines carry the sd-daemon(3) priority prefix "<N>" when stderr is the journal
 * (JOURNAL_STREAM is set), and a time otherwise. Thread-safe: one write(2) a line.
 */
#ifndef LOG_H
#define LOG_H

enum log_level { LOG_LEVEL_ERROR = 3, LOG_LEVEL_WARNING = 4, LOG_LEVEL_INFO = 6, LOG_LEVEL_DEBUG = 7 };

/** log_init() - @name (borrowed, for ever) leads every line; what is above @max is dropped */
void log_init(const char *name, enum log_level max);
/** log_parse_level() - "error", "warning", "info" or "debug"; -1 when it is none of them */
int log_parse_level(const char *word);
/** log_line() - write one line; errno is left as it was */
void log_line(enum log_level level, const char *format, ...) __attribute__((format(printf, 2, 3)));

#define log_error(...) log_line(LOG_LEVEL_ERROR, __VA_ARGS__)
#define log_warning(...) log_line(LOG_LEVEL_WARNING, __VA_ARGS__)
#define log_info(...) log_line(LOG_LEVEL_INFO, __VA_ARGS__)
#define log_debug(...) log_line(LOG_LEVEL_DEBUG, __VA_ARGS__)

/** die() - log an error and exit(1). Only before a daemon is ready; 2 is for bad usage. */
void die(const char *format, ...) __attribute__((format(printf, 1, 2), noreturn));

#endif
