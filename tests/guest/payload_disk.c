/* A guest that drives the first virtio-blk device by itself (virtio 1.2, 4.2 and 5.2), without
 * interrupts, and says on COM1 how far it is. PAYLOAD_READS: so many reads of 16 KiB, DEPTH at
 * once, between two lines. Otherwise numbered records, a sector each, counted out once they are
 * durable: after a flush, or with PAYLOAD_THROUGH after the write itself, because F_FLUSH is not
 * taken. */
typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;

#define COM1	  0x3f8
#define WINDOWS	  0xc0000000
#define WINDOW	  0x1000
#define SIZE	  256 /* of the queue */
#define DEPTH	  64  /* requests at once: three descriptors each */
#define READS	  1010u
#define READ_SIZE 16384u
#define SECTOR	  512u

enum { MAGIC = 0x00, DEVICE = 0x08, FEATURES_SEL = 0x14, DRIVER = 0x20, DRIVER_SEL = 0x24 };
enum { QUEUE_NUM = 0x38, READY = 0x44, NOTIFY = 0x50, STATUS = 0x70, DESC = 0x80, AVAIL = 0x90 };
enum { USED = 0xa0, CAPACITY = 0x100 };
enum { T_IN, T_OUT, T_FLUSH = 4 };
enum { F_NEXT = 1, F_WRITE = 2 };

struct desc {
	u32 addr, addr_high, len;
	u16 flags, next;
};

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

static void put_char(char c)
{
	__asm__ volatile("outb %b0, %w1" ::"a"(c), "d"(COM1));
}

static void put(const char *s)
{
	while (*s)
		put_char(*s++);
}

static void put_number(u32 n)
{
	char buf[12], *p = buf + 11;

	*p = 0;
	do
		*--p = (char)('0' + n % 10);
	while (n /= 10);
	put(p);
	put_char('\n');
}

static void stop(const char *why)
{
	put(why);
	for (;;)
		__asm__ volatile("cli; hlt");
}

static u32 get(u32 reg)
{
	return *(volatile u32 *)(window + reg);
}

static void set(u32 reg, u32 value)
{
	*(volatile u32 *)(window + reg) = value;
}

static void bring_up(void)
{
	for (u32 i = 0; i < 16 && !window; i++)
		if (*(volatile u32 *)(WINDOWS + i * WINDOW + MAGIC) == 0x74726976 &&
		    *(volatile u32 *)(WINDOWS + i * WINDOW + DEVICE) == 2)
			window = WINDOWS + i * WINDOW;
	if (!window)
		stop("no disk\n");
	set(STATUS, 0);
	set(STATUS, 3);
	set(DRIVER_SEL, 1);
	set(DRIVER, 1); /* VERSION_1 */
	set(DRIVER_SEL, 0);
#ifdef PAYLOAD_THROUGH
	set(DRIVER, 0);
#else
	set(DRIVER, 1 << 9); /* FLUSH */
#endif
	set(STATUS, 11);
	if (!(get(STATUS) & 8))
		stop("no features\n");
	avail.flags = 1; /* no interrupts */
	set(QUEUE_NUM, SIZE);
	set(DESC, (u32)desc);
	set(AVAIL, (u32)&avail);
	set(USED, (u32)&used);
	set(READY, 1);
	set(STATUS, 15);
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
	put_number(READS);
	for (; offered < DEPTH; offered++)
		offer(offered, T_IN, offered * (READ_SIZE / SECTOR), READ_SIZE);
	set(NOTIFY, 0);
	for (; back < READS; back++) {
		u32 slot = take();

		if (offered < READS) {
			offer(slot, T_IN, offered++ % 128 * (READ_SIZE / SECTOR), READ_SIZE);
			set(NOTIFY, 0);
		}
	}
	put("end ");
	put_number(back);
	/* S5. */
	__asm__ volatile("outb %b0, %w1" ::"a"(0x20 | 5 << 2), "d"(0x600));
}
#else
static void run(void)
{
	u32 sectors = get(CAPACITY), n = 1;

	while (n + DEPTH < sectors) {
		/* One to eight at once. */
		u32 batch = 1 + n % 8;

		for (u32 i = 0; i < batch; i++) {
			for (u32 k = 0; k < SECTOR / 4; k++)
				data[i][k] = n + i;
			offer(i, T_OUT, n + i, SECTOR);
		}
		set(NOTIFY, 0);
		for (u32 i = 0; i < batch; i++)
			take();
#ifndef PAYLOAD_THROUGH
		offer(0, T_FLUSH, 0, 0);
		set(NOTIFY, 0);
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
