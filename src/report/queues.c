/* Run queues over time: the lines of a monitor's CSV as a grid of CPUs and times. */
#include <stdlib.h>
#include <string.h>

#include "base/util.h"
#include "report/parts.h"

#define TASKS_MAX  (UINT64_C(1) << 22) /* PID_MAX_LIMIT (Linux, include/linux/threads.h) */
#define FIELDS_MAX 64u

/* Which fields of a line are wanted, and what they are in one. */
enum { TIME, CPU, RUNNING, WANTED };

static const char *const wanted[WANTED] = {"time_ns", "cpu", "running_tasks"};

struct look {
	uint64_t value[WANTED];
};

struct reader {
	const char *at, *end;
	unsigned field[WANTED]; /* their places in a line */
};

struct grid {
	uint64_t begin_ns, end_ns, column_ns;
	size_t columns, rows, per_row, cpus;
	uint64_t looks, bad;
	struct cell {
		uint64_t sum, looks, max;
	} * cell; /* [row][column] */
	struct look longest;
};

/* One field, without its quotes' inside, up to the comma or the line's end behind it. A newline
 * inside quotes is part of the field. */
static void next_field(struct reader *r, const char **ret_from, size_t *ret_len)
{
	bool quoted = false;

	*ret_from = r->at;
	while (r->at < r->end && (quoted || (*r->at != ',' && *r->at != '\n'))) {
		quoted ^= *r->at == '"';
		r->at++;
	}
	*ret_len = (size_t)(r->at - *ret_from);
}

/* Past the comma: there is another field; else past the line's end. */
static bool more_fields(struct reader *r)
{
	bool comma = r->at < r->end && *r->at == ',';

	if (r->at < r->end)
		r->at++;
	return comma;
}

static bool read_head(struct reader *r)
{
	unsigned found = 0, i = 0;
	const char *from;
	size_t len;

	do {
		next_field(r, &from, &len);
		for (unsigned w = 0; w < WANTED; w++) {
			if (len != strlen(wanted[w]) || memcmp(from, wanted[w], len) != 0)
				continue;
			r->field[w] = i;
			found |= 1u << w;
		}
		i++;
	} while (more_fields(r) && i < FIELDS_MAX);
	return found == (1u << WANTED) - 1;
}

/* Digits only: a field that is empty was not read in the guest. */
static bool number(const char *from, size_t len, uint64_t *ret)
{
	uint64_t n = 0;

	for (size_t i = 0; i < len; i++) {
		if (from[i] < '0' || from[i] > '9' || __builtin_mul_overflow(n, 10u, &n) ||
		    __builtin_add_overflow(n, (unsigned)(from[i] - '0'), &n))
			return false;
	}
	*ret = n;
	return len > 0 && n <= REPORT_NUMBER_MAX;
}

/* Whether the line has all that is wanted, and it can be. */
static bool read_line(struct reader *r, struct look *look)
{
	unsigned found = 0, i = 0;
	const char *from;
	size_t len;

	do {
		next_field(r, &from, &len);
		for (unsigned w = 0; w < WANTED; w++)
			if (r->field[w] == i && number(from, len, &look->value[w]))
				found |= 1u << w;
		i++;
	} while (more_fields(r));
	return found == (1u << WANTED) - 1 && look->value[CPU] < REPORT_CPUS &&
	       look->value[RUNNING] <= TASKS_MAX;
}

static void measure(struct grid *g, struct reader r)
{
	struct look look;

	g->begin_ns = UINT64_MAX;
	while (r.at < r.end) {
		if (!read_line(&r, &look)) {
			g->bad++;
			continue;
		}
		g->begin_ns = MIN(g->begin_ns, look.value[TIME]);
		g->end_ns = MAX(g->end_ns, look.value[TIME]);
		g->cpus = MAX(g->cpus, (size_t)look.value[CPU] + 1);
		g->looks++;
	}
}

static void add_up(struct grid *g, struct reader r)
{
	struct look look;

	while (r.at < r.end) {
		struct cell *c;

		if (!read_line(&r, &look))
			continue;
		c = &g->cell[look.value[CPU] / g->per_row * g->columns +
			     (look.value[TIME] - g->begin_ns) / g->column_ns];
		/* Tasks are fewer than this; sums of them have room. */
		c->sum += MIN(look.value[RUNNING], UINT64_C(1) << 32);
		c->max = MAX(c->max, look.value[RUNNING]);
		c->looks++;
		if (look.value[RUNNING] > g->longest.value[RUNNING])
			g->longest = look;
	}
}

static json_t *cells(const struct grid *g, bool mean)
{
	json_t *list = json_array();

	for (size_t i = 0; i < g->rows * g->columns; i++) {
		const struct cell *c = &g->cell[i];
		double n =
			mean ? 100.0 * (double)c->sum / (double)MAX(c->looks, 1u) : (double)c->max;

		json_array_append_new(list, json_integer(c->looks ? (json_int_t)(n + 0.5) : -1));
	}
	return list;
}

static json_t *grid_json(const struct grid *g)
{
	return json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:o, s:o, s:{s:I, s:I, s:I}}",
			 "begin_ns", (json_int_t)g->begin_ns, "column_ns", (json_int_t)g->column_ns,
			 "columns", (json_int_t)g->columns, "rows", (json_int_t)g->rows, "per_row",
			 (json_int_t)g->per_row, "cpus", (json_int_t)g->cpus, "looks",
			 (json_int_t)g->looks, "bad_lines", (json_int_t)g->bad, "mean_centi",
			 cells(g, true), "max", cells(g, false), "longest", "tasks",
			 (json_int_t)g->longest.value[RUNNING], "cpu",
			 (json_int_t)g->longest.value[CPU], "time_ns",
			 (json_int_t)g->longest.value[TIME]);
}

json_t *report_queues(const char *csv, size_t len, const char **ret_why)
{
	struct reader r = {.at = csv, .end = csv + len};
	struct grid g = {0};
	json_t *json = NULL;

	if (!read_head(&r)) {
		*ret_why = "its first line does not name time_ns, cpu and running_tasks";
		return NULL;
	}
	measure(&g, r);
	if (!g.looks) {
		*ret_why = "it has no looks at run queues";
		return NULL;
	}
	/* Columns as wide as one look at each CPU is apart, at least: no stripes. */
	g.columns = (size_t)MAX(MIN(g.looks / g.cpus, REPORT_COLUMNS), 1u);
	g.column_ns = (g.end_ns - g.begin_ns) / g.columns + 1;
	g.per_row = (g.cpus + REPORT_ROWS - 1) / REPORT_ROWS;
	g.rows = (g.cpus + g.per_row - 1) / g.per_row;
	g.cell = calloc(g.rows * g.columns, sizeof(*g.cell));
	*ret_why = "out of memory";
	if (g.cell) {
		add_up(&g, r);
		json = grid_json(&g);
	}
	free(g.cell);
	return json;
}
