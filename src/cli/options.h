/* Options by table: long names, letters, values; a misspelt one offers the nearest. */
#ifndef STASIS_CLI_OPTIONS_H
#define STASIS_CLI_OPTIONS_H

#include <stdbool.h>

#include "base/error.h"

struct cli_option {
	const char *name; /* without "--" */
	char letter;	  /* 0: none */
	/* What help calls its value; NULL: it takes none; "[=WORD]": it may have one, behind "=".
	 */
	const char *value;
	/* value is NULL where there is none. A usage error names the option by itself: the text
	 * given begins with the value. */
	int (*set)(void *target, const char *value, struct error *err);
	const char *help; /* NULL: internal, not shown */
};

/* Reads argv[1 .. argc) into target up to "--" or the first word that is no option, whose index is
 * *ret_rest (argc if none; after "--" the word behind it, and *ret_dashes is set). */
int options_parse(const struct cli_option *options, size_t n, int argc, char **argv, void *target,
		  int *ret_rest, bool *ret_dashes, struct error *err) MUST_CHECK;
/* A line for each option that has help. */
void options_print(const struct cli_option *options, size_t n);

#endif
