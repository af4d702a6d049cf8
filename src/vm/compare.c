/* Figures of two runs, and how sure their difference is. Pure; any thread. */
#include "vm/compare.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/util.h"

#define NS_PER_S 1e9
/* A double counts to there one by one; as ns, a hundred days. */
#define NUMBER_MAX ((json_int_t)1 << 53)

/* ---- a report ------------------------------------------------------------------------------ */

static bool number(const json_t *object, const char *key, double *ret)
{
	const json_t *value = json_object_get(object, key);

	if (!json_is_integer(value) || json_integer_value(value) < 0 ||
	    json_integer_value(value) > NUMBER_MAX)
		return false;
	*ret = (double)json_integer_value(value);
	return true;
}

static bool load_window(const json_t *window, double v[COMPARE_FIELDS], uint32_t *has)
{
	const json_t *classes = json_object_get(window, "classes");
	double user;

	if (!number(window, "user_ns", &user) || !number(window, "kernel_ns", &v[COMPARE_KERNEL]) ||
	    !number(window, "idle_ns", &v[COMPARE_IDLE]))
		return false;
	v[COMPARE_BUSY] = user + v[COMPARE_KERNEL];
	v[COMPARE_ALL] = v[COMPARE_BUSY] + v[COMPARE_IDLE];
	for (unsigned c = 0; c < SCHED_CLASSES; c++) {
		/* One that a later stasis tells apart is not in an earlier one's. */
		if (!number(classes, sched_class_name(c), &v[COMPARE_CLASS + c])) {
			if (json_object_get(classes, sched_class_name(c)))
				return false;
			*has &= ~(1u << (COMPARE_CLASS + c));
		}
		if (c != SCHED_IS_NONE)
			v[COMPARE_SCHEDULING] += v[COMPARE_CLASS + c];
		if (sched_class_of_switches(c))
			v[COMPARE_SWITCHING] += v[COMPARE_CLASS + c];
	}
	if (!number(window, "exits", &v[COMPARE_EXITS]))
		*has &= ~(1u << COMPARE_EXITS);
	if (!number(window, "out_ns", &v[COMPARE_OUT]))
		*has &= ~(1u << COMPARE_OUT);
	if (!number(window, "switches", &v[COMPARE_SWITCHES]))
		*has &= ~(1u << COMPARE_SWITCHES);
	if (!number(window, "wakeups", &v[COMPARE_WAKEUPS]))
		*has &= ~(1u << COMPARE_WAKEUPS);
	return json_is_object(classes);
}

const json_t *compare_profile(const json_t *report)
{
	const json_t *profile = json_object_get(report, "profile");

	return profile || !json_object_get(report, "windows") ? profile : report;
}

int compare_load(const json_t *report, const char *name, struct compare_side *ret_side,
		 struct error *err)
{
	const json_t *profile = compare_profile(report);
	const json_t *windows = json_object_get(profile, "windows");
	const json_t *list = json_object_get(windows, "list");
	struct compare_side side = {.has = (1u << COMPARE_FIELDS) - 1};
	double length, duration;
	size_t n = json_array_size(list);

	_Static_assert(COMPARE_FIELDS < 32, "a bit each");
	if (!json_is_object(report))
		return error_set(err, -EBADMSG, "%s: no report of a run", name);
	if (!windows)
		return error_set(err, -ENODATA,
				 "%s: a report without windows: --record and --profile make them, "
				 "and so does stasis profile --json",
				 name);
	if (!number(windows, "length_ns", &length) || length < 1 ||
	    !number(profile, "duration_ns", &duration) || !json_is_array(list) ||
	    n > COMPARE_WINDOWS_MOST)
		return error_set(err, -EBADMSG, "%s: windows that stasis did not write", name);
	/* The last one is seldom whole. */
	if (n && (double)n * length > duration)
		n--;
	if (n < COMPARE_WINDOWS_LEAST)
		return error_set(
			err, -ENODATA,
			"%s: %zu whole windows of %.0f ms, of %u that it takes: a longer run has "
			"them",
			name, n, length / 1e6, COMPARE_WINDOWS_LEAST);
	side.value = calloc(n, sizeof(*side.value));
	if (!side.value)
		return error_set(err, -ENOMEM, "reading %s", name);
	for (side.windows = 0; side.windows < n; side.windows++) {
		double *v = side.value[side.windows];

		v[COMPARE_LENGTH] = length;
		if (!load_window(json_array_get(list, side.windows), v, &side.has)) {
			free(side.value);
			return error_set(err, -EBADMSG, "%s: window %zu is not one of stasis", name,
					 side.windows);
		}
	}
	if (!json_is_true(json_object_get(json_object_get(report, "monitor"), "schedstats")))
		side.has &= ~(1u << COMPARE_WAKEUPS);
	side.length_ns = (uint64_t)length;
	*ret_side = side;
	return 0;
}

