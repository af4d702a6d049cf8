/* The block device in bad hands: every chain that breaks the rules, at rest and under load. What
 * must hold: NEEDS_RESET and a count for the device alone, no byte outside guest memory, and a
 * reset makes it good again. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "block_faults.h"
#include "disk_guest.h"

static int set_up(void **state)
{
	struct disk_guest *g = calloc(1, sizeof(*g));

	block_faults_set(BLOCK_FAULT_NONE, 0, 0, 0);
	log_set_level(LOG_ERROR);
	disk_guest_init(g, &(struct virtio_blk_config){.queues = 2});
	*state = g;
	return g->blk ? 0 : -1;
}

static int tear_down(void **state)
{
	disk_guest_done(*state);
	free(*state);
	return 0;
}

/* A read's parts, laid out anew for each case. */
struct parts {
	struct vring *r;
	uint64_t header, data, status;
};

static struct parts lay_out(struct disk_guest *g)
{
	uint8_t header[16] = {VIRTIO_BLK_T_IN};
	struct parts p = {
		.r = &g->drv.ring[0],
		.header = vdriver_bytes(&g->drv, header, sizeof(header)),
		.data = vdriver_alloc(&g->drv, 4096, 512),
		.status = vdriver_alloc(&g->drv, 1, 1),
	};

	p.r->desc[0] = (struct vdesc){p.header, 16, VDESC_NEXT, 1};
	p.r->desc[1] = (struct vdesc){p.data, 4096, VDESC_NEXT | VDESC_WRITE, 2};
	p.r->desc[2] = (struct vdesc){p.status, 1, VDESC_WRITE, 0};
	return p;
}

/* An indirect table of n entries, all a read's three but for what a case changes. */
static struct vdesc *indirect(struct disk_guest *g, struct parts *p, unsigned n)
{
	uint64_t gpa = vdriver_alloc(&g->drv, 16ull * n, 16);
	struct vdesc *table = vdriver_ptr(&g->drv, gpa, 16ull * n);

	memcpy(table, p->r->desc, MIN(n, 3u) * sizeof(*table));
	p->r->desc[0] = (struct vdesc){gpa, 16 * n, VDESC_INDIRECT, 0};
	return table;
}

enum bad {
	LOOP_ON_ITSELF,
	LOOP_OF_THREE,
	NEXT_PAST_TABLE,
	TOO_LONG,
	TOO_LONG_INDIRECT,
	HEADER_PAST_MEMORY,
	DATA_PAST_MEMORY,
	DATA_WRAPS,
	DATA_IN_HOLE,
	STATUS_IN_HOLE,
	DATA_TOO_LONG,
	HEADER_SHORT,
	HEADER_EMPTY,
	HEADER_WRITABLE,
	STATUS_READABLE,
	STATUS_EMPTY,
	NO_STATUS,
	READABLE_BEHIND_WRITABLE,
	INDIRECT_IN_INDIRECT,
	INDIRECT_EMPTY,
	INDIRECT_ODD,
	INDIRECT_PAST_MEMORY,
	INDIRECT_WITH_NEXT,
	HEAD_PAST_TABLE,
	HEAD_TWICE,
	INDEX_JUMP,
	BADS,
};

