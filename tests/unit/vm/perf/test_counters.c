/* Counters of the guest alone, on a PMU that is played: what is asked of it, what is made of what
 * it says, and hosts that have none. */
#include <errno.h>
#include <linux/perf_event.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/util.h"
#include "vm/perf/counters.h"

static int fails;      /* errno of each opening */
static unsigned lacks; /* bits of kinds that this PMU doesn't count */
static unsigned openings;
static uint64_t enabled_ns, running_ns;

/* A pipe that has one reading in it. */
static int opened(uint64_t value)
{
	const uint64_t reading[3] = {value, enabled_ns, running_ns};
	int ends[2];

	assert_int_equal(pipe(ends), 0);
	assert_int_equal(write(ends[1], reading, sizeof(reading)), sizeof(reading));
	close(ends[1]);
	return ends[0];
}

long __wrap_syscall(long number, ...);
long __wrap_syscall(long number, ...)
{
	const struct perf_event_attr *attr;
	va_list ap;
	int tid;

	assert_int_equal(number, SYS_perf_event_open);
	va_start(ap, number);
	attr = va_arg(ap, const struct perf_event_attr *);
	tid = va_arg(ap, int);
	va_end(ap);
	assert_int_equal(attr->type, PERF_TYPE_HARDWARE);
	assert_true(attr->exclude_host && !attr->exclude_guest && !attr->disabled);
	assert_in_range(tid, 100, 101);
	openings++;
	if (fails || lacks >> attr->config & 1) {
		errno = fails ? fails : ENOENT;
		return -1;
	}
	return opened(1000u * (unsigned)tid + (unsigned)attr->config);
}

static int begin(void **state UNUSED)
{
	fails = 0;
	lacks = 0;
	openings = 0;
	enabled_ns = running_ns = 1000;
	return 0;
}

static json_int_t member(const json_t *json, const char *name)
{
	return json_integer_value(json_object_get(json, name));
}

static void each_thread_counts_for_itself(void **state UNUSED)
{
	const pid_t tid[] = {100, 101};
	struct counters c;

	assert_int_equal(counters_open(&c, tid, 2, NULL), 0);
	assert_int_equal(openings, 2 * COUNTERS);
	for (unsigned i = 0; i < 2; i++) {
		json_t *json = counters_json(&c, i);

		assert_int_equal(json_object_size(json), COUNTERS);
		assert_int_equal(member(json, "cycles"), 1000 * tid[i] + PERF_COUNT_HW_CPU_CYCLES);
		assert_int_equal(member(json, "branch_misses"),
				 1000 * tid[i] + PERF_COUNT_HW_BRANCH_MISSES);
		json_decref(json);
	}
	counters_close(&c);
	assert_int_equal(c.n, 0);
	counters_close(&c);
}

/* Where there are more events than counters, each counts for a part of the time. */
static void a_part_of_the_time_is_scaled(void **state UNUSED)
{
	const pid_t tid = 100;
	struct counters c;
	json_t *json;

	running_ns = 250;
	assert_int_equal(counters_open(&c, &tid, 1, NULL), 0);
	json = counters_json(&c, 0);
	assert_int_equal(member(json, "cycles"), 4 * 100000);
	json_decref(json);
	/* Each has been read: nothing is made up. */
	json = counters_json(&c, 0);
	assert_int_equal(json_object_size(json), 0);
	json_decref(json);
	counters_close(&c);
}

static json_t *one_reading(void)
{
	const pid_t tid = 100;
	struct counters c;
	json_t *json;

	assert_int_equal(counters_open(&c, &tid, 1, NULL), 0);
	json = counters_json(&c, 0);
	counters_close(&c);
	return json;
}

static void what_was_never_counted_is_no_zero(void **state UNUSED)
{
	json_t *json;

	running_ns = 0;
	json = one_reading();
	assert_int_equal(json_object_size(json), 0);
	json_decref(json);
	/* It has not run. */
	enabled_ns = 0;
	json = one_reading();
	assert_int_equal(json_object_size(json), COUNTERS);
	json_decref(json);
}

static void what_a_pmu_lacks_is_left_out(void **state UNUSED)
{
	const pid_t tid = 100;
	struct counters c;
	json_t *json;

	lacks = 1u << PERF_COUNT_HW_CACHE_MISSES;
	assert_int_equal(counters_open(&c, &tid, 1, NULL), 0);
	json = counters_json(&c, 0);
	assert_int_equal(json_object_size(json), COUNTERS - 1);
	assert_null(json_object_get(json, "cache_misses"));
	json_decref(json);
	counters_close(&c);
}

static void a_host_that_can_t_says_why(void **state UNUSED)
{
	static const struct {
		int code;
		const char *text;
	} all[] = {
		{ENOENT, "no PMU"},
		{EOPNOTSUPP, "no PMU"},
		{EACCES, "perf_event_paranoid"},
		{EMFILE, "Too many open files"},
	};
	const pid_t tid = 100;

	for (size_t i = 0; i < ARRAY_SIZE(all); i++) {
		struct error err = {0};
		struct counters c;

		fails = all[i].code;
		assert_true(counters_open(&c, &tid, 1, &err) < 0);
		assert_int_equal(err.kind, ERROR_CONTENTION);
		assert_non_null(strstr(err.what, all[i].text));
		assert_int_equal(c.n, 0);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(each_thread_counts_for_itself, begin),
		cmocka_unit_test_setup(a_part_of_the_time_is_scaled, begin),
		cmocka_unit_test_setup(what_was_never_counted_is_no_zero, begin),
		cmocka_unit_test_setup(what_a_pmu_lacks_is_left_out, begin),
		cmocka_unit_test_setup(a_host_that_can_t_says_why, begin),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
