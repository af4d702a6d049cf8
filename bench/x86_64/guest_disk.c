/* A guest that drives the first virtio-blk disk by itself (virtio 1.2, 2.7, 4.2 and 5.2), the same
 * under the product and its peer. It looks at the used ring and takes no interrupt; indirect
 * descriptors and the event index are used, as Linux would. It has no machine of its own: CPL 3, no
 * vectors, no bss. */
#include "guest_disk.h"

#include "../blocks.h"
#include "../vring.h"

#define MAGIC_VALUE   0x74726976u
#define SIZE	      256u
#define NO_INTERRUPTS 0x4000u /* more than a ring's worth ahead: never reached */

/* Where transports are: the product's, a QEMU microvm's. */
static const struct {
	uint32_t base, stride, count;
} places[] = {{0xc0000000, 0x1000, 16}, {0xfeb00000, 0x200, 24}};

enum { MAGIC = 0x00, VERSION = 0x04, DEVICE = 0x08, FEATURES = 0x10, FEATURES_SEL = 0x14 };
enum { DRIVER = 0x20, DRIVER_SEL = 0x24, QUEUE_SEL = 0x30, QUEUE_NUM = 0x38, READY = 0x44 };
enum { NOTIFY = 0x50, STATUS = 0x70, DESC = 0x80, AVAIL = 0x90, USED = 0xa0 };
enum { ACKNOWLEDGE = 1, IS_DRIVER = 2, DRIVER_OK = 4, FEATURES_OK = 8 };
enum { INDIRECT_AND_EVENT_IDX = 1 << 28 | 1 << 29, VERSION_1 = 1 };
enum { PENDING = 0xff };
#define NO_SLOT UINT32_MAX

struct slot {
	struct vring_desc table[3];
	struct {
		uint32_t type, reserved;
		uint64_t sector;
	} header;
	volatile uint8_t status;
	uint64_t block;
} __attribute__((aligned(128)));

struct rings {
	struct vring_desc desc[SIZE];
	uint8_t avail[4096] __attribute__((aligned(4096)));
	uint8_t used[4096] __attribute__((aligned(4096)));
	struct slot slot[DISK_DEPTH_MAX] __attribute__((aligned(4096)));
};

static struct rings *const rings = (struct rings *)DISK_RINGS_GPA;
static volatile struct disk_words *const words = (volatile struct disk_words *)DISK_WORDS_GPA;

void disk_main(void);

static uint32_t get(uint64_t window, uint32_t reg)
{
	return *(volatile uint32_t *)(window + reg);
}

static void set(uint64_t window, uint32_t reg, uint32_t value)
{
	*(volatile uint32_t *)(window + reg) = value;
}

static uint64_t ticks(void)
{
	uint32_t low, high;

	__asm__ volatile("lfence; rdtsc; lfence" : "=a"(low), "=d"(high)::"memory");
	return (uint64_t)high << 32 | low;
}

static uint64_t find_disk(void)
{
	for (uint32_t k = 0; k < sizeof(places) / sizeof(places[0]); k++)
		for (uint32_t i = 0; i < places[k].count; i++) {
			uint64_t window = places[k].base + i * places[k].stride;

			if (get(window, MAGIC) == MAGIC_VALUE && get(window, VERSION) == 2 &&
			    get(window, DEVICE) == 2)
				return window;
		}
	return 0;
}

static enum disk_problem bring_up(uint64_t window)
{
	set(window, STATUS, 0);
	set(window, STATUS, ACKNOWLEDGE | IS_DRIVER);
	set(window, FEATURES_SEL, 0);
	if ((get(window, FEATURES) & INDIRECT_AND_EVENT_IDX) != INDIRECT_AND_EVENT_IDX)
		return DISK_FEATURES;
	set(window, DRIVER_SEL, 1);
	set(window, DRIVER, VERSION_1);
	set(window, DRIVER_SEL, 0);
	set(window, DRIVER, INDIRECT_AND_EVENT_IDX);
	set(window, STATUS, ACKNOWLEDGE | IS_DRIVER | FEATURES_OK);
	if (!(get(window, STATUS) & FEATURES_OK))
		return DISK_REFUSED;
	set(window, QUEUE_SEL, 0);
	set(window, QUEUE_NUM, SIZE);
	set(window, DESC, (uint32_t)(uint64_t)rings->desc);
	set(window, AVAIL, (uint32_t)(uint64_t)rings->avail);
	set(window, USED, (uint32_t)(uint64_t)rings->used);
	set(window, READY, 1);
	set(window, STATUS, ACKNOWLEDGE | IS_DRIVER | FEATURES_OK | DRIVER_OK);
	return get(window, STATUS) & DRIVER_OK ? DISK_FINE : DISK_REFUSED;
}

