/* The split ring with a driver that keeps the rules: order, indices that wrap, suppression of
 * notifications and interrupts. test_virtq_hostile.c has the one that doesn't. */
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include <cmocka.h>

#include "vdriver.h"

static struct vdriver drv;
static struct virtq q;
static struct vring r;

static void fresh(uint16_t size)
{
	vdriver_done(&drv);
	vdriver_init(&drv);
	q = (struct virtq){.mem = &drv.mem, .max_size = VIRTQ_MAX_SIZE, .indirect = true};
	vring_init(&r, &drv, &q, size);
	assert_int_equal(virtq_start(&q), 0);
}

/* Moves both rings to an index, as if that much had passed. */
static void wind(uint16_t to)
{
	*r.avail_idx = *r.used_idx = r.last_used = to;
	*r.used_event = to;
	q.next_avail = q.next_used = q.signalled = to;
}

static void check_sizes(void **state)
{
	(void)state;
	fresh(8);
	for (unsigned size = 0; size <= 1024; size++) {
		bool power = size && !(size & (size - 1));

		q.size = (uint16_t)size;
		assert_int_equal(virtq_check(&q), power && size <= 256 ? 0 : -EINVAL);
	}
	q.size = 8;
	q.max_size = 4;
	assert_int_equal(virtq_check(&q), -EINVAL);
	q.max_size = 8;
	assert_int_equal(virtq_check(&q), 0);
}

static void check_alignment(void **state)
{
	(void)state;
	fresh(8);
	for (unsigned i = 0; i < 32; i++) {
		q.desc_gpa = 0x8000 + i;
		q.avail_gpa = 0x9000;
		q.used_gpa = 0xa000;
		assert_int_equal(virtq_check(&q), i % 16 ? -EINVAL : 0);
		q.desc_gpa = 0x8000;
		q.avail_gpa = 0x9000 + i;
		assert_int_equal(virtq_check(&q), i % 2 ? -EINVAL : 0);
		q.avail_gpa = 0x9000;
		q.used_gpa = 0xa000 + i;
		assert_int_equal(virtq_check(&q), i % 4 ? -EINVAL : 0);
	}
}

static void check_one_area(uint64_t *area, uint64_t bytes, uint64_t align)
{
	uint64_t good = *area, room = ALIGN_UP(bytes, align);
	static const uint64_t ends[] = {VDRIVER_LOW_SIZE, VDRIVER_HIGH_GPA + VDRIVER_HIGH_SIZE};

	for (size_t i = 0; i < ARRAY_SIZE(ends); i++) {
		*area = ends[i] - room;
		assert_int_equal(virtq_check(&q), 0);
		*area = ends[i] - room + align;
		assert_int_equal(virtq_check(&q), -EFAULT);
	}
	*area = VDRIVER_HIGH_GPA - align;
	assert_int_equal(virtq_check(&q), -EFAULT);
	*area = ALIGN_DOWN(UINT64_MAX, align);
	assert_int_equal(virtq_check(&q), -EFAULT);
	assert_int_equal(virtq_start(&q), -EFAULT);
	*area = good;
}

static void check_areas_are_in_memory(void **state)
{
	(void)state;
	fresh(16);
	check_one_area(&q.desc_gpa, 16 * 16, 16);
	check_one_area(&q.avail_gpa, 6 + 2 * 16, 2);
	check_one_area(&q.used_gpa, 6 + 8 * 16, 4);
}

static void chains_in_and_out(void **state)
{
	struct virtq_chain c;
	uint32_t id, written;

	(void)state;
	fresh(8);
	assert_int_equal(virtq_pop(&q, &c), 0);
	uint64_t hello = vdriver_bytes(&drv, "hello", 5), room = vdriver_alloc(&drv, 100, 1);
	uint16_t head = vring_add(&r, 3,
				  (struct vseg[]){{hello, 5, VSEG_OUT},
						  {room, 60, VSEG_IN},
						  {room + 60, 40, VSEG_IN}});

	assert_int_equal(virtq_pop(&q, &c), 1);
	assert_int_equal(c.head, head);
	assert_int_equal(c.out, 1);
	assert_int_equal(c.in, 2);
	assert_int_equal(c.out_bytes, 5);
	assert_int_equal(c.in_bytes, 100);
	assert_memory_equal(c.iov[0].iov_base, "hello", 5);
	assert_ptr_equal(c.iov[1].iov_base, vdriver_ptr(&drv, room, 1));
	assert_int_equal(c.iov[2].iov_len, 40);
	assert_int_equal(q.in_flight, 1);
	assert_false(vring_used(&r, NULL, NULL));
	assert_int_equal(virtq_pop(&q, &c), 0);

	virtq_push(&q, head, 77);
	assert_int_equal(q.in_flight, 0);
	assert_true(vring_used(&r, &id, &written));
	assert_int_equal(id, head);
	assert_int_equal(written, 77);
	assert_false(vring_used(&r, NULL, NULL));
}

