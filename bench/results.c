/* Rows of rounds of samples, in memory and as JSON. Any thread, one at a time. */
#include "results.h"

#include <errno.h>
#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/util.h"

#define FORMAT	     "stasis-bench"
#define VERSION	     1
#define RESULTS_FILE MIB(256) /* bytes of JSON that are read */

static const char *const side_name[RESULTS_SIDES] = {"floor", "product"};

static int no_memory(struct error *err)
{
	return error_set_shortage(err, -ENOMEM, "keeping samples");
}

static void round_done(struct results_round *round)
{
	for (int side = 0; side < RESULTS_SIDES; side++)
		free(round->side[side].value);
}

void results_done(struct results *r)
{
	for (size_t i = 0; i < r->rows; i++) {
		struct results_row *row = r->row[i];

		for (size_t k = 0; k < row->rounds; k++)
			round_done(&row->round[k]);
		free(row->round);
		free(row);
	}
	free(r->row);
	json_decref(r->host);
	json_decref(r->input);
	*r = (struct results){0};
}

int results_row_add(struct results *r, const struct results_spec *spec,
		    struct results_row **ret_row, struct error *err)
{
	struct results_row **rows = reallocarray(r->row, r->rows + 1, sizeof(struct results_row *));
	struct results_row *row = calloc(1, sizeof(*row));

	if (rows)
		r->row = rows;
	if (!rows || !row) {
		free(row);
		return no_memory(err);
	}
	row->spec = *spec;
	r->row[r->rows++] = row;
	*ret_row = row;
	return 0;
}

int results_round_begin(struct results_row *row, unsigned pass, struct error *err)
{
	if (row->rounds == row->room) {
		size_t room = row->room ? 2 * row->room : 32;
		struct results_round *round = reallocarray(row->round, room, sizeof(*round));

		if (!round)
			return no_memory(err);
		row->round = round;
		row->room = room;
	}
	row->round[row->rounds++] = (struct results_round){.pass = pass};
	return 0;
}

int results_add(struct results_row *row, enum results_side side, double value, struct error *err)
{
	struct results_samples *s = &row->round[row->rounds - 1].side[side];

	if (s->n == s->room) {
		size_t room = s->room ? 2 * s->room : 16;
		double *values = reallocarray(s->value, room, sizeof(*values));

		if (!values)
			return no_memory(err);
		s->value = values;
		s->room = room;
	}
	s->value[s->n++] = value;
	return 0;
}

void results_drop_unfinished(struct results *r)
{
	size_t kept = 0;

	for (size_t i = 0; i < r->rows; i++) {
		struct results_row *row = r->row[i];
		struct results_round *last = row->rounds ? &row->round[row->rounds - 1] : NULL;

		if (last &&
		    (last->side[RESULTS_FLOOR].n == 0 || last->side[RESULTS_PRODUCT].n == 0)) {
			round_done(last);
			row->rounds--;
		}
		if (row->rounds > 0) {
			r->row[kept++] = row;
		} else {
			free(row->round);
			free(row);
		}
	}
	r->rows = kept;
}

int results_medians(const struct results_row *row, struct stats_round **ret_rounds, size_t *ret_n,
		    struct error *err)
{
	struct stats_round *rounds = calloc(row->rounds + 1, sizeof(*rounds));
	size_t n = 0;

	if (!rounds)
		return no_memory(err);
	for (size_t i = 0; i < row->rounds; i++) {
		const struct results_samples *floor = &row->round[i].side[RESULTS_FLOOR];
		const struct results_samples *product = &row->round[i].side[RESULTS_PRODUCT];

		if (floor->n == 0 || product->n == 0)
			continue;
		if (!stats_median(floor->value, floor->n, &rounds[n].floor) ||
		    !stats_median(product->value, product->n, &rounds[n].product)) {
			free(rounds);
			return no_memory(err);
		}
		rounds[n++].pass = row->round[i].pass;
	}
	*ret_rounds = rounds;
	*ret_n = n;
	return 0;
}

int results_sorted(const struct results_row *row, enum results_side side, double **ret_values,
		   size_t *ret_n, struct error *err)
{
	size_t n = 0;
	double *values;

	for (size_t i = 0; i < row->rounds; i++)
		n += row->round[i].side[side].n;
	values = calloc(n + 1, sizeof(*values));
	if (!values)
		return no_memory(err);
	n = 0;
	for (size_t i = 0; i < row->rounds; i++) {
		const struct results_samples *s = &row->round[i].side[side];

		if (s->n > 0)
			memcpy(values + n, s->value, s->n * sizeof(*values));
		n += s->n;
	}
	bootstrap_sort(values, n);
	*ret_values = values;
	*ret_n = n;
	return 0;
}

