/* sched_ext's dispatch queues that are no CPU's own: a global one for each node, and those that a
 * BPF scheduler makes. Looked at while the guest runs on. By type information. Any thread, one at a
 * time. All of it is the guest's word (kernel/sched/ext.c, struct scx_dispatch_q). */
#ifndef STASIS_INSPECT_DISPATCH_H
#define STASIS_INSPECT_DISPATCH_H

#include "inspect/inspect.h"
#include "inspect/lacks.h"

#define DISPATCH_QUEUES_MAX 128u

struct dispatch_queue {
	uint64_t id;	/* the scheduler's; of a global queue, its node */
	uint32_t tasks; /* that wait in it */
	bool global;
};

/* Where they are. Zeroed: nowhere. */
struct dispatch {
	const struct inspect *in;
	uint64_t root; /* scx_root, a pointer that has the next two; 0: they are by themselves */
	uint64_t hash, global;		/* from *root, or from 0 */
	uint32_t nodes;			/* whose global queues there may be */
	uint32_t id, nr, node;		/* of a queue */
	uint32_t table;			/* of a hash */
	uint32_t size, nested, buckets; /* of its table */
};

/* in outlives it. A kernel without sched_ext has none, and lacks nothing. */
void dispatch_find(const struct inspect *in, struct lacks *lacks, struct dispatch *ret_d);
/* Fills in what there is, and returns how many. One that comes, goes or moves meanwhile may be left
 * out or be there twice. ret_cut: there are more than max, or than a look may take. */
unsigned dispatch_look(const struct dispatch *d, struct dispatch_queue *ret_queue, unsigned max,
		       bool *ret_cut);

#endif