static void completion_in_any_order(void **state)
{
	struct virtq_chain c;
	uint16_t head[8];
	uint32_t id;

	(void)state;
	fresh(8);
	uint64_t buf = vdriver_alloc(&drv, 1, 1);
	for (unsigned i = 0; i < 8; i++)
		head[i] = vring_add(&r, 1, (struct vseg[]){{buf, 1, VSEG_IN}});
	for (unsigned i = 0; i < 8; i++) {
		assert_int_equal(virtq_pop(&q, &c), 1);
		assert_int_equal(c.head, head[i]);
	}
	assert_int_equal(virtq_pop(&q, &c), 0);
	for (unsigned i = 0; i < 8; i++)
		virtq_push(&q, head[(i * 3 + 1) % 8], i);
	for (unsigned i = 0; i < 8; i++) {
		uint32_t written;

		assert_true(vring_used(&r, &id, &written));
		assert_int_equal(id, head[(i * 3 + 1) % 8]);
		assert_int_equal(written, i);
	}
}

static void unpop_gives_it_again(void **state)
{
	struct virtq_chain c, again;

	(void)state;
	fresh(4);
	uint64_t buf = vdriver_alloc(&drv, 9, 1);
	wind(0xffff);
	vring_add(&r, 2, (struct vseg[]){{buf, 9, VSEG_OUT}, {buf, 9, VSEG_IN}});
	assert_int_equal(virtq_pop(&q, &c), 1);
	virtq_unpop(&q);
	assert_int_equal(q.in_flight, 0);
	assert_int_equal(virtq_pop(&q, &again), 1);
	assert_int_equal(again.head, c.head);
	assert_int_equal(again.out + again.in, 2);
	virtq_push(&q, again.head, 0);
	assert_int_equal(virtq_pop(&q, &c), 0);
}

/* 200,000 chains through a small ring: the 16-bit indices wrap three times, and every interrupt
 * that Linux waits for comes. */
static void indices_wrap(void **state)
{
	struct virtq_chain c;

	(void)state;
	for (int event_idx = 0; event_idx < 2; event_idx++) {
		fresh(4);
		q.event_idx = event_idx;
		uint64_t buf = vdriver_alloc(&drv, 1, 1);
		for (uint32_t i = 0; i < 200000; i++) {
			uint32_t written;
			uint16_t old = *r.avail_idx;

			vring_add(&r, 1, (struct vseg[]){{buf, 1, VSEG_IN}});
			assert_true(vring_wants_kick(&r, old, *r.avail_idx));
			assert_int_equal(virtq_pop(&q, &c), 1);
			virtq_push(&q, c.head, i);
			assert_true(virtq_wants_signal(&q));
			assert_false(virtq_wants_signal(&q));
			assert_true(vring_used(&r, NULL, &written));
			assert_int_equal(written, i);
			assert_int_equal(virtq_pop(&q, &c), 0);
		}
		assert_int_equal(*r.used_idx, 200000 & 0xffff);
	}
}

