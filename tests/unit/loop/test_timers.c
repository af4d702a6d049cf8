/* Timers: order, replacement and clearing, also from inside fire(), and many of them. */
#include "helper.h"

#include <stdlib.h>

#define LOG_MAX 64

struct test_timer {
	struct loop_timer timer;
	struct loop *loop;
	unsigned fires;
	unsigned again;		   /* sets itself as often, for the past */
	struct test_timer *clears; /* when it fires */
	struct test_timer *sets;   /* when it fires, for the past */
};

static struct test_timer *fired[LOG_MAX];
static unsigned fired_count;

static void fire(struct loop_timer *timer)
{
	struct test_timer *t = container_of(timer, struct test_timer, timer);

	t->fires++;
	if (fired_count < LOG_MAX)
		fired[fired_count] = t;
	fired_count++;
	if (t->clears)
		loop_timer_clear(t->loop, &t->clears->timer);
	if (t->sets)
		assert_int_equal(loop_timer_set(t->loop, &t->sets->timer, 0), 0);
	if (t->again) {
		t->again--;
		assert_int_equal(loop_timer_set(t->loop, timer, 0), 0);
	}
}

static int setup(void **state)
{
	fired_count = 0;
	return setup_loop(state);
}

static void init(struct test_timer *t, unsigned n, struct loop *loop)
{
	for (unsigned i = 0; i < n; i++)
		t[i] = (struct test_timer){.timer.fire = fire, .loop = loop};
}

static void they_fire_in_order_and_not_early(void **state)
{
	static const unsigned delay_ms[] = {30, 10, 20, 10, 0, 30};
	static const unsigned order[] = {4, 1, 3, 2, 0, 5};
	struct test_timer t[ARRAY_SIZE(delay_ms)];
	uint64_t start = now_ns();

	init(t, ARRAY_SIZE(t), *state);
	for (unsigned i = 0; i < ARRAY_SIZE(t); i++)
		assert_int_equal(loop_timer_set(*state, &t[i].timer, start + delay_ms[i] * MS), 0);
	assert_int_equal(fired_count, 0);
	while (fired_count < ARRAY_SIZE(t)) {
		unsigned before = fired_count;
		int n = loop_turn(*state, UINT64_MAX);

		assert_int_equal(n, fired_count - before);
		for (unsigned i = before; i < fired_count; i++)
			assert_true(now_ns() >= start + delay_ms[order[i]] * MS);
	}
	for (unsigned i = 0; i < ARRAY_SIZE(t); i++)
		assert_ptr_equal(fired[i], &t[order[i]]);
	assert_true(now_ns() < start + 2 * S);
}

static void a_set_one_is_replaced(void **state)
{
	struct test_timer t[3];
	uint64_t now = now_ns();

	init(t, 3, *state);
	/* Later, sooner, and the same again. */
	assert_int_equal(loop_timer_set(*state, &t[0].timer, now), 0);
	assert_int_equal(loop_timer_set(*state, &t[1].timer, now + 60 * S), 0);
	assert_int_equal(loop_timer_set(*state, &t[2].timer, now + 5 * MS), 0);
	assert_int_equal(loop_timer_set(*state, &t[0].timer, now + 10 * MS), 0);
	assert_int_equal(loop_timer_set(*state, &t[1].timer, now + 1 * MS), 0);
	assert_int_equal(loop_timer_set(*state, &t[2].timer, now + 5 * MS), 0);
	turn_until(*state, &fired_count, 3);
	assert_ptr_equal(fired[0], &t[1]);
	assert_ptr_equal(fired[1], &t[2]);
	assert_ptr_equal(fired[2], &t[0]);
	assert_int_equal(loop_turn(*state, 5 * MS), 0);
}

static void a_cleared_one_is_silent(void **state)
{
	struct test_timer t[2];

	init(t, 2, *state);
	loop_timer_clear(*state, &t[0].timer);
	assert_int_equal(loop_timer_set(*state, &t[0].timer, 0), 0);
	assert_int_equal(loop_timer_set(*state, &t[1].timer, 0), 0);
	loop_timer_clear(*state, &t[0].timer);
	loop_timer_clear(*state, &t[0].timer);
	assert_int_equal(loop_turn(*state, S), 1);
	assert_int_equal(t[0].fires, 0);
	assert_int_equal(t[1].fires, 1);
	loop_timer_clear(*state, &t[1].timer);
	assert_int_equal(loop_turn(*state, 5 * MS), 0);
}