static void make(struct disk_guest *g, enum bad bad)
{
	struct parts p = lay_out(g);
	struct vdesc *d = p.r->desc, *table;
	uint16_t head = 0;

	switch (bad) {
	case LOOP_ON_ITSELF:
		d[1].next = 1;
		break;
	case LOOP_OF_THREE:
		d[2].flags |= VDESC_NEXT;
		d[2].next = 1;
		break;
	case NEXT_PAST_TABLE:
		d[1].next = p.r->size;
		break;
	case TOO_LONG:
	case TOO_LONG_INDIRECT:
		table = bad == TOO_LONG ? d : indirect(g, &p, p.r->size + 1u);
		for (unsigned i = 1; i < p.r->size; i++)
			table[i] = (struct vdesc){p.data, 8, VDESC_NEXT | VDESC_WRITE,
						  (uint16_t)(i + 1)};
		if (bad == TOO_LONG)
			table[p.r->size - 1].next = 1;
		else
			table[p.r->size] = (struct vdesc){p.status, 1, VDESC_WRITE, 0};
		break;
	case HEADER_PAST_MEMORY:
		d[0].addr = VDRIVER_HIGH_GPA + VDRIVER_HIGH_SIZE - 8;
		break;
	case DATA_PAST_MEMORY:
		d[1].addr = VDRIVER_HIGH_GPA + VDRIVER_HIGH_SIZE - 512;
		break;
	case DATA_WRAPS:
		d[1].addr = UINT64_MAX - 100;
		break;
	case DATA_IN_HOLE:
		d[1].addr = VDRIVER_LOW_SIZE - 512;
		break;
	case STATUS_IN_HOLE:
		d[2].addr = VDRIVER_LOW_SIZE;
		break;
	case DATA_TOO_LONG:
		d[1].len = UINT32_MAX;
		break;
	case HEADER_SHORT:
		d[0].len = 15;
		break;
	case HEADER_EMPTY:
		d[0].len = 0;
		break;
	case HEADER_WRITABLE:
		d[0].flags |= VDESC_WRITE;
		break;
	case STATUS_READABLE:
		d[2].flags = 0;
		break;
	case STATUS_EMPTY:
		d[1].len = d[2].len = 0;
		break;
	case NO_STATUS:
		d[0].flags = 0;
		break;
	case READABLE_BEHIND_WRITABLE:
		d[2].flags = VDESC_NEXT | VDESC_WRITE;
		d[2].next = 3;
		d[3] = (struct vdesc){p.data, 8, 0, 0};
		break;
	case INDIRECT_IN_INDIRECT:
		table = indirect(g, &p, 3);
		table[1] = (struct vdesc){p.r->desc_gpa, 16, VDESC_INDIRECT, 0};
		break;
	case INDIRECT_EMPTY:
		indirect(g, &p, 3);
		d[0].len = 0;
		break;
	case INDIRECT_ODD:
		indirect(g, &p, 3);
		d[0].len = 47;
		break;
	case INDIRECT_PAST_MEMORY:
		indirect(g, &p, 3);
		d[0].addr = VDRIVER_LOW_SIZE - 16;
		break;
	case INDIRECT_WITH_NEXT:
		indirect(g, &p, 3);
		d[0].flags |= VDESC_NEXT;
		break;
	case HEAD_PAST_TABLE:
		head = p.r->size;
		break;
	case HEAD_TWICE:
		vring_offer(p.r, 0);
		break;
	case INDEX_JUMP:
		*p.r->avail_idx = (uint16_t)(*p.r->avail_idx + p.r->size);
		break;
	default:
		break;
	}
	vring_offer(p.r, head);
}

static void check_good(struct disk_guest *g)
{
	struct vseg in = {VDRIVER_HIGH_GPA, 4096, VSEG_IN};

	disk_guest_boot(g, DISK_FEATURES);
	assert_int_equal(disk_guest_do(g, VIRTIO_BLK_T_IN, 0, 1, &in, NULL), VIRTIO_BLK_S_OK);
}

static void check_fault(struct disk_guest *g, uint64_t before)
{
	assert_int_equal(g->dev->faults, before + 1);
	assert_true(g->dev->status & VIRTIO_STATUS_NEEDS_RESET);
	assert_true(g->dev->interrupt_status & VIRTIO_INTERRUPT_CONFIG);
	/* Served no more, whatever comes. */
	virtio_notify(g->dev, 0);
	virtio_notify(g->dev, 1);
	assert_int_equal(g->dev->faults, before + 1);
}

static void test_bad_chains(void **state)
{
	struct disk_guest *g = *state;

	for (enum bad bad = 0; bad < BADS; bad++) {
		uint64_t before = g->dev->faults;

		disk_guest_boot(g, DISK_FEATURES);
		make(g, bad);
		virtio_notify(g->dev, 0);
		if (g->dev->faults != before + 1)
			fail_msg("case %d: %u faults", (int)bad,
				 (unsigned)(g->dev->faults - before));
		check_fault(g, before);
		check_good(g);
	}
}

/* The same with requests of both queues in flight: they end, then the reset does. */
static void test_bad_chains_under_load(void **state)
{
	struct disk_guest *g = *state;
	struct vseg in = {VDRIVER_HIGH_GPA, 4096, VSEG_IN};

	for (enum bad bad = 0; bad < BADS; bad++) {
		uint64_t before = g->dev->faults;
		struct vring *r = &g->drv.ring[0];

		disk_guest_boot(g, DISK_FEATURES);
		block_faults_set(BLOCK_FAULT_RESULT, 4096, 0, 6);
		block_faults.hold = true;
		/* Heads that make() does not use. */
		for (unsigned i = 0; i < 4; i++)
			r->taken[i] = true;
		for (unsigned i = 0; i < 3; i++) {
			disk_guest_add(g, 0, VIRTIO_BLK_T_IN, 0, 1, &in);
			disk_guest_add(g, 1, VIRTIO_BLK_T_IN, 0, 1, &in);
		}
		virtio_notify(g->dev, 0);
		virtio_notify(g->dev, 1);
		make(g, bad);
		virtio_notify(g->dev, 0);
		check_fault(g, before);
		virtio_set_status(g->dev, 0, 0);
		assert_true(g->dev->resetting);
		block_faults.hold = false;
		for (unsigned i = 0; i < 50 && g->dev->resetting; i++)
			block_faults_turn(g->loop, 1000000);
		assert_false(g->dev->resetting);
		check_good(g);
	}
}

