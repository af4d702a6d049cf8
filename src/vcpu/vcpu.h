/* The pool of vCPU threads. A vCPU thread runs KVM_RUN and nothing else of substance: it posts
 * exits (vcpu/exits.h), obeys requests, and ends.
 *
 *   CREATED ──start──► RUNNING ──stop──► STOPPED        (any state ──stop──► STOPPED)
 */
#ifndef STASIS_VCPU_VCPU_H
#define STASIS_VCPU_VCPU_H

#include <pthread.h>
#include <stdatomic.h>

#include "arch/arch.h"
#include "vcpu/account.h"
#include "vcpu/exits.h"
#include "vcpu/sample.h"
#include "vcpu/watch.h"

struct vcpu_pool;

/* Bits of vcpu->requests: set by the control thread, seen by the vCPU thread before KVM_RUN. */
enum vcpu_request {
	VCPU_REQ_STOP = 1u << 0, /* end the thread */
	VCPU_REQ_LOOK = 1u << 1, /* cleared by the vCPU thread once it is out of KVM_RUN */
	VCPU_REQ_NMI = 1u << 2,	 /* KVM_NMI, then cleared: two at once are one, as the line's are */
	VCPU_REQ_PARK = 1u << 3, /* between vcpu_pool_park and vcpu_pool_unpark */
	VCPU_REQ_WATCH = 1u << 4,   /* arm what the slots say, then cleared */
	VCPU_REQ_SAMPLER = 1u << 5, /* begin or end to sample, then cleared */
	VCPU_REQ_SAMPLE = 1u << 6,  /* the thread's own timer: a sample is due */
};

/* Counters of one vCPU. Each is written by one thread only (named) and read by others relaxed. */
struct vcpu_stats {
	_Atomic uint64_t exits;		/* vCPU thread: returns from KVM_RUN but for EINTR */
	_Atomic uint64_t posted;	/* vCPU thread: went on without waiting */
	_Atomic uint64_t handed_off;	/* vCPU thread: waited for a reply */
	_Atomic uint64_t slept;		/* vCPU thread: of those, how many slept on the futex */
	_Atomic uint64_t kicked;	/* vCPU thread: EINTR returns */
	_Atomic uint64_t by_reason[64]; /* vCPU thread: by KVM_EXIT_*; the last is "other" */
};

struct vcpu {
	unsigned index;
	uint32_t id;	     /* KVM's vcpu_id */
	int fd;		     /* owned by the pool; only this vCPU's thread runs ioctls on it */
	struct kvm_run *run; /* vCPU thread's; the control thread's between post and reply */
	pthread_t thread;
	bool started; /* control thread: thread exists */
	pid_t tid;    /* the thread's; from the return of vcpu_pool_start on */
	struct vcpu_pool *pool;
	struct vcpu_exits exits;
	CACHE_ALIGNED _Atomic uint32_t requests; /* enum vcpu_request */
	struct vcpu_stats stats;
	/* KVM_GET_STATS_FD's, opened by the vCPU thread when it has been in KVM_RUN once, and
	 * closed with the pool; -1: not yet, or this KVM has none. */
	_Atomic int stats_fd;
	bool stats_asked;	       /* vCPU thread's */
	struct account *account;       /* the pool's; each field says whose it is */
	struct vcpu_watching watching; /* vCPU thread's */
	/* Registers at the last park: the vCPU thread's, and the control thread's to read while
	 * it is parked. capture_error: why they are none, a negative errno. */
	struct arch_vcpu_state *state;
	int capture_error;
	struct sampler *sampler;	 /* the pool's, or NULL; see vcpu/sample.h */
	struct arch_vcpu_state *sampled; /* vCPU thread's: registers at the last sample */
	_Atomic uint32_t parked_turn;	 /* of the pool's, in which it parked last */
	uint32_t errands;		 /* vCPU thread's: the last that it did */
	struct error error; /* vCPU thread's until failed() is called; why it failed to run */
};

/* exit.reason of the post that says that a vCPU thread ended by itself; no KVM_EXIT_* value. */
#define VCPU_EXIT_FAILED UINT32_MAX

