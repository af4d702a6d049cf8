/* Kernel frames of aarch64, on a stack made by hand. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "arch/arch.h"

#define TEXT  UINT64_C(0xffff800080000000) /* functions of 0x100 bytes each */
#define FUNCS 16u
#define STACK UINT64_C(0xffff800082340000)
#define WORDS 256u
#define PAC   UINT64_C(0x0055000000000000) /* a signature: above the address, bit 55 left alone */

static uint64_t stack[WORDS];

static int stack_read(const void *arg, uint64_t gva, void *dst, size_t len)
{
	(void)arg;
	if (gva < STACK || gva - STACK > sizeof(stack) || len > sizeof(stack) - (gva - STACK))
		return -EFAULT;
	memcpy(dst, (uint8_t *)stack + (gva - STACK), len);
	return 0;
}

static uint64_t text_function(const void *arg, uint64_t gva)
{
	(void)arg;
	return gva >= TEXT && gva < TEXT + FUNCS * 0x100 ? gva & ~UINT64_C(0xff) : 0;
}

static bool no_table(const void *arg, uint64_t gva, struct arch_unwind_table *ret_table)
{
	(void)arg;
	(void)gva;
	(void)ret_table;
	return false;
}

static struct arch_unwind_kernel kernel = {
	.read = stack_read,
	.function = text_function,
	.table = no_table,
	.release = 0x060c,
	.va_bits = 48,
};

static int setup(void **state)
{
	(void)state;
	memset(stack, 0, sizeof(stack));
	kernel.release = 0x060c;
	return 0;
}

static uint64_t slot(unsigned word)
{
	return STACK + 8 * (uint64_t)word;
}

static uint64_t func(unsigned i, unsigned offset)
{
	return TEXT + 0x100 * (uint64_t)i + offset;
}

static void record(unsigned word, uint64_t fp, uint64_t lr)
{
	stack[word] = fp;
	stack[word + 1] = lr;
}

static void records_are_followed_to_the_end(void **state)
{
	struct arch_unwind u = {.pc = func(1, 0x20), .sp = slot(2), .fp = slot(4), .exact = true};
	enum arch_unwind_by by;

	(void)state;
	record(4, slot(10), func(2, 8));
	record(10, slot(20), func(3, 12) ^ PAC);
	record(20, 0, 0);
	stack[22] = 2; /* only later kernels say something there */
	/* x30 leads back into the function itself: it has called something. */
	u.extra[0] = func(1, 0x1c);
	u.extra_known = true;
	assert_int_equal(arch_unwind_next(&u, &kernel, &by), 1);
	assert_int_equal(by, ARCH_BY_FRAME_RECORD);
	assert_true(u.pc == func(2, 8) && u.sp == slot(6) && u.fp == slot(10) && !u.exact);
	assert_int_equal(arch_unwind_next(&u, &kernel, &by), 1);
	assert_true(u.pc == func(3, 12) && u.fp == slot(20));
	assert_int_equal(arch_unwind_next(&u, &kernel, &by), 0);
	/* Threads without a user part may end at x29 = 0. */
	u.fp = 0;
	assert_int_equal(arch_unwind_next(&u, &kernel, &by), 0);
}

static void a_function_without_a_record_has_x30(void **state)
{
	struct arch_unwind u = {.pc = func(1, 4),
				.sp = slot(2),
				.fp = slot(4),
				.extra = {func(2, 0x10) ^ PAC},
				.extra_known = true,
				.exact = true};
	struct arch_unwind early = u;
	enum arch_unwind_by by;

	(void)state;
	record(4, slot(10), func(3, 8));
	assert_int_equal(arch_unwind_next(&u, &kernel, &by), 1);
	assert_int_equal(by, ARCH_BY_LINK_REGISTER);
	assert_true(u.pc == func(2, 0x10) && u.fp == slot(4) && !u.exact);
	assert_int_equal(arch_unwind_next(&u, &kernel, &by), 1);
	assert_int_equal(by, ARCH_BY_FRAME_RECORD);
	assert_true(u.pc == func(3, 8));
	/* Between making the record and its first call, both say the same. */
	record(4, slot(10), func(2, 0x10));
	assert_int_equal(arch_unwind_next(&early, &kernel, &by), 1);
	assert_int_equal(by, ARCH_BY_FRAME_RECORD);
	assert_true(early.pc == func(2, 0x10) && early.fp == slot(10));
}