void compare_side_done(struct compare_side *side)
{
	free(side->value);
	*side = (struct compare_side){0};
}

/* ---- figures ------------------------------------------------------------------------------- */

struct metric {
	const char *name, *label;
	enum compare_unit unit;
	bool cost;
	uint8_t over, under; /* enum compare_field */
};

static const struct metric metrics[] = {
	{"scheduling_share", "scheduling", COMPARE_SHARE, true, COMPARE_SCHEDULING, COMPARE_BUSY},
#define CLASS(name, label, class)                                                                  \
	{                                                                                          \
		name, "  " label, COMPARE_SHARE, true, COMPARE_CLASS + (int)(class), COMPARE_BUSY  \
	}
	CLASS("pick_share", "pick", SCHED_IS_PICK),
	CLASS("queue_share", "queue", SCHED_IS_QUEUE),
	CLASS("wake_up_share", "wake_up", SCHED_IS_WAKE_UP),
	CLASS("balance_share", "balance", SCHED_IS_BALANCE),
	CLASS("tick_share", "tick", SCHED_IS_TICK),
	CLASS("load_share", "load", SCHED_IS_LOAD),
	CLASS("sched_ext_share", "sched_ext", SCHED_IS_EXT),
	CLASS("bpf_scheduler_share", "bpf_scheduler", SCHED_IS_BPF),
	CLASS("switch_share", "switch", SCHED_IS_SWITCH),
#undef CLASS
	{"kernel_share", "kernel", COMPARE_SHARE, true, COMPARE_KERNEL, COMPARE_BUSY},
	{"idle_share", "idle", COMPARE_SHARE, false, COMPARE_IDLE, COMPARE_ALL},
	{"switch_ns", "a context switch", COMPARE_NS, true, COMPARE_SWITCHING, COMPARE_SWITCHES},
	{"switches_per_s", "switches", COMPARE_PER_S, false, COMPARE_SWITCHES, COMPARE_LENGTH},
	{"wakeups_per_s", "wake-ups", COMPARE_PER_S, false, COMPARE_WAKEUPS, COMPARE_LENGTH},
	{"exits_per_s", "exits", COMPARE_PER_S, true, COMPARE_EXITS, COMPARE_LENGTH},
	{"exit_ns", "an exit's hand-off", COMPARE_NS, true, COMPARE_OUT, COMPARE_EXITS},
};
_Static_assert(ARRAY_SIZE(metrics) <= COMPARE_ROWS_MAX, "rows");

static double figure(const struct metric *m, const double v[COMPARE_FIELDS])
{
	double scale = m->unit == COMPARE_PER_S ? NS_PER_S : 1;

	return v[m->under] > 0 ? scale * v[m->over] / v[m->under] : 0;
}

/* Both have it, and it is not nothing on both. */
static bool is_had(const struct metric *m, const struct compare_side *a,
		   const struct compare_side *b)
{
	uint32_t needs = 1u << m->over | 1u << m->under;
	double sum = 0;

	if ((a->has & b->has & needs) != needs)
		return false;
	for (size_t i = 0; i < a->windows; i++)
		sum += a->value[i][m->over];
	for (size_t i = 0; i < b->windows; i++)
		sum += b->value[i][m->over];
	return sum > 0;
}

/* state NULL: as they are; else a resample, by blocks: windows that follow each other are alike,
 * and intervals would be too narrow if each was drawn for itself. */
static void add_up(const struct compare_side *side, size_t block_length, uint64_t *state,
		   double sum[COMPARE_FIELDS])
{
	size_t block = 0;

	for (unsigned f = 0; f < COMPARE_FIELDS; f++)
		sum[f] = 0;
	for (size_t i = 0; i < side->windows; i++) {
		const double *v = side->value[state ? bootstrap_draw_block(state, side->windows,
									   block_length, i, &block)
						    : i];

		for (unsigned f = 0; f < COMPARE_FIELDS; f++)
			sum[f] += v[f];
	}
}