static void a_full_ring_across_the_wrap(void **state)
{
	struct virtq_chain c;

	(void)state;
	for (uint32_t at = 0xfffc; at <= 0x10004; at++) {
		fresh(4);
		wind((uint16_t)at);
		uint64_t buf = vdriver_alloc(&drv, 1, 1);
		uint16_t head[4];

		for (unsigned i = 0; i < 4; i++)
			head[i] = vring_add(&r, 1, (struct vseg[]){{buf, 1, VSEG_IN}});
		for (unsigned i = 0; i < 4; i++) {
			assert_int_equal(virtq_pop(&q, &c), 1);
			assert_int_equal(c.head, head[i]);
		}
		assert_int_equal(virtq_pop(&q, &c), 0);
		for (unsigned i = 0; i < 4; i++) {
			uint32_t id;

			virtq_push(&q, head[i], 0);
			assert_true(vring_used(&r, &id, NULL));
			assert_int_equal(id, head[i]);
		}
		assert_int_equal(*r.used_idx, (uint16_t)(at + 4));
	}
}

static void indirect_tables(void **state)
{
	struct virtq_chain c;

	(void)state;
	fresh(4);
	uint64_t buf = vdriver_alloc(&drv, 64, 1);
	struct vseg segs[4] = {{buf, 1, VSEG_OUT},
			       {buf + 1, 2, VSEG_OUT},
			       {buf + 3, 3, VSEG_IN},
			       {buf, 4, VSEG_IN}};

	/* As many segments as the queue has entries. */
	uint16_t head = vring_add_indirect(&r, 4, segs);
	assert_int_equal(virtq_pop(&q, &c), 1);
	assert_int_equal(c.head, head);
	assert_int_equal(c.out, 2);
	assert_int_equal(c.in, 2);
	assert_int_equal(c.out_bytes, 3);
	assert_int_equal(c.in_bytes, 7);
	virtq_push(&q, head, 0);

	/* The table may lie at any address, WRITE on its descriptor means nothing, and only what
	 * the chain uses of it counts. */
	uint64_t odd = vdriver_alloc(&drv, 100 * 16 + 1, 16) + 1;
	struct vdesc far = {buf, 5, VDESC_NEXT, 99}, last = {buf, 6, VDESC_WRITE, 7};
	memcpy(vdriver_ptr(&drv, odd, 16), &far, 16);
	memcpy(vdriver_ptr(&drv, odd + 99 * 16, 16), &last, 16);
	r.desc[2] = (struct vdesc){odd, 1600, VDESC_INDIRECT | VDESC_WRITE, 0xffff};
	vring_offer(&r, 2);
	assert_int_equal(virtq_pop(&q, &c), 1);
	assert_int_equal(c.out_bytes, 5);
	assert_int_equal(c.in_bytes, 6);
	virtq_push(&q, 2, 0);

	/* Plain descriptors, then one indirect table (2.7.5.3.2). */
	uint64_t table = vdriver_alloc(&drv, 16, 16);
	*(struct vdesc *)vdriver_ptr(&drv, table, 16) = (struct vdesc){buf, 8, VDESC_WRITE, 0};
	r.desc[0] = (struct vdesc){buf, 7, VDESC_NEXT, 3};
	r.desc[3] = (struct vdesc){table, 16, VDESC_INDIRECT, 0};
	vring_offer(&r, 0);
	assert_int_equal(virtq_pop(&q, &c), 1);
	assert_int_equal(c.out_bytes, 7);
	assert_int_equal(c.in_bytes, 8);
}

static void empty_and_overlapping_segments(void **state)
{
	struct virtq_chain c;

	(void)state;
	fresh(8);
	uint64_t buf = vdriver_alloc(&drv, 8, 1);
	vring_add(&r, 5,
		  (struct vseg[]){{UINT64_MAX, 0, VSEG_OUT},
				  {buf, 8, VSEG_OUT},
				  {VDRIVER_LOW_SIZE, 0, VSEG_OUT},
				  {buf, 8, VSEG_IN},
				  {buf + 1, 0, VSEG_IN}});
	assert_int_equal(virtq_pop(&q, &c), 1);
	assert_int_equal(c.out, 1);
	assert_int_equal(c.in, 1);
	assert_ptr_equal(c.iov[0].iov_base, c.iov[1].iov_base);
	virtq_push(&q, c.head, 0);
	assert_true(vring_used(&r, NULL, NULL));

	vring_add(&r, 1, (struct vseg[]){{buf, 0, VSEG_IN}});
	assert_int_equal(virtq_pop(&q, &c), 1);
	assert_int_equal(c.out + c.in, 0);
	assert_int_equal(c.in_bytes + c.out_bytes, 0);
}

