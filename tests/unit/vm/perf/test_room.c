/* How much memory is to be had, out of files as a host, a container or a node shows them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/text.h"
#include "base/util.h"
#include "vm/perf/room.h"

static char root[] = "/tmp/stasis-room-XXXXXX";

/* Makes the folders on the way. */
static void put(const char *path, const char *text)
{
	CLEANUP_FREE char *full = text_format("%s%s", root, path);
	FILE *f;

	assert_non_null(full);
	for (char *at = full + strlen(root) + 1; (at = strchr(at, '/')); at++) {
		*at = '\0';
		(void)mkdir(full, 0700);
		*at = '/';
	}
	f = fopen(full, "we");
	assert_non_null(f);
	assert_true(fputs(text, f) >= 0);
	assert_int_equal(fclose(f), 0);
}

static int one_gone(const char *path, const struct stat *st UNUSED, int type UNUSED,
		    struct FTW *at UNUSED)
{
	return remove(path);
}

static int begin(void **state UNUSED)
{
	memcpy(root + strlen(root) - 6, "XXXXXX", 6);
	return mkdtemp(root) ? 0 : -1;
}

static int end(void **state UNUSED)
{
	return nftw(root, one_gone, 8, FTW_DEPTH | FTW_PHYS);
}

static struct perf_room room(void)
{
	struct perf_room r;

	perf_room_read(root, &r);
	return r;
}

static void test_host(void **state UNUSED)
{
	assert_true(room().bytes == UINT64_MAX);
	put("/proc/meminfo", "MemTotal: 2048 kB\nMemFree:  512 kB\nMemAvailable:   1024 kB\n");
	assert_int_equal(room().bytes, MIB(1));
	assert_string_equal(room().whose, "the host");
	/* In a group without a limit, or one that can't be seen. */
	put("/proc/self/cgroup", "0::/a/b\n");
	assert_int_equal(room().bytes, MIB(1));
	put("/sys/fs/cgroup/a/b/memory.max", "max\n");
	put("/sys/fs/cgroup/a/b/memory.current", "5000000\n");
	assert_int_equal(room().bytes, MIB(1));
}

static void test_unified_groups(void **state UNUSED)
{
	put("/proc/meminfo", "MemAvailable: 1048576 kB\n");
	put("/proc/self/cgroup", "0::/a/b\n");
	put("/sys/fs/cgroup/a/b/memory.max", "67108864\n");
	put("/sys/fs/cgroup/a/b/memory.current", "50331648\n");
	assert_int_equal(room().bytes, MIB(16));
	assert_string_equal(room().whose, "control group /a/b");
	/* What is charged for files can be had. */
	put("/sys/fs/cgroup/a/b/memory.stat",
	    "anon 1\nfile 9\ninactive_anon 7\ninactive_file 4194304\nactive_file 4194304\n");
	assert_int_equal(room().bytes, MIB(24));
	/* The one above has less; the root of a container is asked, too. */
	put("/sys/fs/cgroup/a/memory.max", "67108864\n");
	put("/sys/fs/cgroup/a/memory.current", "66060288\n");
	assert_int_equal(room().bytes, MIB(1));
	assert_string_equal(room().whose, "control group /a");
	put("/sys/fs/cgroup/memory.max", "4096\n");
	put("/sys/fs/cgroup/memory.current", "8192\n");
	assert_int_equal(room().bytes, 0);
	assert_string_equal(room().whose, "control group /");
	put("/proc/self/cgroup", "0::/\n");
	assert_int_equal(room().bytes, 0);
}

static void test_controllers(void **state UNUSED)
{
	put("/proc/meminfo", "MemAvailable: 1048576 kB\n");
	put("/proc/self/cgroup", "9:name=systemd:/x\n4:memory:/box\n1:cpu,cpuacct:/x\n");
	put("/sys/fs/cgroup/memory/box/memory.limit_in_bytes", "9223372036854771712\n");
	put("/sys/fs/cgroup/memory/box/memory.usage_in_bytes", "1048576\n");
	assert_int_equal(room().bytes, GIB(1));
	put("/sys/fs/cgroup/memory/box/memory.limit_in_bytes", "8388608\n");
	put("/sys/fs/cgroup/memory/box/memory.stat",
	    "inactive_file 0\nactive_file 0\ntotal_inactive_file 524288\ntotal_active_file 0\n");
	assert_int_equal(room().bytes, MIB(8) - KIB(512));
	assert_string_equal(room().whose, "control group /box");
}

static void test_odd_files(void **state UNUSED)
{
	static const char *const groups[] = {"",      "\n",	    "0",
					     "0:",    "0::",	    "0::x\n",
					     ":::\n", "4:memory\n", "4:memory:/\n0::/"};

	put("/proc/meminfo", "MemAvailable: 1024 kB\n");
	put("/sys/fs/cgroup/memory.max", "no number\n");
	put("/sys/fs/cgroup/memory.current", "-1\n");
	for (size_t i = 0; i < ARRAY_SIZE(groups); i++) {
		put("/proc/self/cgroup", groups[i]);
		assert_int_equal(room().bytes, MIB(1));
	}
	put("/proc/meminfo", "MemAvailable: much\n");
	assert_true(room().bytes == UINT64_MAX);
}

static void test_nodes(void **state UNUSED)
{
	struct host_cpu_set nodes = {0};

	put("/sys/devices/system/node/node0/meminfo",
	    "Node 0 MemTotal: 9 kB\nNode 0 MemFree: 1024 kB\nNode 0 Active(file): 512 kB\n"
	    "Node 0 Inactive(file): 256 kB\n");
	put("/sys/devices/system/node/node2/meminfo", "Node 2 MemFree: 256 kB\n");
	assert_int_equal(perf_room_of_nodes(root, &nodes), 0);
	host_cpu_set_add(&nodes, 0);
	assert_int_equal(perf_room_of_nodes(root, &nodes), KIB(1792));
	host_cpu_set_add(&nodes, 2);
	assert_int_equal(perf_room_of_nodes(root, &nodes), MIB(2));
	host_cpu_set_add(&nodes, 1);
	assert_true(perf_room_of_nodes(root, &nodes) == UINT64_MAX);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_host, begin, end),
		cmocka_unit_test_setup_teardown(test_unified_groups, begin, end),
		cmocka_unit_test_setup_teardown(test_controllers, begin, end),
		cmocka_unit_test_setup_teardown(test_odd_files, begin, end),
		cmocka_unit_test_setup_teardown(test_nodes, begin, end),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
