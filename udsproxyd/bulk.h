/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bulk.h - large payloads to the transport, and kept until acknowledged, past this program's memory
 *
 *	local end ──splice──> ahead ──splice──> transport
 *	                        │ tee
 *	                        v
 *	                      kept, until they are acknowledged
 *
 * tee(2) duplicates references to the kernel's pages, not bytes. To the stream (stream.h) these payloads are
 * `outside`; when any has to be sent again, all are read to where the others lie. For a session that
 * has none of it, nothing here happens.
 */
#ifndef BULK_H
#define BULK_H

#include <stdbool.h>
#include <sys/types.h>

struct session;

/** bulk_waits() - was something read that is not framed? */
bool bulk_waits(const struct session *s);
/** bulk_room_needed() - nothing more can be framed while there is less room than that; 0: nothing waits */
size_t bulk_room_needed(const struct session *s);
/** bulk_fill() - read what is worth it of the local end, a stream socket or a pipe, and at most @room bytes, which is
 * at least what is needed
 * Return: bytes that are ready for bulk_frame(), perhaps of a former call; 0: there is nothing of this kind: read as
 * usual; -EAGAIN: there is nothing now. */
ssize_t bulk_fill(struct session *s, size_t room);
/** bulk_frame() - frame the first @n of them, or fewer; 0, or a negative errno and nothing can be sent any more */
int bulk_frame(struct session *s, size_t n);
/** bulk_send() - what the stream says is to be sent next, of outside, to @to. Return: bytes, or a negative errno. */
ssize_t bulk_send(struct session *s, int to);
/** bulk_bring_inside() - let the stream have what it has outside; 0, or a negative errno and it can never be
 * sent again */
int bulk_bring_inside(struct session *s);
/** bulk_tidy() - hold no more than is needed */
void bulk_tidy(struct session *s);
/** bulk_end() - the session is over */
void bulk_end(struct session *s);

#endif
