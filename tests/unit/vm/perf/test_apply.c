/* The steps of performance mode that need no KVM: memory, placement, what is missing. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "arch/arch.h"
#include "tree.h"
#include "vm/perf/apply.h"

static unsigned ticks;

static bool tick(uint64_t done, void *arg)
{
	assert_true(done <= *(uint64_t *)arg);
	ticks++;
	return true;
}

static bool end(uint64_t done UNUSED, void *arg UNUSED)
{
	return false;
}

/* How many of a region's pages are in memory. */
static size_t resident(const struct guest_region *region)
{
	size_t pages = region->range.size / KIB(4), n = 0;
	unsigned char *in = malloc(pages);

	assert_non_null(in);
	assert_int_equal(mincore(region->host, region->range.size, in), 0);
	for (size_t i = 0; i < pages; i++)
		n += in[i] & 1;
	free(in);
	return n;
}

static void test_memory_comes_in_whole(void **state UNUSED)
{
	/* Pieces that end within a region, and regions within a piece. */
	static const struct guest_layout layout = {
		.range = {{0, KIB(640), 0}, {MIB(1), MIB(70), 0}, {MIB(100), MIB(3), 1}},
		.count = 3,
	};
	struct guest_memory mem;
	struct perf_missing missing = {0};
	struct error err = {0};
	uint64_t total = KIB(640) + MIB(73);
	bool whole = true;

	if (sysconf(_SC_PAGESIZE) != (long)KIB(4))
		skip();
	assert_int_equal(guest_memory_init(&mem, &layout, &err), 0);
	*(uint32_t *)guest_ptr(&mem, MIB(2), 4) = 0x12345678;
	assert_int_equal(perf_apply_memory(&mem, false, end, NULL, &whole, &missing), -EINTR);
	assert_false(whole);
	assert_int_equal(missing.count, 0);
	assert_int_equal(perf_apply_memory(&mem, false, tick, &total, &whole, &missing), 0);
	assert_true(whole);
	perf_apply_lock(&mem, &missing);
	for (unsigned i = 0; i < mem.count; i++)
		assert_int_equal(resident(&mem.region[i]), mem.region[i].range.size / KIB(4));
	assert_int_equal(*(uint32_t *)guest_ptr(&mem, MIB(2), 4), 0x12345678);
	assert_true(ticks > 0);
	/* Locking may be refused here; bringing it in is not. */
	for (unsigned i = 0; i < missing.count; i++)
		assert_null(strstr(missing.item[i].what, "not all there"));
	perf_apply_ordinary();
	guest_memory_done(&mem);
}

/* Whether memory of this layout is told to be in small pages, where large ones were asked for. */
static bool told_small(const struct guest_layout *layout)
{
	struct guest_memory mem;
	struct perf_missing missing = {0};
	struct error err = {0};
	uint64_t total = 0;
	bool told = false, whole = false;

	assert_int_equal(guest_memory_init(&mem, layout, &err), 0);
	for (unsigned i = 0; i < mem.count; i++) {
		total += mem.region[i].range.size;
		(void)madvise(mem.region[i].host, mem.region[i].range.size, MADV_HUGEPAGE);
	}
	assert_int_equal(perf_apply_memory(&mem, false, tick, &total, &whole, &missing), 0);
	for (unsigned i = 0; i < missing.count; i++)
		told |= strstr(missing.item[i].what, "in small pages") != NULL;
	perf_apply_ordinary();
	guest_memory_done(&mem);
	return told;
}

/* Nodes that touch are one mapping to the kernel. */
static void test_large_pages_of_nodes_that_touch(void **state UNUSED)
{
	static const struct guest_layout one = {.range = {{0, MIB(8), 0}}, .count = 1};
	static const struct guest_layout two = {.range = {{0, MIB(8), 0}, {MIB(8), MIB(8), 1}},
						.count = 2};
	static const struct guest_layout odd = {.range = {{0, KIB(640), 0}, {MIB(1), MIB(9), 0}},
						.count = 2};

	if (told_small(&one))
		skip(); /* this host has none to give */
	assert_false(told_small(&two));
	assert_false(told_small(&odd));
}

static void test_check_names_what_lacks(void **state UNUSED)
{
	struct perf_missing missing = {0};
	bool found = false;

	perf_apply_check(&(struct perf_need){.bytes = UINT64_C(1) << 50, .vcpus = 1}, &missing);
	for (unsigned i = 0; i < missing.count; i++)
		found |= missing.item[i].fatal && strstr(missing.item[i].what, " MiB too few");
	assert_true(found);
	assert_true(missing.fatal <= missing.count);
}

