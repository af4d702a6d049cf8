/* Medians, and a bootstrap over passes and their rounds. Pure; any thread. */
#include "stats.h"

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/util.h"

/* Of all resamples of one pass, this share lies below the interval, and as many above. */
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

struct place {
	double value;
	size_t round;
};

/* Rounds, and how often each is in a resample. A median is then found without sorting again. */
struct sampler {
	size_t n, passes;
	size_t *begin;		       /* of each pass, the first of its rounds; at last, n */
	struct place *floor, *product; /* of each round, ascending */
	size_t *drawn;
};

static int by_value(const void *a, const void *b)
{
	double x = ((const struct place *)a)->value, y = ((const struct place *)b)->value;

	return (x > y) - (x < y);
}

static bool sampler_init(struct sampler *s, const struct stats_round *rounds, size_t n)
{
	*s = (struct sampler){.n = n};
	s->begin = calloc(n + 1, sizeof(*s->begin));
	s->floor = calloc(n, sizeof(*s->floor));
	s->product = calloc(n, sizeof(*s->product));
	s->drawn = calloc(n, sizeof(*s->drawn));
	if (!s->begin || !s->floor || !s->product || !s->drawn)
		return false;
	for (size_t i = 0; i < n; i++) {
		s->floor[i] = (struct place){rounds[i].floor, i};
		s->product[i] = (struct place){rounds[i].product, i};
		if (i + 1 == n || rounds[i + 1].pass != rounds[i].pass)
			s->begin[++s->passes] = i + 1;
	}
	qsort(s->floor, n, sizeof(*s->floor), by_value);
	qsort(s->product, n, sizeof(*s->product), by_value);
	return true;
}

static void sampler_done(struct sampler *s)
{
	free(s->begin);
	free(s->floor);
	free(s->product);
	free(s->drawn);
}

/* The median of n values, of which each is there as often as its round was drawn. */
static double middle(const struct place *sorted, const size_t *drawn, size_t n)
{
	size_t at = 0, seen = drawn[sorted[0].round];
	double low;

	while (seen <= (n - 1) / 2)
		seen += drawn[sorted[++at].round];
	low = sorted[at].value;
	while (seen <= n / 2)
		seen += drawn[sorted[++at].round];
	return (low + sorted[at].value) / 2;
}

static struct stats_round medians(const struct sampler *s, size_t n)
{
	return (struct stats_round){.floor = middle(s->floor, s->drawn, n),
				    .product = middle(s->product, s->drawn, n)};
}

/* Of the rounds as they are. */
static struct stats_round sampler_medians(struct sampler *s)
{
	for (size_t i = 0; i < s->n; i++)
		s->drawn[i] = 1;
	return medians(s, s->n);
}

/* Of a resample: as many passes, and of each as many rounds as it has. */
static struct stats_round sampler_draw(struct sampler *s, uint64_t *state)
{
	size_t n = 0;

	memset(s->drawn, 0, s->n * sizeof(*s->drawn));
	for (size_t i = 0; i < s->passes; i++) {
		size_t pass = s->passes > 1 ? bootstrap_draw(state, s->passes) : 0;
		size_t from = s->begin[pass], rounds = s->begin[pass + 1] - from;

		for (size_t k = 0; k < rounds; k++)
			s->drawn[from + bootstrap_draw(state, rounds)]++;
		n += rounds;
	}
	return medians(s, n);
}

/* ---- intervals ------------------------------------------------------------------------- */

/* Which share of resamples lies below an interval, and as many above, of a figure of one set of
 * passes or of two (else b is 1). What is drawn from k passes varies less than what k passes of the
 * world would, by sqrt((k - 1) / k), the bootstrap's narrowness bias: percentiles further out make
 * up for it (Hesterberg, "What teachers should know about the bootstrap", The American Statistician
 * 69, 2015). One pass has nothing to tell of others: then it is as it is. */
static double tail_of(size_t a, size_t b)
{
	const double z = 1.959964; /* what the normal exceeds with probability TAIL */
	double k = (double)(MIN(a, b) > 1 ? MIN(a, b) : MAX(a, b));

	return k > 1 ? erfc(z * sqrt(k / (k - 1)) / sqrt(2)) / 2 : TAIL;
}

bool stats_ratio_of(const struct stats_round *rounds, size_t n, struct stats_ratio *ret_ratio)
{
	CLEANUP_FREE double *ratio = calloc(3 * STATS_RESAMPLES, sizeof(*ratio));
	double *floor = ratio + STATS_RESAMPLES, *product = floor + STATS_RESAMPLES;
	struct stats_round m;
	struct sampler s = {0};
	uint64_t state = BOOTSTRAP_SEED;
	bool ok = ratio && sampler_init(&s, rounds, n);

	if (ok) {
		double tail = tail_of(s.passes, 1);

		for (size_t i = 0; i < STATS_RESAMPLES; i++) {
			m = sampler_draw(&s, &state);
			floor[i] = m.floor;
			product[i] = m.product;
			ratio[i] = m.product / m.floor;
		}
		m = sampler_medians(&s);
		*ret_ratio = (struct stats_ratio){
			.floor = m.floor,
			.product = m.product,
			.ratio = m.product / m.floor,
			.ratio_ci = bootstrap_interval(ratio, STATS_RESAMPLES, tail),
			.floor_ci = bootstrap_interval(floor, STATS_RESAMPLES, tail),
			.product_ci = bootstrap_interval(product, STATS_RESAMPLES, tail),
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
			struct stats_round b = sampler_draw(&old, &state);
			struct stats_round a = sampler_draw(&new, &state);

			quotient[i] = a.product / a.floor / (b.product / b.floor);
		}
		ci = bootstrap_interval(quotient, STATS_RESAMPLES, tail_of(old.passes, new.passes));
		*ret_verdict = ci.low > 1    ? STATS_MORE
			       : ci.high < 1 ? STATS_LESS
					     : STATS_NO_DIFFERENCE;
		*ret_quotient = ci;
	}
	sampler_done(&old);
	sampler_done(&new);
	return ok;
}
