/* The product's side: a VM of src/arch with a pool of src/vcpu on a loop, and a freeze, whose
 * vCPUs run a guest of guest.h. The control thread's, which is the main thread. */
#ifndef STASIS_BENCH_RIG_H
#define STASIS_BENCH_RIG_H

#include "bench.h"
#include "freeze/freeze.h"
#include "guest.h"

struct rig_config {
	unsigned count;
	enum guest_program program;
	bool first_only; /* the other vCPUs get no program: they wait for a start-up IPI */
	const int *pin;	 /* count entries, or NULL */
	/* Serves one exit; may be NULL: nothing is done but counting. */
	void (*serve)(struct kvm_run *run, const struct arch_exit *exit, void *arg);
	void *arg;
};

struct rig {
	struct rig_config config;
	struct kvm kvm;
	struct topology topology;
	struct guest_memory mem;
	struct arch_vm *vm;
	struct loop *loop;
	struct vcpu_pool *pool;
	struct freeze freeze;
	struct freeze_wait wait;
	bool started;
	bool frozen;	      /* wait's answer came */
	uint64_t frozen_ns;   /* … when */
	uint64_t served;      /* exits */
	struct error failure; /* of a vCPU thread */
};

/* All but the vCPUs. On failure, as below, rig_close cleans up. */
int rig_prepare(struct rig *rig, const struct rig_config *config, struct error *err) MUST_CHECK;
/* The pool, its freeze and its threads; the guests run. */
int rig_start(struct rig *rig, struct error *err) MUST_CHECK;
/* Both, and then held. */
int rig_open(struct rig *rig, const struct rig_config *config, struct error *err) MUST_CHECK;
/* Accepts a zeroed one. */
void rig_close(struct rig *rig);

/* Freezes, and returns when it is frozen; serves exits meanwhile. */
int rig_hold(struct rig *rig, struct error *err) MUST_CHECK;
int rig_go(struct rig *rig, struct error *err) MUST_CHECK;
/* One turn of the loop, of at most a tenth of a second. */
int rig_turn(struct rig *rig, struct error *err) MUST_CHECK;
struct guest_area *rig_area(struct rig *rig, unsigned index);

/* Adds the guest's samples since there were `from`, but for the first, which was held in between.
 * Not while it runs; of the floor's guest, too. */
int rig_samples(struct bench *b, enum results_side side, const struct guest_area *area,
		uint64_t from, struct error *err) MUST_CHECK;

/* From now on, the n-th KVM_RUN from here (of any VM, by any thread) keeps its time. */
void rig_entries_expect(unsigned n);
/* Waits for it, a few seconds at most; the time when it was about to begin (now_ns), or 0. */
uint64_t rig_entries_wait(void);
/* No vCPU runs: the next exit (of any VM) keeps the time when KVM_RUN returned. */
void rig_return_expect(void);
/* That time (now_ns), once the exit has been heard of. */
uint64_t rig_returned_ns(void);

#endif