static void fire_clears_and_sets_others(void **state)
{
	struct test_timer t[4];

	init(t, 4, *state);
	t[0].clears = &t[1];
	t[0].sets = &t[2];
	for (unsigned i = 0; i < 4; i++)
		assert_int_equal(loop_timer_set(*state, &t[i].timer, i), 0);
	/* What was set inside this turn is for the next. */
	assert_int_equal(loop_turn(*state, S), 2);
	assert_ptr_equal(fired[0], &t[0]);
	assert_ptr_equal(fired[1], &t[3]);
	assert_int_equal(loop_turn(*state, S), 1);
	assert_ptr_equal(fired[2], &t[2]);
	assert_int_equal(t[1].fires, 0);
}

static void the_insatiable_starve_nobody(void **state)
{
	struct test_timer t[3];

	init(t, 3, *state);
	t[0].again = t[1].again = 100;
	for (unsigned i = 0; i < 3; i++)
		assert_int_equal(loop_timer_set(*state, &t[i].timer, now_ns()), 0);
	assert_int_equal(loop_turn(*state, S), 3);
	assert_int_equal(t[2].fires, 1);
	for (unsigned i = 1; i < 100; i++) {
		/* A newcomer that is due now waits for one round at most. */
		assert_int_equal(loop_timer_set(*state, &t[2].timer, now_ns()), 0);
		assert_int_equal(loop_turn(*state, S), 3);
		assert_int_equal(t[2].fires, i + 1);
	}
}

static void a_timer_ends_an_endless_wait(void **state)
{
	struct test_timer t;
	uint64_t start = now_ns();

	init(&t, 1, *state);
	/* Far enough for a host that is away for a while before the turns. */
	assert_int_equal(loop_timer_set(*state, &t.timer, start + 400 * MS), 0);
	/* The shorter time wins, and the timer stays. */
	assert_int_equal(loop_turn(*state, MS), 0);
	assert_int_equal(loop_turn(*state, 0), 0);
	while (!t.fires)
		assert_true(loop_turn(*state, UINT64_MAX) >= 0);
	assert_true(now_ns() >= start + 400 * MS);
	assert_true(now_ns() < start + 3 * S);
}

static void the_farthest_deadline_is_no_trouble(void **state)
{
	struct test_timer t[3];

	init(t, 3, *state);
	assert_int_equal(loop_timer_set(*state, &t[0].timer, UINT64_MAX), 0);
	assert_int_equal(loop_timer_set(*state, &t[1].timer, UINT64_MAX - 1), 0);
	assert_int_equal(loop_timer_set(*state, &t[2].timer, 1ull << 62), 0);
	assert_int_equal(loop_turn(*state, MS), 0);
	assert_int_equal(loop_turn(*state, 0), 0);
	assert_int_equal(fired_count, 0);
}

static void thousands_of_them(void **state)
{
	enum { COUNT = 5000 };
	struct test_timer *t = calloc(COUNT, sizeof(*t));
	struct loop *loop = *state;
	uint64_t base = now_ns() - S;
	unsigned state_bits = 12345, cleared = 0, fires = 0;

	assert_non_null(t);
	init(t, COUNT, loop);
	for (unsigned i = 0; i < 3 * COUNT; i++) {
		unsigned k;

		state_bits = state_bits * 1103515245u + 12345u;
		k = (state_bits >> 8) % COUNT;
		if (i % 3 == 2) {
			loop_timer_clear(loop, &t[k].timer);
		} else {
			assert_int_equal(loop_timer_set(loop, &t[k].timer, base + state_bits % 997),
					 0);
		}
	}
	for (unsigned i = 0; i < COUNT; i++)
		cleared += !t[i].timer.slot;
	assert_true(cleared > 0 && cleared < COUNT);
	assert_int_equal(loop_turn(loop, S), COUNT - cleared);
	for (unsigned i = 0; i < COUNT; i++) {
		assert_true(t[i].fires <= 1);
		assert_int_equal(t[i].timer.slot, 0);
		fires += t[i].fires;
	}
	assert_int_equal(fires, COUNT - cleared);
	for (unsigned i = 1; i < LOG_MAX; i++) {
		const struct loop_timer *a = &fired[i - 1]->timer, *b = &fired[i]->timer;

		assert_true(a->deadline_ns < b->deadline_ns ||
			    (a->deadline_ns == b->deadline_ns && a->order < b->order));
	}
	free(t);
}

#define TIMER_TEST(f) cmocka_unit_test_setup_teardown(f, setup, free_loop)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TIMER_TEST(they_fire_in_order_and_not_early),
		TIMER_TEST(a_set_one_is_replaced),
		TIMER_TEST(a_cleared_one_is_silent),
		TIMER_TEST(fire_clears_and_sets_others),
		TIMER_TEST(the_insatiable_starve_nobody),
		TIMER_TEST(a_timer_ends_an_endless_wait),
		TIMER_TEST(the_farthest_deadline_is_no_trouble),
		TIMER_TEST(thousands_of_them),
	};

	return cmocka_run_group_tests_name("timers", tests, NULL, NULL);
}
