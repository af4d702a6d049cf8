/* How often a profile reads the guest's kernel: soon where code has come or is not known, and less
 * and less often where that goes on, so that a guest can't make its host read for ever. Pure. */
#ifndef STASIS_VM_PROFILING_PACE_H
#define STASIS_VM_PROFILING_PACE_H

#include <stdbool.h>
#include <stdint.h>

#define PROFILING_PACE_FIRST_NS UINT64_C(500000000) /* in which news may gather */
#define PROFILING_PACE_LAST_NS	(32 * PROFILING_PACE_FIRST_NS)
/* So many in a row because of code that has come don't slow the next: a scheduler with its modules
 * is loaded in steps. */
#define PROFILING_PACE_FREE 16u

enum profiling_reason {
	PROFILING_NONE,
	PROFILING_SEEK, /* no kernel is known, or code is not: it may be none at all */
	PROFILING_COME, /* code has come: a module or a program */
};

/* Zeroed: nothing was read. Times are of CLOCK_MONOTONIC. */
struct profiling_pace {
	uint64_t read_ns, came_ns; /* when it was read last; … as code had come */
	uint64_t seek_wait_ns, come_wait_ns;
	unsigned row; /* readings as code had come, without a pause */
};

/* Whether to read now. */
bool profiling_pace_due(const struct profiling_pace *p, enum profiling_reason why, uint64_t now_ns);
/* It was read, or tried to; found: by this a kernel is known that was not, or code that has come.
 */
void profiling_pace_read(struct profiling_pace *p, enum profiling_reason why, bool found,
			 uint64_t now_ns);
/* Whether code that comes waits longer than at first. */
static inline bool profiling_pace_is_slow(const struct profiling_pace *p)
{
	return p->come_wait_ns > PROFILING_PACE_FIRST_NS;
}

#endif
