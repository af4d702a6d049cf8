/* A lockless ring for one producer and one consumer. Fixed slots, power-of-two capacity.
 *
 *   tail (producer) ──► [ slot | slot | slot | … ] ──► head (consumer)
 *
 * Each index lives on its own cache line, with the owner's last view of the other beside it, so
 * that a full or empty check touches shared lines only when the cached view has run out. */
#ifndef STASIS_BASE_SPSC_H
#define STASIS_BASE_SPSC_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/compiler.h"

struct spsc {
	CACHE_ALIGNED struct {
		_Atomic uint32_t tail; /* written by the producer */
		uint32_t head_seen;    /* producer's copy of head */
	} producer;
	CACHE_ALIGNED struct {
		_Atomic uint32_t head; /* written by the consumer */
		uint32_t tail_seen;    /* consumer's copy of tail */
	} consumer;
	CACHE_ALIGNED uint32_t mask;
	uint32_t slot_size;
	uint8_t *slots; /* not owned: the embedding object's */
};

/* slots points to capacity * slot_size bytes; capacity is a power of two. Before any use. */
static inline void spsc_init(struct spsc *r, void *slots, uint32_t capacity, uint32_t slot_size)
{
	atomic_init(&r->producer.tail, 0);
	atomic_init(&r->consumer.head, 0);
	r->producer.head_seen = 0;
	r->consumer.tail_seen = 0;
	r->mask = capacity - 1;
	r->slot_size = slot_size;
	r->slots = slots;
}

/* Producer only. The slot to fill, or NULL when full. Nothing is visible until spsc_publish. */
static inline void *spsc_reserve(struct spsc *r)
{
	/* Relaxed: only this thread writes tail. */
	uint32_t tail = atomic_load_explicit(&r->producer.tail, memory_order_relaxed);

	if (tail - r->producer.head_seen > r->mask) {
		/* Acquire: pairs with the release in spsc_release; the consumer is done with the
		 * slot. */
		r->producer.head_seen =
			atomic_load_explicit(&r->consumer.head, memory_order_acquire);
		if (tail - r->producer.head_seen > r->mask)
			return NULL;
	}
	return r->slots + (size_t)(tail & r->mask) * r->slot_size;
}

/* Producer only, after spsc_reserve: whether publishing that slot fills the ring. */
static inline bool spsc_last(struct spsc *r)
{
	uint32_t tail = atomic_load_explicit(&r->producer.tail, memory_order_relaxed);

	/* Acquire: as in spsc_reserve. */
	if (tail - r->producer.head_seen == r->mask)
		r->producer.head_seen =
			atomic_load_explicit(&r->consumer.head, memory_order_acquire);
	return tail - r->producer.head_seen == r->mask;
}

/* Producer only: publishes the slot that spsc_reserve gave. */
static inline void spsc_publish(struct spsc *r)
{
	uint32_t tail = atomic_load_explicit(&r->producer.tail, memory_order_relaxed);

	/* Release: the consumer sees the slot before the new tail (acquire in spsc_peek). */
	atomic_store_explicit(&r->producer.tail, tail + 1, memory_order_release);
}

/* Consumer only. The oldest slot, or NULL when empty. It stays until spsc_release. */
static inline void *spsc_peek(struct spsc *r)
{
	/* Relaxed: only this thread writes head. */
	uint32_t head = atomic_load_explicit(&r->consumer.head, memory_order_relaxed);

	if (head == r->consumer.tail_seen) {
		/* Acquire: pairs with the release in spsc_publish. */
		r->consumer.tail_seen =
			atomic_load_explicit(&r->producer.tail, memory_order_acquire);
		if (head == r->consumer.tail_seen)
			return NULL;
	}
	return r->slots + (size_t)(head & r->mask) * r->slot_size;
}

/* Consumer only: gives the peeked slot back. */
static inline void spsc_release(struct spsc *r)
{
	uint32_t head = atomic_load_explicit(&r->consumer.head, memory_order_relaxed);

	/* Release: our reads of the slot come before its reuse (acquire in spsc_reserve). */
	atomic_store_explicit(&r->consumer.head, head + 1, memory_order_release);
}

#endif
