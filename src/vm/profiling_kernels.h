/* What is known of a profiled guest's kernel: the newest opening, and those before it that a sample
 * may still go by. Control thread, but where named. */
#ifndef STASIS_VM_PROFILING_KERNELS_H
#define STASIS_VM_PROFILING_KERNELS_H

#include <stdatomic.h>

#include "base/util.h"
#include "inspect/glimpse.h"

/* The kernel as one opening of it knows it. */
struct profiling_kernel {
	struct glimpse_kernel *glimpse;
	uint32_t id;		       /* from 1 */
	struct profiling_kernel *next; /* of those that were replaced */
};

/* What one vCPU thread looks at now: it is not freed meanwhile. */
struct profiling_hazard {
	CACHE_ALIGNED _Atomic(struct profiling_kernel *) kernel;
};

/* Zeroed: knows none, and no vCPU thread looks. */
struct profiling_kernels {
	_Atomic(struct profiling_kernel *) newest; /* or NULL */
	struct profiling_kernel *replaced;
	struct profiling_hazard *hazard; /* of each vCPU, or NULL */
	unsigned vcpus;
	uint32_t opened;
};

/* Before vCPU threads look. -ENOMEM. */
int profiling_kernels_init(struct profiling_kernels *k, unsigned vcpus) MUST_CHECK;
/* No vCPU thread looks any more: closes all of them, and is zeroed again, also where there was no
 * init. */
void profiling_kernels_done(struct profiling_kernels *k);

/* Takes glimpse, which is the newest from now on. -ENOMEM, and it is the caller's still. */
int profiling_kernels_add(struct profiling_kernels *k, struct glimpse_kernel *glimpse) MUST_CHECK;
/* Closes those that were replaced and that nobody looks at. To be called after samples were taken,
 * before the next opening: so a sample mostly finds the one that it went by. */
void profiling_kernels_tidy(struct profiling_kernels *k);
/* Names an address that a sample has which went by opening id: by that, or, where it is closed or
 * does not know the address, by the newest; one is there. False: that does not know it either. */
bool profiling_kernels_name(const struct profiling_kernels *k, uint32_t id, uint64_t gva, char *buf,
			    size_t len);

/* vCPU thread: the newest, or NULL. It stays until the vCPU lets go. */
struct profiling_kernel *profiling_kernels_hold(struct profiling_kernels *k, unsigned vcpu);
void profiling_kernels_let_go(struct profiling_kernels *k, unsigned vcpu);

#endif
