/* Order statistics of resamples. Pure; any thread. */
#include "base/bootstrap.h"

#include <assert.h>
#include <stdlib.h>

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

void bootstrap_sort(double *values, size_t n)
{
	qsort(values, n, sizeof(*values), by_value);
}

double bootstrap_percentile(const double *sorted, size_t n, double share)
{
	double exact = share * (double)n;
	size_t rank = (size_t)exact;

	assert(n > 0);
	rank += (double)rank < exact;
	return sorted[rank < 1 ? 0 : rank > n ? n - 1 : rank - 1];
}

double bootstrap_middle(const double *sorted, size_t n)
{
	return n % 2 ? sorted[n / 2] : (sorted[n / 2 - 1] + sorted[n / 2]) / 2;
}

struct bootstrap_interval bootstrap_interval(double *values, size_t n, double tail)
{
	bootstrap_sort(values, n);
	return (struct bootstrap_interval){bootstrap_percentile(values, n, tail),
					   bootstrap_percentile(values, n, 1 - tail)};
}
