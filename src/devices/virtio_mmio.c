/* The MMIO transport, version 2: decodes registers, and turns queue notifications from an ioeventfd
 * into calls. What the registers mean is virtio.c's and virtq.c's. Control thread. */
#include "devices/virtio_mmio.h"

#include <assert.h>
#include <string.h>

/* virtio 1.2, table 4.1. */
enum {
	MAGIC_VALUE = 0x000,
	VERSION = 0x004,
	DEVICE_ID = 0x008,
	VENDOR_ID = 0x00c,
	DEVICE_FEATURES = 0x010,
	DEVICE_FEATURES_SEL = 0x014,
	DRIVER_FEATURES = 0x020,
	DRIVER_FEATURES_SEL = 0x024,
	QUEUE_SEL = 0x030,
	QUEUE_NUM_MAX = 0x034,
	QUEUE_NUM = 0x038,
	QUEUE_READY = 0x044,
	QUEUE_NOTIFY = VIRTIO_MMIO_NOTIFY,
	INTERRUPT_STATUS = 0x060,
	INTERRUPT_ACK = 0x064,
	STATUS = 0x070,
	QUEUE_DESC_LOW = 0x080,
	QUEUE_DESC_HIGH = 0x084,
	QUEUE_DRIVER_LOW = 0x090,
	QUEUE_DRIVER_HIGH = 0x094,
	QUEUE_DEVICE_LOW = 0x0a0,
	QUEUE_DEVICE_HIGH = 0x0a4,
	SHM_SEL = 0x0ac,
	SHM_LEN_LOW = 0x0b0,
	SHM_LEN_HIGH = 0x0b4,
	SHM_BASE_LOW = 0x0b8,
	SHM_BASE_HIGH = 0x0bc,
	CONFIG_GENERATION = 0x0fc,
	CONFIG = 0x100,
};

#define MAGIC	       0x74726976 /* "virt" */
#define VENDOR	       0x73617473 /* "stas" */
#define MODERN_VERSION 2

/* The queue that QueueSel names, or NULL: its registers read 0 and take nothing. */
static struct virtq *selected(const struct virtio_mmio *t)
{
	return t->queue_sel < t->dev->queue_count ? &t->dev->queue[t->queue_sel] : NULL;
}

static uint32_t read_register(struct virtio_mmio *t, uint64_t offset)
{
	struct virtio_device *dev = t->dev;
	const struct virtq *q = selected(t);

	switch (offset) {
	case MAGIC_VALUE:
		return MAGIC;
	case VERSION:
		return MODERN_VERSION;
	case DEVICE_ID:
		return dev->ops->device_id;
	case VENDOR_ID:
		return VENDOR;
	case DEVICE_FEATURES:
		return t->device_features_sel < 2
			       ? (uint32_t)(virtio_offered(dev) >> 32 * t->device_features_sel)
			       : 0;
	case QUEUE_NUM_MAX:
		return q ? q->max_size : 0;
	case QUEUE_READY:
		return q && q->ready;
	case INTERRUPT_STATUS:
		return virtio_interrupt_read(dev);
	case STATUS:
		return dev->status;
	case SHM_LEN_LOW:
	case SHM_LEN_HIGH:
	case SHM_BASE_LOW:
	case SHM_BASE_HIGH:
		return UINT32_MAX; /* no such region: length and base of all ones (4.2.2) */
	case CONFIG_GENERATION:
		return dev->config_generation;
	default:
		return 0;
	}
}

static void set_half(uint64_t *field, bool high, uint32_t v)
{
	*field = high ? (*field & UINT32_MAX) | (uint64_t)v << 32
		      : (*field & ~(uint64_t)UINT32_MAX) | v;
}

static void write_queue(struct virtio_mmio *t, uint64_t offset, uint32_t v)
{
	struct virtq *q = selected(t);

	if (!q || q->ready || t->dev->resetting)
		return;
	switch (offset) {
	case QUEUE_NUM:
		/* What doesn't fit is as wrong as 0, which virtq_check refuses. */
		q->size = v <= UINT16_MAX ? (uint16_t)v : 0;
		break;
	case QUEUE_DESC_LOW:
	case QUEUE_DESC_HIGH:
		set_half(&q->desc_gpa, offset == QUEUE_DESC_HIGH, v);
		break;
	case QUEUE_DRIVER_LOW:
	case QUEUE_DRIVER_HIGH:
		set_half(&q->avail_gpa, offset == QUEUE_DRIVER_HIGH, v);
		break;
	default:
		set_half(&q->used_gpa, offset == QUEUE_DEVICE_HIGH, v);
		break;
	}
}

