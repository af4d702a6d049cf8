/* The driver's side of virtio for unit tests: guest memory, rings, chains, and a device brought up
 * the way Linux does it. Failures to allocate end the test program.
 *
 *   struct vdriver drv;
 *   vdriver_init(&drv);
 *   vdriver_bring_up(&drv, dev, features);           (all queues ready, DRIVER_OK)
 *   uint64_t buf = vdriver_alloc(&drv, 64, 1);
 *   vring_add(&drv.ring[0], 1, (struct vseg[]){{buf, 64, VSEG_IN}});
 *   virtio_notify(dev, 0);
 *   vring_used(&drv.ring[0], &head, &written);
 */
#ifndef STASIS_TESTS_VDRIVER_H
#define STASIS_TESTS_VDRIVER_H

#include "devices/virtio.h"
#include "guest/memory.h"

#define VDRIVER_FEATURES                                                                           \
	(1ull << VIRTIO_F_VERSION_1_BIT | 1ull << VIRTIO_F_INDIRECT_DESC_BIT |                     \
	 1ull << VIRTIO_F_EVENT_IDX_BIT)

/* Two regions with a hole between them. */
#define VDRIVER_LOW_SIZE  MIB(4)
#define VDRIVER_HIGH_GPA  MIB(16)
#define VDRIVER_HIGH_SIZE MIB(4)

enum { VDESC_NEXT = 1, VDESC_WRITE = 2, VDESC_INDIRECT = 4 };

struct vdesc {
	uint64_t addr;
	uint32_t len;
	uint16_t flags, next;
};

enum vseg_direction { VSEG_OUT, VSEG_IN }; /* device reads; device writes */
struct vseg {
	uint64_t gpa;
	uint32_t len;
	enum vseg_direction direction;
};

struct vdriver;

/* One ring. The pointers are into guest memory: tests may poke at will. */
struct vring {
	struct vdriver *drv;
	struct virtq *q;
	uint16_t size;
	uint64_t desc_gpa, avail_gpa, used_gpa;
	struct vdesc *desc;
	uint16_t *avail_flags, *avail_idx, *avail_ring, *used_event;
	uint16_t *used_flags, *used_idx, *avail_event;
	struct {
		uint32_t id, len;
	} * used_ring;
	uint16_t last_used;
	bool taken[VIRTQ_MAX_SIZE]; /* descriptors */
};

struct vdriver {
	struct guest_memory mem;
	uint64_t next_gpa;
	struct vring ring[VIRTIO_MAX_QUEUES];
};

void vdriver_init(struct vdriver *drv);
void vdriver_done(struct vdriver *drv);
/* Zeroed guest memory of the low region, never given back. align: a power of two. */
uint64_t vdriver_alloc(struct vdriver *drv, uint64_t len, uint64_t align);
void *vdriver_ptr(struct vdriver *drv, uint64_t gpa, uint64_t len);
/* A buffer with these bytes in it. */
uint64_t vdriver_bytes(struct vdriver *drv, const void *data, uint64_t len);
/* Reset, features (VERSION_1 is added), rings of the largest size for every queue, DRIVER_OK.
 * Returns the status read back. */
uint8_t vdriver_bring_up(struct vdriver *drv, struct virtio_device *dev, uint64_t features);

/* Fresh rings for q, whose size and addresses it sets; virtq_start is the caller's. */
void vring_init(struct vring *r, struct vdriver *drv, struct virtq *q, uint16_t size);
/* Writes a chain into free descriptors and offers it. Returns its head. No notification. */
uint16_t vring_add(struct vring *r, unsigned n, const struct vseg *segs);
/* The same through an indirect table. */
uint16_t vring_add_indirect(struct vring *r, unsigned n, const struct vseg *segs);
/* Writes the chain only. */
uint16_t vring_chain(struct vring *r, unsigned n, const struct vseg *segs);
/* Offers any head. */
void vring_offer(struct vring *r, uint16_t head);
/* Takes the next used entry and frees its descriptors; false if there is none. Either output
 * may be NULL. */
bool vring_used(struct vring *r, uint32_t *ret_head, uint32_t *ret_written);
/* Whether Linux would notify after moving avail idx from old to now. */
bool vring_wants_kick(const struct vring *r, uint16_t old, uint16_t now);

#endif
