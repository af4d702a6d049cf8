/* Text made by a format, on the heap. Any thread. */
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

/* Puts '?' for each control character: text that a guest or a file name brought can't start a
 * line of its own or drive the terminal. */
static inline void text_one_line(char *text)
{
	for (; *text; text++) {
		unsigned char c = (unsigned char)*text;

		if (c < 0x20 || c == 0x7f)
			*text = '?';
	}
}

#endif
