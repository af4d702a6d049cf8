/* What a person types: right, wrong, and at the edges of 64 bits. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/parse.h"

#define UNTOUCHED 0xdeadbeefu

struct row {
	const char *text;
	int result;
	uint64_t value;
};

static void check(int (*parse)(const char *, uint64_t *), const struct row *rows, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		uint64_t v = UNTOUCHED;
		int r = parse(rows[i].text, &v);

		if (r != rows[i].result || v != (r ? UNTOUCHED : rows[i].value))
			fail_msg("\"%s\": %d, %llu", rows[i].text, r, (unsigned long long)v);
	}
}

static int any_uint(const char *text, uint64_t *ret)
{
	return parse_uint(text, 0, UINT64_MAX, ret);
}

static void whole_numbers(void **state)
{
	static const struct row rows[] = {
		{"0", 0, 0},
		{"007", 0, 7},
		{"18446744073709551615", 0, UINT64_MAX},
		{"18446744073709551616", -ERANGE, 0},
		{"99999999999999999999999999", -ERANGE, 0},
		{"99999999999999999999999999x", -EINVAL, 0},
		{"", -EINVAL, 0},
		{" 1", -EINVAL, 0},
		{"1 ", -EINVAL, 0},
		{"+1", -EINVAL, 0},
		{"-1", -EINVAL, 0},
		{"0x10", -EINVAL, 0},
		{"1.0", -EINVAL, 0},
		{"banana", -EINVAL, 0},
	};
	uint64_t v = UNTOUCHED;

	(void)state;
	check(any_uint, rows, ARRAY_SIZE(rows));
	assert_int_equal(parse_uint("4", 5, 9, &v), -ERANGE);
	assert_int_equal(parse_uint("10", 5, 9, &v), -ERANGE);
	assert_int_equal(v, UNTOUCHED);
	assert_int_equal(parse_uint("5", 5, 9, &v), 0);
	assert_int_equal(v, 5);
	assert_int_equal(parse_uint("9", 5, 9, &v), 0);
	assert_int_equal(v, 9);
}

static void sizes(void **state)
{
	static const struct row rows[] = {
		{"65536", 0, 65536},
		{"1K", 0, 1024},
		{"512M", 0, 512ull << 20},
		{"4G", 0, 4ull << 30},
		{"2T", 0, 2ull << 40},
		{"0", 0, 0},
		{"16777215T", 0, 16777215ull << 40},
		{"16777216T", -ERANGE, 0},
		{"18446744073709551616", -ERANGE, 0},
		{"18446744073709551616G", -ERANGE, 0},
		{"18446744073709551616X", -EINVAL, 0},
		{"M", -EINVAL, 0},
		{"", -EINVAL, 0},
		{"1KB", -EINVAL, 0},
		{"1P", -EINVAL, 0},
		{"1 M", -EINVAL, 0},
		{"-1M", -EINVAL, 0},
	};

	(void)state;
	check(parse_size, rows, ARRAY_SIZE(rows));
}

static void durations(void **state)
{
	static const struct row rows[] = {
		{"250us", 0, 250000},
		{"1ns", 0, 1},
		{"3ms", 0, 3000000},
		{"5s", 0, 5000000000u},
		{"1m", 0, 60000000000u},
		{"0s", 0, 0},
		{"18446744073709551615ns", 0, UINT64_MAX},
		{"18446744073709552us", -ERANGE, 0},
		{"99999999999999999999s", -ERANGE, 0},
		{"99999999999999999999x", -EINVAL, 0},
		{"5", -EINVAL, 0},
		{"s", -EINVAL, 0},
		{"", -EINVAL, 0},
		{"5 s", -EINVAL, 0},
		{"5S", -EINVAL, 0},
		{"5sec", -EINVAL, 0},
	};

	(void)state;
	check(parse_duration, rows, ARRAY_SIZE(rows));
}

struct seen {
	uint64_t n[64];
	unsigned count;
	uint64_t stop_at;
};

static int note(uint64_t n, void *arg)
{
	struct seen *seen = arg;

	if (n == seen->stop_at)
		return -EXDEV;
	if (seen->count < ARRAY_SIZE(seen->n))
		seen->n[seen->count] = n;
	seen->count++;
	return 0;
}

static void lists(void **state)
{
	static const uint64_t expected[] = {7, 0, 2, 3, 4, 5, 2};
	static const char *const wrong[] = {"",	  ",",	 "1,",	  ",1",	 "1,,2", "1-",
					    "-1", "5-2", "1-2-3", "1;2", "a",	 "1 ,2"};
	struct seen seen = {.stop_at = UINT64_MAX};

	(void)state;
	assert_int_equal(parse_list("7,0,2-5,2", 7, note, &seen), 0);
	assert_int_equal(seen.count, ARRAY_SIZE(expected));
	assert_memory_equal(seen.n, expected, sizeof(expected));

	seen.count = 0;
	for (size_t i = 0; i < ARRAY_SIZE(wrong); i++) {
		if (parse_list(wrong[i], 100, note, &seen) != -EINVAL)
			fail_msg("\"%s\" passed", wrong[i]);
	}
	assert_int_equal(parse_list("1,8", 7, note, &seen), -ERANGE);
	assert_int_equal(parse_list("0-8", 7, note, &seen), -ERANGE);
	assert_int_equal(parse_list("0-99999999999999999999", UINT64_MAX, note, &seen), -ERANGE);
	/* What is wrong at its end does nothing at its start. */
	assert_int_equal(parse_list("1,2,x", 7, note, &seen), -EINVAL);
	assert_int_equal(seen.count, 0);

	seen.stop_at = 3;
	assert_int_equal(parse_list("2-5,6", 7, note, &seen), -EXDEV);
	assert_int_equal(seen.count, 1);

	seen = (struct seen){.stop_at = 1};
	assert_int_equal(parse_list("18446744073709551614-18446744073709551615", UINT64_MAX, note,
				    &seen),
			 0);
	assert_int_equal(seen.count, 2);
	assert_int_equal(seen.n[1], UINT64_MAX);
}

