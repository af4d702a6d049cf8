/* Lines from init become states; states only go forward. Control thread. */
#include "vm/session.h"

#include <stdio.h>
#include <string.h>

#include "base/compiler.h"
#include "base/parse.h"

void session_init(struct session *s)
{
	s->state = SESSION_WAITING;
	s->line_len = 0;
	s->overlong = false;
}

static void advance(struct session *s, enum session_state state)
{
	/* A guest that repeats itself or goes back changes nothing. */
	if (state <= s->state)
		return;
	s->state = state;
	s->changed(s);
}

/* "STATUS" or "STATUS TEXT…": *ret_rest is the text, or "". */
static bool parse_status(const char *args, uint64_t max, int *ret_status, const char **ret_rest)
{
	char number[8];
	size_t len = strcspn(args, " ");
	uint64_t value;

	if (len >= sizeof(number))
		return false;
	memcpy(number, args, len);
	number[len] = '\0';
	if (parse_uint(number, 0, max, &value) < 0)
		return false;
	*ret_status = (int)value;
	*ret_rest = args[len] ? args + len + 1 : "";
	return true;
}

static void handle_line(struct session *s)
{
	char *args = strchr(s->line, ' ');
	const char *word = s->line;
	const char *rest;
	int status;

	if (args)
		*args++ = '\0';
	else
		args = s->line + s->line_len;
	if (!strcmp(word, "hello")) {
		advance(s, SESSION_HELLO);
	} else if (!strcmp(word, "started")) {
		advance(s, SESSION_STARTED);
	} else if (!strcmp(word, "done")) {
		if (s->state == SESSION_ENDED)
			advance(s, SESSION_DONE);
	} else if (s->state >= SESSION_HELLO && s->state < SESSION_ENDED) {
		bool exited = !strcmp(word, "exited"), failed = !strcmp(word, "failed");

		if (!exited && !failed && strcmp(word, "signalled"))
			return;
		if (!parse_status(args, exited || failed ? 255 : 64, &status, &rest))
			return;
		s->status = status;
		s->signalled = !exited && !failed;
		s->failed = failed;
		strlcpy(s->text, rest, sizeof(s->text));
		advance(s, SESSION_ENDED);
	}
}

void session_input(struct session *s, const uint8_t *data, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		if (data[i] != '\n') {
			if (s->line_len + 1 < sizeof(s->line))
				s->line[s->line_len++] = data[i] < ' ' ? '?' : (char)data[i];
			else
				s->overlong = true;
			continue;
		}
		s->line[s->line_len] = '\0';
		if (!s->overlong)
			handle_line(s);
		s->line_len = 0;
		s->overlong = false;
	}
}

/* What a line can hold: see session_input. */
static bool printable(const char *text, size_t len)
{
	for (size_t i = 0; i < len; i++)
		if ((unsigned char)text[i] < ' ')
			return false;
	return true;
}

/* text: SESSION_LINE_MAX bytes, of which len count, and then a NUL. */
static void text_state(struct state_io *io, const char *field, char *text, size_t *len)
{
	uint16_t n = (uint16_t)*len;

	state_u16(io, field, &n);
	state_check(io, field, n < SESSION_LINE_MAX);
	state_bytes(io, field, text, io->err.code ? 0 : n);
	state_check(io, field, io->err.code || printable(text, n));
	if (!state_restoring(io))
		return;
	text[n] = '\0';
	*len = n;
}

static bool status_possible(const struct session *s, uint8_t state, uint8_t status)
{
	return state <= SESSION_DONE && !(s->signalled && s->failed) &&
	       (!s->signalled || status <= 64);
}

void session_state(struct session *s, struct state_io *io)
{
	uint8_t state = (uint8_t)s->state, status = (uint8_t)s->status;
	size_t text_len = strlen(s->text);
	struct session n = *s;

	if (state_begin(io, "session", 1)) {
		state_u8(io, "state", &state);
		state_bool(io, "signalled", &n.signalled);
		state_bool(io, "failed", &n.failed);
		state_u8(io, "status", &status);
		state_check(io, "state or status", status_possible(&n, state, status));
		text_state(io, "text", n.text, &text_len);
		text_state(io, "line", n.line, &n.line_len);
		state_bool(io, "overlong", &n.overlong);
	}
	state_end(io);
	if (!state_restoring(io))
		return;
	n.state = state;
	n.status = status;
	*s = n;
}

void session_send_go(struct session *s)
{
	s->send(s, "go\n", 3);
}

void session_send_signal(struct session *s, int signo)
{
	char line[32];

	s->send(s, line, (size_t)snprintf(line, sizeof(line), "signal %d\n", signo));
}

void session_send_closed(struct session *s, const char *stream)
{
	char line[32];

	s->send(s, line, (size_t)snprintf(line, sizeof(line), "closed %s\n", stream));
}

void session_send_size(struct session *s, unsigned rows, unsigned cols)
{
	char line[32];

	s->send(s, line, (size_t)snprintf(line, sizeof(line), "winsize %u %u\n", rows, cols));
}

void session_send_bye(struct session *s)
{
	s->send(s, "bye\n", 4);
}
