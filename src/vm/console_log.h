/* What the guest wrote to its serial console: the end of it is kept, to be printed when a run
 * goes wrong, and it is watched for the kernel's panic line. Control thread. */
#ifndef STASIS_VM_CONSOLE_LOG_H
#define STASIS_VM_CONSOLE_LOG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CONSOLE_LOG_SIZE (64u << 10)

struct console_log {
	char text[CONSOLE_LOG_SIZE]; /* ring */
	uint64_t written;	     /* bytes ever */
	unsigned matched;	     /* how much of the panic line the last bytes match */
	bool panicked;		     /* the panic line was seen */
	uint64_t panic_end;	     /* … last, up to this byte */
};

void console_log_add(struct console_log *log, const uint8_t *data, size_t len);
/* The last lines, at most max_lines, as printable text: control characters but tab are dropped.
 * After a panic line it begins max_lines before that, so that the trace never hides its cause; four
 * times max_lines is the most.
 * malloc'ed, ends with a newline unless empty; NULL when out of memory. */
char *console_log_tail(const struct console_log *log, unsigned max_lines);

#endif
