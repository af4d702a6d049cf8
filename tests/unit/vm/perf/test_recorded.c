/* Hosts that no test machine is, as real kernels showed them (record-tree, record-qemu): the shape
 * that is read is the one that QEMU was told, and the plans on it are right. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "oracle.h"
#include "tree.h"
#include "vm/perf/plan.h"

static const char *folder; /* of the recordings */
static struct tree t;
static char *root;
static struct host_cpus host;
static struct perf_plan plan;
static struct perf_missing missing;

/* ---- what QEMU was told --------------------------------------------------------------------- */

/* Numbers as QEMU gives them: siblings side by side, then cores, caches, sockets. */
static const struct recording {
	const char *name;
	unsigned sockets, caches, cores, threads, nodes; /* nodes are the host's, others "per" */
	unsigned kib, level;
	const char *smt, *offline;
	unsigned bare_nodes; /* with memory alone */
} recordings[] = {
	{"two-sockets", 2, 4, 2, 2, 2, 16384, 3, "on", ""},
	{"offline", 2, 4, 2, 2, 2, 16384, 3, "on", "1,6-11"},
	{"smt-off", 2, 4, 2, 2, 2, 16384, 3, "off", "1,3,5,7,9,11,13,15,17,19,21,23,25,27,29,31"},
	{"two-nodes", 1, 4, 2, 2, 2, 16384, 3, "on", ""},
	{"shared-l3", 1, 1, 4, 2, 2, 16384, 3, "on", ""},
	{"memory-node", 2, 1, 2, 2, 2, 16384, 3, "on", "", 1},
	{"shared-l2", 1, 2, 2, 2, 1, 4096, 2, "on", ""},
	{"no-l3", 2, 1, 2, 2, 1, 0, 0, "on", ""},
	{"big-little", 1, 1, 6, 1, 1, 512, 2, "notimplemented", ""},
	{"one-l3", 1, 1, 6, 1, 1, 4096, 3, "notimplemented", ""},
	{"two-l3", 1, 2, 4, 1, 1, 8192, 3, "notimplemented", ""},
	{"two-cpus", 1, 1, 2, 1, 1, 32768, 3, "notsupported", ""},
};

/* What the device trees of the arm64 ones say besides. */
static void unequal(struct tree *ret_tree, const char *name)
{
	for (unsigned i = 0; i < ret_tree->count; i++) {
		struct tree_cpu *c = &ret_tree->cpu[i];

		if (!strcmp(name, "two-l3")) {
			c->cache_kib = c->cache == 1 ? 32768 : 8192;
		} else if (!strcmp(name, "big-little") || !strcmp(name, "one-l3")) {
			c->capacity = i < 4 ? 446 : 1024;
			if (ret_tree->level == 2 && i >= 4) {
				c->cache = 1;
				c->cache_kib = 2048;
			}
		}
	}
}

static void table(const struct recording *r, struct tree *ret_tree)
{
	unsigned per_cache = r->cores * r->threads, per_socket = r->caches * per_cache;
	struct host_cpu_set offline;

	assert_int_equal(host_cpu_set_parse(r->offline, &offline), 0);
	*ret_tree = (struct tree){.count = r->sockets * per_socket,
				  .has_nodes = true,
				  .smt = r->smt,
				  .level = r->level};
	for (unsigned id = 0; id < ret_tree->count; id++)
		ret_tree->cpu[id] = (struct tree_cpu){
			.id = id,
			.package = id / per_socket,
			.node = id / (ret_tree->count / r->nodes),
			.core = id / r->threads,
			.cache = id / per_cache,
			.cache_kib = r->kib,
			.offline = host_cpu_set_has(&offline, id),
		};
	unequal(ret_tree, r->name);
}

/* ---- reading and planning ------------------------------------------------------------------- */

/* The recording, as a tree of files and as a table. */
static void take(const char *name)
{
	size_t i = 0;

	while (strcmp(recordings[i].name, name))
		i++;
	table(&recordings[i], &t);
	if (root)
		tree_remove(root);
	root = tree_unpack(folder, name);
}

static void read_host(const struct host_cpu_set *allowed)
{
	struct error err = {0};

	host_cpus_done(&host);
	if (host_cpus_read(root, allowed, &host, &err) < 0)
		fail_msg("%s", err.what);
}

static void make_plan(const struct topology *shape)
{
	struct error err = {0};

	perf_plan_done(&plan);
	missing.count = 0;
	if (perf_plan_make(&host, shape, &(struct perf_wish){0}, &plan, &missing, &err) < 0)
		fail_msg("%s", err.what);
}

