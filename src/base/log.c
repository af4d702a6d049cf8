/* One line on standard error for one call: built in a buffer, written by one write(2). */
#include "base/log.h"

#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/text.h"
#include "base/util.h"

#define LINE_MAX_BYTES 1024
#define WAIT_MS	       100
#define GUEST_LINE_NS  1000000000u

static enum log_level log_level = LOG_WARN;

void log_set_level(enum log_level level)
{
	log_level = level;
}

/* Takes text without its newline. A line that standard error does not take in WAIT_MS is lost: the
 * control thread logs, too. A pipe that is ready takes PIPE_BUF bytes without blocking (pipe(7)).
 */
static void write_line(const char *text)
{
	struct pollfd ready = {.fd = STDERR_FILENO, .events = POLLOUT};
	char line[LINE_MAX_BYTES];
	int saved = errno;
	size_t len;
	ssize_t n;
	int r;

	r = snprintf(line, sizeof(line) - 1, "stasis: %s", text);
	if (r >= 0) {
		text_one_line(line);
		len = strlen(line);
		line[len++] = '\n';
		if (poll(&ready, 1, WAIT_MS) == 1)
			do
				n = write(STDERR_FILENO, line, len);
			while (n < 0 && errno == EINTR);
	}
	errno = saved;
}

void log_at(enum log_level level, const char *fmt, ...)
{
	char text[LINE_MAX_BYTES];
	va_list ap;
	int r;

	if (level > log_level)
		return;
	va_start(ap, fmt);
	r = vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	if (r >= 0)
		write_line(text);
}

void log_failure(const struct error *err)
{
	if (err->hint[0])
		log_error("%s (try: %s)", err->what, err->hint);
	else
		log_error("%s", err->what);
}

void log_guest(struct log_limit *limit, const char *fmt, ...)
{
	char text[LINE_MAX_BYTES];
	uint64_t now;
	va_list ap;
	int r;

	if (log_level < LOG_WARN)
		return;
	now = now_ns();
	if (now < limit->next_ns) {
		limit->suppressed++;
		return;
	}
	va_start(ap, fmt);
	r = vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	if (r < 0)
		return;
	if (limit->suppressed)
		log_warn("%s (%llu more since the last line)", text,
			 (unsigned long long)limit->suppressed);
	else
		log_warn("%s", text);
	limit->suppressed = 0;
	limit->next_ns = now + GUEST_LINE_NS;
}
