/* Limits of operations and bytes, measured against the clock; freeze and reset while one holds. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/util.h"
#include "block_faults.h"
#include "disk_guest.h"

#define DEPTH	   32
#define MEASURE_NS 1500000000ull

/* Keeps DEPTH requests of bytes each in the ring for a time; checks what came back against the
 * rate, its burst included. unit: what one request counts. */
static void measure(const struct virtio_blk_config *config, uint32_t bytes, uint64_t rate,
		    uint64_t unit)
{
	struct vseg data = {VDRIVER_HIGH_GPA, bytes, VSEG_IN};
	struct disk_guest g;
	uint64_t begin, took, back = 0;
	double most, least;

	disk_guest_init(&g, config);
	disk_guest_boot(&g, DISK_FEATURES);
	begin = now_ns();
	for (unsigned i = 0; i < DEPTH; i++)
		disk_guest_add(&g, i % config->queues, VIRTIO_BLK_T_IN, i, 1, &data);
	for (unsigned q = 0; q < config->queues; q++)
		virtio_notify(g.dev, q);
	do {
		loop_turn(g.loop, 10000000);
		for (unsigned q = 0; q < config->queues; q++) {
			uint32_t head;

			/* The same chain once more. */
			while (vring_used(&g.drv.ring[q], &head, NULL)) {
				g.drv.ring[q].taken[head] = true;
				vring_offer(&g.drv.ring[q], (uint16_t)head);
				back++;
			}
			virtio_notify(g.dev, q);
		}
		took = now_ns() - begin;
	} while (took < MEASURE_NS);
	most = (double)rate * ((double)took / 1e9 + 0.1) + (double)(DEPTH * unit);
	/* A shared machine may sleep longer than it was asked to, but not make time up. */
	least = (double)rate * (double)took / 1e9 * 0.9;
	print_message("%llu a second: %.3f of it, %.3f with the burst\n", (unsigned long long)rate,
		      (double)(back * unit) / ((double)rate * (double)took / 1e9),
		      (double)(back * unit) / ((double)rate * ((double)took / 1e9 + 0.1)));
	assert_true((double)(back * unit) <= most);
	assert_true((double)(back * unit) >= least);
	assert_true(virtio_blk_stats(g.blk).throttled > 0);
	assert_int_equal(g.dev->faults, 0);
	disk_guest_done(&g);
}

static void test_operations(void **state)
{
	(void)state;
	measure(&(struct virtio_blk_config){.iops = 2000, .queues = 1}, 512, 2000, 1);
	measure(&(struct virtio_blk_config){.iops = 500, .queues = 4}, 4096, 500, 1);
}

static void test_bytes(void **state)
{
	(void)state;
	measure(&(struct virtio_blk_config){.bps = MIB(8), .queues = 2}, 4096, MIB(8), 4096);
	/* Each larger than the burst. */
	measure(&(struct virtio_blk_config){.bps = MIB(1), .queues = 1}, KIB(128), MIB(1),
		KIB(128));
}

/* What a limit holds back is served after a freeze, and forgotten by a reset. */
static void quiet(struct virtio_device *dev UNUSED, void *arg)
{
	*(bool *)arg = true;
}

static void test_freeze_and_reset(void **state)
{
	struct vseg data = {VDRIVER_HIGH_GPA, 512, VSEG_IN};
	struct disk_guest g;
	bool done = false;
	unsigned back = 0;

	(void)state;
	disk_guest_init(&g, &(struct virtio_blk_config){.iops = 20, .queues = 1});
	disk_guest_boot(&g, DISK_FEATURES);
	for (unsigned i = 0; i < 6; i++)
		disk_guest_add(&g, 0, VIRTIO_BLK_T_IN, i, 1, &data);
	virtio_notify(g.dev, 0);
	disk_guest_settle(&g, 20);
	while (vring_used(&g.drv.ring[0], NULL, NULL))
		back++;
	assert_in_range(back, 2, 3);
	virtio_quiesce(g.dev, quiet, &done);
	assert_true(done);
	disk_guest_settle(&g, 100);
	assert_false(vring_used(&g.drv.ring[0], NULL, NULL));
	virtio_resume(g.dev);
	for (unsigned i = 0; i < 100 && back < 6; i++) {
		loop_turn(g.loop, 20000000);
		while (vring_used(&g.drv.ring[0], NULL, NULL))
			back++;
	}
	assert_int_equal(back, 6);
	for (unsigned i = 0; i < 6; i++)
		disk_guest_add(&g, 0, VIRTIO_BLK_T_IN, i, 1, &data);
	virtio_notify(g.dev, 0);
	disk_guest_boot(&g, DISK_FEATURES);
	disk_guest_settle(&g, 200);
	assert_int_equal(*g.drv.ring[0].used_idx, 0);
	disk_guest_done(&g);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_operations),
		cmocka_unit_test(test_bytes),
		cmocka_unit_test(test_freeze_and_reset),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
