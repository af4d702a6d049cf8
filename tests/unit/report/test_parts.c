/* The parts of a page's data: what they add up to, and what they make of what is none. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/util.h"
#include "report/parts.h"

static json_t *json_of(const char *text)
{
	json_error_t wrong;
	json_t *json = json_loads(text, 0, &wrong);

	if (!json)
		fail_msg("%s: %s", text, wrong.text);
	return json;
}

static json_int_t at(const json_t *json, const char *key, size_t i)
{
	return json_integer_value(json_array_get(json_object_get(json, key), i));
}

static json_int_t of(const json_t *json, const char *key)
{
	return json_integer_value(json_object_get(json, key));
}

/* ---- stacks ------------------------------------------------------------------------------ */

#define SPEEDSCOPE(frames, samples, weights)                                                       \
	"{\"shared\":{\"frames\":[" frames "]},\"profiles\":[{\"unit\":\"nanoseconds\","           \
	"\"samples\":[" samples "],\"weights\":[" weights "]}]}"
#define ABC "{\"name\":\"a\"},{\"name\":\"b\"},{\"name\":\"c\"}"

static json_t *stacks(const char *text, const char **why)
{
	json_t *json = json_of(text), *part;

	*why = NULL;
	part = report_stacks(json, why);
	json_decref(json);
	return part;
}

static void stacks_are_no(const char *text, const char *want)
{
	const char *why;

	assert_null(stacks(text, &why));
	assert_string_equal(why, want);
}

/* a (10 itself) calls c (20) and b (30, 5 of it in c); c is a root of its own with 7. */
static void test_stacks_are_a_tree(void **state UNUSED)
{
	const char *why;
	json_t *part =
		stacks(SPEEDSCOPE(ABC, "[0,1],[0],[2],[0,2],[0,1,2],[0,1]", "20,10,7,20,5,5"),
		       &why);
	static const json_int_t nodes[] = {
		0, -1, 60, 10, /* a */
		1, 0,  30, 25, /* b in a */
		2, 1,  5,  5,  /* c in b in a */
		2, 0,  20, 20, /* c in a */
		2, -1, 7,  7,  /* c */
	};

	assert_non_null(part);
	assert_int_equal(of(part, "total_ns"), 67);
	assert_int_equal(of(part, "stacks"), 6);
	assert_int_equal(json_array_size(json_object_get(part, "nodes")), ARRAY_SIZE(nodes));
	for (size_t i = 0; i < ARRAY_SIZE(nodes); i++)
		assert_int_equal(at(part, "nodes", i), nodes[i]);
	assert_string_equal(json_string_value(json_array_get(json_object_get(part, "frames"), 2)),
			    "c");
	assert_int_equal(json_array_size(json_object_get(part, "classes")), 3);
	json_decref(part);
	part = stacks(SPEEDSCOPE("{\"name\":\"a\",\"stasisClass\":\"pick\"},{\"name\":\"b\","
				 "\"stasisClass\":[1]}",
				 "[0,1]", "1"),
		      &why);
	assert_non_null(part);
	assert_string_equal(json_string_value(json_array_get(json_object_get(part, "classes"), 0)),
			    "pick");
	assert_string_equal(json_string_value(json_array_get(json_object_get(part, "classes"), 1)),
			    "");
	json_decref(part);
}

