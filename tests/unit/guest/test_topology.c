/* Topology: properties over every accepted shape, and the texts of refusals. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "guest/topology.h"

static void check_shape(unsigned n, unsigned l, unsigned c, unsigned t)
{
	struct topology topo;
	struct topology_place last = {0};
	char spec[48], again[48];
	unsigned vcpus = l * c * t;

	snprintf(spec, sizeof(spec), "%un%ul%uc%ut", n, l, c, t);
	assert_int_equal(topology_parse(spec, &topo, NULL), 0);
	assert_int_equal(topology_vcpus(&topo), vcpus);
	assert_string_equal(topology_format(&topo, again, sizeof(again)), spec);
	for (unsigned i = 0; i < vcpus; i++) {
		struct topology_place p = topology_locate(&topo, i);

		/* The place gives the index back, and the node owns the cache. */
		assert_int_equal((p.llc * c + p.core) * t + p.thread, i);
		assert_true(p.thread < t && p.core < c && p.llc < l && p.node < n);
		assert_int_equal(p.node, p.llc / (l / n));
		assert_true(p.node >= last.node);
		last = p;
	}
	assert_int_equal(last.node, n - 1);
}

static void every_small_shape_round_trips(void **state)
{
	(void)state;
	for (unsigned n = 1; n <= 6; n++)
		for (unsigned l = n; l <= 4 * n; l += n)
			for (unsigned c = 1; c <= 5; c++)
				for (unsigned t = 1; t <= 4; t++)
					check_shape(n, l, c, t);
	check_shape(64, 64, 8, 2);
	check_shape(1, 1024, 1, 1);
	check_shape(1, 1, 1024, 1);
	check_shape(1, 1, 1, 1024);
	check_shape(64, 1024, 1, 1);
}

static void refused(const char *spec, const char *says)
{
	struct topology topo, before;
	struct error err = {0};

	memset(&topo, 0x5a, sizeof(topo));
	before = topo;
	assert_int_equal(topology_parse(spec, &topo, &err), -EINVAL);
	assert_int_equal(err.kind, ERROR_USAGE);
	if (!strstr(err.what, says))
		fail_msg("'%s' gave \"%s\", without \"%s\"", spec, err.what, says);
	assert_memory_equal(&topo, &before, sizeof(topo));
}

static void refusals_say_what_is_accepted(void **state)
{
	(void)state;
	refused("0n1l1c1t", "0 NUMA nodes ('n'): 1 to 64");
	refused("1n0l1c1t", "0 last-level caches ('l')");
	refused("1n1l0c1t", "0 cores per cache ('c')");
	refused("1n1l1c0t", "0 threads per core ('t'): 1 to 1024");
	refused("banana", "1n2l4c2t");
	refused("", "1n2l4c2t");
	refused("1n", "1n2l4c2t");
	refused("1n2l4c", "1n2l4c2t");
	refused("1n2l4c2", "1n2l4c2t");
	refused("1n2l4c2tx", "1n2l4c2t");
	refused("1n2l4c2t ", "1n2l4c2t");
	refused(" 1n2l4c2t", "1n2l4c2t");
	refused("-1n2l4c2t", "1n2l4c2t");
	refused("+1n2l4c2t", "1n2l4c2t");
	refused("1l2n4c2t", "1n2l4c2t");
	refused("1N2L4C2T", "1n2l4c2t");
	refused("0x1n1l1c1t", "1n2l4c2t");
	refused("65n65l1c1t", "too many NUMA nodes");
	refused("1n1l1025c1t", "too many cores per cache");
	refused("18446744073709551617n1l1c1t", "too many NUMA nodes");
	refused("1n99999999999999999999999999999999999999l1c1t", "too many last-level caches");
	refused("1n1l4294967297c1t", "too many cores per cache");
	refused("2n3l1c1t", "a multiple of 2");
	refused("4n2l1c1t", "a multiple of 4");
	refused("1n2l513c1t", "1026 vCPUs: at most 1024");
	refused("1n1024l1024c1024t", "1073741824 vCPUs");
}

