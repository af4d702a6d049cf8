/* What foreign text may not have on a person's terminal. Pure; any thread. */
#include "base/text.h"

#include <stdbool.h>

/* Bytes of the UTF-8 character that text begins with; 0: none does. */
static size_t length_of(const unsigned char *text)
{
	size_t length = text[0] < 0x80			     ? 1
			: text[0] >= 0xc2 && text[0] <= 0xdf ? 2
			: text[0] >= 0xe0 && text[0] <= 0xef ? 3
			: text[0] >= 0xf0 && text[0] <= 0xf4 ? 4
							     : 0;

	/* A NUL is none that follows. */
	for (size_t i = 1; i < length; i++)
		if ((text[i] & 0xc0) != 0x80)
			return 0;
	return length;
}

static bool controls(const unsigned char *c, size_t length)
{
	switch (length) {
	case 1:
		return c[0] < 0x20 || c[0] == 0x7f;
	case 2:
		return c[0] == 0xc2 && c[1] < 0xa0; /* U+0080 to U+009F */
	case 3:
		/* U+202A to U+202E, U+2066 to U+2069; U+200E and U+200F. */
		return c[0] == 0xe2 && ((c[1] == 0x80 && c[2] >= 0xaa && c[2] <= 0xae) ||
					(c[1] == 0x81 && c[2] >= 0xa6 && c[2] <= 0xa9) ||
					(c[1] == 0x80 && (c[2] == 0x8e || c[2] == 0x8f)));
	default:
		return length == 0;
	}
}

void text_one_line(char *text)
{
	while (*text) {
		size_t length = length_of((const unsigned char *)text);
		bool bad = controls((const unsigned char *)text, length);

		for (size_t i = 0; i < (length ?: 1); i++, text++)
			if (bad)
				*text = '?';
	}
}
