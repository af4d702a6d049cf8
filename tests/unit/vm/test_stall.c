/* The rule of what is a stall: a table. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/util.h"
#include "vm/stall.h"

#define MS UINT64_C(1000000)

/* Two looks, 100 ms apart; the first always the same: work waits, not idle, clock 1000. */
static const struct stall_look first = {.at_ns = 1000 * MS,
					.clock = 1000,
					.running = 3,
					.ran_ns = 500 * MS,
					.freezes = 7,
					.interval_ns = 100 * MS};

struct row {
	const char *what;
	struct stall_look second;
	enum stall_verdict want;
};

#define SECOND(...)                                                                                \
	(struct stall_look)                                                                        \
	{                                                                                          \
		.at_ns = 1100 * MS, .clock = 1000, .running = 3, .ran_ns = 600 * MS, .freezes = 7, \
		.interval_ns = 100 * MS, __VA_ARGS__                                               \
	}

static void the_table_holds(void **state)
{
	const struct row rows[] = {
		{"stands, and has run", SECOND(.torn = false), STALL_BEGINS},
		{"... just long enough", SECOND(.ran_ns = 550 * MS), STALL_BEGINS},
		{"... with one waiting", SECOND(.running = 2), STALL_BEGINS},
		{"a clock that moves", SECOND(.clock = 1001), STALL_MOVES},
		{"... even back", SECOND(.clock = 999), STALL_MOVES},
		{"torn", SECOND(.torn = true), STALL_MOVES},
		{"idle", SECOND(.idle = true, .running = 0), STALL_IDLE},
		{"idle, with tasks of sched_ext", SECOND(.idle = true), STALL_IDLE},
		{"tick stopped, one task runs", SECOND(.running = 1), STALL_ALONE},
		{"tick stopped, none", SECOND(.running = 0), STALL_ALONE},
		{"tick stopped, tasks wait and may", SECOND(.tickless = true), STALL_TICKLESS},
		{"preempted, or halted: it did not run", SECOND(.ran_ns = 500 * MS), STALL_WAITS},
		{"... or hardly", SECOND(.ran_ns = 549 * MS), STALL_WAITS},
		{"frozen in between", SECOND(.freezes = 8), STALL_FROZEN},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct stall_cpu s = {0};
		enum stall_verdict v;

		assert_int_equal(stall_look(&s, &first), STALL_MOVES);
		v = stall_look(&s, &rows[i].second);
		if (v != rows[i].want)
			fail_msg("%s: %s", rows[i].what, stall_verdict_name(v));
	}
}

static void a_stall_is_told_once(void **state)
{
	struct stall_look look = first;
	struct stall_cpu s = {0};

	(void)state;
	(void)stall_look(&s, &look);
	look.ran_ns += 100 * MS;
	assert_int_equal(stall_look(&s, &look), STALL_BEGINS);
	look.ran_ns += 100 * MS;
	assert_int_equal(stall_look(&s, &look), STALL_LASTS);
	/* A dump of it freezes the guest; behind it, it is the same one. */
	look.freezes++;
	assert_int_equal(stall_look(&s, &look), STALL_FROZEN);
	look.ran_ns += 100 * MS;
	assert_int_equal(stall_look(&s, &look), STALL_LASTS);
	look.clock++;
	assert_int_equal(stall_look(&s, &look), STALL_MOVES);
	look.ran_ns += 100 * MS;
	assert_int_equal(stall_look(&s, &look), STALL_BEGINS);
}

/* At short intervals time adds up; at each look of one that is preempted it does, too. */
static void time_adds_up(void **state)
{
	struct stall_look look = first;
	struct stall_cpu s = {0};
	unsigned looks = 0;

	(void)state;
	look.interval_ns = 10 * MS;
	(void)stall_look(&s, &look);
	do {
		look.at_ns += 10 * MS;
		look.ran_ns += 7 * MS;
		looks++;
	} while (stall_look(&s, &look) == STALL_WAITS);
	assert_int_equal(looks, 6);
	assert_int_equal(look.at_ns - s.since_ns, 60 * MS);
}

/* Who was idle until now has no time behind him. */
static void work_begins_the_time(void **state)
{
	struct stall_look look = first;
	struct stall_cpu s = {0};

	(void)state;
	(void)stall_look(&s, &look);
	look.idle = true;
	look.ran_ns += 100 * MS;
	assert_int_equal(stall_look(&s, &look), STALL_IDLE);
	look.idle = false;
	assert_int_equal(stall_look(&s, &look), STALL_WAITS);
	look.ran_ns += 50 * MS;
	assert_int_equal(stall_look(&s, &look), STALL_BEGINS);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_table_holds),
		cmocka_unit_test(a_stall_is_told_once),
		cmocka_unit_test(time_adds_up),
		cmocka_unit_test(work_begins_the_time),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
