/* The split ring with a driver that breaks every rule there is. Nothing may be read or written
 * outside of guest memory, nothing may go on for ever, and the device hears of it. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "vdriver.h"

#define SIZE 8

static struct vdriver drv;
static struct virtq q;
static struct vring r;
static uint64_t buf;

static void fresh(void)
{
	vdriver_done(&drv);
	vdriver_init(&drv);
	q = (struct virtq){.mem = &drv.mem, .max_size = VIRTQ_MAX_SIZE, .indirect = true};
	vring_init(&r, &drv, &q, SIZE);
	assert_int_equal(virtq_start(&q), 0);
	buf = vdriver_alloc(&drv, KIB(4), 1);
}

/* Offers head 0 and expects this answer, with nothing taken if it is a refusal. */
static void expect(int answer)
{
	struct virtq_chain c;

	vring_offer(&r, 0);
	assert_int_equal(virtq_pop(&q, &c), answer);
	if (answer < 0) {
		assert_int_equal(q.in_flight, 0);
		assert_int_equal(*r.used_idx, 0);
	}
}

static void index_jumps(void **state)
{
	struct virtq_chain c;

	(void)state;
	for (uint32_t jump = 0; jump <= 0xffff; jump++) {
		fresh();
		for (unsigned i = 0; i < SIZE; i++) {
			r.avail_ring[i] = (uint16_t)i;
			r.desc[i] = (struct vdesc){buf, 1, 0, 0};
		}
		*r.avail_idx = (uint16_t)jump;
		assert_int_equal(virtq_pop(&q, &c), !jump ? 0 : jump <= SIZE ? 1 : -EINVAL);
		if (jump == SIZE + 4)
			jump = 0xfff0;
	}
	/* Backwards, after some have been taken. */
	fresh();
	r.desc[0] = (struct vdesc){buf, 1, 0, 0};
	vring_offer(&r, 0);
	assert_int_equal(virtq_pop(&q, &c), 1);
	*r.avail_idx = 0;
	assert_int_equal(virtq_pop(&q, &c), -EINVAL);
}

static void heads_past_the_table(void **state)
{
	struct virtq_chain c;
	static const uint16_t heads[] = {SIZE, SIZE + 1, 255, 256, 0x7fff, 0xffff};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(heads); i++) {
		fresh();
		vring_offer(&r, heads[i]);
		assert_int_equal(virtq_pop(&q, &c), -EINVAL);
	}
}

static void a_head_twice(void **state)
{
	struct virtq_chain c;

	(void)state;
	fresh();
	r.desc[0] = (struct vdesc){buf, 1, 0, 0};
	vring_offer(&r, 0);
	vring_offer(&r, 0);
	assert_int_equal(virtq_pop(&q, &c), 1);
	assert_int_equal(virtq_pop(&q, &c), -EINVAL);
	/* Once it is back it may come again. */
	virtq_push(&q, 0, 0);
	assert_int_equal(virtq_pop(&q, &c), 1);
}

static void loops(void **state)
{
	(void)state;
	for (uint16_t period = 1; period <= SIZE; period++) {
		fresh();
		for (uint16_t i = 0; i < SIZE; i++)
			r.desc[i] =
				(struct vdesc){buf, 1, VDESC_NEXT, (uint16_t)((i + 1) % period)};
		expect(-ELOOP);
		/* Of empty segments, which add no iovec. */
		fresh();
		for (uint16_t i = 0; i < SIZE; i++)
			r.desc[i] =
				(struct vdesc){buf, 0, VDESC_NEXT, (uint16_t)((i + 1) % period)};
		expect(-ELOOP);
	}
}

static void next_past_the_table(void **state)
{
	static const uint16_t next[] = {SIZE, 255, 256, 0x8000, 0xffff};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(next); i++) {
		fresh();
		r.desc[0] = (struct vdesc){buf, 1, VDESC_NEXT, next[i]};
		expect(-EINVAL);
	}
	/* Without NEXT it means nothing. */
	fresh();
	r.desc[0] = (struct vdesc){buf, 1, 0, 0xffff};
	expect(1);
}

static void segments_outside_of_memory(void **state)
{
	const uint64_t top = VDRIVER_HIGH_GPA + VDRIVER_HIGH_SIZE;
	const struct {
		uint64_t addr;
		uint32_t len;
		int answer;
	} cases[] = {
		{VDRIVER_LOW_SIZE - 1, 1, 1},
		{VDRIVER_LOW_SIZE - 1, 2, -EFAULT},
		{VDRIVER_LOW_SIZE, 1, -EFAULT},
		{VDRIVER_HIGH_GPA - 1, 1, -EFAULT},
		{VDRIVER_HIGH_GPA - 1, 2, -EFAULT},
		{VDRIVER_HIGH_GPA, 1, 1},
		{0, (uint32_t)VDRIVER_HIGH_GPA + 1, -EFAULT}, /* over the hole */
		{0, VDRIVER_LOW_SIZE, 1},
		{top - 1, 1, 1},
		{top - 1, 2, -EFAULT},
		{top, 1, -EFAULT},
		{buf, UINT32_MAX, -EFAULT},
		{UINT64_MAX, 1, -EFAULT},
		{UINT64_MAX, 2, -EFAULT},
		{UINT64_MAX - 15, 16, -EFAULT},
		{UINT64_MAX - UINT32_MAX, UINT32_MAX, -EFAULT},
		{1ull << 63, 1, -EFAULT},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		for (unsigned write = 0; write < 2; write++) {
			fresh();
			r.desc[0] = (struct vdesc){cases[i].addr, cases[i].len,
						   write ? VDESC_WRITE : 0, 0};
			expect(cases[i].answer);
		}
		/* As the last of a chain. */
		fresh();
		r.desc[0] = (struct vdesc){buf, 1, VDESC_NEXT, 5};
		r.desc[5] = (struct vdesc){cases[i].addr, cases[i].len, 0, 0};
		expect(cases[i].answer);
	}
}

