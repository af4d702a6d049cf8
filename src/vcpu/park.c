/* The rendezvous: every vCPU thread parks, and all are let go at once. vcpu_park is the vCPU
 * threads', everything else the control thread's. tests/model/rendezvous.pml is this protocol. */
#include <assert.h>
#include <limits.h>

#include "vcpu/futex.h"
#include "vcpu/pool.h"

/* Turns count parks and let-goes: odd while parked. They tell one rendezvous from the next, since
 * a thread may still be on its way into one, or out of it, when the control thread goes on.
 *
 *   control thread                            vCPU thread
 *   --------------                            -----------
 *   tally <- odd turn, all                    immediate_exit <- 0
 *   each: requests |= PARK                    look at requests; PARK:
 *         immediate_exit <- 1, signal           turn <- tally's; even: look again
 *   ...                                         (completed by now,) capture registers
 *                                               tally: one less, if it is still that turn's
 *   parked event  <---------------------------  the one that makes it none
 *   ...                                         b <- bell; turn is that turn: sleep while bell is b
 *   each: requests &= ~PARK
 *   tally <- even turn, turn <- it,
 *   bell <- bell + 1, wake all ---------------> clocks go on; look at requests
 *
 * A kick is not lost: see vcpu_kick. A wake-up is not missed: the futex compares the bell, which is
 * read before the turn. An errand rings the same bell, and the turn stays. Since the
 * tally's turn and count change together, a thread that is late counts for no other rendezvous. */

static uint32_t turn_of(uint64_t tally)
{
	return (uint32_t)(tally >> 32);
}

static uint32_t left_of(uint64_t tally)
{
	return (uint32_t)tally;
}

static uint64_t make_tally(uint32_t turn, uint32_t left)
{
	return (uint64_t)turn << 32 | left;
}

/* ---- vCPU thread ----------------------------------------------------------------------- */

/* False if the rendezvous is over. */
static bool count_in(struct vcpu_pool *pool, uint64_t tally)
{
	uint32_t turn = turn_of(tally);

	do {
		if (turn_of(tally) != turn)
			return false;
		/* Release: who sees none left sees every vCPU's registers; the others' exchanges
		 * go on with our release. */
	} while (!atomic_compare_exchange_weak_explicit(&pool->tally, &tally, tally - 1,
							memory_order_acq_rel,
							memory_order_relaxed));
	if (left_of(tally) == 1)
		loop_event_signal(pool->parked);
	return true;
}

static void do_errand(struct vcpu *vcpu)
{
	struct vcpu_pool *pool = vcpu->pool;
	/* Acquire: pairs with the release in vcpu_pool_errand. */
	uint32_t errands = atomic_load_explicit(&pool->errands, memory_order_acquire);
	const struct loop_event *done;

	if (errands == vcpu->errands)
		return;
	vcpu->errands = errands;
	done = pool->errand_done; /* the next errand's, once none is left */
	pool->errand(vcpu, pool->errand_arg);
	/* Release: who sees none left sees what all have done. */
	if (atomic_fetch_sub_explicit(&pool->errand_left, 1, memory_order_acq_rel) == 1)
		loop_event_signal(done);
}

/* The bell is read first: a ring after that ends the sleep, or keeps it from beginning. */
static void wait_for_turn(struct vcpu *vcpu, uint32_t turn)
{
	struct vcpu_pool *pool = vcpu->pool;

	for (;;) {
		/* Acquire: pairs with ring; what it is about is looked at after it. */
		uint32_t bell = atomic_load_explicit(&pool->bell, memory_order_acquire);

		do_errand(vcpu);
		/* Acquire: pairs with the release in vcpu_pool_unpark; the clocks are ours to read.
		 */
		if (atomic_load_explicit(&pool->turn, memory_order_acquire) != turn)
			return;
		futex_wait(&pool->bell, bell);
	}
}

void vcpu_park(struct vcpu *vcpu)
{
	struct vcpu_pool *pool = vcpu->pool;
	/* Acquire: pairs with the store in vcpu_pool_park. */
	uint64_t tally = atomic_load_explicit(&pool->tally, memory_order_acquire);
	uint32_t turn = turn_of(tally);

	/* Relaxed: the next freeze's may be lost by it, which only costs time. */
	__atomic_store_n(&vcpu->run->kvm_valid_regs, 0, __ATOMIC_RELAXED);
	if (turn % 2 == 0)
		return; /* let go before it came here */
	vcpu->capture_error = arch_vcpu_capture(vcpu->fd, vcpu->run, vcpu->state);
	/* Release: pairs with the acquire in vcpu_has_parked. A late dump reads the registers of
	 * who has parked, before all have; the count publishes them only to who sees none left. */
	atomic_store_explicit(&vcpu->parked_turn, turn, memory_order_release);
	if (!count_in(pool, tally))
		return;
	wait_for_turn(vcpu, turn);
	arch_vcpu_go_on(vcpu->fd, vcpu->state, pool->clock);
}

