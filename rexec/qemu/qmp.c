/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How it works: qmp_read() gives each byte to byte_in_string(), byte_in_bare() or
 * byte_of_structure(). When a string or a bare word ends, token_ends() knows where it began
 * in the text, whether it is a key or a value and which key the value belongs to; a value
 * to be replaced is cut off the text again and the new one added. So the text is always the
 * message so far as it is passed on, and nothing but those values differs from the input.
 */
#include "qmp.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "util.h"

/* The values to be replaced are short; a longer one is somebody's data. */
#define VALUE_MAX 128

void qmp_reader_init(struct qmp_reader *r, const struct qmp_names *names)
{
	*r = (struct qmp_reader){ .names = names };
}

void qmp_reader_clear(struct qmp_reader *r)
{
	text_clear(&r->text);
}

bool qmp_idle(const struct qmp_reader *r)
{
	return !r->depth;
}

static bool is_object(const struct qmp_reader *r, unsigned int level)
{
	return r->objects[level / 8] & (1u << level % 8);
}

static bool in_object(const struct qmp_reader *r)
{
	return is_object(r, r->depth - 1);
}

static bool part_is(const struct qmp_reader *r, struct qmp_part part, const char *word)
{
	size_t n = part.to - part.from;

	return n == strlen(word) && !memcmp(r->text.data + part.from, word, n);
}

/* What a key of the outermost object says about the message. */
static void top_key(struct qmp_reader *r)
{
	static const struct {
		const char *key;
		enum qmp_kind kind;
	} keys[] = {
		{ "QMP", QMP_GREETING }, { "return", QMP_RETURN },   { "error", QMP_ERROR },
		{ "event", QMP_EVENT },	 { "execute", QMP_COMMAND }, { "exec-oob", QMP_COMMAND },
	};

	r->top = r->key;
	for (size_t i = 0; i < ARRAY_LEN(keys); i++)
		if (part_is(r, r->key, keys[i].key))
			r->kind = keys[i].kind;
}

/* The string's bytes without quotes and simple escapes; false when it is none of ours. */
static bool token_string(const struct qmp_reader *r, char *to)
{
	const char *from = r->text.data + r->token + 1, *end = r->text.data + r->text.len - 1;

	if (end - from >= VALUE_MAX)
		return false;
	for (; from < end; from++) {
		if (*from == '\\' && *++from != '/')
			return false;
		*to++ = *from;
	}
	*to = '\0';
	return true;
}

static void replace_string(struct qmp_reader *r, const char *prefix)
{
	char path[VALUE_MAX];
	const char *local;

	if (!token_string(r, path) || strncmp(path, prefix, strlen(prefix)))
		return;
	local = r->names->terminal(r->names->arg, path + strlen(prefix));
	if (!local)
		return;
	text_cut(&r->text, r->token + 1);
	text_puts(&r->text, prefix);
	text_puts(&r->text, local);
	text_puts(&r->text, "\"");
}

static void replace_number(struct qmp_reader *r)
{
	char digits[VALUE_MAX];
	int64_t host, local;
	char *end;

	if (r->text.len - r->token >= sizeof(digits))
		return;
	errno = 0;
	host = strtoll(r->text.data + r->token, &end, 10);
	if (errno || *end || !r->names->thread(r->names->arg, host, &local))
		return;
	r->threads = true;
	snprintf(digits, sizeof(digits), "%" PRId64, local);
	text_cut(&r->text, r->token);
	text_puts(&r->text, digits);
}

static void token_ends(struct qmp_reader *r, bool string)
{
	if (string && in_object(r) && !r->value) {
		r->key = (struct qmp_part){ r->token + 1, r->text.len - 1 };
		if (r->depth == 1)
			top_key(r);
		return;
	}
	if (!r->names || r->depth < 2 || !in_object(r) || !part_is(r, r->top, "return"))
		return;
	if (!string && r->depth == 3 && !is_object(r, 1) && part_is(r, r->key, "thread-id"))
		replace_number(r);
	else if (string && part_is(r, r->key, "filename"))
		replace_string(r, "pty:");
	else if (string && part_is(r, r->key, "pty"))
		replace_string(r, "");
}

