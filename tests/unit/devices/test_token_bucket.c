/* Rates, bursts, debts, and a clock that misbehaves. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "devices/token_bucket.h"

#define SECOND 1000000000ull

/* Spends n at a time as fast as it may for a time; returns what was spent. */
static uint64_t spend_for(struct token_bucket *b, uint64_t n, uint64_t from_ns, uint64_t for_ns)
{
	uint64_t now = from_ns, spent = 0;

	for (;;) {
		uint64_t wait = token_bucket_wait_ns(b, n, now);

		if (wait) {
			now += wait;
			if (now - from_ns > for_ns)
				return spent;
			/* Not a nanosecond early, not one late. */
			assert_int_equal(token_bucket_wait_ns(b, n, now), 0);
		}
		token_bucket_spend(b, n);
		spent += n;
	}
}

static void test_rate(void **state)
{
	static const uint64_t rates[] = {1, 3, 7, 1000, 999983, 1ull << 20, 7ull << 33};
	struct token_bucket b;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rates); i++) {
		uint64_t rate = rates[i], n = MAX(rate / 1000, (uint64_t)1), spent;
		uint64_t ideal = rate * 10 + rate / 10;

		token_bucket_init(&b, rate, rate / 10, 5);
		spent = spend_for(&b, n, 5, 10 * SECOND);
		assert_in_range(spent, rate * 10, ideal + n);
	}
}

static void test_burst(void **state)
{
	struct token_bucket b;

	(void)state;
	token_bucket_init(&b, 100, 10, 0);
	for (unsigned i = 0; i < 10; i++) {
		assert_int_equal(token_bucket_wait_ns(&b, 1, 0), 0);
		token_bucket_spend(&b, 1);
	}
	/* A long rest gives a burst, and no more. */
	assert_int_equal(token_bucket_wait_ns(&b, 10, 1000 * SECOND), 0);
	token_bucket_spend(&b, 10);
	assert_int_equal(token_bucket_wait_ns(&b, 1, 1000 * SECOND), SECOND / 100);
}

static void test_larger_than_burst(void **state)
{
	struct token_bucket b;

	(void)state;
	token_bucket_init(&b, 1000, 100, 0);
	assert_int_equal(token_bucket_wait_ns(&b, 1100, 0), 0);
	token_bucket_spend(&b, 1100);
	/* 1000 in debt: one more takes a second and a thousandth, a large one waits to be full. */
	assert_int_equal(token_bucket_wait_ns(&b, 1, 0), SECOND + SECOND / 1000);
	assert_int_equal(token_bucket_wait_ns(&b, 5000, 0), SECOND + SECOND / 10);
}

/* Always so much later than it was told to come; what it gets in ten seconds. */
static uint64_t spend_late(uint64_t rate, uint64_t burst, uint64_t n, uint64_t late_ns)
{
	uint64_t now = 0, spent = 0;
	struct token_bucket b;

	token_bucket_init(&b, rate, burst, 0);
	while (now <= 10 * SECOND) {
		uint64_t wait = token_bucket_wait_ns(&b, n, now);

		if (wait) {
			now += wait + late_ns;
			continue;
		}
		token_bucket_spend(&b, n);
		spent += n;
		assert_true(spent <= burst + rate * now / SECOND + n);
	}
	return spent;
}

static void test_late(void **state)
{
	static const struct {
		uint64_t rate, burst, n;
	} cases[] = {{10, 1, 1}, {15, 1, 1}, {100, 10, 1}, {1u << 20, 104857, 131072}};
	struct token_bucket b;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		for (uint64_t late_ns = 0; late_ns <= SECOND / 10; late_ns += SECOND / 50) {
			uint64_t spent =
				spend_late(cases[i].rate, cases[i].burst, cases[i].n, late_ns);

			/* Two are not there yet: the one that waits, and the one of its lateness.
			 */
			assert_true(spent + 2 * cases[i].n + cases[i].rate / 10 >=
				    cases[i].burst + 10 * cases[i].rate);
		}
	}
	/* Nobody is a second late: a tenth of it counts, and the next rest is one. */
	token_bucket_init(&b, 100, 10, 0);
	token_bucket_spend(&b, 10);
	assert_int_equal(token_bucket_wait_ns(&b, 10, 0), SECOND / 10);
	assert_int_equal(token_bucket_wait_ns(&b, 10, 2 * SECOND), 0);
	token_bucket_spend(&b, 20);
	assert_int_equal(token_bucket_wait_ns(&b, 1, 2 * SECOND), SECOND / 100);
	assert_int_equal(token_bucket_wait_ns(&b, 1, 2 * SECOND + SECOND / 100), 0);
	assert_int_equal(token_bucket_wait_ns(&b, 10, 9 * SECOND), 0);
	token_bucket_spend(&b, 10);
	assert_int_equal(token_bucket_wait_ns(&b, 1, 9 * SECOND), SECOND / 100);
}

static void test_clock(void **state)
{
	struct token_bucket b;

	(void)state;
	token_bucket_init(&b, 10, 1, SECOND);
	token_bucket_spend(&b, 1);
	assert_int_equal(token_bucket_wait_ns(&b, 1, 0), SECOND / 10);
	assert_int_equal(token_bucket_wait_ns(&b, 1, SECOND), SECOND / 10);
	assert_int_equal(token_bucket_wait_ns(&b, 1, UINT64_MAX), 0);
	/* No limit. */
	token_bucket_init(&b, 0, 0, 0);
	for (unsigned i = 0; i < 100; i++) {
		assert_int_equal(token_bucket_wait_ns(&b, UINT64_MAX, 0), 0);
		token_bucket_spend(&b, UINT64_MAX);
	}
	/* A burst that is less than one token is one. */
	token_bucket_init(&b, 3, 0, 0);
	assert_int_equal(token_bucket_wait_ns(&b, 1, 0), 0);
	token_bucket_spend(&b, 1);
	assert_int_equal(token_bucket_wait_ns(&b, 1, 0), SECOND / 3 + 1);
	/* As much as there can be. */
	token_bucket_init(&b, 1ull << 61, UINT64_MAX, 0);
	token_bucket_spend(&b, UINT64_MAX);
	token_bucket_spend(&b, UINT64_MAX);
	assert_true(token_bucket_wait_ns(&b, 1, 0) > 0);
	assert_int_equal(token_bucket_wait_ns(&b, 1, UINT64_MAX), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_rate),
		cmocka_unit_test(test_burst),
		cmocka_unit_test(test_larger_than_burst),
		cmocka_unit_test(test_late),
		cmocka_unit_test(test_clock),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
