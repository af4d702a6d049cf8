/* Rows of samples, to JSON and back; files that are none. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "facts.h"
#include "results.h"

static const struct results_spec spec = {"a.b", "what", "ns", .goal = 1.1, .goal_p99 = 2};

static void add(struct results_row *row, enum results_side side, double value)
{
	assert_int_equal(results_add(row, side, value, NULL), 0);
}

/* Two rounds, of that pass and the next; the second has no floor. */
static void fill(struct results *r, unsigned pass)
{
	struct results_row *row;

	assert_int_equal(results_row_add(r, &spec, &row, NULL), 0);
	assert_int_equal(results_round_begin(row, pass, NULL), 0);
	add(row, RESULTS_FLOOR, 10);
	add(row, RESULTS_FLOOR, 30);
	for (int i = 0; i < 100; i++)
		add(row, RESULTS_PRODUCT, 100 - i);
	assert_int_equal(results_round_begin(row, pass + 1, NULL), 0);
	add(row, RESULTS_PRODUCT, 7);
}

static void check(const struct results *r)
{
	const struct results_row *row = results_find(r, "a.b");
	struct stats_round *rounds;
	double *values;
	size_t n;

	assert_non_null(row);
	assert_true(row->spec.goal == 1.1 && row->spec.goal_p99 == 2 && row->spec.limit == 0);
	assert_string_equal(row->spec.unit, "ns");
	assert_int_equal(row->rounds, 2);
	assert_int_equal(row->round[0].pass, 3);
	assert_int_equal(row->round[1].pass, 4);
	assert_int_equal(results_medians(row, &rounds, &n, NULL), 0);
	assert_int_equal(n, 1);
	assert_true(rounds[0].floor == 20 && rounds[0].product == 50.5 && rounds[0].pass == 3);
	free(rounds);
	assert_int_equal(results_sorted(row, RESULTS_PRODUCT, &values, &n, NULL), 0);
	assert_int_equal(n, 101);
	assert_true(values[0] == 1 && values[100] == 100);
	free(values);
	assert_null(results_find(r, "a"));
}

/* It failed with one row whole, one in its second round, one in its first, and one before that. */
static void what_was_measured_stays(void **state UNUSED)
{
	static const char *const names[] = {"whole", "second", "first", "none"};
	struct results r = {0};

	for (unsigned i = 0; i < ARRAY_SIZE(names); i++) {
		const struct results_spec one = {names[i], "what", "ns"};
		struct results_row *row;

		assert_int_equal(results_row_add(&r, &one, &row, NULL), 0);
		for (unsigned round = 0; i < 3 && round < 3 - i; round++) {
			assert_int_equal(results_round_begin(row, 1, NULL), 0);
			add(row, RESULTS_FLOOR, 1);
			if (i == 0 || round < 2 - i)
				add(row, RESULTS_PRODUCT, 2);
		}
	}
	results_drop_unfinished(&r);
	assert_int_equal(r.rows, 2);
	assert_int_equal(results_find(&r, "whole")->rounds, 3);
	assert_int_equal(results_find(&r, "second")->rounds, 1);
	results_drop_unfinished(&r);
	assert_int_equal(r.rows, 2);
	results_done(&r);
	results_drop_unfinished(&r);
}

static void there_and_back(void **state)
{
	struct results r = {0}, again = {0};
	json_t *json;

	(void)state;
	fill(&r, 3);
	check(&r);
	json = results_to_json(&r);
	assert_non_null(json);
	assert_int_equal(results_from_json(&again, json, "x", NULL), 0);
	json_decref(json);
	check(&again);
	results_done(&again);
	results_done(&r);
}

static void add_to(struct results *all, unsigned pass)
{
	struct results r = {0};
	json_t *json;

	fill(&r, pass);
	json = results_to_json(&r);
	assert_int_equal(results_from_json(all, json, "x", NULL), 0);
	json_decref(json);
	results_done(&r);
}

