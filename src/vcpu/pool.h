/* What the pool, its threads and the kick share. Private to src/vcpu. */
#ifndef STASIS_VCPU_POOL_H
#define STASIS_VCPU_POOL_H

#include <signal.h>

#include "vcpu/vcpu.h"

#define VCPU_KICK_SIGNAL SIGRTMIN

enum vcpu_gate { VCPU_GATE_SHUT, VCPU_GATE_OPEN };

struct vcpu_pool {
	struct vcpu *vcpu;
	unsigned count;
	bool immediate_exit; /* KVM_CAP_IMMEDIATE_EXIT */
	uint32_t run_size;
	uint64_t run_registers;		/* arch_run_registers */
	struct vcpu_pool_config config; /* pin is ours */
	struct arch_vm *vm;		/* since vcpu_pool_start */
	struct vcpu_exits_hub hub;
	bool stopped;

	/* Futex words of the start: threads that are not set up yet (the control thread waits for
	 * none), and enum vcpu_gate (who may not run before the others wait until it opens). */
	CACHE_ALIGNED _Atomic uint32_t unready;
	_Atomic uint32_t first_failed; /* 1 + the vCPU whose set-up failed first; 0: none; before
					  its step of unready */
	CACHE_ALIGNED _Atomic uint32_t gate;

	struct vcpu_watch_slot watch[ARCH_WATCHES];
	struct vcpu_stores stores[ARCH_WATCHES];
	_Atomic int watch_error; /* the first of any vCPU that could not arm; relaxed */

	struct sampler *samplers;	/* count; owned; NULL until vcpu_pool_sample_init */
	void *sampled;			/* count of arch_vcpu_state_size bytes each; owned */
	struct sampling sampling;	/* stays */
	_Atomic uint32_t sample_period; /* odd while vCPUs sample */
	_Atomic uint64_t sample_mean_ns;

	struct account *accounts; /* count; owned */
	void *states;		  /* count of arch_vcpu_state_size bytes each; owned */
	const struct loop_event *parked;
	struct arch_clock *clock;
	/* The rendezvous: see park.c. */
	CACHE_ALIGNED _Atomic uint64_t tally; /* turn << 32 | how many have not parked */
	CACHE_ALIGNED _Atomic uint32_t turn;  /* odd while parked */
	_Atomic uint32_t bell;		      /* futex word of who is parked: rings are counted */

	/* What parked threads do meanwhile; see vcpu_pool_errand. */
	void (*errand)(struct vcpu *vcpu, void *arg);
	void *errand_arg;
	const struct loop_event *errand_done;
	_Atomic uint32_t errands;     /* begun */
	_Atomic uint32_t errand_left; /* threads that have not done the last one */
};

/* The thread's body: start routine of pthread_create, arg is its struct vcpu. Begins with every
 * signal blocked but those of faults. */
void *vcpu_thread(void *arg);
/* Any thread: who waits at the gate goes on. Idempotent. */
void vcpu_gate_open(struct vcpu_pool *pool);
/* vCPU thread, which saw VCPU_REQ_PARK. Nothing is left for KVM to complete. Returns when it may go
 * on, or has to look at its requests again. */
void vcpu_park(struct vcpu *vcpu);
/* Gives the kick signal its empty handler. Process-wide. */
int vcpu_kick_install(void) MUST_CHECK;
static inline int vcpu_pin_of(const struct vcpu *vcpu)
{
	return vcpu->pool->config.pin ? vcpu->pool->config.pin[vcpu->index] : -1;
}

#endif
