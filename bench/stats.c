/* Percentiles, and a bootstrap over rounds. Pure; any thread. */
#include "stats.h"

#include <assert.h>
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/random.h"
#include "base/util.h"

/* Of all resamples, this share lies below the interval, and as many above. */
#define TAIL 0.025
#define SEED 0x5eed5eed5eed5eedu

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

void stats_sort(double *values, size_t n)
{
	qsort(values, n, sizeof(*values), by_value);
}

double stats_percentile(const double *sorted, size_t n, double share)
{
	double rank = ceil(share * (double)n);

	assert(n > 0);
	return sorted[rank < 1 ? 0 : rank > (double)n ? n - 1 : (size_t)rank - 1];
}

/* Between the two in the middle where n is even. */
static double middle(const double *sorted, size_t n)
{
	return n % 2 ? sorted[n / 2] : (sorted[n / 2 - 1] + sorted[n / 2]) / 2;
}

bool stats_median(const double *values, size_t n, double *ret_median)
{
	CLEANUP_FREE double *sorted = calloc(n, sizeof(*sorted));

	if (!sorted)
		return false;
	memcpy(sorted, values, n * sizeof(*sorted));
	stats_sort(sorted, n);
	*ret_median = middle(sorted, n);
	return true;
}

/* Rounds, and room for a resample of them. */
struct sampler {
	const struct stats_round *rounds;
	size_t n;
	double *floor, *product;
};

static bool sampler_init(struct sampler *s, const struct stats_round *rounds, size_t n)
{
	*s = (struct sampler){.rounds = rounds, .n = n};
	s->floor = calloc(n, sizeof(*s->floor));
	s->product = calloc(n, sizeof(*s->product));
	return s->floor && s->product;
}

static void sampler_done(struct sampler *s)
{
	free(s->floor);
	free(s->product);
}

/* The medians of the rounds as they are, or of a resample of them where state is given. */
static struct stats_round sampler_medians(struct sampler *s, uint64_t *state)
{
	for (size_t i = 0; i < s->n; i++) {
		const struct stats_round *round = &s->rounds[state ? random_next(state) % s->n : i];

		s->floor[i] = round->floor;
		s->product[i] = round->product;
	}
	stats_sort(s->floor, s->n);
	stats_sort(s->product, s->n);
	return (struct stats_round){middle(s->floor, s->n), middle(s->product, s->n)};
}

static struct stats_interval interval_of(double *values)
{
	stats_sort(values, STATS_RESAMPLES);
	return (struct stats_interval){stats_percentile(values, STATS_RESAMPLES, TAIL),
				       stats_percentile(values, STATS_RESAMPLES, 1 - TAIL)};
}

bool stats_ratio_of(const struct stats_round *rounds, size_t n, struct stats_ratio *ret_ratio)
{
	CLEANUP_FREE double *ratio = calloc(3 * STATS_RESAMPLES, sizeof(*ratio));
	double *floor = ratio + STATS_RESAMPLES, *product = floor + STATS_RESAMPLES;
	struct stats_round medians;
	struct sampler s = {0};
	uint64_t state = SEED;
	bool ok = ratio && sampler_init(&s, rounds, n);

	if (ok) {
		for (size_t i = 0; i < STATS_RESAMPLES; i++) {
			medians = sampler_medians(&s, &state);
			floor[i] = medians.floor;
			product[i] = medians.product;
			ratio[i] = medians.product / medians.floor;
		}
		medians = sampler_medians(&s, NULL);
		*ret_ratio = (struct stats_ratio){
			.ratio = medians.product / medians.floor,
			.ratio_ci = interval_of(ratio),
			.floor_ci = interval_of(floor),
			.product_ci = interval_of(product),
		};
	}
	sampler_done(&s);
	return ok;
}

bool stats_compare(const struct stats_round *before, size_t before_n, const struct stats_round *now,
		   size_t now_n, enum stats_verdict *ret_verdict,
		   struct stats_interval *ret_quotient)
{
	CLEANUP_FREE double *quotient = calloc(STATS_RESAMPLES, sizeof(*quotient));
	struct sampler old = {0}, new = {0};
	uint64_t state = SEED;
	bool ok =
		quotient && sampler_init(&old, before, before_n) && sampler_init(&new, now, now_n);

	if (ok) {
		struct stats_interval ci;

		for (size_t i = 0; i < STATS_RESAMPLES; i++) {
			struct stats_round b = sampler_medians(&old, &state);
			struct stats_round a = sampler_medians(&new, &state);

			quotient[i] = a.product / a.floor / (b.product / b.floor);
		}
		ci = interval_of(quotient);
		*ret_verdict = ci.low > 1    ? STATS_MORE
			       : ci.high < 1 ? STATS_LESS
					     : STATS_NO_DIFFERENCE;
		*ret_quotient = ci;
	}
	sampler_done(&old);
	sampler_done(&new);
	return ok;
}
