/* Performance mode on the process: priorities, memory, exits, clock. Each step is tried, and what
 * fails is added to missing with what mends it. Control thread. */
#ifndef STASIS_VM_PERF_APPLY_H
#define STASIS_VM_PERF_APPLY_H

#include <pthread.h>

#include "arch/kvm.h"
#include "guest/memory.h"
#include "guest/topology.h"
#include "loop/loop.h"
#include "vm/perf/missing.h"
#include "vm/perf/plan.h"

/* Real-time priorities (SCHED_FIFO): the control thread is ahead of vCPUs, whom it serves. */
#define PERF_VCPU_PRIORITY    1
#define PERF_CONTROL_PRIORITY 2

/* What a run will need of memory. */
struct perf_need {
	uint64_t bytes; /* the guest's */
	uint64_t span;	/* of address space, with the holes between */
	unsigned vcpus;
	bool hugetlb; /* on huge pages of its own, which the host keeps apart */
};

/* What can be known before anything is built: limits, capabilities, memory. Whether all of the
 * guest's memory has room in the host and in the control groups that we are in. */
bool perf_apply_check(const struct perf_need *need, struct perf_missing *missing);
/* After the VM exists, before the first vCPU: no exits on PAUSE and HLT. KVM refuses HLT under the
 * SMT-RSB mitigation: noted. MWAIT stays hidden from the guest: its deep sleeps cost wake-ups.
 * Whether KVM agreed not to see that a vCPU is halted. */
bool perf_apply_exits(struct kvm *kvm, struct perf_missing *missing);
/* Before anything touches the memory: each guest node strictly on the host nodes of its vCPUs (one
 * without vCPUs: of all), and transparent huge pages for what the pre-fault brings in. Memory that
 * is on huge pages of its own (hugetlb) passes hugetlb. fits: as perf_apply_check said. Whether it
 * still does, in those nodes. */
bool perf_apply_placement(const struct guest_memory *mem, const struct topology *t,
			  const struct host_cpus *host, const struct perf_plan *plan, bool hugetlb,
			  bool fits, struct perf_missing *missing) MUST_CHECK;
/* Brings all of it in, with several threads, and looks whether it came in large pages (but for
 * hugetlb, where it did). tick is called now and then with the bytes that are there; where it says
 * false, all stop: -EINTR. Whether it is there whole. */
int perf_apply_memory(const struct guest_memory *mem, bool hugetlb,
		      bool (*tick)(uint64_t done, void *arg), void *arg, bool *ret_whole,
		      struct perf_missing *missing) MUST_CHECK;
/* Once it is there and the guest is loaded, which takes memory for a while that would count as
 * locked: locks all of the process, now and later. khugepaged is kept off from here on: it would
 * move pages under the guest. */
void perf_apply_lock(const struct guest_memory *mem, struct perf_missing *missing);
/* After the vCPUs exist: whether the VM's clock runs on a stable TSC. It says so only after it has
 * been set, so it is read, set to what it reads, and read again. */
void perf_apply_clock(struct kvm *kvm, struct perf_missing *missing);

/* SCHED_FIFO of this priority for a thread, and not for those that it starts, or that the kernel
 * forks from it (io_uring's, KVM's). Negative errno. */
int perf_apply_realtime(pthread_t thread, int priority) MUST_CHECK;
/* This thread on cpus only. Negative errno. */
int perf_apply_affinity(const struct host_cpu_set *cpus) MUST_CHECK;
/* The threads that the kernel has for the loop's I/O on cpus only. They inherit the control
 * thread's host CPU, and where it spins there they would never run. False: they stay
 * where they are, and missing has why, as a reason for the control thread to sleep. */
bool perf_apply_workers(struct loop *loop, const struct host_cpu_set *cpus,
			struct perf_missing *missing) MUST_CHECK;
/* This thread, and those that it starts: timers as sharp as they get. */
void perf_apply_timer_slack(void);
/* This thread as any other again. */
void perf_apply_ordinary(void);

#endif
