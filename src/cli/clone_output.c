/* Lines of many into one stream. Control thread. */
#include "cli/clone_output.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/util.h"

#define SINK_FULL  65536 /* bytes that wait */
#define SINK_WRITE 4096	 /* what a pipe that is ready takes without blocking (pipe(7)) */

/* ---- where they go ----------------------------------------------------------------------------
 */

bool clone_sink_full(const struct clone_sink *s)
{
	return s->len - s->sent >= SINK_FULL;
}

bool clone_sink_empty(const struct clone_sink *s)
{
	return s->sent == s->len;
}

static void fail(struct clone_sink *s, int error)
{
	s->error = s->error ?: error;
	s->len = s->sent = 0;
}

static void add(struct clone_sink *s, const char *data, size_t len)
{
	if (s->error)
		return;
	if (s->len + len > s->room) {
		size_t room = 2 * (s->len + len);
		char *text = realloc(s->text, room);

		if (!text) {
			fail(s, ENOMEM);
			return;
		}
		s->text = text;
		s->room = room;
	}
	memcpy(s->text + s->len, data, len);
	s->len += len;
}

void clone_sink_write(struct clone_sink *s)
{
	ssize_t n;

	if (clone_sink_empty(s))
		return;
	n = write(s->fd, s->text + s->sent, MIN(s->len - s->sent, (size_t)SINK_WRITE));
	if (n < 0 && errno != EINTR && errno != EAGAIN) {
		fail(s, errno);
		return;
	}
	s->sent += n > 0 ? (size_t)n : 0;
	if (clone_sink_empty(s))
		s->len = s->sent = 0;
}

void clone_sink_done(struct clone_sink *s)
{
	free(s->text);
	s->text = NULL;
	s->len = s->sent = s->room = 0;
}

/* ---- where they come from ---------------------------------------------------------------------
 */

static void end_line(struct clone_lines *l, const char *name, struct clone_sink *sink)
{
	add(sink, name, strlen(name));
	add(sink, ": ", 2);
	add(sink, l->part, l->len);
	add(sink, "\n", 1);
	l->len = 0;
}

void clone_lines_add(struct clone_lines *l, const char *name, const char *data, size_t len,
		     struct clone_sink *sink)
{
	while (len > 0) {
		const char *newline = memchr(data, '\n', len);
		size_t n = newline ? (size_t)(newline - data) : len;

		n = MIN(n, sizeof(l->part) - l->len);
		memcpy(l->part + l->len, data, n);
		l->len += n;
		data += n;
		len -= n;
		if (newline == data && len > 0) {
			end_line(l, name, sink);
			data++;
			len--;
		} else if (l->len == sizeof(l->part)) {
			end_line(l, name, sink);
		}
	}
}

void clone_lines_end(struct clone_lines *l, const char *name, struct clone_sink *sink)
{
	if (l->len > 0)
		end_line(l, name, sink);
}
