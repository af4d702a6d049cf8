/* The MMIO transport and the split ring under a driver that writes any register, any byte of its
 * memory and any descriptor, while a device of the test's pops, holds, completes and puts back
 * chains. What must hold: every segment lies in guest memory, sums and bounds are right, a head is
 * out only once, and a reset ends in status 0. */
#include "devices/virtio_mmio.h"
#include "fuzz.h"

#define LOW_SIZE  KIB(64)
#define HIGH_GPA  KIB(128)
#define HIGH_SIZE KIB(16)
#define QUEUES	  3
#define QUEUE_MAX 32

/* Where bring_up puts the rings of queue i. */
#define DESC(i)	 (0x1000u + 0x1000u * (i))
#define AVAIL(i) (DESC(i) + 16u * QUEUE_MAX)
#define USED(i)	 (DESC(i) + 0x800u)

static struct guest_memory mem;
static struct virtio_device dev;
static struct virtio_mmio mmio;
static struct {
	uint16_t head[QUEUE_MAX];
	unsigned count;
} held[QUEUES];
static bool hold, slow, quiesce_waits;
static unsigned done_waits;

int loop_event_init(struct loop *loop, struct loop_event *e, struct error *err)
{
	(void)loop;
	(void)err;
	e->fd = -1;
	return 0;
}

void loop_event_done(struct loop_event *e)
{
	(void)e;
}

static void check_segment(const struct iovec *v)
{
	const uint8_t *p = v->iov_base;
	bool inside = false;

	for (unsigned i = 0; i < mem.count; i++) {
		const struct guest_region *g = &mem.region[i];

		inside |= p >= g->host && v->iov_len <= g->range.size &&
			  (size_t)(p - g->host) <= g->range.size - v->iov_len;
	}
	FUZZ_CHECK(inside && v->iov_len > 0);
}

static uint64_t sum(const struct iovec *v, unsigned n)
{
	uint64_t bytes = 0;

	for (unsigned i = 0; i < n; i++) {
		check_segment(&v[i]);
		bytes += v[i].iov_len;
	}
	return bytes;
}

static void complete(unsigned q, unsigned which, uint32_t written)
{
	if (!held[q].count)
		return;
	which %= held[q].count;
	uint16_t head = held[q].head[which];
	held[q].head[which] = held[q].head[--held[q].count];
	virtq_push(&dev.queue[q], head, written);
	virtio_signal(&dev, &dev.queue[q]);
}

static void dev_notify(struct virtio_device *d, unsigned q)
{
	static struct virtq_chain c;

	FUZZ_CHECK(d == &dev && virtio_running(d) && q < QUEUES && d->queue[q].ready);
	/* More turns than entries are a driver's that is never done. */
	for (unsigned turn = 0; turn < 2 * QUEUE_MAX; turn++) {
		int rc = virtq_pop(&d->queue[q], &c);

		if (rc < 0) {
			virtio_fault(d, "chain (%d)", rc);
			return;
		}
		if (!rc)
			return;
		FUZZ_CHECK(c.head < d->queue[q].size && c.out + c.in <= d->queue[q].size);
		FUZZ_CHECK(sum(c.iov, c.out) == c.out_bytes);
		FUZZ_CHECK(sum(c.iov + c.out, c.in) == c.in_bytes);
		for (unsigned i = 0; i < held[q].count; i++)
			FUZZ_CHECK(held[q].head[i] != c.head);
		if (hold && turn == 5) {
			virtq_unpop(&d->queue[q]);
			return;
		}
		/* Into the guest's memory, rings included. */
		for (unsigned i = c.out; i < c.out + c.in; i++)
			memset(c.iov[i].iov_base, 0x5a, MIN(c.iov[i].iov_len, 8));
		FUZZ_CHECK(held[q].count < QUEUE_MAX);
		held[q].head[held[q].count++] = c.head;
		FUZZ_CHECK(d->queue[q].in_flight == held[q].count);
		if (!hold)
			complete(q, 0, (uint32_t)c.in_bytes);
	}
}

