/* The block device in good hands: every request, limits, batches, freeze and reset under load. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/util.h"
#include "block_faults.h"
#include "disk_guest.h"

static int set_up_as(void **state, const struct virtio_blk_config *config, uint64_t features)
{
	struct disk_guest *g = calloc(1, sizeof(*g));

	block_faults_set(BLOCK_FAULT_NONE, 0, 0, 0);
	disk_guest_init(g, config);
	*state = g;
	if (g->blk)
		disk_guest_boot(g, features);
	return 0;
}

static int set_up(void **state)
{
	return set_up_as(state, &(struct virtio_blk_config){.id = "disk-7"}, DISK_FEATURES);
}

static int set_up_plain(void **state)
{
	/* No indirect, no event index, no flush: a driver of the simplest kind. */
	return set_up_as(state, &(struct virtio_blk_config){.queues = 1},
			 1ull << VIRTIO_F_VERSION_1_BIT);
}

static int set_up_read_only(void **state)
{
	return set_up_as(state, &(struct virtio_blk_config){.file.read_only = true},
			 VDRIVER_FEATURES);
}

static int set_up_queues(void **state)
{
	return set_up_as(state, &(struct virtio_blk_config){.queues = 4}, DISK_FEATURES);
}

static int set_up_direct(void **state)
{
	return set_up_as(state, &(struct virtio_blk_config){.file.direct = true}, DISK_FEATURES);
}

static int tear_down(void **state)
{
	disk_guest_done(*state);
	free(*state);
	return 0;
}

static void test_config(void **state)
{
	struct disk_guest *g = *state;
	uint8_t config[80];
	uint64_t capacity;
	uint32_t v;

	memset(config, 0xff, sizeof(config));
	g->dev->ops->config_read(g->dev, 0, config, 70);
	memcpy(&capacity, config, 8);
	assert_int_equal(capacity, DISK_BYTES / 512);
	memcpy(&v, config + 12, 4);
	assert_int_equal(v, 254);
	memcpy(&v, config + 20, 4);
	assert_int_equal(v, 512);
	assert_int_equal(config[34] | config[35] << 8, 1);
	memcpy(&v, config + 40, 4);
	assert_true(v > 0);
	assert_int_equal(config[56], 1);
	/* Zeros past the end, nothing past what was asked for. */
	assert_int_equal(config[66], 0);
	assert_int_equal(config[70], 0xff);
	g->dev->ops->config_read(g->dev, UINT64_MAX, config, 8);
	assert_int_equal(config[0], 0);
	assert_true(virtio_offered(g->dev) & 1u << VIRTIO_BLK_F_DISCARD);
	assert_false(virtio_offered(g->dev) & 1u << VIRTIO_BLK_F_RO);
}

static void read_write(struct disk_guest *g)
{
	uint8_t *image = malloc(KIB(64));
	uint8_t *buf = vdriver_ptr(&g->drv, VDRIVER_HIGH_GPA, KIB(64));
	uint8_t want[KIB(64)];
	uint32_t written;

	disk_image_pattern(want, sizeof(want), 4);
	memcpy(buf, want, sizeof(want));
	assert_int_equal(disk_guest_do(g, VIRTIO_BLK_T_OUT, 3, 3,
				       (struct vseg[]){{VDRIVER_HIGH_GPA, 512, VSEG_OUT},
						       {VDRIVER_HIGH_GPA + 512, 100, VSEG_OUT},
						       {VDRIVER_HIGH_GPA + 612, KIB(64) - 612,
							VSEG_OUT}},
				       &written),
			 VIRTIO_BLK_S_OK);
	assert_int_equal(written, 1);
	disk_image_read(&g->image, 3 * 512, image, KIB(64));
	assert_memory_equal(image, want, KIB(64));
	memset(buf, 0, KIB(64));
	assert_int_equal(disk_guest_do(g, VIRTIO_BLK_T_IN, 3, 1,
				       (struct vseg[]){{VDRIVER_HIGH_GPA, KIB(64), VSEG_IN}},
				       &written),
			 VIRTIO_BLK_S_OK);
	assert_int_equal(written, KIB(64) + 1);
	assert_memory_equal(buf, want, KIB(64));
	assert_int_equal(disk_guest_do(g, VIRTIO_BLK_T_FLUSH, 0, 0, NULL, &written),
			 VIRTIO_BLK_S_OK);
	assert_int_equal(written, 1);
	free(image);
}

