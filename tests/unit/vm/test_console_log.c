/* The end of the console, and the panic line, however the bytes are cut. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/compiler.h"
#include "vm/console_log.h"

static struct console_log log_;

static void add(const char *text)
{
	console_log_add(&log_, (const uint8_t *)text, strlen(text));
}

static void expect_tail(unsigned lines, const char *want)
{
	char *tail = console_log_tail(&log_, lines);

	assert_non_null(tail);
	assert_string_equal(tail, want);
	free(tail);
}

static void test_tail(void **state UNUSED)
{
	log_ = (struct console_log){0};
	expect_tail(5, "");
	add("one\r\ntwo\r\nthree\r\n");
	expect_tail(2, "two\nthree\n");
	expect_tail(9, "one\ntwo\nthree\n");
	add("no end\x1b[0m");
	expect_tail(1, "no end[0m\n");
}

static void test_ring_wraps(void **state UNUSED)
{
	log_ = (struct console_log){0};
	for (unsigned i = 0; i < CONSOLE_LOG_SIZE / 4; i++)
		add("0123456\n");
	add("last\n");
	expect_tail(2, "0123456\nlast\n");
	/* More lines than the ring holds: what it holds, and no more. */
	char *tail = console_log_tail(&log_, CONSOLE_LOG_SIZE);

	assert_true(strlen(tail) <= CONSOLE_LOG_SIZE);
	free(tail);
}

static void test_panic_line(void **state UNUSED)
{
	static const char line[] = "[1.0] Kernel panic - not syncing: Attempted to kill init!\n";

	for (size_t cut = 0; cut < sizeof(line); cut++) {
		log_ = (struct console_log){0};
		console_log_add(&log_, (const uint8_t *)line, cut);
		console_log_add(&log_, (const uint8_t *)line + cut,
				sizeof(line) - 1 - MIN(cut, sizeof(line) - 1));
		assert_true(log_.panicked);
	}
	log_ = (struct console_log){0};
	add("Kernel panic - not syncin Kernel Kernel panic");
	assert_false(log_.panicked);
	add("Kernel pKernel panic - not syncing");
	assert_true(log_.panicked);
}

static void add_lines(const char *text, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		add(text);
}

static unsigned count_lines(const char *text)
{
	unsigned n = 0;

	for (; *text; text++)
		n += *text == '\n';
	return n;
}

/* A long trace must not hide the line that says what it is about. */
static void test_tail_of_a_panic(void **state UNUSED)
{
	char *tail;

	log_ = (struct console_log){0};
	add_lines("earlier\n", 30);
	add("the oops\n");
	add("Kernel panic - not syncing: why\n");
	add_lines(" trace\n", 15);
	tail = console_log_tail(&log_, 10);
	assert_non_null(
		strstr(tail, "earlier\nthe oops\nKernel panic - not syncing: why\n trace\n"));
	assert_int_equal(count_lines(tail), 10 + 15); /* the panic's own line is one of the ten */
	free(tail);

	/* Whatever comes after: never more than four times as much. */
	add_lines(" more\n", 200);
	tail = console_log_tail(&log_, 10);
	assert_true(count_lines(tail) <= 40);
	free(tail);

	/* Out of the ring altogether. */
	add_lines(" 0123456789012345678901234567890\n", CONSOLE_LOG_SIZE / 32);
	tail = console_log_tail(&log_, 10);
	assert_int_equal(count_lines(tail), 10);
	free(tail);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_tail),
		cmocka_unit_test(test_ring_wraps),
		cmocka_unit_test(test_panic_line),
		cmocka_unit_test(test_tail_of_a_panic),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
