/* Greeting, negotiation, commands one after another, answers. */
#include "vm/qmp/dialogue.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/util.h"
#include "vm/qmp/commands.h"

/* A command whose answer is to come. It lives until then, with or without its dialogue. */
struct qmp_pending {
	struct qmp_wait wait;
	struct qmp_dialogue *dialogue; /* NULL: nobody wants the answer any more */
	json_t *id;		       /* or NULL */
};

/* ---- answers --------------------------------------------------------------------------------
 */

/* One line, as clients that read lines want it. NULL when out of memory. Takes json. */
static char *line_of(json_t *json)
{
	char *text = json ? json_dumps(json, JSON_COMPACT) : NULL;
	size_t len = text ? strlen(text) : 0;
	char *line = text ? realloc(text, len + 3) : NULL;

	json_decref(json);
	if (line)
		memcpy(line + len, "\r\n", 3);
	else
		free(text);
	return line;
}

static void send_json(struct qmp_dialogue *d, json_t *json)
{
	static const char no_memory[] = "{\"error\":{\"class\":\"GenericError\",\"desc\":"
					"\"out of memory\"}}\r\n";
	CLEANUP_FREE char *line = line_of(json);

	if (line)
		d->send(d, line, strlen(line));
	else
		d->send(d, no_memory, sizeof(no_memory) - 1);
}

static void answer(struct qmp_dialogue *d, json_t *ret, const json_t *id)
{
	json_t *json = json_object();

	json_object_set_new(json, "return", ret ?: json_object());
	if (id)
		json_object_set(json, "id", (json_t *)(uintptr_t)id);
	send_json(d, json);
}

static void answer_error(struct qmp_dialogue *d, const char *class, const char *text,
			 const json_t *id)
{
	json_t *desc = json_string(text), *json;

	/* A name that came from the client and was cut within a character. */
	desc = desc ?: json_string("the command failed");
	json = json_pack("{s:{s:s, s:o}}", "error", "class", class, "desc", desc);
	if (id)
		json_object_set(json, "id", (json_t *)(uintptr_t)id);
	send_json(d, json);
}

static void answer_failure(struct qmp_dialogue *d, const struct error *err, const json_t *id)
{
	char text[sizeof(err->what) + sizeof(err->hint) + 4];

	snprintf(text, sizeof(text), "%s%s%s", err->what, err->hint[0] ? "; " : "", err->hint);
	answer_error(d, "GenericError", text, id);
}

/* ---- answers that come later -----------------------------------------------------------------
 */

static void pending_free(struct qmp_pending *p)
{
	json_decref(p->id);
	json_decref(p->wait.ret);
	free(p);
}

static void on_done(struct qmp_wait *wait, const struct error *err)
{
	struct qmp_pending *p = container_of(wait, struct qmp_pending, wait);
	struct qmp_dialogue *d = p->dialogue;

	if (d) {
		d->pending = NULL;
		if (err)
			answer_failure(d, err, p->id);
		else
			answer(d, json_incref(wait->ret), p->id);
	}
	pending_free(p);
	if (d && !d->taking)
		d->resume(d);
}

struct call {
	struct qmp_call call;
	struct qmp_dialogue *dialogue;
	json_t *id;
};

static struct qmp_wait *later(struct qmp_call *call)
{
	struct call *c = container_of(call, struct call, call);
	struct qmp_pending *p = calloc(1, sizeof(*p));

	if (!p)
		return NULL;
	p->wait.done = on_done;
	p->dialogue = c->dialogue;
	p->id = json_incref(c->id);
	c->dialogue->pending = p;
	return &p->wait;
}

/* ---- commands -------------------------------------------------------------------------------
 */

static void run_command(struct qmp_dialogue *d, const struct qmp_command *command,
			const json_t *arguments, json_t *id)
{
	struct call c = {
		.call = {.ops = d->ops, .arg = d->arg, .arguments = arguments, .later = later},
		.dialogue = d,
		.id = id,
	};
	struct error err = {0};
	int r = qmp_command_check(command, arguments, &err);

	if (r == 0)
		r = command->run(&c.call, &err);
	if (r == QMP_LATER)
		return;	  /* answered already, or pending */
	if (d->pending) { /* it failed after it had asked for the time */
		pending_free(d->pending);
		d->pending = NULL;
	}
	if (r == 0)
		answer(d, c.call.ret, id);
	else
		answer_failure(d, &err, id);
}

static void negotiate(struct qmp_dialogue *d, const json_t *arguments, const json_t *id)
{
	const json_t *enable = json_object_get(arguments, "enable");

	if (enable && !json_is_array(enable)) {
		answer_error(d, "GenericError", "enable: a list is accepted", id);
	} else if (json_array_size(enable) > 0) {
		answer_error(d, "GenericError", "enable: this server offers no capabilities", id);
	} else {
		d->negotiated = true;
		answer(d, NULL, id);
	}
}

