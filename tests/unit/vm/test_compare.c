/* Two runs against each other: planted differences are found, chance is not, and files of anybody's
 * do no harm. */
#include <errno.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/random.h"
#include "base/util.h"
#include "vm/compare.h"

#define MS 1000000.0

/* What a made-up run is like; times are shares of a window of 2 vCPUs and 100 ms. */
struct like {
	double busy, scheduling, bpf;
	double exits, out_ns, switches, wakeups;
	double noise;  /* of each number, from window to window … */
	double steady; /* … of which this part goes over into the next */
};

static const struct like usual = {.busy = 0.5,
				  .scheduling = 0.04,
				  .exits = 300,
				  .out_ns = 2000,
				  .switches = 1000,
				  .wakeups = 600,
				  .noise = 0.3};

static uint64_t dice;
static double drift[5];

static double noisy(const struct like *l, unsigned i, double value)
{
	double even = (double)(random_next(&dice) >> 11) / (double)(UINT64_C(1) << 53);

	drift[i] =
		l->steady * drift[i] + l->noise * sqrt(1 - l->steady * l->steady) * (2 * even - 1);
	return value * (1 + drift[i]);
}

static json_t *window(const struct like *l)
{
	double all = 200 * MS, busy = noisy(l, 0, l->busy * all);
	double sched = noisy(l, 1, l->scheduling * busy), bpf = l->bpf * busy;
	double exits = noisy(l, 2, l->exits);

	return json_pack("{s:I, s:I, s:I, s:{s:I, s:I, s:I}, s:I, s:I, s:I, s:I}", "idle_ns",
			 (json_int_t)(all - busy), "user_ns", (json_int_t)(0.7 * busy), "kernel_ns",
			 (json_int_t)(0.3 * busy), "classes", "pick", (json_int_t)(0.25 * sched),
			 "wake_up", (json_int_t)(0.75 * sched), "bpf_scheduler", (json_int_t)bpf,
			 "exits", (json_int_t)exits, "out_ns", (json_int_t)(exits * l->out_ns),
			 "switches", (json_int_t)noisy(l, 3, l->switches), "wakeups",
			 (json_int_t)noisy(l, 4, l->wakeups));
}

static json_t *report_of(const struct like *l, size_t windows, uint64_t seed)
{
	json_t *list = json_array();

	dice = seed;
	memset(drift, 0, sizeof(drift));
	for (size_t i = 0; i < windows; i++)
		json_array_append_new(list, window(l));
	return json_pack("{s:{s:I, s:{s:I, s:i, s:o}}, s:{s:b}}", "profile", "duration_ns",
			 (json_int_t)((double)windows * 100 * MS), "windows", "length_ns",
			 (json_int_t)(100 * MS), "begin_ns", 0, "list", list, "monitor",
			 "schedstats", 1);
}

static struct compare_side side_of(json_t *report)
{
	struct compare_side side;
	struct error err = {0};

	if (compare_load(report, "x", &side, &err) < 0)
		fail_msg("%s", err.what);
	json_decref(report);
	return side;
}

static struct compare_row rows[COMPARE_ROWS_MAX];
static size_t row_count;

static void run(struct compare_side a, struct compare_side b, double least)
{
	struct error err = {0};

	assert_int_equal(compare_run(&a, &b, least, rows, &row_count, &err), 0);
	compare_side_done(&a);
	compare_side_done(&b);
}

static const struct compare_row *find(const char *name)
{
	for (size_t i = 0; i < row_count; i++)
		if (!strcmp(rows[i].name, name))
			return &rows[i];
	return NULL;
}

static unsigned differences(void)
{
	unsigned n = 0;

	for (size_t i = 0; i < row_count; i++)
		n += rows[i].verdict != COMPARE_SAME;
	return n;
}

static void planted_differences_are_found(void **state UNUSED)
{
	struct like dear = usual;
	const struct compare_row *row;
	char text[128];

	dear.scheduling *= 1.25;
	dear.out_ns *= 2;
	run(side_of(report_of(&usual, 100, 1)), side_of(report_of(&dear, 100, 2)), 0);
	row = find("scheduling_share");
	assert_int_equal(row->verdict, COMPARE_B_MORE);
	assert_true(row->value[0] > 0.037 && row->value[0] < 0.043);
	assert_true(row->median[0] > 0.036 && row->median[0] < 0.044);
	assert_true(row->more_ci.low < 0.25 && 0.25 < row->more_ci.high);
	assert_true(row->difference.low > 0 && row->difference.high < 0.02);
	compare_verdict_text(row, text, sizeof(text));
	assert_memory_equal(text, "B is dearer by ", 15);
	assert_int_equal(find("pick_share")->verdict, COMPARE_B_MORE);
	row = find("exit_ns");
	assert_int_equal(row->verdict, COMPARE_B_MORE);
	assert_true(fabs(row->value[1] - 4000) < 10);
	compare_verdict_text(row, text, sizeof(text));
	assert_string_equal(text, "B is dearer by 100% [100, 100]");
	/* What is the same stays so. */
	assert_int_equal(find("idle_share")->verdict, COMPARE_SAME);
	assert_int_equal(find("wakeups_per_s")->verdict, COMPARE_SAME);
	assert_int_equal(find("kernel_share")->verdict, COMPARE_SAME);
	assert_true(fabs(find("wakeups_per_s")->value[0] - 6000) < 300);
	assert_true(fabs(find("switch_ns")->value[0] - 1000) < 75);
	/* The other way round. */
	run(side_of(report_of(&dear, 100, 2)), side_of(report_of(&usual, 100, 1)), 0);
	row = find("scheduling_share");
	assert_int_equal(row->verdict, COMPARE_A_MORE);
	assert_true(row->difference.high < 0 && row->more > 0.15);
	/* Asked for more than there is. */
	run(side_of(report_of(&dear, 100, 2)), side_of(report_of(&usual, 100, 1)), 0.5);
	assert_int_equal(find("scheduling_share")->verdict, COMPARE_SAME);
	assert_int_equal(find("exit_ns")->verdict, COMPARE_A_MORE);
}

