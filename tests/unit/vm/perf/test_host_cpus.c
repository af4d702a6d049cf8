/* The host's shape out of sysfs trees that the test writes: regular, odd and hostile ones. What
 * real kernels wrote is in test_recorded.c. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tree.h"
#include "vm/perf/host_cpus.h"

static struct tree t;

static void read_ok(const struct host_cpu_set *allowed, struct host_cpus *ret_host)
{
	char *root = tree_write(&t);
	struct error err = {0};
	int r = host_cpus_read(root, allowed, ret_host, &err);

	tree_remove(root);
	if (r < 0)
		fail_msg("%s", err.what);
}

/* Reads what was written, and compares it with what the table says. */
static void assert_as_table(const struct host_cpu_set *allowed)
{
	struct host_cpus host, want;

	read_ok(allowed, &host);
	tree_host(&t, allowed, &want);
	tree_assert_same(&host, &want);
	host_cpus_done(&host);
	host_cpus_done(&want);
}

static void test_two_sockets(void **state UNUSED)
{
	struct host_cpu_set all = tree_all(512);

	tree_regular(&t, 2, 1, 4, 4, 2);
	assert_int_equal(t.count, 64);
	assert_as_table(&all);
	tree_regular(&t, 1, 1, 1, 2, 1);
	t.has_nodes = false;
	t.smt = NULL;
	assert_as_table(&all);
	tree_regular(&t, 2, 4, 2, 3, 4);
	assert_as_table(&all);
}

static void test_set_text(void **state UNUSED)
{
	static const char *const lists[] = {"", "0", "0-1", "2-3,8-11,19", "0,2,4,8191", "0-8191"};
	struct host_cpu_set set;
	char text[16];

	for (size_t i = 0; i < ARRAY_SIZE(lists); i++) {
		assert_int_equal(host_cpu_set_parse(lists[i], &set), 0);
		assert_string_equal(host_cpu_set_text(&set, text, sizeof(text)), lists[i]);
	}
	assert_int_equal(host_cpu_set_parse("100-101,200-201,3000", &set), 0);
	assert_string_equal(host_cpu_set_text(&set, text, sizeof(text)), "100-101…");
	assert_int_equal(host_cpu_set_parse("8000-8001,8100-8101", &set), 0);
	assert_string_equal(host_cpu_set_text(&set, text, sizeof(text)), "8000-8001…");
}

static void test_offline_and_cpuset(void **state UNUSED)
{
	struct host_cpu_set all = tree_all(512), some;
	struct host_cpus host;

	tree_regular(&t, 2, 1, 2, 4, 2);
	t.cpu[0].offline = t.cpu[17].offline = t.cpu[5].offline = true;
	for (unsigned i = 4; i < 8; i++) /* a whole cache */
		t.cpu[i].offline = t.cpu[i + 16].offline = true;
	assert_as_table(&all);
	assert_int_equal(host_cpu_set_parse("2-3,8-11,19,40-9999", &some), -ERANGE);
	assert_int_equal(host_cpu_set_parse("2-3,8-11,19,40-99", &some), 0);
	assert_as_table(&some);
	read_ok(&some, &host);
	assert_int_equal(host.count, 7);
	assert_int_equal(host.core[0].usable, 1); /* CPU 2, and 18 is not ours */
	assert_int_equal(host.core[0].foreign, 1);
	assert_int_equal(host.core[1].usable, 2); /* 3 and 19 */
	assert_int_equal(host.core[1].foreign, 0);
	assert_null(host_cpus_find(&host, 18));
	assert_int_equal(host_cpus_find(&host, 19)->core, 1);
	host_cpus_done(&host);
}

static void test_asymmetric_and_hybrid(void **state UNUSED)
{
	struct host_cpu_set all = tree_all(512);
	struct host_cpus host;

	tree_regular(&t, 1, 1, 2, 8, 2);
	for (unsigned i = 0; i < t.count; i++)
		if (t.cpu[i].cache == 0)
			t.cpu[i].cache_kib = 98304;
	assert_as_table(&all);
	/* Four large cores with two threads, four small ones, one cache. */
	tree_regular(&t, 1, 1, 1, 8, 1);
	for (unsigned i = 0; i < 4; i++) {
		t.cpu[i].core = i / 2;
		t.cpu[i + 4].efficient = true;
		t.cpu[i + 4].capacity = 600;
	}
	assert_as_table(&all);
	read_ok(&all, &host);
	assert_true(host.hybrid);
	assert_int_equal(host.cpu[7].capacity, 600);
	assert_true(host.cpu[7].efficient);
	host_cpus_done(&host);
}

/* Without a third level, a second that cores share is the group; a private one makes none. */
static void test_without_third_level(void **state UNUSED)
{
	struct host_cpu_set all = tree_all(512);
	struct error err = {0};
	struct host_cpus host;
	char path[96];
	char *root;

	tree_regular(&t, 2, 1, 1, 4, 2);
	root = tree_write(&t);
	for (unsigned i = 0; i < t.count; i++) {
		snprintf(path, sizeof(path), "devices/system/cpu/cpu%u/cache/index3/type", i);
		tree_put(root, path, NULL);
	}
	assert_int_equal(host_cpus_read(root, &all, &host, &err), 0);
	assert_int_equal(host.groups, 2); /* the packages */
	assert_int_equal(host.group[0].level, 0);
	assert_int_equal(host.group[1].id, 4);
	assert_int_equal(host.group[1].usable, 8);
	host_cpus_done(&host);
	for (unsigned i = 0; i < t.count; i++) {
		snprintf(path, sizeof(path),
			 "devices/system/cpu/cpu%u/cache/index2/shared_cpu_list", i);
		tree_put(root, path,
			 i % 8 < 4 ? (i % 4 < 2 ? "0-1,8-9" : "2-3,10-11")
				   : (i % 4 < 2 ? "4-5,12-13" : "6-7,14-15"));
	}
	assert_int_equal(host_cpus_read(root, &all, &host, &err), 0);
	assert_int_equal(host.groups, 4);
	assert_int_equal(host.group[3].level, 2);
	assert_int_equal(host.group[3].id, 6);
	assert_int_equal(host.group[3].bytes, MIB(1));
	host_cpus_done(&host);
	tree_remove(root);
}