static void readable_after_writable(void **state)
{
	(void)state;
	fresh();
	r.desc[0] = (struct vdesc){buf, 1, VDESC_NEXT | VDESC_WRITE, 1};
	r.desc[1] = (struct vdesc){buf, 1, 0, 0};
	expect(-EINVAL);

	/* Also across into an indirect table. */
	fresh();
	uint64_t table = vdriver_alloc(&drv, 16, 16);
	*(struct vdesc *)vdriver_ptr(&drv, table, 16) = (struct vdesc){buf, 1, 0, 0};
	r.desc[0] = (struct vdesc){buf, 1, VDESC_NEXT | VDESC_WRITE, 1};
	r.desc[1] = (struct vdesc){table, 16, VDESC_INDIRECT, 0};
	expect(-EINVAL);
}

/* A table of n entries in a row at a fresh place. */
static uint64_t table_of(unsigned n)
{
	uint64_t gpa = vdriver_alloc(&drv, 16ull * n, 16);
	struct vdesc *d = vdriver_ptr(&drv, gpa, 16ull * n);

	for (unsigned i = 0; i < n; i++)
		d[i] = (struct vdesc){buf, 1, i + 1 < n ? VDESC_NEXT : 0, (uint16_t)(i + 1)};
	return gpa;
}

static void bad_indirect_lengths(void **state)
{
	(void)state;
	for (uint32_t len = 0; len <= 4 * 16; len++) {
		fresh();
		r.desc[0] = (struct vdesc){table_of(1), len, VDESC_INDIRECT, 0};
		expect(len && len % 16 == 0 ? 1 : -EINVAL);
	}
	fresh();
	r.desc[0] = (struct vdesc){table_of(1), 0xfffffff0, VDESC_INDIRECT, 0};
	expect(-EFAULT);
	fresh();
	r.desc[0] = (struct vdesc){table_of(1), 0xffffffff, VDESC_INDIRECT, 0};
	expect(-EINVAL);
	fresh();
	r.desc[0] = (struct vdesc){VDRIVER_LOW_SIZE - 16, 32, VDESC_INDIRECT, 0};
	expect(-EFAULT);
	fresh();
	r.desc[0] = (struct vdesc){UINT64_MAX - 15, 16, VDESC_INDIRECT, 0};
	expect(-EFAULT);
}

static void indirect_misused(void **state)
{
	struct vdesc *d;

	(void)state;
	/* Not negotiated. */
	fresh();
	q.indirect = false;
	r.desc[0] = (struct vdesc){table_of(1), 16, VDESC_INDIRECT, 0};
	expect(-EINVAL);

	/* With NEXT. */
	fresh();
	r.desc[0] = (struct vdesc){table_of(1), 16, VDESC_INDIRECT | VDESC_NEXT, 1};
	r.desc[1] = (struct vdesc){buf, 1, 0, 0};
	expect(-EINVAL);

	/* Inside another, and inside itself. */
	fresh();
	uint64_t outer = table_of(1), inner = table_of(1);
	d = vdriver_ptr(&drv, outer, 16);
	*d = (struct vdesc){inner, 16, VDESC_INDIRECT, 0};
	r.desc[0] = (struct vdesc){outer, 16, VDESC_INDIRECT, 0};
	expect(-EINVAL);
	fresh();
	r.desc[0] = (struct vdesc){r.desc_gpa, 16, VDESC_INDIRECT, 0};
	expect(-EINVAL);

	/* Loops and jumps inside it. */
	fresh();
	uint64_t table = table_of(2);
	d = vdriver_ptr(&drv, table, 32);
	d[1].flags = VDESC_NEXT;
	d[1].next = 0;
	r.desc[0] = (struct vdesc){table, 32, VDESC_INDIRECT, 0};
	expect(-ELOOP);
	fresh();
	table = table_of(2);
	d = vdriver_ptr(&drv, table, 32);
	d[0].next = 2; /* within the queue's size, past this table */
	r.desc[0] = (struct vdesc){table, 32, VDESC_INDIRECT, 0};
	expect(-EINVAL);
}