static struct results_row *find(const struct results *r, const char *name)
{
	for (size_t i = 0; i < r->rows; i++)
		if (!strcmp(r->row[i]->spec.name, name))
			return r->row[i];
	return NULL;
}

const struct results_row *results_find(const struct results *r, const char *name)
{
	return find(r, name);
}

/* ---- JSON ------------------------------------------------------------------------------ */

static json_t *samples_to_json(const struct results_row *row, enum results_side side)
{
	json_t *rounds = json_array();

	for (size_t i = 0; rounds && i < row->rounds; i++) {
		const struct results_samples *s = &row->round[i].side[side];
		json_t *values = json_array();

		for (size_t k = 0; k < s->n; k++)
			json_array_append_new(values, json_real(s->value[k]));
		if (json_array_append_new(rounds, values) < 0) {
			json_decref(rounds);
			return NULL;
		}
	}
	return rounds;
}

static json_t *passes_to_json(const struct results_row *row)
{
	json_t *passes = json_array();

	for (size_t i = 0; passes && i < row->rounds; i++) {
		if (json_array_append_new(passes, json_integer(row->round[i].pass)) < 0) {
			json_decref(passes);
			return NULL;
		}
	}
	return passes;
}

static json_t *row_to_json(const struct results_row *row)
{
	const struct results_spec *s = &row->spec;

	return json_pack("{ss ss ss sb sf sf sf so so* so*}", "name", s->name, "what", s->what,
			 "unit", s->unit, "more_is_better", s->more_is_better, "goal", s->goal,
			 "goal_p99", s->goal_p99, "limit", s->limit, "pass", passes_to_json(row),
			 side_name[RESULTS_FLOOR], samples_to_json(row, RESULTS_FLOOR),
			 side_name[RESULTS_PRODUCT], samples_to_json(row, RESULTS_PRODUCT));
}

json_t *results_to_json(const struct results *r)
{
	json_t *rows = json_array();

	for (size_t i = 0; rows && i < r->rows; i++) {
		if (json_array_append_new(rows, row_to_json(r->row[i])) < 0) {
			json_decref(rows);
			return NULL;
		}
	}
	return json_pack("{ss si sO? so}", "format", FORMAT, "version", VERSION, "host", r->host,
			 "rows", rows);
}

/* Numbers that can be compared: finite, not negative. */
static bool add_samples(struct results_row *row, enum results_side side, const json_t *values,
			struct error *err)
{
	const json_t *value;
	size_t i;

	json_array_foreach(values, i, value)
	{
		double v = json_number_value(value);

		if (!json_is_number(value) || !isfinite(v) || v < 0)
			return false;
		if (results_add(row, side, v, err) < 0)
			return false;
	}
	return json_is_array(values);
}

/* Which pass the i-th of n rounds is of, in ascending order; 0: that can't be. Without any word of
 * it, from before there were passes: 1. */
static unsigned pass_of(const struct results_row *row, const json_t *passes, size_t n, size_t i)
{
	unsigned last = row->rounds > 0 ? row->round[row->rounds - 1].pass : 1;
	json_int_t pass = passes ? json_integer_value(json_array_get(passes, i)) : 1;

	if (passes && json_array_size(passes) != n)
		return 0;
	return pass >= last && pass <= UINT_MAX ? (unsigned)pass : 0;
}

static bool add_rounds(struct results_row *row, const json_t *json, struct error *err)
{
	const json_t *passes = json_object_get(json, "pass");
	const json_t *floor = json_object_get(json, side_name[RESULTS_FLOOR]);
	const json_t *product = json_object_get(json, side_name[RESULTS_PRODUCT]);
	size_t n = json_array_size(floor);

	if (!json_is_array(floor) || !json_is_array(product) || json_array_size(product) != n)
		return false;
	for (size_t i = 0; i < n; i++) {
		unsigned pass = pass_of(row, passes, n, i);

		if (pass == 0 || results_round_begin(row, pass, err) < 0 ||
		    !add_samples(row, RESULTS_FLOOR, json_array_get(floor, i), err) ||
		    !add_samples(row, RESULTS_PRODUCT, json_array_get(product, i), err))
			return false;
	}
	return true;
}

