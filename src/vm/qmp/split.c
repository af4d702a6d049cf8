/* Cuts a byte stream into JSON values: quotes, braces and brackets are all that it knows. */
#include "vm/qmp/split.h"

#include <stdlib.h>
#include <string.h>

#include "base/compiler.h"

#define FIRST_ROOM 256

void qmp_split_init(struct qmp_split *s, size_t max)
{
	*s = (struct qmp_split){.max = max};
}

void qmp_split_done(struct qmp_split *s)
{
	free(s->text);
	*s = (struct qmp_split){.max = s->max};
}

static void forget(struct qmp_split *s)
{
	s->len = 0;
	s->braces = s->brackets = 0;
	s->escaped = s->whole = s->dropping = false;
	s->state = QMP_SPLIT_BETWEEN;
}

/* In JSON, none of these is ever part of a string or a word. */
static bool is_structural(unsigned char c)
{
	return c && strchr("{}[]:,", c);
}

/* Ends a string or a skip, wherever it comes: control characters, and bytes that are in no UTF-8. A
 * client sends one to be sure of where it is. */
static bool is_reset(unsigned char c)
{
	return (c < 0x20 && c != '\t') || c >= 0xfe;
}

static bool is_space(unsigned char c)
{
	return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

static bool is_word(unsigned char c)
{
	return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '+' ||
	       c == '.' || c == 'E';
}

static enum qmp_split_found keep(struct qmp_split *s, char c)
{
	if (s->dropping)
		return QMP_SPLIT_NOTHING;
	if (s->len == s->max) {
		s->dropping = true;
		return QMP_SPLIT_TOO_LONG;
	}
	if (s->len == s->cap) {
		size_t cap = MIN(s->cap ? 2 * s->cap : (size_t)FIRST_ROOM, s->max);
		char *text = realloc(s->text, cap);

		if (!text) {
			s->dropping = true;
			return QMP_SPLIT_NO_MEMORY;
		}
		s->text = text;
		s->cap = cap;
	}
	s->text[s->len++] = c;
	return QMP_SPLIT_NOTHING;
}

/* After a byte that may have been a value's last, and what came of keeping it. */
static enum qmp_split_found end_value(struct qmp_split *s, enum qmp_split_found kept)
{
	if (s->braces || s->brackets)
		return kept;
	if (s->dropping) {
		forget(s);
		return kept;
	}
	s->whole = true;
	return QMP_SPLIT_VALUE;
}

static enum qmp_split_found garbage(struct qmp_split *s, enum qmp_split_state next)
{
	forget(s);
	s->state = next;
	return QMP_SPLIT_GARBAGE;
}

static enum qmp_split_found in_string(struct qmp_split *s, char c)
{
	enum qmp_split_found found = QMP_SPLIT_NOTHING;

	if (is_reset((unsigned char)c))
		return garbage(s, QMP_SPLIT_BETWEEN);
	if (s->escaped) {
		s->escaped = false;
		if (c != '\'')
			found = keep(s, '\\');
		return found ?: keep(s, c);
	}
	if (c == '\\') {
		s->escaped = true;
		return QMP_SPLIT_NOTHING;
	}
	if (c == s->quote) {
		s->state = QMP_SPLIT_BETWEEN;
		return end_value(s, keep(s, '"'));
	}
	if (c == '"')
		found = keep(s, '\\');
	return found ?: keep(s, c);
}

/* Opens and closes; the counts are QEMU's, so that "{]" is garbage at once and "[{]}" is a value
 * for the parser to refuse. */
static enum qmp_split_found structural(struct qmp_split *s, char c)
{
	bool inside = s->braces || s->brackets;

	if ((!inside && c != '{' && c != '[') || (c == '}' && !s->braces) ||
	    (c == ']' && !s->brackets))
		return garbage(s, QMP_SPLIT_BETWEEN);
	s->braces += c == '{';
	s->braces -= c == '}';
	s->brackets += c == '[';
	s->brackets -= c == ']';
	if (!s->dropping && s->braces + s->brackets > QMP_SPLIT_DEPTH) {
		s->dropping = true;
		return QMP_SPLIT_TOO_DEEP;
	}
	return end_value(s, keep(s, c));
}

static enum qmp_split_found between(struct qmp_split *s, char c)
{
	bool inside = s->braces || s->brackets;

	if (is_space((unsigned char)c))
		return inside ? keep(s, c) : QMP_SPLIT_NOTHING;
	if (is_structural((unsigned char)c))
		return structural(s, c);
	if (c == '"' || c == '\'') {
		s->state = QMP_SPLIT_STRING;
		s->quote = c;
		return keep(s, '"');
	}
	if (is_word((unsigned char)c)) {
		if (!inside)
			s->state = QMP_SPLIT_WORD;
		return keep(s, c);
	}
	return garbage(s, is_reset((unsigned char)c) ? QMP_SPLIT_BETWEEN : QMP_SPLIT_SKIP);
}

/* *ret_taken false: the byte belongs to what comes next. */
static enum qmp_split_found feed_byte(struct qmp_split *s, char c, bool *ret_taken)
{
	*ret_taken = true;
	switch (s->state) {
	case QMP_SPLIT_STRING:
		return in_string(s, c);
	case QMP_SPLIT_WORD:
		if (is_word((unsigned char)c))
			return keep(s, c);
		*ret_taken = false;
		s->state = QMP_SPLIT_BETWEEN;
		return end_value(s, QMP_SPLIT_NOTHING);
	case QMP_SPLIT_SKIP:
		if (is_reset((unsigned char)c) || is_structural((unsigned char)c))
			s->state = QMP_SPLIT_BETWEEN;
		*ret_taken = !is_structural((unsigned char)c);
		return QMP_SPLIT_NOTHING;
	case QMP_SPLIT_BETWEEN:
		break;
	}
	return between(s, c);
}

enum qmp_split_found qmp_split_feed(struct qmp_split *s, const char *data, size_t len,
				    size_t *ret_used)
{
	enum qmp_split_found found = QMP_SPLIT_NOTHING;
	size_t at = 0;

	if (s->whole)
		forget(s);
	while (at < len && found == QMP_SPLIT_NOTHING) {
		bool taken;

		found = feed_byte(s, data[at], &taken);
		at += taken;
	}
	*ret_used = at;
	return found;
}
