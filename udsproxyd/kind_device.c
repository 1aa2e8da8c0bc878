/* SPDX-License-Identifier: Apache-2.0 */
#include "kind.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "session.h"
#include "util.h"

/* Those that are the same everywhere; major 1. */
static const struct {
	const char *name;
	unsigned minor;
} always[] = { { "/dev/null", 3 }, { "/dev/zero", 5 }, { "/dev/full", 7 }, { "/dev/urandom", 9 } };

static const char *find_device(const struct config *c, dev_t rdev)
{
	struct stat st;

	for (size_t i = 0; i < ARRAY_LEN(always); i++)
		if (rdev == makedev(1, always[i].minor))
			return always[i].name;
	for (size_t i = 0; i < c->n_devices; i++)
		if (!stat(c->devices[i], &st) && S_ISCHR(st.st_mode) && st.st_rdev == rdev)
			return c->devices[i];
	return NULL;
}

/* tty(4), pts(4), serial lines. */
static bool is_terminal(dev_t rdev)
{
	return major(rdev) == 4 || major(rdev) == 5 || (major(rdev) >= 136 && major(rdev) <= 143);
}

int kind_look_device(const struct config *c, dev_t rdev, struct item *item, char *reason)
{
	const char *name = find_device(c, rdev);

	if (!name)
		return kind_refuse(reason, is_terminal(rdev)
						   ? "a terminal"
						   : "a device that is not listed (--device)");
	item->d.kind = WIRE_FD_DEVICE;
	kind_set_name(item, name);
	return 0;
}

int kind_make_device(struct session *s, const struct description *d)
{
	const struct config *c = &s->worker->daemon->config;
	char name[WIRE_PATH_MAX];
	bool allowed = false;
	int fd;

	kind_name_string(d, name);
	for (size_t i = 0; i < ARRAY_LEN(always); i++)
		allowed |= !strcmp(always[i].name, name);
	for (size_t i = 0; i < c->n_devices; i++)
		allowed |= !strcmp(c->devices[i], name);
	if (!allowed)
		return -EACCES;
	fd = open(name, description_local_flags(d->flags) | O_CLOEXEC | O_NOCTTY);
	return fd < 0 ? -errno : fd;
}