struct vcpu_pool_config {
	unsigned count;
	const struct topology *topology; /* outlives the pool */
	const struct guest_memory *mem;	 /* for watches: the guest's code; outlives the pool */
	/* Host CPU of each vCPU, or -1; NULL: none is pinned. count entries, copied. */
	const int *pin;
	/* vCPU thread: instead of arch_vcpu_setup, or NULL. */
	int (*set_up)(struct vcpu *vcpu, void *arg, struct error *err);
	uint64_t set_up_limit_ns; /* vcpu_pool_start gives up after it; 0: it waits */
	/* Inside vcpu_pool_start, once all are set up and before any guest code runs; or NULL. Some
	 * may wait in KVM_RUN (arch_vcpu_waits), where a call on their descriptors would wait for
	 * them. Fails: so does vcpu_pool_start. */
	int (*all_set_up)(void *arg, struct error *err);
	/* Serves one exit on the control thread, in the order of vcpu/exits.h. run is NULL for a
	 * posted one. The reply is sent when it returns. May stop the pool, not free it. */
	void (*serve)(struct vcpu *vcpu, struct kvm_run *run, const struct arch_exit *exit,
		      void *arg);
	/* A vCPU thread ended by itself: vcpu->error says why. Control thread. */
	void (*failed)(struct vcpu *vcpu, void *arg);
	void *arg;
};

/* Creates every vCPU (KVM_CREATE_VCPU, its run mapping). No thread yet. Past KVM's limits and
 * shortages: contention. The pool adds itself to loop as a source and owns an event descriptor
 * there, the doorbell. Control thread, as all below but where named. */
int vcpu_pool_new(struct loop *loop, struct kvm *kvm, const struct vcpu_pool_config *config,
		  struct vcpu_pool **ret_pool, struct error *err) MUST_CHECK;
/* Starts the threads; each calls arch_vcpu_setup(vm, …), or what config says, first. No guest code
 * runs before all are set up: vCPUs that the guest has to start may enter KVM_RUN before
 * (arch_vcpu_waits), the others then. Returns when every one is set up, or with the first that
 * failed. Kick signal: SIGRTMIN. */
int vcpu_pool_start(struct vcpu_pool *pool, struct arch_vm *vm, struct error *err) MUST_CHECK;
/* Makes one vCPU leave KVM_RUN soon, and look at its requests. Never lost, never blocks. */
void vcpu_kick(struct vcpu *vcpu);
/* A non-maskable interrupt, before the vCPU's next entry. Only with KVM_CAP_USER_NMI. */
void vcpu_nmi(struct vcpu *vcpu);
/* Ends every thread, in KVM_RUN, halted, waiting for a reply or never started, and joins it.
 * Bounded: well under a second. Idempotent. Exits that were not served by then are dropped. */
void vcpu_pool_stop(struct vcpu_pool *pool);
/* Stops, unmaps, closes the vCPU descriptors, leaves the loop. Accepts NULL. Not from serve or
 * failed. */
void vcpu_pool_free(struct vcpu_pool *pool);

/* ---- the rendezvous: park.c -------------------------------------------------------------- */

/* Whom the last vCPU to park tells, and the clocks that vCPUs go on with. Both outlive the pool's
 * threads. Once, before vcpu_pool_start. */
void vcpu_pool_set_rendezvous(struct vcpu_pool *pool, const struct loop_event *parked,
			      struct arch_clock *clock);
/* Asks every vCPU to park, and kicks them all. Each completes what KVM still has to do, waiting
 * for replies if need be, and captures its registers first. The last one signals parked, once.
 * Never blocks. The pool runs, and is not parked. */
void vcpu_pool_park(struct vcpu_pool *pool);
/* How many have not parked yet. 0 from the signal until vcpu_pool_unpark. */
unsigned vcpu_pool_unparked(const struct vcpu_pool *pool);
/* Whether this one has parked since vcpu_pool_park. */
bool vcpu_has_parked(const struct vcpu *vcpu);
/* While all are parked: each thread calls errand(vcpu, arg) once, and the last one that has done so
 * signals done. All at once; none is let go before its errand is over. One at a time. */
void vcpu_pool_errand(struct vcpu_pool *pool, void (*errand)(struct vcpu *vcpu, void *arg),
		      void *arg, const struct loop_event *done);
/* Whether none is left of the last one. */
bool vcpu_pool_errand_over(const struct vcpu_pool *pool);
/* Lets go who has parked; who has not, never will. One wake-up for all. After it a signal of
 * parked may still be on its way. */
void vcpu_pool_unpark(struct vcpu_pool *pool);

unsigned vcpu_pool_count(const struct vcpu_pool *pool);
struct vcpu *vcpu_pool_get(struct vcpu_pool *pool, unsigned index);

#endif
