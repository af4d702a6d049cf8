/* What a guest's scheduler is doing: each CPU's task and run queue, and sched_ext. By type
 * information; what a kernel doesn't have is left out. Any thread, one at a time. All of it is the
 * guest's word. */
#ifndef STASIS_INSPECT_SCHED_H
#define STASIS_INSPECT_SCHED_H

#include "inspect/inspect.h"
#include "inspect/lacks.h"

struct sched;

/* Where facts go, by the name that a dump gives them. Texts live for the call. */
struct sched_sink {
	void (*number)(const char *name, int64_t value, void *arg);
	void (*text)(const char *name, const char *value, void *arg);
	void *arg;
};

/* Finds what there is to find. in outlives it. What isn't there goes to lacks; without BTF there is
 * nothing, which types_lack tells. -ENOMEM. */
int sched_open(const struct inspect *in, struct lacks *lacks, struct sched **ret_s) MUST_CHECK;
/* As that, for sched_task alone. */
int sched_open_tasks(const struct inspect *in, struct lacks *lacks,
		     struct sched **ret_s) MUST_CHECK;
void sched_free(struct sched *s); /* accepts NULL */

/* The task that runs on a CPU: "name", "pid", "tgid". task_gva: from its registers, or 0. False:
 * not to be found. */
bool sched_task(const struct sched *s, unsigned cpu, uint64_t task_gva,
		const struct sched_sink *sink);
/* The CPU's run queue: "running", "clock_ns", …, and "class", of the task that it says runs. */
bool sched_queue(const struct sched *s, unsigned cpu, const struct sched_sink *sink);
/* The CPU's part of sched_ext; false: the kernel has none. */
bool sched_queue_ext(const struct sched *s, unsigned cpu, const struct sched_sink *sink);
/* sched_ext as a whole: "state", "ops", "exit_kind", …. False: the kernel has none. */
bool sched_ext(const struct sched *s, const struct sched_sink *sink);
/* What it has counted, over all CPUs, by the kernel's own names. False: it counts nothing. */
bool sched_ext_events(const struct sched *s, const struct sched_sink *sink);

#endif
