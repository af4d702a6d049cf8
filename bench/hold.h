/* The host CPUs that the runner has for its programs, and the locks between VMs on them: one hold
 * for all, for as long as it measures. Main thread. */
#ifndef STASIS_BENCH_HOLD_H
#define STASIS_BENCH_HOLD_H

#include <jansson.h>

#include "bench.h"
#include "vm/perf/claim.h"

struct hold {
	struct perf_claim claim;
};

/* What a hold is before it is taken: hold_done may be called on it. */
#define HOLD_NONE ((struct hold){.claim = PERF_CLAIM_NONE})

/* Takes what an ordinary VM takes, shared: no performance run comes onto these CPUs and caches
 * meanwhile. o->cpu become two that none has, where nobody named any, and we keep off all that one
 * has. Where that can't be: waits as o says, else contention (77) that names who. Signals that end
 * the process do so meanwhile. Without a usable directory of locks it goes on, as such a VM does.
 */
int hold_take(struct hold *hold, struct bench_options *o, struct error *err) MUST_CHECK;
/* Says in facts of the host what was held, as "locks": "shared", or "none: " and why. To be called
 * at the end, since others may have taken the files away. */
void hold_tell(const struct hold *hold, json_t *facts);
void hold_done(struct hold *hold);

#endif
