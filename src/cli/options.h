/* Options by table: long names, letters, values; a misspelt one offers the nearest. */
#ifndef STASIS_CLI_OPTIONS_H
#define STASIS_CLI_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"

struct cli_option {
	const char *name; /* without "--" */
	char letter;	  /* 0: none */
	/* What help calls its value; NULL: it takes none; "[=WORD]": it may have one, behind "=".
	 */
	const char *value;
	/* value is NULL where there is none. A usage error names the option by itself: the text
	 * given begins with the value. NULL: the bool at flag becomes true. */
	int (*set)(void *target, const char *value, struct error *err);
	const char *help; /* NULL: internal, not shown */
	size_t flag;	  /* offset in the target */
};
/* An option that has no value and sets a bool of the target, which is a type. */
#define OPTION_FLAG(name, letter, type, field, help)                                               \
	{                                                                                          \
		name, letter, NULL, NULL, help,                                                    \
			offsetof(type, field) + OPTION_IS_BOOL(type, field)                        \
	}
/* 0, or it does not compile. */
#define OPTION_IS_BOOL(type, field)                                                                \
	(0 *                                                                                       \
	 sizeof(char[__builtin_types_compatible_p(__typeof__(((type *)0)->field), bool) ? 1        \
											: -1]))

/* Reads argv[1 .. argc) into target up to "--" or the first word that is no option, whose index is
 * *ret_rest (argc if none; after "--" the word behind it, and *ret_dashes is set). */
int options_parse(const struct cli_option *options, size_t n, int argc, char **argv, void *target,
		  int *ret_rest, bool *ret_dashes, struct error *err) MUST_CHECK;
/* The same of a command whose words may stand before, between and behind its options; behind "--"
 * all are words. Returns how many there are, of which the first max are in ret_word (the rest of it
 * is NULL), or the usage error. */
int options_parse_words(const struct cli_option *options, size_t n, int argc, char **argv,
			void *target, const char **ret_word, int max, struct error *err) MUST_CHECK;
/* A line for each option that has help. */
void options_print(const struct cli_option *options, size_t n);

#endif
