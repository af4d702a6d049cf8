/* Which host CPUs an ordinary VM keeps to (--cpus-budget). Pure. */
#ifndef STASIS_VM_PERF_BUDGET_H
#define STASIS_VM_PERF_BUDGET_H

#include "vm/perf/host_cpus.h"

/* budget of host's CPUs that fill whole caches on near nodes; fewer where there are no more. Caches
 * without CPU 0 come first. */
void perf_budget(const struct host_cpus *host, unsigned budget, struct host_cpu_set *ret_set);

#endif