static void execute(struct qmp_dialogue *d, const char *name, const json_t *arguments, json_t *id)
{
	const struct qmp_command *command;
	char text[128];

	if (!strcmp(name, "qmp_capabilities") && !d->negotiated) {
		negotiate(d, arguments, id);
		return;
	}
	command = d->negotiated ? qmp_command_find(name) : NULL;
	if (command) {
		run_command(d, command, arguments, id);
		return;
	}
	if (!d->negotiated)
		snprintf(text, sizeof(text), "the first command has to be qmp_capabilities");
	else if (!strcmp(name, "qmp_capabilities"))
		snprintf(text, sizeof(text), "the capabilities have been negotiated already");
	else
		snprintf(text, sizeof(text), "%.64s: no such command; query-commands lists them",
			 name);
	answer_error(d, "CommandNotFound", text, id);
}

/* The first member that a command has no room for, or NULL. */
static const char *unexpected_member(json_t *command)
{
	static const char *const members[] = {"execute", "arguments", "id"};
	const char *key;
	json_t *value;

	json_object_foreach(command, key, value)
	{
		bool known = false;

		for (size_t i = 0; i < ARRAY_SIZE(members); i++)
			known |= !strcmp(key, members[i]);
		if (!known)
			return key;
	}
	return NULL;
}

static void take_command(struct qmp_dialogue *d, json_t *command)
{
	const json_t *name = json_object_get(command, "execute");
	const json_t *arguments = json_object_get(command, "arguments");
	json_t *id = json_object_get(command, "id");
	const char *stray = unexpected_member(command);
	char text[128];

	if (!json_is_object(command)) {
		snprintf(text, sizeof(text), "a command is an object");
	} else if (stray) {
		snprintf(text, sizeof(text), "%.64s: a command has no such member", stray);
	} else if (!json_is_string(name)) {
		snprintf(text, sizeof(text), "a command has a member execute, a string");
	} else if (arguments && !json_is_object(arguments)) {
		snprintf(text, sizeof(text), "arguments: an object is accepted");
	} else {
		execute(d, json_string_value(name), arguments, id);
		return;
	}
	answer_error(d, "GenericError", text, id);
}

static void take_value(struct qmp_dialogue *d)
{
	json_error_t error;
	json_t *value = json_loadb(d->split.text, d->split.len,
				   JSON_DECODE_ANY | JSON_REJECT_DUPLICATES, &error);
	char text[JSON_ERROR_TEXT_LENGTH + 32];

	if (value) {
		take_command(d, value);
	} else {
		snprintf(text, sizeof(text), "not JSON: %s", error.text);
		answer_error(d, "GenericError", text, NULL);
	}
	json_decref(value);
}

/* ---- the outside ----------------------------------------------------------------------------
 */

void qmp_dialogue_init(struct qmp_dialogue *d)
{
	qmp_split_init(&d->split, QMP_COMMAND_MAX);
	d->negotiated = d->taking = false;
	d->pending = NULL;
	send_json(d, json_pack("{s:{s:o, s:[]}}", "QMP", "version", qmp_version(), "capabilities"));
}

void qmp_dialogue_done(struct qmp_dialogue *d)
{
	struct qmp_pending *p = d->pending;

	qmp_split_done(&d->split);
	d->pending = NULL;
	if (!p)
		return;
	p->dialogue = NULL;
	if (p->wait.cancel)
		p->wait.cancel(&p->wait);
}

bool qmp_dialogue_can_end(const struct qmp_dialogue *d)
{
	return d->pending && d->pending->wait.cancel;
}

void qmp_dialogue_hung_up(struct qmp_dialogue *d)
{
	if (qmp_dialogue_can_end(d))
		d->pending->wait.cancel(&d->pending->wait);
}

size_t qmp_dialogue_input(struct qmp_dialogue *d, const char *data, size_t len)
{
	size_t used;

	d->taking = true;
	switch (qmp_split_feed(&d->split, data, len, &used)) {
	case QMP_SPLIT_NOTHING:
		break;
	case QMP_SPLIT_VALUE:
		take_value(d);
		break;
	case QMP_SPLIT_GARBAGE:
		answer_error(d, "GenericError", "not JSON: a byte that has no place there", NULL);
		break;
	case QMP_SPLIT_TOO_LONG:
		answer_error(d, "GenericError", "a command of more than 64 KiB is not accepted",
			     NULL);
		break;
	case QMP_SPLIT_TOO_DEEP:
		answer_error(d, "GenericError", "a command of so many levels is not accepted",
			     NULL);
		break;
	case QMP_SPLIT_NO_MEMORY:
		answer_error(d, "GenericError", "out of memory", NULL);
		break;
	}
	d->taking = false;
	return used;
}

void qmp_dialogue_event(struct qmp_dialogue *d, const char *text, size_t len)
{
	if (d->negotiated)
		d->send(d, text, len);
}

char *qmp_event_text(const char *name, json_t *data)
{
	struct timespec now;
	json_t *json;

	clock_gettime(CLOCK_REALTIME, &now);
	json = json_pack("{s:s, s:{s:I, s:I}}", "event", name, "timestamp", "seconds",
			 (json_int_t)now.tv_sec, "microseconds", (json_int_t)now.tv_nsec / 1000);
	if (data)
		json_object_set_new(json, "data", data);
	return line_of(json);
}
