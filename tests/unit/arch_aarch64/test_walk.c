/* Page walks through tables that are built here, for every granule and width. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "arch/aarch64/walk.h"

#define RAM_BYTES MIB(4)

struct ram {
	uint8_t *bytes;
	uint64_t next; /* free page */
};

static int read_ram(const void *arg, uint64_t gpa, void *dst, uint64_t len)
{
	const struct ram *ram = arg;

	if (gpa > RAM_BYTES || len > RAM_BYTES - gpa)
		return -EFAULT;
	memcpy(dst, ram->bytes + gpa, len);
	return 0;
}

static uint64_t *at(struct ram *ram, uint64_t gpa)
{
	assert_true(gpa + 8 <= RAM_BYTES);
	return (uint64_t *)(void *)(ram->bytes + gpa);
}

static uint64_t new_table(struct ram *ram, unsigned page_shift)
{
	uint64_t gpa = ram->next;

	ram->next += UINT64_C(1) << page_shift;
	return gpa;
}

/* By the manual's figures, apart from what is tested: D8.3.1. */
static uint64_t encode(const struct arch_paging *p, uint64_t gpa, uint64_t bits)
{
	if (p->page_shift == 16)
		return (gpa & 0xffffffff0000) | (gpa >> 48 & 0xf) << 12 | bits;
	if (p->va_bits == 52)
		return (gpa & 0x3fffffffff000) | (gpa >> 50 & 3) << 8 | bits;
	return gpa | bits | 3 << 8 | 1 << 10 | UINT64_C(1) << 54; /* shareable, accessed, UXN */
}

static unsigned shift_of(const struct arch_paging *p, unsigned level)
{
	return p->page_shift + (p->page_shift - 3u) * (level - 1);
}

/* Maps gva at level (1: a page) to gpa. */
static void map(struct ram *ram, const struct arch_paging *p, uint64_t gva, unsigned level,
		uint64_t gpa)
{
	uint64_t table = p->root_gpa;

	for (unsigned l = p->levels; l; l--) {
		unsigned bits = l == p->levels ? p->va_bits - shift_of(p, l) : p->page_shift - 3u;
		uint64_t *entry =
			at(ram, table + 8 * (gva >> shift_of(p, l) & ((UINT64_C(1) << bits) - 1)));

		if (l == level) {
			*entry = encode(p, gpa, level == 1 ? 3 : 1);
			return;
		}
		if (!*entry)
			*entry = encode(p, new_table(ram, p->page_shift), 3);
		table = *entry & 0xfffffffff000 & ~((UINT64_C(1) << p->page_shift) - 1);
	}
}

static const struct kernel {
	uint64_t page, built_bits, t1sz; /* as VMCOREINFO has them */
	unsigned levels;
	unsigned block; /* highest level that holds blocks */
} kernels[] = {
	{KIB(4), 39, 25, 3, 3},	 {KIB(4), 48, 16, 4, 3},  {KIB(4), 52, 12, 5, 3},
	{KIB(4), 52, 16, 4, 3},	 {KIB(16), 47, 17, 3, 2}, {KIB(16), 48, 16, 4, 2},
	{KIB(16), 52, 12, 4, 2}, {KIB(64), 42, 22, 2, 2}, {KIB(64), 48, 16, 3, 2},
	{KIB(64), 52, 12, 3, 2},
};

static bool number(const void *arg, const char *key, uint64_t *ret_value)
{
	const struct kernel *k = arg;
	const struct {
		const char *key;
		uint64_t value;
	} lines[] = {
		{"SYMBOL(swapper_pg_dir)", 0xffff800081000000},
		{"NUMBER(kimage_voffset)", 0xffff800081000000 - 0x10000},
		{"NUMBER(VA_BITS)", k->built_bits},
		{"NUMBER(TCR_EL1_T1SZ)", k->t1sz},
		{"PAGESIZE", k->page},
	};

	for (size_t i = 0; i < ARRAY_SIZE(lines); i++) {
		if (strcmp(lines[i].key, key))
			continue;
		if (!lines[i].value)
			return false;
		*ret_value = lines[i].value;
		return true;
	}
	return false;
}

