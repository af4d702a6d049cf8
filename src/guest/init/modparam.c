/* Finds MODULE.PARAMETER=VALUE on a command line. Pure; one thread: init's. */
#include "guest/init/modparam.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

static char same_dash(char c)
{
	return c == '-' ? '_' : c;
}

/* Bytes of "MODULE." at word, or 0. */
static size_t match(const char *word, const char *module)
{
	size_t n = 0;

	while (module[n] && same_dash(word[n]) == same_dash(module[n]))
		n++;
	return n > 0 && !module[n] && word[n] == '.' ? n + 1 : 0;
}

/* Bytes to the space or end of line that ends the word. */
static size_t word_len(const char *word)
{
	bool quoted = false;
	size_t n;

	for (n = 0; word[n] && word[n] != '\n' && (quoted || word[n] != ' '); n++)
		if (word[n] == '"')
			quoted = !quoted;
	return n;
}

char *modparam_find(const char *cmdline, const char *module)
{
	/* Never longer than the line: every word loses its prefix and gains a space. */
	char *found = malloc(strlen(cmdline) + 2);
	size_t at = 0;

	if (!found)
		return NULL;
	while (*cmdline) {
		size_t len = word_len(cmdline);
		size_t skip = match(cmdline, module);

		if (skip && skip < len) {
			if (at > 0)
				found[at++] = ' ';
			memcpy(found + at, cmdline + skip, len - skip);
			at += len - skip;
		}
		cmdline += len;
		cmdline += *cmdline != '\0';
	}
	found[at] = '\0';
	return found;
}
