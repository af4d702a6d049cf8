/* The option parser: no abbreviations, so that adding an option breaks no script. */
#include "cli/options.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/parse.h"

#define MAX_OPTIONS 64
#define LEFT_MAX    50

static const struct cli_option *find_long(const struct cli_option *options, size_t n,
					  const char *name, size_t len)
{
	for (size_t i = 0; i < n; i++)
		if (strlen(options[i].name) == len && !memcmp(options[i].name, name, len))
			return &options[i];
	return NULL;
}

static const struct cli_option *find_letter(const struct cli_option *options, size_t n, char letter)
{
	for (size_t i = 0; i < n; i++)
		if (options[i].letter == letter)
			return &options[i];
	return NULL;
}

static int unknown(const struct cli_option *options, size_t n, const char *word, size_t len,
		   struct error *err)
{
	const char *names[MAX_OPTIONS];
	const char *nearest;
	char name[64];
	size_t shown = 0;

	snprintf(name, sizeof(name), "%.*s", (int)len, word);
	for (size_t i = 0; i < n && shown < MAX_OPTIONS; i++)
		if (options[i].help)
			names[shown++] = options[i].name;
	nearest = parse_nearest(name, names, shown);
	if (nearest)
		return error_usage(err, "--%s: no such option; did you mean --%s?", name, nearest);
	return error_usage(err, "--%s: no such option; --help lists them", name);
}

/* Calls set and puts the option's name before what it complains of. */
static int apply(const struct cli_option *option, void *target, const char *value,
		 struct error *err)
{
	struct error inner = {0};
	int r;

	if (!option->set) {
		*(bool *)((char *)target + option->flag) = true;
		return 0;
	}
	r = option->set(target, value, &inner);
	if (r == 0)
		return 0;
	if (inner.kind == ERROR_USAGE)
		error_usage(err, "--%s %s", option->name, inner.what);
	else
		*err = inner;
	return r;
}

static bool is_optional(const struct cli_option *option)
{
	return option->value && option->value[0] == '[';
}

static int parse_long(const struct cli_option *options, size_t n, char **argv, int argc, int *at,
		      void *target, struct error *err)
{
	const char *word = argv[*at] + 2;
	size_t len = strcspn(word, "=");
	const struct cli_option *option = find_long(options, n, word, len);
	const char *value = word[len] == '=' ? word + len + 1 : NULL;

	if (!option)
		return unknown(options, n, word, len, err);
	if (!option->value && value)
		return error_usage(err, "--%s takes no value", option->name);
	if (option->value && !is_optional(option) && !value) {
		if (*at + 1 >= argc)
			return error_usage(err, "--%s needs a value: %s", option->name,
					   option->value);
		value = argv[++*at];
	}
	return apply(option, target, value, err);
}

/* "-m512M", "-m 512M", "-vv". */
static int parse_letters(const struct cli_option *options, size_t n, char **argv, int argc, int *at,
			 void *target, struct error *err)
{
	for (const char *c = argv[*at] + 1; *c; c++) {
		const struct cli_option *option = find_letter(options, n, *c);
		const char *value = NULL;
		int r;

		if (!option)
			return error_usage(err, "-%c: no such option; --help lists them", *c);
		if (option->value && !is_optional(option)) {
			value = c[1] ? c + 1 : *at + 1 < argc ? argv[++*at] : NULL;
			if (!value)
				return error_usage(err, "-%c needs a value: %s", *c, option->value);
		}
		r = apply(option, target, value, err);
		if (r < 0 || value)
			return r;
	}
	return 0;
}

int options_parse(const struct cli_option *options, size_t n, int argc, char **argv, void *target,
		  int *ret_rest, bool *ret_dashes, struct error *err)
{
	int at, r;

	*ret_dashes = false;
	for (at = 1; at < argc; at++) {
		if (!strcmp(argv[at], "--")) {
			*ret_dashes = true;
			at++;
			break;
		}
		if (argv[at][0] != '-' || !argv[at][1])
			break;
		r = argv[at][1] == '-' ? parse_long(options, n, argv, argc, &at, target, err)
				       : parse_letters(options, n, argv, argc, &at, target, err);
		if (r < 0)
			return r;
	}
	*ret_rest = at;
	return 0;
}

int options_parse_words(const struct cli_option *options, size_t n, int argc, char **argv,
			void *target, const char **ret_word, int max, struct error *err)
{
	bool dashes = false;
	int rest, count = 0;

	for (int i = 0; i < max; i++)
		ret_word[i] = NULL;
	while (argc > 1) {
		int r = options_parse(options, n, argc, argv, target, &rest, &dashes, err);

		if (r < 0)
			return r;
		for (int end = dashes ? argc : MIN(rest + 1, argc); rest < end; rest++) {
			if (count < max)
				ret_word[count] = argv[rest];
			count++;
		}
		/* The last word stands where a command's name does. */
		argc -= rest - 1;
		argv += rest - 1;
	}
	return count;
}

void options_print(const struct cli_option *options, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		char left[128];
		int width;

		if (!options[i].help)
			continue;
		width = snprintf(left, sizeof(left), "%s%c%s--%s%s%s",
				 options[i].letter ? "-" : " ", options[i].letter ?: ' ',
				 options[i].letter ? ", " : "  ", options[i].name,
				 is_optional(&options[i]) ? "" : " ", options[i].value ?: "");
		assert(width < (int)sizeof(left));
		/* What is too long has a line of its own. */
		printf("  %-34s%s%*s %s\n", left, width > LEFT_MAX ? "\n" : "",
		       width > LEFT_MAX ? 36 : 0, "", options[i].help);
	}
}
