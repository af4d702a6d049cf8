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

/* How the second look differs. */
struct row {
	const char *what;
	int64_t clock, running, ran_ms, freezes; /* added to the first's, which ran 100 ms more */
	bool torn, idle, tickless;
	enum stall_verdict want;
};

static const struct row rows[] = {
	{"stands, and has run", .want = STALL_BEGINS},
	{"... just long enough", .ran_ms = -50, .want = STALL_BEGINS},
	{"... with one waiting", .running = -1, .want = STALL_BEGINS},
	{"a clock that moves", .clock = 1, .want = STALL_MOVES},
	{"... even back", .clock = -1, .want = STALL_MOVES},
	{"torn", .torn = true, .want = STALL_MOVES},
	{"idle", .idle = true, .running = -3, .want = STALL_IDLE},
	{"idle, with tasks of sched_ext", .idle = true, .want = STALL_IDLE},
	{"tick stopped, one task runs", .running = -2, .want = STALL_ALONE},
	{"tick stopped, none", .running = -3, .want = STALL_ALONE},
	{"tick stopped, tasks wait and may", .tickless = true, .want = STALL_TICKLESS},
	{"preempted, or halted: it did not run", .ran_ms = -100, .want = STALL_WAITS},
	{"... or hardly", .ran_ms = -51, .want = STALL_WAITS},
	{"frozen in between", .freezes = 1, .want = STALL_FROZEN},
};

static void the_table_holds(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		const struct row *row = &rows[i];
		struct stall_look look = first;
		struct stall_cpu s = {0};
		enum stall_verdict v;

		assert_int_equal(stall_look(&s, &look), STALL_MOVES);
		look.at_ns += 100 * MS;
		look.clock += (uint64_t)row->clock;
		look.running += (uint64_t)row->running;
		look.ran_ns += (uint64_t)(100 + row->ran_ms) * MS;
		look.freezes += (uint64_t)row->freezes;
		look.torn = row->torn;
		look.idle = row->idle;
		look.tickless = row->tickless;
		v = stall_look(&s, &look);
		if (v != row->want)
			fail_msg("%s: %s", row->what, stall_verdict_name(v));
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

static void what_nobody_asked_for_is_no_time(void **state)
{
	struct stall_look look = first;
	struct stall_cpu s = {0};

	(void)state;
	look.ran_ns = STALL_RAN_UNKNOWN;
	(void)stall_look(&s, &look);
	look.ran_ns = 500 * MS;
	assert_int_equal(stall_look(&s, &look), STALL_WAITS);
	look.ran_ns = STALL_RAN_UNKNOWN;
	assert_int_equal(stall_look(&s, &look), STALL_WAITS);
	look.ran_ns = 550 * MS;
	assert_int_equal(stall_look(&s, &look), STALL_BEGINS);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_table_holds),
		cmocka_unit_test(a_stall_is_told_once),
		cmocka_unit_test(time_adds_up),
		cmocka_unit_test(work_begins_the_time),
		cmocka_unit_test(what_nobody_asked_for_is_no_time),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
