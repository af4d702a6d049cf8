/* What a set of measured rounds says: medians, intervals by bootstrap, verdicts. Pure; any
 * thread. Every interval is nominally one of 95 %: of five passes that differ, 89 to 94 % hold
 * what they should (docs/decisions.md); of one pass, far fewer. */
#ifndef STASIS_BENCH_STATS_H
#define STASIS_BENCH_STATS_H

#include <stdbool.h>
#include <stddef.h>

#include "base/bootstrap.h"

#define STATS_RESAMPLES 2000

/* Of the n values (n not 0), in any order. False without memory. */
bool stats_median(const double *values, size_t n, double *ret_median);

/* What one round measured: the median of the floor's samples and of the product's. They were taken
 * one after the other, so that what the host does to one it does to the other: a resample draws
 * rounds, not values. Rounds of a pass stand together; a process measured them, at one time, and
 * they have in common what differs from one to the next: a resample draws passes, and then rounds
 * of each that it has drawn. */
struct stats_round {
	double floor, product;
	unsigned pass;
};
struct stats_ratio {
	double floor, product; /* the medians of the rounds' */
	double ratio;	       /* … product / floor */
	struct bootstrap_interval ratio_ci, floor_ci, product_ci;
};
/* n is not 0. False without memory. The same rounds give the same interval, always. Of five passes
 * that differ much it is a little too narrow, of fewer more so, of one nearly always. */
bool stats_ratio_of(const struct stats_round *rounds, size_t n, struct stats_ratio *ret_ratio);

enum stats_verdict { STATS_NO_DIFFERENCE, STATS_LESS, STATS_MORE };
/* Whether the ratio to the floor has changed from before to now: the interval of the quotient of
 * both ratios excludes 1. Neither is empty. *ret_quotient is the interval, as now / before. */
bool stats_compare(const struct stats_round *before, size_t before_n, const struct stats_round *now,
		   size_t now_n, enum stats_verdict *ret_verdict,
		   struct bootstrap_interval *ret_quotient);

#endif