static void near_misses(void **state)
{
	static const char *const words[] = {"memory", "topology", "timeout",
					    "kernel", "pin",	  "qmp"};
	static const char *const ties[] = {"cat", "car"};
	static const struct {
		const char *word, *nearest;
	} rows[] = {
		{"memroy", "memory"},
		{"memory", "memory"},
		{"kernle", "kernel"},
		{"topolgy", "topology"},
		{"timeouts", "timeout"},
		{"pni", "pin"},
		{"qpm", "qmp"},
		{"qm", "qmp"},
		{"banana", NULL},
		{"x", NULL},
		{"", NULL},
		{"abc", NULL},
	};
	char longest[200];

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		const char *got = parse_nearest(rows[i].word, words, ARRAY_SIZE(words));

		if (got != rows[i].nearest &&
		    (!got || !rows[i].nearest || strcmp(got, rows[i].nearest)))
			fail_msg("\"%s\" gave %s", rows[i].word, got ? got : "nothing");
	}
	assert_null(parse_nearest("memory", words, 0));
	assert_string_equal(parse_nearest("cab", ties, 2), "cat");
	memset(longest, 'a', sizeof(longest) - 1);
	longest[sizeof(longest) - 1] = '\0';
	assert_null(parse_nearest(longest, words, ARRAY_SIZE(words)));
	assert_null(parse_nearest("aaaa", (const char *const[]){longest}, 1));
	/* The longest that is compared at all. */
	longest[128] = '\0';
	assert_ptr_equal(parse_nearest(longest + 1, (const char *const[]){longest}, 1), longest);
}

static void sizes_are_told_whole(void **state)
{
	static const struct {
		uint64_t bytes;
		const char *text;
	} rows[] = {
		{0, "0 B"},
		{1, "1 B"},
		{1024, "1 KiB"},
		{1025, "1025 B"},
		{1536ull << 20, "1536 MiB"},
		{2ull << 30, "2 GiB"},
		{3ull << 40, "3 TiB"},
		{UINT64_MAX, "18446744073709551615 B"},
		{1ull << 63, "8 EiB"},
	};
	char buf[32];

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
		assert_string_equal(format_size(rows[i].bytes, buf, sizeof(buf)), rows[i].text);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(whole_numbers), cmocka_unit_test(sizes),
		cmocka_unit_test(durations),	 cmocka_unit_test(lists),
		cmocka_unit_test(near_misses),	 cmocka_unit_test(sizes_are_told_whole),
	};

	return cmocka_run_group_tests_name("parse", tests, NULL, NULL);
}
