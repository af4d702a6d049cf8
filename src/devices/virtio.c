/* What every virtio device has in common, whatever the transport: the status machine, features,
 * interrupts, faults, and the one quiesce that serves reset, freeze and shutdown.
 * Control thread. */
#include "devices/virtio.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>

/* What a driver can set by a write. */
#define DRIVER_BITS                                                                                \
	(VIRTIO_STATUS_ACKNOWLEDGE | VIRTIO_STATUS_DRIVER | VIRTIO_STATUS_FEATURES_OK |            \
	 VIRTIO_STATUS_DRIVER_OK | VIRTIO_STATUS_FAILED)

static bool has_feature(uint64_t features, unsigned bit)
{
	return features >> bit & 1;
}

void virtio_init(struct virtio_device *dev, const struct virtio_ops *ops,
		 const struct guest_memory *mem, int irq_fd)
{
	assert(ops->queues <= VIRTIO_MAX_QUEUES && ops->queue_size <= VIRTQ_MAX_SIZE);
	*dev = (struct virtio_device){
		.ops = ops,
		.mem = mem,
		.irq = {.fd = irq_fd},
		.queue_count = ops->queues,
	};
	/* All of them: a device may raise queue_count after this. */
	for (unsigned i = 0; i < VIRTIO_MAX_QUEUES; i++)
		dev->queue[i] = (struct virtq){.mem = mem, .max_size = ops->queue_size};
}

static void interrupt(struct virtio_device *dev, uint32_t bits)
{
	dev->interrupt_status |= bits;
	dev->interrupt_unread |= bits;
	irq_raise(&dev->irq);
}

uint32_t virtio_interrupt_read(struct virtio_device *dev)
{
	dev->interrupt_unread = 0;
	return dev->interrupt_status;
}

void virtio_interrupt_ack(struct virtio_device *dev, uint32_t bits)
{
	dev->interrupt_status &= ~bits | dev->interrupt_unread;
}

void virtio_fault(struct virtio_device *dev, const char *fmt, ...)
{
	char text[200];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);

	dev->faults++;
	log_guest(&dev->fault_log, "guest fault: %s: %s", dev->ops->name, text);
	if (dev->status & VIRTIO_STATUS_NEEDS_RESET)
		return;
	dev->status |= VIRTIO_STATUS_NEEDS_RESET;
	/* 2.1.2: told as a change of configuration, once the driver is up. */
	if (dev->status & VIRTIO_STATUS_DRIVER_OK)
		interrupt(dev, VIRTIO_INTERRUPT_CONFIG);
}

void virtio_signal(struct virtio_device *dev, struct virtq *q)
{
	if (virtq_wants_signal(q))
		interrupt(dev, VIRTIO_INTERRUPT_USED);
}

bool virtio_signal_all(struct virtio_device *dev)
{
	bool wanted = false;

	for (unsigned i = 0; i < dev->queue_count; i++)
		wanted |= virtq_wants_signal(&dev->queue[i]);
	if (wanted)
		interrupt(dev, VIRTIO_INTERRUPT_USED);
	return wanted;
}

void virtio_config_changed(struct virtio_device *dev)
{
	dev->config_generation++;
	if (dev->status & VIRTIO_STATUS_DRIVER_OK)
		interrupt(dev, VIRTIO_INTERRUPT_CONFIG);
}

uint64_t virtio_offered(const struct virtio_device *dev)
{
	return dev->ops->features | 1ull << VIRTIO_F_VERSION_1_BIT |
	       1ull << VIRTIO_F_INDIRECT_DESC_BIT | 1ull << VIRTIO_F_EVENT_IDX_BIT;
}

void virtio_notify(struct virtio_device *dev, uint32_t q)
{
	if (q < dev->queue_count && virtio_running(dev) && dev->queue[q].ready)
		dev->ops->notify(dev, q);
}

/* Begins or goes on to serve, if it may. A notification travels by its own descriptor and can
 * overtake the write that made the device able to serve it; so that counts as one too. */
static void run(struct virtio_device *dev)
{
	if (!virtio_running(dev))
		return;
	if (!dev->activated) {
		dev->activated = true;
		if (dev->ops->activate)
			dev->ops->activate(dev);
	}
	for (unsigned i = 0; i < dev->queue_count; i++)
		virtio_notify(dev, i);
}

