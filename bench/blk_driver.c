/* The driver's side of virtio-blk (virtio 1.2, 2.7 and 5.2). Control thread. */
#include "blk_driver.h"

#include <errno.h>
#include <sys/eventfd.h>

#include "base/util.h"

/* Guest memory:
 *   0x1000 descriptors   0x2000 available ring   0x3000 used ring
 *   0x4000 for each slot a table of three descriptors, a header and a status, in 128 bytes
 *   0x100000 for each slot a block */
enum {
	RAM_BYTES = 0x200000,
	DESC_GPA = 0x1000,
	AVAIL_GPA = 0x2000,
	USED_GPA = 0x3000,
	SLOT_GPA = 0x4000,
	SLOT_BYTES = 128,
	HEADER_AT = 64,
	STATUS_AT = 96,
	DATA_GPA = 0x100000,
	QUIET_MS = 5000,
};
#define PENDING 0xff /* no status is this */

struct header {
	uint32_t type, reserved;
	uint64_t sector;
};

static void *at(const struct blk_driver *d, uint64_t gpa)
{
	return d->low + gpa;
}

static uint64_t slot_gpa(unsigned slot)
{
	return SLOT_GPA + (uint64_t)slot * SLOT_BYTES;
}

static void fill(struct blk_driver *d)
{
	struct vring_desc *desc = d->ring.desc;

	for (unsigned i = 0; i < BLK_DEPTH_MAX; i++) {
		uint64_t gpa = slot_gpa(i);
		struct vring_desc *table = at(d, gpa);
		struct header *header = at(d, gpa + HEADER_AT);

		desc[i] = (struct vring_desc){gpa, 3 * sizeof(*table), VRING_INDIRECT, 0};
		table[0] = (struct vring_desc){gpa + HEADER_AT, sizeof(*header), VRING_NEXT, 1};
		table[1] = (struct vring_desc){DATA_GPA + i * BLK_BLOCK, BLK_BLOCK,
					       VRING_NEXT | VRING_WRITE, 2};
		table[2] = (struct vring_desc){gpa + STATUS_AT, 1, VRING_WRITE, 0};
		*header = (struct header){.type = VIRTIO_BLK_T_IN};
	}
}

static void bring_up(struct blk_driver *d)
{
	uint64_t features = 1ull << VIRTIO_F_VERSION_1_BIT | 1ull << VIRTIO_F_INDIRECT_DESC_BIT |
			    1ull << VIRTIO_F_EVENT_IDX_BIT;
	struct virtq *q = &d->dev->queue[0];

	virtio_set_status(d->dev, VIRTIO_STATUS_ACKNOWLEDGE | VIRTIO_STATUS_DRIVER, features);
	virtio_set_status(d->dev, d->dev->status | VIRTIO_STATUS_FEATURES_OK, features);
	q->size = BLK_DEPTH_MAX;
	q->desc_gpa = DESC_GPA;
	q->avail_gpa = AVAIL_GPA;
	q->used_gpa = USED_GPA;
	virtio_set_ready(d->dev, 0, true);
	virtio_set_status(d->dev, d->dev->status | VIRTIO_STATUS_DRIVER_OK, features);
}

static void on_kick(struct loop_event *e, uint64_t count UNUSED)
{
	struct blk_driver *d = container_of(e, struct blk_driver, kick);

	virtio_notify(d->dev, 0);
}

int blk_driver_init(struct blk_driver *d, const char *path, bool direct, struct error *err)
{
	const struct virtio_blk_config config = {
		.file = {.path = path, .read_only = true, .direct = direct},
		.id = "bench",
		.queues = 1,
	};
	const struct guest_layout layout = {.range = {{.size = RAM_BYTES}}, .count = 1};
	int r;

	*d = (struct blk_driver){.kick = {.fire = on_kick, .fd = -1}, .irq_fd = -1};
	r = loop_new(&d->loop, err);
	if (r == 0)
		r = guest_memory_init(&d->mem, &layout, err);
	if (r < 0)
		return r;
	d->low = d->mem.region[0].host;
	d->ring = (struct vring){.size = BLK_DEPTH_MAX,
				 .desc = at(d, DESC_GPA),
				 .avail = at(d, AVAIL_GPA),
				 .used = at(d, USED_GPA)};
	d->irq_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (d->irq_fd < 0)
		return error_set_shortage(err, -errno, "making an event descriptor");
	r = loop_event_init(d->loop, &d->kick, err);
	if (r == 0)
		r = virtio_blk_new(d->loop, &d->mem, d->irq_fd, &config, &d->blk, err);
	if (r < 0)
		return r;
	d->dev = virtio_blk_device(d->blk);
	fill(d);
	bring_up(d);
	return virtio_running(d->dev) ? 0 : error_failed(err, "the disk refused its driver");
}

static void quiet(struct virtio_device *dev UNUSED, void *arg)
{
	*(bool *)arg = true;
}

void blk_driver_done(struct blk_driver *d)
{
	bool done = !d->blk;

	if (!d->loop)
		return;
	if (d->blk)
		virtio_quiesce(d->dev, quiet, &done);
	for (unsigned i = 0; i < QUIET_MS && !done; i++)
		if (loop_turn(d->loop, 1000000) < 0)
			break;
	virtio_blk_free(d->blk);
	loop_event_done(&d->kick);
	loop_free(d->loop);
	guest_memory_done(&d->mem);
	fd_close(&d->irq_fd);
	*d = (struct blk_driver){0};
}

void blk_driver_offer(struct blk_driver *d, unsigned slot, uint64_t block)
{
	struct header *header = at(d, slot_gpa(slot) + HEADER_AT);
	uint8_t *status = at(d, slot_gpa(slot) + STATUS_AT);

	header->sector = block * (BLK_BLOCK / BLOCK_SECTOR);
	*status = PENDING;
	vring_offer(&d->ring, (uint16_t)slot);
}

void blk_driver_kick(struct blk_driver *d)
{
	if (vring_publish(&d->ring))
		loop_event_signal(&d->kick);
}

int blk_driver_take(struct blk_driver *d)
{
	int slot = vring_take(&d->ring);

	if (slot >= 0)
		d->failed +=
			*(uint8_t *)at(d, slot_gpa((unsigned)slot) + STATUS_AT) != VIRTIO_BLK_S_OK;
	return slot;
}
