/* The driver's side of virtio over MMIO (virtio 1.2, 2.7 and 4.2) for payloads: one queue's rings,
 * chains, and a device brought up. Polls; takes no interrupt. Memory is mapped as it is. */
#ifndef TESTS_GUEST_PAYLOAD_VIRTIO_H
#define TESTS_GUEST_PAYLOAD_VIRTIO_H

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;

#define COM1	  0x3f8
#define WINDOWS	  0xc0000000u
#define WINDOW	  0x1000u
#define VQ_SIZE	  16u
#define VQ_QUEUES 16u

enum { MAGIC = 0x00, DEVICE = 0x08, FEATURES = 0x10, FEATURES_SEL = 0x14, DRIVER = 0x20 };
enum { DRIVER_SEL = 0x24, QUEUE_SEL = 0x30, QUEUE_MAX = 0x34, QUEUE_NUM = 0x38, READY = 0x44 };
enum { NOTIFY = 0x50, STATUS = 0x70, DESC = 0x80, AVAIL = 0x90, USED = 0xa0, CONFIG = 0x100 };
enum { NET = 1, BLK = 2, CONSOLE = 3, RNG = 4, VSOCK = 19 }; /* 5 */
enum { F_NEXT = 1, F_WRITE = 2, F_INDIRECT = 4 };

struct desc {
	u64 addr;
	u32 len;
	u16 flags, next;
};

struct vq {
	volatile struct desc desc[VQ_SIZE] __attribute__((aligned(16)));
	volatile struct {
		u16 flags, idx, ring[VQ_SIZE], event;
	} avail __attribute__((aligned(4)));
	volatile struct {
		u16 flags, idx;
		struct {
			u32 id, len;
		} ring[VQ_SIZE];
		u16 event;
	} used __attribute__((aligned(4)));
	u32 window, index;
	u16 seen, next;
};

struct vseg {
	const volatile void *at;
	u32 len;
	u16 flags; /* F_WRITE: the device writes it */
};

static inline void put_char(char c)
{
	__asm__ volatile("outb %b0, %w1" ::"a"(c), "d"(COM1));
}

static inline void put(const char *s)
{
	while (*s)
		put_char(*s++);
}

static inline void put_number(u32 n)
{
	char buf[12], *p = buf + 11;

	*p = 0;
	do
		*--p = (char)('0' + n % 10);
	while (n /= 10);
	put(p);
	put_char('\n');
}

/* S5. */
static inline void power_off(void)
{
	__asm__ volatile("outb %b0, %w1" ::"a"(0x20 | 5 << 2), "d"(0x600));
	for (;;)
		__asm__ volatile("cli; hlt");
}

static inline u32 get(u32 window, u32 reg)
{
	return *(volatile u32 *)(window + reg);
}

static inline void set(u32 window, u32 reg, u32 value)
{
	*(volatile u32 *)(window + reg) = value;
}

/* The window of the first device of that kind, or 0. */
static inline u32 find_device(u32 kind)
{
	for (u32 w = WINDOWS; w < WINDOWS + 16 * WINDOW; w += WINDOW)
		if (get(w, MAGIC) == 0x74726976 && get(w, DEVICE) == kind)
			return w;
	return 0;
}

/* Reset, and VERSION_1 with these of the first 32 features. 0: the device does not take that. Linux
 * doesn't wait for a reset; who may have given buffers for the host to fill has to (2.4.2). */
static inline int device_begin(u32 window, u32 features)
{
	u32 kind = get(window, DEVICE);

	set(window, STATUS, 0);
	while ((kind == BLK || kind == CONSOLE) && get(window, STATUS))
		;
	set(window, STATUS, 3);
	set(window, DRIVER_SEL, 1);
	set(window, DRIVER, 1);
	set(window, DRIVER_SEL, 0);
	set(window, DRIVER, features);
	set(window, STATUS, 11);
	return get(window, STATUS) & 8;
}

static inline void vq_begin(struct vq *q, u32 window, u32 index)
{
	q->window = window;
	q->index = index;
	q->avail.flags = 1; /* no interrupts */
	q->avail.idx = q->used.idx = q->seen = q->next = 0;
	set(window, QUEUE_SEL, index);
	set(window, QUEUE_NUM, VQ_SIZE);
	for (u32 at = 0; at < 3; at++) {
		static const u16 reg[] = {DESC, AVAIL, USED};
		const volatile void *ring[] = {q->desc, &q->avail, &q->used};

		set(window, reg[at], (u32)ring[at]);
		set(window, reg[at] + 4, 0);
	}
	set(window, READY, 1);
}

static inline void device_go(u32 window)
{
	set(window, STATUS, 15);
}

static inline void vq_notify(const struct vq *q)
{
	set(q->window, NOTIFY, q->index);
}

/* Segments of one chain, in descriptors that nothing under way has: the caller sees to that. Its
 * head. */
static inline u16 vq_offer(struct vq *q, u32 n, const struct vseg *seg)
{
	u16 head = q->next;

	for (u32 i = 0; i < n; i++) {
		volatile struct desc *d = &q->desc[q->next];

		q->next = (u16)((q->next + 1u) % VQ_SIZE);
		d->addr = (u32)seg[i].at;
		d->len = seg[i].len;
		d->flags = (u16)(seg[i].flags | (i + 1 < n ? F_NEXT : 0));
		d->next = q->next;
	}
	q->avail.ring[q->avail.idx % VQ_SIZE] = head;
	q->avail.idx++; /* stores are seen in their order here */
	return head;
}

/* The next chain that came back: *head and the bytes written, or ~0 after a while. */
static inline u32 vq_take(struct vq *q, u16 *head)
{
	u32 len;

	for (u32 i = 0; q->used.idx == q->seen; i++) {
		/* A read of the device waits for what it is at; then the host has time. */
		if (i == 400000)
			return ~0u;
		(void)get(q->window, STATUS);
	}
	*head = (u16)q->used.ring[q->seen % VQ_SIZE].id;
	len = q->used.ring[q->seen % VQ_SIZE].len;
	q->seen++;
	return len;
}

#endif