/* As "stasis run --perf -t spec" started by "taskset -c cpus"; "": on all CPUs. */
static void make(const char *spec, const char *cpus)
{
	struct host_cpu_set allowed = tree_all(512);
	struct topology shape;
	struct error err = {0};

	if (cpus[0])
		assert_int_equal(host_cpu_set_parse(cpus, &allowed), 0);
	assert_int_equal(topology_parse(spec, &shape, &err), 0);
	read_host(&allowed);
	make_plan(&shape);
}

static void assert_cpus(const int *want, unsigned n, int control)
{
	if (missing.count)
		fail_msg("%s", missing.item[0].what);
	assert_int_equal(plan.vcpus, n);
	for (unsigned v = 0; v < n; v++)
		if (plan.cpu[v] != want[v])
			fail_msg("vCPU %u is on CPU %d, not %d", v, plan.cpu[v], want[v]);
	assert_int_equal(plan.control, control);
}

/* A plan on CPUs that follow each other by step. */
static void assert_range(int first, int step, unsigned n, int control)
{
	int want[64];

	for (unsigned v = 0; v < n; v++)
		want[v] = first + (int)v * step;
	assert_cpus(want, n, control);
}

/* Refused, for this many reasons, and for this one. */
static void assert_lacks(unsigned count, const char *what)
{
	bool found = false;

	for (unsigned i = 0; i < missing.count; i++)
		found |= strstr(missing.item[i].what, what) != NULL;
	if (!found)
		fail_msg("'%s' is not in '%s' …", what,
			 missing.count ? missing.item[0].what : "a good plan");
	assert_int_equal(missing.count, count);
}

/* ---- shapes --------------------------------------------------------------------------------- */

/* All CPUs, one of each two, a half, and random ones; false: none of those is online. */
static bool choose_allowed(unsigned turn, struct host_cpu_set *ret_allowed)
{
	struct host_cpu_set allowed = {0};
	bool any = false;

	for (unsigned i = 0; i < t.count; i++) {
		if (turn == 0 || (turn == 1 && i % 2) || (turn == 2 && i < t.count / 2) ||
		    (turn > 2 && tree_below(turn))) {
			host_cpu_set_add(&allowed, i);
			any |= !t.cpu[i].offline;
		}
	}
	*ret_allowed = allowed;
	return any;
}

/* Every field of what is read, under affinities that taskset and cpusets give. */
static void test_shapes(void **state UNUSED)
{
	unsigned compared = 0;

	for (size_t i = 0; i < ARRAY_SIZE(recordings); i++) {
		take(recordings[i].name);
		for (unsigned turn = 0; turn < 6; turn++) {
			struct host_cpu_set allowed;
			struct host_cpus want;

			if (!choose_allowed(turn, &allowed))
				continue;
			read_host(&allowed);
			tree_host(&t, &allowed, &want);
			want.all_nodes += recordings[i].bare_nodes;
			tree_assert_same(&host, &want);
			host_cpus_done(&want);
			compared++;
		}
	}
	assert_true(compared > 5 * ARRAY_SIZE(recordings));
}

/* The same in figures, so that the table is none that agrees with whatever is read. */
static void test_figures(void **state UNUSED)
{
	static const struct {
		const char *name;
		unsigned count, cores, groups, nodes, all_nodes, level;
		uint64_t first_bytes, last_bytes;
		bool hybrid;
	} want[] = {
		{"two-sockets", 32, 16, 8, 2, 2, 3, MIB(16), MIB(16), false},
		{"offline", 25, 13, 7, 2, 2, 3, MIB(16), MIB(16), false},
		{"smt-off", 16, 16, 8, 2, 2, 3, MIB(16), MIB(16), false},
		{"two-nodes", 16, 8, 4, 2, 2, 3, MIB(16), MIB(16), false},
		{"shared-l3", 8, 4, 1, 2, 2, 3, MIB(16), MIB(16), false},
		{"memory-node", 8, 4, 2, 2, 3, 3, MIB(16), MIB(16), false},
		{"shared-l2", 8, 4, 2, 1, 1, 2, MIB(4), MIB(4), false},
		{"no-l3", 8, 4, 2, 1, 1, 0, 0, 0, false},
		{"big-little", 6, 6, 2, 1, 1, 2, KIB(512), MIB(2), true},
		{"one-l3", 6, 6, 1, 1, 1, 3, MIB(4), MIB(4), true},
		{"two-l3", 8, 8, 2, 1, 1, 3, MIB(8), MIB(32), false},
		{"two-cpus", 2, 2, 1, 1, 1, 3, MIB(32), MIB(32), false},
	};
	const struct host_cpu_set all = tree_all(512);

	assert_int_equal(ARRAY_SIZE(want), ARRAY_SIZE(recordings));
	for (size_t i = 0; i < ARRAY_SIZE(want); i++) {
		take(want[i].name);
		read_host(&all);
		assert_int_equal(host.count, want[i].count);
		assert_int_equal(host.online, want[i].count);
		assert_int_equal(host.cores, want[i].cores);
		assert_int_equal(host.groups, want[i].groups);
		assert_int_equal(host.nodes, want[i].nodes);
		assert_int_equal(host.all_nodes, want[i].all_nodes);
		assert_int_equal(host.group[0].level, want[i].level);
		assert_int_equal(host.group[0].bytes, want[i].first_bytes);
		assert_int_equal(host.group[host.groups - 1].bytes, want[i].last_bytes);
		assert_int_equal(host.hybrid, want[i].hybrid);
	}
}