static void notifications_off_while_chains_come(void **state)
{
	struct virtq_chain c;

	(void)state;
	fresh(4);
	uint64_t buf = vdriver_alloc(&drv, 1, 1);
	struct vseg seg[1] = {{buf, 1, VSEG_IN}};

	vring_add(&r, 1, seg);
	vring_add(&r, 1, seg);
	assert_int_equal(virtq_pop(&q, &c), 1);
	assert_int_equal(*r.used_flags, 1);
	assert_int_equal(virtq_pop(&q, &c), 1);
	assert_int_equal(virtq_pop(&q, &c), 0);
	assert_int_equal(*r.used_flags, 0);

	/* With the event index the flags stay 0 and avail_event says where we are. */
	fresh(4);
	q.event_idx = true;
	wind(0xfffe);
	for (unsigned i = 0; i < 4; i++)
		vring_add(&r, 1, seg);
	for (unsigned i = 0; i < 4; i++)
		assert_int_equal(virtq_pop(&q, &c), 1);
	assert_int_equal(*r.avail_event, 0);
	assert_false(vring_wants_kick(&r, 1, 2));
	assert_int_equal(virtq_pop(&q, &c), 0);
	assert_int_equal(*r.used_flags, 0);
	assert_int_equal(*r.avail_event, 2);
	assert_true(vring_wants_kick(&r, 2, 3));
}

static uint8_t *used_page;

/* The driver's turn, at the instant of the device's store: it offers a chain, and sees the old
 * wish, so that it does not notify. */
static void offer_at_the_store(int signo)
{
	(void)signo;
	mprotect(used_page, 4096, PROT_READ | PROT_WRITE);
	vring_offer(&r, 1);
}

/* A chain that comes between the first look and the store that asks for notifications is found
 * by the second look. The store is caught by write protection. */
static void a_chain_in_the_last_instant(void **state)
{
	struct sigaction act = {.sa_handler = offer_at_the_store}, before;
	struct virtq_chain c;

	(void)state;
	for (int event_idx = 0; event_idx < 2; event_idx++) {
		fresh(4);
		q.event_idx = event_idx;
		q.used_gpa = vdriver_alloc(&drv, 4096, 4096);
		used_page = vdriver_ptr(&drv, q.used_gpa, 4096);
		uint64_t buf = vdriver_alloc(&drv, 4096, 4096);
		r.desc[1] = (struct vdesc){buf, 1, VDESC_WRITE, 0};
		r.desc[0] = r.desc[1];
		vring_offer(&r, 0);
		assert_int_equal(virtq_pop(&q, &c), 1);

		sigaction(SIGSEGV, &act, &before);
		mprotect(used_page, 4096, PROT_READ);
		int rc = virtq_pop(&q, &c);
		sigaction(SIGSEGV, &before, NULL);
		assert_int_equal(rc, 1);
		assert_int_equal(c.head, 1);
		assert_int_equal(*r.avail_idx, 2);
	}
}

static void no_interrupt_flag(void **state)
{
	struct virtq_chain c;

	(void)state;
	fresh(4);
	uint64_t buf = vdriver_alloc(&drv, 1, 1);
	assert_false(virtq_wants_signal(&q));
	for (unsigned i = 0; i < 4; i++) {
		*r.avail_flags = i & 1;
		vring_add(&r, 1, (struct vseg[]){{buf, 1, VSEG_IN}});
		assert_int_equal(virtq_pop(&q, &c), 1);
		virtq_push(&q, c.head, 0);
		assert_int_equal(virtq_wants_signal(&q), !(i & 1));
		assert_true(vring_used(&r, NULL, NULL));
	}
}

/* Every batch from 1 to 4 pushes, from starts around the wrap, against every used_event near it:
 * a signal is due if and only if one of the pushed entries is the one at used_event. */
