/* The cheapest clock that every thread of this process reads alike: the time-stamp counter where
 * the host's kernel itself keeps time by it, else CLOCK_MONOTONIC. Any thread, but where named. */
#ifndef STASIS_BASE_TICKS_H
#define STASIS_BASE_TICKS_H

#include "base/util.h"

/* Written by ticks_init, before other threads read it. */
extern bool ticks_are_tsc;

/* Chooses the clock. Once in a process before threads that read it are made; again does nothing. */
void ticks_init(void);
/* How many ticks a nanosecond has, measured from ticks_init until now: the later, the better; never
 * over less than 20 us, which it waits for. */
double ticks_per_ns(void);

static inline uint64_t ticks_now(void)
{
#if defined(__has_builtin)
#if __has_builtin(__builtin_ia32_rdtsc)
	if (likely(ticks_are_tsc))
		return __builtin_ia32_rdtsc();
#endif
#endif
	return now_ns();
}

/* Counters of two CPUs may differ by a few ticks: never less than nothing. */
static inline uint64_t ticks_between(uint64_t from, uint64_t to)
{
	return to > from ? to - from : 0;
}

#endif
