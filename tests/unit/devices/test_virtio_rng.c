/* The entropy device: fills what it is given, bounded per turn, over freeze and reset. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "devices/virtio_rng.h"
#include "vdriver.h"

struct bench {
	struct loop *loop;
	struct vdriver drv;
	struct virtio_rng *rng;
	struct virtio_device *dev;
};

static int set_up(void **state)
{
	struct bench *b = calloc(1, sizeof(*b));

	vdriver_init(&b->drv);
	assert_int_equal(loop_new(&b->loop, NULL), 0);
	assert_int_equal(virtio_rng_new(b->loop, &b->drv.mem, -1, &b->rng, NULL), 0);
	b->dev = virtio_rng_device(b->rng);
	*state = b;
	return 0;
}

static int tear_down(void **state)
{
	struct bench *b = *state;

	virtio_rng_free(b->rng);
	loop_free(b->loop);
	vdriver_done(&b->drv);
	free(b);
	return 0;
}

static bool all_zero(struct bench *b, uint64_t gpa, size_t len)
{
	const uint8_t *p = vdriver_ptr(&b->drv, gpa, len);

	for (size_t i = 0; i < len; i++) {
		if (p[i])
			return false;
	}
	return true;
}

static void test_fill(void **state)
{
	struct bench *b = *state;
	struct vring *r = &b->drv.ring[0];
	uint32_t written, head;

	vdriver_bring_up(&b->drv, b->dev, VDRIVER_FEATURES);
	uint64_t gpa = vdriver_alloc(&b->drv, 4096, 16), other = vdriver_alloc(&b->drv, 4096, 16);
	/* Readable segments are left alone; a byte past the end too. */
	uint16_t first = vring_add(r, 3,
				   (struct vseg[]){{other, 64, VSEG_OUT},
						   {gpa, 100, VSEG_IN},
						   {gpa + 200, 400, VSEG_IN}});
	virtio_notify(b->dev, 0);
	assert_true(vring_used(r, &head, &written));
	assert_int_equal(head, first);
	assert_int_equal(written, 500);
	assert_false(all_zero(b, gpa, 100) || all_zero(b, gpa + 200, 200) ||
		     all_zero(b, gpa + 400, 200));
	assert_true(all_zero(b, gpa + 100, 100) && all_zero(b, gpa + 600, 1000) &&
		    all_zero(b, other, 64));
	assert_true(b->dev->interrupt_status & VIRTIO_INTERRUPT_USED);
}

/* 64 KiB a turn, whatever is asked for; the rest comes by itself. */
static void test_bounded(void **state)
{
	struct bench *b = *state;
	struct vring *r = &b->drv.ring[0];
	uint64_t total = 0;
	uint32_t written;
	unsigned served = 0;

	vdriver_bring_up(&b->drv, b->dev, VDRIVER_FEATURES);
	for (unsigned i = 0; i < 8; i++)
		vring_add(r, 1,
			  (struct vseg[]){{VDRIVER_HIGH_GPA + i * KIB(256), KIB(40), VSEG_IN}});
	virtio_notify(b->dev, 0);
	while (vring_used(r, NULL, &written)) {
		total += written;
		served++;
	}
	assert_int_equal(total, 65536);
	assert_int_equal(served, 2);
	for (unsigned i = 0; i < 200 && served < 8; i++) {
		loop_turn(b->loop, 1000000);
		total = 0;
		while (vring_used(r, NULL, &written)) {
			assert_in_range(written, 1, KIB(40));
			total += written;
			served++;
		}
		assert_in_range(total, 0, 65536);
	}
	assert_int_equal(served, 8);
}

static void quiet(struct virtio_device *dev UNUSED, void *arg)
{
	*(bool *)arg = true;
}

static void test_freeze_and_reset(void **state)
{
	struct bench *b = *state;
	struct vring *r = &b->drv.ring[0];
	bool done = false;

	vdriver_bring_up(&b->drv, b->dev, VDRIVER_FEATURES);
	for (unsigned i = 0; i < 4; i++)
		vring_add(r, 1, (struct vseg[]){{VDRIVER_HIGH_GPA, KIB(64), VSEG_IN}});
	virtio_notify(b->dev, 0);
	assert_true(vring_used(r, NULL, NULL));
	virtio_quiesce(b->dev, quiet, &done);
	assert_true(done);
	for (unsigned i = 0; i < 20; i++)
		loop_turn(b->loop, 0);
	assert_false(vring_used(r, NULL, NULL));
	virtio_resume(b->dev);
	assert_true(vring_used(r, NULL, NULL));
	/* With work left over. */
	vdriver_bring_up(&b->drv, b->dev, VDRIVER_FEATURES);
	for (unsigned i = 0; i < 20; i++)
		loop_turn(b->loop, 0);
	assert_false(vring_used(r, NULL, NULL));
	assert_int_equal(b->dev->faults, 0);
}

static void test_no_room(void **state)
{
	struct bench *b = *state;

	vdriver_bring_up(&b->drv, b->dev, VDRIVER_FEATURES);
	vring_add(&b->drv.ring[0], 1, (struct vseg[]){{VDRIVER_HIGH_GPA, 64, VSEG_OUT}});
	virtio_notify(b->dev, 0);
	assert_true(b->dev->status & VIRTIO_STATUS_NEEDS_RESET);
	assert_int_equal(b->dev->faults, 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_fill, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_bounded, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_freeze_and_reset, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_no_room, set_up, tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
