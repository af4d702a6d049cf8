/* Shapes as they are typed: nodes, distances, what contradicts itself; and thousands of random
 * ones. */
#include <errno.h>
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "guest/topology_request.h"

static void node(struct topology_request *q, const char *text)
{
	struct error err = {0};

	if (topology_request_node(q, text, &err) < 0)
		fail_msg("%s", err.what);
}

static void nodes_are_as_typed(void **state)
{
	struct topology_request q = {0};
	struct topology t;
	char text[128];

	(void)state;
	node(&q, "llcs=2,mem=1G");
	node(&q, "llcs=1,mem=2G");
	node(&q, "llcs=1");
	node(&q, "mem=4G,llcs=0,latency=250,bandwidth=20000,cache=1M");
	assert_int_equal(topology_request_distance(&q, "0,2=40", NULL), 0);
	assert_int_equal(topology_request_distance(&q, "2,0=40", NULL), 0);
	q.spec = "3c2t";
	assert_int_equal(topology_resolve(&q, GIB(1), &t, NULL), 0);
	assert_true(t.nodes == 4 && t.llcs == 4 && t.cores_per_llc == 3 && t.threads_per_core == 2);
	assert_true(t.node[1].first_llc == 2 && t.node[3].llcs == 0 && t.node[2].first_llc == 3);
	assert_true(t.node[3].latency_ns == 250 && t.node[3].bandwidth_mbs == 20000 &&
		    t.node[3].cache_bytes == MIB(1) && t.node[2].memory_bytes == 0);
	assert_true(t.distance[0][2] == 40 && t.distance[2][0] == 40 && t.distance[1][2] == 20 &&
		    t.distance[3][3] == 10);
	assert_true(topology_memory(&t) == GIB(7) && topology_has_memory_figures(&t));
	assert_int_equal(topology_locate(&t, 23).node, 2);
	assert_string_equal(topology_node_format(&t.node[3], text, sizeof(text)),
			    "llcs=0,mem=4294967296,latency=250,bandwidth=20000,cache=1048576");
	q.spec = "4n4l3c2t";
	assert_int_equal(topology_resolve(&q, GIB(1), &t, NULL), 0);
}