static void test_stacks_that_lie_are_refused(void **state UNUSED)
{
	stacks_are_no("{}", "it is no sampled profile");
	stacks_are_no("[1]", "it is no sampled profile");
	stacks_are_no(SPEEDSCOPE(ABC, "[0],[1]", "1"), "it is no sampled profile");
	stacks_are_no("{\"profiles\":[{\"samples\":[],\"weights\":[],\"unit\":\"bytes\"}]}",
		      "it is not in nanoseconds");
	stacks_are_no(SPEEDSCOPE(ABC, "", ""), "it has no stacks");
	stacks_are_no(SPEEDSCOPE(ABC, "[],[0]", "5,0"), "it has no stacks");
	stacks_are_no(SPEEDSCOPE(ABC, "[3]", "1"), "a stack has a frame that is not there");
	stacks_are_no(SPEEDSCOPE(ABC, "[-1]", "1"), "a stack has a frame that is not there");
	stacks_are_no(SPEEDSCOPE(ABC, "[0.0]", "1"), "a stack has a frame that is not there");
	stacks_are_no(SPEEDSCOPE(ABC, "[\"a\"]", "1"), "a stack has a frame that is not there");
	stacks_are_no(SPEEDSCOPE("", "[0]", "1"), "a stack has a frame that is not there");
	stacks_are_no(SPEEDSCOPE(ABC, "[0]", "-1"), "a stack is no list of frames with a weight");
	stacks_are_no(SPEEDSCOPE(ABC, "7", "1"), "a stack is no list of frames with a weight");
	stacks_are_no(SPEEDSCOPE(ABC, "[0]", "\"1\""),
		      "a stack is no list of frames with a weight");
	stacks_are_no(SPEEDSCOPE(ABC, "[0],[1]", "9223372036854775807,1"),
		      "its weights are beyond measure");
}

static void test_long_names_are_cut(void **state UNUSED)
{
	json_t *json = json_of(SPEEDSCOPE(ABC, "[0]", "1")), *part;
	const char *why;
	char name[3001];

	for (size_t i = 0; i < 3000; i += 3)
		memcpy(name + i, "\xe2\x82\xac", 3);
	json_object_set_new(json_array_get(json_object_get(json_object_get(json, "shared"),
							   "frames"),
					   0),
			    "name", json_stringn(name, 3000));
	part = report_stacks(json, &why);
	assert_non_null(part);
	assert_int_equal(json_string_length(json_array_get(json_object_get(part, "frames"), 0)),
			 255);
	json_decref(part);
	json_decref(json);
}

static void test_frames_without_a_name_have_one(void **state UNUSED)
{
	const char *why;
	json_t *part = stacks(SPEEDSCOPE("7,{\"name\":[]}", "[0,1]", "1"), &why);

	assert_non_null(part);
	for (size_t i = 0; i < 2; i++)
		assert_string_equal(json_string_value(
					    json_array_get(json_object_get(part, "frames"), i)),
				    "?");
	json_decref(part);
}

/* n stacks of so many frames each, all of their own, of equal weight. */
static json_t *wide(unsigned n, unsigned depth)
{
	json_t *frames = json_array(), *samples = json_array(), *weights = json_array();

	for (unsigned i = 0; i < n; i++) {
		json_t *stack = json_array();

		json_array_append_new(frames, json_pack("{s:s}", "name", "f"));
		for (unsigned d = 0; d < depth; d++)
			json_array_append_new(stack, json_integer(i));
		json_array_append_new(samples, stack);
		json_array_append_new(weights, json_integer(1000));
	}
	return json_pack("{s:{s:o}, s:[{s:s, s:o, s:o}]}", "shared", "frames", frames, "profiles",
			 "unit", "nanoseconds", "samples", samples, "weights", weights);
}

static void test_trees_have_an_end(void **state UNUSED)
{
	const char *why;
	json_t *json = wide(REPORT_NODES + 1, 1), *part = report_stacks(json, &why);

	/* None is larger than another, so that none is drawn. */
	assert_non_null(part);
	assert_int_equal(json_array_size(json_object_get(part, "nodes")), 0);
	assert_int_equal(of(part, "total_ns"), 1000 * (REPORT_NODES + 1));
	json_decref(part);
	json_decref(json);
	json = wide(1, 2 * REPORT_DEPTH);
	part = report_stacks(json, &why);
	assert_non_null(part);
	assert_int_equal(json_array_size(json_object_get(part, "nodes")), 4 * REPORT_DEPTH);
	json_decref(part);
	json_decref(json);
}

static void test_what_is_too_small_is_in_its_parent(void **state UNUSED)
{
	const char *why;
	json_t *part = stacks(SPEEDSCOPE(ABC, "[0],[0,1],[0,2]", "99000,999,1"), &why);

	assert_non_null(part);
	assert_int_equal(of(part, "least_ns"), 10);
	assert_int_equal(json_array_size(json_object_get(part, "nodes")), 8);
	assert_int_equal(at(part, "nodes", 2), 100000);
	json_decref(part);
}

