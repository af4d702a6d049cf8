/* Floor of block reads: io_uring on the same file, and nothing else. One thread's. */
#ifndef STASIS_BENCH_FLOOR_BLOCK_H
#define STASIS_BENCH_FLOOR_BLOCK_H

#include <liburing.h>

#include "base/error.h"

struct floor_block {
	struct io_uring ring;
	bool have_ring;
	bool null; /* does nothing instead of reading */
	int fd;
	uint8_t *buffers; /* one block for each slot */
	unsigned depth;
	uint64_t failed;
};

/* On failure, floor_block_done cleans up. */
int floor_block_init(struct floor_block *f, const char *path, bool direct, unsigned depth,
		     struct error *err) MUST_CHECK;
void floor_block_done(struct floor_block *f); /* accepts a zeroed one */
void floor_block_offer(struct floor_block *f, unsigned slot, uint64_t block);
/* Submits what was offered, and waits for one or more. */
int floor_block_wait(struct floor_block *f, struct error *err) MUST_CHECK;
/* A slot whose read is done, or -1. */
int floor_block_take(struct floor_block *f);

#endif
