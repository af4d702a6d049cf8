/* Histograms: steps without gaps, quantiles against exact ones, merging, a pool that runs out, and
 * a reader beside the writer. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/histogram.h"

#define CHUNKS 512
#define VALUES 20000

static _Atomic uint64_t memory[CHUNKS][HISTOGRAM_CHUNK];
static struct histogram_pool pool;
static struct histogram histogram;
static struct histogram_total total;

static int begin(void **state)
{
	(void)state;
	memset(memory, 0, sizeof(memory));
	memset(&histogram, 0, sizeof(histogram));
	memset(&total, 0, sizeof(total));
	histogram_pool_init(&pool, memory, CHUNKS);
	return 0;
}

static void steps_have_no_gaps(void **state)
{
	uint64_t next = 0;

	(void)state;
	for (unsigned i = 0; i < HISTOGRAM_STEPS; i++) {
		uint64_t from = histogram_step_from(i), width = histogram_step_width(i);

		assert_true(from == next);
		assert_int_equal(histogram_step(from), i);
		assert_int_equal(histogram_step(from + width - 1), i);
		/* The middle is within 0.8 % of either end. */
		assert_true((double)(width - 1) / 2 <= 0.008 * (double)from);
		next = from + width;
	}
	assert_true(next == UINT64_C(1) << HISTOGRAM_BITS);
	assert_int_equal(histogram_step(UINT64_MAX), HISTOGRAM_STEPS - 1);
}

static int compare(const void *a, const void *b)
{
	const uint64_t *x = a, *y = b;

	return *x < *y ? -1 : *x > *y;
}

/* Spread over some powers of two, as times are. */
static uint64_t draw(unsigned *seed, unsigned bits)
{
	uint64_t value = ((uint64_t)rand_r(seed) << 31) ^ (uint64_t)rand_r(seed);

	return value >> (62 - bits + (unsigned)rand_r(seed) % (bits / 2));
}

static void quantiles_are_the_exact_ones_within_a_hundredth(void **state)
{
	static const double shares[] = {0, 0.001, 0.1, 0.5, 0.9, 0.99, 0.999, 1};
	static uint64_t values[VALUES];
	unsigned seed = 7;
	uint64_t sum = 0;

	(void)state;
	for (unsigned bits = 4; bits <= 40; bits += 6) {
		begin(NULL);
		sum = 0;
		for (unsigned i = 0; i < VALUES; i++) {
			values[i] = draw(&seed, bits);
			sum += values[i];
			histogram_add(&histogram, &pool, values[i]);
		}
		histogram_read(&histogram, memory, &total);
		qsort(values, VALUES, sizeof(values[0]), compare);
		assert_true(total.count == VALUES && total.sum == sum && total.lost == 0);
		assert_true(total.max == values[VALUES - 1]);
		for (size_t i = 0; i < ARRAY_SIZE(shares); i++) {
			size_t rank = (size_t)(shares[i] * VALUES);
			double exact = (double)values[rank > 0 ? rank - 1 : 0];
			double found = histogram_quantile(&total, shares[i]);
			double error = found > exact ? found - exact : exact - found;

			if (error > 0.01 * exact)
				fail_msg("%u bits, %g: %g, not %g", bits, shares[i], found, exact);
		}
	}
}

static void an_empty_one_has_no_quantile(void **state)
{
	char *text;

	(void)state;
	histogram_read(&histogram, memory, &total);
	assert_true(total.count == 0);
	assert_true(histogram_quantile(&total, 0.5) == 0);
	text = histogram_text(&total, 1);
	assert_string_equal(text, "");
	free(text);
	assert_int_equal(pool.used, 1);
}

static void totals_add_up(void **state)
{
	static struct histogram other;
	static struct histogram_total two;

	(void)state;
	memset(&other, 0, sizeof(other));
	memset(&two, 0, sizeof(two));
	for (unsigned i = 0; i < 300; i++) {
		histogram_add(&histogram, &pool, i);
		histogram_add(&other, &pool, 1000 + i);
	}
	histogram_read(&histogram, memory, &total);
	histogram_read(&other, memory, &two);
	histogram_merge(&total, &two);
	assert_true(total.count == 600 && total.max == 1299);
	assert_true(total.sum == 2 * 44850 + 300 * 1000);
	assert_true(histogram_quantile(&total, 0.25) >= 148 &&
		    histogram_quantile(&total, 0.25) <= 150);
	assert_true(histogram_quantile(&total, 1) >= 1290 && histogram_quantile(&total, 1) <= 1299);
}

static void text_has_every_step_that_holds_something(void **state)
{
	char *text;

	(void)state;
	histogram_add(&histogram, &pool, 3);
	histogram_add(&histogram, &pool, 3);
	histogram_add(&histogram, &pool, 1025);
	histogram_read(&histogram, memory, &total);
	text = histogram_text(&total, 1);
	assert_string_equal(text, "3:2 1024:1");
	free(text);
	text = histogram_text(&total, 0.5);
	assert_string_equal(text, "2:2 512:1");
	free(text);
}

static void a_pool_that_runs_out_still_counts(void **state)
{
	(void)state;
	histogram_pool_init(&pool, memory, 3);
	for (unsigned i = 0; i < 10; i++)
		histogram_add(&histogram, &pool, (uint64_t)1 << (2 * i));
	histogram_read(&histogram, memory, &total);
	/* Chunk 0 is none: two are given out, for 1 to 16 and for 64. */
	assert_true(total.count == 10 && total.lost == 6);
	assert_true(total.sum == 349525 && total.max == 1u << 18);
	assert_true(histogram_quantile(&total, 1) == 64);
}

static void huge_values_count_as_the_largest(void **state)
{
	(void)state;
	histogram_add(&histogram, &pool, UINT64_MAX / 2);
	histogram_read(&histogram, memory, &total);
	assert_true(total.count == 1 && total.max == UINT64_MAX / 2);
	assert_true(histogram_quantile(&total, 0.5) >= 0.99 * (double)(UINT64_C(1) << 44));
}

static void *write_many(void *arg)
{
	unsigned seed = 11;

	for (unsigned i = 0; i < VALUES * 10; i++)
		histogram_add(arg, &pool, draw(&seed, 30));
	return NULL;
}

/* For the thread sanitizer, too. */
static void a_reader_beside_the_writer_sees_counts_grow(void **state)
{
	uint64_t last = 0;
	pthread_t thread;

	(void)state;
	assert_int_equal(pthread_create(&thread, NULL, write_many, &histogram), 0);
	while (last < VALUES) {
		memset(&total, 0, sizeof(total));
		histogram_read(&histogram, memory, &total);
		assert_true(total.count >= last && total.count <= VALUES * 10);
		last = total.count;
	}
	pthread_join(thread, NULL);
	memset(&total, 0, sizeof(total));
	histogram_read(&histogram, memory, &total);
	assert_true(total.count == VALUES * 10);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(steps_have_no_gaps, begin),
		cmocka_unit_test_setup(quantiles_are_the_exact_ones_within_a_hundredth, begin),
		cmocka_unit_test_setup(an_empty_one_has_no_quantile, begin),
		cmocka_unit_test_setup(totals_add_up, begin),
		cmocka_unit_test_setup(text_has_every_step_that_holds_something, begin),
		cmocka_unit_test_setup(a_pool_that_runs_out_still_counts, begin),
		cmocka_unit_test_setup(huge_values_count_as_the_largest, begin),
		cmocka_unit_test_setup(a_reader_beside_the_writer_sees_counts_grow, begin),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
