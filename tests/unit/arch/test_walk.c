/* Page walks: every level and page size, and tables that lead nowhere or to themselves. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "arch/arch.h"

#define RAM	 0x10000u
#define PRESENT	 UINT64_C(1)
#define LARGE	 UINT64_C(0x80)
#define NX	 (UINT64_C(1) << 63)
#define GVA_FIVE UINT64_C(0xff11223344556789)
#define GVA_FOUR UINT64_C(0xffff923344556789)

static uint64_t ram[RAM / 8];
static unsigned reads;

static int ram_read(const void *arg, uint64_t gpa, void *dst, uint64_t len)
{
	(void)arg;
	reads++;
	if (gpa >= RAM || len > RAM - gpa)
		return -EFAULT;
	memcpy(dst, (uint8_t *)ram + gpa, len);
	return 0;
}

static const struct guest_reader mem = {.read = ram_read};

static void set(uint64_t table, uint64_t gva, unsigned level, uint64_t entry)
{
	ram[(table + (gva >> (12 + 9 * (level - 1)) & 511) * 8) / 8] = entry;
}

/* Tables at level pages 0x5000, 0x4000, …, down to the leaf of level last. */
static struct arch_paging tables(unsigned levels, uint64_t gva, unsigned last, uint64_t leaf)
{
	memset(ram, 0, sizeof(ram));
	for (unsigned level = levels; level > last; level--)
		set(0x1000 * level, gva, level, (0x1000 * (level - 1)) | PRESENT | NX | 0x62);
	set(0x1000 * last, gva, last, leaf);
	return (struct arch_paging){.root_gpa = 0x1000 * levels, .levels = levels};
}

static int walk(const struct arch_paging *p, uint64_t gva, uint64_t *gpa, uint64_t *len)
{
	int rc;

	reads = 0;
	*gpa = *len = 77;
	rc = arch_walk(p, &mem, gva, gpa, len);
	if (rc)
		assert_true(*gpa == 77 && *len == 77);
	assert_true(reads <= p->levels);
	return rc;
}

static void pages_of_every_size(void **state)
{
	uint64_t gpa, len;

	(void)state;
	for (unsigned levels = 4; levels <= 5; levels++) {
		uint64_t gva = levels == 4 ? GVA_FOUR : GVA_FIVE;
		uint64_t frame = UINT64_C(0xabcdef8000000) & ~(GIB(1) - 1);
		struct arch_paging p = tables(levels, gva, 1, 0x7000 | PRESENT | NX | LARGE);

		assert_int_equal(arch_paging_va_bits(&p), levels == 4 ? 48 : 57);
		/* Bit 7 of a small page is PAT. */
		assert_int_equal(walk(&p, gva, &gpa, &len), 0);
		assert_int_equal(gpa, 0x7000 + 0x789);
		assert_int_equal(len, 0x1000 - 0x789);
		for (unsigned level = 2; level <= 3; level++) {
			uint64_t size = level == 2 ? MIB(2) : GIB(1);

			/* Bit 12 of a large page is PAT. */
			p = tables(levels, gva, level, frame | 0x1000 | PRESENT | LARGE | NX);
			assert_int_equal(walk(&p, gva, &gpa, &len), 0);
			assert_int_equal(gpa, frame + (gva & (size - 1)));
			assert_int_equal(len, size - (gva & (size - 1)));
			/* The neighbour is not there. */
			assert_int_equal(walk(&p, gva ^ size, &gpa, &len), -EFAULT);
		}
		for (unsigned level = 4; level <= levels; level++) {
			p = tables(levels, gva, level, frame | PRESENT | LARGE);
			assert_int_equal(walk(&p, gva, &gpa, &len), -EFAULT);
		}
		for (unsigned level = 1; level <= levels; level++) {
			p = tables(levels, gva, level, 0x7000 | 0x80); /* PROT_NONE's bits */
			assert_int_equal(walk(&p, gva, &gpa, &len), -EFAULT);
		}
	}
}

static void addresses_that_are_none(void **state)
{
	struct arch_paging p = tables(4, GVA_FOUR, 1, 0x7000 | PRESENT);
	uint64_t gpa, len;

	(void)state;
	assert_int_equal(walk(&p, GVA_FIVE, &gpa, &len), -EFAULT); /* not canonical */
	assert_int_equal(walk(&p, GVA_FOUR & ~(UINT64_C(1) << 47), &gpa, &len), -EFAULT);
	assert_int_equal(walk(&p, GVA_FOUR & (UINT64_MAX >> 16), &gpa, &len), -EFAULT);
	assert_int_equal(reads, 0);
	p.levels = 3;
	assert_int_equal(walk(&p, GVA_FOUR, &gpa, &len), -EFAULT);
	p.levels = 6;
	assert_int_equal(walk(&p, GVA_FOUR, &gpa, &len), -EFAULT);
}

