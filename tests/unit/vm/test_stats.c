/* What KVM's own statistics correct in accounts of vCPUs. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "vm/stats.h"

static json_t *times(json_int_t guest, json_int_t idle)
{
	return json_pack("{s:I, s:I, s:I}", "wall", guest + idle, "guest", guest, "idle", idle);
}

static json_t *kvm(json_int_t exits, json_int_t waited, json_int_t polled)
{
	return json_pack("{s:I, s:I, s:I}", "exits", exits, "halt_wait_ns", waited,
			 "halt_poll_fail_ns", polled);
}

static void expect(json_t *t, json_int_t guest, json_int_t idle)
{
	assert_int_equal(json_integer_value(json_object_get(t, "guest")), guest);
	assert_int_equal(json_integer_value(json_object_get(t, "idle")), idle);
	assert_int_equal(json_integer_value(json_object_get(t, "wall")), guest + idle);
}

static void halted_is_idle(void **state)
{
	json_t *one = times(1000, 5), *all = times(3000, 10), *stats = kvm(7, 600, 100);

	(void)state;
	stats_correct(one, all, stats);
	expect(one, 300, 705);
	expect(all, 2300, 710);
	json_decref(one);
	json_decref(all);
	json_decref(stats);
}

/* KVM's clock and ours, read one after the other, may differ a little: what one vCPU has too much
 * is not taken from the others. */
static void nobody_else_pays(void **state)
{
	json_t *one = times(1000, 0), *busy = times(5000, 0), *all = times(6000, 0);
	json_t *halted = kvm(7, 4000, 0), *none = kvm(3, 0, 0);

	(void)state;
	stats_correct(one, all, halted);
	stats_correct(busy, all, none);
	expect(one, 0, 1000);
	expect(busy, 5000, 0);
	expect(all, 5000, 1000);
	json_decref(one);
	json_decref(busy);
	json_decref(all);
	json_decref(halted);
	json_decref(none);
}

/* Sixteen vCPUs that KVM started by itself, fifteen of them mostly halted: they share one sum. */
static void one_that_was_started_unseen_has_run(void **state)
{
	json_t *all = times(9000, 15 * 10000);
	json_t *first = times(9000, 0), *stats = kvm(100, 1000, 0);

	(void)state;
	stats_correct(first, all, stats);
	expect(first, 8000, 1000);
	json_decref(stats);
	stats = kvm(5, 9900, 0);
	for (unsigned i = 1; i < 16; i++) {
		json_t *t = times(0, 10000);

		stats_correct(t, all, stats);
		expect(t, 100, 9900);
		json_decref(t);
	}
	expect(all, 8000 + 15 * 100, 1000 + 15 * 9900);
	json_decref(stats);
	/* One that KVM has never let run has not. */
	stats = kvm(0, 0, 0);
	json_decref(first);
	first = times(0, 500);
	stats_correct(first, all, stats);
	expect(first, 0, 500);
	json_decref(first);
	json_decref(all);
	json_decref(stats);
}

/* Whose halt KVM has not counted yet. */
static void a_halt_under_way_is_idle(void **state)
{
	json_t *halted = json_pack("{s:i}", "blocking", 1), *runs = json_object();
	json_t *one = times(1000, 5), *all = times(3000, 10);

	(void)state;
	stats_bound(one, all, runs, 300);
	expect(one, 1000, 5);
	stats_bound(one, all, NULL, 300);
	expect(one, 1000, 5);
	stats_bound(one, all, halted, 300);
	expect(one, 300, 705);
	expect(all, 2300, 710);
	stats_bound(one, all, halted, 300);
	expect(one, 300, 705);
	json_decref(halted);
	json_decref(runs);
	json_decref(one);
	json_decref(all);
}

static void halts_that_nobody_sees_are_told(void **state)
{
	json_t *exits = json_object(), *lacks;

	(void)state;
	stats_add_lacks(exits, false);
	assert_null(json_object_get(exits, "lacks"));
	stats_add_lacks(exits, true);
	lacks = json_object_get(exits, "lacks");
	assert_int_equal(json_array_size(lacks), 1);
	assert_non_null(strstr(json_string_value(json_array_get(lacks, 0)), "halts"));
	json_object_del(exits, "lacks");
	json_object_set_new(exits, "kvm", json_pack("{s:{s:i}}", "vcpus", "halt_exits", 1));
	stats_add_lacks(exits, true);
	assert_null(json_object_get(exits, "lacks"));
	json_decref(exits);
}

static void times_without_a_bucket_are_told(void **state)
{
	json_t *exits = json_pack("{s:[{s:{s:i}, s:{s:i}}, {}, {s:{s:i, s:i}}]}", "accounts",
				  "guest", "not_in_buckets", 3, "served", "count", 9, "hand_off",
				  "count", 50, "not_in_buckets", 40);
	json_t *lacks;

	(void)state;
	stats_add_lacks(exits, false);
	lacks = json_object_get(exits, "lacks");
	assert_int_equal(json_array_size(lacks), 1);
	assert_non_null(strstr(json_string_value(json_array_get(lacks, 0)), " 43 times"));
	stats_add_lacks(exits, true);
	assert_int_equal(json_array_size(json_object_get(exits, "lacks")), 2);
	json_decref(exits);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(halted_is_idle),
		cmocka_unit_test(a_halt_under_way_is_idle),
		cmocka_unit_test(nobody_else_pays),
		cmocka_unit_test(halts_that_nobody_sees_are_told),
		cmocka_unit_test(times_without_a_bucket_are_told),
		cmocka_unit_test(one_that_was_started_unseen_has_run),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
