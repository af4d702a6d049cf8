/* Run queues, tasks and scheduling domains in the tiny kernel, with types of their own. */
#ifndef STASIS_TESTS_QUEUES_FAKE_H
#define STASIS_TESTS_QUEUES_FAKE_H

#include "inspect/inspect.h"
#include "kernel_fake.h"

/* Places in struct rq. */
#define QUEUE_RUNNING	  0u /* 4 bytes */
#define QUEUE_CURR	  8u
#define QUEUE_CLOCK	  16u
#define QUEUE_SWITCHES	  0x200u
#define QUEUE_WAKEUPS	  0x208u /* 4 bytes, as the next */
#define QUEUE_LOCAL	  0x20cu
#define QUEUE_IDLE	  0x210u
#define QUEUE_SD	  0x218u
#define QUEUE_DELAY	  0x220u
#define QUEUE_RT	  0x228u /* 4 bytes, as all after it */
#define QUEUE_RR	  0x22cu
#define QUEUE_SCX_LOCAL	  0x230u
#define QUEUE_SCX_RUNNING 0x234u
#define QUEUE_SCX_FLAGS	  0x238u
#define QUEUE_SIZE	  0x240u

/* Tasks and domains, in the image. */
#define FAKE_WORKER	(FAKE_IMAGE + 0x18000) /* "worker", 77; FAKE_INIT_TASK is the idle one */
#define FAKE_DOMAIN(n)	(FAKE_IMAGE + 0x18100 + 0x40 * (n)) /* of two levels: MC, PKG */
#define FAKE_FLAG_NAMES (FAKE_IMAGE + 0x18200)		    /* sd_flag_debug */
#define FAKE_SCHEDSTATS (FAKE_IMAGE + 0x18400)
#define FAKE_DYNTICKS	(FAKE_IMAGE + 0x18404) /* tick_nohz_full_running */
#define FAKE_MANY	(FAKE_IMAGE + 0x19000) /* __per_cpu_offset of many CPUs */
/* sched_ext's other queues: two global ones, of nodes 0 and 2; in a hash of four buckets 7 and then
 * 9 in the first, 11 in the last. */
#define FAKE_NODES	(FAKE_IMAGE + 0x18408) /* nr_node_ids */
#define FAKE_DSQ_HASH	(FAKE_IMAGE + 0x18410) /* dsq_hash */
#define FAKE_DSQ_GLOBAL (FAKE_IMAGE + 0x18418) /* global_dsqs */
#define FAKE_DSQ_NODES	(FAKE_IMAGE + 0x18420) /* … and the array */
#define FAKE_DSQ_TABLE	(FAKE_IMAGE + 0x18480)
#define FAKE_DSQ(n)	(FAKE_IMAGE + 0x18600 + 0x20 * (n)) /* 0, 1: global; 2 to 4: 7, 9, 11 */
#define FAKE_TASKS(n)	(10 + (n))
/* Places in what they are made of. */
#define DSQ_NR	      0u
#define DSQ_ID	      8u
#define DSQ_NODE      16u
#define TABLE_SIZE    0u
#define TABLE_NEST    4u
#define TABLE_BUCKETS 64u
#define SCHED_HASH    0x40u
#define SCHED_GLOBAL  0x48u

/* Builds the tiny kernel and opens it. CPU 0 runs the worker, three tasks queued; CPU 1 is idle. */
struct inspect *queues_fake_open(struct kernel_fake *f);
/* Has a symbol elsewhere; at 0: the kernel has none of that name. */
void queues_fake_move(struct inspect *in, const char *name, uint64_t gva);
/* Says that there are so many CPUs, up to 2048; they share CPU 1's memory. */
void queues_fake_many(struct kernel_fake *f, struct inspect *in, unsigned cpus);
/* In the queue of CPU 0 or 1. */
void queues_fake_set(struct kernel_fake *f, unsigned cpu, unsigned offset, uint64_t value,
		     size_t bytes);
uint64_t queues_fake_gpa(unsigned cpu, unsigned offset);

#endif
