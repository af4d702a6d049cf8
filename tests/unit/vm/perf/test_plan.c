/* Plans on hosts out of tables: the shapes that people have, and thousands of random ones. Those on
 * hosts that were recorded are in test_recorded.c. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "oracle.h"
#include "tree.h"
#include "vm/perf/budget.h"
#include "vm/perf/plan.h"

static struct tree t;
static struct host_cpus host;
static struct perf_plan plan;
static struct perf_missing missing;

static const struct tree_cpu *of(unsigned vcpu)
{
	return oracle_cpu(&t, plan.cpu[vcpu]);
}

static void make_on(const char *shape, const struct host_cpu_set *allowed,
		    const struct perf_wish *wish)
{
	struct topology topology;
	struct error err = {0};

	host_cpus_done(&host);
	perf_plan_done(&plan);
	missing.count = 0;
	tree_host(&t, allowed, &host);
	assert_int_equal(topology_parse(shape, &topology, &err), 0);
	if (perf_plan_make(&host, &topology, wish, &plan, &missing, &err) < 0)
		fail_msg("%s", err.what);
}

static void make(const char *shape)
{
	struct host_cpu_set all = tree_all(512);
	const struct perf_wish free_choice = {0};

	make_on(shape, &all, &free_choice);
}

static void assert_cpus(const int *want, unsigned n)
{
	if (missing.count)
		fail_msg("%s", missing.item[0].what);
	assert_int_equal(plan.vcpus, n);
	assert_memory_equal(plan.cpu, want, n * sizeof(*want));
}

static void assert_lacks(unsigned count, const char *what)
{
	bool found = false;

	assert_int_equal(missing.count, count);
	for (unsigned i = 0; i < missing.count; i++)
		found |= strstr(missing.item[i].what, what) != NULL;
	if (!found)
		fail_msg("'%s' is not in '%s' …", what, missing.item[0].what);
}

/* ---- by hand ------------------------------------------------------------------------------- */

static void test_two_cpus(void **state UNUSED)
{
	tree_regular(&t, 1, 1, 1, 2, 1);
	make("1n1l1c1t");
	assert_cpus((int[]){1}, 1);
	assert_int_equal(plan.control, 0);
	assert_true(plan.own);
	assert_false(plan.spare);
	make("1n1l2c1t");
	assert_lacks(1,
		     "3 host CPUs are needed, for 2 vCPUs and the control thread, and stasis may "
		     "use 2");
	assert_int_equal(plan.control, -1);
	assert_false(plan.own);
	assert_int_equal(plan.cpu[0] + plan.cpu[1], 1);
	make("1n1l3c1t");
	assert_lacks(1, "4 host CPUs are needed");
	assert_int_equal(plan.cpu[0], -1);
	make("1n2l1c1t");
	assert_lacks(2,
		     "2 last-level caches are asked for, and the CPUs that stasis may use have 1");
}

static void test_siblings(void **state UNUSED)
{
	tree_regular(&t, 1, 1, 1, 4, 2); /* cores 0+4, 1+5, 2+6, 3+7 */
	make("1n1l3c2t");
	assert_cpus((int[]){1, 5, 2, 6, 3, 7}, 6);
	assert_int_equal(plan.control, 0);
	assert_int_equal(plan.shared_cores, 0);
	make("1n1l3c1t");
	assert_cpus((int[]){1, 2, 3}, 3);
	assert_int_equal(plan.control, 0);
	assert_int_equal(plan.shared_cores, 0);
	make("1n1l6c1t"); /* two cores must be shared */
	assert_cpus((int[]){1, 2, 3, 0, 5, 6}, 6);
	assert_int_equal(plan.control, 4);
	make("1n1l4c2t");
	assert_lacks(1, "9 host CPUs are needed");
	make("1n1l2c3t");
	assert_lacks(1, "have 2 cores with 3 threads");
}

