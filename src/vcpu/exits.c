/* The hand-off of exits and replies: see exits.h for the order and why it holds.
 * vcpu_exits_post runs on vCPU threads, everything else on the control thread. */
#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <stdlib.h>

#include "base/util.h"
#include "vcpu/exits.h"
#include "vcpu/futex.h"

/* A spin shorter than a futex call is worth trying again, whatever came of the last. */
#define SPIN_MIN_NS   2000u
#define SPIN_START_NS 20000u
/* Looks at the word between two looks at the clock. */
#define SPIN_LOOKS 32

/* ---- vCPU thread ----------------------------------------------------------------------- */

static void list(struct vcpu_exits *e)
{
	struct vcpu_exits_hub *hub = e->hub;
	struct vcpu_exits *top;

	/* Release: pairs with the exchange in gather, which then sees our slot. Acquire: its use
	 * of next is over. */
	if (atomic_exchange_explicit(&e->listed, 1, memory_order_acq_rel))
		return;
	top = atomic_load_explicit(&hub->stack, memory_order_relaxed);
	do
		e->next = top;
	while (!atomic_compare_exchange_weak_explicit(
		/* Release: gather sees next. Sequentially consistent: pairs with source_arm. */
		&hub->stack, &top, e, memory_order_seq_cst, memory_order_relaxed));
	/* After the push: pairs with source_arm. The exchange leaves the call to one of us. */
	if (atomic_load_explicit(&hub->asleep, memory_order_seq_cst) &&
	    atomic_exchange_explicit(&hub->asleep, 0, memory_order_seq_cst))
		loop_event_signal(&hub->doorbell);
}

static bool still_out(uint32_t word)
{
	return word == VCPU_REPLY_WAITED_FOR || word == VCPU_REPLY_ASLEEP;
}

/* Whether the reply came within bound ticks. */
static bool spin(struct vcpu_exits *e, uint64_t begin, uint64_t bound)
{
	do {
		for (unsigned i = 0; i < SPIN_LOOKS; i++) {
			/* Acquire: pairs with the release in answer; the run page is ours again. */
			if (!still_out(atomic_load_explicit(&e->reply, memory_order_acquire)))
				return true;
			cpu_relax();
		}
	} while (ticks_between(begin, ticks_now()) < bound);
	return false;
}

/* waited_ns includes the wake-up, so twice the limit still counts as a near miss. */
static void adapt(struct vcpu_exits *e, bool spun, uint64_t waited_ns)
{
	uint32_t bound = e->spin_ns;

	if (spun)
		bound += bound / 4;
	else if (waited_ns < 2 * VCPU_EXITS_SPIN_NS)
		bound *= 2;
	else
		bound /= 2;
	e->spin_ns = MIN(MAX(bound, SPIN_MIN_NS), VCPU_EXITS_SPIN_NS);
}

/* begin: the tick of the post. */
static enum vcpu_exits_wait wait_for_reply(struct vcpu_exits *e, uint64_t begin)
{
	bool may_spin = e->hub->may_spin, slept = false;
	const double ticks_per_ns = e->hub->ticks_per_ns;
	uint32_t word = VCPU_REPLY_WAITED_FOR;

	if (!may_spin || !spin(e, begin, (uint64_t)(e->spin_ns * ticks_per_ns)))
		/* Release: pairs with the exchange in answer, which wakes. Acquire: as in spin. */
		slept = atomic_compare_exchange_strong_explicit(&e->reply, &word, VCPU_REPLY_ASLEEP,
								memory_order_acq_rel,
								memory_order_acquire);
	/* A kick ends the sleep early: there is still no reply, so sleep on. Acquire: as in spin.
	 */
	while (slept && atomic_load_explicit(&e->reply, memory_order_acquire) == VCPU_REPLY_ASLEEP)
		futex_wait(&e->reply, VCPU_REPLY_ASLEEP);
	e->seen = ticks_now();
	if (may_spin)
		adapt(e, !slept, (uint64_t)((double)ticks_between(begin, e->seen) / ticks_per_ns));
	/* Fails when released: that stays. Relaxed: the next post publishes it. */
	word = VCPU_REPLY_SENT;
	atomic_compare_exchange_strong_explicit(&e->reply, &word, VCPU_REPLY_NONE,
						memory_order_relaxed, memory_order_relaxed);
	return slept ? VCPU_EXITS_SLEPT : VCPU_EXITS_WAITED;
}

enum vcpu_exits_wait vcpu_exits_post(struct vcpu_exits *e, const struct arch_exit *exit)
{
	struct vcpu_exits_slot *slot = spsc_reserve(&e->ring);
	uint32_t word = VCPU_REPLY_NONE;
	bool waits, released = false;
	struct account *account = e->account;
	uint64_t posted;

