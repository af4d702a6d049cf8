/* What a monitor has seen of sched_ext's dispatch queues: of each its last length, the most and the
 * mean. Bounded: those that come when there is no room are told of, not kept. Control thread. */
#ifndef STASIS_VM_DISPATCH_TOTALS_H
#define STASIS_VM_DISPATCH_TOTALS_H

#include <jansson.h>

#include "inspect/dispatch.h"

#define DISPATCH_TOTALS_MAX (2 * DISPATCH_QUEUES_MAX)

struct dispatch_total {
	struct dispatch_queue last;
	uint64_t looks, tasks_sum; /* looks that found it */
	uint32_t tasks_max;
	bool there; /* at the last look */
};

/* Zeroed: nothing seen. */
struct dispatch_totals {
	struct dispatch_total queue[DISPATCH_TOTALS_MAX];
	unsigned count;
	bool cut; /* not all was seen, or kept */
};

/* One look's. */
void dispatch_totals_add(struct dispatch_totals *t, const struct dispatch_queue *queue, unsigned n,
			 bool cut);
/* An array: "kind" ("user", and "id"; "global", and "node"), "tasks" (0 for one that is gone),
 * "tasks_max", "tasks_mean", "looks". */
json_t *dispatch_totals_json(const struct dispatch_totals *t);

#endif