static void test_two_sockets(void **state UNUSED)
{
	tree_regular(&t, 2, 1, 4, 4, 2);
	make("2n4l4c2t");
	assert_int_equal(missing.count, 0);
	for (unsigned v = 0; v < plan.vcpus; v++)
		assert_int_equal(of(v)->node, of(v - v % 16)->node);
	assert_int_not_equal(of(0)->node, of(16)->node);
	assert_int_equal(plan.control, 0); /* its cache is not used */
	make("1n4l4c2t");		   /* one socket, the one without CPU 0 */
	assert_int_equal(missing.count, 0);
	for (unsigned v = 1; v < plan.vcpus; v++)
		assert_int_equal(of(v)->node, of(0)->node);
	make("1n8l4c1t");
	assert_int_equal(missing.count, 0);
	assert_int_equal(plan.shared_cores, 1); /* with the control thread, on some sibling */
	make("1n9l1c1t");
	assert_lacks(1,
		     "9 last-level caches are asked for, and the CPUs that stasis may use have 8");
}

static void test_asymmetric_caches(void **state UNUSED)
{
	tree_regular(&t, 1, 1, 2, 8, 2);
	for (unsigned i = 0; i < t.count; i++)
		if (t.cpu[i].cache == 1)
			t.cpu[i].cache_kib = 98304;
	make("1n1l8c2t");
	assert_int_equal(missing.count, 0);
	assert_int_equal(of(0)->cache, 1);
	assert_int_equal(plan.control, 0);
	make("1n2l4c2t");
	assert_lacks(1, "of different sizes");
}

static void test_hybrid(void **state UNUSED)
{
	/* CPUs 0+1, 2+3, 4+5, 6+7 are large cores, 8 to 15 small ones, all under one cache. */
	tree_regular(&t, 1, 1, 1, 16, 1);
	for (unsigned i = 0; i < 16; i++) {
		t.cpu[i].core = i < 8 ? i / 2 : i;
		t.cpu[i].efficient = i >= 8;
		t.cpu[i].capacity = i >= 8 ? 600 : i == 2 ? 1024 : 1000;
	}
	make("1n1l3c2t");
	assert_cpus((int[]){2, 3, 4, 5, 6, 7}, 6);
	make("1n1l4c1t");
	assert_cpus((int[]){2, 4, 6, 0}, 4);
	make("1n1l8c1t"); /* only the small ones are eight whole cores */
	assert_cpus((int[]){8, 9, 10, 11, 12, 13, 14, 15}, 8);
	make("1n1l12c1t");
	assert_lacks(1, "of 2 kinds");
	assert_true(plan.own);
}

static void test_cpuset(void **state UNUSED)
{
	const struct perf_wish free_choice = {0};
	struct host_cpu_set some;

	tree_regular(&t, 2, 1, 2, 2, 2); /* cores n and n + 8 */
	assert_int_equal(host_cpu_set_parse("2-4,10-11", &some), 0);
	make_on("1n1l2c2t", &some, &free_choice);
	assert_cpus((int[]){2, 10, 3, 11}, 4);
	assert_int_equal(plan.control, 4);
	make_on("1n1l1c1t", &some, &free_choice);
	assert_int_equal(of(0)->cache, 1); /* 4's sibling is not ours */
	assert_int_equal(host_cpu_set_parse("1,4", &some), 0);
	make_on("1n1l1c1t", &some, &free_choice);
	assert_lacks(1, "1 vCPU is on a host core whose sibling is outside of our CPUs");
	assert_true(plan.spare);
}

