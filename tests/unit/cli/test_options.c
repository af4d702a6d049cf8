/* The option parser: forms, errors that name the option, suggestions. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <string.h>

#include "cli/options.h"

struct target {
	const char *memory;
	const char *colour;
	int verbose;
	bool before, flag, after;
};

static int set_memory(void *target, const char *value, struct error *err)
{
	if (!strcmp(value, "bad"))
		return error_usage(err, "%s: a size is accepted", value);
	((struct target *)target)->memory = value;
	return 0;
}

static int set_colour(void *target, const char *value, struct error *err UNUSED)
{
	((struct target *)target)->colour = value ?: "on";
	return 0;
}

static int set_verbose(void *target, const char *value, struct error *err UNUSED)
{
	assert_null(value);
	((struct target *)target)->verbose++;
	return 0;
}

static const struct cli_option options[] = {
	{"memory", 'm', "SIZE", set_memory, "size"},
	{"verbose", 'v', NULL, set_verbose, "more"},
	{"colour", 'c', "[=WHEN]", set_colour, "a value that may lack"},
	{"internal", 0, "X", set_memory, NULL},
	OPTION_FLAG("flag", 'f', struct target, flag, "a bool"),
};

static int parse(struct target *t, struct error *err, int *ret_rest, bool *ret_dashes, ...)
{
	static char copies[16][64];
	char *argv[17];
	int argc = 1;
	va_list ap;
	const char *word;

	argv[0] = strcpy(copies[0], "run");
	va_start(ap, ret_dashes);
	while ((word = va_arg(ap, const char *)))
		argv[argc] = strcpy(copies[argc], word), argc++;
	va_end(ap);
	argv[argc] = NULL;
	*t = (struct target){0};
	*err = (struct error){0};
	return options_parse(options, ARRAY_SIZE(options), argc, argv, t, ret_rest, ret_dashes,
			     err);
}

static void test_forms(void **state UNUSED)
{
	struct target t;
	struct error err;
	bool dashes;
	int rest;

	assert_int_equal(parse(&t, &err, &rest, &dashes, "--memory", "1G", "x", NULL), 0);
	assert_string_equal(t.memory, "1G");
	assert_int_equal(rest, 3);
	assert_false(dashes);
	assert_int_equal(parse(&t, &err, &rest, &dashes, "--memory=2G", "--", "-v", NULL), 0);
	assert_string_equal(t.memory, "2G");
	assert_int_equal(t.verbose, 0);
	assert_int_equal(rest, 3);
	assert_true(dashes);
	assert_int_equal(parse(&t, &err, &rest, &dashes, "-vvm512M", "-v", NULL), 0);
	assert_string_equal(t.memory, "512M");
	assert_int_equal(t.verbose, 3);
	assert_int_equal(parse(&t, &err, &rest, &dashes, "-m", "4G", NULL), 0);
	assert_string_equal(t.memory, "4G");
	assert_int_equal(rest, 3);
}

/* The one that is named, and no other. */
static void test_flags(void **state UNUSED)
{
	static const char *const words[] = {"--flag", "-f", "-vf"};
	struct target t;
	struct error err;
	bool dashes;
	int rest;

	assert_int_equal(parse(&t, &err, &rest, &dashes, "-v", NULL), 0);
	assert_false(t.flag);
	for (size_t i = 0; i < ARRAY_SIZE(words); i++) {
		assert_int_equal(parse(&t, &err, &rest, &dashes, words[i], "x", NULL), 0);
		assert_true(t.flag && !t.before && !t.after);
		assert_int_equal(rest, 2);
	}
	assert_int_equal(parse(&t, &err, &rest, &dashes, "--flag=1", NULL), -EINVAL);
}

static void expect_error(const char *part, const char *a, const char *b)
{
	struct target t;
	struct error err;
	bool dashes;
	int rest;

	assert_int_equal(parse(&t, &err, &rest, &dashes, a, b, NULL), -EINVAL);
	assert_int_equal(err.kind, ERROR_USAGE);
	if (!strstr(err.what, part))
		fail_msg("\"%s\" is not in \"%s\"", part, err.what);
}

/* A value that may lack is never the next word. */
static void test_optional_value(void **state UNUSED)
{
	struct target t;
	struct error err;
	bool dashes;
	int rest;

	assert_int_equal(parse(&t, &err, &rest, &dashes, "--colour", "never", NULL), 0);
	assert_string_equal(t.colour, "on");
	assert_int_equal(rest, 2);
	assert_int_equal(parse(&t, &err, &rest, &dashes, "--colour=never", NULL), 0);
	assert_string_equal(t.colour, "never");
	assert_int_equal(parse(&t, &err, &rest, &dashes, "-cv", NULL), 0);
	assert_string_equal(t.colour, "on");
	assert_int_equal(t.verbose, 1);
}

static void test_errors(void **state UNUSED)
{
	expect_error("did you mean --memory", "--memroy", "1G");
	expect_error("no such option", "--zzzzzzzz", NULL);
	expect_error("no such option", "-z", NULL);
	expect_error("needs a value", "--memory", NULL);
	expect_error("needs a value", "-m", NULL);
	expect_error("takes no value", "--verbose=1", NULL);
	expect_error("--memory bad: a size is accepted", "--memory", "bad");
	expect_error("--memory bad: a size is accepted", "-mbad", NULL);
	/* An internal option is taken, but never suggested. */
	expect_error("no such option; --help", "--internel", "x");
}

/* Up to two words, among options. */
static int parse_words(struct target *t, struct error *err, const char *word[2], ...)
{
	char *argv[17] = {(char *)"run"};
	int argc = 1;
	va_list ap;

	va_start(ap, word);
	while (argc < 16 && (argv[argc] = va_arg(ap, char *)))
		argc++;
	va_end(ap);
	*t = (struct target){0};
	*err = (struct error){0};
	return options_parse_words(options, ARRAY_SIZE(options), argc, argv, t, word, 2, err);
}

static void test_words(void **state UNUSED)
{
	const char *word[2];
	struct target t;
	struct error err;

	assert_int_equal(parse_words(&t, &err, word, NULL), 0);
	assert_null(word[0]);
	assert_int_equal(parse_words(&t, &err, word, "a", "-v", NULL), 1);
	assert_string_equal(word[0], "a");
	assert_null(word[1]);
	assert_int_equal(t.verbose, 1);
	assert_int_equal(parse_words(&t, &err, word, "-v", "a", "--memory", "1G", "b", "-v", NULL),
			 2);
	assert_string_equal(word[0], "a");
	assert_string_equal(word[1], "b");
	assert_string_equal(t.memory, "1G");
	assert_int_equal(t.verbose, 2);
	/* Behind two dashes all are words, and those that are too many are counted. */
	assert_int_equal(parse_words(&t, &err, word, "a", "--", "-v", "c", NULL), 3);
	assert_string_equal(word[1], "-v");
	assert_int_equal(t.verbose, 0);
	assert_int_equal(parse_words(&t, &err, word, "-", NULL), 1);
	assert_string_equal(word[0], "-");
	assert_int_equal(parse_words(&t, &err, word, "a", "--zzzzzzzz", NULL), -EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_forms),	       cmocka_unit_test(test_flags),
		cmocka_unit_test(test_optional_value), cmocka_unit_test(test_errors),
		cmocka_unit_test(test_words),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
