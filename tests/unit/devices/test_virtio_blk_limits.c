/* Limits of operations and bytes, measured against the clock; freeze and reset while one holds. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/util.h"
#include "block_faults.h"
#include "disk_guest.h"

#define DEPTH	   32
#define MEASURE_NS 10000000000ull
#define SHARE	   0.02 /* of what may come back in that time: how far off it may be */

/* A disk that is asked for more than its limit allows. What one request counts is its unit. */
struct limited {
	struct virtio_blk_config config;
	uint32_t bytes;
	uint64_t rate, unit;
};

static const struct limited cases[] = {
	{{.iops = 2000, .queues = 1}, 512, 2000, 1},
	{{.iops = 500, .queues = 4}, 4096, 500, 1},
	{{.bps = MIB(8), .queues = 2}, 4096, MIB(8), 4096},
	/* Each larger than the burst. */
	{{.bps = MIB(1), .queues = 1}, KIB(128), MIB(1), KIB(128)},
};

struct measured {
	uint64_t back, took_ns, throttled, faults;
};

/* Keeps DEPTH requests in the ring for a time. */
static void measure(const struct limited *c, struct measured *m)
{
	struct vseg data = {VDRIVER_HIGH_GPA, c->bytes, VSEG_IN};
	struct disk_guest g;
	uint64_t begin;

	disk_guest_init(&g, &c->config);
	disk_guest_boot(&g, DISK_FEATURES);
	begin = now_ns();
	for (unsigned i = 0; i < DEPTH; i++)
		disk_guest_add(&g, i % c->config.queues, VIRTIO_BLK_T_IN, i, 1, &data);
	for (unsigned q = 0; q < c->config.queues; q++)
		virtio_notify(g.dev, q);
	do {
		loop_turn(g.loop, 10000000);
		for (unsigned q = 0; q < c->config.queues; q++) {
			uint32_t head;

			/* The same chain once more. */
			while (vring_used(&g.drv.ring[q], &head, NULL)) {
				g.drv.ring[q].taken[head] = true;
				vring_offer(&g.drv.ring[q], (uint16_t)head);
				m->back++;
			}
			virtio_notify(g.dev, q);
		}
		m->took_ns = now_ns() - begin;
	} while (m->took_ns < MEASURE_NS);
	m->throttled = virtio_blk_stats(g.blk).throttled;
	m->faults = g.dev->faults;
	disk_guest_done(&g);
}

/* Each in a process of its own, at the same time: they mostly sleep. */
static void test_rates(void **state)
{
	struct measured *m = mmap(NULL, sizeof(*m) * ARRAY_SIZE(cases), PROT_READ | PROT_WRITE,
				  MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	pid_t child[ARRAY_SIZE(cases)];

	(void)state;
	assert_true(m != MAP_FAILED);
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		child[i] = fork();
		assert_true(child[i] >= 0);
		if (!child[i]) {
			measure(&cases[i], &m[i]);
			_exit(0);
		}
	}
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		int status;

		assert_int_equal(waitpid(child[i], &status, 0), child[i]);
		assert_int_equal(status, 0);
	}
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		/* 100 ms' worth at once; one that is larger is let through whole, as is the last,
		 * which may also be just due. */
		double may = (double)cases[i].rate * ((double)m[i].took_ns / 1e9 + 0.1);
		double back = (double)(m[i].back * cases[i].unit);

		print_message("%llu a second: %.4f of what it allows, burst included\n",
			      (unsigned long long)cases[i].rate, back / may);
		assert_true(back <= may * (1 + SHARE));
		assert_true(back + (double)cases[i].unit >= may * (1 - SHARE));
		assert_true(m[i].throttled > 0);
		assert_int_equal(m[i].faults, 0);
	}
	munmap(m, sizeof(*m) * ARRAY_SIZE(cases));
}

