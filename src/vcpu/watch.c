/* Watches, from both sides. Each function's thread is in watch.h. */
#include "vcpu/watch.h"

#include <assert.h>
#include <string.h>

#include "base/log.h"
#include "vcpu/pool.h"

/* ---- tests ------------------------------------------------------------------------------------
 */

static int64_t extend(uint64_t value, unsigned bytes)
{
	unsigned shift = 64 - 8 * bytes;

	return (int64_t)(value << shift) >> shift;
}

static int compare(const struct watch_test *test, uint64_t value, unsigned bytes)
{
	int64_t a = extend(value, bytes), b = (int64_t)test->value;

	if (test->is_signed)
		return (a > b) - (a < b);
	return (value > test->value) - (value < test->value);
}

bool watch_test_passes(const struct watch_test *test, uint64_t value, unsigned bytes)
{
	int order = compare(test, value, bytes);

	switch (test->op) {
	case WATCH_ANY:
		return true;
	case WATCH_EQ:
		return order == 0;
	case WATCH_NE:
		return order != 0;
	case WATCH_LT:
		return order < 0;
	case WATCH_LE:
		return order <= 0;
	case WATCH_GT:
		return order > 0;
	case WATCH_GE:
		return order >= 0;
	case WATCH_AND:
		return value & test->value;
	}
	return false;
}

uint64_t watch_load(const uint8_t *host, unsigned bytes)
{
	switch (bytes) {
	case 1:
		return __atomic_load_n(host, __ATOMIC_RELAXED);
	case 2:
		return __atomic_load_n((const uint16_t *)(const void *)host, __ATOMIC_RELAXED);
	case 4:
		return __atomic_load_n((const uint32_t *)(const void *)host, __ATOMIC_RELAXED);
	default:
		return __atomic_load_n((const uint64_t *)(const void *)host, __ATOMIC_RELAXED);
	}
}

/* ---- control thread ------------------------------------------------------------------- */

/* Each looks at the slots again before it runs the guest; who is parked needs no kick. */
static void ask_all(struct vcpu_pool *pool)
{
	for (unsigned i = 0; i < pool->count; i++)
		/* Sequentially consistent: pairs with look. */
		atomic_fetch_or_explicit(&pool->vcpu[i].requests, VCPU_REQ_WATCH,
					 memory_order_seq_cst);
}

void vcpu_watch_publish(struct vcpu_pool *pool, unsigned slot, const struct vcpu_watch *watch)
{
	struct vcpu_watch_slot *s = &pool->watch[slot];

	assert(slot < ARCH_WATCHES && vcpu_pool_unparked(pool) == 0);
	assert(atomic_load_explicit(&s->gva, memory_order_relaxed) == 0 && watch->gva);
	s->bytes = watch->bytes;
	s->test = watch->test;
	s->tell_all = watch->tell_all;
	/* Relaxed: nobody looks before the address is there. */
	atomic_store_explicit(&s->last, watch_load(watch->host, watch->bytes),
			      memory_order_relaxed);
	atomic_store_explicit(&s->latched, false, memory_order_relaxed);
	vcpu_stores_begin_anew(&pool->stores[slot]);
	/* Release: pair with the acquires in vcpu_watch_arm and look_at. */
	atomic_store_explicit(&s->host, watch->host, memory_order_release);
	atomic_store_explicit(&s->gva, watch->gva, memory_order_release);
	ask_all(pool);
}

void vcpu_watch_withdraw(struct vcpu_pool *pool, unsigned slot)
{
	struct vcpu_watch_slot *s = &pool->watch[slot];

	assert(slot < ARCH_WATCHES);
	if (!atomic_load_explicit(&s->gva, memory_order_relaxed))
		return;
	/* Release: as above, the other way round. */
	atomic_store_explicit(&s->gva, 0, memory_order_release);
	atomic_store_explicit(&s->host, NULL, memory_order_release);
	ask_all(pool);
}

const struct vcpu_watch_hit *vcpu_watch_hit(const struct vcpu_pool *pool, unsigned slot)
{
	const struct vcpu_watch_slot *s = &pool->watch[slot];

	/* Relaxed: the exit's ring has published it. */
	return atomic_load_explicit(&s->latched, memory_order_relaxed) ? &s->hit : NULL;
}

void vcpu_watch_unlatch(struct vcpu_pool *pool, unsigned slot)
{
	/* Release: pairs with the exchange in look_at, whose winner writes the hit anew. */
	atomic_store_explicit(&pool->watch[slot].latched, false, memory_order_release);
}

uint64_t vcpu_watch_stores(const struct vcpu_pool *pool, unsigned slot)
{
	return atomic_load_explicit(&pool->watch[slot].stores, memory_order_relaxed);
}

int vcpu_watch_error(const struct vcpu_pool *pool)
{
	return atomic_load_explicit(&pool->watch_error, memory_order_relaxed);
}

/* ---- vCPU thread ---------------------------------------------------------------------- */