/* struct pt_regs ends with the record that x29 points to. */
static void exceptions_of_6_13_have_registers(void **state)
{
	struct arch_unwind u = {.pc = func(1, 0x20), .sp = slot(2), .fp = slot(40)};
	enum arch_unwind_by by;

	(void)state;
	kernel.release = 0x060d;
	record(40, 0, 0);
	stack[42] = 2;
	stack[40 - 37 + 29] = slot(60);
	stack[40 - 37 + 30] = func(5, 8);
	stack[40 - 37 + 32] = func(4, 0);
	assert_int_equal(arch_unwind_next(&u, &kernel, &by), 1);
	assert_true(u.pc == func(4, 0) && u.fp == slot(60) && u.exact);
	/* That was at its first instruction. */
	record(60, 0, 0);
	stack[62] = 1;
	assert_int_equal(arch_unwind_next(&u, &kernel, &by), 1);
	assert_int_equal(by, ARCH_BY_LINK_REGISTER);
	assert_true(u.pc == func(5, 8));
	assert_int_equal(arch_unwind_next(&u, &kernel, &by), 0);
}

static void hostile_records_do_no_harm(void **state)
{
	(void)state;
	srand(1);
	for (unsigned round = 0; round < 200000; round++) {
		struct arch_unwind u = {
			.pc = func((unsigned)rand() % FUNCS, (unsigned)rand() & 0xff),
			.fp = slot((unsigned)rand() % WORDS) + (rand() % 8 ? 0 : 3),
			.extra = {func((unsigned)rand() % FUNCS, 0)},
			.extra_known = rand() & 1,
			.exact = rand() & 1,
		};
		struct arch_unwind before = u;
		enum arch_unwind_by by;
		unsigned at = (unsigned)rand() % WORDS;
		int r;

		stack[at] = rand() & 1 ? func((unsigned)rand() % FUNCS, 3) : (uint64_t)rand() % 3;
		kernel.release = rand() & 1 ? 0x060c : 0x0610;
		r = arch_unwind_next(&u, &kernel, &by);
		if (r > 0)
			assert_true(text_function(NULL, u.pc - 1) || text_function(NULL, u.pc));
		else
			assert_memory_equal(&u, &before, sizeof(u));
	}
	/* Places that wrap, that nothing is at. */
	for (uint64_t fp = UINT64_MAX - 31; fp; fp++) {
		struct arch_unwind u = {.pc = func(1, 1), .fp = fp};
		enum arch_unwind_by by;

		assert_int_equal(arch_unwind_next(&u, &kernel, &by), -ENOENT);
	}
}

static void calls_are_told_from_other_code(void **state)
{
	static const struct {
		uint32_t insn;
		bool is_call;
	} all[] = {
		{0x94000010, true},  /* bl */
		{0xd63f0100, true},  /* blr x8 */
		{0xd73f0a11, true},  /* blraa x16, x17 */
		{0x14000010, false}, /* b */
		{0xd65f03c0, false}, /* ret */
		{0xd503201f, false}, /* nop */
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(all); i++) {
		uint8_t code[ARCH_CALL_BYTES] = {0};

		memcpy(code + 4, &all[i].insn, 4);
		assert_int_equal(arch_unwind_after_call(code), all[i].is_call);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(records_are_followed_to_the_end, setup),
		cmocka_unit_test_setup(a_function_without_a_record_has_x30, setup),
		cmocka_unit_test_setup(exceptions_of_6_13_have_registers, setup),
		cmocka_unit_test_setup(hostile_records_do_no_harm, setup),
		cmocka_unit_test(calls_are_told_from_other_code),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