static void test_read_write(void **state)
{
	struct disk_guest *g = *state;
	struct virtio_blk_stats s;

	if (!g->blk)
		skip();
	read_write(g);
	s = virtio_blk_stats(g->blk);
	assert_int_equal(s.reads, 1);
	assert_int_equal(s.writes, 1);
	assert_int_equal(s.flushes, 1);
	assert_int_equal(s.bytes_read, KIB(64));
	assert_int_equal(s.bytes_written, KIB(64));
	assert_int_equal(s.errors + s.refused, 0);
	assert_int_equal(g->dev->faults, 0);
}

/* A driver without F_FLUSH takes a completed write for durable: one call more for each. */
static void test_write_through(void **state)
{
	struct disk_guest *g = *state;
	struct vseg data = {VDRIVER_HIGH_GPA, 4096, VSEG_OUT};

	block_faults_set(BLOCK_FAULT_NONE, 0, 0, 0);
	assert_int_equal(disk_guest_do(g, VIRTIO_BLK_T_OUT, 0, 1, &data, NULL), VIRTIO_BLK_S_OK);
	assert_int_equal(block_faults.calls, 2);
	/* And its failure is the write's. */
	block_faults_set(BLOCK_FAULT_REFUSE, -EIO, 1, 1);
	assert_int_equal(disk_guest_do(g, VIRTIO_BLK_T_OUT, 0, 1, &data, NULL), VIRTIO_BLK_S_IOERR);
	assert_int_equal(virtio_blk_stats(g->blk).errors, 1);
}

static void test_id(void **state)
{
	struct disk_guest *g = *state;
	char id[21] = "xxxxxxxxxxxxxxxxxxxx";
	uint64_t gpa = vdriver_bytes(&g->drv, id, 21);
	uint32_t written;

	assert_int_equal(disk_guest_do(g, VIRTIO_BLK_T_GET_ID, 0, 2,
				       (struct vseg[]){{gpa, 3, VSEG_IN}, {gpa + 3, 17, VSEG_IN}},
				       &written),
			 VIRTIO_BLK_S_OK);
	assert_int_equal(written, 21);
	memcpy(id, vdriver_ptr(&g->drv, gpa, 21), 21);
	assert_string_equal(id, "disk-7");
	/* As much as there is room for. */
	assert_int_equal(disk_guest_do(g, VIRTIO_BLK_T_GET_ID, 0, 1,
				       (struct vseg[]){{gpa, 2, VSEG_IN}}, &written),
			 VIRTIO_BLK_S_OK);
	assert_int_equal(written, 3);
}

static uint8_t do_ranges(struct disk_guest *g, uint32_t type, const struct disk_range *ranges,
			 uint32_t bytes)
{
	uint64_t gpa = vdriver_bytes(&g->drv, ranges, bytes);
	/* Cut where no range ends. */
	struct vseg data[2] = {{gpa, 5, VSEG_OUT}, {gpa + 5, bytes - 5, VSEG_OUT}};

	return disk_guest_do(g, type, 0, 2, data, NULL);
}

