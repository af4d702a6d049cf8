/* Rows of bench-block in which a guest drives the disk, the product beside its peer: of x86_64
 * alone, elsewhere there are none. Main thread. */
#ifndef STASIS_BENCH_BLOCK_GUEST_H
#define STASIS_BENCH_BLOCK_GUEST_H

#include "bench.h"

/* path has BLOCKS blocks of blocks_word. Where the peer or KVM lacks, says so and makes none. */
int block_guest_rows(struct bench *b, const char *path, struct error *err) MUST_CHECK;

#endif