static void every_granule_and_width(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(kernels); i++) {
		const struct kernel *k = &kernels[i];
		const struct arch_kernel_info info = {.number = number, .arg = k};
		struct ram ram = {.bytes = calloc(1, RAM_BYTES), .next = 0x20000};
		struct guest_reader reader = {.read = read_ram, .arg = &ram};
		struct arch_paging p;
		uint64_t gpa, len, top, gva;

		assert_int_equal(arch_paging_kernel(&info, &p), 0);
		assert_int_equal(p.root_gpa, 0x10000);
		assert_int_equal(p.levels, k->levels);
		assert_int_equal(arch_paging_va_bits(&p), 64 - k->t1sz);
		top = UINT64_MAX << p.va_bits;

		gva = top | (UINT64_C(0x5a5a5a5a5a5a5a) & ~top & ~(k->page - 1));
		map(&ram, &p, gva, 1, 0x7654320000);
		assert_int_equal(arch_walk(&p, &reader, gva + 0x123, &gpa, &len), 0);
		assert_int_equal(gpa, 0x7654320123);
		assert_int_equal(len, k->page - 0x123);
		/* The next page is not mapped, nor is the other half. */
		assert_int_equal(arch_walk(&p, &reader, gva + k->page, &gpa, &len), -EFAULT);
		assert_int_equal(arch_walk(&p, &reader, gva & ~top, &gpa, &len), -EFAULT);

		for (unsigned level = 2; level <= k->block; level++) {
			uint64_t size = UINT64_C(1) << shift_of(&p, level);

			gva = top | (size * 2 & ~top);
			if (level == k->levels && gva == top)
				continue;
			memset(ram.bytes, 0, RAM_BYTES);
			map(&ram, &p, gva, level, size * 3);
			assert_int_equal(arch_walk(&p, &reader, gva + 0x54321, &gpa, &len), 0);
			assert_int_equal(gpa, size * 3 + 0x54321);
			assert_int_equal(len, size - 0x54321);
		}
		/* Blocks above are reserved, and so is a last level without its bit. */
		if (k->levels > k->block) {
			memset(ram.bytes, 0, RAM_BYTES);
			map(&ram, &p, top, k->block + 1, 0);
			assert_int_equal(arch_walk(&p, &reader, top, &gpa, &len), -EFAULT);
		}
		memset(ram.bytes, 0, RAM_BYTES);
		map(&ram, &p, top, 1, 0x7654320000);
		for (uint64_t e = 0; e < RAM_BYTES; e += 8)
			if ((*at(&ram, e) & ~UINT64_C(0x40000000000700)) == (0x7654320000 | 3))
				*at(&ram, e) &= ~UINT64_C(2);
		assert_int_equal(arch_walk(&p, &reader, top, &gpa, &len), -EFAULT);
		free(ram.bytes);
	}
}

static void addresses_of_52_bits(void **state)
{
	static const struct kernel wide[] = {{KIB(4), 52, 12, 5, 3}, {KIB(64), 52, 12, 3, 2}};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(wide); i++) {
		const struct arch_kernel_info info = {.number = number, .arg = &wide[i]};
		struct ram ram = {.bytes = calloc(1, RAM_BYTES), .next = 0x20000};
		struct guest_reader reader = {.read = read_ram, .arg = &ram};
		struct arch_paging p;
		uint64_t gpa, len, gva = UINT64_MAX << 52;

		assert_int_equal(arch_paging_kernel(&info, &p), 0);
		map(&ram, &p, gva, 1, 0xf000012340000);
		assert_int_equal(arch_walk(&p, &reader, gva, &gpa, &len), 0);
		assert_int_equal(gpa, 0xf000012340000);
		free(ram.bytes);
	}
}