static void test_affinity(void **state UNUSED)
{
	struct host_cpu_set before, one = {0}, now;
	struct error err = {0};

	assert_int_equal(host_cpu_set_allowed(&before, &err), 0);
	for (unsigned i = 0; host_cpu_set_count(&one) == 0; i++)
		if (host_cpu_set_has(&before, i))
			host_cpu_set_add(&one, i);
	assert_int_equal(perf_apply_affinity(&one), 0);
	assert_int_equal(host_cpu_set_allowed(&now, &err), 0);
	assert_memory_equal(&now, &one, sizeof(now));
	assert_int_equal(perf_apply_affinity(&(struct host_cpu_set){0}), -EINVAL);
	assert_int_equal(perf_apply_affinity(&before), 0);
}

/* ---- the kernel's threads for our I/O ---------------------------------------------------------
 */

struct io_uring;
int __real_io_uring_register_iowq_aff(struct io_uring *ring, size_t size, const cpu_set_t *cpus);
int __wrap_io_uring_register_iowq_aff(struct io_uring *ring, size_t size, const cpu_set_t *cpus);

static int refusal; /* negative errno; 0: the kernel is asked */

int __wrap_io_uring_register_iowq_aff(struct io_uring *ring, size_t size, const cpu_set_t *cpus)
{
	return refusal ?: __real_io_uring_register_iowq_aff(ring, size, cpus);
}

static void test_workers(void **state UNUSED)
{
	const struct host_cpu_set none = {0};
	struct perf_missing missing = {0};
	struct host_cpu_set ours;
	struct error err = {0};
	struct loop *loop;

	assert_int_equal(host_cpu_set_allowed(&ours, &err), 0);
	assert_int_equal(loop_new(&loop, &err), 0);
	assert_true(perf_apply_workers(loop, &ours, &missing));
	assert_int_equal(missing.count, 0);
	/* Each reason is told as what it is. */
	assert_false(perf_apply_workers(loop, &none, &missing));
	refusal = -EINVAL;
	assert_false(perf_apply_workers(loop, &ours, &missing));
	refusal = -EPERM;
	assert_false(perf_apply_workers(loop, &ours, &missing));
	refusal = 0;
	loop_free(loop);
	assert_int_equal(missing.count, 3);
	assert_int_equal(missing.fatal, 0);
	assert_non_null(strstr(missing.item[0].what, "no other host CPU of ours is left"));
	assert_non_null(strstr(missing.item[1].what, ": Invalid argument, as before Linux 5.14"));
	assert_null(strstr(missing.item[1].what, "is left"));
	assert_non_null(strstr(missing.item[2].what, ": Operation not permitted"));
	assert_null(strstr(missing.item[2].what, "5.14"));
}

/* ---- the list ------------------------------------------------------------------------------ */

static void test_refusal(void **state UNUSED)
{
	struct perf_missing m = {0};
	struct error err = {0};
	json_t *degraded = NULL;

	perf_missing_note(&m, NULL, "a note");
	perf_missing_add(&m, "mend it", "%d thing%s", 1, "");
	assert_int_equal(perf_missing_refuse(&m, &err), -EBUSY);
	assert_int_equal(err.kind, ERROR_CONTENTION);
	assert_string_equal(err.what, "--perf: 1 thing");
	assert_string_equal(err.hint, "mend it; --perf=relaxed goes on without it");
	perf_missing_add(&m, NULL, "another");
	err = (struct error){0};
	assert_int_equal(perf_missing_refuse(&m, &err), -EBUSY);
	assert_string_equal(err.what, "--perf: 2 things are missing here");
	assert_int_equal(perf_missing_record(&m, &degraded), 0);
	assert_int_equal(json_array_size(degraded), 3);
	assert_string_equal(json_string_value(json_array_get(degraded, 0)), "perf: a note");
	json_decref(degraded);
	for (unsigned i = 0; i < 2 * PERF_MISSING_MAX; i++)
		perf_missing_add(&m, NULL, "more");
	assert_int_equal(m.count, PERF_MISSING_MAX);
}

/* No /dev/kvm: it has no capability. What x86 calls them arm64's KVM does by itself. */
static void test_exits_are_told_of_where_they_are(void **state UNUSED)
{
	struct kvm kvm = {.fd = -1, .vm_fd = -1};
	struct perf_missing missing = {0};

	assert_false(perf_apply_exits(&kvm, &missing));
	assert_int_equal(missing.count, strcmp(arch_name, "x86_64") ? 0 : 2);
	assert_int_equal(missing.fatal, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_memory_comes_in_whole),
		cmocka_unit_test(test_large_pages_of_nodes_that_touch),
		cmocka_unit_test(test_check_names_what_lacks),
		cmocka_unit_test(test_affinity),
		cmocka_unit_test(test_workers),
		cmocka_unit_test(test_refusal),
		cmocka_unit_test(test_exits_are_told_of_where_they_are),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