	/* The post that filled the ring has waited for its reply, unless released. */
	if (!slot) {
		e->seen = ticks_now();
		return VCPU_EXITS_WAITED;
	}
	waits = exit->wants_reply || spsc_last(&e->ring);
	if (waits)
		/* Fails when released. Relaxed: published with the slot. */
		released = !atomic_compare_exchange_strong_explicit(&e->reply, &word,
								    VCPU_REPLY_WAITED_FOR,
								    memory_order_relaxed,
								    memory_order_relaxed);
	/* A wait is timed for its spin, too. */
	posted = waits ? ticks_now() : account ? account->left : 0;
	slot->exit = *exit;
	slot->waits = waits;
	slot->posted = posted;
	if (account) {
		slot->key = account->key;
		if (waits)
			account_waits(account, posted);
	}
	/* Release: pairs with the acquire in source_poll. Acquire: what the guest has seen came
	 * before. */
	slot->exit.ticket = atomic_fetch_add_explicit(&e->hub->ticket, 1, memory_order_acq_rel);
	spsc_publish(&e->ring);
	list(e);
	if (account)
		account_put(account);
	if (waits && !released)
		return wait_for_reply(e, posted);
	e->seen = account ? ticks_now() : 0;
	return waits ? VCPU_EXITS_WAITED : VCPU_EXITS_WENT_ON;
}

/* ---- control thread: replies ----------------------------------------------------------- */

static void answer(struct vcpu_exits *e, uint32_t word)
{
	/* Release: pairs with the acquire in wait_for_reply; it sees what we did to its run page.
	 * Acquire: nothing of its next wait is touched before. */
	if (atomic_exchange_explicit(&e->reply, word, memory_order_acq_rel) == VCPU_REPLY_ASLEEP)
		futex_wake(&e->reply, 1);
}

void vcpu_exits_release(struct vcpu_exits *e)
{
	answer(e, VCPU_REPLY_RELEASED);
}

/* ---- control thread: the heap, smallest ticket first ----------------------------------- */

static void heap_put(struct vcpu_exits_hub *hub, struct vcpu_exits *e)
{
	unsigned i = hub->heap_len++;

	for (; i > 0 && hub->heap[(i - 1) / 2]->oldest > e->oldest; i = (i - 1) / 2)
		hub->heap[i] = hub->heap[(i - 1) / 2];
	hub->heap[i] = e;
	e->in_heap = true;
}

/* Puts e where the top was. */
static void heap_replace_top(struct vcpu_exits_hub *hub, struct vcpu_exits *e)
{
	unsigned i = 0, child;

	while ((child = 2 * i + 1) < hub->heap_len) {
		if (child + 1 < hub->heap_len &&
		    hub->heap[child + 1]->oldest < hub->heap[child]->oldest)
			child++;
		if (e->oldest <= hub->heap[child]->oldest)
			break;
		hub->heap[i] = hub->heap[child];
		i = child;
	}
	hub->heap[i] = e;
}

/* The top's oldest exit has been served. */
static void heap_advance(struct vcpu_exits_hub *hub)
{
	struct vcpu_exits *top = hub->heap[0];
	const struct vcpu_exits_slot *slot = spsc_peek(&top->ring);

	if (slot) {
		top->oldest = slot->exit.ticket;
		heap_replace_top(hub, top);
		return;
	}
	/* Its ring was read empty after listed was cleared: what it posts now, it lists. */
	top->in_heap = false;
	if (--hub->heap_len > 0)
		heap_replace_top(hub, hub->heap[hub->heap_len]);
}

/* ---- control thread: takes ------------------------------------------------------------- */

/* Moves the stack into the heap. */
static void gather(struct vcpu_exits_hub *hub)
{
	/* Acquire: pairs with the push in list. */
	struct vcpu_exits *e = atomic_exchange_explicit(&hub->stack, NULL, memory_order_acquire);
	struct vcpu_exits *next;

	for (; e; e = next) {
		const struct vcpu_exits_slot *slot;

		hub->touched++;
		next = e->next;
		/* An exchange, not a store. Acquire: pairs with the exchange in list, so that what
		 * was posted while listed is seen below. Release: next has been read. */
		atomic_exchange_explicit(&e->listed, 0, memory_order_acq_rel);
		if (e->in_heap)
			continue;
		/* Empty where the take before saw the exit first. */
		slot = spsc_peek(&e->ring);
		if (slot) {
			e->oldest = slot->exit.ticket;
			heap_put(hub, e);
		}
	}
}

