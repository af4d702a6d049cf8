/* What a profile says, as JSON, as files for flame graphs, and in a few lines. Control thread, or
 * the thread of a command. */
#ifndef STASIS_VM_PROFILE_OUT_H
#define STASIS_VM_PROFILE_OUT_H

#include <jansson.h>
#include <stdio.h>

#include "guest/topology.h"
#include "vm/profile.h"

#define PROFILE_TOP_FUNCTIONS 40u
#define PROFILE_TOP_TASKS     20u

/* How it was made. */
struct profile_run {
	unsigned hz;	      /* as asked */
	uint64_t duration_ns; /* of sampling */
	uint64_t begin_ns;    /* … which began so long after COMMAND, where that is known */
	uint64_t dropped;     /* samples that found no room in a ring */
	uint64_t took_ns;     /* what samples took of all vCPU threads (vcpu_sample_cost) … */
	uint64_t longest_ns;  /* … and one, at most */
	const struct topology *topology;
	json_t *degraded; /* array of strings; borrowed */
};

/* "hz", "hz_had", "samples", "idle_ns", "user_ns", "kernel_ns", "lock_wait_ns" (of it,
 * halted until a spin lock is free), "stacks_cut_ns" (of it, with stacks that break off before
 * their end), "scheduling_ns", "scheduling_share" (of what is busy),
 * "classes", "vcpus", "caches", "nodes", "tasks", "switches" and "switch_ns" (of the classes that
 * go by their number) where run queues were looked at, "functions" (the kernel's), "programs" (of a
 * BPF scheduler), "windows" (vm/windows.h), "dropped", "sampling_ns" and "sampling_longest_ns"
 * (took_ns, longest_ns), "degraded". NULL when out of memory. */
json_t *profile_json(const struct profile *p, const struct profile_run *run);
/* A document for speedscope: one sampled profile, in nanoseconds, each stack once, its task
 * outermost. NULL when out of memory. */
json_t *profile_speedscope(const struct profile *p, const struct profile_run *run,
			   const char *title);
/* The same stacks, as FlameGraph's and its kin's lines: "task;outer;inner weight", in samples of
 * the asked rate. Of a document as above; a negative errno where it is none. */
int profile_folded(const json_t *speedscope, FILE *f) MUST_CHECK;
/* Writes a document by the suffix of path: ".folded" so, ".pb.gz" for pprof (vm/pprof.h), else as
 * it is. Takes the reference. */
int profile_write(json_t *speedscope, const char *path, struct error *err) MUST_CHECK;
/* Whether a file may be called so: -EINVAL, a usage error, for another suffix than .folded,
 * .speedscope.json and .pb.gz. */
int profile_path_check(const char *path, struct error *err) MUST_CHECK;
/* Ten lines or so, of profile_json's. */
void profile_print(const json_t *profile, FILE *f);

#endif
