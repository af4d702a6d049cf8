/* A guest that does to each queue of each of its virtio devices what no driver may, one thing after
 * the other and then at random, and sees after each that the last of its disks, which it spares,
 * still works. What a device is made to write goes to the arena, or to where no memory is. */
#include "payload_virtio.h"

#define ARENA	    0x2000000u /* 32 MiB */
#define ARENA_BYTES 0x1000000u
#define RANDOM	    400u /* rounds at random for each device */

static struct vq disk_queue;
static u8 sector[512] __attribute__((aligned(512)));
static u32 disk, seed = 0x5eed;

void payload_main(void);

/* xorshift32 (Marsaglia, Xorshift RNGs, 2003). */
static u32 draw(void)
{
	seed ^= seed << 13;
	seed ^= seed >> 17;
	seed ^= seed << 5;
	return seed;
}

static struct vq *arena_queue(void)
{
	return (struct vq *)ARENA;
}

static void give_up(const char *what, u32 window)
{
	put("lost ");
	put(what);
	put(": device ");
	put_number(get(window, DEVICE));
	power_off();
}

/* The disk's last sector, read as drivers read: the first is where chains of zeros lead. */
static void disk_works(const char *after, u32 window)
{
	static volatile u32 header[4];
	static volatile u8 status;
	const struct vseg seg[] = {{header, 16, 0},
				   {sector, sizeof(sector), F_WRITE},
				   {&status, 1, F_WRITE}};
	u16 head;

	if (!device_begin(disk, 0))
		give_up(after, window);
	vq_begin(&disk_queue, disk, 0);
	device_go(disk);
	header[2] = get(disk, CONFIG) - 1;
	status = 0xff;
	sector[0] = 0;
	vq_offer(&disk_queue, 3, seg);
	vq_notify(&disk_queue);
	if (vq_take(&disk_queue, &head) == ~0u || status || sector[0] != 'L')
		give_up(after, window);
}

/* ---- one thing ------------------------------------------------------------------------------- */

static void chain(struct vq *q, u32 i, u64 addr, u32 len, u32 flags, u32 next)
{
	q->desc[i].addr = addr;
	q->desc[i].len = len;
	q->desc[i].flags = (u16)flags;
	q->desc[i].next = (u16)next;
}

static void offer(struct vq *q, u16 head)
{
	q->avail.ring[q->avail.idx % VQ_SIZE] = head;
	q->avail.idx++;
	vq_notify(q);
}

static void loop_of_one(struct vq *q)
{
	chain(q, 0, ARENA + 0x10000, 16, F_NEXT, 0);
	offer(q, 0);
}

static void longer_than_the_queue(struct vq *q)
{
	for (u32 i = 0; i < VQ_SIZE; i++)
		chain(q, i, ARENA + 0x10000, 16, F_NEXT | (i > 7 ? F_WRITE : 0), i + 1);
	chain(q, VQ_SIZE - 1, ARENA + 0x10000, 16, F_NEXT | F_WRITE, 0);
	offer(q, 0);
}

static void next_past_the_table(struct vq *q)
{
	chain(q, 0, ARENA + 0x10000, 16, F_NEXT, 0xffff);
	offer(q, 0);
	offer(q, 0xffff);
}

static void past_the_end_of_memory(struct vq *q)
{
	static const u64 places[] = {0xffffffffffffffffull,
				     0xfffffffffffff000ull,
				     0x100000000000ull,
				     0xfee00000,
				     WINDOWS,
				     0xffffffff};

	for (u32 i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
		chain(q, 2 * i, places[i], 0xffffffff, F_NEXT, 2 * i + 1);
		chain(q, 2 * i + 1, places[i], 4096, F_WRITE, 0);
		offer(q, (u16)(2 * i));
	}
}

static void across_the_end_of_memory(struct vq *q)
{
	chain(q, 0, (256u << 20) - 8, 4096, F_NEXT, 1);
	chain(q, 1, (256u << 20) - 8, 4096, F_WRITE, 0);
	offer(q, 0);
}

static void of_no_length(struct vq *q)
{
	chain(q, 0, ARENA + 0x10000, 0, F_NEXT, 1);
	chain(q, 1, ARENA + 0x10000, 0, F_NEXT | F_WRITE, 2);
	chain(q, 2, ARENA + 0x10000, 0, F_WRITE, 0);
	offer(q, 0);
}