/* A queue that is taken away and set up again while its requests are in flight. */
static void test_ready_again(void **state)
{
	struct disk_guest *g = *state;
	struct vseg in = {VDRIVER_HIGH_GPA, 512, VSEG_IN};
	uint16_t used;

	disk_guest_boot(g, DISK_FEATURES);
	block_faults_set(BLOCK_FAULT_RESULT, 512, 0, 2);
	block_faults.hold = true;
	disk_guest_add(g, 0, VIRTIO_BLK_T_IN, 0, 1, &in);
	disk_guest_add(g, 0, VIRTIO_BLK_T_IN, 0, 1, &in);
	virtio_notify(g->dev, 0);
	virtio_set_ready(g->dev, 0, false);
	used = *g->drv.ring[0].used_idx;
	virtio_set_ready(g->dev, 0, true);
	assert_true(g->dev->status & VIRTIO_STATUS_NEEDS_RESET);
	block_faults.hold = false;
	block_faults_turn(g->loop, 0);
	disk_guest_settle(g, 50);
	assert_int_equal(*g->drv.ring[0].used_idx, used);
	check_good(g);
}

/* Everything overlaps: header, data, status, and the rings. Nobody is hurt but the guest. */
static void test_overlaps(void **state)
{
	struct disk_guest *g = *state;

	for (unsigned k = 0; k < 6; k++) {
		struct parts p;
		uint64_t at;

		disk_guest_boot(g, DISK_FEATURES);
		p = lay_out(g);
		at = (uint64_t[]){p.header,	  p.status,	 p.r->desc_gpa,
				  p.r->avail_gpa, p.r->used_gpa, 0}[k];
		p.r->desc[1].addr = ALIGN_DOWN(at, 4ull);
		p.r->desc[1].len = 512;
		p.r->desc[2].addr = at + 1;
		vring_offer(p.r, 0);
		virtio_notify(g->dev, 0);
		disk_guest_settle(g, 50);
		virtio_notify(g->dev, 0);
		virtio_notify(g->dev, 1);
		disk_guest_settle(g, 50);
	}
	check_good(g);
}

/* A reset at each step of a request's life, and of bringing the device up. */
static void test_reset_at_each_step(void **state)
{
	struct disk_guest *g = *state;
	struct vseg out = {VDRIVER_HIGH_GPA, 8192, VSEG_OUT};

	for (unsigned step = 0; step < 12; step++) {
		for (unsigned status = 0; status < 16; status += 3)
			virtio_set_status(g->dev, (uint8_t)status, 0);
		disk_guest_boot(g, DISK_FEATURES & ~(1ull << VIRTIO_BLK_F_FLUSH));
		block_faults_set(BLOCK_FAULT_SHORT, 1024, 0, 1000);
		disk_guest_add(g, 0, VIRTIO_BLK_T_OUT, 0, 1, &out);
		disk_guest_add(g, 1, VIRTIO_BLK_T_FLUSH, 0, 0, NULL);
		virtio_notify(g->dev, 0);
		virtio_notify(g->dev, 1);
		for (unsigned i = 0; i < step; i++)
			loop_turn(g->loop, 1000000);
		virtio_set_status(g->dev, 0, 0);
		virtio_set_status(g->dev, 15, DISK_FEATURES);
		virtio_notify(g->dev, 0);
		for (unsigned i = 0; i < 200 && g->dev->resetting; i++)
			loop_turn(g->loop, 1000000);
		assert_false(g->dev->resetting);
		block_faults_set(BLOCK_FAULT_NONE, 0, 0, 0);
		check_good(g);
	}
}

/* Requests that are answered at once, without end: a turn takes its share and comes again. */
static void test_no_end(void **state)
{
	struct disk_guest *g = *state;
	struct parts p;
	uint64_t taken;

	disk_guest_boot(g, DISK_FEATURES);
	p = lay_out(g);
	/* An unknown type; the head comes back at once, so that it may stand in every slot. */
	*(uint8_t *)vdriver_ptr(&g->drv, p.header, 1) = 99;
	for (unsigned i = 0; i < p.r->size; i++)
		vring_offer(p.r, 0);
	virtio_notify(g->dev, 0);
	taken = virtio_blk_stats(g->blk).completions;
	assert_in_range(taken, 1, VIRTQ_MAX_SIZE);
	/* Refilled behind its back, as another vCPU would. */
	for (unsigned i = 0; i < p.r->size; i++)
		vring_offer(p.r, 0);
	loop_turn(g->loop, 0);
	assert_in_range(virtio_blk_stats(g->blk).completions, taken, taken + VIRTQ_MAX_SIZE);
	disk_guest_settle(g, 100);
	assert_int_equal(virtio_blk_stats(g->blk).completions, 2 * p.r->size);
	assert_int_equal(g->dev->faults, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_bad_chains, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_bad_chains_under_load, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_ready_again, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_overlaps, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_reset_at_each_step, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_no_end, set_up, tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
