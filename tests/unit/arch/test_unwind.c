/* Kernel frames of x86_64: a stack and ORC tables made by hand, true ones and hostile ones. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "arch/arch.h"

#define TEXT   UINT64_C(0xffffffff81000000) /* functions of 0x100 bytes each */
#define FUNCS  16u
#define STACK  UINT64_C(0xffffc90000010000)
#define WORDS  256u
#define TABLES UINT64_C(0xffffffff82000000) /* places, and entries 0x1000 after them */
#define BPF    UINT64_C(0xffffffffc0000000) /* code that no table covers: 0x100 bytes */

enum { UNDEFINED, END, CALL, REGS, PARTIAL }; /* type */
enum { R_NONE, R_PREV_SP, R_DX, R_DI, R_BP, R_SP, R_R10, R_R13, R_BP_INDIRECT, R_SP_INDIRECT };

struct world {
	uint64_t stack[WORDS];
	int32_t place[FUNCS];
	uint8_t entry[FUNCS][6];
	uint8_t text[FUNCS * 0x100];
	unsigned count, reads;
};

static struct world world;

static bool in(uint64_t gva, size_t len, uint64_t start, size_t size)
{
	return gva >= start && gva - start <= size && len <= size - (gva - start);
}

static int world_read(const void *arg, uint64_t gva, void *dst, size_t len)
{
	struct world *w = (struct world *)(uintptr_t)arg;

	w->reads++;
	if (in(gva, len, STACK, sizeof(w->stack)))
		memcpy(dst, (uint8_t *)w->stack + (gva - STACK), len);
	else if (in(gva, len, TABLES, sizeof(w->place)))
		memcpy(dst, (uint8_t *)w->place + (gva - TABLES), len);
	else if (in(gva, len, TABLES + 0x1000, sizeof(w->entry)))
		memcpy(dst, (uint8_t *)w->entry + (gva - TABLES - 0x1000), len);
	else if (in(gva, len, TEXT, sizeof(w->text)))
		memcpy(dst, w->text + (gva - TEXT), len);
	else
		return -EFAULT;
	return 0;
}

static uint64_t world_function(const void *arg, uint64_t gva)
{
	(void)arg;
	if (in(gva, 1, TEXT, FUNCS * 0x100))
		return gva & ~UINT64_C(0xff);
	return in(gva, 1, BPF, 0x100) ? BPF : 0;
}

static bool world_table(const void *arg, uint64_t gva, struct arch_unwind_table *ret_table)
{
	const struct world *w = arg;

	if (!in(gva, 1, TEXT, FUNCS * 0x100) || !w->count)
		return false;
	*ret_table = (struct arch_unwind_table){TABLES, TABLES + 0x1000, w->count};
	return true;
}

static struct arch_unwind_kernel kernel = {
	.read = world_read,
	.function = world_function,
	.table = world_table,
	.arg = &world,
	.release = 0x060c,
	.va_bits = 48,
};

/* Function i's frame: the same from its first byte to its last. */
static void orc(unsigned i, unsigned type, bool signal, unsigned sp_reg, int16_t sp_offset,
		unsigned bp_reg, int16_t bp_offset)
{
	uint8_t *e = world.entry[i];

	memcpy(e, &sp_offset, 2);
	memcpy(e + 2, &bp_offset, 2);
	e[4] = (uint8_t)(sp_reg | bp_reg << 4);
	e[5] = (uint8_t)(type | signal << 3);
}