void virtio_set_ready(struct virtio_device *dev, unsigned q, bool ready)
{
	struct virtq *vq;

	if (q >= dev->queue_count || dev->resetting)
		return;
	vq = &dev->queue[q];
	if (!ready) {
		/* Chains in flight come home by virtq_push, which then writes nothing. */
		vq->ready = false;
		return;
	}
	if (vq->ready)
		return;

	int rc = virtq_start(vq);
	if (rc < 0) {
		virtio_fault(
			dev,
			"queue %u: bad rings (%d): size %u, desc %#llx, avail %#llx, used %#llx", q,
			rc, vq->size, (unsigned long long)vq->desc_gpa,
			(unsigned long long)vq->avail_gpa, (unsigned long long)vq->used_gpa);
		return;
	}
	virtio_notify(dev, q);
}

static void start_quiesce(struct virtio_device *dev)
{
	if (dev->quiescing)
		return;
	dev->quiescing = true;
	dev->ops->quiesce(dev);
}

/* What a driver sees of a reset. */
static void forget_driver(struct virtio_device *dev)
{
	for (unsigned i = 0; i < VIRTIO_MAX_QUEUES; i++)
		virtq_reset(&dev->queue[i]);
	dev->features = 0;
	dev->interrupt_status = 0;
	dev->interrupt_unread = 0;
	dev->activated = false;
	dev->resetting = false;
	dev->status = 0;
}

void virtio_quiesced(struct virtio_device *dev)
{
	void (*done)(struct virtio_device *, void *) = dev->on_quiesced;
	bool was_clearing;

	assert(dev->quiescing);
	dev->quiescing = false;
	if (dev->resetting || dev->clearing)
		dev->ops->reset(dev);
	if (dev->resetting)
		forget_driver(dev);
	was_clearing = dev->clearing;
	dev->clearing = false;
	if (done) {
		dev->on_quiesced = NULL;
		done(dev, dev->on_quiesced_arg);
	} else if (dev->resuming) {
		dev->resuming = false;
		dev->stopped = false;
		run(dev);
	} else if (was_clearing) {
		run(dev); /* for the driver that came meanwhile */
	}
}

void virtio_quiesce(struct virtio_device *dev, void (*done)(struct virtio_device *, void *),
		    void *arg)
{
	assert(!dev->on_quiesced);
	dev->stopped = true;
	dev->resuming = false;
	dev->on_quiesced = done;
	dev->on_quiesced_arg = arg;
	start_quiesce(dev);
}

void virtio_give_up(struct virtio_device *dev)
{
	dev->ending = true;
}

void virtio_resume(struct virtio_device *dev)
{
	/* Its operations in flight count on being the last before it is quiet. */
	if (dev->stopped && dev->quiescing) {
		dev->on_quiesced = NULL;
		dev->resuming = true;
		return;
	}
	dev->stopped = false;
	/* The driver may not have seen it: its line was another one. */
	if (dev->restored && dev->interrupt_status)
		irq_raise(&dev->irq);
	dev->restored = false;
	run(dev);
}

bool virtio_accept_features(struct virtio_device *dev, uint64_t wanted)
{
	if ((wanted & ~virtio_offered(dev)) || !has_feature(wanted, VIRTIO_F_VERSION_1_BIT))
		return false;
	dev->features = wanted;
	for (unsigned i = 0; i < VIRTIO_MAX_QUEUES; i++) {
		dev->queue[i].event_idx = has_feature(wanted, VIRTIO_F_EVENT_IDX_BIT);
		dev->queue[i].indirect = has_feature(wanted, VIRTIO_F_INDIRECT_DESC_BIT);
	}
	return true;
}

void virtio_set_status(struct virtio_device *dev, uint8_t status, uint64_t wanted)
{
	if (dev->resetting)
		return;
	if (!status) {
		dev->resetting = true;
		start_quiesce(dev);
		/* Linux doesn't wait for it to read 0 (vm_reset of virtio_mmio.c), and after kexec
		 * there is much to quiet. */
		if (dev->resetting && dev->ops->polls_only) {
			forget_driver(dev);
			dev->clearing = true;
		}
		return;
	}

	/* Only a reset clears a bit (2.1.1). */
	uint8_t fresh = status & DRIVER_BITS & ~dev->status;

	/* 2.2.2: a refusal is read back as the bit missing. */
	if ((fresh & VIRTIO_STATUS_FEATURES_OK) && !virtio_accept_features(dev, wanted))
		fresh &= (uint8_t)~VIRTIO_STATUS_FEATURES_OK;
	if ((fresh & VIRTIO_STATUS_DRIVER_OK) &&
	    !((dev->status | fresh) & VIRTIO_STATUS_FEATURES_OK)) {
		fresh &= (uint8_t)~VIRTIO_STATUS_DRIVER_OK;
		virtio_fault(dev, "DRIVER_OK without FEATURES_OK");
	}
	dev->status |= fresh;
	if (fresh & VIRTIO_STATUS_DRIVER_OK)
		run(dev);
}
