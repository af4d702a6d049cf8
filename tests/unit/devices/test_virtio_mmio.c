/* Every register of the MMIO transport at every width, bring-up through registers as Linux's
 * virtio_mmio does it, and notifications by event. The loop's events are counted fakes. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "devices/virtio_mmio.h"
#include "vdriver.h"

static unsigned events_made, events_done, events_allowed = VIRTIO_MAX_QUEUES;

int loop_event_init(struct loop *loop, struct loop_event *e, struct error *err)
{
	(void)loop;
	(void)err;
	assert_non_null(e->fire);
	if (events_made == events_allowed)
		return -EMFILE;
	e->fd = (int)(1000 + events_made++);
	return 0;
}

void loop_event_done(struct loop_event *e)
{
	assert_true(e->fd >= 1000);
	e->fd = -1;
	events_done++;
}

enum { ACK = 1, DRV = 2, OK = 4, FOK = 8, NEEDS = 64 };

static struct counter {
	struct virtio_device dev;
	struct virtio_mmio t;
	unsigned activated, notified[3];
	bool slow;
	uint8_t config[16];
	unsigned config_writes;
} c;
static struct vdriver drv;

static void activate(struct virtio_device *dev)
{
	(void)dev;
	c.activated++;
}

static void notify(struct virtio_device *dev, unsigned q)
{
	(void)dev;
	c.notified[q]++;
}

static void quiesce(struct virtio_device *dev)
{
	if (!c.slow)
		virtio_quiesced(dev);
}

static void reset(struct virtio_device *dev)
{
	(void)dev;
}

static void config_read(struct virtio_device *dev, uint64_t offset, void *data, unsigned len)
{
	(void)dev;
	for (unsigned i = 0; i < len; i++)
		((uint8_t *)data)[i] = offset + i < sizeof(c.config) ? c.config[offset + i] : 0;
}

static void config_write(struct virtio_device *dev, uint64_t offset, const void *data, unsigned len)
{
	(void)dev;
	c.config_writes++;
	for (unsigned i = 0; i < len && offset + i < sizeof(c.config); i++)
		c.config[offset + i] = ((const uint8_t *)data)[i];
}

static struct virtio_ops ops = {
	.name = "counter",
	.device_id = 42,
	.features = 1u << 5 | 1ull << 40,
	.queues = 2,
	.queue_size = 64,
	.config_read = config_read,
	.config_write = config_write,
	.activate = activate,
	.notify = notify,
	.quiesce = quiesce,
	.reset = reset,
};

static uint32_t rd(uint64_t offset)
{
	uint32_t v = 0xeeeeeeee;

	c.t.bus.read(&c.t.bus, offset, &v, 4);
	return v;
}

static void wr(uint64_t offset, uint32_t v)
{
	c.t.bus.write(&c.t.bus, offset, &v, 4);
}

static void fresh(void)
{
	vdriver_done(&drv);
	vdriver_init(&drv);
	memset(&c, 0, sizeof(c));
	events_made = events_done = 0;
	virtio_init(&c.dev, &ops, &drv.mem, -1);
	assert_int_equal(virtio_mmio_init(&c.t, &c.dev, NULL, NULL), 0);
}

static void set_queue(unsigned index, const struct vring *r)
{
	wr(0x030, index);
	wr(0x038, r->size);
	wr(0x080, (uint32_t)r->desc_gpa);
	wr(0x084, (uint32_t)(r->desc_gpa >> 32));
	wr(0x090, (uint32_t)r->avail_gpa);
	wr(0x094, (uint32_t)(r->avail_gpa >> 32));
	wr(0x0a0, (uint32_t)r->used_gpa);
	wr(0x0a4, (uint32_t)(r->used_gpa >> 32));
}

/* vm_setup_vq() and what comes before and after it in Linux's virtio_mmio. */
static void linux_brings_it_up(void)
{
	wr(0x070, 0);
	assert_int_equal(rd(0x070), 0);
	wr(0x070, ACK);
	wr(0x070, rd(0x070) | DRV);
	wr(0x014, 1);
	uint64_t offered = (uint64_t)rd(0x010) << 32;
	wr(0x014, 0);
	offered |= rd(0x010);
	assert_true(offered == (VDRIVER_FEATURES | 1u << 5 | 1ull << 40));
	wr(0x024, 1);
	wr(0x020, (uint32_t)(offered >> 32));
	wr(0x024, 0);
	wr(0x020, (uint32_t)offered);
	wr(0x070, rd(0x070) | FOK);
	assert_true(rd(0x070) & FOK);
	assert_true(c.dev.features == offered);
	for (unsigned i = 0; i < 2; i++) {
		struct virtq scratch = {.mem = &drv.mem};

		wr(0x030, i);
		assert_int_equal(rd(0x044), 0);
		assert_int_equal(rd(0x034), 64);
		vring_init(&drv.ring[i], &drv, &scratch, 64);
		drv.ring[i].q = &c.dev.queue[i];
		set_queue(i, &drv.ring[i]);
		wr(0x044, 1);
		assert_int_equal(rd(0x044), 1);
	}
	wr(0x070, rd(0x070) | OK);
	assert_int_equal(rd(0x070), ACK | DRV | FOK | OK);
	assert_int_equal(c.activated, 1);
}