static void used_event_at_all_boundaries(void **state)
{
	struct virtq_chain c;

	(void)state;
	fresh(4);
	q.event_idx = true;
	uint64_t buf = vdriver_alloc(&drv, 1, 1);
	static const uint16_t starts[] = {0,	  1,	  2,	  5,	  0x7ffe,
					  0x7fff, 0x8000, 0xfffc, 0xfffe, 0xffff};
	for (size_t s = 0; s < ARRAY_SIZE(starts); s++) {
		for (unsigned batch = 1; batch <= 4; batch++) {
			for (int delta = -6; delta <= 6; delta++) {
				bool due = delta >= 0 && delta < (int)batch;

				wind(starts[s]);
				for (unsigned i = 0; i < batch; i++) {
					vring_add(&r, 1, (struct vseg[]){{buf, 1, VSEG_IN}});
					assert_int_equal(virtq_pop(&q, &c), 1);
					virtq_push(&q, c.head, 0);
				}
				*r.used_event = (uint16_t)(starts[s] + delta);
				assert_int_equal(virtq_wants_signal(&q), due);
				assert_false(virtq_wants_signal(&q));
				for (unsigned i = 0; i < batch; i++)
					assert_true(vring_used(&r, NULL, NULL));
			}
		}
	}
}

/* 65,536 pushes without a look at the driver's wish: whatever it is, it is told. */
static void a_whole_round_without_looking(void **state)
{
	struct virtq_chain c;

	(void)state;
	fresh(4);
	q.event_idx = true;
	uint64_t buf = vdriver_alloc(&drv, 1, 1);
	for (uint32_t i = 0; i < 65536; i++) {
		vring_add(&r, 1, (struct vseg[]){{buf, 1, VSEG_IN}});
		assert_int_equal(virtq_pop(&q, &c), 1);
		virtq_push(&q, c.head, 0);
		assert_true(vring_used(&r, NULL, NULL));
	}
	assert_int_equal(q.next_used, 0);
	*r.used_event = 0x1234;
	assert_true(virtq_wants_signal(&q));
	assert_false(virtq_wants_signal(&q));
}

static void taken_away_and_given_back(void **state)
{
	struct virtq_chain c;

	(void)state;
	fresh(4);
	uint64_t buf = vdriver_alloc(&drv, 1, 1);
	vring_add(&r, 1, (struct vseg[]){{buf, 1, VSEG_IN}});
	assert_int_equal(virtq_pop(&q, &c), 1);
	q.ready = false;
	struct virtq_chain none;
	assert_int_equal(virtq_pop(&q, &none), 0);
	assert_int_equal(virtq_start(&q), -EBUSY);
	virtq_push(&q, c.head, 1); /* late: dropped */
	assert_int_equal(*r.used_idx, 0);
	assert_false(virtq_wants_signal(&q));
	assert_int_equal(q.in_flight, 0);
	assert_int_equal(virtq_start(&q), 0);
	assert_int_equal(virtq_pop(&q, &c), 1);

	virtq_reset(&q);
	assert_false(q.ready);
	assert_int_equal(q.in_flight, 0);
	assert_int_equal(q.max_size, VIRTQ_MAX_SIZE);
	assert_int_equal(virtq_check(&q), -EINVAL);
	vring_init(&r, &drv, &q, 4);
	assert_int_equal(virtq_start(&q), 0);
	vring_offer(&r, c.head);
	r.desc[c.head] = (struct vdesc){buf, 1, 0, 0};
	assert_int_equal(virtq_pop(&q, &c), 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(check_sizes),
		cmocka_unit_test(check_alignment),
		cmocka_unit_test(check_areas_are_in_memory),
		cmocka_unit_test(chains_in_and_out),
		cmocka_unit_test(completion_in_any_order),
		cmocka_unit_test(unpop_gives_it_again),
		cmocka_unit_test(indices_wrap),
		cmocka_unit_test(a_full_ring_across_the_wrap),
		cmocka_unit_test(indirect_tables),
		cmocka_unit_test(empty_and_overlapping_segments),
		cmocka_unit_test(notifications_off_while_chains_come),
		cmocka_unit_test(a_chain_in_the_last_instant),
		cmocka_unit_test(no_interrupt_flag),
		cmocka_unit_test(used_event_at_all_boundaries),
		cmocka_unit_test(a_whole_round_without_looking),
		cmocka_unit_test(taken_away_and_given_back),
	};
	int failed = cmocka_run_group_tests(tests, NULL, NULL);

	vdriver_done(&drv);
	return failed;
}