static void wrong_nodes_say_why(void **state)
{
	static const struct {
		const char *text, *why;
	} cases[] = {
		{"", "accepted"},
		{"llcs=2,", "accepted"},
		{",mem=1G", "accepted"},
		{"llcs=0", "neither CPUs"},
		{"mem=0", "neither CPUs"},
		{"llcs=1,llcs=2", "twice"},
		{"llcs=1,mem=banana", "size"},
		{"llcs=1,mem", "size"},
		{"llcs=1025", "from 0 to 1024"},
		{"llcs=-1", "from 0 to 1024"},
		{"llcs=1,mem=1G,latency=0", "from 1 to"},
		{"llcs=1,mem=1G,latency=65535", "from 1 to"},
		{"llcs=1,mem=1G,cache=0", "size"},
		{"llcs=1,mem=1G,cache=5", "multiple of 4K"},
		{"llcs=1,mem=4097", "multiple of 4K"},
		{"llcs=1,latency=5", "has none"},
		{"cpus=4,mem=1G", "none of"},
		{"llcs=1,mem=99999999999999999999G", "size"},
		{"llcs=1,mem=1000000000000000000000000000000000000000000000000000000000000G",
		 "too long"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct topology_request q = {0};
		struct error err = {0};

		assert_int_equal(topology_request_node(&q, cases[i].text, &err), -EINVAL);
		assert_int_equal(q.node_count, 0);
		if (!strstr(err.what, cases[i].why))
			fail_msg("'%s': %s", cases[i].text, err.what);
	}
}

static void wrong_distances_say_why(void **state)
{
	static const struct {
		const char *text, *why;
	} cases[] = {
		{"0,1", "A,B=D"},	  {"0=20", "A,B=D"},	     {"0,1=x", "A,B=D"},
		{"0,1=20x", "A,B=D"},	  {"1,1=10", "itself"},	     {"0,1=10", "11 to 254"},
		{"0,1=255", "11 to 254"}, {"0,64=20", "A,B=D"},	     {"1,0=31", "both ways"},
		{"-1,0=20", "A,B=D"},	  {"0,1=99999999", "A,B=D"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct topology_request q = {0};
		struct error err = {0};

		assert_int_equal(topology_request_distance(&q, "0,1=30", NULL), 0);
		assert_int_equal(topology_request_distance(&q, cases[i].text, &err), -EINVAL);
		if (!strstr(err.what, cases[i].why))
			fail_msg("'%s': %s", cases[i].text, err.what);
	}
}

static void wrong_wholes_say_why(void **state)
{
	static const struct {
		const char *spec;
		unsigned cpus;
		uint64_t memory;
		const char *node, *distance, *why;
	} cases[] = {
		{"1n1l1c1t", 4, 0, NULL, NULL, "exclude each other"},
		{NULL, 4, 0, "llcs=1,mem=1G", NULL, "exclude each other"},
		{NULL, 0, GIB(1), "llcs=1,mem=1G", NULL, "exclude each other"},
		{"banana", 0, 0, "llcs=1,mem=1G", NULL, "4c2t"},
		{"2n1l1c1t", 0, 0, "llcs=1,mem=1G", NULL, "1 nodes"},
		{"2000n4c2t", 0, 0, "llcs=1,mem=1G", NULL, "4c2t"},
		{"0c1t", 0, 0, "llcs=1,mem=1G", NULL, "from 1"},
		{NULL, 0, 0, "llcs=0,mem=1G", NULL, "no node has CPUs"},
		{NULL, 0, 0, "llcs=1", NULL, "no node has memory"},
		{NULL, 0, 0, "llcs=1,mem=1G llcs=0,mem=1G llcs=1", NULL, "come last"},
		{"1024c1t", 0, 0, "llcs=2,mem=1G", NULL, "2048 vCPUs"},
		{NULL, 0, 0, "llcs=1,mem=1G", "0,1=20", "nodes 0 to 0"},
		{"3n4l1c1t", 0, 0, NULL, NULL, "--topology"},
		{"1n1l1025c1t", 0, 0, NULL, NULL, "--topology"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct topology_request q = {.spec = cases[i].spec,
					     .cpus = cases[i].cpus,
					     .memory_bytes = cases[i].memory};
		struct topology t, before;
		struct error err = {0};

		if (cases[i].node) {
			char nodes[64], *rest = nodes, *one;

			snprintf(nodes, sizeof(nodes), "%s", cases[i].node);
			while ((one = strsep(&rest, " ")))
				node(&q, one);
		}
		if (cases[i].distance)
			assert_int_equal(topology_request_distance(&q, cases[i].distance, NULL), 0);
		memset(&t, 0x5a, sizeof(t));
		before = t;
		assert_int_equal(topology_resolve(&q, GIB(1), &t, &err), -EINVAL);
		if (!strstr(err.what, cases[i].why))
			fail_msg("case %zu: %s", i, err.what);
		assert_memory_equal(&t, &before, sizeof(t));
	}
}

/* What a shape says of its nodes, said again as options, is the same shape. */
static void shapes_survive_the_way_into_the_lab(void **state)
{
	unsigned made = 0;

	(void)state;
	srand(1);
	for (unsigned round = 0; round < 3000; round++) {
		struct topology_request q = {0}, again = {0};
		struct topology t, u;
		unsigned nodes = 1 + (unsigned)rand() % 8;
		unsigned with_cpus = (unsigned)rand() % (nodes + 1);
		char text[128], spec[32], whole[64];

		for (unsigned n = 0; n < nodes; n++) {
			snprintf(text, sizeof(text), "llcs=%d,mem=%dM",
				 n < with_cpus ? 1 + rand() % 3 : 0, 2 + rand() % 100);
			node(&q, text);
		}
		for (unsigned k = 0; k < nodes; k++) {
			snprintf(text, sizeof(text), "%d,%d=%d", rand() % (int)nodes,
				 rand() % (int)nodes, 11 + rand() % 244);
			(void)!topology_request_distance(&q, text, NULL);
		}
		snprintf(spec, sizeof(spec), "%dc%dt", 1 + rand() % 9, 1 + rand() % 3);
		q.spec = spec;
		if (topology_resolve(&q, 0, &t, NULL) < 0)
			continue;
		made++;
		for (unsigned n = 0; n < nodes; n++) {
			node(&again, topology_node_format(&t.node[n], text, sizeof(text)));
			for (unsigned b = 0; b < n; b++) {
				snprintf(text, sizeof(text), "%u,%u=%u", n, b, t.distance[n][b]);
				assert_int_equal(topology_request_distance(&again, text, NULL), 0);
			}
		}
		again.spec = topology_format(&t, whole, sizeof(whole));
		assert_int_equal(topology_resolve(&again, 0, &u, NULL), 0);
		assert_memory_equal(&t, &u, sizeof(t));
		/* Every CPU in one cache of one node that has caches. */
		for (unsigned i = 0; i < topology_vcpus(&t); i++) {
			struct topology_place p = topology_locate(&t, i);
			const struct topology_node *at = &t.node[p.node];

			assert_true(p.llc >= at->first_llc && p.llc < at->first_llc + at->llcs);
		}
	}
	assert_true(made > 2000);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(nodes_are_as_typed),
		cmocka_unit_test(wrong_nodes_say_why),
		cmocka_unit_test(wrong_distances_say_why),
		cmocka_unit_test(wrong_wholes_say_why),
		cmocka_unit_test(shapes_survive_the_way_into_the_lab),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