static void identity(void **state)
{
	(void)state;
	fresh();
	assert_int_equal(rd(0x000), 0x74726976);
	assert_int_equal(rd(0x004), 2);
	assert_int_equal(rd(0x008), 42);
	assert_memory_equal(&(uint32_t){rd(0x00c)}, "stas", 4);
	assert_int_equal(rd(0x070), 0);
	assert_int_equal(rd(0x060), 0);
	for (unsigned sel = 0; sel < 3; sel++) {
		wr(0x0ac, sel);
		for (uint64_t reg = 0x0b0; reg <= 0x0bc; reg += 4)
			assert_int_equal(rd(reg), UINT32_MAX);
	}
}

static void features_by_halves(void **state)
{
	(void)state;
	fresh();
	static const uint32_t halves[] = {1u << 5 | 1u << 28 | 1u << 29, 1u << 0 | 1u << 8, 0, 0};
	for (uint32_t sel = 0; sel < 4; sel++) {
		wr(0x014, sel);
		assert_int_equal(rd(0x010), halves[sel]);
	}
	wr(0x014, UINT32_MAX);
	assert_int_equal(rd(0x010), 0);

	/* A wish past bit 63 can't be met; zeros there are no wish. */
	wr(0x024, 1);
	wr(0x020, 1);
	wr(0x024, 2);
	wr(0x020, 0);
	wr(0x070, ACK | DRV);
	wr(0x024, 3);
	wr(0x020, 0x80);
	wr(0x070, ACK | DRV | FOK);
	assert_int_equal(rd(0x070), ACK | DRV);
	wr(0x070, 0);
	wr(0x024, 1);
	wr(0x020, 1);
	wr(0x070, ACK | DRV | FOK);
	assert_int_equal(rd(0x070), ACK | DRV | FOK);
}

static void bring_up_and_serve(void **state)
{
	struct virtq_chain chain;

	(void)state;
	fresh();
	linux_brings_it_up();
	uint64_t buf = vdriver_alloc(&drv, 8, 1);
	vring_add(&drv.ring[1], 1, (struct vseg[]){{buf, 8, VSEG_IN}});
	unsigned before = c.notified[1];
	wr(0x050, 1);
	assert_int_equal(c.notified[1], before + 1);
	c.t.queue[1].notify.fire(&c.t.queue[1].notify, 3);
	assert_int_equal(c.notified[1], before + 2);
	assert_int_equal(virtq_pop(&c.dev.queue[1], &chain), 1);
	virtq_push(&c.dev.queue[1], chain.head, 8);
	virtio_signal(&c.dev, &c.dev.queue[1]);
	assert_int_equal(c.dev.irq.raised, 1);
	assert_int_equal(rd(0x060), 1);
	wr(0x064, 1);
	assert_int_equal(rd(0x060), 0);
	assert_true(vring_used(&drv.ring[1], NULL, NULL));
	virtio_mmio_done(&c.t);
	assert_int_equal(events_done, 2);
}

static void queue_selection_is_bounded(void **state)
{
	static const uint32_t sel[] = {2, 3, 63, 64, 65, 0x10000, 0x80000000, UINT32_MAX};

	(void)state;
	fresh();
	struct virtio_device before = c.dev;
	for (size_t i = 0; i < ARRAY_SIZE(sel); i++) {
		wr(0x030, sel[i]);
		assert_int_equal(rd(0x034), 0);
		assert_int_equal(rd(0x044), 0);
		for (uint64_t reg = 0x038; reg < 0x100; reg += 4) {
			if (reg != 0x070)
				wr(reg, 1);
		}
		assert_int_equal(rd(0x044), 0);
	}
	assert_memory_equal(&c.dev, &before, sizeof(before));
}

