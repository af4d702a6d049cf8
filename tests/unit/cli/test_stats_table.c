/* The head of what stats and top print, with and without a monitor. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "cli/stats_table.h"

static json_t *answer(int uptime_s, int switches, int running)
{
	return json_pack(
		"{s:s, s:s, s:i, s:I, s:{s:i, s:{s:i}}, s:{s:i, s:[{s:i, s:{s:i, s:i}}, {s:i, "
		"s:{s:i, s:i}}]}}",
		"name", "vm", "state", "running", "vcpus", 2, "uptime_ns",
		(json_int_t)uptime_s * 1000000000, "exits", "total", 0, "time_ns", "wall", 0,
		"monitor", "stall_count", 3, "cpus", "cpu", 0, "last", "running", 1, "switches",
		100, "cpu", 1, "last", "running", running, "switches", switches);
}

static char *printed(const json_t *now, const json_t *before)
{
	char *text = NULL;
	size_t len = 0;
	FILE *f = open_memstream(&text, &len);

	assert_non_null(f);
	stats_table_print(f, now, before, 0);
	assert_int_equal(fclose(f), 0);
	return text;
}

static size_t lines(const char *text)
{
	size_t n = 0;

	for (; *text; text++)
		n += *text == '\n';
	return n;
}

static void run_queues_have_a_line(void **state)
{
	json_t *before = answer(10, 400, 2), *now = answer(12, 1000, 5);
	char *text = printed(now, before);

	(void)state;
	assert_non_null(now);
	assert_non_null(strstr(text, "run queues tasks 6, most 5 on CPU 1, switches/s 300.0 "
				     "stalls 3\n"));
	assert_int_equal(lines(text), stats_table_head(now));
	free(text);
	json_object_del(now, "monitor");
	text = printed(now, NULL);
	assert_null(strstr(text, "run queues"));
	assert_int_equal(lines(text), stats_table_head(now));
	free(text);
	json_decref(before);
	json_decref(now);
}

/* A halt was guest time until it was known as one. */
static void time_that_was_taken_back_is_none(void **state)
{
	json_t *before = answer(10, 400, 2), *now = answer(12, 1000, 5);
	char *text;

	(void)state;
	json_object_set_new(json_object_get(before, "exits"), "time_ns",
			    json_pack("{s:i, s:i, s:i, s:i}", "wall", 10000, "guest", 6000, "idle",
				      4000, "sampled", 0));
	json_object_set_new(json_object_get(now, "exits"), "time_ns",
			    json_pack("{s:i, s:i, s:i, s:i}", "wall", 12000, "guest", 3000, "idle",
				      8500, "sampled", 500));
	text = printed(now, before);
	assert_non_null(strstr(text, "\nvCPU time  guest 0.00% idle 100.00% "));
	assert_non_null(strstr(text, " sampled 25.00% parked 0.00%\n"));
	free(text);
	json_decref(before);
	json_decref(now);
}

static void counters_have_a_line(void **state)
{
	json_t *now = answer(2, 0, 0), *exits = json_object_get(now, "exits");
	char *text;

	(void)state;
	json_object_set_new(exits, "counters",
			    json_pack("{s:i, s:i}", "cycles", 4000, "instructions", 6000));
	text = printed(now, NULL);
	assert_non_null(strstr(text, "\ncounters   cycles/s 2000 instructions/s 3000, 1.50 a"));
	assert_int_equal(lines(text), stats_table_head(now));
	free(text);
	/* The PMU never had the room. */
	json_object_set_new(exits, "counters", json_object());
	text = printed(now, NULL);
	assert_non_null(strstr(text, "\ncounters   unknown: "));
	assert_int_equal(lines(text), stats_table_head(now));
	free(text);
	json_decref(now);
}

static void what_the_times_do_not_say_has_a_line(void **state)
{
	json_t *now = answer(12, 1000, 5);
	json_t *exits = json_object_get(now, "exits");
	size_t before = stats_table_head(now);
	char *text;

	(void)state;
	json_object_set_new(exits, "lacks", json_pack("[s, s]", "one thing", "another"));
	text = printed(now, NULL);
	assert_non_null(strstr(text, "\ndegraded   one thing\ndegraded   another\n"));
	assert_int_equal(stats_table_head(now), before + 2);
	assert_int_equal(lines(text), stats_table_head(now));
	free(text);
	json_decref(now);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(run_queues_have_a_line),
		cmocka_unit_test(time_that_was_taken_back_is_none),
		cmocka_unit_test(counters_have_a_line),
		cmocka_unit_test(what_the_times_do_not_say_has_a_line),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
