/* Whether a run queue stands still though it should not: the rule, and nothing else. Pure.
 *
 * The clock of a run queue (update_rq_clock of the kernel) is set on every tick, before a task is
 * put on the queue or taken off it, and when the CPU picks a task. So a CPU that has work waiting,
 * and runs, moves it at each tick, 100 to 1000 times a second. One that doesn't has interrupts off,
 * lost its tick, or is dead. A clock may stand still where
 *
 *   idle       the idle task runs: with NO_HZ the tick is off, and nobody is to run
 *   alone      nobody waits: a full-dynticks CPU with one task has no tick
 *   tickless   tasks wait, and the scheduler said that they need no tick: full dynticks only
 *   waits      the host did not let the vCPU run, or it is halted: its thread used little CPU time
 *   frozen     stasis froze the guest in between
 *
 * A CPU that has been brought down has its idle task, and counts as idle. */
#ifndef STASIS_VM_STALL_H
#define STASIS_VM_STALL_H

#include <stdbool.h>
#include <stdint.h>

/* What a vCPU's thread must have run, while the clock stood: four ticks of the slowest kernel, and
 * half of the interval between looks. A host below this one that takes its CPUs without telling
 * (the lab's) is not seen: there, a longer interval is the remedy. */
#define STALL_RAN_NS	  40000000u
#define STALL_RAN_UNKNOWN UINT64_MAX

enum stall_verdict {
	STALL_MOVES,
	STALL_FROZEN,
	STALL_IDLE,
	STALL_ALONE,
	STALL_TICKLESS,
	STALL_WAITS,
	STALL_BEGINS, /* it is one, and has not been told */
	STALL_LASTS,  /* … and has */
};

/* One look at a CPU. */
struct stall_look {
	uint64_t at_ns;
	uint64_t clock;	  /* the queue's */
	uint64_t running; /* tasks, with the one that runs */
	bool torn;	  /* it changed meanwhile */
	bool idle, tickless;
	/* CPU time of the vCPU's thread, as the clock was what it is: asked for after one look at
	 * it and before another that was the same; or STALL_RAN_UNKNOWN. */
	uint64_t ran_ns;
	uint64_t freezes; /* changes when one begins, and when it ends */
	uint64_t interval_ns;
};

/* What is remembered of a CPU; zeroed to begin with. */
struct stall_cpu {
	bool known;
	uint64_t since_ns;	  /* work waits and the clock stands, as far as looked at … */
	uint64_t ran_ns, freezes; /* … and what they were then */
	uint64_t clock;
	bool told; /* a stall at this clock */
};

enum stall_verdict stall_look(struct stall_cpu *s, const struct stall_look *now);
const char *stall_verdict_name(enum stall_verdict v);

#endif