/* ---- plans by hand -------------------------------------------------------------------------- */

static void test_two_sockets(void **state UNUSED)
{
	take("two-sockets"); /* caches {0-3} {4-7} {8-11} {12-15} | {16-19} … */
	make("2n6l2c2t", "");
	assert_range(4, 1, 24, 0); /* three caches of each socket, siblings side by side */
	make("1n7l2c1t", "");
	assert_range(4, 2, 14, 0); /* a core each, over both sockets */
	assert_int_equal(plan.shared_cores, 0);
	make("1n4l2c2t", ""); /* only the other socket has four besides CPU 0's */
	assert_int_equal(missing.count, 0);
	assert_int_equal(oracle_cpu(&t, plan.cpu[0])->node, oracle_cpu(&t, plan.cpu[15])->node);
	make("2n8l2c2t", "");
	assert_lacks(1,
		     "33 host CPUs are needed, for 32 vCPUs and the control thread, and stasis may "
		     "use 32");
	make("1n9l1c1t", "");
	assert_lacks(1,
		     "9 last-level caches are asked for, and the CPUs that stasis may use have 8");
	make("1n1l3c2t", "");
	assert_lacks(1, "have 3 cores with 2 threads for 1 of the guest's");
	take("two-nodes"); /* {0-3} {4-7} | {8-11} {12-15} */
	make("2n2l2c2t", "");
	assert_range(4, 1, 8, 0);
	make("1n3l2c2t", ""); /* more than either node has, so across both */
	assert_range(4, 1, 12, 0);
}

static void test_cpuset(void **state UNUSED)
{
	take("two-sockets");
	make("1n3l2c2t", "16-31"); /* numactl's second socket */
	assert_range(16, 1, 12, 28);
	make("1n5l1c1t", "16-31");
	assert_lacks(1,
		     "5 last-level caches are asked for, and the CPUs that stasis may use have 4");
	make("1n2l2c1t", "0,2,4,6,8,10,12,14"); /* a thread of each core of the first */
	assert_lacks(1, "4 vCPUs are on a host core whose sibling is outside of our CPUs");
	make("1n1l2c2t", "3-8");
	assert_range(4, 1, 4, 3);
	make("1n1l4c1t", "4-7"); /* the siblings, and nobody left for control */
	assert_lacks(1,
		     "5 host CPUs are needed, for 4 vCPUs and the control thread, and stasis may "
		     "use 4");
	make("1n1l1c2t", "3-4,6");
	assert_lacks(2, "have 1 core with 2 threads for 1 of the guest's");
}

static void test_offline(void **state UNUSED)
{
	take("offline"); /* caches {0,2-3} {4-5} {12-15} | {16-19} … */
	make("1n7l1c1t", "");
	assert_cpus((int[]){4, 12, 16, 20, 24, 28, 2}, 7, 0);
	make("1n1l2c2t", "");
	assert_range(12, 1, 4, 0);
	make("1n1l1c2t", "0-11"); /* an offline sibling is nobody's: no one is foreign */
	assert_range(4, 1, 2, 0);
	make("1n8l1c1t", "");
	assert_lacks(1,
		     "8 last-level caches are asked for, and the CPUs that stasis may use have 7");
	make("1n6l2c2t", "");
	assert_lacks(1, "have 2 cores with 2 threads for 6 of the guest's");
	make("2n6l2c2t", "0-15");
	assert_lacks(2,
		     "25 host CPUs are needed, for 24 vCPUs and the control thread, and stasis may "
		     "use 9");
	take("smt-off"); /* the even ones */
	make("2n6l2c1t", "");
	assert_range(4, 2, 12, 0);
	assert_int_equal(plan.shared_cores, 0);
	make("1n1l1c2t", "");
	assert_lacks(1, "have 1 core with 2 threads for 1 of the guest's");
}