static void test_ranges(void **state)
{
	struct disk_guest *g = *state;
	uint8_t *image = malloc(DISK_BYTES);
	struct disk_range two[] = {{8, 8, 0}, {32, 1, 1}};
	struct virtio_blk_stats s;

	memset(image, 0xaa, DISK_BYTES);
	disk_image_write(&g->image, 0, image, DISK_BYTES);
	assert_int_equal(do_ranges(g, VIRTIO_BLK_T_WRITE_ZEROES, two, sizeof(two)),
			 VIRTIO_BLK_S_OK);
	disk_image_read(&g->image, 0, image, DISK_BYTES);
	for (size_t i = 0; i < 64 * 512; i++) {
		size_t sector = i / 512;
		bool zero = (sector >= 8 && sector < 16) || sector == 32;

		assert_int_equal(image[i], zero ? 0 : 0xaa);
	}
	/* A discard has no unmap bit. */
	assert_int_equal(do_ranges(g, VIRTIO_BLK_T_DISCARD, two, sizeof(two)), VIRTIO_BLK_S_UNSUPP);
	assert_int_equal(do_ranges(g, VIRTIO_BLK_T_DISCARD, two, 16), VIRTIO_BLK_S_OK);
	two[1].flags = 2;
	assert_int_equal(do_ranges(g, VIRTIO_BLK_T_WRITE_ZEROES, two, sizeof(two)),
			 VIRTIO_BLK_S_UNSUPP);
	/* The second is bad, so the first is not done. */
	memset(image, 0xbb, 512);
	disk_image_write(&g->image, 8 * 512, image, 512);
	two[1] = (struct disk_range){DISK_BYTES / 512, 1, 0};
	assert_int_equal(do_ranges(g, VIRTIO_BLK_T_WRITE_ZEROES, two, sizeof(two)),
			 VIRTIO_BLK_S_IOERR);
	two[1] = (struct disk_range){UINT64_MAX, UINT32_MAX, 0};
	assert_int_equal(do_ranges(g, VIRTIO_BLK_T_DISCARD, two, sizeof(two)), VIRTIO_BLK_S_IOERR);
	two[1] = (struct disk_range){0, 0, 0};
	assert_int_equal(do_ranges(g, VIRTIO_BLK_T_DISCARD, two, sizeof(two)), VIRTIO_BLK_S_IOERR);
	assert_int_equal(do_ranges(g, VIRTIO_BLK_T_DISCARD, two, 17), VIRTIO_BLK_S_IOERR);
	disk_image_read(&g->image, 8 * 512, image, 512);
	assert_int_equal(image[0], 0xbb);
	s = virtio_blk_stats(g->blk);
	assert_int_equal(s.zeroes, 1);
	assert_int_equal(s.discards, 1);
	assert_int_equal(s.refused, 6);
	free(image);
}

static void test_refused(void **state)
{
	struct disk_guest *g = *state;
	const uint64_t end = DISK_BYTES / 512;
	struct vseg in = {VDRIVER_HIGH_GPA, 1024, VSEG_IN},
		    out = {VDRIVER_HIGH_GPA, 1024, VSEG_OUT};
	static const uint64_t past[] = {1, 2, 1ull << 32, 1ull << 55, 1ull << 63, UINT64_MAX};

	for (size_t i = 0; i < ARRAY_SIZE(past); i++) {
		uint64_t sector = past[i] < 3 ? end - 2 + past[i] : past[i];

		assert_int_equal(disk_guest_do(g, VIRTIO_BLK_T_IN, sector, 1, &in, NULL),
				 VIRTIO_BLK_S_IOERR);
		assert_int_equal(disk_guest_do(g, VIRTIO_BLK_T_OUT, sector, 1, &out, NULL),
				 VIRTIO_BLK_S_IOERR);
	}
	assert_int_equal(disk_guest_do(g, VIRTIO_BLK_T_IN, end - 2, 1, &in, NULL), VIRTIO_BLK_S_OK);
	in.len = 513;
	assert_int_equal(disk_guest_do(g, VIRTIO_BLK_T_IN, 0, 1, &in, NULL), VIRTIO_BLK_S_IOERR);
	assert_int_equal(disk_guest_do(g, 99, 0, 1, &in, NULL), VIRTIO_BLK_S_UNSUPP);
	assert_int_equal(disk_guest_do(g, VIRTIO_BLK_T_IN, 0, 0, NULL, NULL), VIRTIO_BLK_S_OK);
	assert_int_equal(virtio_blk_stats(g->blk).refused, 2 * ARRAY_SIZE(past) + 2);
	assert_int_equal(g->dev->faults, 0);
}

static void test_read_only(void **state)
{
	struct disk_guest *g = *state;
	struct disk_range range = {0, 8, 0};
	struct vseg out = {VDRIVER_HIGH_GPA, 512, VSEG_OUT};

	assert_true(virtio_offered(g->dev) & 1u << VIRTIO_BLK_F_RO);
	assert_false(virtio_offered(g->dev) & 1u << VIRTIO_BLK_F_DISCARD);
	assert_int_equal(disk_guest_do(g, VIRTIO_BLK_T_OUT, 0, 1, &out, NULL), VIRTIO_BLK_S_IOERR);
	assert_int_equal(do_ranges(g, VIRTIO_BLK_T_WRITE_ZEROES, &range, 16), VIRTIO_BLK_S_UNSUPP);
	out.direction = VSEG_IN;
	assert_int_equal(disk_guest_do(g, VIRTIO_BLK_T_IN, 0, 1, &out, NULL), VIRTIO_BLK_S_OK);
}

