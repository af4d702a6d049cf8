/* Plays KVM and the architecture for tests of the rendezvous: vCPUs are memory files, KVM_RUN is
 * a few lines that leave, as KVM's does, for a signal or immediate_exit and nothing else. */
#ifndef STASIS_TEST_FAKE_KVM_H
#define STASIS_TEST_FAKE_KVM_H

#include "vcpu/vcpu.h"

#define FAKE_VCPUS 64

/* What a vCPU does in KVM_RUN. */
enum fake_work {
	WORK_SPIN,   /* stays in, awake */
	WORK_HALT,   /* stays in, asleep */
	WORK_START,  /* waits for its start-up IPI: EAGAIN now and then */
	WORK_READS,  /* exits, and waits for replies */
	WORK_WRITES, /* exits as fast as it can, and waits for nothing */
	WORK_STUCK,  /* takes no notice of kicks until fake_unstick */
	WORK_FAILS,  /* KVM_RUN fails */
	WORK_STORES, /* instructions of its ration, each of which stores; see struct arch_vm */
	WORK_DEBUGS, /* instructions of its ration, each of which is a debug exception of its own */
};

#define FAKE_WORDS	 4 /* of the guest's memory, 8 bytes each */
#define FAKE_WORD_GVA(n) (UINT64_C(0xffff888000001000) + 8u * (n))

struct arch_vm {
	enum fake_work work[FAKE_VCPUS];
	uint32_t stores[FAKE_VCPUS]; /* bit n: an instruction adds 1 to fake_word[n] */
	/* A watched store exits before it is done, by one slot at a time, as on arm64; else
	 * after it, by all of its slots, as on x86. */
	bool traps_before;
	bool interrupts; /* … and before the first step over each, an interrupt is handled */
	bool vague;	 /* … and the address is that of the first slot for all of them */
};

struct arch_vcpu_state {
	uint64_t captures;   /* by its thread */
	uint64_t incomplete; /* of those, how many while an exit was to be completed */
	uint64_t skipped;
};

/* Steps of the guests so far; stands still while all are parked. */
extern _Atomic uint64_t fake_steps;
/* vCPUs that have entered KVM_RUN. */
extern _Atomic unsigned fake_runs;
/* Result of every capture. */
extern _Atomic int fake_capture_result;
extern unsigned fake_stops, fake_goes_on; /* of the VM's clock; control thread */
extern unsigned fake_ticks_go_on;	  /* … and after the vCPUs' timers, its ticks */

extern _Atomic uint64_t fake_word[FAKE_WORDS];
extern _Atomic uint64_t fake_ration[FAKE_VCPUS]; /* instructions that are left; 0: sleeps */
/* Before a watched store, KVM_RUN ends no sooner than it is kicked; how many wait so. */
extern _Atomic bool fake_hold;
extern _Atomic unsigned fake_held;
extern _Atomic int fake_watch_result[FAKE_VCPUS]; /* of arch_vcpu_watch */
extern _Atomic uint64_t fake_passed_on;		  /* debug exceptions that the guest got back */
extern _Atomic uint64_t fake_lost;		  /* … and that it did not */

/* A VM without a /dev/kvm. */
void fake_kvm_open(struct kvm *kvm, struct arch_vm *vm);
void fake_kvm_close(struct kvm *kvm);
/* This thread's next arch_exit_debug is of that vCPU, and says so. */
void fake_debug_exit(int vcpu_fd, enum arch_debug event, uint32_t slots);
/* Stuck ones go on, until the next fake_kvm_open. */
void fake_unstick(void);

#endif
