/* A log-linear histogram: 64 steps of equal width to each power of two, so that the middle of a
 * step is within 0.8 % of every value in it. One thread adds, any thread reads meanwhile.
 *
 * Steps are kept in chunks of 32, taken from a pool when the first value falls into one: a
 * histogram costs what its values are spread over, and a pool its memory only where touched. */
#ifndef STASIS_BASE_HISTOGRAM_H
#define STASIS_BASE_HISTOGRAM_H

#include <stdatomic.h>

#include "base/compiler.h"

#define HISTOGRAM_STEP_BITS 6  /* 64 steps to a power of two */
#define HISTOGRAM_BITS	    44 /* values from 2^44 on count as the largest below it */
#define HISTOGRAM_STEPS	    ((HISTOGRAM_BITS - HISTOGRAM_STEP_BITS + 1u) << HISTOGRAM_STEP_BITS)
#define HISTOGRAM_CHUNK	    32u
#define HISTOGRAM_CHUNKS    (HISTOGRAM_STEPS / HISTOGRAM_CHUNK)

/* Where one thread's histograms keep their counts. memory is zeroed, and the owner's. */
struct histogram_pool {
	_Atomic uint64_t (*memory)[HISTOGRAM_CHUNK];
	uint16_t chunks, used; /* the writer's; chunk 0 is never given out: it means none */
};

/* Zeroed: empty. All fields are the writer's, and read relaxed but where named. */
struct histogram {
	_Atomic uint64_t sum, max;
	_Atomic uint64_t lost; /* values that no chunk was left for; sum and max know them */
	_Atomic uint16_t chunk[HISTOGRAM_CHUNKS]; /* of the pool */
};

/* Plain, for reading: what one or more histograms add up to. Large: on the heap. */
struct histogram_total {
	uint64_t count; /* of all values, the lost ones too */
	uint64_t sum, max, lost;
	uint64_t step[HISTOGRAM_STEPS];
};

/* Which step a value falls into: up to 127 its own, then 64 to each power of two. */
static inline unsigned histogram_step(uint64_t value)
{
	unsigned shift;

	if (value >= UINT64_C(1) << HISTOGRAM_BITS)
		value = (UINT64_C(1) << HISTOGRAM_BITS) - 1;
	if (value < 1u << (HISTOGRAM_STEP_BITS + 1))
		return (unsigned)value;
	shift = 63u - HISTOGRAM_STEP_BITS - (unsigned)__builtin_clzll(value);
	return (shift << HISTOGRAM_STEP_BITS) + (unsigned)(value >> shift);
}

/* The least value of a step, and how many values it has. */
uint64_t histogram_step_from(unsigned step);
uint64_t histogram_step_width(unsigned step);

void histogram_pool_init(struct histogram_pool *pool, _Atomic uint64_t (*memory)[HISTOGRAM_CHUNK],
			 uint16_t chunks);
/* The writer's thread; pool is the same for every value of h. */
void histogram_add(struct histogram *h, struct histogram_pool *pool, uint64_t value);

/* Adds what h holds to total; memory is its pool's. Any thread: each count is one that it had a
 * moment ago. */
void histogram_read(const struct histogram *h, const _Atomic uint64_t (*memory)[HISTOGRAM_CHUNK],
		    struct histogram_total *total);
/* Adds one total to another. */
void histogram_merge(struct histogram_total *into, const struct histogram_total *from);
/* A value that a share q (0 to 1) of all values is at or below: the middle of its step, and no more
 * than the largest value. 0 when empty. Lost values count nowhere. */
double histogram_quantile(const struct histogram_total *total, double q);
/* Every step that holds something, as "FROM:COUNT FROM:COUNT …", FROM times scale, rounded.
 * malloc'ed; NULL when out of memory. */
char *histogram_text(const struct histogram_total *total, double scale);

#endif
