/* User stacks of aarch64, by their frame records: true ones, tagged and signed ones, and ones that
 * lie. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "arch/aarch64/walk.h"
#include "base/util.h"
#include "inspect/glimpse.h"

/* RAM: four tables, then a page of code and two of stack, at user addresses of their own. */
#define RAM_BYTES 0x10000u
#define CODE_GPA  0x8000u
#define STACK_GPA 0x9000u
#define CODE	  UINT64_C(0x0000aaaab0a00000)
#define STACK	  UINT64_C(0x0000fffff7ffe000) /* the last but one of its 2 MiB */
#define TCR	  16u			       /* 48 bits, 4 KiB pages */
#define TAG	  (UINT64_C(0x9c) << 56)
#define SIGNATURE UINT64_C(0x0055000000000000)
#define BL	  0x94000010u

static uint8_t ram[RAM_BYTES];
static uint64_t words;

static int read_ram(const void *arg, uint64_t gpa, void *dst, uint64_t len)
{
	(void)arg;
	words += (len + 7) / 8;
	if (gpa > RAM_BYTES || len > RAM_BYTES - gpa)
		return -EFAULT;
	memcpy(dst, ram + gpa, len);
	return 0;
}

static const struct guest_reader mem = {.read = read_ram};
static struct arch_paging user;

static void put(uint64_t gpa, uint64_t value)
{
	memcpy(ram + gpa, &value, sizeof(value));
}

static uint64_t next_table;

static void map(uint64_t gva, uint64_t gpa)
{
	uint64_t table = user.root_gpa;

	for (unsigned shift = 39; shift >= 12; shift -= 9) {
		uint64_t at = table + 8 * (gva >> shift & 511), entry;

		memcpy(&entry, ram + at, sizeof(entry));
		if (shift == 12) {
			put(at, gpa | 3);
			return;
		}
		if (!entry) {
			entry = next_table | 3;
			next_table += 0x1000;
			put(at, entry);
		}
		table = entry & ~UINT64_C(0xfff);
	}
}

static int setup(void **state)
{
	(void)state;
	memset(ram, 0, sizeof(ram));
	next_table = 0x1000;
	if (user_paging_of(0, TCR, &user) < 0)
		return -1;
	map(CODE, CODE_GPA);
	map(STACK, STACK_GPA);
	map(STACK + 0x1000, STACK_GPA + 0x1000);
	return 0;
}

/* A call whose way back is at that offset of the code. */
static uint64_t call(unsigned offset)
{
	const uint32_t insn = BL;

	memcpy(ram + CODE_GPA + offset - 4, &insn, sizeof(insn));
	return CODE + offset;
}

static uint64_t slot(unsigned word)
{
	return STACK + 8 * (uint64_t)word;
}

static void record(unsigned word, uint64_t fp, uint64_t lr)
{
	put(STACK_GPA + 8 * word, fp);
	put(STACK_GPA + 8 * (word + 1), lr);
}

static struct glimpse look(uint64_t sp, uint64_t fp)
{
	const struct glimpse_at at = {.registers = {.pc = CODE + 0x40, .sp = sp, .fp = fp},
				      .user = &user};
	struct glimpse g = {0};

	words = 0;
	glimpse_look(NULL, &mem, &at, &g);
	assert_true(g.frame[0] == CODE + 0x40);
	assert_true(words <= GLIMPSE_WORDS_MAX);
	assert_in_range(g.count, 1, GLIMPSE_USER);
	return g;
}

static void records_are_followed_over_pages(void **state)
{
	uint64_t first = call(0x100), second = call(0x200), third = call(0x300);
	struct glimpse g;

	(void)state;
	record(4, slot(510), first);
	record(510, slot(520), second);
	record(520, 0, third);
	g = look(slot(0), slot(4));
	assert_int_equal(g.count, 4);
	assert_true(g.frame[1] == first && g.frame[2] == second && g.frame[3] == third);
	assert_false(g.has_task);
	/* The end of the chain, as a thread's first function has it. */
	record(520, 0, 0);
	assert_int_equal(look(slot(0), slot(4)).count, 3);
}

static void tags_and_signatures_are_not_in_the_way(void **state)
{
	uint64_t first = call(0x100), second = call(0x200);
	struct glimpse g;

	(void)state;
	record(4, slot(10) | TAG, first ^ SIGNATURE);
	record(10, 0, second ^ SIGNATURE ^ TAG);
	g = look(slot(0) | TAG, slot(4) | TAG);
	assert_int_equal(g.count, 3);
	assert_true(g.frame[1] == first && g.frame[2] == second);
}

static void only_what_follows_a_call_is_a_caller(void **state)
{
	uint64_t first = call(0x100);

	(void)state;
	record(4, slot(10), first);
	record(10, slot(20), CODE + 0x200);
	assert_int_equal(look(slot(0), slot(4)).count, 2);
	/* Not where nothing is mapped, before all code, or the kernel's half. */
	record(10, slot(20), CODE + 0x10000);
	assert_int_equal(look(slot(0), slot(4)).count, 2);
	record(10, slot(20), 4);
	assert_int_equal(look(slot(0), slot(4)).count, 2);
	record(10, slot(20), first | UINT64_MAX << 48);
	assert_int_equal(look(slot(0), slot(4)).count, 2);
}

static void chains_that_lie_end(void **state)
{
	const uint64_t to[] = {slot(4),	   slot(3),	   slot(10) + 1,  0,
			       UINT64_MAX, UINT64_MAX - 7, STACK + MIB(2)};
	uint64_t first = call(0x100);
	unsigned seed = 11;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(to); i++) {
		record(4, to[i], first);
		assert_int_equal(look(slot(0), slot(4)).count, 2);
	}
	/* Below the stack pointer there is no frame. */
	record(4, slot(10), first);
	assert_int_equal(look(slot(6), slot(4)).count, 1);
	for (unsigned i = 0; i < 200; i++)
		record(2 * i, slot(2 * i + 2), first);
	assert_int_equal(look(slot(0), slot(0)).count, GLIMPSE_USER);
	/* Tables and stacks of anything. */
	for (unsigned round = 0; round < 20000; round++) {
		ram[(unsigned)rand_r(&seed) % sizeof(ram)] = (uint8_t)rand_r(&seed);
		look(slot((unsigned)rand_r(&seed) % 64), slot((unsigned)rand_r(&seed) % 64));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(records_are_followed_over_pages, setup),
		cmocka_unit_test_setup(tags_and_signatures_are_not_in_the_way, setup),
		cmocka_unit_test_setup(only_what_follows_a_call_is_a_caller, setup),
		cmocka_unit_test_setup(chains_that_lie_end, setup),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
