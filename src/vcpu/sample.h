/* Sampling: each vCPU is interrupted by a timer of its own, at random, and writes down what it did.
 *
 *   timer ──SIGRTMIN──► request bit, immediate_exit ──► out of KVM_RUN ──► capture ──► ring
 *   ▲                                                                                   │
 *   └──────────────────────────────── the next interval ────────────────────────────────┘
 *
 * Intervals are exponential, by each vCPU's own generator, so they keep step with nothing. Nobody
 * is stopped but the vCPU itself. While it is found halted, they double, up to SAMPLE_HALTED_MAX
 * times; a sample weighs as many mean intervals as the one that led to it was drawn from, so that
 * sums stay true. */
#ifndef STASIS_VCPU_SAMPLE_H
#define STASIS_VCPU_SAMPLE_H

#include <time.h>

#include "arch/arch.h"
#include "base/spsc.h"

struct vcpu;
struct vcpu_pool;

#define SAMPLE_HZ_MAX	  10000u
#define SAMPLE_HALTED_MAX 8u
#define SAMPLE_FRAMES	  48u
#define SAMPLE_RING	  128u /* a power of two */
#define SAMPLE_COMM	  16u

enum sample_kind {
	SAMPLE_IDLE, /* halted to wait for an interrupt, or never started */
	SAMPLE_USER,
	SAMPLE_KERNEL,
};

struct sample {
	uint32_t period; /* of sampling, in which it was taken */
	uint32_t weight; /* mean intervals that it stands for */
	uint64_t at_ns;	 /* CLOCK_MONOTONIC */
	uint8_t kind;	 /* enum sample_kind */
	bool halted;	 /* of the others: KVM says so, and its interrupts are off */
	bool complete;	 /* the stack goes down to its end */
	bool has_task;
	uint8_t frames;
	uint32_t kernel; /* capture's: which of what is known of the kernel it went by; 0: none */
	int32_t pid;	 /* with has_task; 0: an idle CPU's */
	char comm[SAMPLE_COMM]; /* … NUL-terminated */
	/* Innermost first: in the kernel where functions begin, where that is known; else
	 * addresses. */
	uint64_t frame[SAMPLE_FRAMES];
};

struct sampling {
	/* vCPU thread, out of KVM_RUN: fills kind and complete to frame of one that is not
	 * SAMPLE_IDLE. */
	void (*capture)(unsigned vcpu, const struct arch_vcpu_state *state, struct sample *sample,
			void *arg);
	void *arg;
};

/* One vCPU's. */
struct sampler {
	struct spsc ring; /* of struct sample */
	/* vCPU thread's. */
	timer_t timer;
	bool has_timer, armed;
	_Atomic uint64_t due_ns; /* CLOCK_MONOTONIC; for the thread's own signal handler */
	uint32_t period;
	uint64_t mean_ns;
	uint32_t halted; /* the factor of the interval under way */
	uint64_t random;
	/* vCPU thread writes; any reads, relaxed. */
	_Atomic uint64_t taken, dropped;
	_Atomic uint64_t took_ns, longest_ns; /* on this thread, since it began to sample last */
	_Atomic uint64_t failure; /* the last that a sample was not taken for: period << 32 | errno;
				   * 0: none */
	struct sample slot[SAMPLE_RING];
};

/* ---- control thread ---------------------------------------------------------------------- */

/* Before the first start: makes the rings. sampling is copied. Contention: KVM lacks
 * immediate_exit. */
int vcpu_pool_sample_init(struct vcpu_pool *pool, const struct sampling *sampling,
			  struct error *err) MUST_CHECK;
/* All vCPUs sample from now on, at intervals of that mean. Not while it is on. Returns the period
 * of the samples to come. */
uint32_t vcpu_pool_sample_start(struct vcpu_pool *pool, uint64_t mean_ns);
/* They soon stop. What they have put down stays. */
void vcpu_pool_sample_stop(struct vcpu_pool *pool);
/* The oldest sample of a vCPU, or NULL; it stays until the release. */
const struct sample *vcpu_sample_peek(struct vcpu *vcpu);
void vcpu_sample_release(struct vcpu *vcpu);
/* Since the pool was made. */
uint64_t vcpu_samples_dropped(const struct vcpu *vcpu);
/* The last that a sample of that period was not taken for, a negative errno; 0: none, or it is of a
 * later one. */
int vcpu_sample_error(const struct vcpu *vcpu, uint32_t period);
/* What samples took on the vCPU's thread since the last start, without the way out of the guest and
 * back: all, and the longest, with what the host's scheduler did meanwhile. */
void vcpu_sample_cost(const struct vcpu *vcpu, uint64_t *ret_all_ns, uint64_t *ret_longest_ns);
/* No vCPU thread is left. */
void vcpu_pool_sample_free(struct vcpu_pool *pool);

/* ---- vCPU thread: for the run loop --------------------------------------------------------- */

/* In its signal handler, whatever sent the signal: one may stand for several (a sanitizer keeps one
 * of each kind), so it is the time that says whether a sample is due. */
void vcpu_sample_signal(void);
/* It saw VCPU_REQ_SAMPLER: begins or ends. */
void vcpu_sampler_set(struct vcpu *vcpu);
/* It saw VCPU_REQ_SAMPLE, and nothing is left for KVM to complete. */
void vcpu_sample_take(struct vcpu *vcpu);
/* Around a park, which is no time of the guest's: none is due in it. Intervals have no memory, so
 * that the one that was under way begins anew. */
void vcpu_sampler_park(struct vcpu *vcpu);
void vcpu_sampler_unpark(struct vcpu *vcpu);
/* Its last. */
void vcpu_sampler_end(struct vcpu *vcpu);

/* ---- pure ---------------------------------------------------------------------------------- */

/* By the generator of base/random.h: exponential, of that mean, cut at 16 times it; at least 1. */
uint64_t sample_interval(uint64_t *state, uint64_t mean);
/* The time that samples of so much weight stand for, at hz a second. */
static inline uint64_t sample_ns(uint64_t weight, unsigned hz)
{
	return (uint64_t)((double)weight * 1e9 / hz + 0.5);
}

#endif
