/* Tables of results, and what has changed since earlier ones. */
#include "report.h"

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "base/util.h"

int report_make(const struct results *r, struct report_row **ret_rows, size_t *ret_n,
		struct error *err)
{
	CLEANUP_FREE struct report_row *rows = calloc(r->rows + 1, sizeof(*rows));
	size_t n = 0;

	if (!rows)
		return error_set_shortage(err, -ENOMEM, "making the report");
	for (size_t i = 0; i < r->rows; i++) {
		CLEANUP_FREE struct stats_round *rounds = NULL;
		struct report_row *row = &rows[n];
		int e = results_medians(r->row[i], &rounds, &row->rounds, err);

		row->row = r->row[i];
		if (e == 0 && row->rounds > 0 && !stats_ratio_of(rounds, row->rounds, &row->ratio))
			e = error_set_shortage(err, -ENOMEM, "making the report");
		/* Of the rounds, as the ratio is: the columns divided are what the other table
		 * says. */
		row->p50[RESULTS_FLOOR] = row->ratio.floor;
		row->p50[RESULTS_PRODUCT] = row->ratio.product;
		for (int side = 0; e == 0 && row->rounds > 0 && side < RESULTS_SIDES; side++) {
			CLEANUP_FREE double *values = NULL;

			e = results_sorted(r->row[i], (enum results_side)side, &values,
					   &row->samples, err);
			if (e < 0)
				break;
			/* The bad end: low where more is better. */
			row->p99[side] =
				bootstrap_percentile(values, row->samples,
						     r->row[i]->spec.more_is_better ? 0.01 : 0.99);
		}
		if (e < 0)
			return e;
		n += row->rounds > 0;
	}
	*ret_rows = rows;
	rows = NULL;
	*ret_n = n;
	return 0;
}

/* Rounds of a pass stand together. */
size_t report_passes(const struct results_row *row)
{
	size_t n = row->rounds > 0;

	for (size_t i = 1; i < row->rounds; i++)
		n += row->round[i].pass != row->round[i - 1].pass;
	return n;
}

const char *report_number(double value, const char *unit, char *buf, size_t len)
{
	static const struct {
		const char *unit, *larger;
		double times;
	} units[] = {{"ns", "us", 1000},
		     {"us", "ms", 1000},
		     {"ms", "s", 1000},
		     {"B", "KiB", 1024},
		     {"KiB", "MiB", 1024}};

	for (size_t i = 0; i < ARRAY_SIZE(units); i++) {
		if (!strcmp(unit, units[i].unit) && value >= units[i].times) {
			value /= units[i].times;
			unit = units[i].larger;
		}
	}
	snprintf(buf, len,
		 value < 10    ? "%.2f %s"
		 : value < 100 ? "%.1f %s"
			       : "%.0f %s",
		 value, unit);
	text_one_line(buf); /* a unit is a file's, too */
	return buf;
}

const char *report_text(const char *text, char *buf, size_t len)
{
	snprintf(buf, len, "%s", text);
	text_one_line(buf);
	return buf;
}

static void print_values(FILE *out, const struct report_row *rows, size_t n)
{
	char text[4][32], name[REPORT_NAME], what[REPORT_WHAT];

	fprintf(out, "%-18s %11s %11s %11s %11s %7s  %s\n", "", "floor p50", "p99", "stasis p50",
		"p99", "rounds", "");
	for (size_t i = 0; i < n; i++) {
		const struct report_row *r = &rows[i];

		for (int k = 0; k < 4; k++)
			report_number(k % 2 ? r->p99[k / 2] : r->p50[k / 2], r->row->spec.unit,
				      text[k], sizeof(text[k]));
		fprintf(out, "%-18s %11s %11s %11s %11s %7zu  %s\n",
			report_text(r->row->spec.name, name, sizeof(name)), text[0], text[1],
			text[2], text[3], r->rounds,
			report_text(r->row->spec.what, what, sizeof(what)));
	}
}

/* By the whole interval: a benchmark never fails, it says what can be said. */
static const char *against(const struct bootstrap_interval *ci, double goal, bool more_is_better)
{
	if (more_is_better)
		return ci->low >= goal ? "met" : ci->high < goal ? "missed" : "open";
	return ci->high <= goal ? "met" : ci->low > goal ? "missed" : "open";
}

static PRINTF_LIKE(3, 4) void append(char *buf, size_t len, const char *fmt, ...)
{
	size_t at = strlen(buf);
	va_list ap;

	if (at > 0)
		at += (size_t)snprintf(buf + at, len - at, "; ");
	if (at >= len)
		return;
	va_start(ap, fmt);
	vsnprintf(buf + at, len - at, fmt, ap);
	va_end(ap);
}

