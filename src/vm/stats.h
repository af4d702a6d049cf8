/* What a machine's exits and vCPUs cost, as JSON: for the result, the control socket and the
 * commands that show it. Control thread. */
#ifndef STASIS_VM_STATS_H
#define STASIS_VM_STATS_H

#include <jansson.h>

#include "vcpu/vcpu.h"
#include "vm/perf/counters.h"

/* Adds to the object of exits: "time_ns" (of all vCPUs), "accounts" (a row for each thing that they
 * left the guest for) and "vcpus". What there is no memory for is left out. */
void stats_add_exits(json_t *exits, struct vcpu_pool *pool);
/* What KVM itself counts: of the VM, of all vCPUs added up, and, into the rows of "vcpus" that
 * stats_add_exits made, of each. Time halted in the kernel moves from "guest" to "idle". Where this
 * host's KVM has none, "kvm" says so. */
void stats_add_kvm(json_t *exits, int vm_fd, struct vcpu_pool *pool);
/* What KVM's statistics of one vCPU say better than its account, in its times and in those of all:
 * that it has run, and how long it was halted, which is in KVM_RUN but not in the guest. Pure. */
void stats_correct(json_t *times, json_t *all, const json_t *stats);
/* What the host's PMU counted of the guest alone: "counters" in the rows of "vcpus", and added up.
 */
void stats_add_counters(json_t *exits, const struct counters *counters);
/* Of a vCPU that is halted now, whose halt KVM counts once it is over: it was in the guest no
 * longer than most_ns. Pure. */
void stats_bound(json_t *times, json_t *all, const json_t *stats, uint64_t most_ns);
/* What the host did to each vCPU's thread since it began, into the rows of "vcpus", and added up as
 * "host"; the names are the report's, in "evidence". The threads must still be there. Not of more
 * than STATS_HOST_MAX vCPUs, which would take the control thread long: then it says so. After
 * stats_add_kvm, whose times it bounds, of any number of vCPUs, by how long their threads had a
 * CPU, or, where that is read, waited for one. */
#define STATS_HOST_MAX 64u
void stats_add_host(json_t *exits, struct vcpu_pool *pool);

/* Adds "lacks", an array of sentences, where the times and "accounts" can't be taken at their word:
 * what found no room in the histograms; halts_unseen: KVM was told to leave halted vCPUs in the
 * guest, unless its own statistics have halts. After stats_add_kvm. */
void stats_add_lacks(json_t *exits, bool halts_unseen);

#endif
