/* The rule of stall.h. Pure. */
#include "vm/stall.h"

#include "base/util.h"

/* Anything that excuses a CPU now: it is looked at anew from here on. */
static enum stall_verdict excuse(const struct stall_cpu *s, const struct stall_look *now)
{
	if (!s->known || now->torn || s->clock != now->clock)
		return STALL_MOVES;
	if (s->freezes != now->freezes)
		return STALL_FROZEN;
	if (now->idle)
		return STALL_IDLE;
	if (now->running < 2)
		return STALL_ALONE;
	return now->tickless ? STALL_TICKLESS : STALL_BEGINS;
}

enum stall_verdict stall_look(struct stall_cpu *s, const struct stall_look *now)
{
	enum stall_verdict v = excuse(s, now);

	if (v != STALL_BEGINS) {
		*s = (struct stall_cpu){
			.known = true,
			.since_ns = now->at_ns,
			.ran_ns = now->ran_ns,
			.freezes = now->freezes,
			.clock = now->clock,
			/* Frozen, and on: it is still the same one. */
			.told = s->told && v != STALL_MOVES,
		};
		return v;
	}
	if (now->ran_ns == STALL_RAN_UNKNOWN)
		return STALL_WAITS;
	/* Nobody asked before: from here on. */
	if (s->ran_ns == STALL_RAN_UNKNOWN)
		s->ran_ns = now->ran_ns;
	/* The clock is set before a task is queued: who waits now has waited since. */
	if (now->ran_ns - s->ran_ns < MAX(now->interval_ns / 2, (uint64_t)STALL_RAN_NS))
		return STALL_WAITS;
	if (s->told)
		return STALL_LASTS;
	s->told = true;
	return STALL_BEGINS;
}

const char *stall_verdict_name(enum stall_verdict v)
{
	static const char *const names[] = {
		[STALL_MOVES] = "moves",  [STALL_FROZEN] = "frozen",	 [STALL_IDLE] = "idle",
		[STALL_ALONE] = "alone",  [STALL_TICKLESS] = "tickless", [STALL_WAITS] = "waits",
		[STALL_BEGINS] = "stall", [STALL_LASTS] = "stall",
	};

	return names[v];
}
