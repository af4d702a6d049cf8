/* A stream of JSON values cut into single ones, without a need for newlines between them. Hostile
 * input: bounded, and back in step after garbage as QEMU's lexer is (qobject/json-lexer.c says
 * which bytes end a skip). Plain data, no thread of its own.
 *
 * Strings in single quotes, which QEMU takes as well, come out in double quotes. Whether what was
 * cut out is JSON is the parser's to say. */
#ifndef STASIS_VM_QMP_SPLIT_H
#define STASIS_VM_QMP_SPLIT_H

#include <stdbool.h>
#include <stddef.h>

#define QMP_SPLIT_DEPTH 1024

enum qmp_split_state {
	QMP_SPLIT_BETWEEN, /* outside of strings, in a value or between two */
	QMP_SPLIT_STRING,
	QMP_SPLIT_WORD, /* a number or a keyword that is a value by itself */
	QMP_SPLIT_SKIP, /* garbage: until a byte that can begin something */
};

enum qmp_split_found {
	QMP_SPLIT_NOTHING,  /* all was taken, more is needed */
	QMP_SPLIT_VALUE,    /* text has one */
	QMP_SPLIT_GARBAGE,  /* what can't be JSON; all since the last value was dropped */
	QMP_SPLIT_TOO_LONG, /* dropped up to its end, which is still to come */
	QMP_SPLIT_TOO_DEEP, /* likewise */
	QMP_SPLIT_NO_MEMORY,
};

struct qmp_split {
	size_t max; /* bytes of a value */
	char *text; /* owned; len bytes, no NUL */
	size_t len, cap;
	enum qmp_split_state state;
	unsigned braces, brackets; /* open ones */
	char quote;		   /* of the string */
	bool escaped;		   /* the string's last byte was a backslash */
	bool whole;		   /* text is what was found last */
	bool dropping;		   /* counts on, keeps nothing */
};

void qmp_split_init(struct qmp_split *s, size_t max);
void qmp_split_done(struct qmp_split *s); /* accepts a zeroed one */
/* Takes bytes up to the first thing to tell; *ret_used says how many. text stays until the next
 * call. */
enum qmp_split_found qmp_split_feed(struct qmp_split *s, const char *data, size_t len,
				    size_t *ret_used);

#endif
