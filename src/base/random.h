/* Numbers that look drawn by chance and come again from the same start. Pure; any thread. */
#ifndef STASIS_BASE_RANDOM_H
#define STASIS_BASE_RANDOM_H

#include <stdint.h>

/* The next of a generator's; *state may hold anything. splitmix64: Steele, Lea, Flood, "Fast
 * splittable pseudorandom number generators", 2014. */
static inline uint64_t random_next(uint64_t *state)
{
	uint64_t z = *state += UINT64_C(0x9e3779b97f4a7c15);

	z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
	return z ^ z >> 31;
}

#endif
