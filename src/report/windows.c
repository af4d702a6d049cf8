/* A profile over time: its windows as a grid of vCPUs and times. */
#include <stdlib.h>
#include <string.h>

#include "base/util.h"
#include "report/parts.h"

#define CLASSES_MAX 16u
#define NS_PER_US   1000u

/* In the order of a window's figures for each vCPU. */
enum figure { USER, KERNEL, SCHEDULING, IDLE, FIGURES };

/* What a window may count besides. */
static const char *const count_names[] = {"exits", "switches", "wakeups"};
#define COUNTS ARRAY_SIZE(count_names)

static const char *const cell_names[FIGURES] = {"user_us", "kernel_us", "scheduling_us", "idle_us"};

struct grid {
	uint64_t begin_ns, column_ns;
	size_t columns, rows, per_row, vcpus;
	uint64_t *cell;		       /* [figure][row][column] */
	uint64_t *column[3];	       /* user, kernel, idle of all vCPUs */
	const char *name[CLASSES_MAX]; /* borrowed */
	uint64_t *class[CLASSES_MAX];
	size_t classes;
	uint64_t *count[COUNTS]; /* NULL: no window has it */
};

static void add(uint64_t *to, uint64_t n)
{
	if (__builtin_add_overflow(*to, n, to) || *to > INT64_MAX)
		*to = INT64_MAX;
}

/* How long all of them are, and the widest. */
static const char *measure(struct grid *g, const json_t *list, uint64_t length_ns)
{
	uint64_t last = 0, windows;

	g->begin_ns = UINT64_MAX;
	for (size_t i = 0; i < json_array_size(list); i++) {
		const json_t *window = json_array_get(list, i);
		uint64_t at = report_uint(json_object_get(window, "begin_ns"));

		g->begin_ns = MIN(g->begin_ns, at);
		last = MAX(last, at);
		g->vcpus = MAX(g->vcpus, json_array_size(json_object_get(window, "vcpus")));
	}
	if (g->vcpus == 0)
		return "its windows have no vCPUs";
	if (g->vcpus > REPORT_CPUS)
		return "its windows have more vCPUs than there can be";
	windows = (last - g->begin_ns) / length_ns + 1;
	/* At most last - begin + length: no overflow that could matter below. */
	g->column_ns = (windows + REPORT_COLUMNS - 1) / REPORT_COLUMNS * length_ns;
	g->columns = (size_t)((last - g->begin_ns) / g->column_ns + 1);
	g->per_row = (g->vcpus + REPORT_ROWS - 1) / REPORT_ROWS;
	g->rows = (g->vcpus + g->per_row - 1) / g->per_row;
	return NULL;
}

static uint64_t *class_named(struct grid *g, const char *name)
{
	for (size_t i = 0; i < g->classes; i++)
		if (!strcmp(g->name[i], name))
			return g->class[i];
	if (g->classes == CLASSES_MAX)
		return NULL;
	g->class[g->classes] = calloc(g->columns, sizeof(uint64_t));
	g->name[g->classes] = name;
	return g->class[g->classes] ? g->class[g->classes++] : NULL;
}

static void add_count(struct grid *g, size_t i, size_t column, const json_t *n)
{
	if (!json_is_integer(n))
		return;
	if (!g->count[i])
		g->count[i] = calloc(g->columns, sizeof(uint64_t));
	if (g->count[i])
		add(&g->count[i][column], report_uint(n));
}

static void add_window(struct grid *g, json_t *window)
{
	static const char *const names[] = {"user_ns", "kernel_ns", "idle_ns"};
	uint64_t at = report_uint(json_object_get(window, "begin_ns")) - g->begin_ns;
	size_t column = (size_t)(at / g->column_ns);
	const json_t *vcpus = json_object_get(window, "vcpus");
	const char *name;
	json_t *value;

	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		add(&g->column[i][column], report_uint(json_object_get(window, names[i])));
	json_object_foreach(json_object_get(window, "classes"), name, value)
	{
		uint64_t *class = class_named(g, name);

		if (class)
			add(&class[column], report_uint(value));
	}
	for (size_t i = 0; i < COUNTS; i++)
		add_count(g, i, column, json_object_get(window, count_names[i]));
	for (size_t v = 0; v < json_array_size(vcpus); v++)
		for (size_t f = 0; f < FIGURES; f++)
			add(&g->cell[(f * g->rows + v / g->per_row) * g->columns + column],
			    report_uint(json_array_get(json_array_get(vcpus, v), f)));
}

static json_t *divided(const uint64_t *value, size_t n, uint64_t by)
{
	json_t *list = json_array();

	for (size_t i = 0; i < n; i++)
		json_array_append_new(list, json_integer((json_int_t)((value[i] + by / 2) / by)));
	return list;
}

static json_t *numbers(const uint64_t *ns, size_t n)
{
	return divided(ns, n, NS_PER_US);
}

static json_t *grid_json(const struct grid *g)
{
	json_t *cells = json_object(), *classes = json_object(), *counts = json_object();

	for (size_t f = 0; f < FIGURES; f++)
		json_object_set_new(cells, cell_names[f],
				    numbers(g->cell + f * g->rows * g->columns,
					    g->rows * g->columns));
	for (size_t i = 0; i < g->classes; i++)
		json_object_set_new(classes, g->name[i], numbers(g->class[i], g -> columns));
	for (size_t i = 0; i < COUNTS; i++)
		if (g->count[i])
			json_object_set_new(counts, count_names[i],
					    divided(g->count[i], g->columns, 1));
	return json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:o, s:o, s:o, s:o, s:o, s:o}", "begin_ns",
			 (json_int_t)g->begin_ns, "column_ns",
			 (json_int_t)MIN(g->column_ns, (uint64_t)INT64_MAX), "columns",
			 (json_int_t)g->columns, "rows", (json_int_t)g->rows, "per_row",
			 (json_int_t)g->per_row, "vcpus", (json_int_t)g->vcpus, "cells", cells,
			 "user_us", numbers(g->column[0], g->columns), "kernel_us",
			 numbers(g->column[1], g->columns), "idle_us",
			 numbers(g->column[2], g->columns), "classes", classes, "counts", counts);
}

static bool make_room(struct grid *g)
{
	g->cell = calloc(FIGURES * g->rows * g->columns, sizeof(uint64_t));
	for (size_t i = 0; i < ARRAY_SIZE(g->column); i++) {
		g->column[i] = calloc(g->columns, sizeof(uint64_t));
		if (!g->column[i])
			return false;
	}
	return g->cell;
}

json_t *report_windows(const json_t *windows, const char **ret_why)
{
	const json_t *list = json_object_get(windows, "list");
	uint64_t length_ns = report_uint(json_object_get(windows, "length_ns"));
	struct grid g = {0};
	json_t *json = NULL;

	if (!json_array_size(list) || length_ns == 0) {
		*ret_why = "it has no windows";
		return NULL;
	}
	*ret_why = measure(&g, list, length_ns);
	if (*ret_why)
		return NULL;
	*ret_why = "out of memory";
	if (make_room(&g)) {
		for (size_t i = 0; i < json_array_size(list); i++)
			add_window(&g, json_array_get(list, i));
		json = grid_json(&g);
	}
	free(g.cell);
	for (size_t i = 0; i < ARRAY_SIZE(g.column); i++)
		free(g.column[i]);
	for (size_t i = 0; i < g.classes; i++)
		free(g.class[i]);
	for (size_t i = 0; i < COUNTS; i++)
		free(g.count[i]);
	return json;
}
