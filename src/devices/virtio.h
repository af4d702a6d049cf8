/* A virtio device, whatever its transport (virtio 1.2, 2). Control thread. */
#ifndef STASIS_DEVICES_VIRTIO_H
#define STASIS_DEVICES_VIRTIO_H

#include "base/log.h"
#include "base/state_io.h"
#include "devices/irq.h"
#include "devices/virtq.h"
#include "guest/memory.h"

#define VIRTIO_MAX_QUEUES 64

/* Device status (virtio 1.2, 2.1). */
enum {
	VIRTIO_STATUS_ACKNOWLEDGE = 1,
	VIRTIO_STATUS_DRIVER = 2,
	VIRTIO_STATUS_DRIVER_OK = 4,
	VIRTIO_STATUS_FEATURES_OK = 8,
	VIRTIO_STATUS_NEEDS_RESET = 64,
	VIRTIO_STATUS_FAILED = 128,
};

/* Bits of InterruptStatus (virtio 1.2, 4.2.2). */
enum { VIRTIO_INTERRUPT_USED = 1, VIRTIO_INTERRUPT_CONFIG = 2 };

#define VIRTIO_F_INDIRECT_DESC_BIT 28
#define VIRTIO_F_EVENT_IDX_BIT	   29
#define VIRTIO_F_VERSION_1_BIT	   32

struct virtio_device;

struct virtio_ops {
	const char *name;
	uint32_t device_id;  /* virtio 1.2, 5 */
	uint64_t features;   /* offered, besides VERSION_1, INDIRECT_DESC and EVENT_IDX */
	unsigned queues;     /* default count; a device may set dev->queue_count at init */
	uint16_t queue_size; /* largest size offered; a power of two */
	/* Reads of configuration space: offset + len may pass its end (give zeros there). NULL:
	 * there is none, or nothing in it is written. */
	void (*config_read)(struct virtio_device *dev, uint64_t offset, void *data, unsigned len);
	void (*config_write)(struct virtio_device *dev, uint64_t offset, const void *data,
			     unsigned len);
	/* DRIVER_OK was set, and nothing holds the device back: features and queues stand. notify
	 * of every ready queue follows. NULL: nothing is to be done. */
	void (*activate)(struct virtio_device *dev);
	/* The driver notified queue q, or may have (q is ready and DRIVER_OK is set): the ring can
	 * turn out empty. */
	void (*notify)(struct virtio_device *dev, unsigned q);
	/* Stops using guest memory: cancels or finishes operations in flight (see
	 * virtio_unanswered; that may change meanwhile), then calls
	 * virtio_quiesced(dev), at once or later. Serves reset, freeze and shutdown, and comes in
	 * any state, also before activate; never twice at a time. */
	void (*quiesce)(struct virtio_device *dev);
	/* What quiesce leaves in flight never touches guest memory (polls of the host's). The
	 * driver then sees a reset done at once; the device serves it again once it is quiet. */
	bool polls_only;
	/* After quiesce, on a reset: back to the state after init. */
	void (*reset)(struct virtio_device *dev);
	/* Saves or restores what the device has besides its rings and features, which are restored
	 * before: sections of its own, see virtio_state. NULL: nothing. */
	void (*state)(struct virtio_device *dev, struct state_io *io);
};

struct virtio_device {
	const struct virtio_ops *ops;
	const struct guest_memory *mem;
	struct irq_line irq;
	uint32_t interrupt_status; /* bit 0 used buffers, bit 1 configuration */
	uint32_t interrupt_unread; /* of those, raised since the driver last read them */
	uint32_t config_generation;
	uint8_t status;
	uint64_t features; /* accepted by the driver */
	unsigned queue_count;
	struct virtq queue[VIRTIO_MAX_QUEUES];
	bool resetting; /* a reset waits for quiesce */
	bool clearing;	/* the driver's part of a reset is done, ops->reset waits for quiesce */
	bool quiescing; /* ops->quiesce was called, virtio_quiesced was not */
	bool stopped;	/* virtio_quiesce came, virtio_resume did not */
	bool ending;	/* virtio_give_up came */
	bool resuming;	/* virtio_resume came before the device was quiet */
	bool activated; /* ops->activate was called since the last reset */
	bool restored;	/* … and not resumed since */
	void (*on_quiesced)(struct virtio_device *dev, void *arg); /* freeze or shutdown waits */
	void *on_quiesced_arg;
	uint64_t faults; /* guest faults so far */
	struct log_limit fault_log;
};