/* As a vCPU has them: TCR_EL1.T1SZ 21:16, TG1 31:30 (1: 16 KiB, 2: 4 KiB, 3: 64 KiB). */
static void tables_by_registers(void **state)
{
	static const struct {
		uint64_t tcr;
		unsigned shift, va_bits, levels;
	} cases[] = {
		{UINT64_C(2) << 30 | 12 << 16, 12, 52, 5},
		{UINT64_C(2) << 30 | 16 << 16, 12, 48, 4},
		{UINT64_C(2) << 30 | 25 << 16, 12, 39, 3},
		{UINT64_C(1) << 30 | 17 << 16, 14, 47, 3},
		{UINT64_C(3) << 30 | 12 << 16, 16, 52, 3},
	};
	struct arch_paging p;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		assert_int_equal(paging_of(0x0042000041a79001, cases[i].tcr, &p), 0);
		assert_int_equal(p.root_gpa, 0x41a79000);
		assert_int_equal(p.page_shift, cases[i].shift);
		assert_int_equal(p.va_bits, cases[i].va_bits);
		assert_int_equal(p.levels, cases[i].levels);
	}
	assert_int_equal(paging_of(0x41a79000, 12 << 16, &p), -ENOENT);
	assert_int_equal(paging_of(0x41a79000, UINT64_C(2) << 30 | 40 << 16, &p), -ENOENT);
	assert_int_equal(paging_of(0x41a79000, 0, &p), -ENOENT); /* not set up */
}

/* TG0's codes are not TG1's; a register of a process has an ASID, too. */
static void registers_say_the_user_tables(void **state)
{
	static const struct {
		uint64_t tcr;
		unsigned shift, va_bits, levels;
	} cases[] = {
		{12, 12, 52, 5},
		{16, 12, 48, 4},
		{25, 12, 39, 3},
		{UINT64_C(2) << 14 | 17, 14, 47, 3},
		{UINT64_C(1) << 14 | 12, 16, 52, 3},
	};
	struct arch_paging p;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		/* What TTBR1 goes by is another. */
		uint64_t tcr = cases[i].tcr | UINT64_C(1) << 30 | 22 << 16;

		assert_int_equal(user_paging_of(0x0042000041a79001, tcr, &p), 0);
		assert_int_equal(p.root_gpa, 0x41a79000);
		assert_int_equal(p.page_shift, cases[i].shift);
		assert_int_equal(p.va_bits, cases[i].va_bits);
		assert_int_equal(p.levels, cases[i].levels);
		assert_true(p.user);
	}
	assert_int_equal(user_paging_of(0x41a79000, 16 | 1 << 7, &p), -ENOENT);
	assert_int_equal(user_paging_of(0x41a79000, 16 | 3 << 14, &p), -ENOENT);
	assert_int_equal(user_paging_of(0x41a79000, 0, &p), -ENOENT);
	assert_int_equal(user_paging_of(0x41a79000, 40, &p), -ENOENT);
}

static void user_pages_are_in_the_lower_half(void **state)
{
	static const uint64_t tcr[] = {16, 25, UINT64_C(2) << 14 | 17, UINT64_C(1) << 14 | 16};
	struct ram ram = {.bytes = calloc(1, RAM_BYTES), .next = 0x20000};
	const struct guest_reader mem = {.read = read_ram, .arg = &ram};
	struct arch_paging p, kernel;
	uint64_t gpa, len;

	(void)state;
	assert_non_null(ram.bytes);
	for (size_t i = 0; i < ARRAY_SIZE(tcr); i++) {
		uint64_t gva, size, root = ALIGN_UP(ram.next, KIB(64));

		ram.next = root + KIB(64);
		assert_int_equal(user_paging_of(root, tcr[i], &p), 0);
		size = UINT64_C(1) << p.page_shift;
		gva = (UINT64_C(1) << (p.va_bits - 1)) - 7 * size;
		map(&ram, &p, gva, 1, 0x3a0000);
		assert_int_equal(arch_walk(&p, &mem, gva + 0x123, &gpa, &len), 0);
		assert_true(gpa == 0x3a0123 && len == size - 0x123);
		/* A tag changes nothing; the other half, and what no table reaches, is not there.
		 */
		assert_int_equal(arch_walk(&p, &mem, gva | UINT64_C(0xa5) << 56, &gpa, &len), 0);
		assert_true(gpa == 0x3a0000);
		assert_int_equal(arch_walk(&p, &mem, gva | UINT64_C(1) << 55, &gpa, &len), -EFAULT);
		assert_int_equal(arch_walk(&p, &mem, gva | UINT64_MAX << p.va_bits, &gpa, &len),
				 -EFAULT);
		assert_int_equal(arch_walk(&p, &mem, gva | UINT64_C(1) << p.va_bits, &gpa, &len),
				 -EFAULT);
		assert_int_equal(arch_walk(&p, &mem, gva + size, &gpa, &len), -EFAULT);
		/* The same tables as a kernel's are of the other half only. */
		kernel = p;
		kernel.user = false;
		assert_int_equal(arch_walk(&kernel, &mem, gva, &gpa, &len), -EFAULT);
		assert_int_equal(arch_walk(&kernel, &mem, gva | UINT64_MAX << p.va_bits, &gpa,
					   &len),
				 0);
	}
	free(ram.bytes);
}

