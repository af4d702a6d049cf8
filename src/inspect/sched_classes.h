/* Which of the kernel's functions are the scheduler's, and of what kind. Pure; any thread.
 *
 * A sample's class is that of its innermost frame that has one, looking outward no farther than the
 * frame by which the kernel was entered (system call, interrupt, exception): what interrupted the
 * scheduler is not the scheduler's, and what the scheduler calls (locks, timers, memory) is. A BPF
 * program counts only where sched_ext has called it. */
#ifndef STASIS_INSPECT_SCHED_CLASSES_H
#define STASIS_INSPECT_SCHED_CLASSES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum sched_class {
	SCHED_IS_NONE,
	SCHED_IS_PICK,	  /* which task is next */
	SCHED_IS_QUEUE,	  /* into and out of run queues, and yielding */
	SCHED_IS_WAKE_UP, /* where a woken task goes, and whom it preempts */
	SCHED_IS_BALANCE, /* between CPUs */
	SCHED_IS_TICK,
	SCHED_IS_LOAD,	 /* run times, loads, pressure, statistics */
	SCHED_IS_EXT,	 /* sched_ext core */
	SCHED_IS_BPF,	 /* a sched_ext scheduler's own programs */
	SCHED_IS_SWITCH, /* schedule() and the context switch */
	SCHED_CLASSES,
	/* Of functions, never of a sample. */
	SCHED_IS_ENTRY = SCHED_CLASSES, /* the kernel was entered there */
	SCHED_IS_IDLE,			/* the CPU waits for work */
	SCHED_IS_LOCK,			/* … or halts until a spin lock is free */
};

/* "pick", "queue", …: as JSON has it; of the classes of samples, and "entry". */
const char *sched_class_name(enum sched_class c);
/* Whether it is part of what a context switch takes: pick, queue, sched_ext's two and the switch.
 * "queue" has a woken task's way in besides. The others come by time, or by wake-ups. */
bool sched_class_of_switches(enum sched_class c);
/* name: as symbols have it, also with a compiler's suffix (".isra.0") or an owner (" [bpf]"). */
enum sched_class sched_class_of(const char *name);
/* The bare name of a BPF program in a symbol of one, "simple_enqueue" in
 * "bpf_prog_5937137a7888a15d_simple_enqueue [bpf]", and its length; NULL where it is no program's.
 */
const char *sched_program(const char *name, size_t *ret_len);
/* How many frames are inside of the outermost one of sched_ext, as above: where programs are a
 * scheduler's. */
size_t sched_within_ext(const uint8_t *class_of, size_t n);
/* Of a stack in the kernel; class_of each frame, innermost first. */
enum sched_class sched_class_of_stack(const uint8_t *class_of, size_t n);
/* What a CPU waits for by its stack, as above: SCHED_IS_IDLE, SCHED_IS_LOCK or SCHED_IS_NONE. What
 * the idle loop's waits call (clocks) is idle, interrupts in them are not. */
enum sched_class sched_waits_for(const uint8_t *class_of, size_t n);

#endif