/* What a process of each pass measured becomes one row. */
static void passes_add_up(void **state)
{
	static const unsigned passes[] = {1, 2, 2, 3, 4, 5};
	struct results all = {0};
	struct results_row *other;

	(void)state;
	add_to(&all, 1);
	assert_int_equal(results_row_add(&all, &(struct results_spec){.name = "a.c"}, &other, NULL),
			 0);
	add_to(&all, 2);
	add_to(&all, 4);
	assert_int_equal(all.rows, 2);
	assert_int_equal(all.row[0]->rounds, 6);
	assert_int_equal(other->rounds, 0);
	for (size_t i = 0; i < 6; i++)
		assert_int_equal(all.row[0]->round[i].pass, passes[i]);
	results_done(&all);
}

/* The same host, as three programs saw it: what only one has seen is kept, and nothing is replaced.
 * The highest load is that of any, and the last time that of the last. */
static void facts_add_up(void **state)
{
	struct results r = {0};
	char line[256];
	json_t *third = json_loads("{\"format\": \"stasis-bench\", \"version\": 1, \"rows\": [], "
				   "\"host\": {\"load\": [2, 3], \"time\": 30}}",
				   0, NULL);
	json_t *first = json_loads("{\"format\": \"stasis-bench\", \"version\": 1, \"rows\": [], "
				   "\"host\": {\"load\": [1, 9], \"time\": 10}}",
				   0, NULL);
	json_t *second =
		json_loads("{\"format\": \"stasis-bench\", \"version\": 1, \"rows\": [], "
			   "\"host\": {\"load\": [2.5, 0], \"time\": 20, \"lab\": {\"load\": 3}}}",
			   0, NULL);

	(void)state;
	assert_int_equal(results_from_json(&r, first, "x", NULL), 0);
	assert_int_equal(results_from_json(&r, second, "x", NULL), 0);
	assert_int_equal(results_from_json(&r, third, "x", NULL), 0);
	json_decref(first);
	json_decref(second);
	json_decref(third);
	assert_true(json_number_value(json_array_get(json_object_get(r.host, "load"), 0)) == 1);
	assert_true(json_number_value(json_object_get(r.host, "load_most")) == 2.5);
	assert_int_equal(json_integer_value(json_object_get(r.host, "time")), 10);
	assert_int_equal(json_integer_value(json_object_get(r.host, "time_last")), 30);
	facts_line(r.host, line, sizeof(line));
	assert_ptr_equal(strstr(line, "load 1.00, at most 2.50 on "), line);
	assert_int_equal(json_integer_value(
				 json_object_get(json_object_get(r.host, "lab"), "load")),
			 3);
	results_done(&r);
}

#define HEAD "{\"format\": \"stasis-bench\", \"version\": 1, \"rows\": "
#define ROW                                                                                        \
	"\"name\": \"a\", \"what\": \"\", \"unit\": \"ns\", \"more_is_better\": false, "           \
	"\"goal\": 0, \"goal_p99\": 0, \"limit\": 0, "

static void refuses(const char *text)
{
	struct results r = {0};
	struct error err = {0};
	json_t *json = json_loads(text, 0, NULL);

	assert_non_null(json);
	assert_true(results_from_json(&r, json, "old.json", &err) < 0);
	assert_int_equal(err.kind, ERROR_USAGE);
	assert_non_null(strstr(err.what, "old.json"));
	json_decref(json);
	results_done(&r);
}

static void other_files_are_refused(void **state)
{
	struct results r = {0};
	json_t *json = json_loads(HEAD "[{" ROW "\"floor\": [[1]], \"product\": [[2]]}]}", 0, NULL);

	(void)state;
	/* The least that is one, from before there were passes; each of the others has one fault.
	 */
	assert_int_equal(results_from_json(&r, json, "x", NULL), 0);
	assert_int_equal(r.row[0]->round[0].pass, 1);
	json_decref(json);
	results_done(&r);
	refuses("{}");
	refuses("[]");
	refuses("{\"format\": \"stasis-bench\", \"version\": 2, \"rows\": []}");
	refuses("{\"format\": \"other\", \"version\": 1, \"rows\": []}");
	refuses(HEAD "7}");
	refuses(HEAD "[7]}");
	refuses(HEAD "[{\"name\": \"a\"}]}");
	refuses(HEAD "[{" ROW "\"floor\": [[1]], \"product\": []}]}");
	refuses(HEAD "[{" ROW "\"floor\": [1], \"product\": [2]}]}");
	refuses(HEAD "[{" ROW "\"floor\": [[\"1\"]], \"product\": [[2]]}]}");
	refuses(HEAD "[{" ROW "\"floor\": [[-1]], \"product\": [[2]]}]}");
	refuses(HEAD "[{" ROW "\"pass\": [0], \"floor\": [[1]], \"product\": [[2]]}]}");
	refuses(HEAD "[{" ROW "\"pass\": [\"1\"], \"floor\": [[1]], \"product\": [[2]]}]}");
	refuses(HEAD "[{" ROW "\"pass\": [4294967296], \"floor\": [[1]], \"product\": [[2]]}]}");
	refuses(HEAD "[{" ROW "\"pass\": 1, \"floor\": [[1]], \"product\": [[2]]}]}");
	refuses(HEAD "[{" ROW "\"pass\": [1, 1], \"floor\": [[1]], \"product\": [[2]]}]}");
	refuses(HEAD "[{" ROW
		     "\"pass\": [2, 1], \"floor\": [[1], [1]], \"product\": [[2], [2]]}]}");
}

