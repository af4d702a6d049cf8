/* Watchpoints: their words, and which of them a debug exception is about. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "arch/aarch64/watch.h"

#define GVA   UINT64_C(0xffff800080001000)
#define WATCH 0xd2000022u /* ESR of a watchpoint from a lower level */
#define STEP  0xca000022u

static void watch_words(void **state)
{
	(void)state;
	assert_int_equal(watch_control(0xffff800080001000, 4), 0x1F7);
	assert_int_equal(watch_control(0xffff800080001004, 4), 0x1E17);
	assert_int_equal(watch_value(0xffff800080001004), 0xffff800080001000);
	assert_int_equal(watch_control(0x1000, 8), 0x1FF7);
	assert_int_equal(watch_control(0x1007, 1), 0x1017);
	assert_int_equal(watch_control(0x1002, 2), 0x197);
	assert_int_equal(watch_control(0x1006, 4), 0); /* over the block's end */
	assert_int_equal(watch_control(0x1000, 3), 0);
	assert_int_equal(watch_control(0x1000, 0), 0);
	assert_int_equal(ESR_CLASS(0xd2000022), 0x34);
	assert_int_equal(ESR_CLASS(0xca000022), ESR_CLASS_STEP_LOWER);
}

static const struct arch_watch watches[ARCH_WATCHES] = {
	{GVA, 4},
	{GVA + 4, 4}, /* in the same block */
	{GVA + 0x80, 8},
	{0, 0},
};

static uint32_t slots_at(uint64_t far)
{
	uint32_t slots = 99;

	assert_int_equal(watch_debug(WATCH, far, watches, &slots), ARCH_DEBUG_STORING);
	return slots;
}

/* The registers tell of blocks of 8 bytes. */
static void the_address_itself_says_which(void **state UNUSED)
{
	assert_int_equal(slots_at(GVA), 3);
	assert_int_equal(slots_at(GVA + 7), 3);
	assert_int_equal(slots_at(GVA + 0x80), 4);
	assert_int_equal(slots_at(GVA + 0x87), 4);
}

/* A wide store, by its first byte or any other. */
static void a_near_one_stands_for_it(void **state UNUSED)
{
	assert_int_equal(slots_at(GVA - 1), 3);
	assert_int_equal(slots_at(GVA - 64), 3);
	assert_int_equal(slots_at(GVA + 8), 3);
	assert_int_equal(slots_at(GVA + 0x3f), 3);
	assert_int_equal(slots_at(GVA + 0x40), 7);
	assert_int_equal(slots_at(GVA + 0x47), 7);
	assert_int_equal(slots_at(GVA + 0x48), 4);
	assert_int_equal(slots_at(GVA + 0x7f), 4);
	assert_int_equal(slots_at(GVA + 0xc7), 4);
}

static void a_far_one_is_nobodys(void **state UNUSED)
{
	assert_int_equal(slots_at(GVA - 65), 0);
	assert_int_equal(slots_at(GVA + 0xc8), 0);
	assert_int_equal(slots_at(0), 0); /* the slot that is not armed */
	assert_int_equal(slots_at(UINT64_MAX), 0);
}

static void the_address_space_has_ends(void **state UNUSED)
{
	static const struct arch_watch last[ARCH_WATCHES] = {{UINT64_MAX - 7, 8}};
	uint32_t slots;

	watch_debug(WATCH, UINT64_MAX, last, &slots);
	assert_int_equal(slots, 1);
	watch_debug(WATCH, UINT64_MAX - 71, last, &slots);
	assert_int_equal(slots, 1);
	watch_debug(WATCH, UINT64_MAX - 72, last, &slots);
	assert_int_equal(slots, 0);
}

static void other_exceptions_name_no_slot(void **state UNUSED)
{
	uint32_t slots = 99;

	assert_int_equal(watch_debug(STEP, GVA, watches, &slots), ARCH_DEBUG_STEPPED);
	assert_int_equal(slots, 0);
	slots = 99;
	assert_int_equal(watch_debug(0xf2000000, GVA, watches, &slots), ARCH_DEBUG_STORING);
	assert_int_equal(slots, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(watch_words),
		cmocka_unit_test(the_address_itself_says_which),
		cmocka_unit_test(a_near_one_stands_for_it),
		cmocka_unit_test(a_far_one_is_nobodys),
		cmocka_unit_test(the_address_space_has_ends),
		cmocka_unit_test(other_exceptions_name_no_slot),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
