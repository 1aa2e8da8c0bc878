/* SPDX-License-Identifier: Apache-2.0 */
/*
 * manage.h - rexec's commands about programs that run already
 */
#ifndef MANAGE_H
#define MANAGE_H

#include "options.h"
#include "request.h"

/** manage_find() - the whole ID of the one program that @o->id begins. Return: 0, or a negative errno with a @reason of
 * SESSION_REASON_MAX bytes. */
int manage_find(const struct options *o, char id[REQUEST_ID_SIZE], char *reason);
/** manage() - do what --list, --kill or --set asks; frees @o. Return: the exit status, a failure was told. */
int manage(struct options *o);

#endif