static void queue_registers(void **state)
{
	(void)state;
	fresh();
	wr(0x030, 1);
	wr(0x084, 0x11111111);
	wr(0x080, 0x22222222);
	wr(0x090, 0x44444444);
	wr(0x094, 0x33333333);
	wr(0x0a4, 0x55555555);
	wr(0x0a0, 0x66666666);
	assert_true(c.dev.queue[1].desc_gpa == 0x1111111122222222);
	assert_true(c.dev.queue[1].avail_gpa == 0x3333333344444444);
	assert_true(c.dev.queue[1].used_gpa == 0x5555555566666666);
	/* What doesn't fit in 16 bits must not become a good size. */
	wr(0x038, 64);
	assert_int_equal(c.dev.queue[1].size, 64);
	wr(0x038, 0x10040);
	assert_int_equal(c.dev.queue[1].size, 0);
	/* Write-only ones read as 0. */
	for (uint64_t reg = 0x080; reg <= 0x0a4; reg += 4)
		assert_int_equal(rd(reg), 0);
	assert_int_equal(rd(0x038) | rd(0x020) | rd(0x030) | rd(0x050) | rd(0x064), 0);
}

static void a_ready_queue_is_fixed(void **state)
{
	(void)state;
	fresh();
	linux_brings_it_up();
	struct virtq before = c.dev.queue[0];
	wr(0x030, 0);
	static const uint32_t regs[] = {0x038, 0x080, 0x084, 0x090, 0x094, 0x0a0, 0x0a4};
	for (size_t i = 0; i < ARRAY_SIZE(regs); i++)
		wr(regs[i], 0x12345678);
	wr(0x044, 1);
	wr(0x044, 2);
	wr(0x044, 0x100);
	assert_memory_equal(&c.dev.queue[0], &before, sizeof(before));
	/* Taken away, changed, made ready again: from index 0. */
	wr(0x044, 0);
	assert_int_equal(rd(0x044), 0);
	unsigned notified = c.notified[0];
	wr(0x050, 0);
	assert_int_equal(c.notified[0], notified);
	wr(0x038, 32);
	wr(0x044, 1);
	assert_int_equal(rd(0x044), 1);
	assert_int_equal(c.dev.queue[0].size, 32);
	assert_int_equal(c.notified[0], notified + 1);
}

static void bad_queues_are_a_fault(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 7; i++) {
		struct virtq scratch = {.mem = &drv.mem};
		struct vring r;

		fresh();
		wr(0x024, 1);
		wr(0x020, 1);
		wr(0x070, ACK | DRV | FOK);
		vring_init(&r, &drv, &scratch, 64);
		set_queue(0, &r);
		switch (i) {
		case 0:
			wr(0x038, 0);
			break;
		case 1:
			wr(0x038, 63);
			break;
		case 2:
			wr(0x038, 128); /* more than QueueNumMax */
			break;
		case 3:
			wr(0x080, (uint32_t)r.desc_gpa + 8);
			break;
		case 4:
			wr(0x090, (uint32_t)VDRIVER_LOW_SIZE - 2);
			break;
		case 5:
			wr(0x0a4, 0xffffffff);
			break;
		default:
			wr(0x0a0, (uint32_t)r.used_gpa + 2);
			break;
		}
		wr(0x044, 1);
		assert_int_equal(rd(0x044), 0);
		assert_int_equal(rd(0x070), ACK | DRV | FOK | NEEDS);
		assert_int_equal(c.dev.faults, 1);
		wr(0x070, 0);
		linux_brings_it_up();
	}
}

static void status_waits_for_quiet(void **state)
{
	(void)state;
	fresh();
	linux_brings_it_up();
	c.slow = true;
	wr(0x070, 0);
	assert_int_equal(rd(0x070), ACK | DRV | FOK | OK);
	wr(0x030, 0);
	wr(0x044, 0); /* not taken: the reset is under way */
	assert_int_equal(rd(0x044), 1);
	unsigned notified = c.notified[0];
	wr(0x050, 0);
	c.t.queue[0].notify.fire(&c.t.queue[0].notify, 1);
	assert_int_equal(c.notified[0], notified);
	virtio_quiesced(&c.dev);
	assert_int_equal(rd(0x070), 0);
	assert_int_equal(rd(0x044), 0);
	c.slow = false;
	c.activated = 0;
	linux_brings_it_up();
	/* A wide value whose low byte is 0 is no reset. */
	wr(0x070, 0x100);
	assert_int_equal(rd(0x070), ACK | DRV | FOK | OK);
}

