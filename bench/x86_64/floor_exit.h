/* Floors of the exit hand-off: threads that run their vCPU and answer its exits themselves, or have
 * another thread woken for each. The main thread's. */
#ifndef STASIS_BENCH_FLOOR_EXIT_H
#define STASIS_BENCH_FLOOR_EXIT_H

#include "floor_vm.h"

struct floor_exit; /* opaque */

enum floor_answer {
	FLOOR_INLINE, /* the vCPU's thread answers */
	FLOOR_WAKE,   /* it wakes a thread that sleeps on a futex, which answers; it spins meanwhile
		       */
};

/* pinned: the one vCPU's thread to the first CPU, the answering one to the second; else to both. */
int floor_exit_open(const struct bench *b, unsigned vcpus, enum guest_program program,
		    enum floor_answer answer, bool pinned, struct floor_exit **ret_floor,
		    struct error *err) MUST_CHECK;
/* Accepts NULL. */
void floor_exit_close(struct floor_exit *f);
/* Runs until so many exits were answered in all, and holds again. *ret_ns: from the first to the
 * last of them. */
int floor_exit_run(struct floor_exit *f, uint64_t exits, uint64_t *ret_ns,
		   struct error *err) MUST_CHECK;
struct guest_area *floor_exit_area(struct floor_exit *f, unsigned index);

#endif
