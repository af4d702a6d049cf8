/* A guest that drives the first virtio-blk device by itself (virtio 1.2, 4.2 and 5.2), without
 * interrupts, and says on COM1 how far it is. PAYLOAD_READS: so many of 16 KiB, DEPTH at
 * once, between two lines. Otherwise numbered records, a sector each, counted out once they are
 * durable: after a flush, or with PAYLOAD_THROUGH after the write itself, because F_FLUSH is not
 * taken. */
#include "payload_virtio.h"

#define SIZE	  256 /* of the queue */
#define DEPTH	  64  /* requests at once: three descriptors each */
#define READ_SIZE 16384u
#define SECTOR	  512u
#define CAPACITY  CONFIG

enum { T_IN, T_OUT, T_FLUSH = 4 };

static volatile struct desc desc[SIZE] __attribute__((aligned(16)));
static volatile struct {
	u16 flags, idx, ring[SIZE];
} avail __attribute__((aligned(4)));
static volatile struct {
	u16 flags, idx;
	struct {
		u32 id, len;
	} ring[SIZE];
} used __attribute__((aligned(4)));
static volatile struct {
	u32 type, reserved, sector, sector_high;
} header[DEPTH] __attribute__((aligned(16)));
static volatile u8 status[DEPTH];
static u32 data[DEPTH][READ_SIZE / 4] __attribute__((aligned(4096)));
static u32 window;
static u16 seen;

void payload_main(void);

static void stop(const char *why)
{
	put(why);
	for (;;)
		__asm__ volatile("cli; hlt");
}

static void bring_up(void)
{
	window = find_device(BLK);
	if (!window)
		stop("no disk\n");
#ifdef PAYLOAD_THROUGH
	if (!device_begin(window, 0))
#else
	if (!device_begin(window, 1 << 9)) /* FLUSH */
#endif
		stop("no features\n");
	avail.flags = 1; /* no interrupts */
	set(window, QUEUE_NUM, SIZE);
	set(window, DESC, (u32)desc);
	set(window, AVAIL, (u32)&avail);
	set(window, USED, (u32)&used);
	set(window, READY, 1);
	set(window, STATUS, 15);
}

/* Slot's request, its data of len bytes if any, into the ring. */
static void offer(u32 slot, u32 type, u32 sector, u32 len)
{
	volatile struct desc *d = &desc[3 * slot];
	u32 last = len ? 2 : 1;

	header[slot].type = type;
	header[slot].sector = sector;
	status[slot] = 0xff;
	d[0].addr = (u32)&header[slot];
	d[0].len = sizeof(header[slot]);
	d[0].flags = F_NEXT;
	d[0].next = (u16)(3 * slot + 1);
	d[1].addr = (u32)data[slot];
	d[1].len = len;
	d[1].flags = type == T_IN ? F_NEXT | F_WRITE : F_NEXT;
	d[1].next = (u16)(3 * slot + 2);
	d[last].addr = (u32)&status[slot];
	d[last].len = 1;
	d[last].flags = F_WRITE;
	avail.ring[avail.idx % SIZE] = (u16)(3 * slot);
	avail.idx++; /* stores are seen in their order here */
}

/* The slot of a request that came back, once one has. */
static u32 take(void)
{
	u32 slot;

	while (used.idx == seen)
		__asm__ volatile("pause");
	slot = used.ring[seen++ % SIZE].id / 3;
	if (status[slot])
		stop("failed\n");
	return slot;
}

#ifdef PAYLOAD_READS
static void run(void)
{
	u32 offered = 0, back = 0;

	put("begin ");
	put_number(PAYLOAD_READS);
	for (; offered < DEPTH; offered++)
		offer(offered, T_IN, offered * (READ_SIZE / SECTOR), READ_SIZE);
	set(window, NOTIFY, 0);
	for (; back < PAYLOAD_READS; back++) {
		u32 slot = take();

		if (offered < PAYLOAD_READS) {
			offer(slot, T_IN, offered++ % 128 * (READ_SIZE / SECTOR), READ_SIZE);
			set(window, NOTIFY, 0);
		}
	}
	put("end ");
	put_number(back);
	power_off();
}
#else
static void run(void)
{
	u32 sectors = get(window, CAPACITY), n = 1;

	while (n + DEPTH < sectors) {
		/* One to eight at once. */
		u32 batch = 1 + n % 8;

		for (u32 i = 0; i < batch; i++) {
			for (u32 k = 0; k < SECTOR / 4; k++)
				data[i][k] = n + i;
			offer(i, T_OUT, n + i, SECTOR);
		}
		set(window, NOTIFY, 0);
		for (u32 i = 0; i < batch; i++)
			take();
#ifndef PAYLOAD_THROUGH
		offer(0, T_FLUSH, 0, 0);
		set(window, NOTIFY, 0);
		take();
#endif
		n += batch;
		put_number(n - 1);
	}
	stop("full\n");
}
#endif

void payload_main(void)
{
	bring_up();
	run();
	stop("");
}
