/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How it works. Each command of the client waits until the remote is ready, flies while its
 * answer is outstanding, and is freed when that comes. Answers and events are passed on whole,
 * so that a connection which breaks leaves the client no half message.
 *
 * When the remote comes back after a break, it begins anew, as QEMU does with every connection:
 *
 *	TALK_GREETING	its greeting; swallowed, for the client had one
 *	TALK_REPLAY	the client's own qmp_capabilities is said again, and the answer swallowed
 *	TALK_READY	commands that flew are settled: those that only ask are sent again, the
 *			others are answered with an error, because nobody knows whether QEMU ran
 *			them; then what waited is sent
 *
 * Events that QEMU sent during the break are lost. The one thing that libvirt must not miss is
 * made up for: we ask for QEMU's status and tell it as the event that leads there. libvirt
 * ignores an event that is no news.
 */
#include "talk.h"

#include <errno.h>
#include <json-c/json.h>
#include <stdlib.h>
#include <string.h>

#include "util.h"

#define REPLAY_ID "\"rexec-qemu-capabilities\""
#define STATUS_ID "\"rexec-qemu-status\""
#define UNKNOWN "the connection to QEMU was lost while it ran this command: the outcome is unknown"
#define LINE_END "\r\n" /* libvirt takes a message up to this */

/* ---- commands and their queues ---- */

static void queue_init(struct talk_queue *q)
{
	*q = (struct talk_queue){ .last = &q->first };
}

static void queue_add(struct talk_queue *q, struct talk_command *c)
{
	c->next = NULL;
	*q->last = c;
	q->last = &c->next;
	q->n++;
}

static void queue_push(struct talk_queue *q, struct talk_command *c)
{
	c->next = q->first;
	q->first = c;
	if (!c->next)
		q->last = &c->next;
	q->n++;
}

/* Take the command at @at, which is a place in @q's list. */
static struct talk_command *queue_take(struct talk_queue *q, struct talk_command **at)
{
	struct talk_command *c = *at;

	*at = c->next;
	if (!c->next)
		q->last = at;
	q->n--;
	return c;
}

static void cargo_drop(struct talk *t, void **cargo)
{
	if (*cargo)
		t->cargo_free(*cargo);
	*cargo = NULL;
}

static void command_free(struct talk *t, struct talk_command *c)
{
	cargo_drop(t, &c->cargo);
	free(c->text);
	free(c->id);
	free(c);
}

static void queue_clear(struct talk *t, struct talk_queue *q)
{
	while (q->first)
		command_free(t, queue_take(q, &q->first));
}

/* The form in which two ids can be compared; NULL when it is no JSON. */
static char *id_string(const char *json, size_t len)
{
	struct json_tokener *tokener = json_tokener_new();
	struct json_object *id = NULL;
	char *s = NULL;

	if (tokener && len && len <= INT32_MAX) {
		id = json_tokener_parse_ex(tokener, json, (int)len);
		if (!id && json_tokener_get_error(tokener) == json_tokener_continue)
			id = json_tokener_parse_ex(tokener, "", 1); /* the end of a bare number */
	}
	if (id)
		s = strdup(json_object_to_json_string_ext(id, JSON_C_TO_STRING_PLAIN));
	json_object_put(id);
	if (tokener)
		json_tokener_free(tokener);
	return s;
}

static char *reader_id(const struct qmp_reader *r)
{
	if (r->id.to <= r->id.from)
		return NULL;
	return id_string(r->text.data + r->id.from, r->id.to - r->id.from);
}

/* Commands that only ask. What is not known here is taken to change something. */
static bool only_asks(const char *name)
{
	static const char *const asking[] = {
		"qmp_capabilities",
		"qom-get",
		"qom-list",
		"qom-list-types",
		"qom-list-properties",
		"device-list-properties",
	};

	if (!strncmp(name, "query-", 6))
		return true;
	for (size_t i = 0; i < ARRAY_LEN(asking); i++)
		if (!strcmp(name, asking[i]))
			return true;
	return false;
}

static void command_classify(struct talk_command *c)
{
	struct json_object *root = json_tokener_parse(c->text), *execute;
	const char *name;

	if (json_object_object_get_ex(root, "execute", &execute) ||
	    json_object_object_get_ex(root, "exec-oob", &execute)) {
		name = json_object_get_string(execute);
		c->again = name && only_asks(name);
		c->negotiates = name && !strcmp(name, "qmp_capabilities");
	}
	json_object_put(root);
}

/* @text (taken) is a command; @id (taken) its id. NULL, and both freed, without memory. */
static struct talk_command *command_new(char *text, char *id)
{
	struct talk_command *c = text ? calloc(1, sizeof(*c)) : NULL;

	if (!c) {
		free(text);
		free(id);
		return NULL;
	}
	c->text = text;
	c->len = strlen(text);
	c->id = id;
	command_classify(c);
	return c;
}

/* ---- the client ---- */