static void test_errors(void **state)
{
	struct disk_guest *g = *state;
	struct vseg in = {VDRIVER_HIGH_GPA, 4096, VSEG_IN};
	uint32_t written;

	assert_int_equal(ftruncate(g->image.fd, 65536), 0);
	assert_int_equal(disk_guest_do(g, VIRTIO_BLK_T_IN, 127, 1, &in, &written),
			 VIRTIO_BLK_S_IOERR);
	assert_int_equal(written, 0);
	assert_int_equal(disk_guest_do(g, VIRTIO_BLK_T_IN, 0, 1, &in, NULL), VIRTIO_BLK_S_OK);
	block_faults_set(BLOCK_FAULT_REFUSE, -ENOSPC, 0, 1);
	in.direction = VSEG_OUT;
	assert_int_equal(disk_guest_do(g, VIRTIO_BLK_T_OUT, 0, 1, &in, NULL), VIRTIO_BLK_S_IOERR);
	block_faults_set(BLOCK_FAULT_REFUSE, -EIO, 0, 1);
	assert_int_equal(disk_guest_do(g, VIRTIO_BLK_T_FLUSH, 0, 0, NULL, NULL),
			 VIRTIO_BLK_S_IOERR);
	assert_int_equal(virtio_blk_stats(g->blk).errors, 3);
	assert_int_equal(g->dev->faults, 0);
}

static unsigned drain(struct disk_guest *g, unsigned q)
{
	unsigned n = 0;

	while (vring_used(&g->drv.ring[q], NULL, NULL))
		n++;
	return n;
}

/* A full queue on each of four, in few system calls and few interrupts; all answered. */
static void test_depth(void **state)
{
	struct disk_guest *g = *state;
	struct vseg in = {VDRIVER_HIGH_GPA, 512, VSEG_IN};
	unsigned back = 0;

	for (unsigned q = 0; q < 4; q++) {
		for (unsigned i = 0; i < VIRTQ_MAX_SIZE; i++)
			disk_guest_add(g, q, VIRTIO_BLK_T_IN, i, 1, &in);
		virtio_notify(g->dev, q);
	}
	assert_int_equal(virtio_blk_stats(g->blk).completions, 0);
	for (unsigned i = 0; i < 1000 && back < 4 * VIRTQ_MAX_SIZE; i++) {
		loop_turn(g->loop, 10000000);
		for (unsigned q = 0; q < 4; q++)
			back += drain(g, q);
	}
	assert_int_equal(back, 4 * VIRTQ_MAX_SIZE);
	assert_int_equal(virtio_blk_stats(g->blk).reads, 4 * VIRTQ_MAX_SIZE);
	print_message("1024 reads: %llu interrupts\n",
		      (unsigned long long)virtio_blk_stats(g->blk).interrupts);
	assert_in_range(virtio_blk_stats(g->blk).interrupts, 1, 512);
}

/* What a driver that looks for itself has not asked for is no interrupt. */
static void test_interrupts(void **state)
{
	struct disk_guest *g = *state;
	struct vseg in = {VDRIVER_HIGH_GPA, 512, VSEG_IN};

	*g->drv.ring[0].used_event = 100;
	disk_guest_add(g, 0, VIRTIO_BLK_T_IN, 0, 1, &in);
	virtio_notify(g->dev, 0);
	disk_guest_settle(g, 1000);
	assert_int_equal(virtio_blk_stats(g->blk).completions, 1);
	assert_int_equal(virtio_blk_stats(g->blk).interrupts, 0);
	*g->drv.ring[0].used_event = 1;
	disk_guest_add(g, 0, VIRTIO_BLK_T_IN, 0, 1, &in);
	virtio_notify(g->dev, 0);
	disk_guest_settle(g, 1000);
	assert_int_equal(virtio_blk_stats(g->blk).completions, 2);
	assert_int_equal(virtio_blk_stats(g->blk).interrupts, 1);
}