static void test_pin(void **state UNUSED)
{
	struct host_cpu_set all = tree_all(512);
	struct topology topology;
	struct error err = {0};

	tree_regular(&t, 1, 1, 2, 2, 2); /* caches {0,1,4,5} {2,3,6,7} */
	make_on("1n2l1c2t", &all, &(struct perf_wish){.pin = (int[]){3, 7, 1, 5}});
	assert_cpus((int[]){3, 7, 1, 5}, 4);
	assert_int_equal(plan.control, 0);
	make_on("1n2l1c2t", &all, &(struct perf_wish){.pin = (int[]){3, 2, 1, 5}});
	assert_lacks(1, "--pin does not put hyperthread siblings");
	make_on("1n2l1c2t", &all, &(struct perf_wish){.pin = (int[]){0, 4, 1, 5}});
	assert_lacks(1, "--pin does not put each last-level cache");
	make_on("1n1l2c1t", &all, &(struct perf_wish){.pin = (int[]){3, 3}});
	assert_lacks(1, "--pin gives host CPU 3 to more than one vCPU");
	assert_false(plan.own);
	make_on("1n1l4c1t", &all, &(struct perf_wish){.pin = (int[]){3, 6, 6, 3}});
	assert_lacks(1, "--pin gives host CPUs 3,6 to more than one vCPU");
	assert_false(plan.own);
	assert_int_equal(topology_from_cpus(1, &topology, &err), 0);
	perf_plan_done(&plan);
	assert_true(perf_plan_make(&host, &topology, &(struct perf_wish){.pin = (int[]){8}}, &plan,
				   &missing, &err) < 0);
	assert_int_equal(err.kind, ERROR_CONTENTION);
	assert_non_null(strstr(err.what, "host CPU 8"));
}

static void test_held_by_others(void **state UNUSED)
{
	struct host_cpu_set all = tree_all(512), not_vcpu, not_control;
	struct perf_wish wish = {.not_vcpu = &not_vcpu, .not_control = &not_control};

	tree_regular(&t, 1, 1, 3, 2, 1); /* caches {0,1} {2,3} {4,5} */
	assert_int_equal(host_cpu_set_parse("0-3", &not_vcpu), 0);
	assert_int_equal(host_cpu_set_parse("0,2-3", &not_control), 0);
	make_on("1n1l2c1t", &all, &wish);
	assert_cpus((int[]){4, 5}, 2);
	assert_int_equal(plan.control, 1);
	assert_int_equal(host_cpu_set_parse("0-4", &not_vcpu), 0);
	make_on("1n1l2c1t", &all, &wish);
	assert_lacks(1, "other VMs hold");
	assert_int_equal(plan.cpu[0], -1);
}

static void test_budget(void **state UNUSED)
{
	struct host_cpu_set all = tree_all(512), set;

	tree_regular(&t, 2, 1, 2, 4, 1); /* {0-3} {4-7} | {8-11} {12-15} */
	host_cpus_done(&host);
	tree_host(&t, &all, &host);
	for (unsigned n = 0; n <= 20; n++) {
		perf_budget(&host, n, &set);
		assert_int_equal(host_cpu_set_count(&set), MIN(n, 16u));
		for (unsigned i = 0; i < 512; i++)
			assert_true(!host_cpu_set_has(&set, i) || i < 16);
		if (n <= 12) /* the cache of CPU 0 is the last to be used */
			assert_false(host_cpu_set_has(&set, 0));
	}
	perf_budget(&host, 8, &set); /* two whole caches */
	for (unsigned i = 0; i < 16; i += 4) {
		unsigned in = 0;

		for (unsigned j = i; j < i + 4; j++)
			in += host_cpu_set_has(&set, j);
		assert_true(in == 0 || in == 4);
	}
}

/* ---- at random ----------------------------------------------------------------------------- */

static void random_host(struct host_cpu_set *ret_allowed)
{
	bool hybrid = tree_below(6) == 0, odd_caches = tree_below(4) == 0;
	struct host_cpu_set allowed = {0};

	tree_regular(&t, 1 + tree_below(2), 1 + tree_below(2), 1 + tree_below(4), 1 + tree_below(4),
		     1 + tree_below(3));
	for (unsigned i = 0; i < t.count; i++) {
		if (odd_caches && t.cpu[i].cache % 2)
			t.cpu[i].cache_kib = 98304;
		if (hybrid && t.cpu[i].core % 4 >= 2) {
			t.cpu[i].efficient = true;
			t.cpu[i].capacity = 500;
		}
	}
	if (tree_below(3) == 0)
		for (unsigned n = tree_below(4); n > 0; n--)
			t.cpu[tree_below(t.count)].offline = true;
	t.cpu[tree_below(t.count)].offline = false;
	allowed = tree_all(t.count);
	if (tree_below(3) == 0)
		for (unsigned n = tree_below(6); n > 0; n--) {
			unsigned cpu = tree_below(t.count);

			allowed.word[cpu / 64] &= ~(UINT64_C(1) << cpu % 64);
		}
	for (unsigned i = 0; i < t.count; i++)
		if (!t.cpu[i].offline && host_cpu_set_has(&allowed, t.cpu[i].id)) {
			*ret_allowed = allowed;
			return;
		}
	*ret_allowed = tree_all(t.count);
}