const char *report_goals(const struct report_row *r, char *buf, size_t len)
{
	const struct results_spec *spec = &r->row->spec;
	const char *side = spec->more_is_better ? "at least" : "at most";
	double tail = r->p99[RESULTS_PRODUCT] / r->p99[RESULTS_FLOOR];
	char text[32];

	buf[0] = '\0';
	if (spec->goal > 0)
		append(buf, len, "%s %.2f: %s", side, spec->goal,
		       against(&r->ratio.ratio_ci, spec->goal, spec->more_is_better));
	if (spec->goal_p99 > 0)
		append(buf, len, "p99 %s %.2f: %s", side, spec->goal_p99,
		       (tail <= spec->goal_p99) != spec->more_is_better ? "met" : "missed");
	if (spec->limit > 0)
		append(buf, len, "at most %s: %s",
		       report_number(spec->limit, spec->unit, text, sizeof(text)),
		       against(&r->ratio.product_ci, spec->limit, false));
	if (!buf[0])
		append(buf, len, "%s is better", spec->more_is_better ? "more" : "less");
	return buf;
}

void report_print(FILE *out, const struct report_row *rows, size_t n)
{
	char name[REPORT_NAME], goals[REPORT_GOALS];

	print_values(out, rows, n);
	fprintf(out, "\n%-18s %6s  %-16s %6s   %s\n", "stasis / floor", "ratio", "95 % interval",
		"p99", "goal");
	for (size_t i = 0; i < n; i++) {
		const struct report_row *r = &rows[i];

		fprintf(out, "%-18s %6.3f  %6.3f to %6.3f %6.2f ",
			report_text(r->row->spec.name, name, sizeof(name)), r->ratio.ratio,
			r->ratio.ratio_ci.low, r->ratio.ratio_ci.high,
			r->p99[RESULTS_PRODUCT] / r->p99[RESULTS_FLOOR]);
		fprintf(out, "  %s\n", report_goals(r, goals, sizeof(goals)));
	}
}

/* ---- then and now ---------------------------------------------------------------------- */

static const char *verdict_text(const struct results_spec *spec, enum stats_verdict verdict)
{
	bool size = !strcmp(spec->unit, "B") || !strcmp(spec->unit, "KiB");

	if (verdict == STATS_NO_DIFFERENCE)
		return "no difference seen";
	if (size)
		return verdict == STATS_LESS ? "smaller" : "larger";
	return (verdict == STATS_MORE) == spec->more_is_better ? "faster" : "slower";
}

/* Rows that both have; of how many of them a side has one pass. */
struct compared {
	size_t rows, old_alone, new_alone;
};

/* Rounds of a pass stand together. */
static bool is_one_pass(const struct stats_round *rounds, size_t n)
{
	return rounds[0].pass == rounds[n - 1].pass;
}

static int compare_row(FILE *out, const struct results_row *before, const struct results_row *now,
		       struct compared *all, struct error *err)
{
	CLEANUP_FREE struct stats_round *old = NULL, *new = NULL;
	size_t old_n = 0, new_n = 0;
	enum stats_verdict verdict;
	struct bootstrap_interval q;
	char name[REPORT_NAME];
	int r = results_medians(before, &old, &old_n, err);

	if (r == 0)
		r = results_medians(now, &new, &new_n, err);
	if (r < 0 || old_n == 0 || new_n == 0)
		return r;
	if (!stats_compare(old, old_n, new, new_n, &verdict, &q))
		return error_set_shortage(err, -ENOMEM, "comparing");
	fprintf(out, "%-18s %-19s  now / before: %.3f to %.3f\n",
		report_text(now->spec.name, name, sizeof(name)), verdict_text(&now->spec, verdict),
		q.low, q.high);
	all->rows++;
	all->old_alone += is_one_pass(old, old_n);
	all->new_alone += is_one_pass(new, new_n);
	return 0;
}

/* Of two runs of the same with passes that differ, a third and more "differ" then. */
static void tell_alone(FILE *out, const char *whose, size_t alone, const struct compared *all)
{
	if (alone == 0)
		return;
	fprintf(out, "%s: ", whose);
	if (alone < all->rows)
		fprintf(out, "%zu of these %zu rows are of one pass", alone, all->rows);
	else
		fprintf(out, "of one pass");
	fprintf(out, "; what differs from process to process is not in its\n"
		     "intervals, and may be all that is faster or slower here\n");
}

int report_compare(FILE *out, const struct results *before, const char *path,
		   const struct results *now, struct error *err)
{
	struct compared all = {0};

	for (size_t i = 0; i < now->rows; i++) {
		const struct results_row *old = results_find(before, now->row[i]->spec.name);
		char name[REPORT_NAME];
		int r = old ? compare_row(out, old, now->row[i], &all, err) : 0;

		if (r < 0)
			return r;
		if (!old)
			fprintf(out, "%-18s was not measured before\n",
				report_text(now->row[i]->spec.name, name, sizeof(name)));
	}
	tell_alone(out, path, all.old_alone, &all);
	tell_alone(out, "this run", all.new_alone, &all);
	return 0;
}
