/* Results for people: tables, plots, comparisons. Any thread, one at a time. */
#ifndef STASIS_BENCH_REPORT_H
#define STASIS_BENCH_REPORT_H

#include <stdio.h>

#include "results.h"

#define REPORT_NAME  64 /* bytes that are shown of a row's name, … */
#define REPORT_WHAT  160
#define REPORT_GOALS 128 /* bytes that hold what is said of any row's */

/* What is shown of a row that has rounds of both sides. */
struct report_row {
	const struct results_row *row;
	struct stats_ratio ratio;
	double p50[RESULTS_SIDES], p99[RESULTS_SIDES];
	size_t rounds, samples;
};

/* Makes *ret_rows (malloc'ed) of those that were measured. */
int report_make(const struct results *r, struct report_row **ret_rows, size_t *ret_n,
		struct error *err) MUST_CHECK;
/* Times and sizes, then the ratios, last. */
void report_print(FILE *out, const struct report_row *rows, size_t n);
/* Of how many passes a row has rounds. */
size_t report_passes(const struct results_row *row);
/* What a row's goals came to, "at most 1.10: met; …", or which way is better. Returns buf. */
const char *report_goals(const struct report_row *r, char *buf, size_t len);
/* Ratios on one logarithmic axis. A limit of the product alone stands where it would be reached
 * with this floor. host: facts of it, or NULL. */
void report_plot_text(FILE *out, const struct report_row *rows, size_t n);
void report_plot_svg(FILE *out, const struct report_row *rows, size_t n, const json_t *host);
/* A verdict for each row that both have, and of what has one pass that verdicts are worth less;
 * path: what before is called. */
int report_compare(FILE *out, const struct results *before, const char *path,
		   const struct results *now, struct error *err) MUST_CHECK;

/* What a file may have brought, as it can be shown: buf, with as much of text as fits, on one line
 * and without what drives a terminal. */
const char *report_text(const char *text, char *buf, size_t len);
/* A number of a unit as people write it: "12.3 us". buf of 32 is enough. */
const char *report_number(double value, const char *unit, char *buf, size_t len);

#endif
