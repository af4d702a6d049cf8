/* A driver of one virtio-blk queue that reads blocks of 4 KiB, played by the benchmark on the
 * control thread: it writes rings in guest memory, kicks by an event descriptor as KVM's ioeventfd
 * would, where the device wants it, and finds what came back. */
#ifndef STASIS_BENCH_BLK_DRIVER_H
#define STASIS_BENCH_BLK_DRIVER_H

#include "devices/virtio_blk.h"
#include "vring.h"

#define BLK_BLOCK     4096u
#define BLK_DEPTH_MAX 128

struct blk_driver {
	struct loop *loop;
	struct guest_memory mem;
	struct loop_event kick;
	int irq_fd; /* as an irqfd: written, and read by nobody */
	struct virtio_blk *blk;
	struct virtio_device *dev;
	uint8_t *low; /* guest memory from address 0 */
	struct vring ring;
	uint64_t failed; /* requests that the device did not serve */
};

/* The disk is path. On failure, blk_driver_done cleans up. */
int blk_driver_init(struct blk_driver *d, const char *path, bool direct,
		    struct error *err) MUST_CHECK;
/* Accepts a zeroed one. */
void blk_driver_done(struct blk_driver *d);
/* Puts the request of a slot (below BLK_DEPTH_MAX, idle) into the ring. */
void blk_driver_offer(struct blk_driver *d, unsigned slot, uint64_t block);
/* Tells the device of all that was offered, if it wants to know. */
void blk_driver_kick(struct blk_driver *d);
/* A slot whose request came back, or -1. */
int blk_driver_take(struct blk_driver *d);

#endif
