/* SPDX-License-Identifier: Apache-2.0 */
#include "locked.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

/* F_GETLK does not tell of a process's own locks; /proc does. */
bool locked_by_us(int fd)
{
	char path[64], line[256];
	bool locked = false;
	struct stat st;
	FILE *info;

	if (fstat(fd, &st) || !S_ISREG(st.st_mode))
		return false;
	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", fd);
	info = fopen(path, "re");
	while (info && !locked && fgets(line, sizeof(line), info))
		locked = !strncmp(line, "lock:", 5) && strstr(line, "POSIX");
	if (info)
		fclose(info);
	return locked;
}
