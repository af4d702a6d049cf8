/* Finds the release in a kernel's text. The bytes are hostile. Any thread. */
#include "arch/kernel_banner.h"

#include <string.h>

#include "base/compiler.h"

#define RELEASE_MAX 128 /* bytes; utsname's is 64 */
#define BANNER	    "Linux version "
_Static_assert(sizeof(BANNER) - 1 + RELEASE_MAX <= KERNEL_BANNER_MAX, "room for a banner");

char *kernel_release_word(const char *text, size_t room)
{
	for (size_t i = 0; i < MIN(room, (size_t)RELEASE_MAX); i++) {
		if (text[i] == ' ' || text[i] == '\0')
			return i ? strndup(text, i) : NULL;
		if (text[i] <= ' ' || text[i] > '~' || text[i] == '/')
			return NULL;
	}
	return NULL;
}

char *kernel_banner_release(const char *data, size_t len)
{
	const char *end = data + len, *p = data;

	while ((p = memmem(p, (size_t)(end - p), BANNER, strlen(BANNER)))) {
		p += strlen(BANNER);
		/* Formats and messages have the words, too; a release begins with a digit. */
		if (p < end && *p >= '0' && *p <= '9') {
			char *release = kernel_release_word(p, (size_t)(end - p));

			if (release)
				return release;
		}
	}
	return NULL;
}
