/* See vdriver.h. Single-threaded: device and driver take turns, so plain accesses will do. */
#include "vdriver.h"

#include <stdio.h>
#include <stdlib.h>

#define REQUIRE(cond)                                                                              \
	do {                                                                                       \
		if (!(cond)) {                                                                     \
			fprintf(stderr, "vdriver: %s:%d: %s\n", __FILE__, __LINE__, #cond);        \
			abort();                                                                   \
		}                                                                                  \
	} while (0)

void vdriver_init(struct vdriver *drv)
{
	static const struct guest_layout layout = {
		.range = {{.gpa = 0, .size = VDRIVER_LOW_SIZE},
			  {.gpa = VDRIVER_HIGH_GPA, .size = VDRIVER_HIGH_SIZE}},
		.count = 2,
	};

	memset(drv, 0, sizeof(*drv));
	REQUIRE(guest_memory_init(&drv->mem, &layout, NULL) == 0);
	drv->next_gpa = KIB(4);
}

void vdriver_done(struct vdriver *drv)
{
	guest_memory_done(&drv->mem);
}

uint64_t vdriver_alloc(struct vdriver *drv, uint64_t len, uint64_t align)
{
	uint64_t gpa = ALIGN_UP(drv->next_gpa, align);

	REQUIRE(gpa + len <= VDRIVER_LOW_SIZE);
	drv->next_gpa = gpa + len;
	memset(vdriver_ptr(drv, gpa, len), 0, len);
	return gpa;
}

void *vdriver_ptr(struct vdriver *drv, uint64_t gpa, uint64_t len)
{
	void *p = guest_ptr(&drv->mem, gpa, len);

	REQUIRE(p);
	return p;
}

uint64_t vdriver_bytes(struct vdriver *drv, const void *data, uint64_t len)
{
	uint64_t gpa = vdriver_alloc(drv, len, 1);

	memcpy(vdriver_ptr(drv, gpa, len), data, len);
	return gpa;
}

uint8_t vdriver_bring_up(struct vdriver *drv, struct virtio_device *dev, uint64_t features)
{
	features |= 1ull << VIRTIO_F_VERSION_1_BIT;
	virtio_set_status(dev, 0, 0);
	REQUIRE(dev->status == 0);
	virtio_set_status(dev, VIRTIO_STATUS_ACKNOWLEDGE, features);
	virtio_set_status(dev, dev->status | VIRTIO_STATUS_DRIVER, features);
	virtio_set_status(dev, dev->status | VIRTIO_STATUS_FEATURES_OK, features);
	if (!(dev->status & VIRTIO_STATUS_FEATURES_OK))
		return dev->status;
	for (unsigned i = 0; i < dev->queue_count; i++) {
		vring_init(&drv->ring[i], drv, &dev->queue[i], dev->queue[i].max_size);
		virtio_set_ready(dev, i, true);
	}
	virtio_set_status(dev, dev->status | VIRTIO_STATUS_DRIVER_OK, features);
	return dev->status;
}

void vring_init(struct vring *r, struct vdriver *drv, struct virtq *q, uint16_t size)
{
	REQUIRE(size <= VIRTQ_MAX_SIZE);
	*r = (struct vring){.drv = drv, .q = q, .size = size};
	r->desc_gpa = vdriver_alloc(drv, 16ull * size, 16);
	r->avail_gpa = vdriver_alloc(drv, 6 + 2ull * size, 2);
	r->used_gpa = vdriver_alloc(drv, 6 + 8ull * size, 4);

	r->desc = vdriver_ptr(drv, r->desc_gpa, 16ull * size);
	uint16_t *avail = vdriver_ptr(drv, r->avail_gpa, 6 + 2ull * size);
	r->avail_flags = avail;
	r->avail_idx = avail + 1;
	r->avail_ring = avail + 2;
	r->used_event = avail + 2 + size;
	uint16_t *used = vdriver_ptr(drv, r->used_gpa, 6 + 8ull * size);
	r->used_flags = used;
	r->used_idx = used + 1;
	r->used_ring = (void *)(used + 2);
	r->avail_event = used + 2 + 4 * size;

	q->size = size;
	q->desc_gpa = r->desc_gpa;
	q->avail_gpa = r->avail_gpa;
	q->used_gpa = r->used_gpa;
}

static uint16_t take(struct vring *r)
{
	uint16_t i = 0;

	while (i < r->size && r->taken[i])
		i++;
	REQUIRE(i < r->size);
	r->taken[i] = true;
	return i;
}

static uint16_t seg_flags(const struct vseg *s)
{
	return s->direction == VSEG_IN ? VDESC_WRITE : 0;
}

uint16_t vring_chain(struct vring *r, unsigned n, const struct vseg *segs)
{
	uint16_t head = take(r), at = head;

	REQUIRE(n > 0);
	for (unsigned i = 0; i < n; i++) {
		struct vdesc d = {segs[i].gpa, segs[i].len, seg_flags(&segs[i]), 0};

		if (i + 1 < n) {
			d.flags |= VDESC_NEXT;
			d.next = take(r);
		}
		r->desc[at] = d;
		at = d.next;
	}
	return head;
}

void vring_offer(struct vring *r, uint16_t head)
{
	r->avail_ring[*r->avail_idx % r->size] = head;
	++*r->avail_idx;
}

uint16_t vring_add(struct vring *r, unsigned n, const struct vseg *segs)
{
	uint16_t head = vring_chain(r, n, segs);

	vring_offer(r, head);
	return head;
}

uint16_t vring_add_indirect(struct vring *r, unsigned n, const struct vseg *segs)
{
	uint64_t gpa = vdriver_alloc(r->drv, 16ull * n, 16);
	struct vdesc *table = vdriver_ptr(r->drv, gpa, 16ull * n);
	uint16_t head = take(r);

	for (unsigned i = 0; i < n; i++) {
		table[i] = (struct vdesc){segs[i].gpa, segs[i].len, seg_flags(&segs[i]), 0};
		if (i + 1 < n) {
			table[i].flags |= VDESC_NEXT;
			table[i].next = (uint16_t)(i + 1);
		}
	}
	r->desc[head] = (struct vdesc){gpa, 16 * n, VDESC_INDIRECT, 0};
	vring_offer(r, head);
	return head;
}

static void give_back(struct vring *r, uint16_t at)
{
	for (unsigned i = 0; i < r->size && at < r->size; i++) {
		r->taken[at] = false;
		if (!(r->desc[at].flags & VDESC_NEXT))
			return;
		at = r->desc[at].next;
	}
}

bool vring_used(struct vring *r, uint32_t *ret_head, uint32_t *ret_written)
{
	if (r->last_used == *r->used_idx)
		return false;

	uint32_t id = r->used_ring[r->last_used % r->size].id;
	REQUIRE(id < r->size);
	if (ret_head)
		*ret_head = id;
	if (ret_written)
		*ret_written = r->used_ring[r->last_used % r->size].len;
	r->last_used++;
	/* As Linux does with callbacks on. */
	if (r->q->event_idx)
		*r->used_event = r->last_used;
	give_back(r, (uint16_t)id);
	return true;
}

bool vring_wants_kick(const struct vring *r, uint16_t old, uint16_t now)
{
	if (r->q->event_idx)
		return (uint16_t)(now - *r->avail_event - 1) < (uint16_t)(now - old);
	return !(*r->used_flags & 1);
}
