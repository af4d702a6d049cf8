/* While the loop is awake it looks at a device's rings itself: a driver need not notify then, which
 * takes an exit, nor wait for the event to come through the ring of io_uring. Control thread. */
#ifndef STASIS_DEVICES_VIRTIO_POLL_H
#define STASIS_DEVICES_VIRTIO_POLL_H

#include "devices/virtio.h"
#include "loop/loop.h"

/* For queues whose available ring a device empties whenever it serves. */
struct virtio_poll {
	struct loop_source source;
	struct loop *loop;
	struct virtio_device *dev;
	uint64_t queues; /* those that are polled, as bits; one that was reset may still be here */
	bool held;	 /* the device's: it leaves chains in the rings, and comes back by itself */
};

void virtio_poll_init(struct virtio_poll *p, struct loop *loop, struct virtio_device *dev);
/* Accepts a zeroed or done one. Not from inside the callbacks of a source. */
void virtio_poll_done(struct virtio_poll *p);
/* Notifications of all queues are on again, where they are polled: before a freeze or a reset.
 * virtio_resume serves what came meanwhile. */
void virtio_poll_stop(struct virtio_poll *p);
/* The device begins to serve queue q: until the loop sleeps, it is looked at. */
static inline void virtio_poll_begin(struct virtio_poll *p, unsigned q)
{
	p->queues |= 1ull << q;
	p->dev->queue[q].polled = true;
}

#endif