static json_t *list_of(json_t *report)
{
	return json_object_get(json_object_get(json_object_get(report, "profile"), "windows"),
			       "list");
}

/* A run that schedules as it begins, and then hardly, against one that always does: how many times
 * as much is quite unsure, but it is more. */
static void what_is_many_times_as_much_is_found(void **state UNUSED)
{
	struct like little = usual, much = usual;
	const struct compare_row *row;

	little.scheduling = 0.00001;
	little.noise = 0.6;
	much.scheduling = 0.06;
	for (uint64_t seed = 1; seed < 20; seed++) {
		json_t *begins = report_of(&much, 3, seed), *both = report_of(&little, 81, seed);

		for (size_t i = 0; i < 3; i++)
			json_array_insert(list_of(both), i, json_array_get(list_of(begins), i));
		json_object_set_new(json_object_get(both, "profile"), "duration_ns",
				    json_integer((json_int_t)(84 * 100 * MS)));
		json_decref(begins);
		run(side_of(both), side_of(report_of(&much, 130, 99 + seed)), 0);
		row = find("scheduling_share");
		assert_true(row->value[1] > 20 * row->value[0]);
		assert_true(row->difference.low > 0);
		assert_true(row->more_ci.low > 1);
		assert_int_equal(row->verdict, COMPARE_B_MORE);
	}
}

static void itself_is_no_difference(void **state UNUSED)
{
	struct like wild = usual, even = usual;

	wild.noise = 0.95;
	even.noise = 0;
	for (uint64_t seed = 1; seed <= 12; seed++) {
		const struct like *l = seed % 3 == 0 ? &wild : seed % 3 == 1 ? &usual : &even;
		size_t windows = 10 + seed * 7;

		run(side_of(report_of(l, windows, seed)), side_of(report_of(l, windows, seed)), 0);
		assert_true(row_count >= 10);
		assert_int_equal(differences(), 0);
	}
}

/* Equal runs of other dice, whose windows are like the ones before: of all figures together, one in
 * twenty pairs may show something. */
static void chance_is_no_difference(void **state UNUSED)
{
	struct like steady = usual;
	unsigned found = 0;

	steady.steady = 0.5;
	for (uint64_t seed = 1; seed <= 40; seed++) {
		const struct like *l = seed % 2 ? &steady : &usual;
		struct compare_side a = side_of(report_of(l, 10 + seed, 7919 * seed));

		run(a, side_of(report_of(l, 50, 1000 + seed)), 0);
		found += differences() > 0;
	}
	assert_in_range(found, 0, 2);
}

static void what_only_one_has_is_told(void **state UNUSED)
{
	struct like bpf = usual;
	const struct compare_row *row;
	char text[128];
	json_t *json;

	bpf.bpf = 0.02;
	run(side_of(report_of(&bpf, 50, 1)), side_of(report_of(&usual, 50, 2)), 0);
	row = find("bpf_scheduler_share");
	assert_int_equal(row->verdict, COMPARE_A_MORE);
	compare_verdict_text(row, text, sizeof(text));
	assert_string_equal(text, "only A has any");
	json = compare_row_json(row);
	assert_non_null(json);
	assert_true(json_is_null(json_object_get(json, "more")));
	assert_string_equal(json_string_value(json_object_get(json, "text")), "only A has any");
	json_decref(json);
	/* What none has is no row. */
	run(side_of(report_of(&usual, 50, 1)), side_of(report_of(&usual, 50, 2)), 0);
	assert_null(find("bpf_scheduler_share"));
	assert_null(find("balance_share"));
}

