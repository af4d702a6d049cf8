/* The guest that reads a virtio-blk disk (guest_disk.c), and what it and the host say to each
 * other. It begins at DISK_IMAGE_GPA, at CPL 3 with memory mapped one to one (guest.h).
 *   0x1000000 code   0x1100000 struct disk_words   0x1110000 rings, tables, headers
 *   0x1200000 blocks, one for each slot */
#ifndef STASIS_BENCH_GUEST_DISK_H
#define STASIS_BENCH_GUEST_DISK_H

#include <stdint.h>

#define DISK_IMAGE_GPA 0x1000000u
#define DISK_IMAGE_MAX 0x10000u
#define DISK_WORDS_GPA 0x1100000u
#define DISK_RINGS_GPA 0x1110000u
#define DISK_DATA_GPA  0x1200000u
#define DISK_END_GPA   0x1400000u
#define DISK_PORT      0x30 /* a byte written here: I am ready for the next order */
#define DISK_DEPTH_MAX 128

enum disk_problem {
	DISK_FINE,
	DISK_NONE,     /* no transport has a disk */
	DISK_FEATURES, /* it lacks one of those that both machines' must have */
	DISK_REFUSED,  /* it doesn't come up with them */
	DISK_FAILED,   /* a read's status says so */
};

/* From the host: reads random blocks, depth at once. */
struct disk_order {
	uint32_t depth, reads;
	uint64_t seed;	/* of blocks_next */
	uint32_t whole; /* look at every word that came, not at one of each sector */
	uint32_t reserved;
};

/* From the guest: about the order before. */
struct disk_outcome {
	uint64_t ticks; /* of the time-stamp counter: first doorbell to last block seen */
	uint64_t sum;	/* of blocks_weigh */
	uint32_t kicks;
	uint32_t problem; /* enum disk_problem */
};

struct disk_words {
	struct disk_order order;
	struct disk_outcome outcome;
};

#endif
