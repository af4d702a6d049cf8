/* Watchpoints: their words, and which of them a debug exception is about. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "arch/aarch64/regs.h"
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

/* As GNU's assembler writes them. */
static void exclusive_stores(void **state UNUSED)
{
	static const struct {
		uint32_t insn;
		bool is;
		struct exclusive_insn want;
	} cases[] = {
		{0xc8037c40, true, {8, 3, 2, 0, 31, false}},   /* stxr w3, x0, [x2] */
		{0xc803fc40, true, {8, 3, 2, 0, 31, false}},   /* stlxr w3, x0, [x2] */
		{0x88037fff, true, {4, 3, 31, 31, 31, false}}, /* stxr w3, wzr, [sp] */
		{0x481e7c5d, true, {2, 30, 2, 29, 31, false}}, /* stxrh w30, w29, [x2] */
		{0x0803fc40, true, {1, 3, 2, 0, 31, false}},   /* stlxrb w3, w0, [x2] */
		{0xc85f7c40, false, {0}},		       /* ldxr x0, [x2] */
		{0xc8230440, true, {16, 3, 2, 0, 1, true}},    /* stxp w3, x0, x1, [x2] */
		{0xc823fc40, true, {16, 3, 2, 0, 31, true}},   /* stlxp w3, x0, xzr, [x2] */
		{0x88230440, true, {8, 3, 2, 0, 1, true}},     /* stxp w3, w0, w1, [x2] */
		{0xc87f0440, false, {0}},		       /* ldxp x0, x1, [x2] */
		{0x48207c41, false, {0}},		       /* casp x0, x1, x1, x2, [x2] */
		{0xc89ffc40, false, {0}},		       /* stlr x0, [x2] */
		{0xc8a07c41, false, {0}},		       /* cas x0, x1, [x2] */
		{0xf9000040, false, {0}},		       /* str x0, [x2] */
		{0xf8200041, false, {0}},		       /* ldadd x0, x1, [x2] */
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct exclusive_insn e = {0};

		assert_int_equal(exclusive_decode(cases[i].insn, &e), cases[i].is);
		assert_memory_equal(&e, &cases[i].want, sizeof(e));
	}
}

static const struct arch_watch watches[ARCH_WATCHES] = {
	{GVA, 4},
	{GVA + 4, 4}, /* in the same block */
	{GVA + 0x80, 8},
	{0, 0},
};

static bool is_one(uint32_t slots)
{
	return !(slots & (slots - 1));
}

static uint32_t slots_at(uint64_t far)
{
	uint32_t slots = 99, sure = 99;

	assert_int_equal(watch_debug(WATCH, far, watches, &slots, &sure), ARCH_DEBUG_STORING);
	assert_int_equal(sure, is_one(slots) ? slots : 0);
	return slots;
}

static void the_address_itself_says_which(void **state UNUSED)
{
	assert_int_equal(slots_at(GVA), 1);
	assert_int_equal(slots_at(GVA + 3), 1);
	assert_int_equal(slots_at(GVA + 4), 2);
	assert_int_equal(slots_at(GVA + 7), 2);
	assert_int_equal(slots_at(GVA + 0x80), 4);
	assert_int_equal(slots_at(GVA + 0x87), 4);
}

/* Of the address, the top byte may be a tag (ARM ARM D8.8, KASAN_SW_TAGS). */
static void a_tag_does_not_matter(void **state UNUSED)
{
	const uint64_t tag = UINT64_C(0x3a) << 56;

	assert_int_equal(slots_at((GVA + 4) ^ tag), 2);
	assert_int_equal(slots_at((GVA + 0xc7) ^ tag), 4);
	assert_int_equal(slots_at((GVA - 1) ^ tag), 3);
	assert_int_equal(slots_at((GVA + 0xc8) ^ tag), 7);
}