static void test_random(void **state UNUSED)
{
	const struct perf_wish free_choice = {0};
	unsigned met = 0, refused = 0;

	for (unsigned round = 0; round < 6000; round++) {
		struct host_cpu_set allowed;
		struct topology shape;
		struct error err = {0};
		const char *flaw;
		char spec[64];

		random_host(&allowed);
		snprintf(spec, sizeof(spec), "1n%ul%uc%ut", 1 + tree_below(4), 1 + tree_below(4),
			 1 + tree_below(3));
		assert_int_equal(topology_parse(spec, &shape, &err), 0);
		make_on(spec, &allowed, &free_choice);
		flaw = oracle_flaw(&t, &plan, &shape, &allowed);
		if (!flaw != (missing.count == 0))
			fail_msg("round %u, %s: %s, and the plan says %s", round, spec,
				 flaw ?: "good", missing.count ? missing.item[0].what : "good");
		if (oracle_possible(&t, &shape, &allowed) != (missing.count == 0))
			fail_msg("round %u, %s: possible is %d, and the plan says %s", round, spec,
				 oracle_possible(&t, &shape, &allowed),
				 missing.count ? missing.item[0].what : "good");
		met += missing.count == 0;
		refused += missing.count > 0;
	}
	assert_true(met > 1000);
	assert_true(refused > 1000);
}

/* Relaxed plans and hostile tables: no CPU twice, whatever lacks. */
static void test_random_relaxed(void **state UNUSED)
{
	const struct perf_wish free_choice = {0};

	for (unsigned round = 0; round < 3000; round++) {
		struct host_cpu_set allowed;
		char spec[64];

		random_host(&allowed);
		for (unsigned n = tree_below(8); n > 0; n--) {
			t.cpu[tree_below(t.count)].core = tree_below(t.count);
			t.cpu[tree_below(t.count)].cache = tree_below(8);
		}
		snprintf(spec, sizeof(spec), "1n%ul%uc%ut", 1 + tree_below(4), 1 + tree_below(6),
			 1 + tree_below(3));
		make_on(spec, &allowed, &free_choice);
		for (unsigned v = 0; v < plan.vcpus; v++) {
			if (plan.cpu[0] < 0) {
				assert_int_equal(plan.cpu[v], -1);
				assert_true(plan.vcpus > host.count);
				continue;
			}
			assert_non_null(host_cpus_find(&host, (unsigned)plan.cpu[v]));
			assert_int_not_equal(plan.cpu[v], plan.control);
			for (unsigned w = 0; w < v; w++)
				assert_int_not_equal(plan.cpu[v], plan.cpu[w]);
		}
		assert_int_equal(plan.own, plan.control >= 0);
		if (!plan.own)
			assert_true(missing.count > 0);
	}
}

static int done(void **state UNUSED)
{
	host_cpus_done(&host);
	perf_plan_done(&plan);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_two_cpus),
		cmocka_unit_test(test_siblings),
		cmocka_unit_test(test_two_sockets),
		cmocka_unit_test(test_asymmetric_caches),
		cmocka_unit_test(test_hybrid),
		cmocka_unit_test(test_cpuset),
		cmocka_unit_test(test_pin),
		cmocka_unit_test(test_held_by_others),
		cmocka_unit_test(test_budget),
		cmocka_unit_test(test_random),
		cmocka_unit_test(test_random_relaxed),
	};

	return cmocka_run_group_tests(tests, NULL, done);
}
