/* Ticks: they go as fast as CLOCK_MONOTONIC, whichever clock they are. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/ticks.h"

static void ticks_last_as_long_as_they_say(void **state)
{
	uint64_t ns, ticks, passed_ns;
	double measured;

	(void)state;
	ticks_init();
	assert_true(ticks_per_ns() > 0.01);
	ns = now_ns();
	ticks = ticks_now();
	usleep(50000);
	ticks = ticks_between(ticks, ticks_now());
	passed_ns = now_ns() - ns;
	measured = (double)ticks / ticks_per_ns();
	/* The second reading of each may be late on a busy host, but not by this much. */
	assert_true(measured <= 1.01 * (double)passed_ns);
	assert_true(measured >= 0.5 * (double)passed_ns);
}

static void time_never_runs_backwards(void **state)
{
	(void)state;
	assert_true(ticks_between(5, 3) == 0);
	assert_true(ticks_between(3, 5) == 2);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(ticks_last_as_long_as_they_say),
		cmocka_unit_test(time_never_runs_backwards),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
