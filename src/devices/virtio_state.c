/* Saves and restores what every virtio device has: status, features, interrupts and rings.
 * Control thread. What is restored is judged as a driver's writes are. */
#include <assert.h>
#include <stdio.h>

#include "devices/virtio.h"

#define STATUS_BITS                                                                                \
	(VIRTIO_STATUS_ACKNOWLEDGE | VIRTIO_STATUS_DRIVER | VIRTIO_STATUS_FEATURES_OK |            \
	 VIRTIO_STATUS_DRIVER_OK | VIRTIO_STATUS_NEEDS_RESET | VIRTIO_STATUS_FAILED)
#define INTERRUPTS (VIRTIO_INTERRUPT_USED | VIRTIO_INTERRUPT_CONFIG)

/* Nothing is in flight, and what features say of the queue is known. */
static void queue_state(struct virtq *q, unsigned index, struct state_io *io)
{
	char name[24];

	snprintf(name, sizeof(name), "queue %u", index);
	assert(!q->in_flight);
	state_u16(io, name, &q->size);
	state_bool(io, name, &q->ready);
	state_u64(io, name, &q->desc_gpa);
	state_u64(io, name, &q->avail_gpa);
	state_u64(io, name, &q->used_gpa);
	state_u16(io, name, &q->next_avail);
	state_u16(io, name, &q->next_used);
	state_u16(io, name, &q->signalled);
	state_bool(io, name, &q->signalled_valid);
	state_bool(io, name, &q->notify_off);
	state_check(io, name, !q->ready || virtq_check(q) == 0);
}

/* What the driver can have made of it. */
static bool status_possible(const struct virtio_device *dev, uint8_t status, uint64_t features)
{
	bool accepted = status & VIRTIO_STATUS_FEATURES_OK;

	return !(status & ~STATUS_BITS) && (accepted || !(status & VIRTIO_STATUS_DRIVER_OK)) &&
	       (accepted ? features >> VIRTIO_F_VERSION_1_BIT & 1 : !features) &&
	       !(features & ~virtio_offered(dev));
}

static void core_state(struct virtio_device *dev, struct state_io *io)
{
	uint32_t id = dev->ops->device_id, queues = dev->queue_count;
	uint32_t pending = dev->interrupt_status, unread = dev->interrupt_unread;
	uint32_t generation = dev->config_generation;
	struct virtq queue[VIRTIO_MAX_QUEUES];
	uint64_t features = dev->features;
	bool activated = dev->activated;
	uint8_t status = dev->status;

	state_u32(io, "device_id", &id);
	state_check(io, "device_id", id == dev->ops->device_id);
	state_u8(io, "status", &status);
	state_u64(io, "features", &features);
	state_check(io, "status or features", status_possible(dev, status, features));
	state_bool(io, "activated", &activated);
	state_check(io, "activated", !activated || (status & VIRTIO_STATUS_DRIVER_OK));
	state_u32(io, "interrupt_status", &pending);
	state_check(io, "interrupt_status", !(pending & ~(uint32_t)INTERRUPTS));
	state_u32(io, "interrupt_unread", &unread);
	state_check(io, "interrupt_unread", !(unread & ~pending));
	state_u32(io, "config_generation", &generation);
	state_u32(io, "queue_count", &queues);
	state_check(io, "queue_count", queues == dev->queue_count);
	for (unsigned i = 0; i < dev->queue_count; i++) {
		queue[i] = dev->queue[i];
		queue_state(&queue[i], i, io);
	}
	if (!state_restoring(io))
		return;
	for (unsigned i = 0; i < dev->queue_count; i++)
		dev->queue[i] = queue[i];
	if (features)
		(void)virtio_accept_features(dev, features);
	dev->status = status;
	dev->activated = activated;
	dev->interrupt_status = pending;
	dev->interrupt_unread = unread;
	dev->config_generation = generation;
	dev->restored = true;
}

void virtio_state(struct virtio_device *dev, struct state_io *io)
{
	assert(dev->stopped && !dev->quiescing && !dev->resetting);
	if (state_begin(io, "virtio", 1))
		core_state(dev, io);
	state_end(io);
	if (dev->ops->state)
		dev->ops->state(dev, io);
}
