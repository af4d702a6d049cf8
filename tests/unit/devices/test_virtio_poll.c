/* A disk's rings while the loop is awake, about to sleep, and where nothing may be served. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/util.h"
#include "disk_guest.h"

#define SLEEP_NS 20000000u

static const struct vseg sector = {VDRIVER_HIGH_GPA, 512, VSEG_IN};

static struct disk_request add(struct disk_guest *g)
{
	return disk_guest_add(g, 0, VIRTIO_BLK_T_IN, 0, 1, &sector);
}

static bool notifications_are_on(const struct disk_guest *g)
{
	const struct vring *r = &g->drv.ring[0];

	return vring_wants_kick(r, *r->avail_idx, (uint16_t)(*r->avail_idx + 1));
}

/* Turns that never sleep. Whether it was answered. */
static bool served_awake(struct disk_guest *g, const struct disk_request *req, unsigned turns)
{
	for (unsigned i = 0; i < turns && disk_guest_status(g, req) != VIRTIO_BLK_S_OK; i++)
		loop_turn(g->loop, 0);
	return disk_guest_status(g, req) == VIRTIO_BLK_S_OK;
}

static uint64_t turn_takes_ns(struct disk_guest *g)
{
	uint64_t begin_ns = now_ns();

	loop_turn(g->loop, SLEEP_NS);
	return now_ns() - begin_ns;
}

/* Up, with one request served and the loop asleep after it. */
static void init(struct disk_guest *g, const struct virtio_blk_config *config, uint64_t features)
{
	disk_guest_init(g, config);
	disk_guest_boot(g, features);
	assert_int_equal(disk_guest_do(g, VIRTIO_BLK_T_IN, 0, 1, &sector, NULL), VIRTIO_BLK_S_OK);
	disk_guest_settle(g, 1000);
}

static void check_awake_and_asleep(uint64_t features)
{
	struct disk_request one, two, three;
	struct disk_guest g;

	init(&g, &(struct virtio_blk_config){0}, features);
	assert_true(notifications_are_on(&g));
	one = add(&g);
	virtio_notify(g.dev, 0);
	assert_false(notifications_are_on(&g));
	two = add(&g);
	assert_true(served_awake(&g, &two, 10000));
	assert_true(served_awake(&g, &one, 10000));
	assert_false(notifications_are_on(&g));

	disk_guest_settle(&g, 1000);
	assert_true(notifications_are_on(&g));
	/* Not looked at until then. */
	three = add(&g);
	assert_false(served_awake(&g, &three, 10));
	virtio_notify(g.dev, 0);
	assert_true(served_awake(&g, &three, 10000));
	disk_guest_done(&g);
}

static void test_awake_and_asleep(void **state UNUSED)
{
	check_awake_and_asleep(DISK_FEATURES);
	check_awake_and_asleep(DISK_FEATURES & ~(1ull << VIRTIO_F_EVENT_IDX_BIT));
}

/* Only what was notified is looked at, and that no more after a reset. */
static void test_many_queues(void **state UNUSED)
{
	struct virtio_blk_config config = {.queues = VIRTIO_BLK_MAX_QUEUES};
	unsigned last = VIRTIO_BLK_MAX_QUEUES - 1;
	struct disk_request one, two, other;
	struct disk_guest g;

	init(&g, &config, DISK_FEATURES);
	one = disk_guest_add(&g, last, VIRTIO_BLK_T_IN, 0, 1, &sector);
	virtio_notify(g.dev, last);
	two = disk_guest_add(&g, last, VIRTIO_BLK_T_IN, 0, 1, &sector);
	other = add(&g);
	assert_true(served_awake(&g, &one, 10000));
	assert_true(served_awake(&g, &two, 10000));
	assert_false(served_awake(&g, &other, 10));
	disk_guest_boot(&g, DISK_FEATURES);
	disk_guest_settle(&g, 1000); /* a start counts as a notification */
	one = disk_guest_add(&g, last, VIRTIO_BLK_T_IN, 0, 1, &sector);
	assert_false(served_awake(&g, &one, 10));
	virtio_notify(g.dev, last);
	assert_true(served_awake(&g, &one, 10000));
	disk_guest_done(&g);
}

/* ---- a request in the gap ---------------------------------------------------------------- */

struct latecomer {
	struct loop_source source;
	struct disk_guest *g;
	struct disk_request req;
	bool came;
};