static void fill(void)
{
	for (uint32_t i = 0; i < DISK_DEPTH_MAX; i++) {
		struct slot *s = &rings->slot[i];

		rings->desc[i] = (struct vring_desc){(uint64_t)s->table, sizeof(s->table),
						     VRING_INDIRECT, 0};
		s->table[0] =
			(struct vring_desc){(uint64_t)&s->header, sizeof(s->header), VRING_NEXT, 1};
		s->table[1] = (struct vring_desc){DISK_DATA_GPA + i * BLOCKS_BYTES, BLOCKS_BYTES,
						  VRING_NEXT | VRING_WRITE, 2};
		s->table[2] = (struct vring_desc){(uint64_t)&s->status, 1, VRING_WRITE, 0};
		s->header.type = s->header.reserved = 0; /* VIRTIO_BLK_T_IN */
	}
}

static void offer(struct vring *ring, uint32_t slot, uint64_t *seed)
{
	struct slot *s = &rings->slot[slot];

	s->block = blocks_next(seed);
	s->header.sector = s->block * (BLOCKS_BYTES / 512);
	s->status = PENDING;
	vring_offer(ring, (uint16_t)slot);
}

static uint64_t look(uint32_t slot, uint32_t whole)
{
	const uint64_t *data = (const uint64_t *)(DISK_DATA_GPA + (uint64_t)slot * BLOCKS_BYTES);
	uint64_t sum = 0;

	for (uint32_t i = 0; i < BLOCKS_WORDS; i += blocks_step(whole))
		sum += data[i];
	return blocks_weigh(rings->slot[slot].block, sum);
}

static void run(struct vring *ring, uint64_t window, const struct disk_order *order,
		struct disk_outcome *outcome)
{
	uint64_t seed = order->seed, begin;
	uint32_t offered = 0, back = 0, slot;

	for (; offered < order->depth && offered < order->reads; offered++)
		offer(ring, offered, &seed);
	begin = ticks();
	while (back < order->reads) {
		if (ring->avail_idx != ring->kicked_idx && vring_publish(ring)) {
			set(window, NOTIFY, 0);
			outcome->kicks++;
		}
		while ((slot = (uint32_t)vring_take(ring)) == NO_SLOT)
			__asm__ volatile("pause");
		/* All that is there, before the next are published. */
		for (; slot != NO_SLOT; slot = (uint32_t)vring_take(ring), back++) {
			slot %= DISK_DEPTH_MAX;
			if (rings->slot[slot].status != 0)
				outcome->problem = DISK_FAILED;
			outcome->sum += look(slot, order->whole);
			if (offered < order->reads) {
				offer(ring, slot, &seed);
				offered++;
			}
		}
	}
	outcome->ticks = ticks() - begin;
}

void disk_main(void)
{
	struct vring ring = {.size = SIZE,
			     .desc = rings->desc,
			     .avail = (struct vring_avail *)(void *)rings->avail,
			     .used = (struct vring_used *)(void *)rings->used,
			     .quiet = NO_INTERRUPTS};
	uint64_t window = find_disk();
	enum disk_problem problem = DISK_NONE;

	if (window) {
		fill();
		problem = bring_up(window);
	}
	for (;;) {
		struct disk_outcome outcome = {.problem = problem};
		struct disk_order order;

		__asm__ volatile("outb %%al, %0" ::"i"(DISK_PORT) : "memory");
		order = words->order;
		if (problem == DISK_FINE)
			run(&ring, window, &order, &outcome);
		words->outcome = outcome;
	}
}
