/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pin.h - a program that is known by its SHA-256, and executed by the descriptor that was read
 */
#ifndef PIN_H
#define PIN_H

#include <stdbool.h>
#include <stddef.h>

#include "whitelist.h"

/**
 * pin_open() - open the program at @path so that it stays what it is, and read all of it
 *
 * Only an ELF program can be pinned: of a script the kernel would have the interpreter open the
 * descriptor, which is closed by then; and the interpreter is what would have to be known.
 *
 * @test_mode	the file need not be root's
 * @digest	its SHA-256
 * @reason	@size bytes: on failure a sentence
 * Return: the descriptor, for execveat(2) with AT_EMPTY_PATH, to be closed once that is done; or a
 * negative errno. Until it is closed, whoever opens the file for writing waits.
 */
int pin_open(const char *path, bool test_mode, unsigned char digest[WHITELIST_DIGEST_SIZE],
	     char *reason, size_t size);

#endif
