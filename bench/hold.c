/* Host CPUs and locks for all of the runner's programs. Main thread. */
#include "hold.h"

#include <errno.h>
#include <stdio.h>

#include "guest/topology.h"
#include "vm/perf/apply.h"

#define NAME "bench" /* who others are told of */

/* As an ordinary VM: of one vCPU anywhere, or of two on these. */
static int claim_once(struct perf_claim *claim, const int *pin, bool wait, uint64_t wait_ns,
		      struct error *err)
{
	const struct perf_request request = {.mode = PERF_OFF, .wait = wait, .wait_ns = wait_ns};
	struct topology t;
	int r = topology_from_cpus(pin ? 2 : 1, &t, err);

	if (r < 0)
		return r;
	*claim = PERF_CLAIM_NONE;
	r = perf_claim(&request, &t, pin, NAME, claim, err);
	if (r < 0) {
		perf_claim_done(claim);
		*claim = PERF_CLAIM_NONE;
	}
	return r;
}

/* Silently at first: who waits wants to know for whom. */
static int claim(struct perf_claim *claim, const struct bench_options *o, const int *pin,
		 struct error *err)
{
	struct error first = {0};
	int r = claim_once(claim, pin, false, 0, &first);

	if (r == -EBUSY && o->wait) {
		fprintf(stderr, "waiting: %s\n", first.what);
		return claim_once(claim, pin, true, o->wait_ns, err);
	}
	if (r < 0)
		*err = first;
	return r;
}

/* The first two of set; the same twice where there is one. How many there are of two. */
static unsigned first_two(const struct host_cpu_set *set, int cpu[2])
{
	unsigned n = 0;

	for (unsigned i = 0; i < HOST_CPUS_MAX && n < 2; i++)
		if (host_cpu_set_has(set, i))
			cpu[n++] = (int)i;
	if (n == 1)
		cpu[1] = cpu[0];
	return n;
}

/* Where performance runs leave fewer than two, the first two of ours are waited for. */
static int claim_any(struct hold *hold, struct bench_options *o, struct error *err)
{
	int r = claim(&hold->claim, o, NULL, err), ours[2];

	if (r < 0)
		return r;
	if (first_two(&hold->claim.usable, o->cpu) == 2 ||
	    first_two(&hold->claim.initial, ours) == 1)
		return 0;
	o->cpu[0] = ours[0];
	o->cpu[1] = ours[1];
	perf_claim_done(&hold->claim);
	return claim(&hold->claim, o, ours, err);
}

int hold_take(struct hold *hold, struct bench_options *o, struct error *err)
{
	int r = o->cpu[0] < 0 ? claim_any(hold, o, err) : claim(&hold->claim, o, o->cpu, err);

	if (r < 0)
		return r;
	r = perf_apply_affinity(&hold->claim.usable);
	return r < 0 ? error_set(err, r, "keeping to the host CPUs that are free") : 0;
}

void hold_tell(const struct hold *hold, json_t *facts)
{
	const struct perf_claim *claim = &hold->claim;
	const char *lacks = NULL;

	if (claim->locks.count == 0)
		lacks = claim->missing.count > 0 ? claim->missing.item[0].what : "not taken";
	else if (!perf_locks_intact(&claim->locks))
		lacks = "another user removed them meanwhile";
	json_object_set_new(facts, "locks",
			    lacks ? json_sprintf("none: %s", lacks) : json_string("shared"));
}

void hold_done(struct hold *hold)
{
	perf_claim_done(&hold->claim);
	*hold = HOLD_NONE;
}