/* ---- windows ----------------------------------------------------------------------------- */

static json_int_t cell(const json_t *part, const char *name, size_t row, size_t column)
{
	return at(json_object_get(part, "cells"), name, row * (size_t)of(part, "columns") + column);
}

static void test_windows_are_a_grid(void **state UNUSED)
{
	const char *why;
	json_t *json = json_of("{\"length_ns\":1000000,\"list\":["
			       "{\"begin_ns\":5000000,\"user_ns\":1000,\"kernel_ns\":5000,"
			       "\"idle_ns\":7000,\"exits\":8,\"switches\":\"x\",\"classes\":{"
			       "\"pick\":2000,\"other\":3000},"
			       "\"vcpus\":[[1000,2000,500,4000],[0,3000,1500,3000]]},"
			       "{\"begin_ns\":7000000,\"classes\":{\"pick\":4000},"
			       "\"vcpus\":[[9000,0,0,0]]}]}");
	json_t *part = report_windows(json, &why);

	assert_non_null(part);
	assert_int_equal(of(part, "begin_ns"), 5000000);
	assert_int_equal(of(part, "columns"), 3);
	assert_int_equal(of(part, "rows"), 2);
	assert_int_equal(cell(part, "user_us", 0, 0), 1);
	assert_int_equal(cell(part, "kernel_us", 1, 0), 3);
	assert_int_equal(cell(part, "scheduling_us", 1, 0), 2); /* rounded */
	assert_int_equal(cell(part, "idle_us", 0, 1), 0);
	assert_int_equal(cell(part, "user_us", 0, 2), 9);
	assert_int_equal(at(part, "kernel_us", 0), 5);
	assert_int_equal(at(json_object_get(part, "classes"), "pick", 2), 4);
	assert_int_equal(at(json_object_get(part, "counts"), "exits", 0), 8);
	assert_int_equal(at(json_object_get(part, "counts"), "exits", 2), 0);
	assert_int_equal(json_object_size(json_object_get(part, "counts")), 1);
	json_decref(part);
	json_decref(json);
}

static void test_many_windows_and_vcpus_are_drawn_coarser(void **state UNUSED)
{
	json_t *list = json_array(), *json, *part;
	json_int_t sum = 0;
	const char *why;

	for (unsigned w = 0; w < 1001; w++) {
		json_t *vcpus = json_array();

		for (unsigned v = 0; v < 1024; v++)
			json_array_append_new(vcpus, json_pack("[i, i, i, i]", 1000, 0, 0, 0));
		json_array_append_new(list, json_pack("{s:I, s:o}", "begin_ns", (json_int_t)w * 100,
						      "vcpus", vcpus));
	}
	json = json_pack("{s:i, s:o}", "length_ns", 100, "list", list);
	part = report_windows(json, &why);
	assert_non_null(part);
	assert_int_equal(of(part, "columns"), 334); /* of three windows each */
	assert_int_equal(of(part, "rows"), REPORT_ROWS);
	assert_int_equal(of(part, "per_row"), 8);
	for (size_t i = 0; i < 334u * REPORT_ROWS; i++)
		sum += at(json_object_get(part, "cells"), "user_us", i);
	assert_int_equal(sum, 1001 * 1024);
	json_decref(part);
	json_decref(json);
}

