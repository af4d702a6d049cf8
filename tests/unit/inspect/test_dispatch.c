/* Dispatch queues of the tiny kernel: all of them, in kernels old and new, and in memory that lies.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/util.h"
#include "inspect/dispatch.h"
#include "queues_fake.h"

static struct kernel_fake fake;
static struct inspect *in;
static struct dispatch dispatch;
static struct dispatch_queue queue[DISPATCH_QUEUES_MAX];
static bool cut;

static int set_up(void **state)
{
	struct lacks lacks = {0};

	(void)state;
	in = queues_fake_open(&fake);
	dispatch_find(in, &lacks, &dispatch);
	return (int)lacks.count;
}

static int tear_down(void **state)
{
	(void)state;
	inspect_free(in);
	return 0;
}

static unsigned look(void)
{
	return dispatch_look(&dispatch, queue, ARRAY_SIZE(queue), &cut);
}

static void is_all(unsigned n)
{
	static const unsigned ids[] = {0, 2, 7, 9, 11};

	assert_int_equal(n, 5);
	assert_false(cut);
	for (unsigned i = 0; i < n; i++) {
		assert_int_equal(queue[i].id, ids[i]);
		assert_int_equal(queue[i].tasks, FAKE_TASKS(i));
		assert_int_equal(queue[i].global, i < 2);
	}
}

static void all_queues_are_found(void **state)
{
	(void)state;
	is_all(look());
	/* What is found once is read anew. */
	kernel_fake_put(&fake, FAKE_DSQ(3) + DSQ_NR, 99, 4);
	kernel_fake_put(&fake, FAKE_DSQ_NODES, 0, 8);
	assert_int_equal(look(), 4);
	assert_int_equal(queue[2].tasks, 99);
}

static void a_scheduler_may_have_its_own(void **state)
{
	struct lacks lacks = {0};

	(void)state;
	queues_fake_move(in, "dsq_hash", 0);
	queues_fake_move(in, "global_dsqs", 0);
	memcpy(fake.ram + FAKE_SCHED_GPA + SCHED_HASH, &(uint64_t){FAKE_DSQ_TABLE}, 8);
	memcpy(fake.ram + FAKE_SCHED_GPA + SCHED_GLOBAL, &(uint64_t){FAKE_DSQ_NODES}, 8);
	dispatch_find(in, &lacks, &dispatch);
	assert_int_equal(lacks.count, 0);
	is_all(look());
	/* It has ended. */
	kernel_fake_put(&fake, FAKE_SCX_ROOT, 0, 8);
	assert_int_equal(look(), 0);
	assert_false(cut);
}

static void a_kernel_may_have_none(void **state)
{
	struct lacks lacks = {0};

	(void)state;
	queues_fake_move(in, "dsq_hash", 0);
	queues_fake_move(in, "scx_root", 0);
	dispatch_find(in, &lacks, &dispatch);
	assert_int_equal(lacks.count, 1);
	assert_string_equal(lacks.what[0], "scx_dispatch_q");
	assert_int_equal(look(), 0);
	/* Without sched_ext nothing is lacking. */
	queues_fake_move(in, "ext_sched_class", 0);
	lacks = (struct lacks){0};
	dispatch_find(in, &lacks, &dispatch);
	assert_int_equal(lacks.count, 0);
	assert_int_equal(look(), 0);
	assert_false(cut);
}

static void more_than_asked_for_is_cut(void **state)
{
	(void)state;
	assert_int_equal(dispatch_look(&dispatch, queue, 3, &cut), 3);
	assert_true(cut);
	assert_int_equal(queue[2].id, 7);
}

static void a_loop_ends(void **state)
{
	(void)state;
	kernel_fake_put(&fake, FAKE_DSQ(3) + DSQ_NODE, FAKE_DSQ(2) + DSQ_NODE, 8);
	assert_int_equal(look(), DISPATCH_QUEUES_MAX);
	assert_true(cut);
}

static void a_table_may_lie(void **state)
{
	(void)state;
	kernel_fake_put(&fake, FAKE_DSQ_TABLE + TABLE_SIZE, UINT32_MAX, 4);
	assert_int_equal(look(), 2);
	assert_true(cut);
	kernel_fake_put(&fake, FAKE_DSQ_TABLE + TABLE_SIZE, 4, 4);
	kernel_fake_put(&fake, FAKE_DSQ_TABLE + TABLE_NEST, 1, 4);
	assert_int_equal(look(), 2);
	assert_true(cut);
	kernel_fake_put(&fake, FAKE_DSQ_TABLE + TABLE_NEST, 0, 4);
	/* Links and tables that lead nowhere, or behind the last address. */
	kernel_fake_put(&fake, FAKE_DSQ(2) + DSQ_NODE, UINT64_C(0x1000), 8);
	assert_true(look() <= 5);
	kernel_fake_put(&fake, FAKE_DSQ_TABLE + TABLE_BUCKETS, UINT64_MAX - 7, 8);
	assert_true(look() <= 5);
	kernel_fake_put(&fake, FAKE_DSQ_HASH, UINT64_MAX - 16, 8);
	assert_int_equal(look(), 2);
	kernel_fake_put(&fake, FAKE_DSQ_HASH, 0, 8);
	assert_int_equal(look(), 2);
	kernel_fake_put(&fake, FAKE_DSQ_GLOBAL, UINT64_C(0xffff000000000000), 8);
	kernel_fake_put(&fake, FAKE_NODES, UINT32_MAX, 4);
	assert_int_equal(look(), 0);
}

static void anything_at_all_ends(void **state)
{
	uint32_t seed = 1;

	(void)state;
	for (unsigned round = 0; round < 3000; round++) {
		for (unsigned n = 0; n < 8; n++) {
			seed = seed * 1664525u + 1013904223u;
			kernel_fake_put(&fake, FAKE_DSQ_HASH + (seed >> 8) % 0x280,
					seed % 3 ? seed >> 12 : FAKE_DSQ(n % 5) + DSQ_NODE,
					seed % 5 ? 1 : 8);
		}
		assert_true(look() <= DISPATCH_QUEUES_MAX);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(all_queues_are_found, set_up, tear_down),
		cmocka_unit_test_setup_teardown(a_scheduler_may_have_its_own, set_up, tear_down),
		cmocka_unit_test_setup_teardown(a_kernel_may_have_none, set_up, tear_down),
		cmocka_unit_test_setup_teardown(more_than_asked_for_is_cut, set_up, tear_down),
		cmocka_unit_test_setup_teardown(a_loop_ends, set_up, tear_down),
		cmocka_unit_test_setup_teardown(a_table_may_lie, set_up, tear_down),
		cmocka_unit_test_setup_teardown(anything_at_all_ends, set_up, tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