static void watches_of_one_address_are_all_meant(void **state UNUSED)
{
	static const struct arch_watch same[ARCH_WATCHES] = {{GVA, 8},
							     {GVA + 4, 4},
							     {GVA + 4, 2},
							     {GVA, 2}};
	uint32_t slots, sure;

	watch_debug(WATCH, GVA + 4, same, &slots, &sure);
	assert_int_equal(slots, 7);
	assert_int_equal(sure, 7);
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

/* One of them it is: the step has to be without it. */
static void a_far_one_is_any_of_them(void **state UNUSED)
{
	assert_int_equal(slots_at(GVA - 65), 7);
	assert_int_equal(slots_at(GVA + 0xc8), 7);
	assert_int_equal(slots_at(0), 7); /* where the slot is that is not armed */
	assert_int_equal(slots_at(UINT64_MAX), 7);
}

static void the_address_space_has_ends(void **state UNUSED)
{
	static const struct arch_watch two[ARCH_WATCHES] = {{UINT64_MAX - 7, 8}, {GVA, 8}};
	uint32_t slots, sure;

	watch_debug(WATCH, UINT64_MAX, two, &slots, &sure);
	assert_int_equal(slots, 1);
	watch_debug(WATCH, UINT64_MAX - 71, two, &slots, &sure);
	assert_int_equal(slots, 1);
	watch_debug(WATCH, 56, two, &slots, &sure); /* over its end */
	assert_int_equal(slots, 1);
	watch_debug(WATCH, UINT64_MAX - 72, two, &slots, &sure);
	assert_int_equal(slots, 3);
}

static void other_exceptions_name_no_slot(void **state UNUSED)
{
	static const struct {
		uint32_t esr;
		enum arch_debug is;
	} cases[] = {
		{STEP, ARCH_DEBUG_STEPPED},
		{0xf2000800, ARCH_DEBUG_GUEST},	  /* BRK #0x800, Linux's BUG and WARN */
		{0xe2000000, ARCH_DEBUG_GUEST},	  /* BKPT #0 of AArch32 */
		{0xc2000022, ARCH_DEBUG_STORING}, /* a hardware breakpoint: nobody set any */
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		uint32_t slots = 99, sure = 99;

		assert_int_equal(watch_debug(cases[i].esr, GVA, watches, &slots, &sure),
				 cases[i].is);
		assert_int_equal(slots, 0);
		assert_int_equal(sure, 0);
	}
}

/* What a breakpoint instruction makes of its vCPU. */
static void an_exception_is_taken_to_el1(void **state UNUSED)
{
	static const uint64_t vbar = UINT64_C(0xffff800080010800), span = 1u << 23,
			      dssbs = UINT64_C(1) << 44;

	assert_int_equal(exception_vector(vbar, 0x4), vbar);
	assert_int_equal(exception_vector(vbar, 0x600003c5), vbar + 0x200);
	assert_int_equal(exception_vector(vbar, 0x80001000), vbar + 0x400);
	assert_int_equal(exception_vector(vbar, 0x10), vbar + 0x600);
	/* EL1h, all masked; PAN unless SPAN; the conditions stay. */
	assert_int_equal(exception_pstate(0x60000005, span), 0x600003c5);
	assert_int_equal(exception_pstate(0x60000005, 0), 0x604003c5);
	assert_int_equal(exception_pstate(0xa0400005, span), 0xa04003c5);
	/* Step, IL, UAO, BTYPE and AArch32's end here; SSBS is as the system has it. */
	assert_int_equal(exception_pstate(0x00b00c10, span), 0x3c5);
	assert_int_equal(exception_pstate(0x1000, span), 0x3c5);
	assert_int_equal(exception_pstate(0, span | dssbs), 0x13c5);
	assert_int_equal(exception_pstate(0x03000000, span), 0x030003c5);
	assert_int_equal(REG_ELR_EL1, 0x6030000000100046);
	assert_int_equal(REG_SPSR_EL1, 0x6030000000100048);
	assert_int_equal(REG_SCTLR_EL1, 0x603000000013c080);
	assert_int_equal(REG_ESR_EL1, 0x603000000013c290);
	assert_int_equal(REG_VBAR_EL1, 0x603000000013c600);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(watch_words),
		cmocka_unit_test(exclusive_stores),
		cmocka_unit_test(the_address_itself_says_which),
		cmocka_unit_test(a_tag_does_not_matter),
		cmocka_unit_test(watches_of_one_address_are_all_meant),
		cmocka_unit_test(a_near_one_stands_for_it),
		cmocka_unit_test(a_far_one_is_any_of_them),
		cmocka_unit_test(the_address_space_has_ends),
		cmocka_unit_test(other_exceptions_name_no_slot),
		cmocka_unit_test(an_exception_is_taken_to_el1),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
