/* Text made by a format, on the heap; foreign text made harmless. Any thread. */
#ifndef STASIS_BASE_TEXT_H
#define STASIS_BASE_TEXT_H

#include <stdarg.h>
#include <stdio.h>

#include "base/compiler.h"

/* malloc'ed, or NULL when out of memory. */
static inline PRINTF_LIKE(1, 2) char *text_format(const char *fmt, ...)
{
	char *text = NULL;
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vasprintf(&text, fmt, ap);
	va_end(ap);
	/* On failure vasprintf leaves text undefined. */
	return n < 0 ? NULL : text;
}

/* Puts '?' for each byte of what controls a terminal or turns a line's direction (C0, DEL, C1 as a
 * byte or in UTF-8, Unicode's bidirectional embeddings, overrides and isolates), and for bytes that
 * no character begins with: text that a guest or a file name brought can't start a line of its own
 * or drive the terminal. */
void text_one_line(char *text);

#endif
