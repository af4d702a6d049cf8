/* A split virtqueue from its driver's side (virtio 1.2, 2.7), with the event index: played by a
 * benchmark on the control thread, or by a guest. */
#ifndef STASIS_BENCH_VRING_H
#define STASIS_BENCH_VRING_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

enum { VRING_NEXT = 1, VRING_WRITE = 2, VRING_INDIRECT = 4 };

struct vring_desc {
	uint64_t addr;
	uint32_t len;
	uint16_t flags, next;
};
/* Behind ring[size] comes used_event. */
struct vring_avail {
	uint16_t flags;
	_Atomic uint16_t idx;
	uint16_t ring[];
};
/* Behind ring[size] comes avail_event. */
struct vring_used {
	uint16_t flags;
	_Atomic uint16_t idx;
	struct {
		uint32_t id, len;
	} ring[];
};

struct vring {
	uint16_t size;
	struct vring_desc *desc;
	struct vring_avail *avail;
	struct vring_used *used;
	uint16_t avail_idx, kicked_idx, used_idx;
	uint16_t quiet; /* no interrupt for so many; 0: for each batch */
};

/* Puts the chain that begins at head into the ring; nobody is told. */
static inline void vring_offer(struct vring *r, uint16_t head)
{
	r->avail->ring[r->avail_idx % r->size] = head;
	r->avail_idx++;
}

/* Publishes what was offered. Whether the device wants to be notified of it. */
static inline bool vring_publish(struct vring *r)
{
	uint16_t old = r->kicked_idx, now = r->avail_idx;
	_Atomic uint16_t *avail_event = (void *)&r->used->ring[r->size];
	uint16_t event;

	r->avail->ring[r->size] = (uint16_t)(r->used_idx + r->quiet);
	/* Release: the device sees the entries. Then a fence: it pairs with the device's, which
	 * sets its event and looks at the index again. */
	atomic_store_explicit(&r->avail->idx, now, memory_order_release);
	atomic_thread_fence(memory_order_seq_cst);
	event = atomic_load_explicit(avail_event, memory_order_relaxed);
	r->kicked_idx = now;
	/* virtio 1.2, 2.7.10: the event lies among what is new. */
	return (uint16_t)(now - event - 1) < (uint16_t)(now - old);
}

/* The head of a chain that came back, or -1. */
static inline int vring_take(struct vring *r)
{
	/* Acquire: pairs with the device's release of its index. */
	if (atomic_load_explicit(&r->used->idx, memory_order_acquire) == r->used_idx)
		return -1;
	return (int)r->used->ring[r->used_idx++ % r->size].id;
}

#endif
