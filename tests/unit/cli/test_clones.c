/* What clones say as lines of one stream, and how they ended in sum. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/util.h"
#include "cli/clone_output.h"
#include "cli/clone_tally.h"

static void say(struct clone_lines *l, const char *name, const char *text, struct clone_sink *sink)
{
	clone_lines_add(l, name, text, strlen(text), sink);
}

static void expect(const struct clone_sink *sink, const char *text)
{
	assert_int_equal(sink->len, strlen(text));
	assert_memory_equal(sink->text, text, sink->len);
}

static void test_lines(void **state UNUSED)
{
	struct clone_sink sink = {.fd = -1};
	struct clone_lines a = {0}, b = {0};

	say(&a, "a-0", "one\ntw", &sink);
	say(&b, "a-1", "\nB", &sink);
	expect(&sink, "a-0: one\na-1: \n");
	say(&a, "a-0", "o\n", &sink);
	clone_lines_end(&a, "a-0", &sink);
	clone_lines_end(&b, "a-1", &sink);
	expect(&sink, "a-0: one\na-1: \na-0: two\na-1: B\n");
	clone_sink_done(&sink);
}

/* One without an end does not grow without one. */
static void test_long_line(void **state UNUSED)
{
	CLEANUP_FREE char *text = malloc(CLONE_LINE_MAX + 5);
	struct clone_sink sink = {.fd = -1};
	struct clone_lines l = {0};

	memset(text, 'x', CLONE_LINE_MAX + 5);
	clone_lines_add(&l, "a", text, CLONE_LINE_MAX + 5, &sink);
	assert_int_equal(sink.len, 3 + CLONE_LINE_MAX + 1);
	assert_int_equal(l.len, 5);
	say(&l, "a", "\n", &sink);
	assert_int_equal(sink.len, 3 + CLONE_LINE_MAX + 1 + 3 + 5 + 1);
	clone_sink_done(&sink);
}

static void test_sink(void **state UNUSED)
{
	struct clone_sink sink;
	struct clone_lines l = {0};
	char got[32] = "";
	int pipes[2];

	assert_int_equal(pipe(pipes), 0);
	sink = (struct clone_sink){.fd = pipes[1]};
	assert_true(clone_sink_empty(&sink));
	say(&l, "a", "text\n", &sink);
	assert_false(clone_sink_empty(&sink));
	clone_sink_write(&sink);
	assert_true(clone_sink_empty(&sink));
	assert_int_equal(read(pipes[0], got, sizeof(got)), 8);
	assert_string_equal(got, "a: text\n");
	while (!clone_sink_full(&sink))
		say(&l, "a", "text\n", &sink);
	close(pipes[0]);
	clone_sink_write(&sink);
	assert_int_equal(sink.error, EPIPE);
	/* What nobody takes is not kept. */
	assert_true(clone_sink_empty(&sink));
	say(&l, "a", "text\n", &sink);
	assert_true(clone_sink_empty(&sink));
	close(pipes[1]);
	clone_sink_done(&sink);
}

static void test_worst(void **state UNUSED)
{
	static const int worse[] = {0, 77, 1, 3, 137, 120, 124, 126, 125};

	for (size_t i = 0; i < ARRAY_SIZE(worse); i++)
		for (size_t k = 0; k < ARRAY_SIZE(worse); k++) {
			const struct clone_end ends[] = {{"a", worse[i]}, {"b", worse[k]}};

			assert_int_equal(clone_tally_status(ends, 2), worse[MAX(i, k)]);
		}
}

static void test_text(void **state UNUSED)
{
	struct clone_end ends[12];
	char *text;

	for (size_t i = 0; i < 12; i++)
		ends[i] = (struct clone_end){"a", 0};
	text = clone_tally_text(ends, 1);
	assert_string_equal(text, "1 clone: 1 ended with 0");
	free(text);
	ends[3] = (struct clone_end){"a-3", 1};
	ends[7] = (struct clone_end){"a-7", 124};
	ends[9] = (struct clone_end){"a-9", 1};
	text = clone_tally_text(ends, 12);
	assert_string_equal(text, "12 clones: 9 ended with 0, 2 with 1 (a-3, a-9), 1 with 124, "
				  "timed out (a-7)");
	free(text);
	for (size_t i = 0; i < 12; i++)
		ends[i] = (struct clone_end){"a", 1};
	text = clone_tally_text(ends, 12);
	assert_string_equal(text, "12 clones: 12 ended with 1 (a, a, a, a, a, a, a, a, ...)");
	free(text);
}

static int ignore_pipe(void **state UNUSED)
{
	signal(SIGPIPE, SIG_IGN);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_lines), cmocka_unit_test(test_long_line),
		cmocka_unit_test(test_sink),  cmocka_unit_test(test_worst),
		cmocka_unit_test(test_text),
	};

	return cmocka_run_group_tests(tests, ignore_pipe, NULL);
}