static bool add_row(struct results *r, json_t *json, struct error *err)
{
	struct results_spec spec = {0};
	struct results_row *row;
	int more;

	if (json_unpack(json, "{ss ss ss sb sF sF sF}", "name", &spec.name, "what", &spec.what,
			"unit", &spec.unit, "more_is_better", &more, "goal", &spec.goal, "goal_p99",
			&spec.goal_p99, "limit", &spec.limit) < 0)
		return false;
	spec.more_is_better = more;
	row = find(r, spec.name);
	if (!row && results_row_add(r, &spec, &row, err) < 0)
		return false;
	return add_rounds(row, json, err);
}

static int no_sense(const char *path, size_t i, struct error *err)
{
	return err->code < 0 ? err->code
			     : error_usage(err, "%s: row %zu makes no sense", path, i + 1);
}

/* NULL, and err is set: it is none of ours. */
static json_t *rows_of(const json_t *json, const char *path, struct error *err)
{
	const char *format = json_string_value(json_object_get(json, "format"));
	json_t *rows = json_object_get(json, "rows");

	if (format && !strcmp(format, FORMAT) && json_is_array(rows) &&
	    json_integer_value(json_object_get(json, "version")) == VERSION)
		return rows;
	error_usage(err, "%s: no result of stasis bench", path);
	return NULL;
}

/* The load that a process found, of a minute; or the highest of those that several found. */
static const json_t *load_of(const json_t *host)
{
	return json_object_get(host, "load_most")
		       ?: json_array_get(json_object_get(host, "load"), 0);
}

/* One host's facts, in which each process has seen what it has seen: the first's are kept. But the
 * highest load, and when the last of them began, are all of theirs. */
static void merge_host(json_t *host, json_t *later)
{
	double load = json_number_value(load_of(later));

	if (load > json_number_value(load_of(host)))
		json_object_set_new(host, "load_most", json_real(load));
	json_object_set(host, "time_last",
			json_object_get(later, "time_last") ?: json_object_get(later, "time"));
	json_object_update_missing(host, later);
}

int results_from_json(struct results *r, json_t *json, const char *path, struct error *err)
{
	json_t *rows = rows_of(json, path, err), *row;
	size_t i;

	if (!rows)
		return err->code;
	if (!r->input)
		r->input = json_array();
	if (json_array_append(r->input, json) < 0)
		return no_memory(err);
	if (!r->host)
		r->host = json_incref(json_object_get(json, "host"));
	else
		merge_host(r->host, json_object_get(json, "host"));
	json_array_foreach(rows, i, row)
	{
		if (!add_row(r, row, err))
			return no_sense(path, i, err);
	}
	return 0;
}

static bool add_foreign(struct results *r, json_t *json, const struct results_spec *spec,
			unsigned pass, struct error *err)
{
	struct results_row *row;

	/* Which it is of is known here. */
	json_object_del(json, "pass");
	if (find(r, spec->name) || results_row_add(r, spec, &row, err) < 0 ||
	    !add_rounds(row, json, err))
		return false;
	for (size_t i = 0; i < row->rounds; i++)
		row->round[i].pass = pass;
	return true;
}

int results_from_foreign(struct results *r, json_t *json, const struct results_spec *known,
			 size_t n, unsigned pass, const char *path, struct error *err)
{
	json_t *rows = rows_of(json, path, err), *row;
	size_t i;

	if (!rows)
		return err->code;
	json_array_foreach(rows, i, row)
	{
		const char *name = json_string_value(json_object_get(row, "name"));
		size_t k = 0;

		while (k < n && (!name || strcmp(known[k].name, name) != 0))
			k++;
		if (k == n || !add_foreign(r, row, &known[k], pass, err))
			return no_sense(path, i, err);
	}
	return 0;
}

int results_load(struct results *r, const char *path, struct error *err)
{
	CLEANUP_FREE char *text = NULL;
	json_error_t why;
	json_t *json;
	size_t len;
	int n = file_read(path, RESULTS_FILE, &text, &len);

	if (n < 0)
		return error_set(err, n, "reading %s", path);
	json = json_loadb(text, len, 0, &why);
	if (!json)
		return error_usage(err, "%s: line %d: %s", path, why.line, why.text);
	n = results_from_json(r, json, path, err);
	json_decref(json);
	return n;
}
