/* How rounds are shared out among passes. */
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "bench.h"

static const struct results_spec spec = {"a.b", "what", "ns"};

/* Each pass has as many as the next, or one more; together they are all. */
static void shared_out(unsigned rounds, unsigned passes)
{
	struct bench_options o = {.passes = passes};
	unsigned sum = 0, before = rounds;

	for (o.pass = 1; o.pass <= passes; o.pass++) {
		unsigned share = bench_share(&o, rounds);

		assert_true(share <= before && share + 1 > rounds / passes);
		before = share;
		sum += share;
	}
	assert_int_equal(sum, rounds);
	assert_true(before == rounds / passes);
}

static void shares(void **state UNUSED)
{
	const struct bench_options alone = {0}, asked = {.rounds = 7},
				   pass = {.rounds = 7, .passes = 3, .pass = 1};

	shared_out(100, 5);
	shared_out(7, 3);
	shared_out(5, 15);
	shared_out(1, 1);
	assert_int_equal(bench_share(&alone, 100), 100);
	assert_int_equal(bench_share(&asked, 100), 7);
	assert_int_equal(bench_share(&pass, 100), 3);
}

/* A row without rounds in a pass is none that nobody has heard of. */
static void a_pass_without_rounds(void **state UNUSED)
{
	struct bench b = {.options = {.passes = 15, .pass = 5}};
	struct error err = {0};

	assert_true(bench_row(&b, &spec, 5, &err));
	assert_int_equal(b.rounds, 1);
	assert_false(b.waits);
	b.options.pass = 6;
	assert_false(bench_row(&b, &spec, 5, &err));
	assert_true(b.waits);
	b.waits = false;
	b.options.only = "a.c";
	assert_false(bench_row(&b, &spec, 5, &err));
	assert_false(b.waits);
	assert_int_equal(b.results.rows, 1);
	assert_int_equal(err.code, 0);
	results_done(&b.results);
}

/* Both threads on one CPU only where there is one; and only on ours. */
static void cpus_are_ours(void **state UNUSED)
{
	struct bench_options o = {.cpu = {-1, -1}};
	struct error err = {0};
	cpu_set_t ours, one;
	int first = 0, other;

	assert_int_equal(sched_getaffinity(0, sizeof(ours), &ours), 0);
	while (!CPU_ISSET(first, &ours))
		first++;
	for (other = first + 1; other < CPU_SETSIZE && !CPU_ISSET(other, &ours);)
		other++;
	assert_int_equal(bench_options_check(&o, &err), 0);
	o.cpu[0] = o.cpu[1] = first;
	if (other < CPU_SETSIZE) {
		assert_true(bench_options_check(&o, &err) < 0);
		assert_int_equal(err.kind, ERROR_USAGE);
		assert_non_null(strstr(err.what, ": two different host CPUs are needed, of "));
		err = (struct error){0};
		o.cpu[1] = other;
		assert_int_equal(bench_options_check(&o, &err), 0);
	}
	CPU_ZERO(&one);
	CPU_SET(first, &one);
	assert_int_equal(sched_setaffinity(0, sizeof(one), &one), 0);
	o.cpu[1] = first;
	assert_int_equal(bench_options_check(&o, &err), 0);
	o.cpu[1] = first + 1;
	assert_true(bench_options_check(&o, &err) < 0);
	assert_int_equal(err.kind, ERROR_USAGE);
	assert_non_null(strstr(err.what, " is not one that stasis may use here: "));
	assert_int_equal(sched_setaffinity(0, sizeof(ours), &ours), 0);
}

/* A wait has an end where one is given. */
static void waits(void **state UNUSED)
{
	char *alone[] = {(char[]){"bench"}, (char[]){"--wait"}, NULL};
	char *some[] = {(char[]){"bench"}, (char[]){"--wait=2s"}, NULL};
	char *none[] = {(char[]){"bench"}, (char[]){"--wait=0s"}, NULL};
	struct bench_options o;
	int rest, status = 0;

	optind = 0;
	assert_int_equal(bench_options_parse(&o, 2, alone, "", &rest, &status), 0);
	assert_true(o.wait && o.wait_ns == 0);
	optind = 0;
	assert_int_equal(bench_options_parse(&o, 2, some, "", &rest, &status), 0);
	assert_true(o.wait && o.wait_ns == 2000000000u);
	optind = 0;
	assert_int_equal(bench_options_parse(&o, 2, none, "", &rest, &status), 1);
	assert_int_equal(status, 125);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(shares),
		cmocka_unit_test(a_pass_without_rounds),
		cmocka_unit_test(cpus_are_ours),
		cmocka_unit_test(waits),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