static void test_windows_that_lie_harm_nothing(void **state UNUSED)
{
	static const char *const none[] = {
		"{}",
		"[7]",
		"{\"length_ns\":1,\"list\":[]}",
		"{\"length_ns\":0,\"list\":[{\"vcpus\":[[1,1,1,1]]}]}",
		"{\"length_ns\":-5,\"list\":[{\"vcpus\":[[1,1,1,1]]}]}",
		"{\"length_ns\":5,\"list\":[7,null,{\"vcpus\":9}]}",
	};
	const char *why = NULL;
	json_t *json, *part;

	for (size_t i = 0; i < ARRAY_SIZE(none); i++) {
		json = json_of(none[i]);
		assert_null(report_windows(json, &why));
		assert_non_null(why);
		json_decref(json);
	}
	/* At the ends of what a number can be; figures of the wrong kind count as none. */
	json = json_of(
		"{\"length_ns\":1,\"list\":[{\"begin_ns\":0,\"vcpus\":[[9223372036854775807,"
		"-1,\"x\"],[1e300,null,{},[]],7]},{\"begin_ns\":9223372036854775807,"
		"\"vcpus\":[[9223372036854775807,9223372036854775807]],\"classes\":[1]},null,"
		"{\"begin_ns\":9223372036854775807,\"vcpus\":[[9223372036854775807]]}]}");
	part = report_windows(json, &why);
	assert_non_null(part);
	assert_true(of(part, "columns") <= REPORT_COLUMNS);
	assert_int_equal(of(part, "rows"), 3);
	assert_int_equal(cell(part, "user_us", 0, 0), INT64_MAX / 1000 + 1);
	assert_int_equal(cell(part, "kernel_us", 0, 0), 0);
	assert_int_equal(cell(part, "user_us", 0, (size_t)of(part, "columns") - 1),
			 INT64_MAX / 1000 + 1);
	json_decref(part);
	json_decref(json);
	json = json_pack("{s:i, s:[{s:o}]}", "length_ns", 1, "list", "vcpus", json_array());
	for (unsigned i = 0; i <= REPORT_CPUS; i++)
		json_array_append_new(json_object_get(json_array_get(json_object_get(json, "list"),
								     0),
						      "vcpus"),
				      json_array());
	assert_null(report_windows(json, &why));
	assert_string_equal(why, "its windows have more vCPUs than there can be");
	json_decref(json);
}

/* ---- run queues -------------------------------------------------------------------------- */

static json_t *queues(const char *csv, const char **why)
{
	*why = NULL;
	return report_queues(csv, strlen(csv), why);
}

static void test_queues_are_a_grid(void **state UNUSED)
{
	const char *why;
	json_t *part = queues("time_ns,cpu,running_tasks,comm\n"
			      "1000,0,3,\"a\"\n"
			      "1000,1,0,\"b,\"\"c\n7,7,7\"\n"
			      "3000,0,1,\"\"\n"
			      "3000,1,6,\"z\"",
			      &why);

	assert_non_null(part);
	assert_int_equal(of(part, "looks"), 4);
	assert_int_equal(of(part, "bad_lines"), 0);
	assert_int_equal(of(part, "columns"), 2);
	assert_int_equal(of(part, "cpus"), 2);
	assert_int_equal(at(part, "mean_centi", 0), 300);
	assert_int_equal(at(part, "mean_centi", 1), 100);
	assert_int_equal(at(part, "max", 2), 0);
	assert_int_equal(at(part, "max", 3), 6);
	assert_int_equal(of(json_object_get(part, "longest"), "tasks"), 6);
	assert_int_equal(of(json_object_get(part, "longest"), "cpu"), 1);
	assert_int_equal(of(json_object_get(part, "longest"), "time_ns"), 3000);
	json_decref(part);
}

static void test_columns_go_by_their_names(void **state UNUSED)
{
	const char *why;
	json_t *part = queues("x,running_tasks,cpu,y,time_ns\n9,4,2,9,100\n", &why);

	assert_non_null(part);
	assert_int_equal(of(part, "cpus"), 3);
	assert_int_equal(at(part, "max", 2), 4);
	assert_int_equal(at(part, "max", 0), -1);
	assert_int_equal(at(part, "mean_centi", 0), -1);
	json_decref(part);
}