static bool nothing(struct loop_source *s UNUSED)
{
	return false;
}

static bool come(struct loop_source *s)
{
	struct latecomer *l = container_of(s, struct latecomer, source);

	if (!l->came)
		l->req = add(l->g);
	l->came = true;
	return false;
}

static void no_matter(struct loop_source *s UNUSED)
{
}

/* The loop has looked for the last time, and the driver has seen that notifications are off. */
static void test_just_before_sleep(void **state UNUSED)
{
	struct latecomer late = {.source = {.poll = nothing, .arm = come, .disarm = no_matter}};
	struct disk_guest g;
	struct disk_request one;

	init(&g, &(struct virtio_blk_config){0}, DISK_FEATURES);
	one = add(&g);
	virtio_notify(g.dev, 0);
	assert_true(served_awake(&g, &one, 10000));
	late.g = &g;
	loop_add_source(g.loop, &late.source);
	for (unsigned i = 0; i < 100 && !late.came; i++)
		loop_turn(g.loop, SLEEP_NS);
	assert_true(late.came);
	assert_true(served_awake(&g, &late.req, 10000));
	loop_remove_source(g.loop, &late.source);
	disk_guest_done(&g);
}

/* ---- where nothing may be served --------------------------------------------------------- */

static void quiet(struct virtio_device *dev UNUSED, void *arg)
{
	*(bool *)arg = true;
}

static void test_freeze(void **state UNUSED)
{
	struct disk_request one, two;
	struct disk_guest g;
	bool is_quiet = false;

	init(&g, &(struct virtio_blk_config){0}, DISK_FEATURES);
	one = add(&g);
	virtio_notify(g.dev, 0);
	virtio_quiesce(g.dev, quiet, &is_quiet);
	for (unsigned i = 0; i < 1000 && !is_quiet; i++)
		loop_turn(g.loop, 1000000);
	assert_true(is_quiet);
	assert_int_equal(disk_guest_status(&g, &one), VIRTIO_BLK_S_OK);
	/* As a snapshot has it. */
	assert_true(notifications_are_on(&g));
	assert_false(g.dev->queue[0].polled);
	two = add(&g);
	assert_false(served_awake(&g, &two, 10));
	assert_true(turn_takes_ns(&g) >= SLEEP_NS / 2);
	virtio_resume(g.dev);
	assert_true(served_awake(&g, &two, 10000));
	disk_guest_done(&g);
}

/* What a limit holds back doesn't keep the loop awake. */
static void test_limit(void **state UNUSED)
{
	struct virtio_blk_config config = {.iops = 2};
	struct disk_guest g;

	init(&g, &config, DISK_FEATURES);
	for (unsigned i = 0; i < 3; i++)
		add(&g);
	virtio_notify(g.dev, 0);
	assert_int_not_equal(virtio_blk_stats(g.blk).throttled, 0);
	loop_turn(g.loop, 0);
	assert_true(turn_takes_ns(&g) >= SLEEP_NS / 2);
	disk_guest_done(&g);
}

static void test_bad_index(void **state UNUSED)
{
	struct disk_guest g;
	struct disk_request one;

	init(&g, &(struct virtio_blk_config){0}, DISK_FEATURES);
	one = add(&g);
	virtio_notify(g.dev, 0);
	*g.drv.ring[0].avail_idx += 1000;
	for (unsigned i = 0; i < 10; i++)
		loop_turn(g.loop, 0);
	assert_int_equal(g.dev->faults, 1);
	assert_true(g.dev->status & VIRTIO_STATUS_NEEDS_RESET);
	disk_guest_settle(&g, 1000);
	assert_int_equal(disk_guest_status(&g, &one), VIRTIO_BLK_S_OK);
	assert_true(turn_takes_ns(&g) >= SLEEP_NS / 2);
	disk_guest_boot(&g, DISK_FEATURES);
	assert_int_equal(disk_guest_do(&g, VIRTIO_BLK_T_IN, 0, 1, &sector, NULL), VIRTIO_BLK_S_OK);
	disk_guest_done(&g);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_awake_and_asleep),
		cmocka_unit_test(test_many_queues),
		cmocka_unit_test(test_just_before_sleep),
		cmocka_unit_test(test_freeze),
		cmocka_unit_test(test_limit),
		cmocka_unit_test(test_bad_index),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