static void write_status(struct virtio_mmio *t, uint32_t v)
{
	/* Eight bits; a wider value isn't a status, and least of all a reset. */
	if (v > UINT8_MAX)
		return;
	/* Refused features leave VERSION_1 out, so that FEATURES_OK is refused. */
	virtio_set_status(t->dev, (uint8_t)v, t->driver_features_beyond ? 0 : t->driver_features);
	if (!v) {
		t->device_features_sel = t->driver_features_sel = t->queue_sel = 0;
		t->driver_features = 0;
		t->driver_features_beyond = false;
	}
}

static void write_register(struct virtio_mmio *t, uint64_t offset, uint32_t v)
{
	switch (offset) {
	case DEVICE_FEATURES_SEL:
		t->device_features_sel = v;
		break;
	case DRIVER_FEATURES:
		/* Bits past 63 are none that we offer; a driver that wants them gets a refusal. */
		if (t->driver_features_sel < 2)
			set_half(&t->driver_features, t->driver_features_sel == 1, v);
		else if (v)
			t->driver_features_beyond = true;
		break;
	case DRIVER_FEATURES_SEL:
		t->driver_features_sel = v;
		break;
	case QUEUE_SEL:
		t->queue_sel = v;
		break;
	case QUEUE_NUM:
	case QUEUE_DESC_LOW:
	case QUEUE_DESC_HIGH:
	case QUEUE_DRIVER_LOW:
	case QUEUE_DRIVER_HIGH:
	case QUEUE_DEVICE_LOW:
	case QUEUE_DEVICE_HIGH:
		write_queue(t, offset, v);
		break;
	case QUEUE_READY:
		/* 0 and 1 are all there is (4.2.2.2). */
		if (v < 2)
			virtio_set_ready(t->dev, t->queue_sel, v);
		break;
	case QUEUE_NOTIFY:
		virtio_notify(t->dev, v);
		break;
	case INTERRUPT_ACK:
		virtio_interrupt_ack(t->dev, v);
		break;
	case STATUS:
		write_status(t, v);
		break;
	default:
		break;
	}
}

/* Registers are 4 bytes, and are read and written as such (4.2.2.2). */
static void mmio_read(struct bus_device *bus, uint64_t offset, void *data, unsigned len)
{
	struct virtio_mmio *t = container_of(bus, struct virtio_mmio, bus);

	memset(data, 0, len);
	if (offset >= CONFIG) {
		if (t->dev->ops->config_read)
			t->dev->ops->config_read(t->dev, offset - CONFIG, data, len);
	} else if (len == 4) {
		uint32_t v = read_register(t, offset);

		memcpy(data, &v, sizeof(v));
	}
}

static void mmio_write(struct bus_device *bus, uint64_t offset, const void *data, unsigned len)
{
	struct virtio_mmio *t = container_of(bus, struct virtio_mmio, bus);

	if (offset >= CONFIG) {
		if (t->dev->ops->config_write)
			t->dev->ops->config_write(t->dev, offset - CONFIG, data, len);
	} else if (len == 4) {
		uint32_t v;

		memcpy(&v, data, sizeof(v));
		write_register(t, offset, v);
	}
}

static void fire(struct loop_event *e, uint64_t count)
{
	struct virtio_mmio_queue *q = container_of(e, struct virtio_mmio_queue, notify);
	struct virtio_mmio *t = q->owner;

	(void)count; /* one look at the ring serves any number of them */
	virtio_notify(t->dev, (uint32_t)(q - t->queue));
}

int virtio_mmio_init(struct virtio_mmio *t, struct virtio_device *dev, struct loop *loop,
		     struct error *err)
{
	assert(dev->queue_count <= VIRTIO_MAX_QUEUES);
	*t = (struct virtio_mmio){
		.bus = {.name = dev->ops->name, .read = mmio_read, .write = mmio_write},
		.dev = dev,
	};
	for (unsigned i = 0; i < dev->queue_count; i++) {
		t->queue[i].owner = t;
		t->queue[i].notify.fire = fire;

		int rc = loop_event_init(loop, &t->queue[i].notify, err);
		if (rc < 0) {
			virtio_mmio_done(t);
			return rc;
		}
		t->event_count++;
	}
	return 0;
}

void virtio_mmio_state(struct virtio_mmio *t, struct state_io *io)
{
	/* What the driver can write is anything; what it means is judged when it counts. */
	if (state_begin(io, "virtio-mmio", 1)) {
		state_u32(io, "device_features_sel", &t->device_features_sel);
		state_u32(io, "driver_features_sel", &t->driver_features_sel);
		state_u32(io, "queue_sel", &t->queue_sel);
		state_u64(io, "driver_features", &t->driver_features);
		state_bool(io, "driver_features_beyond", &t->driver_features_beyond);
	}
	state_end(io);
	virtio_state(t->dev, io);
}

void virtio_mmio_done(struct virtio_mmio *t)
{
	while (t->event_count > 0)
		loop_event_done(&t->queue[--t->event_count].notify);
}