static void finish_quiesce(void)
{
	quiesce_waits = false;
	for (unsigned q = 0; q < QUEUES; q++)
		while (held[q].count)
			complete(q, 0, 0);
	virtio_quiesced(&dev);
}

static void dev_quiesce(struct virtio_device *d)
{
	(void)d;
	FUZZ_CHECK(!quiesce_waits);
	quiesce_waits = true;
	if (!slow)
		finish_quiesce();
}

static void dev_activate(struct virtio_device *d)
{
	FUZZ_CHECK(virtio_running(d));
}

static void dev_reset(struct virtio_device *d)
{
	for (unsigned q = 0; q < QUEUES; q++)
		FUZZ_CHECK(d->queue[q].in_flight == 0);
}

static void config_read(struct virtio_device *d, uint64_t offset, void *data, unsigned len)
{
	(void)d;
	memset(data, (int)offset, len);
}

static void config_write(struct virtio_device *d, uint64_t offset, const void *data, unsigned len)
{
	(void)d;
	(void)offset;
	FUZZ_CHECK(data && len);
}

static const struct virtio_ops ops = {
	.name = "fuzz",
	.device_id = 1,
	.features = 3,
	.queues = QUEUES,
	.queue_size = QUEUE_MAX,
	.config_read = config_read,
	.config_write = config_write,
	.activate = dev_activate,
	.notify = dev_notify,
	.quiesce = dev_quiesce,
	.reset = dev_reset,
};

static void wr(uint64_t offset, uint32_t v)
{
	mmio.bus.write(&mmio.bus, offset, &v, 4);
}

static void bring_up(uint8_t how)
{
	wr(0x70, 0);
	wr(0x70, 3);
	wr(0x24, 1);
	wr(0x20, 1);
	wr(0x24, 0);
	wr(0x20, (how & 1 ? 1u << 29 : 0) | (how & 2 ? 1u << 28 : 0));
	wr(0x70, 11);
	for (unsigned i = 0; i < QUEUES; i++) {
		wr(0x30, i);
		wr(0x38, QUEUE_MAX >> (how >> 2 & 3));
		wr(0x80, DESC(i));
		wr(0x84, 0);
		wr(0x90, AVAIL(i));
		wr(0x94, 0);
		wr(0xa0, USED(i));
		wr(0xa4, 0);
		wr(0x44, 1);
	}
	if (!(how & 0x80))
		wr(0x70, 15);
}

static void poke(uint64_t gpa, const void *data, size_t len)
{
	if (guest_write(&mem, gpa, data, len) < 0)
		return; /* as a store to nowhere */
}

static void quiesced(struct virtio_device *d, void *arg)
{
	(void)d;
	(void)arg;
	done_waits--;
}

