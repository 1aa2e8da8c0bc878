/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pin.c - why what was read is what is executed
 *
 * Between reading and execveat(2) nothing keeps a file from being written: ETXTBSY begins with the
 * latter. Another file in its place does not matter, for the descriptor is of the one that was
 * read. To write into that one
 *  - it must be open for writing. Outside test mode only root (or our own user) may open it so; but
 *    somebody may have done that before it was root's.
 *  - So there is a read lease on it (fcntl(2), F_SETLEASE). The kernel gives none while the file is
 *    open, or mapped, for writing anywhere, and while it lasts, open(2) for writing and truncate(2)
 *    wait: for /proc/sys/fs/lease-break-time, 45 s, then they break it.
 *  - That it still lasts is looked at after reading; from there to execveat are milliseconds. After
 *    that ETXTBSY holds.
 * The lease goes with the last descriptor of this open file: the program's copy is CLOEXEC, and
 * the keeper closes its own once the program runs. Who waits for the file costs us a signal, for
 * which one is chosen that nobody minds.
 *
 * A copy in a sealed memfd would be as safe, on any file system. But it is memory for each start
 * that is shared with no other (of QEMU 20 MB), no profile of AppArmor knows its path, and no tool
 * what it is. A file system without leases is refused.
 */
#include "pin.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "trust.h"
#include "util.h"

/* So much that free(3) gives it back to the kernel: a keeper stays as long as its program. */
#define PIECE 262144

static int take_lease(int fd, const char *path, char *reason, size_t size)
{
	if (!fcntl(fd, F_SETSIG, SIGURG) && !fcntl(fd, F_SETLEASE, F_RDLCK))
		return 0;
	if (errno == EAGAIN)
		snprintf(reason, size, "%.300s: somebody has it open for writing", path);
	else if (errno == EACCES)
		snprintf(reason, size,
			 "%.300s: a rexec_server that is not root's can hold only its own user's "
			 "files to a sha256=",
			 path);
	else
		snprintf(reason, size,
			 "%.300s: sha256= needs a file system with leases (fcntl(2), F_SETLEASE): "
			 "%s",
			 path, strerrordesc_np(errno));
	return -EACCES;
}

static int update(EVP_MD_CTX *context, int fd)
{
	_cleanup_free_ unsigned char *piece = malloc(PIECE);
	off_t at = 0;
	ssize_t n;

	if (!piece)
		return -ENOMEM;
	while ((n = pread(fd, piece, PIECE, at))) {
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (!at && (n < SELFMAG || memcmp(piece, ELFMAG, SELFMAG) != 0))
			return -ENOEXEC;
		if (!EVP_DigestUpdate(context, piece, (size_t)n))
			return -EIO;
		at += n;
	}
	return at ? 0 : -ENOEXEC;
}

static int digest_of(int fd, unsigned char *digest)
{
	EVP_MD_CTX *context = EVP_MD_CTX_new();
	int err = -ENOMEM;

	if (context && EVP_DigestInit_ex(context, EVP_sha256(), NULL))
		err = update(context, fd);
	if (!err && !EVP_DigestFinal_ex(context, digest, NULL))
		err = -EIO;
	EVP_MD_CTX_free(context);
	return err;
}

static int read_pinned(int fd, const char *path, unsigned char *digest, char *reason, size_t size)
{
	int err = digest_of(fd, digest);

	if (err == -ENOEXEC) {
		snprintf(reason, size,
			 "%.300s: sha256= is for ELF programs alone: a script's is not its "
			 "interpreter's",
			 path);
	} else if (err) {
		snprintf(reason, size, "%.300s: %s", path, strerrordesc_np(-err));
	} else if (fcntl(fd, F_GETLEASE) != F_RDLCK) {
		snprintf(reason, size, "%.300s: somebody opened it for writing", path);
		err = -EACCES;
	}
	return err;
}

int pin_open(const char *path, bool test_mode, unsigned char digest[WHITELIST_DIGEST_SIZE],
	     char *reason, size_t size)
{
	/* Of what is no regular file, opening must not wait or mean anything. */
	_cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	struct stat st;
	int err;

	if (fd < 0 || fstat(fd, &st)) {
		err = -errno;
		snprintf(reason, size, "%.300s: cannot be read: %s", path, strerrordesc_np(-err));
		return err;
	}
	if (!S_ISREG(st.st_mode)) {
		snprintf(reason, size, "%.300s: not a regular file", path);
		return -EACCES;
	}
	if (!test_mode && !trust_stat(path, &st, reason, size))
		return -EACCES;
	err = take_lease(fd, path, reason, size);
	if (!err)
		err = read_pinned(fd, path, digest, reason, size);
	return err ? err : take_fd(&fd);
}