/* ---- control thread -------------------------------------------------------------------- */

void vcpu_pool_set_rendezvous(struct vcpu_pool *pool, const struct loop_event *parked,
			      struct arch_clock *clock)
{
	assert(!pool->vcpu[0].started);
	pool->parked = parked;
	pool->clock = clock;
}

void vcpu_pool_park(struct vcpu_pool *pool)
{
	/* Relaxed: the control thread's own. */
	uint32_t turn = atomic_load_explicit(&pool->turn, memory_order_relaxed) + 1;

	assert(turn % 2 == 1 && pool->parked && !pool->stopped && pool->vcpu[0].started);
	/* Before the tally: who counts in to this turn must not find the last one's word, or it
	 * would not sleep. Relaxed: the tally publishes it. */
	atomic_store_explicit(&pool->turn, turn, memory_order_relaxed);
	/* Release: pairs with the acquire in vcpu_park. */
	atomic_store_explicit(&pool->tally, make_tally(turn, pool->count), memory_order_release);
	/* All kicks go out before anything is waited for: the vCPUs park side by side. */
	for (unsigned i = 0; i < pool->count; i++) {
		struct vcpu *vcpu = &pool->vcpu[i];

		/* Sequentially consistent, before the kick: pairs with look. */
		atomic_fetch_or_explicit(&vcpu->requests, VCPU_REQ_PARK, memory_order_seq_cst);
		/* For the KVM_RUN that the kick ends: KVM looks at it when it leaves. Relaxed: the
		 * kick follows, and without it registers are asked for one by one. */
		__atomic_store_n(&vcpu->run->kvm_valid_regs, pool->run_registers, __ATOMIC_RELAXED);
		vcpu_kick(vcpu);
	}
}

unsigned vcpu_pool_unparked(const struct vcpu_pool *pool)
{
	/* Acquire: pairs with count_in. */
	return left_of(atomic_load_explicit(&pool->tally, memory_order_acquire));
}

bool vcpu_has_parked(const struct vcpu *vcpu)
{
	/* Acquire: pairs with the release in vcpu_park: its registers are there, and stay until it
	 * is let go. Relaxed: turn is the control thread's own. */
	return atomic_load_explicit(&vcpu->parked_turn, memory_order_acquire) ==
	       atomic_load_explicit(&vcpu->pool->turn, memory_order_relaxed);
}

/* Wakes all who are parked, by one call. */
static void ring(struct vcpu_pool *pool)
{
	/* Release: pairs with wait_for_turn. */
	atomic_fetch_add_explicit(&pool->bell, 1, memory_order_release);
	futex_wake(&pool->bell, INT_MAX);
}

void vcpu_pool_unpark(struct vcpu_pool *pool)
{
	uint32_t turn = atomic_load_explicit(&pool->turn, memory_order_relaxed);

	if (turn % 2 == 0)
		return;
	turn++;
	/* First, so that who is let go runs the guest. Relaxed: turn publishes it to those; others
	 * find an even turn, and look again. */
	for (unsigned i = 0; i < pool->count; i++)
		atomic_fetch_and_explicit(&pool->vcpu[i].requests, ~(uint32_t)VCPU_REQ_PARK,
					  memory_order_relaxed);
	/* Acquire and release: from here on nobody counts in; who did has published its registers.
	 */
	atomic_exchange_explicit(&pool->tally, make_tally(turn, 0), memory_order_acq_rel);
	/* Release: pairs with the acquire in wait_for_turn. */
	atomic_store_explicit(&pool->turn, turn, memory_order_release);
	ring(pool);
}

void vcpu_pool_errand(struct vcpu_pool *pool, void (*errand)(struct vcpu *vcpu, void *arg),
		      void *arg, const struct loop_event *done)
{
	assert(vcpu_pool_unparked(pool) == 0 && vcpu_pool_errand_over(pool));
	pool->errand = errand;
	pool->errand_arg = arg;
	pool->errand_done = done;
	/* Relaxed: the count of errands publishes it. */
	atomic_store_explicit(&pool->errand_left, pool->count, memory_order_relaxed);
	/* Release: pairs with the acquire in do_errand. */
	atomic_fetch_add_explicit(&pool->errands, 1, memory_order_release);
	ring(pool);
}

bool vcpu_pool_errand_over(const struct vcpu_pool *pool)
{
	/* Acquire: pairs with do_errand. */
	return atomic_load_explicit(&pool->errand_left, memory_order_acquire) == 0;
}