static void tables_that_lead_nowhere(void **state)
{
	struct arch_paging p = tables(5, GVA_FIVE, 1, 0x7000 | PRESENT);
	uint64_t gpa, len;

	(void)state;
	for (unsigned level = 2; level <= 5; level++) {
		p = tables(5, GVA_FIVE, 1, 0x7000 | PRESENT);
		set(0x1000 * level, GVA_FIVE, level, UINT64_C(0xffffffffff000) | PRESENT);
		assert_int_equal(walk(&p, GVA_FIVE, &gpa, &len), -EFAULT);
	}
	/* A table that is its own child, all the way down: it ends, as a page. */
	memset(ram, 0, sizeof(ram));
	for (unsigned i = 0; i < 512; i++)
		ram[0x5000 / 8 + i] = 0x5000 | PRESENT;
	assert_int_equal(walk(&p, GVA_FIVE, &gpa, &len), 0);
	assert_int_equal(gpa, 0x5789);
	/* The root is outside; flags of CR3 don't matter. */
	p.root_gpa = UINT64_MAX;
	assert_int_equal(walk(&p, GVA_FIVE, &gpa, &len), -EFAULT);
	p.root_gpa = 0x5018;
	assert_int_equal(walk(&p, GVA_FIVE, &gpa, &len), 0);
}

static void the_encryption_bit_is_no_address(void **state)
{
	uint64_t sme = UINT64_C(1) << 47, gpa, len;
	struct arch_paging p = tables(4, GVA_FOUR, 1, 0x7000 | PRESENT);

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(ram); i++)
		ram[i] |= ram[i] ? sme : 0;
	assert_int_equal(walk(&p, GVA_FOUR, &gpa, &len), -EFAULT);
	p.not_address = sme;
	p.root_gpa |= sme;
	assert_int_equal(walk(&p, GVA_FOUR, &gpa, &len), 0);
	assert_int_equal(gpa, 0x7789);
}

struct line {
	const char *key;
	uint64_t value;
};

static bool number(const void *arg, const char *key, uint64_t *ret_value)
{
	for (const struct line *l = arg; l->key; l++) {
		if (strcmp(l->key, key))
			continue;
		*ret_value = l->value;
		return true;
	}
	return false;
}

static void kernels_say_where_their_tables_are(void **state)
{
	static const struct {
		struct line line[5];
		int rc;
		uint64_t root;
		unsigned levels;
	} want[] = {
		{{{"SYMBOL(swapper_pg_dir)", 0xffffffffa9c22000},
		  {"NUMBER(phys_base)", (uint64_t)-587202560},
		  {"NUMBER(pgtable_l5_enabled)", 0}},
		 0,
		 0x6c22000,
		 4},
		{{{"SYMBOL(init_top_pgt)", 0xffffffff82000000},
		  {"NUMBER(phys_base)", 0},
		  {"NUMBER(pgtable_l5_enabled)", 1}},
		 0,
		 0x2000000,
		 5},
		{{{"SYMBOL(swapper_pg_dir)", 0xffffffffa9c22000}}, -ENOENT},
		{{{"NUMBER(phys_base)", 0}}, -ENOENT},
		{{{"SYMBOL(swapper_pg_dir)", 0xffffffffa9c22008}, {"NUMBER(phys_base)", 0}},
		 -ENOENT},
		{{{"SYMBOL(swapper_pg_dir)", 0x1000}, {"NUMBER(phys_base)", 0}}, -ENOENT},
		{{{"SYMBOL(swapper_pg_dir)", 0xffffffff80001000},
		  {"NUMBER(phys_base)", (uint64_t)-0x2000}},
		 -ENOENT},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(want); i++) {
		struct arch_kernel_info info = {.number = number, .arg = want[i].line};
		struct arch_paging p = {.root_gpa = 77};

		assert_int_equal(arch_paging_kernel(&info, &p), want[i].rc);
		assert_int_equal(p.root_gpa, want[i].rc ? 77 : want[i].root);
		assert_int_equal(p.levels, want[i].levels);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(pages_of_every_size),
		cmocka_unit_test(addresses_that_are_none),
		cmocka_unit_test(tables_that_lead_nowhere),
		cmocka_unit_test(the_encryption_bit_is_no_address),
		cmocka_unit_test(kernels_say_where_their_tables_are),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