/* What a machine that isn't trusted says of a known row, next to one that has been measured. */
static int foreign(struct results *r, const char *text, struct error *err)
{
	static const struct results_spec known[] = {{"x", "ours", "ms", .goal = 3},
						    {"y", "", "ns"}};
	struct results_row *own;
	json_t *json = json_loads(text, 0, NULL);
	int n;

	assert_non_null(json);
	assert_int_equal(results_row_add(r, &spec, &own, NULL), 0);
	n = results_from_foreign(r, json, known, 2, 4, "the lab", err);
	json_decref(json);
	assert_int_equal(own->rounds, 0);
	return n;
}

#define SAMPLES "\"floor\": [[1], [3]], \"product\": [[2], [4]]}"
#define LIES                                                                                       \
	"\"what\": \"lies\", \"unit\": \"B\", \"more_is_better\": true, \"goal\": 9, \"pass\": "   \
	"[1, 99], "

static void foreign_samples_are_taken(void **state)
{
	struct results r = {0};
	struct error err = {0};
	const struct results_row *row;

	(void)state;
	assert_int_equal(foreign(&r,
				 HEAD "[{\"name\": \"x\", " LIES SAMPLES
				      "], \"host\": {\"load\": 7}}",
				 &err),
			 0);
	assert_int_equal(r.rows, 2);
	row = results_find(&r, "x");
	assert_non_null(row);
	assert_string_equal(row->spec.what, "ours");
	assert_string_equal(row->spec.unit, "ms");
	assert_true(row->spec.goal == 3 && !row->spec.more_is_better);
	assert_int_equal(row->rounds, 2);
	assert_int_equal(row->round[0].pass, 4);
	assert_int_equal(row->round[1].pass, 4);
	assert_true(row->round[1].side[RESULTS_PRODUCT].value[0] == 4);
	assert_null(r.host);
	results_done(&r);
}

static void foreign_refused(const char *text)
{
	struct results r = {0};
	struct error err = {0};

	assert_true(foreign(&r, text, &err) < 0);
	assert_non_null(strstr(err.what, "the lab"));
	results_done(&r);
}

static void foreign_rows_are_not(void **state)
{
	(void)state;
	foreign_refused("{}");
	foreign_refused(HEAD "7}");
	/* A row that has been measured, one that nobody knows, none, and a known one twice. */
	foreign_refused(HEAD "[{\"name\": \"a.b\", " LIES SAMPLES "]}");
	foreign_refused(HEAD "[{\"name\": \"x.y\", " LIES SAMPLES "]}");
	foreign_refused(HEAD "[{" LIES SAMPLES "]}");
	foreign_refused(HEAD "[7]}");
	foreign_refused(HEAD "[{\"name\": \"x\", " SAMPLES ", {\"name\": \"x\", " SAMPLES "]}");
	foreign_refused(HEAD "[{\"name\": \"x\", \"floor\": [[1]], \"product\": [[-2]]}]}");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_was_measured_stays),
		cmocka_unit_test(there_and_back),
		cmocka_unit_test(passes_add_up),
		cmocka_unit_test(facts_add_up),
		cmocka_unit_test(other_files_are_refused),
		cmocka_unit_test(foreign_samples_are_taken),
		cmocka_unit_test(foreign_rows_are_not),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
