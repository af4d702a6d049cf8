/* Log-linear histograms: adding, reading, quantiles. See histogram.h for the steps and threads. */
#include "base/histogram.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

uint64_t histogram_step_from(unsigned step)
{
	unsigned shift = step >> HISTOGRAM_STEP_BITS;

	if (shift < 2)
		return step;
	/* The step's number is shift - 1 times 64, and the value's upper seven bits. */
	return (uint64_t)(step - ((shift - 1) << HISTOGRAM_STEP_BITS)) << (shift - 1);
}

uint64_t histogram_step_width(unsigned step)
{
	unsigned shift = step >> HISTOGRAM_STEP_BITS;

	return shift < 2 ? 1 : UINT64_C(1) << (shift - 1);
}

void histogram_pool_init(struct histogram_pool *pool, _Atomic uint64_t (*memory)[HISTOGRAM_CHUNK],
			 uint16_t chunks)
{
	*pool = (struct histogram_pool){.memory = memory, .chunks = chunks, .used = 1};
}

/* Relaxed, and no read-modify-write: one writer; readers want a recent value only. */
static void plus(_Atomic uint64_t *counter, uint64_t n)
{
	atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + n,
			      memory_order_relaxed);
}

void histogram_add(struct histogram *h, struct histogram_pool *pool, uint64_t value)
{
	unsigned step = histogram_step(value);
	_Atomic uint16_t *place = &h->chunk[step / HISTOGRAM_CHUNK];
	uint16_t chunk = atomic_load_explicit(place, memory_order_relaxed);

	plus(&h->sum, value);
	if (value > atomic_load_explicit(&h->max, memory_order_relaxed))
		atomic_store_explicit(&h->max, value, memory_order_relaxed);
	if (unlikely(!chunk)) {
		if (pool->used >= pool->chunks) {
			plus(&h->lost, 1);
			return;
		}
		chunk = pool->used++;
		/* Relaxed: the chunk was zero before any thread could read it. */
		atomic_store_explicit(place, chunk, memory_order_relaxed);
	}
	plus(&pool->memory[chunk][step % HISTOGRAM_CHUNK], 1);
}

void histogram_read(const struct histogram *h, const _Atomic uint64_t (*memory)[HISTOGRAM_CHUNK],
		    struct histogram_total *total)
{
	uint64_t max = atomic_load_explicit(&h->max, memory_order_relaxed);
	uint64_t lost = atomic_load_explicit(&h->lost, memory_order_relaxed);

	total->sum += atomic_load_explicit(&h->sum, memory_order_relaxed);
	total->max = MAX(total->max, max);
	total->lost += lost;
	total->count += lost;
	for (unsigned i = 0; i < HISTOGRAM_CHUNKS; i++) {
		uint16_t chunk = atomic_load_explicit(&h->chunk[i], memory_order_relaxed);

		for (unsigned k = 0; chunk && k < HISTOGRAM_CHUNK; k++) {
			uint64_t n = atomic_load_explicit(&memory[chunk][k], memory_order_relaxed);

			total->step[i * HISTOGRAM_CHUNK + k] += n;
			total->count += n;
		}
	}
}

void histogram_merge(struct histogram_total *into, const struct histogram_total *from)
{
	into->count += from->count;
	into->sum += from->sum;
	into->lost += from->lost;
	into->max = MAX(into->max, from->max);
	for (unsigned i = 0; i < HISTOGRAM_STEPS; i++)
		into->step[i] += from->step[i];
}

double histogram_quantile(const struct histogram_total *total, double q)
{
	uint64_t known = total->count - total->lost, seen = 0, rank;

	if (known == 0)
		return 0;
	rank = (uint64_t)(q * (double)known);
	rank += (double)rank < q * (double)known;
	for (unsigned i = 0; i < HISTOGRAM_STEPS; i++) {
		seen += total->step[i];
		if (seen > 0 && seen >= rank) {
			double middle = (double)histogram_step_from(i) +
					(double)(histogram_step_width(i) - 1) / 2;

			return MIN(middle, (double)total->max);
		}
	}
	return (double)total->max;
}

char *histogram_text(const struct histogram_total *total, double scale)
{
	char *text = NULL;
	size_t len = 0;
	FILE *f = open_memstream(&text, &len);
	bool failed;

	if (!f)
		return NULL;
	for (unsigned i = 0; i < HISTOGRAM_STEPS; i++)
		if (total->step[i])
			fprintf(f, "%s%.0f:%" PRIu64, ftell(f) > 0 ? " " : "",
				(double)histogram_step_from(i) * scale, total->step[i]);
	failed = ferror(f);
	if (fclose(f) != 0 || failed) {
		free(text);
		return NULL;
	}
	return text;
}