/* The first one is kept, and read at leisure. */
static void note_error(struct vcpu *vcpu, int r)
{
	int none = 0;

	/* Relaxed: it publishes nothing. */
	if (r < 0 &&
	    atomic_compare_exchange_strong_explicit(&vcpu->pool->watch_error, &none, r,
						    memory_order_relaxed, memory_order_relaxed))
		log_warn("arming watchpoints on vCPU %u: %s", vcpu->index, strerror(-r));
}

/* Without those that are stepped over. */
static void armed_now(const struct vcpu_watching *w, struct arch_watch now[ARCH_WATCHES])
{
	memcpy(now, w->armed, sizeof(w->armed));
	for (unsigned n = 0; n < ARCH_WATCHES; n++)
		if (w->pending & 1u << n)
			now[n].bytes = 0;
}

/* kvm_ioctl repeats on EINTR. */
static void set_registers(struct vcpu *vcpu, enum arch_watch_how how)
{
	struct arch_watch now[ARCH_WATCHES];

	armed_now(&vcpu->watching, now);
	note_error(vcpu, arch_vcpu_watch(vcpu->fd, now, how, vcpu->run));
}

/* To slots, and no others any more. */
static void under_way(struct vcpu *vcpu, uint32_t slots)
{
	uint32_t was = vcpu->watching.under_way;

	vcpu_stores_begin(vcpu->pool->stores, slots & ~was);
	vcpu_stores_end(vcpu->pool->stores, was & ~slots);
	vcpu->watching.under_way = slots;
}

void vcpu_watch_arm(struct vcpu *vcpu)
{
	const struct vcpu_watch_slot *slots = vcpu->pool->watch;
	struct vcpu_watching *w = &vcpu->watching;

	/* Cleared first: a change from now on is another one. */
	atomic_fetch_and_explicit(&vcpu->requests, ~(uint32_t)VCPU_REQ_WATCH, memory_order_acq_rel);
	for (unsigned n = 0; n < ARCH_WATCHES; n++) {
		/* Acquire: pairs with the release in vcpu_watch_publish. */
		uint64_t gva = atomic_load_explicit(&slots[n].gva, memory_order_acquire);
		struct arch_watch now = {.gva = gva, .bytes = gva ? slots[n].bytes : 0};

		/* A store that is being stepped is none of another address's; and nobody has
		 * counted stores to a word that had no watch. */
		if (now.gva != w->armed[n].gva || now.bytes != w->armed[n].bytes) {
			w->pending &= ~(1u << n);
			w->pair.noted = false;
		}
		w->armed[n] = now;
	}
	under_way(vcpu, w->pending);
	set_registers(vcpu, w->pending ? ARCH_WATCH_STEP : ARCH_WATCH_RUN);
}

/* A store to the slot has been done: whether it is for the control thread. */
static bool look_at(struct vcpu *vcpu, struct vcpu_watch_slot *s)
{
	/* Acquire: pairs with the release in vcpu_watch_publish. */
	const uint8_t *host = atomic_load_explicit(&s->host, memory_order_acquire);
	uint64_t before, after;
	bool passed, latched = false;

	if (!host)
		return false;
	after = watch_load(host, s->bytes);
	/* Relaxed: what other vCPUs stored meanwhile has no order with this one. */
	before = atomic_exchange_explicit(&s->last, after, memory_order_relaxed);
	atomic_fetch_add_explicit(&s->stores, 1, memory_order_relaxed);
	passed = watch_test_passes(&s->test, after, s->bytes);
	if (!passed && !s->tell_all)
		return false;
	/* Acquire: pairs with the release in vcpu_watch_unlatch. */
	if (!atomic_compare_exchange_strong_explicit(&s->latched, &latched, true,
						     memory_order_acquire, memory_order_relaxed))
		return false;
	s->hit = (struct vcpu_watch_hit){.before = before,
					 .after = after,
					 .passed = passed,
					 .vcpu = vcpu->index};
	return true;
}

static uint32_t look_at_all(struct vcpu *vcpu, uint32_t slots)
{
	uint32_t hits = 0;

	for (unsigned n = 0; n < ARCH_WATCHES; n++)
		if (slots & 1u << n && look_at(vcpu, &vcpu->pool->watch[n]))
			hits |= 1u << n;
	return hits;
}

static uint32_t all_armed(const struct vcpu_watching *w)
{
	uint32_t slots = 0;

	for (unsigned n = 0; n < ARCH_WATCHES; n++)
		slots |= (uint32_t)(w->armed[n].bytes != 0) << n;
	return slots;
}

/* Of two addresses, without what may be a tag. */
static uint64_t distance(uint64_t from, uint64_t to)
{
	return (to - from) & (UINT64_MAX >> 8);
}

/* Our bytes of an exclusive store to a word that has a watch; NULL: it has none. */
static uint8_t *bytes_of(struct vcpu *vcpu, const struct arch_store *store)
{
	uint64_t in = MAX(store->bytes, 8u) - 1;

	for (unsigned n = 0; n < ARCH_WATCHES; n++) {
		const struct arch_watch *watch = &vcpu->watching.armed[n];

		if (watch->bytes && !distance(watch->gva & ~in, store->gva & ~in) &&
		    store->gva % store->bytes == 0)
			return guest_ptr(vcpu->pool->config.mem, store->gpa, store->bytes);
	}
	return NULL;
}