static void longer_than_the_queue(void **state)
{
	(void)state;
	fresh();
	r.desc[0] = (struct vdesc){table_of(SIZE), 16 * SIZE, VDESC_INDIRECT, 0};
	expect(1);
	fresh();
	r.desc[0] = (struct vdesc){table_of(SIZE + 1), 16 * (SIZE + 1), VDESC_INDIRECT, 0};
	expect(-ELOOP);
	/* Plain and indirect ones together. */
	fresh();
	r.desc[0] = (struct vdesc){buf, 1, VDESC_NEXT, 1};
	r.desc[1] = (struct vdesc){table_of(SIZE - 1), 16 * (SIZE - 1), VDESC_INDIRECT, 0};
	expect(1);
	fresh();
	r.desc[0] = (struct vdesc){buf, 1, VDESC_NEXT, 1};
	r.desc[1] = (struct vdesc){table_of(SIZE), 16 * SIZE, VDESC_INDIRECT, 0};
	expect(-ELOOP);
}

static void the_largest_chain_fills_the_iovec(void **state)
{
	struct virtq_chain c;

	(void)state;
	fresh();
	vring_init(&r, &drv, &q, VIRTQ_MAX_SIZE);
	assert_int_equal(virtq_start(&q), 0);
	r.desc[0] =
		(struct vdesc){table_of(VIRTQ_MAX_SIZE), 16 * VIRTQ_MAX_SIZE, VDESC_INDIRECT, 0};
	vring_offer(&r, 0);
	assert_int_equal(virtq_pop(&q, &c), 1);
	assert_int_equal(c.out, VIRTQ_MAX_SIZE);
	r.desc[1] = (struct vdesc){table_of(300), 16 * 300, VDESC_INDIRECT, 0};
	vring_offer(&r, 1);
	assert_int_equal(virtq_pop(&q, &c), -ELOOP);
}

/* More than 4 GiB in one chain needs segments that overlap. */
static void more_than_4_gib(void **state)
{
	struct virtq_chain c;
	const unsigned most = VIRTQ_MAX_SIZE;
	const uint32_t len = (uint32_t)VDRIVER_LOW_SIZE;

	(void)state;
	fresh();
	/* 256 of 4 MiB are 1 GiB only: a larger memory for this one. */
	struct guest_memory big;
	const struct guest_layout layout = {.range = {{.gpa = 0, .size = MIB(64)}}, .count = 1};
	assert_int_equal(guest_memory_init(&big, &layout, NULL), 0);
	struct guest_memory small = drv.mem;
	drv.mem = big;
	vring_init(&r, &drv, &q, most);
	assert_int_equal(virtq_start(&q), 0);
	for (unsigned n = 64; n <= 65; n++) {
		for (unsigned i = 0; i < n; i++)
			r.desc[i] = (struct vdesc){0, 16 * len, i + 1 < n ? VDESC_NEXT : 0,
						   (uint16_t)(i + 1)};
		vring_offer(&r, 0);
		assert_int_equal(virtq_pop(&q, &c), n == 64 ? 1 : -EINVAL);
		if (n == 64) {
			assert_true(c.out_bytes == GIB(4));
			virtq_push(&q, 0, 0);
		}
	}
	drv.mem = small;
	guest_memory_done(&big);
}

/* All three areas in one place: the driver harms itself, and no byte beside them changes. */
static void rings_over_each_other(void **state)
{
	struct virtq_chain c;

	(void)state;
	for (uint16_t avail = 0; avail <= SIZE; avail++) {
		fresh();
		q.ready = false;
		q.desc_gpa = q.avail_gpa = q.used_gpa = ALIGN_UP(buf, 16) + 256;
		uint8_t *area = vdriver_ptr(&drv, q.desc_gpa - 256, 256 + 16 * SIZE + 256);
		memset(area, 0xa5, 256 + 16 * SIZE + 256);
		memset(area + 256, 0, 16 * SIZE);
		((uint16_t *)(area + 256))[1] = avail;
		assert_int_equal(virtq_start(&q), 0);
		for (unsigned i = 0; i < 100; i++) {
			int rc = virtq_pop(&q, &c);

			if (rc < 0)
				break;
			if (rc)
				virtq_push(&q, c.head, i);
			virtq_wants_signal(&q);
			assert_in_range(q.in_flight, 0, SIZE);
		}
		for (unsigned i = 0; i < 256; i++) {
			assert_int_equal(area[i], 0xa5);
			assert_int_equal(area[256 + 16 * SIZE + i], 0xa5);
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(index_jumps),
		cmocka_unit_test(heads_past_the_table),
		cmocka_unit_test(a_head_twice),
		cmocka_unit_test(loops),
		cmocka_unit_test(next_past_the_table),
		cmocka_unit_test(segments_outside_of_memory),
		cmocka_unit_test(readable_after_writable),
		cmocka_unit_test(bad_indirect_lengths),
		cmocka_unit_test(indirect_misused),
		cmocka_unit_test(longer_than_the_queue),
		cmocka_unit_test(the_largest_chain_fills_the_iovec),
		cmocka_unit_test(more_than_4_gib),
		cmocka_unit_test(rings_over_each_other),
	};
	int failed = cmocka_run_group_tests(tests, NULL, NULL);

	vdriver_done(&drv);
	return failed;
}
