/* The loop's file operations with faults by count, for tests linked with --wrap: the n-th call
 * from now is refused, ends with a result of the test's, or is cut short. */
#ifndef STASIS_TESTS_BLOCK_FAULTS_H
#define STASIS_TESTS_BLOCK_FAULTS_H

#include "loop/loop.h"

enum block_fault {
	BLOCK_FAULT_NONE,
	BLOCK_FAULT_REFUSE, /* the call returns value */
	BLOCK_FAULT_RESULT, /* done() gets value, nothing is done */
	BLOCK_FAULT_SHORT,  /* a transfer of value bytes at most */
};

struct block_faults {
	enum block_fault kind;
	int value;
	unsigned at, times; /* from the at-th call on (0 is the next), so many of them */
	unsigned calls;	    /* seen since the last block_faults_set */
	uint64_t largest;   /* bytes of one transfer since then */
	bool hold;	    /* results wait for block_faults_turn with hold off */
};
extern struct block_faults block_faults;

void block_faults_set(enum block_fault kind, int value, unsigned at, unsigned times);
/* A turn of the loop, then done() of what was given a result. Returns what was served. */
int block_faults_turn(struct loop *loop, uint64_t timeout_ns);

#endif