/* The square root: what is alike for some windows fits into a block, and there are as many blocks
 * as a block has windows. */
static size_t block_length(size_t windows)
{
	size_t length = 1;

	while ((length + 1) * (length + 1) <= windows)
		length++;
	return length;
}

/* By how much an interval from so many blocks is too narrow: a bootstrap knows of no values but
 * those that it has. Student's t to the normal's quantile far out, which is about 3 (Abramowitz and
 * Stegun, 26.7.5), and a standard deviation's share for the mean. */
static double too_narrow(size_t blocks)
{
	const double z = 3, z3 = z * z * z, z5 = z3 * z * z, z7 = z5 * z * z;
	double free = (double)MAX(blocks, (size_t)2) - 1;
	double t = z + (z3 + z) / (4 * free) + (5 * z5 + 16 * z3 + 3 * z) / (96 * free * free) +
		   (3 * z7 + 19 * z5 + 17 * z3 - 15 * z) / (384 * free * free * free);

	return t / z * (1 + 0.5 / free);
}

static struct bootstrap_interval widened(struct bootstrap_interval ci, double value, double factor)
{
	return (struct bootstrap_interval){value - (value - ci.low) * factor,
					   value + (ci.high - value) * factor};
}

/* By how much more the one is: as a ratio, for which twice and half are alike far. So nothing is
 * less than none, however small one side is. */
static struct bootstrap_interval widened_ratio(struct bootstrap_interval ci, double more,
					       double factor)
{
	struct bootstrap_interval logs =
		widened((struct bootstrap_interval){log1p(ci.low), log1p(ci.high)}, log1p(more),
			factor);

	return (struct bootstrap_interval){expm1(logs.low), expm1(logs.high)};
}

/* Of the windows that have the figure; room for as many. */
static double median(const struct metric *m, const struct compare_side *side, double *room)
{
	size_t n = 0;

	for (size_t i = 0; i < side->windows; i++)
		if (side->value[i][m->under] > 0)
			room[n++] = figure(m, side->value[i]);
	bootstrap_sort(room, n);
	return n ? bootstrap_middle(room, n) : 0;
}

static double more_than(double more, double less)
{
	return less > 0 ? more / less - 1 : more > 0 ? __builtin_inf() : 0;
}

/* value: of resamples, A's and then B's. difference, more: room for as many. */
static void judge(struct compare_row *row, double (*value)[2], double tail, double factor,
		  double least, double *difference, double *more)
{
	unsigned larger = row->value[1] > row->value[0];
	for (size_t i = 0; i < COMPARE_RESAMPLES; i++) {
		difference[i] = value[i][1] - value[i][0];
		more[i] = more_than(value[i][larger], value[i][!larger]);
	}
	row->difference = widened(bootstrap_interval(difference, COMPARE_RESAMPLES, tail),
				  row->value[1] - row->value[0], factor);
	row->more = more_than(row->value[larger], row->value[!larger]);
	row->more_ci = bootstrap_interval(more, COMPARE_RESAMPLES, tail);
	if (!__builtin_isinf(row->more))
		row->more_ci = widened_ratio(row->more_ci, row->more, factor);
	if (row->more_ci.low > least && (row->difference.low > 0 || row->difference.high < 0))
		row->verdict = larger ? COMPARE_B_MORE : COMPARE_A_MORE;
}

int compare_run(const struct compare_side *a, const struct compare_side *b, double least,
		struct compare_row rows[COMPARE_ROWS_MAX], size_t *ret_rows, struct error *err)
{
	const struct compare_side *side[2] = {a, b};
	const struct metric *had[COMPARE_ROWS_MAX];
	size_t n = 0, most = MAX(MAX(a->windows, b->windows), (size_t)COMPARE_RESAMPLES);
	CLEANUP_FREE double(*value)[COMPARE_RESAMPLES][2] = NULL;
	CLEANUP_FREE double *room = calloc(2 * most, sizeof(*room));
	double sum[2][COMPARE_FIELDS];
	uint64_t state = BOOTSTRAP_SEED;
	double factor = too_narrow(
		MIN(a->windows / block_length(a->windows), b->windows / block_length(b->windows)));

