/* Counters out of a recorded /proc, and of threads of this process. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/util.h"
#include "tree.h"
#include "vm/perf/evidence.h"

static void test_recorded(void **state UNUSED)
{
	static struct tree none;
	struct evidence_thread e;
	char *root = tree_write(&none);

	assert_int_equal(evidence_read_thread(root, 7, &e), -ENOENT);
	/* A name that looks like fields. */
	tree_put(
		root, "task/7/stat",
		"7 (a) R 1 2 (3) S 1 2 3 4 -1 64 1001 0 17 0 5 6 0 0 -2 0 1 0 99 100 200 300 1 2 3 "
		"4 5 0 0 0 0 0 0 0 -1 11 1 1 0");
	assert_int_equal(evidence_read_thread(root, 7, &e), 0);
	assert_int_equal(e.minor_faults, 1001);
	assert_int_equal(e.major_faults, 17);
	assert_int_equal(e.cpu, 11);
	assert_false(e.has_schedstat);
	assert_false(e.has_migrations);
	tree_put(root, "task/7/schedstat", "123456789 4242 99");
	tree_put(root, "task/7/status",
		 "Name:\tnonvoluntary_ctxt_switches\nvoluntary_ctxt_switches:\t5\n"
		 "nonvoluntary_ctxt_switches:\t31");
	tree_put(root, "task/7/sched", "x (7, #threads: 1)\n---\nse.nr_migrations   :        12");
	assert_int_equal(evidence_read_thread(root, 7, &e), 0);
	assert_true(e.has_schedstat);
	assert_int_equal(e.run_ns, 123456789);
	assert_int_equal(e.run_delay_ns, 4242);
	assert_int_equal(e.voluntary, 5);
	assert_int_equal(e.involuntary, 31);
	assert_true(e.has_migrations);
	assert_int_equal(e.migrations, 12);
	/* Cut short and nonsense: what is not there is not known. */
	tree_put(root, "task/7/stat", "7 (x) S 1 2");
	tree_put(root, "task/7/schedstat", "none");
	tree_put(root, "task/7/sched", "se.nr_migrations");
	tree_put(root, "task/7/status", "");
	assert_int_equal(evidence_read_thread(root, 7, &e), 0);
	assert_int_equal(e.minor_faults, 0);
	assert_false(e.has_schedstat);
	assert_false(e.has_migrations);
	tree_put(root, "task/7/stat", "");
	assert_int_equal(evidence_read_thread(root, 7, &e), -ENOENT);
	tree_remove(root);
}

static uint64_t *stolen_of(const char *root, const char *text)
{
	char path[PATH_MAX];
	uint64_t *ticks;

	tree_put(root, "stat", text);
	snprintf(path, sizeof(path), "%s/stat", root);
	ticks = evidence_read_stolen(path);
	assert_non_null(ticks);
	return ticks;
}