void virtio_init(struct virtio_device *dev, const struct virtio_ops *ops,
		 const struct guest_memory *mem, int irq_fd);
/* The guest broke the rules: sets NEEDS_RESET, tells the driver, counts, logs rate-limited. The
 * device serves no queue until it is reset. */
void virtio_fault(struct virtio_device *dev, const char *fmt, ...) PRINTF_LIKE(2, 3);
/* Interrupt for used buffers of q, if the driver wants one (event index, flags). */
void virtio_signal(struct virtio_device *dev, struct virtq *q);
/* The same for all queues: one interrupt at most; whether there was one. */
bool virtio_signal_all(struct virtio_device *dev);
/* Configuration changed: generation and interrupt. */
void virtio_config_changed(struct virtio_device *dev);
void virtio_quiesced(struct virtio_device *dev);
/* Quiesces for freeze or shutdown; done(dev, arg) at once or later. No queue is served from here
 * on until virtio_resume. One at a time. */
void virtio_quiesce(struct virtio_device *dev, void (*done)(struct virtio_device *, void *),
		    void *arg);
/* The machine ends: what is in flight need not be finished, only over. Before or after
 * virtio_quiesce. */
void virtio_give_up(struct virtio_device *dev);
/* After a freeze: notifies every ready queue, so that the device picks up what it left. Where it is
 * not quiet yet, that comes when it is, and done() of virtio_quiesce comes no more. */
void virtio_resume(struct virtio_device *dev);

/* Saves the device, or restores it into one of the same kind that has not been brought up; quiesced
 * both times. virtio_resume begins to serve it, when the vCPUs and their interrupt controllers are
 * as they were: it raises again what is pending. A restore checks what a driver's writes would be
 * checked for. One that is refused leaves a device to be freed, or reset. */
void virtio_state(struct virtio_device *dev, struct state_io *io);

/* ---- for the transport ----------------------------------------------------------------- */

uint64_t virtio_offered(const struct virtio_device *dev);
/* The driver wrote status; wanted are the features that it has accepted by then. FEATURES_OK is
 * taken only if they are possible. 0 resets: status reads 0 once the device is quiet. */
void virtio_set_status(struct virtio_device *dev, uint8_t status, uint64_t wanted);
/* The driver set QueueReady of q. */
void virtio_set_ready(struct virtio_device *dev, unsigned q, bool ready);
/* The driver notified q (any number): passed on if the device serves it. */
void virtio_notify(struct virtio_device *dev, uint32_t q);
/* An acknowledged bit stays if it was raised again after the driver's last read: its write may
 * reach us late (it is posted), and it can't speak of what it has not seen. */
uint32_t virtio_interrupt_read(struct virtio_device *dev);
void virtio_interrupt_ack(struct virtio_device *dev, uint32_t bits);
/* Takes the features over, for the queues as well; false: they can't be had. */
bool virtio_accept_features(struct virtio_device *dev, uint64_t wanted);

/* Nobody will look at what becomes of the requests in flight. */
static inline bool virtio_unanswered(const struct virtio_device *dev)
{
	return dev->resetting || dev->ending;
}

static inline bool virtio_running(const struct virtio_device *dev)
{
	return (dev->status & VIRTIO_STATUS_DRIVER_OK) && !dev->resetting && !dev->clearing &&
	       !dev->stopped && !(dev->status & (VIRTIO_STATUS_NEEDS_RESET | VIRTIO_STATUS_FAILED));
}

#endif
