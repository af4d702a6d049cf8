/* Exclusive stores to watched words. Each function's thread is in exclusive.h. */
#include "vcpu/exclusive.h"

#include <string.h>

#include "vcpu/watch.h"

/* All are sequentially consistent: a count and the guest's memory are looked at in turn, and each
 * argument of exclusive.h is about which came first. */
void vcpu_stores_begin(struct vcpu_stores stores[ARCH_WATCHES], uint32_t slots)
{
	for (unsigned n = 0; n < ARCH_WATCHES; n++)
		if (slots & 1u << n)
			atomic_fetch_add(&stores[n].under_way, 1);
}

static void give_up(struct vcpu_stores stores[ARCH_WATCHES], uint32_t slots)
{
	for (unsigned n = 0; n < ARCH_WATCHES; n++)
		if (slots & 1u << n)
			atomic_fetch_sub(&stores[n].under_way, 1);
}

void vcpu_stores_end(struct vcpu_stores stores[ARCH_WATCHES], uint32_t slots)
{
	/* Counted first: who finds none under way finds it done. */
	for (unsigned n = 0; n < ARCH_WATCHES; n++)
		if (slots & 1u << n)
			atomic_fetch_add(&stores[n].done, 1);
	give_up(stores, slots);
}

void vcpu_stores_begin_anew(struct vcpu_stores *stores)
{
	atomic_fetch_add(&stores->done, 1);
}

#define EXCHANGE(type, host, from, to)                                                             \
	({                                                                                         \
		type was = (type)(from);                                                           \
		__atomic_compare_exchange_n((type *)(void *)(host), &was, (type)(to), false,       \
					    __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);                   \
	})

static bool exchange(uint8_t *host, unsigned bytes, unsigned __int128 from, unsigned __int128 to)
{
	switch (bytes) {
	case 1:
		return EXCHANGE(uint8_t, host, from, to);
	case 2:
		return EXCHANGE(uint16_t, host, from, to);
	case 4:
		return EXCHANGE(uint32_t, host, from, to);
	case 8:
		return EXCHANGE(uint64_t, host, from, to);
	default:
		/* The older name: the compiler's own instruction, where __atomic means a library's
		 * lock. */
		return __sync_bool_compare_and_swap((unsigned __int128 *)(void *)host, from, to);
	}
}

/* One of 16 bytes may be torn: the exchange will not find it then. */
static unsigned __int128 load(const uint8_t *host, unsigned bytes)
{
	if (bytes < 16)
		return watch_load(host, bytes);
	return watch_load(host, 8) | (unsigned __int128)watch_load(host + 8, 8) << 64;
}

static bool is_noted(const struct vcpu_pair *pair, uint32_t slots, const struct arch_store *store)
{
	return pair->noted && pair->slots == slots && pair->pc == store->pc &&
	       pair->context == store->context && pair->gva == store->gva;
}

static bool none_since(const struct vcpu_stores stores[ARCH_WATCHES], const struct vcpu_pair *pair)
{
	for (unsigned n = 0; n < ARCH_WATCHES; n++)
		if (pair->slots & 1u << n && (atomic_load(&stores[n].under_way) != 0 ||
					      atomic_load(&stores[n].done) != pair->done[n]))
			return false;
	return true;
}

bool vcpu_exclusive(struct vcpu_stores stores[ARCH_WATCHES], uint32_t slots, struct vcpu_pair *pair,
		    const struct arch_store *store, uint8_t *host)
{
	if (is_noted(pair, slots, store) && none_since(stores, pair)) {
		vcpu_stores_begin(stores, slots);
		pair->noted = false;
		if (exchange(host, store->bytes, pair->value, store->value))
			return true;
		give_up(stores, slots);
	}
	*pair = (struct vcpu_pair){.noted = true,
				   .pc = store->pc,
				   .context = store->context,
				   .gva = store->gva,
				   .slots = slots};
	/* In this order: a store that is counted by now is in the value. */
	for (unsigned n = 0; n < ARCH_WATCHES; n++)
		pair->done[n] = atomic_load(&stores[n].done);
	atomic_thread_fence(memory_order_seq_cst);
	pair->value = load(host, store->bytes);
	return false;
}
