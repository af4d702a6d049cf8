/* Medians against their definition, intervals against what must lie in them. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/util.h"
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

/* Near enough to the normal distribution of mean 0 and deviation 1 (Irwin, Hall). */
static double normal(uint64_t *state)
{
	double sum = -6;

	for (int i = 0; i < 12; i++)
		sum += uniform(state);
	return sum;
}

/* floor around 100, product around 100 * ratio, both carried along by the host's load. */
static void make(struct stats_round *rounds, size_t n, double ratio, uint64_t seed)
{
	for (size_t i = 0; i < n; i++) {
		double load = 1 + 4 * uniform(&seed);

		rounds[i].floor = 100 * load * (0.99 + 0.02 * uniform(&seed));
		rounds[i].product = ratio * 100 * load * (0.99 + 0.02 * uniform(&seed));
		rounds[i].pass = 1;
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
		rounds[i] = (struct stats_round){4, 6, i < 5};
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

/* ---- passes ---------------------------------------------------------------------------- */

#define RUNS 200 /* pairs of them */

/* What differs from pass to pass is as large as a tenth; from round to round, 0.03. */
struct world {
	unsigned passes, rounds; /* rounds: of each */
	double between;
	bool told; /* whether rounds say which pass they are of */
};

static void make_run(struct stats_round *rounds, const struct world *w, uint64_t *seed)
{
	for (unsigned pass = 0; pass < w->passes; pass++) {
		double own = w->between * normal(seed);

		for (unsigned i = 0; i < w->rounds; i++) {
			double load = 100 * exp(0.05 * normal(seed));

			*rounds++ = (struct stats_round){
				.floor = load * exp(0.03 * normal(seed)),
				.product = 1.3 * load * exp(own + 0.03 * normal(seed)),
				.pass = w->told ? pass + 1 : 1,
			};
		}
	}
}

/* Of 100 runs, how many intervals hold the truth: of the ratio, and of the quotient of two runs of
 * the same. Also how wide the latter are, as a factor. */
struct coverage {
	double ratio, pair, width;
};

static struct coverage cover(const struct world *w)
{
	struct stats_round before[ROUNDS * 2], now[ROUNDS * 2];
	size_t n = (size_t)w->passes * w->rounds;
	struct coverage c = {0};
	uint64_t seed = 20261122;

	assert_in_range(n, 1, ARRAY_SIZE(now));
	for (unsigned i = 0; i < RUNS; i++) {
		struct bootstrap_interval q;
		enum stats_verdict verdict;
		struct stats_ratio r;

		make_run(before, w, &seed);
		make_run(now, w, &seed);
		assert_true(stats_ratio_of(now, n, &r));
		assert_true(stats_compare(before, n, now, n, &verdict, &q));
		c.ratio += 100. / RUNS * (r.ratio_ci.low <= 1.3 && 1.3 <= r.ratio_ci.high);
		c.pair += 100. / RUNS * (verdict == STATS_NO_DIFFERENCE);
		c.width += log(q.high / q.low) / RUNS;
	}
	c.width = exp(c.width);
	print_message("%u passes of %u, %.2f between, %s: %.1f %% hold the ratio, %.1f %% of pairs "
		      "show no difference, intervals %.2f wide\n",
		      w->passes, w->rounds, w->between, w->told ? "told" : "not told", c.ratio,
		      c.pair, c.width);
	return c;
}

/* Rounds alone don't tell what the next process will have: half of all pairs "differ". */
static void without_passes_intervals_are_too_narrow(void **state UNUSED)
{
	struct coverage c = cover(&(struct world){5, 20, 0.1, false});

	assert_true(c.ratio < 60 && c.pair < 60);
}

static void with_passes_intervals_hold(void **state UNUSED)
{
	struct coverage c = cover(&(struct world){5, 20, 0.1, true});

	assert_true(c.ratio >= 86 && c.pair >= 92);
	/* One round of each, as of what takes long. */
	c = cover(&(struct world){5, 1, 0.1, true});
	assert_true(c.ratio >= 90 && c.pair >= 92);
}

/* A narrower interval is what more passes are for. Where passes don't differ, telling them apart
 * costs some width, not all of it. */
static void more_passes_tell_more(void **state UNUSED)
{
	struct coverage few = cover(&(struct world){5, 8, 0.1, true});
	struct coverage many = cover(&(struct world){15, 8, 0.1, true});
	struct coverage alike = cover(&(struct world){5, 20, 0, true});

	assert_true(many.ratio >= 90 && many.pair >= 92);
	assert_true(log(many.width) < 0.6 * log(few.width));
	assert_true(alike.ratio >= 95 && log(alike.width) < 0.3 * log(few.width));
}

/* Nothing that no pass said comes into an interval: two of five are slow, by a factor of four. */
static void intervals_stay_among_passes(void **state UNUSED)
{
	struct stats_round rounds[5 * 4];
	struct stats_ratio r;

	for (unsigned i = 0; i < ARRAY_SIZE(rounds); i++)
		rounds[i] = (struct stats_round){100, i / 4 < 2 ? 400 : 100, i / 4 + 1};
	assert_true(stats_ratio_of(rounds, ARRAY_SIZE(rounds), &r));
	assert_true(r.ratio == 1 && r.ratio_ci.low == 1 && r.ratio_ci.high == 4);
}

/* Passes need not have as many rounds. */
static void unlike_passes(void **state UNUSED)
{
	struct stats_round rounds[7];
	struct stats_ratio r;

	for (unsigned i = 0; i < ARRAY_SIZE(rounds); i++)
		rounds[i] = (struct stats_round){100, i < 6 ? 200 : 300, i < 6 ? 1 : 9};
	assert_true(stats_ratio_of(rounds, ARRAY_SIZE(rounds), &r));
	assert_true(r.ratio == 2 && r.ratio_ci.low == 2 && r.ratio_ci.high == 3);
}

/* Two runs whose intervals are known from before there were passes: the same draws, in the same
 * order. */
static void one_pass_is_as_it_was(void **state UNUSED)
{
	struct stats_round old[ROUNDS], new[ROUNDS / 2];
	struct bootstrap_interval q;
	enum stats_verdict verdict;
	struct stats_ratio r;

	make(old, ROUNDS, 1.3, 17);
	make(new, ROUNDS / 2, 1.3, 71);
	assert_true(stats_ratio_of(old, ROUNDS, &r));
	assert_true(stats_compare(old, ROUNDS, new, ROUNDS / 2, &verdict, &q));
	assert_float_equal(r.ratio_ci.low, 1.2805727665730211, 1e-12);
	assert_float_equal(r.ratio_ci.high, 1.307767902303709, 1e-12);
	assert_float_equal(q.low, 0.9847375495612799, 1e-12);
	assert_float_equal(q.high, 1.0214269575881938, 1e-12);
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
		cmocka_unit_test(without_passes_intervals_are_too_narrow),
		cmocka_unit_test(with_passes_intervals_hold),
		cmocka_unit_test(more_passes_tell_more),
		cmocka_unit_test(intervals_stay_among_passes),
		cmocka_unit_test(unlike_passes),
		cmocka_unit_test(one_pass_is_as_it_was),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
