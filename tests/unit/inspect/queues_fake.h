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

/* Builds the tiny kernel and opens it. CPU 0 runs the worker, three tasks queued; CPU 1 is idle. */
struct inspect *queues_fake_open(struct kernel_fake *f);
/* Says that there are so many CPUs, up to 2048; they share CPU 1's memory. */
void queues_fake_many(struct kernel_fake *f, struct inspect *in, unsigned cpus);
/* In the queue of CPU 0 or 1. */
void queues_fake_set(struct kernel_fake *f, unsigned cpu, unsigned offset, uint64_t value,
		     size_t bytes);
uint64_t queues_fake_gpa(unsigned cpu, unsigned offset);

#endif
