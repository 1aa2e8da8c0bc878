/* SPDX-License-Identifier: Apache-2.0 */
#include "environ.h"

#include <stdlib.h>
#include <string.h>

/* A pattern is a name; with `*` behind it, all names that begin so. */
static const char *const allowed[] = {
	"HOME",
	"USER",
	"LOGNAME",
	"LANG",
	"LANGUAGE",
	"LC_*",
	"TERM",
	"TZ",
	"TMPDIR",
	"XDG_DATA_HOME",
	"XDG_CACHE_HOME",
	"XDG_CONFIG_HOME",
	"XDG_RUNTIME_DIR",
	"QEMU_AUDIO_DRV",
	"SDL_AUDIODRIVER",
	NULL,
};

/* Their values name files or formats when they hold such characters: what sudo(8) drops, too. */
static const char *const plain_values[] = { "LANG", "LANGUAGE", "LC_*", "TERM", "TZ", NULL };

static const char *const forbidden[] = {
	/* of the program itself, and of what it starts */
	"PATH",
	"LD_*",
	"GCONV_PATH",
	"GETCONF_DIR",
	"GLIBC_TUNABLES",
	"HOSTALIASES",
	"LOCALDOMAIN",
	"LOCPATH",
	"MALLOC_*",
	"NIS_PATH",
	"NLSPATH",
	"RESOLV_*",
	"RES_OPTIONS",
	"TZDIR",
	"BASH_ENV",
	"BASH_FUNC_*",
	"BASHOPTS",
	"CDPATH",
	"ENV",
	"IFS",
	"PROMPT_COMMAND",
	"PS4",
	"SHELLOPTS",
	"ZDOTDIR",
	"PYTHON*",
	"PERL*",
	"RUBY*",
	"NODE_*",
	"LUA_*",
	"JAVA_TOOL_OPTIONS",
	"JDK_JAVA_OPTIONS",
	"_JAVA_OPTIONS",
	"GIO_*",
	"GTK_*",
	"GST_*",
	"QT_*",
	"OPENSSL_*",
	"SSLKEYLOGFILE",
	"TAR_OPTIONS",
	"GIT_*",
	"RSYNC_*",
	"CVS_RSH",
	"SSH_ASKPASS",
	"LESSOPEN",
	"LESSCLOSE",
	"PAGER",
	"MANPAGER",
	"SYSTEMD_PAGER",
	"EDITOR",
	"VISUAL",
	"BROWSER",
	"AWKPATH",
	"AWKLIBPATH",
	"ALSA_*",
	"SASL_PATH",
	"KRB5_CONFIG",
	"TERMINFO",
	"TERMINFO_DIRS",
	"TERMCAP",
	NULL,
};

static size_t name_length(const char *assignment)
{
	return strcspn(assignment, "=");
}

static bool matches(const char *const *patterns, const char *assignment)
{
	size_t n = name_length(assignment);

	for (; *patterns; patterns++) {
		size_t len = strlen(*patterns);

		if ((*patterns)[len - 1] == '*') {
			if (n >= len - 1 && !strncmp(*patterns, assignment, len - 1))
				return true;
		} else if (n == len && !strncmp(*patterns, assignment, len)) {
			return true;
		}
	}
	return false;
}

static bool value_plain(const char *value)
{
	return *value != '/' && *value != ':' && !strstr(value, "..") && !strchr(value, '%');
}

bool environ_forbidden(const char *assignment)
{
	return matches(forbidden, assignment);
}

bool environ_offered(const char *assignment)
{
	size_t n = name_length(assignment);

	if (!assignment[n] || !matches(allowed, assignment))
		return false;
	return !matches(plain_values, assignment) || value_plain(assignment + n + 1);
}

const char *environ_refused(const struct request_env *env, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (env[i].named && environ_forbidden(env[i].assignment))
			return env[i].assignment;
	return NULL;
}

static void add(const char **list, size_t *n, const char *assignment)
{
	size_t len = name_length(assignment);

	for (size_t i = 0; i < *n; i++)
		if (name_length(list[i]) == len && !strncmp(list[i], assignment, len))
			return;
	list[(*n)++] = assignment;
}

const char **environ_build(const struct request_env *env, size_t n, const char *const *fixed)
{
	size_t size = n + 1, used = 0;
	const char **list;

	for (size_t i = 0; fixed[i]; i++)
		size++;
	list = calloc(size, sizeof(*list));
	if (!list)
		return NULL;
	for (size_t i = 0; i < n; i++)
		if (env[i].named && !environ_forbidden(env[i].assignment))
			add(list, &used, env[i].assignment);
	for (; *fixed; fixed++)
		add(list, &used, *fixed);
	for (size_t i = 0; i < n; i++)
		if (!env[i].named && environ_offered(env[i].assignment))
			add(list, &used, env[i].assignment);
	return list;
}