/* The colon, yet to be added, before a value of the outermost object. */
static void top_value_begins(struct qmp_reader *r)
{
	r->in_id = part_is(r, r->key, "id");
	if (r->in_id)
		r->id.from = r->text.len + 1;
}

static void top_value_ends(struct qmp_reader *r)
{
	if (r->in_id)
		r->id.to = r->text.len;
	r->in_id = false;
}

static int nest(struct qmp_reader *r, bool object)
{
	unsigned int level = r->depth;

	if (level == QMP_NESTING_MAX || (!level && !object))
		return -EPROTO;
	r->depth++;
	if (object)
		r->objects[level / 8] |= (uint8_t)(1u << level % 8);
	else
		r->objects[level / 8] &= (uint8_t) ~(1u << level % 8);
	r->value = false;
	return 0;
}

static int unnest(struct qmp_reader *r, bool object)
{
	if (!r->depth || in_object(r) != object)
		return -EPROTO;
	if (r->depth == 1)
		top_value_ends(r);
	r->depth--;
	return 0;
}

static int byte_of_structure(struct qmp_reader *r, char c)
{
	switch (c) {
	case '{':
	case '[':
		return nest(r, c == '{');
	case '}':
	case ']':
		return unnest(r, c == '}');
	case '"':
	case '\'': /* QEMU takes these too */
		r->quote = c;
		r->token = r->text.len;
		return r->depth ? 0 : -EPROTO;
	case ':':
		r->value = true;
		if (r->depth == 1)
			top_value_begins(r);
		return r->depth ? 0 : -EPROTO;
	case ',':
		r->value = false;
		if (r->depth == 1)
			top_value_ends(r);
		return r->depth ? 0 : -EPROTO;
	case ' ':
	case '\t':
	case '\r':
	case '\n':
		return 0;
	default:
		r->bare = true;
		r->token = r->text.len;
		return r->depth ? 0 : -EPROTO;
	}
}

static void byte_in_string(struct qmp_reader *r, char c)
{
	text_add(&r->text, &c, 1);
	if (r->escaped) {
		r->escaped = false;
	} else if (c == '\\') {
		r->escaped = true;
	} else if (c == r->quote) {
		r->quote = 0;
		if (!r->text.bad)
			token_ends(r, true);
	}
}

static bool ends_bare(char c)
{
	return memchr(" \t\r\n,:]}[{\"", c, 11);
}

static int byte_in(struct qmp_reader *r, char c)
{
	int ret;

	if (r->quote) {
		byte_in_string(r, c);
		return 0;
	}
	if (r->bare && ends_bare(c)) {
		r->bare = false;
		token_ends(r, false);
	}
	if (!r->bare) {
		ret = byte_of_structure(r, c);
		if (ret)
			return ret;
		if (!r->depth && c != '}')
			return 0; /* white space between two messages is not part of either */
	}
	text_add(&r->text, &c, 1);
	return 0;
}

/* The next message begins: forget the last one, but not its memory unless it was large. */
static void start_over(struct qmp_reader *r)
{
	if (r->text.size > 1u << 20)
		text_clear(&r->text);
	text_cut(&r->text, 0);
	r->kind = QMP_UNKNOWN;
	r->threads = false;
	r->id = r->key = r->top = (struct qmp_part){ 0, 0 };
}

int qmp_read(struct qmp_reader *r, const char *data, size_t len, size_t *used)
{
	int ret;

	if (!r->depth)
		start_over(r);
	for (*used = 0; *used < len;) {
		char c = data[(*used)++];

		ret = c ? byte_in(r, c) : -EPROTO; /* JSON has no NUL, and a text ends with one */
		if (ret)
			return ret;
		if (r->text.bad)
			return -ENOMEM;
		if (r->text.len > QMP_MESSAGE_MAX)
			return -EMSGSIZE;
		if (!r->depth && r->text.len)
			return 1;
	}
	return 0;
}