/* The least that a kernel gives: which CPUs are online. */
static void test_bare(void **state UNUSED)
{
	struct host_cpu_set all = tree_all(512);
	struct error err = {0};
	struct host_cpus host;
	char *root;

	t = (struct tree){0};
	root = tree_write(&t);
	tree_put(root, "devices/system/cpu/online", "0,3-4");
	assert_int_equal(host_cpus_read(root, &all, &host, &err), 0);
	assert_int_equal(host.count, 3);
	assert_int_equal(host.cores, 3);
	assert_int_equal(host.groups, 1);
	assert_int_equal(host.cpu[2].id, 4);
	assert_int_equal(host.all_nodes, 0);
	host_cpus_done(&host);
	tree_remove(root);
}

static void test_hostile(void **state UNUSED)
{
	static const struct {
		const char *path, *text, *names;
	} odd[] = {
		{"devices/system/cpu/online", "", "cpu/online"},
		{"devices/system/cpu/online", "x", "cpu/online"},
		{"devices/system/cpu/online", "0-99999999999999999999", "cpu/online"},
		{"devices/system/cpu/online", NULL, "cpu/online"},
		{"devices/system/cpu/cpu1/topology/thread_siblings_list", "0", "CPU 1 itself"},
		{"devices/system/cpu/cpu1/topology/thread_siblings_list", "1-", "cpu1/topology/th"},
		{"devices/system/cpu/cpu1/topology/physical_package_id", "-2",
		 "cpu1/topology/phys"},
		{"devices/system/cpu/cpu1/cpu_capacity", "70000", "cpu1/cpu_capacity"},
		{"devices/system/cpu/cpu1/cache/index3/level", "99", "cpu1/cache/index3/level"},
		{"devices/system/cpu/cpu1/cache/index3/size", "32 MB", "cpu1/cache/index3/size"},
		{"devices/system/cpu/cpu1/cache/index3/shared_cpu_list", "0,2", "index3/shared"},
		{"devices/system/cpu/cpu1/cache/index3/shared_cpu_list", "0,,2", "index3/shared"},
		{"devices/system/node/online", "0-", "node/online"},
		{"devices/system/node/node0/cpulist", "a", "node0/cpulist"},
		{"devices/cpu_atom/cpus", "1;2", "cpu_atom/cpus"},
	};
	struct host_cpu_set all = tree_all(512), none = {0};
	struct host_cpus host;

	tree_regular(&t, 1, 1, 1, 4, 2);
	for (size_t i = 0; i < ARRAY_SIZE(odd); i++) {
		char *root = tree_write(&t);
		struct error err = {0};

		tree_put(root, odd[i].path, odd[i].text);
		assert_true(host_cpus_read(root, &all, &host, &err) < 0);
		if (!strstr(err.what, odd[i].names))
			fail_msg("%s: '%s'", odd[i].path, err.what);
		tree_remove(root);
	}
	{
		char *root = tree_write(&t);
		struct error err = {0};

		assert_true(host_cpus_read(root, &none, &host, &err) < 0);
		assert_int_equal(err.kind, ERROR_CONTENTION);
		/* CPUs that disagree about who shares what still have one core and group each. */
		err = (struct error){0};
		tree_put(root, "devices/system/cpu/cpu1/cache/index3/shared_cpu_list", "1");
		tree_put(root, "devices/system/cpu/cpu5/topology/thread_siblings_list", "5-6");
		assert_int_equal(host_cpus_read(root, &all, &host, &err), 0);
		for (unsigned c = 0; c < host.count; c++) {
			assert_true(host.cpu[c].core < host.cores);
			assert_true(host.cpu[c].group < host.groups);
			assert_int_equal(host.core[host.cpu[c].core].group, host.cpu[c].group);
		}
		host_cpus_done(&host);
		tree_remove(root);
	}
}

static void test_this_host(void **state UNUSED)
{
	struct host_cpu_set allowed;
	struct host_cpus host;
	struct error err = {0};

	assert_int_equal(host_cpu_set_allowed(&allowed, &err), 0);
	if (host_cpus_read("/sys", &allowed, &host, &err) < 0)
		fail_msg("%s", err.what);
	assert_true(host.count > 0);
	assert_true(host.count <= host_cpu_set_count(&allowed));
	assert_true(host.count <= host.online);
	host_cpus_done(&host);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_two_sockets),
		cmocka_unit_test(test_set_text),
		cmocka_unit_test(test_offline_and_cpuset),
		cmocka_unit_test(test_asymmetric_and_hybrid),
		cmocka_unit_test(test_without_third_level),
		cmocka_unit_test(test_bare),
		cmocka_unit_test(test_hostile),
		cmocka_unit_test(test_this_host),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
