/* What clones say, on one stream: whole lines, each behind its clone's name. Who reads takes no
 * more than the stream has been rid of. Control thread. */
#ifndef STASIS_CLI_CLONE_OUTPUT_H
#define STASIS_CLI_CLONE_OUTPUT_H

#include <stdbool.h>
#include <stddef.h>

#define CLONE_LINE_MAX 8192 /* bytes; a longer one is cut in two */

/* Where lines go: standard output or error. Zero-initialise but for fd. */
struct clone_sink {
	int fd;	    /* borrowed; blocking */
	int error;  /* of the first write that failed: all after it is dropped */
	char *text; /* owned */
	size_t len, sent, room;
};
/* Whether there is so much to write that no more is to be read for it. */
bool clone_sink_full(const struct clone_sink *s);
bool clone_sink_empty(const struct clone_sink *s);
/* Once poll says that fd takes something: never blocks on a pipe or terminal. */
void clone_sink_write(struct clone_sink *s);
void clone_sink_done(struct clone_sink *s);

/* Where lines come from. Zero-initialise. */
struct clone_lines {
	char part[CLONE_LINE_MAX]; /* of the line that has not ended */
	size_t len;
};
/* Takes bytes as they come. */
void clone_lines_add(struct clone_lines *l, const char *name, const char *data, size_t len,
		     struct clone_sink *sink);
/* The last line, though it has no end. */
void clone_lines_end(struct clone_lines *l, const char *name, struct clone_sink *sink);

#endif