static void on_its_own_rings(struct vq *q)
{
	chain(q, 0, (u32)q->desc, 16, F_NEXT, 1);
	chain(q, 1, (u32)q->desc, sizeof(q->desc), F_NEXT | F_WRITE, 2);
	chain(q, 2, (u32)&q->used, sizeof(q->used), F_NEXT | F_WRITE, 3);
	chain(q, 3, (u32)&q->avail, sizeof(q->avail), F_WRITE, 0);
	offer(q, 0);
}

static void written_before_read(struct vq *q)
{
	chain(q, 0, ARENA + 0x10000, 512, F_NEXT | F_WRITE, 1);
	chain(q, 1, ARENA + 0x10000, 512, F_NEXT, 2);
	chain(q, 2, ARENA + 0x10000, 512, F_WRITE, 0);
	offer(q, 0);
}

static void indirect_in_indirect(struct vq *q)
{
	volatile struct desc *table = (volatile struct desc *)(ARENA + 0x20000);

	for (u32 i = 0; i < 4; i++) {
		table[i].addr = ARENA + 0x20000;
		table[i].len = 64;
		table[i].flags = F_INDIRECT | F_NEXT;
		table[i].next = (u16)((i + 1) % 4);
	}
	chain(q, 0, ARENA + 0x20000, 64, F_INDIRECT, 0);
	chain(q, 1, ARENA + 0x20000, 64, F_INDIRECT | F_NEXT, 1);
	chain(q, 2, ARENA + 0x20000, 17, F_INDIRECT, 0);
	chain(q, 3, ARENA + 0x20000, 0, F_INDIRECT | F_WRITE, 0);
	chain(q, 4, 0xfffffffffffffff0ull, 0xfffffff0, F_INDIRECT, 0);
	for (u16 i = 0; i < 5; i++)
		offer(q, i);
}

static void index_jumps(struct vq *q)
{
	for (u32 i = 0; i < VQ_SIZE; i++)
		chain(q, i, ARENA + 0x10000 + 0x1000 * i, 4096, i & 1 ? F_WRITE : 0, 0);
	q->avail.idx += 1000;
	vq_notify(q);
	q->avail.idx -= 2000;
	vq_notify(q);
}

static void ready_again_in_flight(struct vq *q)
{
	for (u32 i = 0; i < 8; i++) {
		written_before_read(q);
		set(q->window, QUEUE_SEL, q->index);
		set(q->window, READY, 0);
		set(q->window, READY, 1);
		vq_notify(q);
	}
}

static void reset_in_flight(struct vq *q)
{
	written_before_read(q);
	set(q->window, STATUS, 0);
	vq_notify(q);
	set(q->window, STATUS, 15);
	vq_notify(q);
}

/* Sizes and places that no ring may have. */
static void rings_from_nowhere(struct vq *q)
{
	static const u32 sizes[] = {0, 3, 17, 0x8000, 0xffff, 0xffffffff};
	static const u32 places[] = {ARENA + 1, 0xfffffff0, WINDOWS, (256u << 20) - 16};

	for (u32 s = 0; s < sizeof(sizes) / sizeof(sizes[0]); s++)
		for (u32 p = 0; p < sizeof(places) / sizeof(places[0]); p++) {
			set(q->window, STATUS, 0);
			set(q->window, STATUS, 11);
			set(q->window, QUEUE_SEL, q->index + (s & 1 ? 100 : 0));
			set(q->window, QUEUE_NUM, sizes[s]);
			set(q->window, DESC + (p & 1 ? 4 : 0), places[p]);
			set(q->window, AVAIL, places[p]);
			set(q->window, USED, places[p]);
			set(q->window, READY, 1);
			set(q->window, STATUS, 15);
			set(q->window, NOTIFY, q->index);
			set(q->window, NOTIFY, 0xffff);
		}
}

