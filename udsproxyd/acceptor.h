/* SPDX-License-Identifier: Apache-2.0 */
/* acceptor.h - accept on a listening socket, which several workers may share */
#ifndef ACCEPTOR_H
#define ACCEPTOR_H

#include "worker.h"

struct acceptor;

/** acceptor_new() - call @accepted with each connection to @fd (borrowed, non-blocking), whose
 * socket it takes; exits on failure. Out of descriptors means wait, not fail and not spin. */
struct acceptor *acceptor_new(struct worker *w, int fd, void (*accepted)(struct worker *w, int fd));
void acceptor_free(struct acceptor *a);

#endif
