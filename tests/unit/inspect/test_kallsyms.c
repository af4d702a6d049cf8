/* kallsyms: every symbol both ways, both kinds of offsets, and tables that make no sense. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "inspect/inspect.h"
#include "kernel_fake.h"

static struct kernel_fake fake;

static int load(unsigned flags, void (*spoil)(void), struct kallsyms *k)
{
	struct space space = {.mem = &fake.mem,
			      .paging = {.root_gpa = FAKE_ROOT_GPA,
					 .levels = flags & FAKE_FIVE_LEVELS ? 5 : 4}};
	struct vmcoreinfo info;
	uint64_t at = 0, pages = UINT64_MAX;
	struct error err = {0};
	int rc;

	kernel_fake_build(&fake, flags);
	if (spoil)
		spoil();
	if (vmcoreinfo_next(&fake.mem, &at, &pages, &info))
		return -ESRCH;
	rc = kallsyms_load(&space, &info, k, &err);
	assert_int_equal(err.code, rc);
	return rc;
}

static void address_is(const struct kallsyms *k, const char *name, uint64_t want)
{
	uint64_t address = 77;

	assert_int_equal(kallsyms_address(k, name, &address), 0);
	assert_int_equal(address, want);
}

static void name_is(const struct kallsyms *k, uint64_t gva, const char *name, uint64_t offset,
		    uint64_t size)
{
	struct kallsyms_hit hit;

	assert_true(kallsyms_name(k, gva, &hit));
	assert_string_equal(hit.name, name);
	assert_int_equal(hit.offset, offset);
	assert_int_equal(hit.size, size);
}

static void symbols_are_found_both_ways(void **state)
{
	static const unsigned kinds[] = {0, FAKE_PERCPU_IN_IMAGE, FAKE_FIVE_LEVELS | FAKE_NOTE};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
		bool in_image = kinds[i] & FAKE_PERCPU_IN_IMAGE;
		struct kallsyms_hit hit;
		struct kallsyms k;
		uint64_t address;

		assert_int_equal(load(kinds[i], NULL, &k), 0);
		assert_int_equal(k.count, fake.symbols);
		address_is(&k, "_stext", FAKE_IMAGE);
		address_is(&k, "_text", FAKE_IMAGE);
		address_is(&k, "init_task", FAKE_INIT_TASK);
		address_is(&k, fake.long_name, FAKE_IMAGE + 0x180);
		address_is(&k, "_end", FAKE_IMAGE + 0x3f000);
		address_is(&k, "runqueues", (in_image ? FAKE_RELATIVE : 0) + FAKE_RQ_OFFSET);
		assert_int_equal(kallsyms_address(&k, "init_tas", &address), -ENOENT);
		assert_int_equal(kallsyms_address(&k, "", &address), -ENOENT);

		name_is(&k, FAKE_IMAGE, "_stext", 0, 0x100);
		name_is(&k, FAKE_IMAGE + 0xff, "_stext", 0xff, 0x100);
		name_is(&k, FAKE_IMAGE + 0x17f, "schedule", 0x7f, 0x80);
		name_is(&k, FAKE_IMAGE + 0x3f000, "_end", 0, 0);
		/* Past the end, before the start, and where only absolute values are. */
		assert_false(kallsyms_name(&k, FAKE_IMAGE + 0x3f001, &hit));
		assert_false(kallsyms_name(&k, UINT64_MAX, &hit));
		assert_false(kallsyms_name(&k, FAKE_IMAGE - 1, &hit));
		assert_false(kallsyms_name(&k, FAKE_RQ_OFFSET, &hit));
		assert_false(kallsyms_name(&k, 0, &hit));

		assert_string_equal(kallsyms_nearest(&k, "jifies_64"), "jiffies_64");
		assert_null(kallsyms_nearest(&k, "nothing_like_any_of_them"));
		kallsyms_done(&k);
	}
}

/* Every name leads to the first symbol that has it, as a search from the start finds. */
static void index_is_right(const struct kallsyms *k)
{
	for (unsigned i = 0; i < k->count; i++) {
		const char *name = k->names + k->entry[i].name;
		unsigned first = 0;

		while (strcmp(k->names + k->entry[first].name, name))
			first++;
		address_is(k, name, k->entry[first].address);
		if (i)
			assert_true(strcmp(k->names + k->entry[k->by_name[i - 1]].name,
					   k->names + k->entry[k->by_name[i]].name) <= 0);
	}
}