/* A limit is shared: who keeps one queue full leaves the other its turns. */
static void test_share(void **state)
{
	struct vseg data = {VDRIVER_HIGH_GPA, 512, VSEG_IN};
	uint64_t back[2] = {0}, end_ns;
	struct disk_guest g;

	(void)state;
	disk_guest_init(&g, &(struct virtio_blk_config){.iops = 500, .queues = 2});
	disk_guest_boot(&g, DISK_FEATURES);
	for (unsigned i = 0; i < 17; i++)
		disk_guest_add(&g, i == 16, VIRTIO_BLK_T_IN, i, 1, &data);
	end_ns = now_ns() + 2000000000;
	do {
		for (unsigned q = 0; q < 2; q++)
			virtio_notify(g.dev, q);
		loop_turn(g.loop, 10000000);
		for (unsigned q = 0; q < 2; q++) {
			uint32_t head;

			while (vring_used(&g.drv.ring[q], &head, NULL)) {
				g.drv.ring[q].taken[head] = true;
				vring_offer(&g.drv.ring[q], (uint16_t)head);
				back[q]++;
			}
		}
	} while (now_ns() < end_ns);
	print_message("%llu and %llu\n", (unsigned long long)back[0], (unsigned long long)back[1]);
	/* Half of it where the host wakes in time; late, the full queue gets more at a turn. */
	assert_true(back[1] * 10 >= back[0]);
	disk_guest_done(&g);
}

/* Zeros that are written are bytes like others; those that cost nothing are not. */
static void test_zeroes(void **state)
{
	const struct {
		uint64_t sector;
		uint32_t sectors, flags;
	} range[2] = {{0, 128, 1}, {1024, 128, 1}};
	struct disk_guest g;

	(void)state;
	disk_guest_init(&g, &(struct virtio_blk_config){.bps = MIB(1)});
	disk_guest_boot(&g, DISK_FEATURES);
	for (unsigned written = 0; written < 2; written++) {
		struct vseg data = {vdriver_bytes(&g.drv, range, sizeof(range)), sizeof(range),
				    VSEG_OUT};
		uint64_t begin_ns = now_ns();

		for (unsigned i = 0; i < 4; i++)
			assert_int_equal(disk_guest_do(&g, VIRTIO_BLK_T_WRITE_ZEROES, 0, 1, &data,
						       NULL),
					 VIRTIO_BLK_S_OK);
		/* Four times 128 KiB, less the burst and the last one. */
		if (written)
			assert_true(now_ns() - begin_ns > 250000000);
		assert_int_equal(!virtio_blk_stats(g.blk).throttled, !written);
		if (written)
			break;
		/* From here on the file system can do neither. */
		block_faults_set(BLOCK_FAULT_RESULT, -EOPNOTSUPP, 0, 2);
		disk_guest_add(&g, 0, VIRTIO_BLK_T_WRITE_ZEROES, 0, 1, &data);
		virtio_notify(g.dev, 0);
		for (unsigned i = 0; i < 500 && !vring_used(&g.drv.ring[0], NULL, NULL); i++)
			block_faults_turn(g.loop, 1000000);
		block_faults_set(BLOCK_FAULT_NONE, 0, 0, 0);
	}
	disk_guest_done(&g);
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
	uint64_t begin_ns = now_ns(), ran_ms;

	(void)state;
	disk_guest_init(&g, &(struct virtio_blk_config){.iops = 20, .queues = 1});
	disk_guest_boot(&g, DISK_FEATURES);
	for (unsigned i = 0; i < 6; i++)
		disk_guest_add(&g, 0, VIRTIO_BLK_T_IN, i, 1, &data);
	virtio_notify(g.dev, 0);
	disk_guest_settle(&g, 20);
	virtio_quiesce(g.dev, quiet, &done);
	for (unsigned i = 0; i < 100 && !done; i++)
		loop_turn(g.loop, 20000000);
	assert_true(done);
	ran_ms = (now_ns() - begin_ns) / 1000000;
	while (vring_used(&g.drv.ring[0], NULL, NULL))
		back++;
	/* The burst, and one each 50 ms: how many that is, is the host's. */
	print_message("%u in %llu ms\n", back, (unsigned long long)ran_ms);
	assert_in_range(back, 2, 3 + ran_ms / 50);
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
		cmocka_unit_test(test_rates),
		cmocka_unit_test(test_share),
		cmocka_unit_test(test_zeroes),
		cmocka_unit_test(test_freeze_and_reset),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