static void step(struct fuzz_input *in, uint8_t op)
{
	uint8_t q = op >> 4 & 3, bytes[16];
	uint16_t at, idx;

	switch (op & 15) {
	case 0:
		bring_up(fuzz_u8(in));
		break;
	case 1:
	case 2: /* a register; the odd ones too */
		at = (uint16_t)(op & 0x80 ? fuzz_u16(in) % 0x1000 : 4u * fuzz_u8(in) % 0x200);
		wr(at, op & 0x40 ? fuzz_u8(in) : fuzz_u32(in));
		break;
	case 3:
		at = fuzz_u16(in) % 0xff0;
		mmio.bus.read(&mmio.bus, at, bytes, 1u << q);
		break;
	case 4:
		at = fuzz_u16(in) % 0xff0;
		for (unsigned i = 0; i < 8; i++)
			bytes[i] = fuzz_u8(in);
		mmio.bus.write(&mmio.bus, at, bytes, 1u << q);
		break;
	case 5: /* any bytes anywhere */
		at = fuzz_u16(in);
		for (unsigned i = 0; i < 8; i++)
			bytes[i] = fuzz_u8(in);
		poke(op & 0x80 ? HIGH_GPA + at : at, bytes, 8);
		break;
	case 6:
	case 7: { /* a descriptor of queue q, or of an indirect table in page 8 + q */
		uint64_t table = op & 0x80 ? 0x8000u + 0x1000u * q : DESC(q);
		uint8_t i = fuzz_u8(in), kind = fuzz_u8(in);
		uint64_t addr = kind & 8    ? fuzz_take(in, 8)
				: kind & 16 ? 0x8000u + 0x1000u * q
					    : fuzz_u16(in) * (kind & 32 ? 4u : 1u);
		uint32_t len = kind & 64 ? fuzz_u32(in) : fuzz_u8(in) * (kind & 128 ? 16u : 1u);
		uint16_t tail[2] = {kind & 7, fuzz_u8(in)};

		poke(table + 16u * i, &addr, 8);
		poke(table + 16u * i + 8, &len, 4);
		poke(table + 16u * i + 12, tail, 4);
		break;
	}
	case 8:
	case 9: /* offers a head as a driver would */
		if (q >= QUEUES || guest_read(&mem, AVAIL(q) + 2, &idx, 2) < 0)
			break;
		at = fuzz_u8(in);
		poke(AVAIL(q) + 4 + 2u * (idx % QUEUE_MAX), &at, 2);
		if (dev.queue[q].size)
			poke(AVAIL(q) + 4 + 2u * (idx % dev.queue[q].size), &at, 2);
		idx++;
		poke(AVAIL(q) + 2, &idx, 2);
		if (!(op & 0x80) && q < QUEUES)
			mmio.queue[q].notify.fire(&mmio.queue[q].notify, 1);
		break;
	case 10:
		if (q < QUEUES)
			mmio.queue[q].notify.fire(&mmio.queue[q].notify, op);
		break;
	case 11:
		if (q < QUEUES)
			complete(q, fuzz_u8(in), fuzz_u32(in));
		break;
	case 12:
		hold = op & 0x10;
		slow = op & 0x20;
		break;
	case 13:
		if (quiesce_waits)
			finish_quiesce();
		break;
	case 14:
		if (!dev.stopped) {
			done_waits++;
			virtio_quiesce(&dev, quiesced, NULL);
		} else if (!done_waits) {
			virtio_resume(&dev);
		}
		break;
	default:
		virtio_config_changed(&dev);
		break;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct guest_layout layout = {
		.range = {{.gpa = 0, .size = LOW_SIZE}, {.gpa = HIGH_GPA, .size = HIGH_SIZE}},
		.count = 2,
	};
	struct fuzz_input in = {data, size};

	if (!mem.count)
		FUZZ_CHECK(guest_memory_init(&mem, &layout, NULL) == 0);
	for (unsigned i = 0; i < mem.count; i++)
		memset(mem.region[i].host, 0, mem.region[i].range.size);
	memset(held, 0, sizeof(held));
	hold = slow = quiesce_waits = false;
	done_waits = 0;
	virtio_init(&dev, &ops, &mem, -1);
	FUZZ_CHECK(virtio_mmio_init(&mmio, &dev, NULL, NULL) == 0);

	while (in.left)
		step(&in, fuzz_u8(&in));

	/* Whatever it did, a reset brings it back. */
	slow = false;
	if (quiesce_waits)
		finish_quiesce();
	wr(0x70, 0);
	FUZZ_CHECK(dev.status == 0 && done_waits == 0);
	if (dev.stopped)
		virtio_resume(&dev);
	for (unsigned q = 0; q < QUEUES; q++)
		FUZZ_CHECK(!dev.queue[q].ready && !dev.queue[q].in_flight);
	virtio_mmio_done(&mmio);
	return 0;
}
