/* Which blocks of a disk are read, in which order, and what lies in them: the same for floors, for
 * the product and its peer, and for guests. Any thread. */
#ifndef STASIS_BENCH_BLOCKS_H
#define STASIS_BENCH_BLOCKS_H

#include <stdint.h>

#define BLOCKS_BYTES 4096u /* of one */
#define BLOCKS_WORDS (BLOCKS_BYTES / 8)
#define BLOCKS	     (1u << 14)

/* A linear congruence (Knuth, volume 2, 3.3.4); *state is the seed at first. */
static inline uint64_t blocks_next(uint64_t *state)
{
	*state = *state * 6364136223846793005u + 1442695040888963407u;
	return (*state >> 33) % BLOCKS;
}

/* The word at a place of the disk, counted in words: no two blocks are alike. */
static inline uint64_t blocks_word(uint64_t place)
{
	uint64_t x = (place + 1) * 0x9e3779b97f4a7c15u;

	return x ^ x >> 29;
}

/* What reading a block adds to a sum whose order doesn't matter, when words is the sum of those
 * that were looked at. Blocks that took each other's place make another sum. */
static inline uint64_t blocks_weigh(uint64_t block, uint64_t words)
{
	return words * (2 * block + 1);
}

/* One word of each sector is looked at, or all. */
static inline unsigned blocks_step(uint32_t whole)
{
	return whole ? 1 : 64;
}

#endif
