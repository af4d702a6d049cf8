/* The run queues of a running guest, looked at again and again: totals, lines of CSV, stalls. On a
 * timer of the loop; nothing stops the guest. Control thread. */
#ifndef STASIS_VM_MONITOR_H
#define STASIS_VM_MONITOR_H

#include <jansson.h>

#include "inspect/runqueues.h"
#include "loop/loop.h"
#include "vm/dispatch_totals.h"
#include "vm/stall.h"
#include "vm/stream_out.h"

#define MONITOR_INTERVAL_NS	  100000000u /* where nobody says */
#define MONITOR_INTERVAL_LEAST_NS 10000000u
/* A turn of the loop is held so long at most, and a few CPUs; the rest comes in the next. */
#define MONITOR_SLICE_NS    200000u
#define MONITOR_STALLS_KEPT 100

struct monitor; /* opaque */

struct monitor_stall {
	unsigned cpu;
	uint64_t nth;	   /* of all, from 1 */
	uint64_t at_ns;	   /* CLOCK_MONOTONIC */
	uint64_t stood_ns; /* as far as looked at */
	const struct runqueues_sample *sample;
};

struct monitor_config {
	struct loop *loop;
	const struct inspect *inspect; /* outlives the monitor, as all that this points to */
	unsigned cpus;
	uint64_t interval_ns;
	uint64_t began_ns;    /* where the times of lines and stalls count from, CLOCK_MONOTONIC */
	const char *csv_path; /* or NULL */
	int csv_fd;	      /* -1: none. The monitor's, if it could be made */
	/* CPU time of the thread that is this CPU. False: not to be had, and no stall then. */
	bool (*ran)(unsigned cpu, uint64_t *ret_ns, void *arg);
	/* A number that changes when a freeze begins and when it ends; and whether one is under
	 * way. */
	uint64_t (*freezes)(bool *ret_frozen, void *arg);
	/* Each look; or NULL. */
	void (*looked)(unsigned cpu, uint64_t at_ns, const struct runqueues_sample *s, void *arg);
	/* Once for each stall, from inside the loop. */
	void (*stalled)(const struct monitor_stall *stall, void *arg);
	void *arg;
};

/* -ENODATA: this kernel's run queues can't be found; -ENOMEM. */
int monitor_new(const struct monitor_config *config, struct monitor **ret_m,
		struct error *err) MUST_CHECK;
/* Looks at once, and then at each interval. */
int monitor_start(struct monitor *m, struct error *err) MUST_CHECK;
/* No more looks by itself. Accepts NULL. */
void monitor_stop(struct monitor *m);
/* A last look at each CPU, of a guest that has stopped: no stalls. */
void monitor_look(struct monitor *m);
/* What the kernel lacks, each named once. */
const struct lacks *monitor_lacks(const struct monitor *m);
/* What was seen so far; whole: and what a report has besides (scheduling domains, sched_ext). NULL
 * when out of memory. */
json_t *monitor_json(const struct monitor *m, bool whole);
/* Stops, and writes what is left of the lines for at most limit_ns. Accepts NULL. */
void monitor_flush(struct monitor *m, uint64_t limit_ns);
/* Lines that are not in the file. */
uint64_t monitor_lost(const struct monitor *m);
/* After monitor_flush. False if the kernel keeps a write: m stays. Accepts NULL. */
bool monitor_free(struct monitor *m, uint64_t limit_ns) MUST_CHECK;

/* ---- private to monitor*.c --------------------------------------------------------------- */

/* What is known of one CPU. */
struct monitor_cpu {
	struct runqueues_sample last; /* … if samples */
	uint64_t last_ns, first_ns;
	struct runqueues_sample first;
	uint64_t samples, torn, repeats, unread, running_sum, running_max, stalls;
	uint64_t idle_with_work; /* looks that found the idle task, the clock of the look before,
				  * and tasks that wait */
	struct stall_cpu stall;
};

struct monitor {
	struct monitor_config config;
	struct runqueues *queues;
	struct dispatch dispatch;
	struct dispatch_totals dispatched;
	struct lacks lacks;
	unsigned cpus;
	struct monitor_cpu *cpu;
	struct loop_timer timer;
	uint64_t due_ns; /* of the round, or the next one */
	unsigned next;	 /* CPU of the round under way */
	bool final;	 /* looks without a verdict */
	uint64_t rounds, frozen_rounds, late_rounds, stalls;
	uint64_t slice_max_ns, cost_ns; /* of one turn of the loop; CPU time of all */
	uint64_t lines, lines_dropped;
	json_t *stall_list;
	struct stream_out csv; /* where csv.loop */
};

/* A line of a CPU's last sample, with its end; the first: what the columns are. Cut at len. */
extern const char monitor_csv_head[];
size_t monitor_csv_line(const struct monitor *m, unsigned cpu, char *buf, size_t len);
#define MONITOR_LINE_MAX 512

#endif