static void serve_oldest(struct vcpu_exits_hub *hub)
{
	struct vcpu_exits *e = hub->heap[0];
	const struct vcpu_exits_slot *slot = spsc_peek(&e->ring);
	uint64_t posted = slot->posted, from = e->account ? ticks_now() : 0, to;
	unsigned key = slot->key;
	bool waits = slot->waits;

	hub->serve(e, &slot->exit);
	spsc_release(&e->ring);
	to = e->account ? ticks_now() : 0;
	if (waits) {
		e->served_from = from;
		e->served_to = to;
	}
	/* Relaxed: RELEASED is written on this thread only. */
	if (waits && atomic_load_explicit(&e->reply, memory_order_relaxed) != VCPU_REPLY_RELEASED)
		answer(e, VCPU_REPLY_SENT);
	/* After the reply, which waits for nothing else. */
	if (e->account)
		account_served(e->account, key, posted, from, to);
	heap_advance(hub);
}

static bool source_poll(struct loop_source *source)
{
	struct vcpu_exits_hub *hub = container_of(source, struct vcpu_exits_hub, source);
	unsigned served = 0;
	uint64_t limit;

	/* Relaxed: who comes now is found by the next poll, or by source_arm. */
	if (hub->serving || hub->closed ||
	    (hub->heap_len == 0 && !atomic_load_explicit(&hub->stack, memory_order_relaxed)))
		return false;
	hub->serving = true;
	/* Acquire, before the stack is taken: pairs with the draw in vcpu_exits_post. */
	limit = atomic_load_explicit(&hub->ticket, memory_order_acquire);
	gather(hub);
	for (; hub->heap_len > 0 && hub->heap[0]->oldest < limit && !hub->closed; served++)
		serve_oldest(hub);
	hub->takes += served > 0;
	hub->serving = false;
	return served > 0;
}

static bool source_arm(struct loop_source *source)
{
	struct vcpu_exits_hub *hub = container_of(source, struct vcpu_exits_hub, source);

	if (hub->closed)
		return false;
	/* Then look: the two pair with the push and the look at asleep in list. */
	atomic_store_explicit(&hub->asleep, 1, memory_order_seq_cst);
	if (hub->heap_len == 0 && !atomic_load_explicit(&hub->stack, memory_order_seq_cst))
		return false;
	atomic_store_explicit(&hub->asleep, 0, memory_order_relaxed);
	return true;
}

static void source_disarm(struct loop_source *source)
{
	struct vcpu_exits_hub *hub = container_of(source, struct vcpu_exits_hub, source);

	/* Relaxed: who still sees 1 rings once too often. */
	atomic_store_explicit(&hub->asleep, 0, memory_order_relaxed);
}

/* The wake-up is all: the loop polls its sources on every turn. */
static void doorbell_fire(struct loop_event *event, uint64_t count)
{
	(void)event;
	(void)count;
}

/* ---- life ------------------------------------------------------------------------------ */

int vcpu_exits_hub_init(struct vcpu_exits_hub *hub, struct loop *loop, unsigned vcpus,
			void (*serve)(struct vcpu_exits *from, const struct arch_exit *exit),
			struct error *err)
{
	struct vcpu_exits **heap = calloc(vcpus, sizeof(*heap));
	int r;

	*hub = (struct vcpu_exits_hub){
		.doorbell = {.fire = doorbell_fire, .fd = -1},
		.source = {.poll = source_poll, .arm = source_arm, .disarm = source_disarm},
		.serve = serve,
	};
	if (!heap)
		return error_set_shortage(err, -ENOMEM, "making the exit rings");
	r = loop_event_init(loop, &hub->doorbell, err);
	if (r < 0) {
		free(heap);
		return r;
	}
	ticks_init();
	hub->ticks_per_ns = ticks_per_ns();
	hub->loop = loop;
	hub->heap = heap;
	loop_add_source(loop, &hub->source);
	return 0;
}

void vcpu_exits_hub_close(struct vcpu_exits_hub *hub)
{
	hub->closed = true;
}

void vcpu_exits_hub_done(struct vcpu_exits_hub *hub)
{
	if (!hub->loop)
		return;
	assert(!hub->serving);
	hub->closed = true;
	loop_remove_source(hub->loop, &hub->source);
	loop_event_done(&hub->doorbell);
	free(hub->heap);
	hub->heap = NULL;
	hub->loop = NULL;
}

void vcpu_exits_init(struct vcpu_exits *e, struct vcpu_exits_hub *hub)
{
	spsc_init(&e->ring, e->slots, VCPU_EXITS_RING, sizeof(e->slots[0]));
	atomic_init(&e->listed, 0);
	atomic_init(&e->reply, VCPU_REPLY_NONE);
	e->hub = hub;
	e->next = NULL;
	e->spin_ns = SPIN_START_NS;
	e->in_heap = false;
	e->oldest = 0;
	e->account = NULL;
	e->served_from = e->served_to = 0;
}
