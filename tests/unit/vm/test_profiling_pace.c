/* How often a guest's kernel is read, whatever the guest does. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "vm/profiling_pace.h"

#define S  UINT64_C(1000000000)
#define MS UINT64_C(1000000)

/* A guest that gives this reason at each look, every 4 ms for so long: how often it is read. */
static unsigned go_on(struct profiling_pace *p, enum profiling_reason why, bool found,
		      uint64_t *now_ns, uint64_t for_ns)
{
	uint64_t end_ns = *now_ns + for_ns, last_ns = p->read_ns;
	unsigned n = 0;

	for (; *now_ns < end_ns; *now_ns += 4 * MS) {
		if (!profiling_pace_due(p, why, *now_ns))
			continue;
		assert_true(*now_ns - last_ns >= PROFILING_PACE_FIRST_NS);
		profiling_pace_read(p, why, found, *now_ns);
		last_ns = *now_ns;
		n++;
	}
	return n;
}

static void the_first_is_at_once(void **state)
{
	struct profiling_pace p = {0};

	(void)state;
	assert_true(profiling_pace_due(&p, PROFILING_SEEK, 1));
	assert_false(profiling_pace_due(&p, PROFILING_NONE, 100 * S));
	profiling_pace_read(&p, PROFILING_SEEK, true, 100 * S);
	assert_false(profiling_pace_due(&p, PROFILING_COME, 100 * S + 499 * MS));
	assert_true(profiling_pace_due(&p, PROFILING_COME, 100 * S + 500 * MS));
}

static void code_that_comes_in_steps_is_soon_known(void **state)
{
	struct profiling_pace p = {0};
	uint64_t now_ns = 100 * S;
	unsigned n;

	(void)state;
	profiling_pace_read(&p, PROFILING_SEEK, true, now_ns);
	n = go_on(&p, PROFILING_COME, true, &now_ns, 6 * S);
	assert_true(n >= 11 && n <= 12);
	assert_false(profiling_pace_is_slow(&p));
}

static void a_guest_that_goes_on_is_read_seldom(void **state)
{
	struct profiling_pace p = {0};
	uint64_t now_ns = 100 * S;
	unsigned first, hour;

	(void)state;
	profiling_pace_read(&p, PROFILING_SEEK, true, now_ns);
	first = go_on(&p, PROFILING_COME, true, &now_ns, 60 * S);
	assert_true(profiling_pace_is_slow(&p));
	assert_true(first > PROFILING_PACE_FREE && first <= PROFILING_PACE_FREE + 8);
	hour = go_on(&p, PROFILING_COME, true, &now_ns, 3600 * S);
	assert_true(hour >= 200 && hour <= 3600 / 16 + 1);
	/* It still is: code that comes is known in the end. */
	assert_int_equal(go_on(&p, PROFILING_COME, true, &now_ns, 17 * S), 1);
	/* A pause, and it is as new. */
	now_ns += 60 * S;
	assert_true(profiling_pace_due(&p, PROFILING_COME, now_ns));
	profiling_pace_read(&p, PROFILING_COME, true, now_ns);
	assert_false(profiling_pace_is_slow(&p));
	assert_true(profiling_pace_due(&p, PROFILING_COME, now_ns + 500 * MS));
}

static void what_is_never_known_is_asked_for_seldom(void **state)
{
	struct profiling_pace p = {0};
	uint64_t now_ns = 100 * S;
	unsigned n;

	(void)state;
	n = go_on(&p, PROFILING_SEEK, false, &now_ns, 3600 * S);
	assert_true(n > 200 && n <= 3600 / 16 + 6);
	assert_false(profiling_pace_is_slow(&p));
}

/* Code that comes must not have unknown code asked for more often than it is itself. */
static void both_together_are_bounded(void **state)
{
	struct profiling_pace p = {0};
	uint64_t now_ns = 100 * S;
	unsigned n = 0;

	(void)state;
	profiling_pace_read(&p, PROFILING_SEEK, true, now_ns);
	for (unsigned i = 0; i < 3600; i++) {
		n += go_on(&p, PROFILING_COME, true, &now_ns, S / 2);
		n += go_on(&p, PROFILING_SEEK, false, &now_ns, S / 2);
	}
	assert_true(n <= 2 * (3600 / 16) + 4 * PROFILING_PACE_FREE);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_first_is_at_once),
		cmocka_unit_test(code_that_comes_in_steps_is_soon_known),
		cmocka_unit_test(a_guest_that_goes_on_is_read_seldom),
		cmocka_unit_test(what_is_never_known_is_asked_for_seldom),
		cmocka_unit_test(both_together_are_bounded),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
