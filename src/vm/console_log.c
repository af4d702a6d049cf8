/* A ring of console bytes, and a matcher for one line. Control thread. */
#include "vm/console_log.h"

#include <stdlib.h>

#include "base/compiler.h"

/* kernel/panic.c prints it first, at KERN_EMERG. No prefix of it occurs inside it again, so a
 * mismatch only ever falls back to the start. */
static const char panic_line[] = "Kernel panic - not syncing";

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
			log->matched = 0;
		}
	}
}

char *console_log_tail(const struct console_log *log, unsigned max_lines)
{
	uint64_t start = log->written > CONSOLE_LOG_SIZE ? log->written - CONSOLE_LOG_SIZE : 0;
	uint64_t from = log->written;
	unsigned lines = 0;
	size_t n = 0;
	char *text;

	/* Back over max_lines newlines; the last byte's own does not count. */
	while (from > start) {
		if (log->text[(from - 1) % CONSOLE_LOG_SIZE] == '\n' && from != log->written &&
		    ++lines == max_lines)
			break;
		from--;
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
