/* SPDX-License-Identifier: Apache-2.0 */
/*
 * trampoline.h - rexec called by another program's name
 *
 * Where a manager looks for a program it may find rexec instead, by a link or a mount: that runs
 * the HOST's program of this name. It is no script, for managers compare what /proc/PID/exe of a
 * running program names with what they have started (libvirt does, of swtpm).
 */
#ifndef TRAMPOLINE_H
#define TRAMPOLINE_H

/**
 * trampoline_argv() - the arguments of rexec that was called with @argc and @argv
 *
 * Called as rexec they stay. Called as NAME they become those of
 * "rexec --on-disconnect=keep --drop-fd N ... -- NAME ARG...", where N are locked files
 * (locked.h). They live as long as the process.
 * Return: 0, or -ENOMEM.
 */
int trampoline_argv(int *argc, char ***argv);

#endif