static void without_a_monitor_some_figures_are_missing(void **state UNUSED)
{
	json_t *a = report_of(&usual, 20, 1), *b = report_of(&usual, 20, 2), *list;

	/* B's kernel counts no wake-ups; A was not monitored in one window. */
	json_object_set_new(json_object_get(b, "monitor"), "schedstats", json_false());
	list = json_object_get(json_object_get(json_object_get(a, "profile"), "windows"), "list");
	json_object_del(json_array_get(list, 3), "switches");
	run(side_of(a), side_of(b), 0);
	assert_null(find("wakeups_per_s"));
	assert_null(find("switches_per_s"));
	assert_null(find("switch_ns"));
	assert_non_null(find("exits_per_s"));
}

/* ---- files of anybody's --------------------------------------------------------------------- */

static void is_refused(json_t *report, int code, const char *why)
{
	struct compare_side side = {0};
	struct error err = {0};

	assert_int_equal(compare_load(report, "name.json", &side, &err), code);
	assert_memory_equal(err.what, "name.json: ", 11);
	if (!strstr(err.what, why))
		fail_msg("%s", err.what);
	assert_null(side.value);
	json_decref(report);
}

static json_t *with(const char *key, json_t *value)
{
	json_t *report = report_of(&usual, 20, 1);

	json_object_set_new(json_array_get(list_of(report), 7), key, value);
	return report;
}

static void what_has_no_windows_is_refused(void **state UNUSED)
{
	is_refused(json_object(), -ENODATA, "--record");
	is_refused(NULL, -EBADMSG, "no report");
	is_refused(json_array(), -EBADMSG, "no report");
	is_refused(report_of(&usual, 0, 1), -ENODATA, "0 whole windows");
	is_refused(report_of(&usual, 9, 1), -ENODATA, "9 whole windows");
}

static void a_profile_is_as_good_as_a_report(void **state UNUSED)
{
	json_t *report = report_of(&usual, 20, 1);
	json_t *profile = json_incref(json_object_get(report, "profile"));
	struct compare_side of_report = side_of(report), of_profile = side_of(profile);

	assert_int_equal(of_profile.windows, of_report.windows);
	assert_memory_equal(of_profile.value, of_report.value,
			    of_report.windows * sizeof(*of_report.value));
	compare_side_done(&of_report);
	compare_side_done(&of_profile);
}

static void the_last_window_need_not_be_whole(void **state UNUSED)
{
	json_t *report = report_of(&usual, 20, 1);
	struct compare_side side;

	json_object_set_new(json_object_get(report, "profile"), "duration_ns",
			    json_integer((json_int_t)(1999 * MS)));
	side = side_of(report);
	assert_int_equal(side.windows, 19);
	compare_side_done(&side);
}

static void hostile_files_are_refused(void **state UNUSED)
{
	struct compare_side a;
	json_t *report;

	is_refused(with("user_ns", json_integer(-1)), -EBADMSG, "window 7");
	is_refused(with("user_ns", json_integer(INT64_MAX)), -EBADMSG, "window 7");
	is_refused(with("idle_ns", json_string("1")), -EBADMSG, "window 7");
	is_refused(with("kernel_ns", json_real(1)), -EBADMSG, "window 7");
	is_refused(with("classes", json_array()), -EBADMSG, "window 7");
	is_refused(with("classes", json_pack("{s:i}", "pick", -5)), -EBADMSG, "window 7");
	report = report_of(&usual, 20, 1);
	json_array_set_new(list_of(report), 7, json_integer(3));
	is_refused(report, -EBADMSG, "window 7");
	report = report_of(&usual, COMPARE_WINDOWS_MOST + 1, 1);
	is_refused(report, -EBADMSG, "did not write");
	is_refused(json_pack("{s:{s:i, s:{s:i, s:[]}}}", "profile", "duration_ns", 5, "windows",
			     "length_ns", 0, "list"),
		   -EBADMSG, "did not write");
	is_refused(json_pack("{s:{s:i, s:[]}}", "profile", "duration_ns", 5, "windows"), -EBADMSG,
		   "did not write");
	/* All zero is a file; there is nothing to tell. */
	report = json_pack("{s:{s:I, s:{s:i, s:[]}}}", "profile", "duration_ns", (json_int_t)1000,
			   "windows", "length_ns", 100, "list");
	for (unsigned i = 0; i < 10; i++)
		json_array_append_new(list_of(report),
				      json_pack("{s:i, s:i, s:i, s:{}}", "user_ns", 0, "idle_ns", 0,
						"kernel_ns", 0, "classes"));
	json_incref(report);
	a = side_of(report);
	run(a, side_of(report), 0);
	assert_int_equal(row_count, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(planted_differences_are_found),
		cmocka_unit_test(what_is_many_times_as_much_is_found),
		cmocka_unit_test(itself_is_no_difference),
		cmocka_unit_test(chance_is_no_difference),
		cmocka_unit_test(what_only_one_has_is_told),
		cmocka_unit_test(without_a_monitor_some_figures_are_missing),
		cmocka_unit_test(what_has_no_windows_is_refused),
		cmocka_unit_test(a_profile_is_as_good_as_a_report),
		cmocka_unit_test(the_last_window_need_not_be_whole),
		cmocka_unit_test(hostile_files_are_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
