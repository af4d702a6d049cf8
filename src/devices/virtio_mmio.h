/* virtio over MMIO, version 2 (virtio 1.2, 4.2): registers in the first 0x100 bytes of a 4 KiB
 * window, then the device's configuration. Control thread. */
#ifndef STASIS_DEVICES_VIRTIO_MMIO_H
#define STASIS_DEVICES_VIRTIO_MMIO_H

#include "devices/bus.h"
#include "devices/virtio.h"
#include "loop/loop.h"

#define VIRTIO_MMIO_WINDOW 0x1000
#define VIRTIO_MMIO_NOTIFY 0x50 /* QueueNotify: the queue's index, 4 bytes */

struct virtio_mmio {
	struct bus_device bus;
	struct virtio_device *dev;
	uint32_t device_features_sel, driver_features_sel, queue_sel;
	uint64_t driver_features;
	bool driver_features_beyond; /* the driver wants one past bit 63: none is offered */
	unsigned event_count;	     /* events made */
	struct virtio_mmio_queue {
		struct loop_event notify; /* fire: notify of this queue; bound by ioeventfd */
		struct virtio_mmio *owner;
	} queue[VIRTIO_MAX_QUEUES];
};

/* Makes an event descriptor for each of dev->queue_count queues. The composer attaches t->bus at
 * the slot and binds t->queue[i].notify.fd to a 4-byte write of i at VIRTIO_MMIO_NOTIFY. */
int virtio_mmio_init(struct virtio_mmio *t, struct virtio_device *dev, struct loop *loop,
		     struct error *err) MUST_CHECK;
/* The registers' state, and with it the device's: see virtio_state. */
void virtio_mmio_state(struct virtio_mmio *t, struct state_io *io);
void virtio_mmio_done(struct virtio_mmio *t); /* accepts a zeroed one */

#endif
