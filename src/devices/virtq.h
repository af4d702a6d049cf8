/* A split virtqueue, the device's side (virtio 1.2, 2.7). Control thread; the rings are the
 * guest's memory and change under it.
 *
 *   descriptor table   desc_gpa   16 bytes each: addr 8, len 4, flags 2, next 2
 *   available ring     avail_gpa  flags 2, idx 2, ring[size] 2 each, used_event 2
 *   used ring          used_gpa   flags 2, idx 2, ring[size] {id 4, len 4}, avail_event 2
 */
#ifndef STASIS_DEVICES_VIRTQ_H
#define STASIS_DEVICES_VIRTQ_H

#include <stdbool.h>
#include <sys/uio.h>

#include "guest/memory.h"

#define VIRTQ_MAX_SIZE 256 /* entries; also the most segments of one chain */

/* A chain of descriptors as host memory: device-readable segments first, then writable ones. */
struct virtq_chain {
	uint16_t head;
	unsigned out, in; /* iov[0 .. out) readable, iov[out .. out + in) writable */
	uint64_t out_bytes, in_bytes;
	struct iovec iov[VIRTQ_MAX_SIZE];
};

struct virtq {
	const struct guest_memory *mem;
	uint16_t size, max_size;
	bool ready;
	bool event_idx, indirect;
	uint64_t desc_gpa, avail_gpa, used_gpa;
	uint16_t next_avail;		    /* our place in the available ring */
	uint16_t next_used;		    /* our place in the used ring */
	uint16_t signalled;		    /* next_used at the last virtq_wants_signal */
	bool signalled_valid;		    /* fewer than 65,536 pushes ago */
	bool polled;			    /* notifications stay off until virtq_poll_end */
	bool notify_off;		    /* we told the driver not to notify (no event index) */
	uint16_t in_flight;		    /* popped, not pushed */
	uint16_t last_head;		    /* of the last pop */
	uint64_t busy[VIRTQ_MAX_SIZE / 64]; /* heads in flight */
};

/* The three rings as the driver set them: 0, or -EFAULT/-EINVAL if size or addresses are bad. */
int virtq_check(const struct virtq *q) MUST_CHECK;
/* Checks, starts both rings at 0 and makes the queue ready. -EBUSY while chains are in flight
 * from before. */
int virtq_start(struct virtq *q) MUST_CHECK;
/* Back to no rings and nothing in flight; mem and max_size stay. */
void virtq_reset(struct virtq *q);
/* 1: *chain is the next one; while chains come, notifications may be off. 0: none (or the queue
 * isn't ready); unless polled, notifications are on again and the ring was looked at once more.
 * Negative: the guest broke the rules (loop, bad address, too long, indirect in indirect, index
 * jump, a head that is still in flight): the caller calls virtio_fault. Empty segments are left
 * out. A device that stops before 0 must come back by itself. */
int virtq_pop(struct virtq *q, struct virtq_chain *chain) MUST_CHECK;
/* A queue that is polled: whether a pop would be worth it, which a broken ring is as well. */
bool virtq_has_more(const struct virtq *q);
/* Polled no more: notifications are on. Whether the ring has more, seen after that. */
bool virtq_poll_end(struct virtq *q);
/* Puts the chain popped last back, unused. Nothing was popped or pushed since. */
void virtq_unpop(struct virtq *q);
/* Puts the last n chains popped back, unused: those are all that are in flight. */
void virtq_rewind(struct virtq *q, uint16_t n);
/* Returns a chain with `written` bytes. In any order. Dropped if the queue isn't ready any more. */
void virtq_push(struct virtq *q, uint16_t head, uint32_t written);
/* The same, but the driver need not see it before the next virtq_wants_signal: many chains go back
 * with one update of the ring's index. */
void virtq_put(struct virtq *q, uint16_t head, uint32_t written);
/* Whether the driver wants an interrupt for what was pushed since the last call. */
bool virtq_wants_signal(struct virtq *q);

#endif