void talk_init(struct talk *t, const struct qmp_names *names, void (*cargo_free)(void *cargo))
{
	*t = (struct talk){ .cargo_free = cargo_free };
	qmp_reader_init(&t->from_client, NULL);
	qmp_reader_init(&t->from_remote, names);
	queue_init(&t->waiting);
	queue_init(&t->flying);
}

void talk_clear(struct talk *t)
{
	queue_clear(t, &t->waiting);
	queue_clear(t, &t->flying);
	cargo_drop(t, &t->cargo);
	qmp_reader_clear(&t->from_client);
	qmp_reader_clear(&t->from_remote);
	fifo_clear(&t->to_client);
	free(t->negotiated);
	free(t->refusal);
	t->negotiated = t->refusal = NULL;
}

bool talk_wants_client(const struct talk *t)
{
	return t->waiting.n + t->flying.n < TALK_COMMANDS_MAX;
}

/* Answer @c with an error of ours. */
static int answer_error(struct talk *t, const struct talk_command *c, const char *why)
{
	struct json_object *desc = json_object_new_string(why);
	struct text answer = { 0 };
	int ret;

	text_puts(&answer, "{");
	if (c->id) {
		text_puts(&answer, "\"id\": ");
		text_puts(&answer, c->id);
		text_puts(&answer, ", ");
	}
	text_puts(&answer, "\"error\": {\"class\": \"GenericError\", \"desc\": ");
	text_puts(&answer, json_object_to_json_string_ext(desc, JSON_C_TO_STRING_PLAIN));
	text_puts(&answer, "}}" LINE_END);
	json_object_put(desc);
	ret = answer.bad ? -ENOMEM : fifo_add(&t->to_client, answer.data, answer.len);
	text_clear(&answer);
	return ret;
}

static int refuse(struct talk *t, struct talk_command *c)
{
	int ret = answer_error(t, c, t->refusal);

	command_free(t, c);
	free(t->refusal);
	t->refusal = NULL;
	return ret;
}

static int client_command(struct talk *t)
{
	char *id = reader_id(&t->from_client);
	struct talk_command *c;

	text_puts(&t->from_client.text, LINE_END);
	c = command_new(text_take(&t->from_client.text), id);
	if (!c)
		return -ENOMEM;
	c->cargo = t->cargo;
	t->cargo = NULL;
	if (t->refusal)
		return refuse(t, c);
	queue_add(&t->waiting, c);
	return 0;
}

void talk_refuse(struct talk *t, const char *why)
{
	free(t->refusal);
	t->refusal = strdup(why);
}

int talk_from_client(struct talk *t, const char *data, size_t len, void *cargo)
{
	size_t used;
	int ret = 0;

	if (cargo) {
		cargo_drop(t, &t->cargo); /* QEMU, too, keeps only what came last */
		t->cargo = cargo;
	}
	for (; len && ret >= 0; data += used, len -= used) {
		ret = qmp_read(&t->from_client, data, len, &used);
		if (ret > 0)
			ret = client_command(t);
	}
	return ret;
}

/* ---- the remote ---- */

const struct talk_command *talk_next(const struct talk *t)
{
	struct talk_command *c = t->waiting.first;

	if (t->remote == TALK_READY || (t->remote == TALK_REPLAY && c && c->ours && c->negotiates))
		return c;
	return NULL;
}

void talk_sent(struct talk *t, size_t n)
{
	struct talk_command *c = t->waiting.first;

	c->sent += n;
	if (c->sent < c->len)
		return;
	cargo_drop(t, &c->cargo);
	queue_add(&t->flying, queue_take(&t->waiting, &t->waiting.first));
}

/* Our own command goes before the client's. */
static int say(struct talk *t, const char *text, const char *id)
{
	struct talk_command *c = command_new(strdup(text), strdup(id));

	if (!c)
		return -ENOMEM;
	c->ours = true;
	queue_push(&t->waiting, c);
	return 0;
}

void talk_remote_up(struct talk *t)
{
	t->remote = TALK_GREETING;
}

void talk_remote_down(struct talk *t)
{
	struct talk_command **at = &t->waiting.first;

	t->remote = TALK_DOWN;
	qmp_reader_clear(&t->from_remote);
	qmp_reader_init(&t->from_remote, t->from_remote.names);

	/* What was written in part was not run: QEMU forgets it with the connection. */
	while (*at) {
		(*at)->sent = 0;
		if ((*at)->ours)
			command_free(t, queue_take(&t->waiting, at));
		else
			at = &(*at)->next;
	}
}

/* Settle what flew when the connection broke: see the head of this file. */
static int settle(struct talk *t)
{
	struct talk_queue again;
	struct talk_command *c;
	int ret = 0;

	queue_init(&again);
	while (t->flying.first) {
		c = queue_take(&t->flying, &t->flying.first);
		if (c->again && !c->ours) {
			c->sent = 0;
			queue_add(&again, c);
			continue;
		}
		if (!c->ours && !ret)
			ret = answer_error(t, c, UNKNOWN);
		command_free(t, c);
	}
	while (t->waiting.first)
		queue_add(&again, queue_take(&t->waiting, &t->waiting.first));
	while (again.first)
		queue_add(&t->waiting, queue_take(&again, &again.first));
	return ret;
}