static int setup(void **state)
{
	(void)state;
	memset(&world, 0, sizeof(world));
	world.count = FUNCS;
	for (unsigned i = 0; i < FUNCS; i++)
		world.place[i] = (int32_t)(TEXT + 0x100 * i - (TABLES + 4 * i));
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

static int step(struct arch_unwind *u, enum arch_unwind_by *by)
{
	return arch_unwind_next(u, &kernel, by);
}

static void calls_are_followed_to_the_end(void **state)
{
	struct arch_unwind u = {.pc = func(1, 0x20), .sp = slot(4), .fp = 77, .exact = true};
	enum arch_unwind_by by;

	(void)state;
	orc(1, CALL, false, R_SP, 24, R_NONE, 0);
	orc(2, CALL, false, R_SP, 32, R_PREV_SP, -16);
	orc(3, CALL, false, R_BP, 16, R_PREV_SP, -16);
	orc(4, END, false, R_NONE, 0, R_NONE, 0);
	world.stack[6] = func(2, 0x44);
	world.stack[9] = slot(20);    /* function 3's rbp, which 2 pushed */
	world.stack[10] = func(4, 0); /* past its end: a call was the last thing in 3 */
	assert_int_equal(step(&u, &by), 1);
	assert_int_equal(by, ARCH_BY_ORC);
	assert_true(u.pc == func(2, 0x44) && u.sp == slot(7) && u.fp == 77 && !u.exact);
	assert_int_equal(step(&u, &by), 1);
	assert_true(u.pc == func(4, 0) && u.sp == slot(11) && u.fp == slot(20));
	world.stack[20] = 5;
	world.stack[21] = func(4, 0x30);
	assert_int_equal(step(&u, &by), 1);
	assert_true(u.pc == func(4, 0x30) && u.sp == slot(22) && u.fp == 5);
	assert_int_equal(step(&u, &by), 0);
}

static void interrupts_are_entered(void **state)
{
	struct arch_unwind u = {.pc = func(1, 9), .sp = slot(2), .fp = 1, .exact = true};
	enum arch_unwind_by by;

	(void)state;
	orc(1, REGS, true, R_SP, 8, R_NONE, 0);
	world.stack[3 + 4] = 0xb0; /* rbp */
	world.stack[3 + 7] = 0x10; /* r10 */
	world.stack[3 + 16] = func(2, 0);
	world.stack[3 + 17] = 0x10;
	world.stack[3 + 19] = slot(40);
	assert_int_equal(step(&u, &by), 1);
	assert_true(u.pc == func(2, 0) && u.sp == slot(40) && u.fp == 0xb0 && u.exact);
	assert_true(u.extra_known && u.extra[2] == 0x10);

	/* Only what the CPU pushes; then a stack that r10 leads to. */
	orc(2, PARTIAL, true, R_SP, 16, R_NONE, 0);
	world.stack[42] = func(3, 5);
	world.stack[43] = 0x10;
	world.stack[45] = slot(60);
	assert_int_equal(step(&u, &by), 1);
	assert_true(u.pc == func(3, 5) && u.sp == slot(60) && u.extra_known);
	orc(3, CALL, false, R_R10, 0, R_NONE, 0);
	u.extra[2] = slot(81);
	world.stack[80] = func(4, 7);
	assert_int_equal(step(&u, &by), 1);
	assert_true(u.pc == func(4, 7) && u.sp == slot(81) && !u.extra_known);

	/* … which after a call nobody knows. */
	orc(4, CALL, false, R_R10, 0, R_NONE, 0);
	assert_int_equal(step(&u, &by), -ENOENT);
	assert_true(u.pc == func(4, 7) && u.sp == slot(81));

	/* The interrupt stack's top has the way back to the task's. */
	orc(4, CALL, false, R_SP_INDIRECT, 8, R_NONE, 0);
	world.stack[81] = slot(8);
	world.stack[8] = func(5, 3);
	assert_int_equal(step(&u, &by), 1);
	assert_true(u.pc == func(5, 3) && u.sp == slot(9));

	/* User mode: that's all. */
	orc(5, REGS, true, R_SP, 0, R_NONE, 0);
	world.stack[9 + 16] = 0x7f0000001000;
	world.stack[9 + 17] = 0x33;
	assert_int_equal(step(&u, &by), 0);
}

static void kernels_before_6_4_number_otherwise(void **state)
{
	struct arch_unwind u = {.pc = func(1, 0x20), .sp = slot(4), .exact = true};
	enum arch_unwind_by by;

	(void)state;
	kernel.release = 0x0601;
	orc(1, 0, false, R_SP, 8, R_NONE, 0);
	world.stack[4] = func(2, 1);
	assert_int_equal(step(&u, &by), 1);
	assert_true(u.pc == func(2, 1));
	orc(2, 1, false, R_SP, 0, R_NONE, 0); /* registers */
	world.stack[5 + 16] = func(3, 1);
	world.stack[5 + 17] = 0x10;
	world.stack[5 + 19] = slot(50);
	assert_int_equal(step(&u, &by), 1);
	assert_true(u.pc == func(3, 1) && u.exact);
	orc(3, 0, false, R_NONE, 0, R_NONE, 0); /* unknown … */
	assert_int_equal(step(&u, &by), -ENOENT);
	orc(3, 4, false, R_NONE, 0, R_NONE, 0); /* … or the end */
	assert_int_equal(step(&u, &by), 0);
}

static void code_without_tables_has_frame_pointers(void **state)
{
	struct arch_unwind u = {.pc = BPF + 0x40, .sp = slot(4), .fp = slot(10), .exact = true};
	enum arch_unwind_by by;

	(void)state;
	world.stack[10] = slot(30);
	world.stack[11] = func(1, 0x11);
	assert_int_equal(step(&u, &by), 1);
	assert_int_equal(by, ARCH_BY_FRAME_POINTER);
	assert_true(u.pc == func(1, 0x11) && u.sp == slot(12) && u.fp == slot(30));

	/* At its first instruction it has none yet. */
	u = (struct arch_unwind){.pc = BPF, .sp = slot(4), .fp = slot(10), .exact = true};
	world.stack[4] = func(2, 0x22);
	assert_int_equal(step(&u, &by), 1);
	assert_true(u.pc == func(2, 0x22) && u.sp == slot(5) && u.fp == slot(10));

	/* A kernel of frame pointers only, in an interrupt. */
	world.count = 0;
	u = (struct arch_unwind){.pc = func(1, 8), .sp = slot(4), .fp = slot(40) | 1};
	world.stack[44] = slot(90);
	world.stack[40 + 16] = func(6, 6);
	world.stack[40 + 17] = 0x10;
	world.stack[40 + 19] = slot(80);
	assert_int_equal(step(&u, &by), 1);
	assert_true(u.pc == func(6, 6) && u.sp == slot(80) && u.fp == slot(90) && u.exact);
	/* What leads to no code is no frame. */
	world.stack[90] = slot(95);
	world.stack[91] = STACK;
	assert_int_equal(step(&u, &by), -ENOENT);
	assert_true(u.pc == func(6, 6) && u.fp == slot(90));
}

/* Whatever the tables say, a step reads little and leaves u alone where it fails. */
/* A call in function i that leads to gva; the address behind it. */
static uint64_t call(unsigned i, unsigned offset, uint64_t gva)
{
	int32_t distance = (int32_t)(gva - func(i, offset + 5));

	world.text[0x100 * i + offset] = 0xe8;
	memcpy(&world.text[0x100 * i + offset + 1], &distance, sizeof(distance));
	return func(i, offset + 5);
}

static void code_that_no_table_knows_is_left_by_its_call(void **state)
{
	const struct arch_unwind at = {.pc = func(3, 0x10), .sp = slot(4), .fp = 77, .exact = true};
	struct arch_unwind u = at;
	enum arch_unwind_by by;

	(void)state;
	orc(3, UNDEFINED, false, R_NONE, 0, R_NONE, 0);
	world.stack[4] = call(2, 0x40, func(3, 0));
	assert_int_equal(step(&u, &by), 1);
	assert_int_equal(by, ARCH_BY_CALL);
	assert_true(u.pc == func(2, 0x45) && u.sp == slot(5) && u.fp == 77 && !u.exact);

	/* A retpoline that has called itself on top, or put there where it goes. */
	world.stack[5] = world.stack[4];
	world.stack[4] = func(5, 0);
	u = at;
	assert_int_equal(step(&u, &by), 1);
	assert_true(u.pc == func(2, 0x45) && u.sp == slot(6));

	/* Farther down it may be anybody's. */
	world.stack[6] = world.stack[5];
	world.stack[5] = func(5, 0);
	u = at;
	assert_int_equal(step(&u, &by), -ENOENT);
	/* A call that leads elsewhere, no call, no code, no memory. */
	world.stack[4] = call(2, 0x60, func(5, 0));
	assert_int_equal(step(&u, &by), -ENOENT);
	world.stack[4] = func(2, 0x80);
	assert_int_equal(step(&u, &by), -ENOENT);
	world.stack[4] = 0;
	assert_int_equal(step(&u, &by), -ENOENT);
	u.sp = 8;
	assert_int_equal(step(&u, &by), -ENOENT);
	/* One that has returned does not say who called it. */
	u = at;
	u.exact = false;
	world.stack[4] = call(2, 0x40, func(3, 0));
	assert_int_equal(step(&u, &by), -ENOENT);
}

static void hostile_tables_do_no_harm(void **state)
{
	(void)state;
	srand(1);
	for (unsigned round = 0; round < 200000; round++) {
		struct arch_unwind u = {
			.pc = func((unsigned)rand() % FUNCS, (unsigned)rand() & 0xff),
			.sp = slot((unsigned)rand() % WORDS),
			.fp = rand() & 1 ? slot((unsigned)rand() % WORDS) : (uint64_t)rand(),
			.extra = {slot(3), UINT64_MAX, UINT64_MAX - 7, 0},
			.extra_known = rand() & 1,
			.exact = rand() & 1,
		};
		struct arch_unwind before = u;
		enum arch_unwind_by by;
		int r;

		if (round % 256 == 0)
			for (unsigned i = 0; i < WORDS; i++)
				world.stack[i] = rand() & 1 ? func((unsigned)rand() % FUNCS, 3)
							    : (uint64_t)rand() << 33;
		for (unsigned i = 0; i < 6; i++)
			world.entry[(unsigned)rand() % FUNCS][i] = (uint8_t)rand();
		if (round % 16 == 0)
			world.place[(unsigned)rand() % FUNCS] = (int32_t)((unsigned)rand() << 1);
		kernel.release = rand() & 1 ? 0x060c : 0x0601;
		world.reads = 0;
		r = step(&u, &by);
		assert_in_range(world.reads, 0, 16);
		if (r > 0)
			assert_true(world_function(NULL, u.exact ? u.pc : u.pc - 1) ||
				    world_function(NULL, u.pc));
		else
			assert_memory_equal(&u, &before, sizeof(u));
		if (r < 0)
			assert_int_equal(r, -ENOENT);
	}
}

static void calls_are_told_from_other_code(void **state)
{
	static const uint8_t calls[][8] = {
		{0x90, 0x90, 0x90, 0xe8, 1, 2, 3, 4},
		{0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0xff, 0xd0}, /* call *%rax */
		{0x90, 0x90, 0x90, 0x90, 0x90, 0xff, 0x50, 0x18}, /* call *0x18(%rax) */
		{0x90, 0x90, 0xff, 0x15, 1, 2, 3, 4},		  /* call *x(%rip) */
		{0x90, 0xff, 0x14, 0xc5, 1, 2, 3, 4},		  /* call *table(,%rax,8): 7 */
		{0x90, 0x90, 0x90, 0x90, 0xff, 0x54, 0x24, 0x10}, /* call *0x10(%rsp) */
		{0x90, 0xff, 0x94, 0xc0, 1, 2, 3, 4},
	};
	static const uint8_t others[][8] = {
		{0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90},
		{0x90, 0x90, 0x90, 0xe9, 1, 2, 3, 4},		  /* jmp */
		{0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0xff, 0xe0}, /* jmp *%rax */
		{0x90, 0x90, 0x90, 0x90, 0x90, 0xff, 0xd0, 0x90}, /* one byte late */
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(calls); i++)
		if (!arch_unwind_after_call(calls[i]))
			fail_msg("call %zu", i);
	for (size_t i = 0; i < ARRAY_SIZE(others); i++)
		if (arch_unwind_after_call(others[i]))
			fail_msg("no call %zu", i);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(calls_are_followed_to_the_end, setup),
		cmocka_unit_test_setup(interrupts_are_entered, setup),
		cmocka_unit_test_setup(kernels_before_6_4_number_otherwise, setup),
		cmocka_unit_test_setup(code_without_tables_has_frame_pointers, setup),
		cmocka_unit_test_setup(code_that_no_table_knows_is_left_by_its_call, setup),
		cmocka_unit_test_setup(hostile_tables_do_no_harm, setup),
		cmocka_unit_test(calls_are_told_from_other_code),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