	for (size_t k = 0; k < ARRAY_SIZE(metrics); k++)
		if (is_had(&metrics[k], a, b))
			had[n++] = &metrics[k];
	value = calloc(n + 1, sizeof(*value));
	if (!value || !room)
		return error_set(err, -ENOMEM, "comparing");
	for (size_t i = 0; i < COMPARE_RESAMPLES; i++) {
		for (unsigned s = 0; s < 2; s++) {
			add_up(side[s], block_length(side[s]->windows), &state, sum[s]);
			for (size_t k = 0; k < n; k++)
				value[k][i][s] = figure(had[k], sum[s]);
		}
	}
	for (unsigned s = 0; s < 2; s++)
		add_up(side[s], 0, NULL, sum[s]);
	for (size_t k = 0; k < n; k++) {
		rows[k] = (struct compare_row){.name = had[k]->name,
					       .label = had[k]->label,
					       .unit = had[k]->unit,
					       .cost = had[k]->cost};
		for (unsigned s = 0; s < 2; s++) {
			rows[k].value[s] = figure(had[k], sum[s]);
			rows[k].median[s] = median(had[k], side[s], room);
		}
		judge(&rows[k], value[k], COMPARE_MISSES / 2 / (double)n, factor, least, room,
		      room + most);
	}
	*ret_rows = n;
	return 0;
}

/* ---- in words ------------------------------------------------------------------------------ */

void compare_value_text(const struct compare_row *row, double value, char *buf, size_t len)
{
	switch (row->unit) {
	case COMPARE_SHARE:
		snprintf(buf, len, "%.2f%%", 100 * value);
		break;
	case COMPARE_NS:
		snprintf(buf, len, value < 10000 ? "%.0f ns" : "%.1f us",
			 value < 10000 ? value : value / 1000);
		break;
	case COMPARE_PER_S:
		snprintf(buf, len, value < 10 ? "%.1f/s" : "%.0f/s", value);
		break;
	}
}

/* A percentage that is not more exact than it is worth. */
static void put_percent(double share, char *buf, size_t len)
{
	if (__builtin_isinf(share))
		snprintf(buf, len, "...");
	else
		snprintf(buf, len, share < 0.1 ? "%.1f" : "%.0f", 100 * share);
}

void compare_verdict_text(const struct compare_row *row, char *buf, size_t len)
{
	const char *who = row->verdict == COMPARE_A_MORE ? "A" : "B";
	char more[32], low[32], high[32];

	if (row->verdict == COMPARE_SAME) {
		snprintf(buf, len, "no difference");
		return;
	}
	if (__builtin_isinf(row->more)) {
		snprintf(buf, len, "only %s has any", who);
		return;
	}
	put_percent(row->more, more, sizeof(more));
	put_percent(row->more_ci.low, low, sizeof(low));
	put_percent(row->more_ci.high, high, sizeof(high));
	snprintf(buf, len,
		 row->cost ? "%s is dearer by %s%% [%s, %s]" : "%s has %s%% more [%s, %s]", who,
		 more, low, high);
}

/* JSON has no infinity. */
static json_t *real(double value)
{
	return __builtin_isinf(value) ? json_null() : json_real(value);
}

json_t *compare_row_json(const struct compare_row *row)
{
	static const char *const units[] = {
		[COMPARE_SHARE] = "share",
		[COMPARE_NS] = "ns",
		[COMPARE_PER_S] = "1/s",
	};
	static const char *const verdicts[] = {
		[COMPARE_SAME] = "no difference",
		[COMPARE_A_MORE] = "A has more",
		[COMPARE_B_MORE] = "B has more",
	};
	char text[128];

	compare_verdict_text(row, text, sizeof(text));
	return json_pack("{s:s, s:s, s:b, s:f, s:f, s:f, s:f, s:[f, f], s:o, s:[o, o], s:s, s:s}",
			 "metric", row->name, "unit", units[row->unit], "cost", (int)row->cost, "a",
			 row->value[0], "b", row->value[1], "a_median", row->median[0], "b_median",
			 row->median[1], "difference", row->difference.low, row->difference.high,
			 "more", real(row->more), "more_interval", real(row->more_ci.low),
			 real(row->more_ci.high), "verdict", verdicts[row->verdict], "text", text);
}