static void every_truncation_and_change_is_refused_or_round_trips(void **state)
{
	const char *good = "2n4l16c2t";
	char spec[16], again[48];
	struct topology topo;

	(void)state;
	for (size_t at = 0; at < strlen(good); at++) {
		for (int ch = 1; ch < 256; ch++) {
			strcpy(spec, good);
			spec[at] = (char)ch;
			if (topology_parse(spec, &topo, NULL) < 0)
				continue;
			/* Leading zeros are let pass; nothing else may differ. */
			topology_format(&topo, again, sizeof(again));
			if (!strchr(spec, '0'))
				assert_string_equal(again, spec);
		}
	}
}

static void cpus(void **state)
{
	struct topology topo;
	struct error err = {0};
	char text[48];

	(void)state;
	assert_int_equal(topology_from_cpus(7, &topo, NULL), 0);
	assert_string_equal(topology_format(&topo, text, sizeof(text)), "1n1l7c1t");
	assert_int_equal(topology_from_cpus(1024, &topo, NULL), 0);
	assert_int_equal(topology_from_cpus(0, &topo, &err), -EINVAL);
	assert_non_null(strstr(err.what, "1 to 1024"));
	assert_int_equal(topology_from_cpus(1025, &topo, NULL), -EINVAL);
}

static void memory_is_shared_whole(void **state)
{
	static const uint64_t sizes[] = {MIB(8), MIB(128), MIB(129), MIB(1000), MIB(1000) + KIB(4),
					 GIB(4), GIB(4097)};
	char spec[48];

	(void)state;
	for (unsigned n = 1; n <= 4; n++) {
		for (size_t s = 0; s < ARRAY_SIZE(sizes); s++) {
			struct topology topo;

			snprintf(spec, sizeof(spec), "%un%ul1c1t", n, n);
			assert_int_equal(topology_parse(spec, &topo, NULL), 0);
			assert_int_equal(topology_memory(&topo), 0);
			assert_int_equal(topology_set_memory(&topo, sizes[s], NULL), 0);
			assert_int_equal(topology_memory(&topo), sizes[s]);
			for (unsigned i = 1; i < n; i++) {
				assert_int_equal(topo.node[i].memory_bytes % MIB(2), 0);
				assert_true(topo.node[i].memory_bytes > 0);
				assert_true(topo.node[i].memory_bytes <= topo.node[0].memory_bytes);
			}
		}
	}
}

static void memory_refusals(void **state)
{
	struct topology topo;
	struct error err = {0};

	(void)state;
	assert_int_equal(topology_parse("4n4l1c1t", &topo, NULL), 0);
	assert_int_equal(topology_set_memory(&topo, MIB(7), &err), -EINVAL);
	assert_non_null(strstr(err.what, "7 MiB is too little for 4 NUMA nodes"));
	assert_int_equal(topology_set_memory(&topo, 0, NULL), -EINVAL);
	assert_int_equal(topology_set_memory(&topo, MIB(64) + 1, NULL), -EINVAL);
	assert_int_equal(topology_memory(&topo), 0);
}

static void memory_only_nodes_own_no_vcpu(void **state)
{
	/* As --numa-node llcs=1, llcs=0, llcs=2, llcs=0 makes it. */
	const struct topology topo = {
		.nodes = 4,
		.llcs = 3,
		.cores_per_llc = 2,
		.threads_per_core = 1,
		.node = {{.first_llc = 0, .llcs = 1},
			 {.first_llc = 1, .llcs = 0},
			 {.first_llc = 1, .llcs = 2},
			 {.first_llc = 3, .llcs = 0}},
	};
	static const unsigned want[] = {0, 0, 2, 2, 2, 2};

	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(want); i++)
		assert_int_equal(topology_locate(&topo, i).node, want[i]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_small_shape_round_trips),
		cmocka_unit_test(refusals_say_what_is_accepted),
		cmocka_unit_test(every_truncation_and_change_is_refused_or_round_trips),
		cmocka_unit_test(cpus),
		cmocka_unit_test(memory_is_shared_whole),
		cmocka_unit_test(memory_refusals),
		cmocka_unit_test(memory_only_nodes_own_no_vcpu),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
