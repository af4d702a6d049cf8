/* Which host CPU runs which vCPU, and which one is kept for the control thread. Pure: plain data
 * in, plain data out, no system call. */
#ifndef STASIS_VM_PERF_PLAN_H
#define STASIS_VM_PERF_PLAN_H

#include "guest/topology.h"
#include "vm/perf/host_cpus.h"
#include "vm/perf/missing.h"

/* What is asked of a plan besides the shape. */
struct perf_wish {
	const int *pin; /* host CPU of each vCPU, as the person wants it; NULL: free choice */
	/* CPUs that others hold: none of the first for vCPUs, none of the second for the control
	 * thread. NULL: none. Ignored where pin says otherwise. */
	const struct host_cpu_set *not_vcpu, *not_control;
};

struct perf_plan {
	unsigned vcpus;
	int *cpu;    /* host CPU of each vCPU; all -1: too few CPUs to pin */
	int control; /* host CPU of the control thread; -1: none is left */
	bool own;   /* no two of these threads share a host CPU: they may have real-time priority */
	bool spare; /* a host CPU that is online stays with the rest of the host */
	/* vCPUs of single-threaded cores, or next to the control thread, that share a host core. */
	unsigned shared_cores;
};

/* Plans t onto host:
 * - each virtual last-level cache in a host cache of its own,
 * - each vCPU on a CPU of its own, siblings on siblings; a single-threaded core takes a whole host
 *   core where there are enough of them,
 * - CPUs of one strength, caches of one size, no core that others may use as well,
 * - virtual nodes on host nodes of their own where they fit, and a virtual cache on one node, where
 *   the host's cache spans several,
 * - the control thread outside of the used caches where there is a CPU, else away from the cores of
 *   vCPUs; near to vCPU 0; then the smallest number, since host CPU 0 has the host's chores anyway.
 * What of this can't be is added to missing, and the plan is then the best that was found. Returns
 * 0, or -ENOMEM, or -ENODEV (contention that no wait ends) for a pin that is not among
 * host's CPUs. */
int perf_plan_make(const struct host_cpus *host, const struct topology *t,
		   const struct perf_wish *wish, struct perf_plan *ret_plan,
		   struct perf_missing *missing, struct error *err) MUST_CHECK;
void perf_plan_done(struct perf_plan *plan); /* accepts a zeroed one */

#endif
