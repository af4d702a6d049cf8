/* What a VM gets of the host: CPUs by a plan, and the locks that keep others off. Control thread.
 */
#ifndef STASIS_VM_PERF_CLAIM_H
#define STASIS_VM_PERF_CLAIM_H

#include "vm/perf/locks.h"
#include "vm/perf/plan.h"

enum perf_mode { PERF_OFF, PERF_STRICT, PERF_RELAXED };

/* As the person asked. */
struct perf_request {
	enum perf_mode mode;
	unsigned cpus_budget; /* ordinary mode: CPUs of the vCPU threads; 0: all */
	bool wait;	      /* for locks that others hold */
	uint64_t wait_ns;     /* … no longer than this; 0: for ever */
};

struct perf_claim {
	struct host_cpus host;
	struct perf_plan plan; /* performance mode only; else zeroed */
	struct perf_locks locks;
	struct host_cpu_set usable;  /* where threads of ours may run, but for pinned ones */
	struct host_cpu_set vcpus;   /* ordinary mode: vCPU threads */
	struct host_cpu_set initial; /* what we were started with */
	struct host_cpu_set rest;    /* performance mode: of these, what no vCPU's core is on, nor
				      * our control thread, nor another performance run */
	struct perf_missing missing;
	bool fits; /* performance mode: the guest's memory has room at once; then: is there */
	int signo; /* that ended the run before it began; 0: none */
};

/* What a claim is before it is made: perf_claim_done may be called on it. */
#define PERF_CLAIM_NONE                                                                            \
	((struct perf_claim){.locks = {.dir_fd = -1, .mutex_fd = -1, .record_fd = -1}})

/* Plans and locks. Performance mode: the planned CPUs and their caches, exclusively, from what
 * nobody holds if that will do. Ordinary mode: shared, and never where a performance run is;
 * without a usable directory of locks it goes on and notes that. What others hold is waited for as
 * request says, else contention that names who. A signal that ends a run (vm/signals.h) ends the
 * wait: -EINTR, with its number in claim->signo. claim is PERF_CLAIM_NONE, but for what missing has
 * already; strict mode refuses if that or the plan lacks something. pin: NULL, or one CPU for each
 * vCPU. */
int perf_claim(const struct perf_request *request, const struct topology *t, const int *pin,
	       const char *name, struct perf_claim *claim, struct error *err) MUST_CHECK;
void perf_claim_done(struct perf_claim *claim);

#endif
