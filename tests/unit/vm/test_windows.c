/* Windows of a profile: what goes where, and that there is an end to them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/compiler.h"
#include "base/random.h"
#include "vm/windows.h"

#define HZ 1000u
#define MS UINT64_C(1000000)

static struct windows *new_windows(unsigned vcpus)
{
	struct windows *w;

	assert_int_equal(windows_new(vcpus, &w), 0);
	return w;
}

static json_int_t integer(const json_t *json, const char *key)
{
	return json_integer_value(json_object_get(json, key));
}

static void samples_go_where_their_time_is(void **state UNUSED)
{
	struct windows *w = new_windows(2);
	json_t *json, *row, *cell;

	windows_add(w, 0, 0, SAMPLE_USER, SCHED_IS_NONE, 3);
	windows_add(w, 99 * MS, 1, SAMPLE_IDLE, SCHED_IS_NONE, 8);
	windows_add(w, 100 * MS, 1, SAMPLE_KERNEL, SCHED_IS_PICK, 2);
	windows_add(w, 199 * MS, 1, SAMPLE_KERNEL, SCHED_IS_NONE, 5);
	json = windows_json(w, HZ, 250 * MS, 7 * MS);
	assert_int_equal(integer(json, "length_ns"), 100 * MS);
	assert_int_equal(integer(json, "begin_ns"), 7 * MS);
	json_t *list = json_object_get(json, "list");
	assert_int_equal(json_array_size(list), 3); /* the last one has no sample */
	row = json_array_get(list, 0);
	assert_int_equal(integer(row, "begin_ns"), 7 * MS);
	assert_int_equal(integer(row, "user_ns"), 3 * MS);
	assert_int_equal(integer(row, "idle_ns"), 8 * MS);
	assert_null(json_object_get(row, "switches"));
	row = json_array_get(list, 1);
	assert_int_equal(integer(row, "begin_ns"), 107 * MS);
	assert_int_equal(integer(row, "kernel_ns"), 7 * MS);
	assert_int_equal(integer(json_object_get(row, "classes"), "pick"), 2 * MS);
	assert_int_equal(integer(json_object_get(row, "classes"), "other"), 5 * MS);
	cell = json_array_get(json_object_get(row, "vcpus"), 1);
	assert_int_equal(json_integer_value(json_array_get(cell, 0)), 0);
	assert_int_equal(json_integer_value(json_array_get(cell, 1)), 7 * MS);
	assert_int_equal(json_integer_value(json_array_get(cell, 2)), 2 * MS);
	assert_int_equal(json_integer_value(json_array_get(cell, 3)), 0);
	json_decref(json);
	windows_free(w);
}

/* The same, added up by hand from the times. */
static void windows_merge_and_lose_nothing(void **state UNUSED)
{
	enum { N = 4000 };
	struct windows *w = new_windows(3);
	uint64_t random = 1, at[N], idle = 0;

	for (unsigned i = 0; i < N; i++) {
		at[i] = i * 97 * MS + random_next(&random) % (90 * MS);
		windows_add(w, at[i], i % 3, SAMPLE_IDLE, SCHED_IS_NONE, 1);
	}
	/* 388 s in at most 256 windows. */
	assert_int_equal(w->length_ns, 1600 * MS);
	assert_int_equal(w->used, at[N - 1] / w->length_ns + 1);
	for (unsigned i = 0; i < w->used; i++) {
		uint64_t want = 0, cells = 0;

		for (unsigned k = 0; k < N; k++)
			want += at[k] / w->length_ns == i;
		for (unsigned vcpu = 0; vcpu < 3; vcpu++)
			cells += w->cell[i * 3 + vcpu].idle;
		assert_int_equal(w->window[i].idle, want);
		assert_int_equal(cells, want);
		idle += want;
	}
	assert_int_equal(idle, N);
	windows_free(w);
}

static void many_vcpus_have_fewer_windows(void **state UNUSED)
{
	struct windows *w = new_windows(256);
	json_t *json;

	assert_int_equal(w->room, 256);
	windows_free(w);
	w = new_windows(257);
	assert_int_equal(w->room, 128);
	windows_free(w);
	w = new_windows(1024);
	assert_int_equal(w->room, 64);
	windows_add(w, 6399 * MS, 1023, SAMPLE_USER, SCHED_IS_NONE, 1);
	assert_int_equal(w->length_ns, 100 * MS);
	windows_add(w, 6400 * MS, 1023, SAMPLE_USER, SCHED_IS_NONE, 1);
	assert_int_equal(w->length_ns, 200 * MS);
	assert_int_equal(w->cell[31 * 1024 + 1023].user, 1);
	assert_int_equal(w->cell[32 * 1024 + 1023].user, 1);
	assert_int_equal(w->used, 33);
	json = windows_json(w, HZ, 1000000 * MS, 0);
	assert_true(json_array_size(json_object_get(json, "list")) <= 64);
	json_decref(json);
	windows_free(w);
}

static void counts_are_spread_over_their_time(void **state UNUSED)
{
	struct windows *w = new_windows(1);
	uint64_t sum = 0;
	json_t *json;

	windows_count(w, WINDOWS_EXITS, 50 * MS, 250 * MS, 200);
	assert_int_equal(windows_counted(w, 0, WINDOWS_EXITS), 50);
	assert_int_equal(windows_counted(w, 1, WINDOWS_EXITS), 100);
	assert_int_equal(windows_counted(w, 2, WINDOWS_EXITS), 50);
	/* To the very end of a window; nothing; all at once. */
	windows_count(w, WINDOWS_EXITS, 250 * MS, 300 * MS, 7);
	assert_int_equal(w->used, 3);
	windows_count(w, WINDOWS_EXITS, 0, 1000 * MS, 0);
	windows_count(w, WINDOWS_VCPU, 40 * MS, 40 * MS, UINT64_MAX);
	assert_int_equal(windows_counted(w, 2, WINDOWS_EXITS), 57);
	assert_int_equal(windows_counted(w, 0, WINDOWS_VCPU), UINT64_MAX);
	/* What does not divide loses nothing, through merges too. */
	windows_count(w, WINDOWS_SWITCHES, 1, 70001 * MS + 3, 1000003);
	for (unsigned i = 0; i < w->used; i++)
		sum += windows_counted(w, i, WINDOWS_SWITCHES);
	assert_int_equal(sum, 1000003);
	w->has_queues = true;
	json = windows_json(w, HZ, 0, 0);
	json_t *row = json_array_get(json_object_get(json, "list"), 0);
	assert_int_equal(integer(row, "exits"), 207);
	assert_int_equal(integer(row, "switches"), windows_counted(w, 0, WINDOWS_SWITCHES));
	/* Of a kernel that doesn't count them there is no figure. */
	assert_null(json_object_get(row, "wakeups"));
	json_decref(json);
	w->has_wakeups = true;
	json = windows_json(w, HZ, 0, 0);
	row = json_array_get(json_object_get(json, "list"), 0);
	assert_int_equal(integer(row, "wakeups"), 0);
	assert_non_null(json_object_get(row, "wakeups"));
	json_decref(json);
	windows_free(w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(samples_go_where_their_time_is),
		cmocka_unit_test(windows_merge_and_lose_nothing),
		cmocka_unit_test(many_vcpus_have_fewer_windows),
		cmocka_unit_test(counts_are_spread_over_their_time),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
