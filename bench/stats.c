/* Medians, and a bootstrap over rounds. Pure; any thread. */
#include "stats.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/util.h"

/* Of all resamples, this share lies below the interval, and as many above. */
#define TAIL 0.025

bool stats_median(const double *values, size_t n, double *ret_median)
{
	CLEANUP_FREE double *sorted = calloc(n, sizeof(*sorted));

	if (!sorted)
		return false;
	memcpy(sorted, values, n * sizeof(*sorted));
	bootstrap_sort(sorted, n);
	*ret_median = bootstrap_middle(sorted, n);
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
		const struct stats_round *round =
			&s->rounds[state ? bootstrap_draw(state, s->n) : i];

		s->floor[i] = round->floor;
		s->product[i] = round->product;
	}
	bootstrap_sort(s->floor, s->n);
	bootstrap_sort(s->product, s->n);
	return (struct stats_round){bootstrap_middle(s->floor, s->n),
				    bootstrap_middle(s->product, s->n)};
}

static struct bootstrap_interval interval_of(double *values)
{
	return bootstrap_interval(values, STATS_RESAMPLES, TAIL);
}

bool stats_ratio_of(const struct stats_round *rounds, size_t n, struct stats_ratio *ret_ratio)
{
	CLEANUP_FREE double *ratio = calloc(3 * STATS_RESAMPLES, sizeof(*ratio));
	double *floor = ratio + STATS_RESAMPLES, *product = floor + STATS_RESAMPLES;
	struct stats_round medians;
	struct sampler s = {0};
	uint64_t state = BOOTSTRAP_SEED;
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
		   struct bootstrap_interval *ret_quotient)
{
	CLEANUP_FREE double *quotient = calloc(STATS_RESAMPLES, sizeof(*quotient));
	struct sampler old = {0}, new = {0};
	uint64_t state = BOOTSTRAP_SEED;
	bool ok =
		quotient && sampler_init(&old, before, before_n) && sampler_init(&new, now, now_n);

	if (ok) {
		struct bootstrap_interval ci;

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
