/* SPDX-License-Identifier: Apache-2.0 */
#include "status.h"

#include <stdarg.h>
#include <stdio.h>

static __attribute__((format(printf, 1, 0))) void say(const char *format, va_list ap)
{
	fputs("qtcfg: ", stderr);
	vfprintf(stderr, format, ap);
	fputc('\n', stderr);
}

enum status fail(enum status status, const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	say(format, ap);
	va_end(ap);
	return status;
}

void note(const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	say(format, ap);
	va_end(ap);
}