static void tags_and_signatures_come_off(void **state)
{
	const struct arch_paging p = {.va_bits = 48, .page_shift = 12, .levels = 4, .user = true};
	const uint64_t at = UINT64_C(0x0000aaaadeadbeec);

	(void)state;
	assert_true(arch_user_address(&p, at, false) == at);
	assert_true(arch_user_address(&p, at | UINT64_C(0xf3) << 56, false) == at);
	assert_true(arch_user_address(&p, at | UINT64_C(0x7f2a) << 48, true) == at);
	/* A place in memory has no signature. */
	assert_true(arch_user_address(&p, at | UINT64_C(0x2a) << 48, false) != at);
	/* What lies in the kernel's half stays there. */
	assert_true(arch_user_address(&p, UINT64_MAX - 3, true) == UINT64_MAX - 3);
	assert_true(arch_user_address(&p, UINT64_MAX - 3, false) == UINT64_MAX - 3);
}

/* 64 KiB pages for 52 bits on a CPU with 48: the top table's end is the whole table. */
static void a_wide_kernel_on_a_narrow_cpu(void **state)
{
	const struct kernel k = {KIB(64), 52, 16, 0, 0};
	const struct arch_kernel_info info = {.number = number, .arg = &k};
	struct arch_paging p;

	(void)state;
	assert_int_equal(arch_paging_kernel(&info, &p), 0);
	assert_int_equal(p.root_gpa, 0x10000 + 960 * 8);
	assert_int_equal(p.levels, 3);
}

static void lies_are_refused(void **state)
{
	static const struct kernel lies[] = {
		{KIB(8), 48, 16, 0, 0}, {KIB(4), 48, 65, 0, 0}, {KIB(4), 48, 2, 0, 0},
		{0, 48, 16, 0, 0},	{KIB(4), 0, 16, 0, 0},	{KIB(4), 48, 60, 0, 0},
	};
	struct arch_paging p;
	struct ram ram = {.bytes = calloc(1, RAM_BYTES)};
	struct guest_reader reader = {.read = read_ram, .arg = &ram};
	uint64_t gpa, len;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(lies); i++) {
		const struct arch_kernel_info info = {.number = number, .arg = &lies[i]};

		assert_int_equal(arch_paging_kernel(&info, &p), -ENOENT);
	}
	/* Any paging at all ends. */
	memset(ram.bytes, 0xff, RAM_BYTES);
	for (unsigned page = 0; page < 20; page++)
		for (unsigned bits = 0; bits < 64; bits += 3)
			for (unsigned levels = 0; levels < 8; levels++) {
				p = (struct arch_paging){.page_shift = (uint8_t)page,
							 .va_bits = (uint8_t)bits,
							 .levels = levels};
				(void)!arch_walk(&p, &reader, UINT64_MAX - 7, &gpa, &len);
			}
	free(ram.bytes);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_granule_and_width),
		cmocka_unit_test(addresses_of_52_bits),
		cmocka_unit_test(tables_by_registers),
		cmocka_unit_test(registers_say_the_user_tables),
		cmocka_unit_test(user_pages_are_in_the_lower_half),
		cmocka_unit_test(tags_and_signatures_come_off),
		cmocka_unit_test(a_wide_kernel_on_a_narrow_cpu),
		cmocka_unit_test(lies_are_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