/* A reset behind each step of coming up. */
static void reset_at_each_step(struct vq *q)
{
	static const u16 reg[] = {STATUS,    STATUS, DRIVER_SEL, DRIVER, STATUS, QUEUE_SEL,
				  QUEUE_NUM, DESC,   AVAIL,	 USED,	 READY,	 STATUS};
	const u32 value[] =
		{1, 3, 1, 1, 11, q->index, 16, (u32)q->desc, (u32)&q->avail, (u32)&q->used, 1, 15};

	for (u32 n = 1; n <= sizeof(reg) / sizeof(reg[0]); n++) {
		for (u32 i = 0; i < n; i++)
			set(q->window, reg[i], value[i]);
		set(q->window, NOTIFY, q->index);
		set(q->window, STATUS, 0);
	}
}

static const struct {
	const char *name;
	void (*act)(struct vq *q);
} acts[] = {
	{"a loop", loop_of_one},
	{"a chain longer than the queue", longer_than_the_queue},
	{"a descriptor past the table", next_past_the_table},
	{"a buffer past the end of memory", past_the_end_of_memory},
	{"a buffer across the end of memory", across_the_end_of_memory},
	{"buffers of no length", of_no_length},
	{"buffers on the rings", on_its_own_rings},
	{"what is written before what is read", written_before_read},
	{"indirect inside indirect", indirect_in_indirect},
	{"an index that jumps", index_jumps},
	{"a queue made ready again in flight", ready_again_in_flight},
	{"a reset in flight", reset_in_flight},
	{"rings from nowhere", rings_from_nowhere},
	{"a reset at each step", reset_at_each_step},
};

/* ---- at random ------------------------------------------------------------------------------- */

static u64 somewhere(void)
{
	static const u64 edges[] = {0xfffffffffffff000ull, 0x100000000ull, WINDOWS, 0xfee00000,
				    (256u << 20) - 8};

	return draw() % 4 ? ARENA + draw() % ARENA_BYTES : edges[draw() % 5] + draw() % 16;
}

static void scramble(struct vq *q)
{
	for (u32 i = 0; i < VQ_SIZE; i++) {
		chain(q, i, somewhere(), draw() % 8 ? draw() % 8192 : draw(), draw() % 16,
		      draw() % (VQ_SIZE + 1));
		q->avail.ring[i] = (u16)(draw() % (VQ_SIZE + 2));
	}
	q->avail.flags = (u16)draw();
	q->avail.idx += (u16)(draw() % 4 ? draw() % 4 : draw());
	vq_notify(q);
	switch (draw() % 8) {
	case 0:
		set(q->window, STATUS, 0);
		break;
	case 1:
		set(q->window, READY, draw() % 2);
		break;
	case 2:
		set(q->window, draw() % 0x100 & ~3u, draw());
		break;
	case 3:
		set(q->window, CONFIG + (draw() % 0x100 & ~3u), draw());
		break;
	}
}

/* ---- all of it ---------------------------------------------------------------------------------
 */

static void begin(u32 window, u32 index)
{
	struct vq *q = arena_queue();

	if (!device_begin(window, 0))
		give_up("a device after its reset", window);
	vq_begin(q, window, index);
	device_go(window);
}

static u32 treat(u32 window)
{
	u32 n = 0;

	for (u32 index = 0; index < VQ_QUEUES; index++) {
		set(window, QUEUE_SEL, index);
		if (!get(window, QUEUE_MAX))
			break;
		for (u32 i = 0; i < sizeof(acts) / sizeof(acts[0]); i++, n++) {
			begin(window, index);
			acts[i].act(arena_queue());
			disk_works(acts[i].name, window);
		}
		for (u32 i = 0; i < RANDOM; i++, n++) {
			if (i % 8 == 0)
				begin(window, index);
			scramble(arena_queue());
			if (i % 32 == 0)
				disk_works("something at random", window);
		}
		disk_works("something at random", window);
	}
	return n;
}

void payload_main(void)
{
	for (u32 w = WINDOWS; w < WINDOWS + 16 * WINDOW; w += WINDOW)
		if (get(w, MAGIC) == 0x74726976 && get(w, DEVICE) == BLK)
			disk = w;
	put("begin\n");
	disk_works("nothing", disk);
	for (u32 w = WINDOWS; w < WINDOWS + 16 * WINDOW; w += WINDOW) {
		u32 kind = get(w, DEVICE), n;

		if (get(w, MAGIC) != 0x74726976 || !kind || w == disk)
			continue;
		n = treat(w);
		put("device ");
		put_number(kind);
		put("things ");
		put_number(n);
		set(w, STATUS, 0);
	}
	power_off();
}
