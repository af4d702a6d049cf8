/* A ring of console bytes, and a matcher for one line. Control thread. */
#include "vm/console_log.h"

#include <stdlib.h>

#include "base/compiler.h"

/* kernel/panic.c prints it first, at KERN_EMERG. No prefix of it occurs inside it again, so a
 * mismatch only ever falls back to the start. */
static const char panic_line[] = "Kernel panic - not syncing";

/* A panic's tail is at most so many times as long as another's: what the guest wrote a long time
 * ago may have been no panic. */
#define PANIC_FACTOR 4

void console_log_add(struct console_log *log, const uint8_t *data, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		char c = (char)data[i];

		log->text[log->written++ % CONSOLE_LOG_SIZE] = c;
		if (c != panic_line[log->matched])
			log->matched = 0;
		if (c == panic_line[log->matched])
			log->matched++;
		if (log->matched == sizeof(panic_line) - 1) {
			log->panicked = true;
			log->panic_end = log->written;
			log->matched = 0;
		}
	}
}

/* Where a line starts, lines - 1 line ends back from the line that holds the byte before end; not
 * before floor. The newline at end itself does not count. */
static uint64_t lines_back(const struct console_log *log, uint64_t end, uint64_t floor,
			   unsigned lines)
{
	uint64_t from = end;

	while (from > floor) {
		if (log->text[(from - 1) % CONSOLE_LOG_SIZE] == '\n' && from != end && --lines == 0)
			break;
		from--;
	}
	return from;
}

char *console_log_tail(const struct console_log *log, unsigned max_lines)
{
	uint64_t kept = log->written > CONSOLE_LOG_SIZE ? log->written - CONSOLE_LOG_SIZE : 0;
	uint64_t from = lines_back(log, log->written, kept, max_lines);
	size_t n = 0;
	char *text;

	/* A panic is of no use without its first line and what led up to it. */
	if (log->panicked && log->panic_end > kept) {
		uint64_t bound = lines_back(log, log->written, kept, max_lines * PANIC_FACTOR);

		if (log->panic_end > bound)
			from = MIN(from, lines_back(log, log->panic_end, bound, max_lines));
	}
	text = malloc((size_t)(log->written - from) + 2);
	if (!text)
		return NULL;
	for (; from < log->written; from++) {
		char c = log->text[from % CONSOLE_LOG_SIZE];

		if (c == '\n' || c == '\t' || (uint8_t)c >= ' ')
			if (c != 0x7f)
				text[n++] = c;
	}
	if (n > 0 && text[n - 1] != '\n')
		text[n++] = '\n';
	text[n] = '\0';
	return text;
}