static int become_ready(struct talk *t)
{
	bool news = t->negotiated;
	int ret = settle(t);

	t->remote = TALK_READY;
	if (!ret && news)
		ret = say(t, "{\"execute\": \"query-status\", \"id\": " STATUS_ID "}" LINE_END,
			  STATUS_ID);
	return ret;
}

static int pass_on(struct talk *t)
{
	struct text *text = &t->from_remote.text;

	text_puts(text, LINE_END);
	return text->bad ? -ENOMEM : fifo_add(&t->to_client, text->data, text->len);
}

static int remote_greets(struct talk *t)
{
	if (!t->greeted) {
		t->greeted = true;
		t->remote = TALK_READY;
		return pass_on(t);
	}
	if (!t->negotiated)
		return become_ready(t);
	t->remote = TALK_REPLAY;
	return say(t, t->negotiated, REPLAY_ID);
}

/* The client's qmp_capabilities with an id of ours, to be said again after a break. */
static char *capabilities_replay(const struct talk_command *c)
{
	struct json_object *root = json_tokener_parse(c->text);
	struct text text = { 0 };

	json_object_object_add(root, "id", json_tokener_parse(REPLAY_ID));
	text_puts(&text, json_object_to_json_string_ext(root, JSON_C_TO_STRING_PLAIN));
	text_puts(&text, LINE_END);
	json_object_put(root);
	return text_take(&text);
}

static int status_event(struct talk *t)
{
	static const struct {
		const char *status, *event;
	} events[] = {
		{ "running", "\"event\": \"RESUME\"" },
		{ "paused", "\"event\": \"STOP\"" },
		{ "io-error", "\"event\": \"STOP\"" },
		{ "shutdown", "\"event\": \"SHUTDOWN\", \"data\": {\"guest\": true, "
			      "\"reason\": \"guest-shutdown\"}" },
	};
	struct json_object *root = json_tokener_parse(t->from_remote.text.data), *ret, *status;
	const char *word = NULL;
	struct text line = { 0 };
	int result = 0;

	if (json_object_object_get_ex(root, "return", &ret) &&
	    json_object_object_get_ex(ret, "status", &status))
		word = json_object_get_string(status);
	for (size_t i = 0; word && i < ARRAY_LEN(events); i++) {
		if (strcmp(word, events[i].status) != 0)
			continue;
		/* -1 is QMP's way to say that the time is not known. */
		text_puts(&line, "{\"timestamp\": {\"seconds\": -1, \"microseconds\": -1}, ");
		text_puts(&line, events[i].event);
		text_puts(&line, "}" LINE_END);
		result = line.bad ? -ENOMEM : fifo_add(&t->to_client, line.data, line.len);
	}
	text_clear(&line);
	json_object_put(root);
	return result;
}

static int our_answer(struct talk *t, const struct talk_command *c)
{
	if (!c->negotiates)
		return t->from_remote.kind == QMP_RETURN ? status_event(t) : 0;
	return t->from_remote.kind == QMP_RETURN ? become_ready(t) : -EPROTO;
}

/* The command in flight that this message answers: the one with its id, or, when it has none,
 * the oldest of those that the client sent. */
static struct talk_command *answered(struct talk *t)
{
	_cleanup_free_ char *id = reader_id(&t->from_remote);

	for (struct talk_command **at = &t->flying.first; *at; at = &(*at)->next) {
		struct talk_command *c = *at;

		if (id ? c->id && !strcmp(id, c->id) : !c->ours)
			return queue_take(&t->flying, at);
	}
	return NULL;
}

static int remote_answers(struct talk *t)
{
	const struct qmp_reader *r = &t->from_remote;
	struct talk_command *c = answered(t);
	int ret;

	if (r->threads && r->names->threads)
		r->names->threads(r->names->arg, r->text.data);
	if (!c)
		return pass_on(t);
	if (c->ours) {
		ret = our_answer(t, c);
	} else {
		if (c->negotiates && t->from_remote.kind == QMP_RETURN && !t->negotiated)
			t->negotiated = capabilities_replay(c);
		ret = pass_on(t);
	}
	command_free(t, c);
	return ret;
}

static int remote_message(struct talk *t)
{
	switch (t->from_remote.kind) {
	case QMP_GREETING:
		return t->remote == TALK_GREETING ? remote_greets(t) : -EPROTO;
	case QMP_RETURN:
	case QMP_ERROR:
		return remote_answers(t);
	case QMP_EVENT:
		return pass_on(t);
	case QMP_COMMAND:
	case QMP_UNKNOWN:
		break;
	}
	return -EPROTO;
}

int talk_from_remote(struct talk *t, const char *data, size_t len)
{
	size_t used;
	int ret = 0;

	for (; len && ret >= 0; data += used, len -= used) {
		ret = qmp_read(&t->from_remote, data, len, &used);
		if (ret > 0)
			ret = remote_message(t);
	}
	return ret;
}