static void names_are_indexed(void **state)
{
	struct kallsyms_extra extra[] = {
		{.address = 3, .name = "schedule"},
		{.address = UINT64_MAX, .name = "schedule"},
		{.address = FAKE_IMAGE, .name = "\xff"},
		{.address = 2, .name = "a"},
		{.address = 4, .name = "schedul"},
		{.address = 5, .name = "scheduler_tick"},
		{.address = 6, .name = "scheduler_exec"},
		{.address = 1, .name = "~"},
	};
	struct kallsyms k;

	(void)state;
	for (unsigned kind = 0; kind < 4; kind++) {
		uint64_t address;

		assert_int_equal(load(kind, NULL, &k), 0);
		index_is_right(&k);
		assert_int_equal(kallsyms_address_or_0(&k, "schedule"), FAKE_SCHEDULE);
		assert_int_equal(kallsyms_address_or_0(&k, "a"), 0);
		assert_int_equal(kallsyms_add(&k, extra, ARRAY_SIZE(extra)), 0);
		index_is_right(&k);
		address_is(&k, "schedule", 3);
		address_is(&k, "a", 2);
		address_is(&k, "~", 1);
		assert_int_equal(kallsyms_address(&k, "b", &address), -ENOENT);
		assert_int_equal(kallsyms_address(&k, "\x7f", &address), -ENOENT);
		kallsyms_done(&k);
	}
	assert_int_equal(kallsyms_address(&k, "schedule", &(uint64_t){0}), -ENOENT);
}

static void no_symbols(void)
{
	memset(kernel_fake_at(&fake, FAKE_NUM_SYMS), 0, 4);
}

static void too_many(void)
{
	memcpy(kernel_fake_at(&fake, FAKE_NUM_SYMS), &(uint32_t){KALLSYMS_MAX_SYMBOLS + 1}, 4);
}

/* More than there are: names go on into zeros, which are empty names. */
static void some_too_many(void)
{
	memcpy(kernel_fake_at(&fake, FAKE_NUM_SYMS), &(uint32_t){fake.symbols + 1}, 4);
}

static void other_base(void)
{
	memcpy(kernel_fake_at(&fake, FAKE_BASE), &(uint64_t){FAKE_IMAGE + 8}, 8);
}

static void far_token(void)
{
	memset(kernel_fake_at(&fake, FAKE_INDEX), 0xff, 2);
	/* The table would end past what is mapped. */
	memset(fake.ram + 0x6000 + 8 * 4, 0, 8 * 4);
}

static void unmapped_names(void)
{
	memset(fake.ram + 0x6000 + 8 * 4, 0, 8);
}

static void unmapped_count(void)
{
	memset(fake.ram + 0x6000 + 8 * 3, 0, 8);
}

static void endless_length(void)
{
	memset(kernel_fake_at(&fake, FAKE_NAMES), 0xff, 2);
}

static void no_line(void)
{
	char *line = strstr((char *)fake.ram + FAKE_INFO, "SYMBOL(kallsyms_offsets)");

	*line = 'X';
}

static void nonsense_is_refused(void **state)
{
	static void (*const spoils[])(void) = {no_symbols,     too_many,      some_too_many,
					       other_base,     far_token,     unmapped_names,
					       unmapped_count, endless_length};
	struct kallsyms k;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(spoils); i++)
		assert_int_equal(load(0, spoils[i], &k), -EBADMSG);
	assert_int_equal(load(0, no_line, &k), -ENODATA);
}

/* The whole table over one page that repeats, a million symbols: bounded. */
static void a_loop_of_pages(void)
{
	for (unsigned i = 4; i < FAKE_IMAGE_PAGES; i++)
		memcpy(fake.ram + 0x6000 + 8 * i, fake.ram + 0x6000 + 8 * 4, 8);
	memcpy(kernel_fake_at(&fake, FAKE_NUM_SYMS), &(uint32_t){KALLSYMS_MAX_SYMBOLS}, 4);
}

static void a_table_that_repeats_ends(void **state)
{
	struct kallsyms k;

	(void)state;
	assert_int_equal(load(0, a_loop_of_pages, &k), -EBADMSG);
}

static void swap_two(void)
{
	uint32_t *offset = kernel_fake_at(&fake, FAKE_OFFSETS);
	uint32_t was = offset[6];

	offset[6] = offset[12];
	offset[12] = was;
}

static void addresses_out_of_order_are_sorted(void **state)
{
	struct kallsyms k;

	(void)state;
	assert_int_equal(load(0, swap_two, &k), 0);
	for (unsigned i = 1; i < k.count; i++)
		assert_true(k.entry[i - 1].address <= k.entry[i].address);
	address_is(&k, "schedule", FAKE_INIT_TASK);
	kallsyms_done(&k);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(symbols_are_found_both_ways),
		cmocka_unit_test(names_are_indexed),
		cmocka_unit_test(nonsense_is_refused),
		cmocka_unit_test(a_table_that_repeats_ends),
		cmocka_unit_test(addresses_out_of_order_are_sorted),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
