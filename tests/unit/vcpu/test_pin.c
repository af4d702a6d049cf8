/* Whether threads have host CPUs enough, by what this process may use and not by what there is. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <sched.h>

#include "base/util.h"
#include "vcpu/pin.h"

static cpu_set_t before;

static int restore(void **state UNUSED)
{
	return sched_setaffinity(0, sizeof(before), &before);
}

/* This thread on the first n of its CPUs; false if it hasn't as many. */
static bool keep_to(unsigned n, int *ret_first)
{
	unsigned found = 0;
	cpu_set_t set;

	CPU_ZERO(&set);
	for (int cpu = 0; cpu < CPU_SETSIZE && found < n; cpu++) {
		if (!CPU_ISSET(cpu, &before))
			continue;
		if (found++ == 0)
			*ret_first = cpu;
		CPU_SET(cpu, &set);
	}
	assert_int_equal(sched_setaffinity(0, sizeof(set), &set), 0);
	return found == n;
}

static void test_one_cpu_is_ours(void **state UNUSED)
{
	int first;

	assert_true(keep_to(1, &first));
	assert_true(pin_may_poll(1, NULL));
	assert_true(pin_may_poll(1, &first));
	assert_false(pin_may_poll(2, NULL));
	assert_false(pin_may_spin(1, NULL));
}

static void test_two_cpus_are_ours(void **state UNUSED)
{
	int first;

	if (!keep_to(2, &first))
		skip();
	assert_true(pin_may_poll(2, NULL));
	assert_true(pin_may_poll(2, (const int[]){first, -1}));
	assert_false(pin_may_poll(2, (const int[]){first, first}));
	assert_false(pin_may_poll(3, NULL));
	assert_true(pin_may_spin(1, NULL));
	assert_false(pin_may_spin(2, NULL));
}

static void test_what_is_not_there_is_refused(void **state UNUSED)
{
	struct error err = {0};

	assert_true(pin_self(CPU_SETSIZE - 1, &err) < 0);
	assert_int_equal(err.kind, ERROR_CONTENTION);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(test_one_cpu_is_ours, restore),
		cmocka_unit_test_teardown(test_two_cpus_are_ours, restore),
		cmocka_unit_test(test_what_is_not_there_is_refused),
	};

	if (sched_getaffinity(0, sizeof(before), &before) < 0)
		return 77;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