/* However much is asked for, little is under way at a time; and small requests get their turn. */
static void test_large(void **state)
{
	struct disk_guest *g = *state;
	struct vseg data[64], small = {VDRIVER_HIGH_GPA, 512, VSEG_IN};
	unsigned back = 0, small_back = 0;

	for (unsigned i = 0; i < ARRAY_SIZE(data); i++)
		data[i] = (struct vseg){VDRIVER_HIGH_GPA, DISK_BYTES / ARRAY_SIZE(data), VSEG_IN};
	for (unsigned i = 0; i < 40; i++)
		disk_guest_add(g, 0, VIRTIO_BLK_T_IN, 0, ARRAY_SIZE(data), data);
	for (unsigned i = 0; i < 40; i++)
		disk_guest_add(g, 1, VIRTIO_BLK_T_IN, 0, 1, &small);
	virtio_notify(g->dev, 0);
	virtio_notify(g->dev, 1);
	for (unsigned i = 0; i < 4000 && back + small_back < 80; i++) {
		/* 32 MiB. */
		assert_in_range(g->dev->queue[0].in_flight, 0, MIB(32) / DISK_BYTES);
		loop_turn(g->loop, 10000000);
		small_back += drain(g, 1);
		back += drain(g, 0);
	}
	assert_int_equal(back, 40);
	assert_int_equal(small_back, 40);
	assert_int_equal(block_faults.calls, 40 * DISK_BYTES / MIB(1) + 40);
	assert_int_equal(g->dev->faults, 0);
}

static void quiet(struct virtio_device *dev UNUSED, void *arg)
{
	*(bool *)arg = true;
}

/* Nothing is lost over a freeze, and it waits for what is in flight. */
static void test_freeze(void **state)
{
	struct disk_guest *g = *state;
	struct vseg in = {VDRIVER_HIGH_GPA, 512, VSEG_IN};
	bool done = false;

	block_faults_set(BLOCK_FAULT_RESULT, -EIO, 0, 1);
	block_faults.hold = true;
	disk_guest_add(g, 0, VIRTIO_BLK_T_IN, 0, 1, &in);
	virtio_notify(g->dev, 0);
	virtio_quiesce(g->dev, quiet, &done);
	disk_guest_add(g, 0, VIRTIO_BLK_T_IN, 0, 1, &in);
	virtio_notify(g->dev, 0);
	for (unsigned i = 0; i < 5; i++)
		block_faults_turn(g->loop, 1000000);
	assert_false(done);
	assert_int_equal(drain(g, 0), 0);
	block_faults.hold = false;
	block_faults_turn(g->loop, 0);
	assert_true(done);
	assert_int_equal(drain(g, 0), 1);
	assert_true(g->dev->interrupt_status & VIRTIO_INTERRUPT_USED);
	disk_guest_settle(g, 100);
	assert_int_equal(drain(g, 0), 0);
	virtio_resume(g->dev);
	disk_guest_settle(g, 1000);
	assert_int_equal(drain(g, 0), 1);
}

/* A reset is over only when what is in flight is. */
static void test_reset(void **state)
{
	struct disk_guest *g = *state;
	struct vseg in = {VDRIVER_HIGH_GPA, 512, VSEG_IN};

	for (unsigned round = 0; round < 4; round++) {
		block_faults_set(BLOCK_FAULT_RESULT, 512, 0, 3);
		block_faults.hold = true;
		for (unsigned i = 0; i < 3; i++)
			disk_guest_add(g, 0, VIRTIO_BLK_T_IN, 0, 1, &in);
		virtio_notify(g->dev, 0);
		virtio_set_status(g->dev, 0, 0);
		for (unsigned i = 0; i < 3; i++)
			block_faults_turn(g->loop, 1000000);
		assert_true(g->dev->resetting && g->dev->status);
		block_faults.hold = false;
		block_faults_turn(g->loop, 0);
		assert_int_equal(g->dev->status, 0);
		disk_guest_boot(g, DISK_FEATURES);
		read_write(g);
	}
	assert_int_equal(g->dev->faults, 0);
}

/* A request of many steps, begun. */
static struct disk_request begin_long(struct disk_guest *g, uint32_t type)
{
	struct disk_range ranges[4] = {{0, 2048, 0},
				       {2048, 2048, 0},
				       {4096, 2048, 0},
				       {6144, 2048, 0}};
	struct vseg range = {vdriver_bytes(&g->drv, ranges, sizeof(ranges)), sizeof(ranges),
			     VSEG_OUT},
		    data = {VDRIVER_HIGH_GPA, DISK_BYTES, VSEG_IN};
	struct disk_request req;

