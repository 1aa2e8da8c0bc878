/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_request - hostile requests and frames of rexec
 *
 * What must hold besides not crashing: what is decoded and encoded again is the input, and every
 * index and name of a decoded request is within its bounds.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "request.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define must(condition) ((condition) ? (void)0 : abort())

static void check_bounds(const struct request *r)
{
	must(r->argc > 0 && !r->argv[r->argc]);
	must(strlen(r->id) == REQUEST_ID_SIZE - 1 && !strchr(r->id, '/'));
	for (size_t i = 0; i < r->n_fds; i++)
		must(r->fds[i].number <= REQUEST_NUMBER_MAX &&
		     (r->fds[i].kind == REQUEST_FD_LISTENER || r->fds[i].kind == REQUEST_FD_TTY ||
		      r->fds[i].value < r->n_passed));
	for (size_t i = 0; i < r->n_files; i++)
		must(!strchr(r->files[i].name, '/') && *r->files[i].name != '.');
	for (size_t i = 0; i < r->n_env; i++)
		must(strchr(r->env[i].assignment, '=') > r->env[i].assignment);
}

static void check_again(const struct request *r)
{
	struct request again;
	void *frame;
	ssize_t n = request_encode(r, &frame);

	must(n > 0);
	must(request_decode(&again, (uint8_t *)frame + REQUEST_HEADER,
			    (size_t)n - REQUEST_HEADER) == 0);
	must(again.argc == r->argc && again.n_fds == r->n_fds && again.n_env == r->n_env);
	request_deinit(&again);
	free(frame);
}

static void check_frames(const uint8_t *data, size_t size)
{
	struct frame_in in = { .have = 0 };

	while (size) {
		struct buf payload;
		size_t space;
		uint8_t type;
		void *at = frame_space(&in, &space);
		size_t n = size < space ? size : space;

		must(n > 0);
		memcpy(at, data, n);
		frame_received(&in, n);
		data += n;
		size -= n;
		for (int got = 1; got;) {
			got = frame_next(&in, &type, &payload);
			if (got < 0)
				return;
			if (got) {
				frame_get_text(&payload);
				frame_skip(&in);
			}
		}
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct request r;

	check_frames(data, size);
	if (request_decode(&r, data, size) == 0) {
		check_bounds(&r);
		check_again(&r);
		request_deinit(&r);
	}
	return 0;
}
