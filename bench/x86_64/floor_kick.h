/* The floor of a profile's sample: a thread that runs GUEST_WORK, is kicked at random by a timer of
 * its own, reads the guest's registers, walks its stack, and goes on. The main thread's. */
#ifndef STASIS_BENCH_FLOOR_KICK_H
#define STASIS_BENCH_FLOOR_KICK_H

#include "floor_vm.h"

struct floor_kick; /* opaque */

/* Its thread on the first CPU. */
int floor_kick_open(const struct bench *b, struct floor_kick **ret_floor,
		    struct error *err) MUST_CHECK;
/* Accepts NULL. */
void floor_kick_close(struct floor_kick *floor);
/* Lets the guest work so long (guest_area's answer). mean_ns: between kicks; 0: none. *ret_ns: of
 * the thread's CPU time; *ret_kicks: how many there were. */
int floor_kick_run(struct floor_kick *floor, uint32_t work, uint64_t mean_ns, uint64_t *ret_ns,
		   uint64_t *ret_kicks, struct error *err) MUST_CHECK;
#define FLOOR_KICK_FRAMES                                                                          \
	(GUEST_WORK_CALLS + 1u) /* of the guest at work; the first is where it is */
/* How many kicks there were in all, and of those how many saw less than the guest's stack. */
uint64_t floor_kick_seen(const struct floor_kick *floor, uint64_t *ret_shallow);

#endif
