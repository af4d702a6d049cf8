/* The intervals at which vCPUs are sampled: whether they are exponential. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "vcpu/sample.h"

#define MEAN  UINT64_C(1000000)
#define DRAWS 200000

static void near(double got, double want, double tolerance)
{
	if (got < want - tolerance || got > want + tolerance)
		fail_msg("%f is not within %f of %f", got, tolerance, want);
}

/* Within six standard errors: two in 10^9. */
static void intervals_are_exponential(void **state)
{
	double sum = 0, squares = 0;
	uint64_t random = 1;
	unsigned below[3] = {0};

	(void)state;
	for (unsigned i = 0; i < DRAWS; i++) {
		double x = (double)sample_interval(&random, MEAN) / (double)MEAN;

		sum += x;
		squares += x * x;
		below[0] += x < 0.1;
		below[1] += x < 1;
		below[2] += x < 3;
	}
	/* Standard errors: 1 / sqrt(DRAWS) of the mean, sqrt(20) times it of the second moment. */
	near(sum / DRAWS, 1, 6 / 447.0);
	near(squares / DRAWS, 2, 6 * 4.48 / 447.0);
	/* 1 - exp(-x) */
	near(below[0] / (double)DRAWS, 0.09516, 0.0040);
	near(below[1] / (double)DRAWS, 0.63212, 0.0065);
	near(below[2] / (double)DRAWS, 0.95021, 0.0030);
}

/* Neighbours do not depend on each other. */
static void intervals_are_independent(void **state)
{
	uint64_t random = 99;
	double last = (double)sample_interval(&random, MEAN) / (double)MEAN - 1, sum = 0;

	(void)state;
	for (unsigned i = 0; i < DRAWS; i++) {
		double x = (double)sample_interval(&random, MEAN) / (double)MEAN - 1;

		sum += x * last;
		last = x;
	}
	near(sum / DRAWS, 0, 6 / 447.0);
}

static void an_interval_is_never_none(void **state)
{
	uint64_t random = 5;

	(void)state;
	for (unsigned i = 0; i < DRAWS; i++) {
		uint64_t ns = sample_interval(&random, 1);

		assert_in_range(ns, 1, 16);
	}
}

static void generators_differ(void **state)
{
	uint64_t a = 1, b = 2;
	unsigned same = 0;

	(void)state;
	for (unsigned i = 0; i < 1000; i++)
		same += sample_interval(&a, MEAN) == sample_interval(&b, MEAN);
	assert_true(same < 5);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(intervals_are_exponential),
		cmocka_unit_test(intervals_are_independent),
		cmocka_unit_test(an_interval_is_never_none),
		cmocka_unit_test(generators_differ),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