static void test_other_groups(void **state UNUSED)
{
	take("memory-node"); /* {0-3} | {4-7} | a node without CPUs */
	make("2n2l1c2t", "");
	assert_cpus((int[]){2, 3, 4, 5}, 4, 0);
	take("shared-l3"); /* {0-3 | 4-7} */
	make("1n1l2c2t", "");
	assert_range(4, 1, 4, 0); /* a node of the guest on one of the host's */
	make("1n1l1c2t", "");
	assert_range(4, 1, 2, 6); /* and the control thread with it */
	make("1n1l3c2t", "");
	assert_range(2, 1, 6, 0); /* neither has three cores */
	make("1n1l3c1t", "1-7");
	assert_range(2, 2, 3, 1);
	take("shared-l2"); /* {0-3} {4-7}, of the second level */
	make("1n1l2c2t", "");
	assert_range(4, 1, 4, 0);
	make("1n2l1c1t", "");
	assert_cpus((int[]){4, 2}, 2, 0);
	make("1n3l1c1t", "");
	assert_lacks(1,
		     "3 last-level caches are asked for, and the CPUs that stasis may use have 2");
	take("no-l3"); /* the packages */
	make("1n2l2c1t", "");
	assert_cpus((int[]){4, 6, 2, 0}, 4, 1);
	assert_int_equal(plan.shared_cores, 1); /* the one on the control thread's core */
	take("two-cpus");
	make("1n1l1c1t", "");
	assert_range(1, 1, 1, 0);
	make("1n1l2c1t", "");
	assert_lacks(1,
		     "3 host CPUs are needed, for 2 vCPUs and the control thread, and stasis may "
		     "use 2");
}

static void test_unequal(void **state UNUSED)
{
	take("big-little"); /* 0-3 small, 512 KiB; 4-5 large, 2 MiB */
	make("1n1l2c1t", "");
	assert_range(4, 1, 2, 0);
	make("1n1l4c1t", ""); /* all of a kind, so the small ones */
	assert_cpus((int[]){1, 2, 3, 0}, 4, 4);
	make("1n2l2c1t", "");
	assert_lacks(2, "on host CPUs of 2 kinds");
	assert_lacks(2, "on host caches of different sizes");
	take("one-l3"); /* the same cores under one cache */
	make("1n1l2c1t", "");
	assert_range(4, 1, 2, 0);
	make("1n1l3c1t", "");
	assert_range(1, 1, 3, 0);
	make("1n1l5c1t", "");
	assert_lacks(1, "on host CPUs of 2 kinds");
	take("two-l3"); /* {0-3} 8 MiB, {4-7} 32 MiB */
	make("1n1l4c1t", "");
	assert_range(4, 1, 4, 0);
	make("1n1l3c1t", "0-3");
	assert_range(1, 1, 3, 0);
	make("1n2l2c1t", "");
	assert_lacks(1, "on host caches of different sizes");
}

/* ---- plans by counting ---------------------------------------------------------------------- */

/* Each shape of the guest on each recording: a plan without a flaw wherever there is one, and
 * nothing called missing where there is none missing. */
static void test_all_shapes(void **state UNUSED)
{
	unsigned met = 0, refused = 0;

	for (size_t i = 0; i < ARRAY_SIZE(recordings); i++) {
		take(recordings[i].name);
		for (unsigned turn = 0; turn < 5; turn++) {
			struct host_cpu_set allowed;

			if (!choose_allowed(turn, &allowed))
				continue;
			read_host(&allowed);
			for (unsigned n = 0; n < 9 * 4 * 2; n++) {
				struct topology shape;
				struct error err = {0};
				const char *flaw;
				char spec[64];

				snprintf(spec, sizeof(spec), "1n%ul%uc%ut", 1 + n % 9,
					 1 + n / 9 % 4, 1 + n / 36);
				assert_int_equal(topology_parse(spec, &shape, &err), 0);
				make_plan(&shape);
				flaw = oracle_flaw(&t, &plan, &shape, &allowed);
				if (!flaw != (missing.count == 0) ||
				    !flaw != oracle_possible(&t, &shape, &allowed))
					fail_msg("%s, turn %u, %s: %s, and the plan says %s",
						 recordings[i].name, turn, spec, flaw ?: "good",
						 missing.count ? missing.item[0].what : "good");
				met += !flaw;
				refused += flaw != NULL;
			}
		}
	}
	assert_true(met > 300);
	assert_true(refused > 300);
}

static int done(void **state UNUSED)
{
	host_cpus_done(&host);
	perf_plan_done(&plan);
	if (root)
		tree_remove(root);
	return 0;
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_shapes),	    cmocka_unit_test(test_figures),
		cmocka_unit_test(test_two_sockets), cmocka_unit_test(test_cpuset),
		cmocka_unit_test(test_offline),	    cmocka_unit_test(test_other_groups),
		cmocka_unit_test(test_unequal),	    cmocka_unit_test(test_all_shapes),
	};

	if (argc != 2) {
		fprintf(stderr, "usage: %s FOLDER-OF-RECORDINGS\n", argv[0]);
		return 2;
	}
	folder = argv[1];
	return cmocka_run_group_tests(tests, NULL, done);
}