static void reset_forgets_the_driver(void **state)
{
	(void)state;
	fresh();
	linux_brings_it_up();
	wr(0x014, 1);
	wr(0x024, 1);
	wr(0x030, 1);
	wr(0x070, 0);
	assert_int_equal(rd(0x010), 1u << 5 | 1u << 28 | 1u << 29);
	wr(0x070, ACK | DRV | FOK);
	assert_int_equal(rd(0x070), ACK | DRV); /* no features were written since */
}

static void registers_are_four_bytes(void **state)
{
	(void)state;
	static const unsigned widths[] = {1, 2, 8};

	fresh();
	linux_brings_it_up();
	struct virtio_device before = c.dev;
	for (uint64_t offset = 0; offset < 0x100; offset++) {
		for (size_t i = 0; i < ARRAY_SIZE(widths); i++) {
			uint8_t data[8];

			memset(data, 0xee, sizeof(data));
			c.t.bus.read(&c.t.bus, offset, data, widths[i]);
			for (unsigned b = 0; b < 8; b++)
				assert_int_equal(data[b], b < widths[i] ? 0 : 0xee);
			memset(data, 0, sizeof(data));
			c.t.bus.write(&c.t.bus, offset, data, widths[i]);
		}
		/* Four bytes between two registers name none. */
		if (offset % 4) {
			assert_int_equal(rd(offset), 0);
			wr(offset, 0);
		}
	}
	assert_memory_equal(&c.dev, &before, sizeof(before));
}

static void configuration(void **state)
{
	(void)state;
	fresh();
	for (unsigned i = 0; i < sizeof(c.config); i++)
		c.config[i] = (uint8_t)(i + 1);
	for (unsigned len = 1; len <= 8; len *= 2) {
		for (uint64_t offset = 0; offset < 24; offset++) {
			uint8_t data[8];

			memset(data, 0xee, sizeof(data));
			c.t.bus.read(&c.t.bus, 0x100 + offset, data, len);
			for (unsigned b = 0; b < len; b++)
				assert_int_equal(data[b], offset + b < 16 ? offset + b + 1 : 0);
		}
	}
	c.t.bus.write(&c.t.bus, 0x104, "\xaa\xbb", 2);
	assert_int_equal(c.config[4], 0xaa);
	assert_int_equal(c.config[5], 0xbb);
	assert_int_equal(c.config_writes, 1);

	assert_int_equal(rd(0x0fc), 0);
	virtio_config_changed(&c.dev);
	assert_int_equal(rd(0x0fc), 1);

	/* A device without any. */
	ops.config_read = NULL;
	ops.config_write = NULL;
	assert_int_equal(rd(0x100), 0);
	wr(0x100, 1);
	ops.config_read = config_read;
	ops.config_write = config_write;
}

static void events_are_one_per_queue(void **state)
{
	(void)state;
	fresh();
	assert_int_equal(events_made, 2);
	virtio_mmio_done(&c.t);
	virtio_mmio_done(&c.t);
	assert_int_equal(events_done, 2);

	virtio_init(&c.dev, &ops, &drv.mem, -1);
	c.dev.queue_count = 7;
	events_made = events_done = 0;
	assert_int_equal(virtio_mmio_init(&c.t, &c.dev, NULL, NULL), 0);
	assert_int_equal(events_made, 7);
	virtio_mmio_done(&c.t);
	assert_int_equal(events_done, 7);

	/* The fifth can't be had: the four are given back. */
	events_made = events_done = 0;
	events_allowed = 4;
	assert_int_equal(virtio_mmio_init(&c.t, &c.dev, NULL, NULL), -EMFILE);
	assert_int_equal(events_done, 4);
	events_allowed = VIRTIO_MAX_QUEUES;

	struct virtio_mmio zeroed = {0};
	virtio_mmio_done(&zeroed);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(identity),
		cmocka_unit_test(features_by_halves),
		cmocka_unit_test(bring_up_and_serve),
		cmocka_unit_test(queue_selection_is_bounded),
		cmocka_unit_test(queue_registers),
		cmocka_unit_test(a_ready_queue_is_fixed),
		cmocka_unit_test(bad_queues_are_a_fault),
		cmocka_unit_test(status_waits_for_quiet),
		cmocka_unit_test(reset_forgets_the_driver),
		cmocka_unit_test(registers_are_four_bytes),
		cmocka_unit_test(configuration),
		cmocka_unit_test(events_are_one_per_queue),
	};
	int failed = cmocka_run_group_tests(tests, NULL, NULL);

	vdriver_done(&drv);
	return failed;
}
