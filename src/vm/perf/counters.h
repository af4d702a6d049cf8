/* Hardware counters of the guest alone: what each vCPU's thread counts while it is in the guest
 * (perf_event_open(2), exclude_host). Control thread. */
#ifndef STASIS_VM_PERF_COUNTERS_H
#define STASIS_VM_PERF_COUNTERS_H

#include <jansson.h>
#include <sys/types.h>

#include "base/error.h"

enum counter { COUNTER_CYCLES, COUNTER_INSTRUCTIONS, COUNTER_CACHE, COUNTER_BRANCH, COUNTERS };

struct counters {
	unsigned n;	     /* threads; 0: nothing is counted */
	int (*fd)[COUNTERS]; /* of each; -1: this host doesn't count that */
};

/* From now on, of these threads. Contention where this host has no PMU for guests, or does not let
 * this user have it: *ret is zeroed then. */
int counters_open(struct counters *ret, const pid_t *tid, unsigned n, struct error *err) MUST_CHECK;
/* Since then, of thread i, which may have ended: "cycles", "instructions", "cache_misses",
 * "branch_misses", as far as they are counted; scaled up where the PMU had not the room to count
 * all the time, left out where it never had. An object, or NULL when out of memory. */
json_t *counters_json(const struct counters *c, unsigned i);
void counters_close(struct counters *c); /* accepts a zeroed one */

#endif