static void test_lines_that_lie_are_counted(void **state UNUSED)
{
	const char *why;
	json_t *part = queues("time_ns,cpu,running_tasks\n"
			      "\n-1,0,1\n1,4096,1\n1,0,\n1,0\n1,0,x\n99999999999999999999,0,1\n"
			      "9007199254740993,0,1\n9223372036854775807,0,1\n"
			      "9007199254740992,4095,4194304\n1,0,4194305\n0,0,2\n\"1\",0,1\n",
			      &why);

	assert_non_null(part);
	assert_int_equal(of(part, "looks"), 2);
	assert_int_equal(of(part, "bad_lines"), 11);
	assert_int_equal(of(part, "column_ns"), 9007199254740993);
	assert_int_equal(of(part, "rows"), REPORT_ROWS);
	assert_int_equal(of(json_object_get(part, "longest"), "tasks"), 4194304);
	json_decref(part);
	assert_null(queues("", &why));
	assert_null(queues("time_ns,cpu\n1,1\n", &why));
	assert_string_equal(why, "its first line does not name time_ns, cpu and running_tasks");
	assert_null(queues("time_ns,cpu,running_tasks\n", &why));
	assert_string_equal(why, "it has no looks at run queues");
	/* A quote that nobody ends is one field. */
	assert_null(queues("time_ns,cpu,running_tasks\n\"1,0,1\n1,0,1\n", &why));
}

/* ---- what a page can hold ---------------------------------------------------------------- */

static void test_reports_are_cut_to_size(void **state UNUSED)
{
	json_t *json = json_object(), *deep = json, *list = json_array(), *text, *copy;
	char *long_text = malloc(40001);
	uint64_t cut = 0;

	for (unsigned i = 0; i < 50; i++) {
		json_t *next = json_object();

		json_object_set_new(deep, "in", next);
		deep = next;
	}
	for (unsigned i = 0; i < 3000; i++)
		json_array_append_new(list, json_integer(i));
	json_object_set_new(json, "list", list);
	/* Two bytes a character, and the cut would be inside of one. */
	assert_non_null(long_text);
	long_text[0] = 'x';
	for (unsigned i = 1; i < 39999; i += 2)
		memcpy(long_text + i, "\xc3\xa4", 2);
	json_object_set_new(json, "text", json_stringn(long_text, 39999));
	free(long_text);

	copy = report_bounded(json, &cut);
	assert_non_null(copy);
	assert_int_equal(cut, 1 + 952 + 1);
	assert_int_equal(json_array_size(json_object_get(copy, "list")), 2048);
	text = json_object_get(copy, "text");
	assert_int_equal(json_string_length(text), 32767);
	deep = copy;
	for (unsigned i = 0; i < 10; i++) {
		assert_true(json_is_object(deep));
		deep = json_object_get(deep, "in");
	}
	assert_true(json_is_null(deep));
	json_decref(copy);
	json_decref(json);
}

static void test_text_ends_no_element(void **state UNUSED)
{
	static const char bad[] = "</script><script>alert(1)</script><!-- &lt; \" \\ \u2028 \n";
	json_t *json = json_pack("{s:s, s:f, s:[b, n]}", bad, bad, "r", 0.25, "l", 1), *back;
	char *text = report_json_text(json);

	assert_non_null(text);
	assert_null(strpbrk(text, "<>&\n"));
	for (const char *p = text; *p; p++)
		assert_in_range((unsigned char)*p, 0x20, 0x7e);
	back = json_of(text);
	assert_true(json_equal(json, back));
	json_decref(back);
	json_decref(json);
	free(text);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_stacks_are_a_tree),
		cmocka_unit_test(test_stacks_that_lie_are_refused),
		cmocka_unit_test(test_long_names_are_cut),
		cmocka_unit_test(test_frames_without_a_name_have_one),
		cmocka_unit_test(test_trees_have_an_end),
		cmocka_unit_test(test_what_is_too_small_is_in_its_parent),
		cmocka_unit_test(test_windows_are_a_grid),
		cmocka_unit_test(test_many_windows_and_vcpus_are_drawn_coarser),
		cmocka_unit_test(test_windows_that_lie_harm_nothing),
		cmocka_unit_test(test_queues_are_a_grid),
		cmocka_unit_test(test_columns_go_by_their_names),
		cmocka_unit_test(test_lines_that_lie_are_counted),
		cmocka_unit_test(test_reports_are_cut_to_size),
		cmocka_unit_test(test_text_ends_no_element),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
