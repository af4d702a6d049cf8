/* The bootstrap: how far a figure of measured values would move if others had been drawn (Efron,
 * "Bootstrap methods: another look at the jackknife", 1979). Pure; any thread. */
#ifndef STASIS_BASE_BOOTSTRAP_H
#define STASIS_BASE_BOOTSTRAP_H

#include <stddef.h>
#include <stdint.h>

#include "base/random.h"

#define BOOTSTRAP_SEED UINT64_C(0x5eed5eed5eed5eed) /* the same values give the same interval */

struct bootstrap_interval {
	double low, high;
};

/* Which of n comes next in a resample; n is not 0. */
static inline size_t bootstrap_draw(uint64_t *state, size_t n)
{
	return random_next(state) % n;
}

/* Which of n, in their order, is the i-th (from 0, one after the other) of a resample by blocks of
 * that length (Politis, Romano, "A circular block-resampling procedure", 1992). What is
 * like its neighbours stays beside them. *block is the caller's, and this function's. */
static inline size_t bootstrap_draw_block(uint64_t *state, size_t n, size_t length, size_t i,
					  size_t *block)
{
	if (i % length == 0)
		*block = bootstrap_draw(state, n);
	return (*block + i % length) % n;
}

void bootstrap_sort(double *values, size_t n);
/* One of the n values, the smallest that at least share of them (0 to 1) do not exceed; n is not
 * 0. sorted is ascending. */
double bootstrap_percentile(const double *sorted, size_t n, double share);
/* Between the two in the middle where n is even. n is not 0. */
double bootstrap_middle(const double *sorted, size_t n);
/* Of a figure of n resamples, of which the share tail lies below, and as much above. Sorts them. */
struct bootstrap_interval bootstrap_interval(double *values, size_t n, double tail);

#endif