/* The slots that a store whose bytes are known is to, whatever trapped. */
static uint32_t overlapped(const struct vcpu_watching *w, const struct arch_store *store)
{
	uint32_t slots = 0;

	for (unsigned n = 0; n < ARCH_WATCHES; n++) {
		const struct arch_watch *watch = &w->armed[n];

		slots |= (uint32_t)(distance(store->gva, watch->gva) < store->bytes ||
				    distance(watch->gva, store->gva) < watch->bytes)
			 << n;
	}
	return slots & all_armed(w);
}

/* The instruction at hand is to be stepped, since it may store to slots, and does to sure. */
static void step_over(struct vcpu *vcpu, uint32_t slots, uint32_t sure)
{
	struct vcpu_watching *w = &vcpu->watching;

	if (!w->pending)
		w->sure = 0;
	w->pending |= slots;
	w->sure |= sure;
	if (!w->pending)
		return;
	for (unsigned n = 0; n < ARCH_WATCHES; n++) {
		const struct vcpu_watch_slot *s = &vcpu->pool->watch[n];
		/* Acquire: pairs with the release in vcpu_watch_publish. */
		const uint8_t *host = atomic_load_explicit(&s->host, memory_order_acquire);

		if (slots & 1u << n && host)
			w->before[n] = watch_load(host, s->bytes);
	}
	under_way(vcpu, w->pending);
	set_registers(vcpu, ARCH_WATCH_STEP);
}

/* The instruction at hand is to store to slots. Hits, if it has been done for it. */
static uint32_t storing(struct vcpu *vcpu, uint32_t slots, uint32_t sure)
{
	struct vcpu_watching *w = &vcpu->watching;
	uint8_t *host = NULL;
	uint32_t hits = 0;

	w->store = (struct arch_store){0};
	if (arch_vcpu_store(vcpu->fd, vcpu->pool->config.mem, &w->store) == 0 && w->store.exclusive)
		host = bytes_of(vcpu, &w->store);
	if (host) {
		uint32_t own = overlapped(w, &w->store);
		bool stored = vcpu_exclusive(vcpu->pool->stores, own, &w->pair, &w->store, host);

		if (stored) {
			hits = look_at_all(vcpu, own);
			vcpu_stores_end(vcpu->pool->stores, own);
		}
		note_error(vcpu, arch_vcpu_store_end(vcpu->fd, &w->store, stored));
		w->pending = 0;
		under_way(vcpu, 0);
		set_registers(vcpu, ARCH_WATCH_RUN);
		return hits;
	}
	step_over(vcpu, slots, sure);
	return 0;
}

/* Whether the step may have stored to the slot: its value is another one, and nobody has told of
 * that. */
static bool has_changed(const struct vcpu_watch_slot *s, uint64_t before)
{
	/* Acquire: pairs with the release in vcpu_watch_publish. */
	const uint8_t *host = atomic_load_explicit(&s->host, memory_order_acquire);
	uint64_t now = host ? watch_load(host, s->bytes) : before;

	/* Relaxed: as in look_at. */
	return now != before && now != atomic_load_explicit(&s->last, memory_order_relaxed);
}

static uint32_t stepped(struct vcpu *vcpu)
{
	struct vcpu_watching *w = &vcpu->watching;
	uint32_t slots = w->pending & w->sure, hits = 0;

	for (unsigned n = 0; n < ARCH_WATCHES; n++)
		if (w->pending & 1u << n && has_changed(&vcpu->pool->watch[n], w->before[n]))
			slots |= 1u << n;
	w->pending = 0;
	set_registers(vcpu, ARCH_WATCH_RUN);
	/* Else it is still to come, and traps anew. */
	if (!w->store.pc || arch_vcpu_store_done(vcpu->fd, &w->store))
		hits = look_at_all(vcpu, slots);
	under_way(vcpu, 0);
	return hits;
}

uint32_t vcpu_watch_exit(struct vcpu *vcpu)
{
	struct vcpu_watching *w = &vcpu->watching;
	struct arch_watch now[ARCH_WATCHES];
	uint32_t slots, sure;

	armed_now(w, now);
	switch (arch_exit_debug(vcpu->run, now, &slots, &sure)) {
	case ARCH_DEBUG_STORED:
		return look_at_all(vcpu, slots);
	case ARCH_DEBUG_STORING:
		return storing(vcpu, slots, sure);
	case ARCH_DEBUG_STEPPED:
		return stepped(vcpu);
	case ARCH_DEBUG_GUEST:
		/* What was to store is something else by now, or is still to come. */
		w->pending = 0;
		under_way(vcpu, 0);
		set_registers(vcpu, ARCH_WATCH_PASS_ON);
		return 0;
	case ARCH_DEBUG_STORED_AND_GUEST:
		set_registers(vcpu, ARCH_WATCH_PASS_ON);
		return look_at_all(vcpu, slots);
	}
	return 0;
}