/* Of four CPUs the third is offline, and comes; the last has the most, but isn't ours. */
static void test_stolen(void **state UNUSED)
{
	static struct tree none;
	struct host_cpu_set cpus = {0};
	char *root = tree_write(&none);
	uint64_t *before = stolen_of(root, "cpu  9 9 9 9 9 9 9 1000 9 9\n"
					   "cpu0 1 2 3 4 5 6 7 100 9 10\n"
					   "cpu1 1 2 3 4 5 6 7 200 9 10\n"
					   "cpu9 1 2 3 4 5 6 7 8 9 10\n"
					   "intr 55 0 0\ncpu0 1 2 3 4 5 6 7 900 9 10\n");
	uint64_t *after = stolen_of(root, "cpu  9 9 9 9 9 9 9 2000 9 9\n"
					  "cpu0 1 2 3 4 5 6 7 101 9 10\n"
					  "cpu1 1 2 3 4 5 6 7 190 9 10\n"
					  "cpu8 1 2 3 4 5 6 7 5 9 10\n"
					  "cpu9 1 2 3 4 5 6 7 708 9 10\n");
	uint64_t *short_lines = stolen_of(root, "cpu0 1 2 3\ncpu99999 1 2 3 4 5 6 7 8 9 10\n");

	assert_int_equal(before[0], 100);
	assert_int_equal(short_lines[0], 0);
	host_cpu_set_add(&cpus, 0);
	assert_int_equal(evidence_stolen(&cpus, before, after).worst, 1);
	host_cpu_set_add(&cpus, 1);
	assert_int_equal(evidence_stolen(&cpus, before, after).worst, 1);
	host_cpu_set_add(&cpus, 8);
	assert_int_equal(evidence_stolen(&cpus, before, after).worst, 5);
	host_cpu_set_add(&cpus, 9);
	assert_int_equal(evidence_stolen(&cpus, before, after).worst, 700);
	assert_int_equal(evidence_stolen(&cpus, before, NULL).worst, 0);
	assert_int_equal(evidence_stolen(&cpus, NULL, after).worst, 0);
	assert_int_equal(evidence_stolen(&cpus, before, short_lines).worst, 0);
	assert_int_equal(evidence_stolen(&cpus, before, after).all, 706);
	host_cpu_set_remove(&cpus, 9);
	assert_int_equal(evidence_stolen(&cpus, before, after).all, 706);
	assert_int_equal(evidence_stolen(&cpus, NULL, after).all, 0);
	free(before);
	free(after);
	free(short_lines);
	assert_int_equal((before = evidence_read_stolen("/nowhere"))[0], 0);
	free(before);
	tree_remove(root);
}

static void test_this_thread(void **state UNUSED)
{
	enum { PAGES = 200 };
	const pid_t tid = gettid();
	struct evidence e = {0};
	json_t *json, *row;
	volatile char *pages;
	size_t page = (size_t)sysconf(_SC_PAGESIZE);
	struct host_cpu_set ours;
	struct error err = {0};

	assert_int_equal(host_cpu_set_allowed(&ours, &err), 0);
	assert_int_equal(evidence_begin(&e, &ours, &tid, 1, 0, true, true), 0);
	pages = aligned_alloc(page, PAGES * page);
	assert_non_null(pages);
	for (size_t i = 0; i < PAGES; i++)
		pages[i * page] = 1;
	json = evidence_end(&e, &tid);
	free((void *)pages);
	assert_non_null(json);
	assert_string_equal(json_string_value(json_object_get(json, "since")), "command");
	row = json_array_get(json_object_get(json, "vcpus"), 0);
	assert_non_null(row);
	/* Fewer than pages where they are huge. */
	assert_true(json_integer_value(json_object_get(row, "minor_faults")) >= 1);
	assert_true(json_integer_value(json_object_get(row, "minor_faults")) < 100000);
	assert_true(json_integer_value(json_object_get(json, "wall_ns")) > 0);
	json_decref(json);
	evidence_done(&e);
}

/* Not read at the beginning: since the thread began. A thread that is gone has no row. */
static void test_since_start(void **state UNUSED)
{
	const pid_t tid[] = {gettid(), 0x3fffffff};
	const struct host_cpu_set ours = {0};
	struct evidence e = {0};
	json_t *json;

	assert_int_equal(evidence_begin(&e, &ours, tid, 2, now_ns() - 5000000000u, false, true), 0);
	json = evidence_end(&e, tid);
	assert_non_null(json);
	assert_string_equal(json_string_value(json_object_get(json, "since")), "start");
	assert_true(json_integer_value(json_object_get(json, "wall_ns")) >= 5000000000);
	assert_int_equal(json_array_size(json_object_get(json, "vcpus")), 1);
	json_decref(json);
	evidence_done(&e);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_recorded),
		cmocka_unit_test(test_stolen),
		cmocka_unit_test(test_this_thread),
		cmocka_unit_test(test_since_start),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
