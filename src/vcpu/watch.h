/* Watches on guest memory: what vCPU threads do at a watched store. The control thread publishes
 * and withdraws while every vCPU is parked; from its next entry on, each vCPU has them armed.
 *
 *   a store ──► KVM_EXIT_DEBUG ──► value and test, on the vCPU ──► latch ──► posted as an exit
 *
 * The exit waits for its reply, so the vCPU stands behind the store while the control thread
 * freezes the rest.
 *
 * Where a trap comes before its store, it may leave open which of several watches within 64 bytes
 * it is about: a hit is then the one whose value has changed, and a store of the same value is not
 * told of. If another vCPU changes a neighbour in that moment, either's hit may tell of both. */
#ifndef STASIS_VCPU_WATCH_H
#define STASIS_VCPU_WATCH_H

#include <stdatomic.h>

#include "arch/arch.h"
#include "base/compiler.h"
#include "vcpu/exclusive.h"

struct vcpu;
struct vcpu_pool;

enum watch_op {
	WATCH_ANY, /* every store */
	WATCH_EQ,
	WATCH_NE,
	WATCH_LT,
	WATCH_LE,
	WATCH_GT,
	WATCH_GE,
	WATCH_AND, /* any of these bits */
};

/* A condition on the value after the store. */
struct watch_test {
	enum watch_op op;
	uint64_t value; /* two's complement if signed */
	bool is_signed;
};

/* value: of bytes 1, 2, 4 or 8, the rest 0. Pure. */
bool watch_test_passes(const struct watch_test *test, uint64_t value, unsigned bytes);

/* The guest's bytes, which may change meanwhile, in one piece. host is aligned to bytes. */
uint64_t watch_load(const uint8_t *host, unsigned bytes);

struct vcpu_watch {
	uint64_t gva;	     /* aligned to bytes */
	unsigned bytes;	     /* 1, 2, 4 or 8 */
	const uint8_t *host; /* the same bytes in our memory; as long as it is published */
	struct watch_test test;
	bool tell_all; /* also stores that the test does not pass */
};

/* One that was latched. The control thread's from the exit until vcpu_watch_unlatch. */
struct vcpu_watch_hit {
	uint64_t before,
		after; /* before: at the last store that was seen, or when it was published */
	bool passed;
	unsigned vcpu;
};

struct vcpu_watch_slot {
	/* Published in this order and withdrawn in the other: who sees an address sees its bytes.
	 */
	_Atomic(const uint8_t *) host;
	_Atomic uint64_t gva; /* 0: none */
	unsigned bytes;	      /* what is not atomic changes only while all vCPUs are parked */
	struct watch_test test;
	bool tell_all;
	_Atomic uint64_t last;	 /* value at the last store; any vCPU, relaxed */
	_Atomic uint64_t stores; /* that were seen; any vCPU, relaxed */
	_Atomic bool latched;	 /* one store by many vCPUs is one hit */
	struct vcpu_watch_hit hit;
};

/* A vCPU thread's own. */
struct vcpu_watching {
	struct arch_watch armed[ARCH_WATCHES];
	uint32_t pending;	       /* slots that the instruction under way may store to */
	uint32_t sure;		       /* … and those that it does */
	uint64_t before[ARCH_WATCHES]; /* values of the pending ones before it */
	/* That instruction, where it is known (pc is not 0), and where it counts as under way. */
	struct arch_store store;
	uint32_t under_way;
	struct vcpu_pair pair;
};

/* ---- control thread -------------------------------------------------------------------------- */

/* All vCPUs are parked; slot is free. */
void vcpu_watch_publish(struct vcpu_pool *pool, unsigned slot, const struct vcpu_watch *watch);
/* All vCPUs are parked, or have ended. A free slot is left alone. */
void vcpu_watch_withdraw(struct vcpu_pool *pool, unsigned slot);
/* The latched hit of an exit whose addr has the slot's bit; NULL: it is none (any more). */
const struct vcpu_watch_hit *vcpu_watch_hit(const struct vcpu_pool *pool, unsigned slot);
/* The next store may be a hit again. */
void vcpu_watch_unlatch(struct vcpu_pool *pool, unsigned slot);
uint64_t vcpu_watch_stores(const struct vcpu_pool *pool, unsigned slot);
/* The first error of a vCPU that could not arm, a negative errno; 0: none. */
int vcpu_watch_error(const struct vcpu_pool *pool);

/* ---- vCPU thread: for the run loop ---------------------------------------------------- */

/* It saw VCPU_REQ_WATCH. */
void vcpu_watch_arm(struct vcpu *vcpu);
/* KVM_RUN ended with KVM_EXIT_DEBUG. The slots that were hit, for the exit's addr; 0: run on. */
uint32_t vcpu_watch_exit(struct vcpu *vcpu);

#endif
