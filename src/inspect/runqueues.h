/* Run queues of a guest that runs on: what is where is found once, so that a look at a CPU is a few
 * loads. By type information; what a kernel doesn't have is left out. Any thread, one at a time.
 * All of it is the guest's word. */
#ifndef STASIS_INSPECT_RUNQUEUES_H
#define STASIS_INSPECT_RUNQUEUES_H

#include "inspect/inspect.h"
#include "inspect/lacks.h"

/* Numbers of a run queue. */
enum runqueues_field {
	RUNQUEUES_RUNNING,	 /* tasks, with the one that runs */
	RUNQUEUES_CLOCK,	 /* ns */
	RUNQUEUES_SWITCHES,	 /* ever */
	RUNQUEUES_WAKEUPS,	 /* ever, with schedstats: tasks woken by this CPU … */
	RUNQUEUES_WAKEUPS_LOCAL, /* … and put on this CPU's queue */
	RUNQUEUES_RUN_DELAY,	 /* ns, ever: what tasks waited here */
	RUNQUEUES_RT,		 /* real-time tasks … */
	RUNQUEUES_RR,		 /* … of them, SCHED_RR */
	RUNQUEUES_SCX_RUNNING,	 /* tasks of sched_ext, wherever its scheduler keeps them */
	RUNQUEUES_SCX_LOCAL,	 /* tasks in the CPU's own dispatch queue */
	RUNQUEUES_SCX_FLAGS,
	RUNQUEUES_FIELDS,
};

#define RUNQUEUES_COMM 17 /* with its NUL */

/* One look at one CPU. */
struct runqueues_sample {
	uint32_t have; /* 1 << enum runqueues_field of those that are there, and counted */
	uint64_t value[RUNQUEUES_FIELDS]; /* 0 where not */
	int64_t pid;			  /* of the task that runs; -1: not known */
	char comm[RUNQUEUES_COMM];	  /* … or empty */
	bool idle;			  /* … it is the CPU's idle task */
	bool tickless;	  /* this queue may do without a tick, tasks waiting or not */
	bool torn;	  /* no look was whole: parts are of different moments */
	unsigned repeats; /* looks beyond the first */
};
#define RUNQUEUES_REPEATS 4 /* at most */
/* Words of 8 bytes that one look reads of a guest's memory, at most: where pages are, once, then
 * five looks of a word for each field, and a task of a few. */
#define RUNQUEUES_WORDS_MAX 512u

struct runqueues;

/* in outlives it. cpus: how many are of interest. What isn't there goes to lacks. -ENODATA: no run
 * queues are to be found (err says why); -ENOMEM. */
int runqueues_open(const struct inspect *in, unsigned cpus, struct lacks *lacks,
		   struct runqueues **ret_q, struct error *err) MUST_CHECK;
void runqueues_free(struct runqueues *q); /* accepts NULL */
/* How many CPUs there are to look at: at most what was asked for. */
unsigned runqueues_cpus(const struct runqueues *q);
/* Looks. False: the queue can't be read. ret_sample is then untouched. */
bool runqueues_look(struct runqueues *q, unsigned cpu, struct runqueues_sample *ret_sample);
/* Whether the kernel counts wake-ups and delays; false, too, where it doesn't say. */
bool runqueues_schedstats(const struct runqueues *q);

/* A level of a CPU's scheduling domains, the smallest first. */
#define RUNQUEUES_LEVELS     10
#define RUNQUEUES_SPAN_WORDS 16u /* CPUs from 1024 on are not shown */
struct runqueues_level {
	char name[16]; /* empty: the kernel doesn't say */
	uint32_t flags;
	uint64_t span[RUNQUEUES_SPAN_WORDS]; /* a bit for each CPU */
};
/* How many there are, at most RUNQUEUES_LEVELS. */
unsigned runqueues_domains(const struct runqueues *q, unsigned cpu,
			   struct runqueues_level ret_level[RUNQUEUES_LEVELS]);
/* The name of a domain's flag, 1 << bit, as "SD_NUMA". False: the kernel doesn't say. */
bool runqueues_flag_name(const struct runqueues *q, unsigned bit, char *buf, size_t len);

#endif
