/* Percentiles against their definition, resamples against what a chance draw does, intervals
 * against what must lie in them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/bootstrap.h"
#include "base/compiler.h"

static void percentiles_are_values(void **state UNUSED)
{
	const double v[] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10};

	assert_true(bootstrap_percentile(v, 10, 0.5) == 5);
	assert_true(bootstrap_percentile(v, 10, 0.51) == 6);
	assert_true(bootstrap_percentile(v, 10, 0.99) == 10);
	assert_true(bootstrap_percentile(v, 10, 0.01) == 1);
	assert_true(bootstrap_percentile(v, 10, 0) == 1);
	assert_true(bootstrap_percentile(v, 10, 1) == 10);
	assert_true(bootstrap_percentile(v, 1, 0.99) == 1);
	assert_true(bootstrap_middle(v, 10) == 5.5);
	assert_true(bootstrap_middle(v, 9) == 5);
}

static void draws_reach_all_alike(void **state UNUSED)
{
	uint64_t random = BOOTSTRAP_SEED;
	unsigned seen[7] = {0};

	for (unsigned i = 0; i < 70000; i++)
		seen[bootstrap_draw(&random, 7)]++;
	for (unsigned i = 0; i < 7; i++)
		assert_in_range(seen[i], 9600, 10400); /* four standard deviations */
}

static void blocks_keep_neighbours_together(void **state UNUSED)
{
	uint64_t random = BOOTSTRAP_SEED;
	size_t block = 0, last = 0;
	unsigned seen[10] = {0};

	for (unsigned round = 0; round < 5000; round++) {
		for (size_t i = 0; i < 10; i++) {
			size_t at = bootstrap_draw_block(&random, 10, 4, i, &block);

			assert_true(at < 10);
			if (i % 4)
				assert_int_equal(at, (last + 1) % 10);
			last = at;
			seen[at]++;
		}
	}
	for (unsigned i = 0; i < 10; i++)
		assert_in_range(seen[i], 4500, 5500);
}

/* Means of 50 values of a known one: about 95 of a hundred intervals hold it. */
static void intervals_hold_the_truth(void **state UNUSED)
{
	enum { N = 50, RESAMPLES = 1000, TRIES = 200 };
	static double mean[RESAMPLES];
	uint64_t random = 1, resample = BOOTSTRAP_SEED;
	unsigned held = 0;

	for (unsigned t = 0; t < TRIES; t++) {
		struct bootstrap_interval ci;
		double v[N];

		for (unsigned i = 0; i < N; i++)
			v[i] = (double)(random_next(&random) >> 11) / (double)(UINT64_C(1) << 53);
		for (unsigned r = 0; r < RESAMPLES; r++) {
			mean[r] = 0;
			for (unsigned i = 0; i < N; i++)
				mean[r] += v[bootstrap_draw(&resample, N)] / N;
		}
		ci = bootstrap_interval(mean, RESAMPLES, 0.025);
		assert_true(ci.low < ci.high);
		held += ci.low <= 0.5 && 0.5 <= ci.high;
	}
	assert_in_range(held, 176, 199);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(percentiles_are_values),
		cmocka_unit_test(draws_reach_all_alike),
		cmocka_unit_test(blocks_keep_neighbours_together),
		cmocka_unit_test(intervals_hold_the_truth),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
