/* Medians against their definition, intervals against what must lie in them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/compiler.h"
#include "stats.h"

#define ROUNDS 60

/* Any even spread will do: xorshift64. */
static double uniform(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return (double)(*state >> 11) / (double)(1ull << 53);
}

/* floor around 100, product around 100 * ratio, both carried along by the host's load. */
static void make(struct stats_round *rounds, size_t n, double ratio, uint64_t seed)
{
	for (size_t i = 0; i < n; i++) {
		double load = 1 + 4 * uniform(&seed);

		rounds[i].floor = 100 * load * (0.99 + 0.02 * uniform(&seed));
		rounds[i].product = ratio * 100 * load * (0.99 + 0.02 * uniform(&seed));
	}
}

static void median_of_odd_and_even(void **state UNUSED)
{
	double m;

	assert_true(stats_median((const double[]){9, 1, 5}, 3, &m));
	assert_true(m == 5);
	assert_true(stats_median((const double[]){9, 1, 5, 7}, 4, &m));
	assert_true(m == 6);
}

static void equal_rounds_have_no_width(void **state UNUSED)
{
	struct stats_round rounds[10];
	struct stats_ratio r;

	for (size_t i = 0; i < 10; i++)
		rounds[i] = (struct stats_round){4, 6};
	assert_true(stats_ratio_of(rounds, 10, &r));
	assert_true(r.ratio == 1.5 && r.ratio_ci.low == 1.5 && r.ratio_ci.high == 1.5);
	assert_true(r.floor_ci.low == 4 && r.product_ci.high == 6);
}

static void interval_holds_the_ratio(void **state UNUSED)
{
	struct stats_round rounds[ROUNDS];
	unsigned held = 0;

	for (uint64_t seed = 1; seed <= 40; seed++) {
		struct stats_ratio r;

		make(rounds, ROUNDS, 1.3, seed * 7919);
		assert_true(stats_ratio_of(rounds, ROUNDS, &r));
		assert_true(r.ratio_ci.low <= r.ratio && r.ratio <= r.ratio_ci.high);
		held += r.ratio_ci.low <= 1.3 && 1.3 <= r.ratio_ci.high;
	}
	/* 95 of 100, as far as 40 can tell. */
	assert_in_range(held, 34, 40);
}

/* The load varies fivefold; a resample that drew floor and product apart could not tell. */
static void rounds_are_drawn_whole(void **state UNUSED)
{
	struct stats_round rounds[ROUNDS];
	struct stats_ratio r;

	make(rounds, ROUNDS, 1.3, 4242);
	assert_true(stats_ratio_of(rounds, ROUNDS, &r));
	assert_true(r.ratio_ci.high / r.ratio_ci.low < 1.1);
	assert_true(r.floor_ci.high / r.floor_ci.low > 1.2);
}

static void same_rounds_same_interval(void **state UNUSED)
{
	struct stats_round rounds[ROUNDS];
	struct stats_ratio a, b;

	make(rounds, ROUNDS, 1.3, 99);
	assert_true(stats_ratio_of(rounds, ROUNDS, &a) && stats_ratio_of(rounds, ROUNDS, &b));
	assert_memory_equal(&a, &b, sizeof(a));
}

static enum stats_verdict compare(double before, double now)
{
	struct stats_round old[ROUNDS], new[ROUNDS / 2];
	struct bootstrap_interval q;
	enum stats_verdict verdict;

	make(old, ROUNDS, before, 17);
	make(new, ROUNDS / 2, now, 71);
	assert_true(stats_compare(old, ROUNDS, new, ROUNDS / 2, &verdict, &q));
	assert_true(q.low <= q.high);
	return verdict;
}

static void verdicts(void **state UNUSED)
{
	assert_int_equal(compare(1.3, 1.3), STATS_NO_DIFFERENCE);
	assert_int_equal(compare(1.3, 1.6), STATS_MORE);
	assert_int_equal(compare(1.6, 1.3), STATS_LESS);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(median_of_odd_and_even),
		cmocka_unit_test(equal_rounds_have_no_width),
		cmocka_unit_test(interval_holds_the_ratio),
		cmocka_unit_test(rounds_are_drawn_whole),
		cmocka_unit_test(same_rounds_same_interval),
		cmocka_unit_test(verdicts),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