	if (type == VIRTIO_BLK_T_IN)
		block_faults_set(BLOCK_FAULT_SHORT, 512, 0, UINT32_MAX);
	else if (type == VIRTIO_BLK_T_DISCARD)
		block_faults_set(BLOCK_FAULT_RESULT, 0, 0, UINT32_MAX);
	else
		block_faults_set(BLOCK_FAULT_RESULT, -EOPNOTSUPP, 0, 1);
	req = disk_guest_add(g, 0, type, 0, 1, type == VIRTIO_BLK_T_IN ? &data : &range);
	virtio_notify(g->dev, 0);
	block_faults_turn(g->loop, 1000000);
	return req;
}

/* Nobody waits for an answer any more: what is under way ends with its step. */
static void test_reset_between_steps(void **state)
{
	static const uint32_t types[] = {VIRTIO_BLK_T_IN, VIRTIO_BLK_T_DISCARD,
					 VIRTIO_BLK_T_WRITE_ZEROES};
	struct disk_guest *g = *state;

	for (size_t i = 0; i < ARRAY_SIZE(types); i++) {
		uint64_t errors = virtio_blk_stats(g->blk).errors;
		unsigned calls;

		begin_long(g, types[i]);
		calls = block_faults.calls;
		virtio_set_status(g->dev, 0, 0);
		for (unsigned n = 0; n < 500 && g->dev->status; n++)
			block_faults_turn(g->loop, 1000000);
		assert_int_equal(g->dev->status, 0);
		assert_in_range(block_faults.calls, calls, calls + 1);
		assert_int_equal(virtio_blk_stats(g->blk).errors, errors);
		block_faults_set(BLOCK_FAULT_NONE, 0, 0, 0);
		disk_guest_boot(g, DISK_FEATURES);
		read_write(g);
	}
}

/* So it is when the machine ends; even where a freeze already waits. */
static void test_end_between_steps(void **state)
{
	struct disk_guest *g = *state;
	bool done = false;
	unsigned calls;

	begin_long(g, VIRTIO_BLK_T_IN);
	virtio_quiesce(g->dev, quiet, &done);
	block_faults_turn(g->loop, 1000000);
	block_faults_turn(g->loop, 1000000);
	assert_false(done);
	calls = block_faults.calls;
	virtio_give_up(g->dev);
	for (unsigned n = 0; n < 500 && !done; n++)
		block_faults_turn(g->loop, 1000000);
	assert_true(done);
	assert_in_range(block_faults.calls, calls, calls + 1);
}

/* A freeze waits for zeros, of which there is a bounded amount; discards are hints. */
static void test_freeze_between_steps(void **state)
{
	struct disk_guest *g = *state;
	struct disk_request req = begin_long(g, VIRTIO_BLK_T_DISCARD);
	uint8_t *image = malloc(DISK_BYTES);
	uint32_t sectors, ranges;
	uint8_t config[60];
	bool done = false;

	virtio_quiesce(g->dev, quiet, &done);
	for (unsigned n = 0; n < 500 && !done; n++)
		block_faults_turn(g->loop, 1000000);
	assert_true(done);
	assert_in_range(block_faults.calls, 1, 2);
	assert_int_equal(disk_guest_status(g, &req), VIRTIO_BLK_S_OK);
	virtio_resume(g->dev);

	memset(image, 0xaa, DISK_BYTES);
	disk_image_write(&g->image, 0, image, DISK_BYTES);
	req = begin_long(g, VIRTIO_BLK_T_WRITE_ZEROES);
	done = false;
	virtio_quiesce(g->dev, quiet, &done);
	for (unsigned n = 0; n < 500 && !done; n++)
		block_faults_turn(g->loop, 1000000);
	assert_true(done);
	assert_int_equal(disk_guest_status(g, &req), VIRTIO_BLK_S_OK);
	disk_image_read(&g->image, 0, image, DISK_BYTES);
	for (size_t i = 0; i < DISK_BYTES; i++)
		assert_int_equal(image[i], 0);
	free(image);

	g->dev->ops->config_read(g->dev, 0, config, sizeof(config));
	memcpy(&sectors, config + 48, 4);
	memcpy(&ranges, config + 52, 4);
	assert_in_range((uint64_t)sectors * ranges * 512, MIB(1), MIB(64));
}

/* No more than four requests of zeroes are taken at a time. */
static void test_zeroes_are_few(void **state)
{
	struct disk_guest *g = *state;
	struct disk_range range = {0, 8, 0};
	unsigned back = 0;

	for (unsigned i = 0; i < 40; i++)
		disk_guest_add(g, 0, VIRTIO_BLK_T_WRITE_ZEROES, 0, 1,
			       &(struct vseg){vdriver_bytes(&g->drv, &range, 16), 16, VSEG_OUT});
	virtio_notify(g->dev, 0);
	for (unsigned i = 0; i < 1000 && back < 40; i++) {
		assert_in_range(g->dev->queue[0].in_flight, 0, 4);
		loop_turn(g->loop, 10000000);
		back += drain(g, 0);
	}
	assert_int_equal(back, 40);
	assert_int_equal(virtio_blk_stats(g->blk).zeroes, 40);
}

/* The device goes while the kernel has its operations: given up, and then freed by the last. */
static void test_given_up(void **state)
{
	struct disk_guest *g = *state;
	struct vseg in = {VDRIVER_HIGH_GPA, 512, VSEG_IN};

	block_faults_set(BLOCK_FAULT_RESULT, 512, 0, 2);
	block_faults.hold = true;
	disk_guest_add(g, 0, VIRTIO_BLK_T_IN, 0, 1, &in);
	disk_guest_add(g, 0, VIRTIO_BLK_T_IN, 0, 1, &in);
	virtio_notify(g->dev, 0);
	log_set_level(LOG_ERROR);
	virtio_blk_free(g->blk);
	log_set_level(LOG_WARN);
	g->blk = NULL;
	block_faults.hold = false;
	block_faults_turn(g->loop, 0);
}

/* The n-th call of the loop's fails: each request is answered all the same, data is whole. */
static void test_every_call(void **state)
{
	struct disk_guest *g = *state;

	for (unsigned n = 0; n < 24; n++) {
		unsigned back = 0;

		disk_guest_boot(g, DISK_FEATURES);
		block_faults_set(n % 3 == 0   ? BLOCK_FAULT_REFUSE
				 : n % 3 == 1 ? BLOCK_FAULT_RESULT
					      : BLOCK_FAULT_SHORT,
				 n % 3 == 0   ? -ENOMEM
				 : n % 3 == 1 ? -EAGAIN
					      : 512,
				 n / 3, 1);
		for (unsigned i = 0; i < 8; i++) {
			struct vseg data[2] = {{VDRIVER_HIGH_GPA, 1024, i & 1 ? VSEG_IN : VSEG_OUT},
					       {VDRIVER_HIGH_GPA + 1024, 3072,
						i & 1 ? VSEG_IN : VSEG_OUT}};

			disk_guest_add(g, 0, i & 1 ? VIRTIO_BLK_T_IN : VIRTIO_BLK_T_OUT, i * 8, 2,
				       data);
		}
		virtio_notify(g->dev, 0);
		for (unsigned i = 0; i < 500 && back < 8; i++) {
			block_faults_turn(g->loop, 5000000);
			back += drain(g, 0);
		}
		assert_int_equal(back, 8);
		assert_int_equal(virtio_blk_stats(g->blk).errors, 0);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_config, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_read_write, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_read_write, set_up_plain, tear_down),
		cmocka_unit_test_setup_teardown(test_read_write, set_up_direct, tear_down),
		cmocka_unit_test_setup_teardown(test_write_through, set_up_plain, tear_down),
		cmocka_unit_test_setup_teardown(test_id, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_ranges, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_refused, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_read_only, set_up_read_only, tear_down),
		cmocka_unit_test_setup_teardown(test_errors, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_depth, set_up_queues, tear_down),
		cmocka_unit_test_setup_teardown(test_interrupts, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_large, set_up_queues, tear_down),
		cmocka_unit_test_setup_teardown(test_freeze, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_reset, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_reset_between_steps, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_end_between_steps, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_freeze_between_steps, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_zeroes_are_few, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_given_up, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_every_call, set_up, tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
