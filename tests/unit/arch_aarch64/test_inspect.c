/* A kernel of 64 KiB pages, found by its own tables. The tables' index bits are the same for 48 and
 * 52 bits, so that one guest serves for both. */
#include <errno.h>
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "../inspect/kernel_fake.h"
#include "inspect/inspect.h"

#define TABLE 3u
#define PAGE  0x703u /* accessed, shareable */

/* swapper_pg_dir is the image's second 4 KiB; a CPU with 48 bits is given its last 64 entries. */
#define SYMBOL_GPA (FAKE_IMAGE_GPA + 0x1000u)
#define NARROW_GPA (SYMBOL_GPA + (1024 - 64) * 8)

static struct kernel_fake fake;

static void build_info(unsigned bits)
{
	char text[3000], *info = (char *)fake.ram + FAKE_INFO;
	const char *symbols = strstr(info, "SYMBOL(");
	int len;

	assert_non_null(symbols);
	len = snprintf(text, sizeof(text),
		       "OSRELEASE=" FAKE_RELEASE "\nPAGESIZE=65536\nNUMBER(VA_BITS)=52\n"
		       "NUMBER(TCR_EL1_T1SZ)=0x%x\nNUMBER(kimage_voffset)=0x%" PRIx64 "\n%s",
		       64 - bits, FAKE_IMAGE - FAKE_IMAGE_GPA, symbols);
	assert_in_range(len, 1, sizeof(text) - 1);
	strcpy(info, text);
}

/* The two tables below the top share the first 64 KiB. */
static void build(unsigned bits)
{
	kernel_fake_build(&fake, 0);
	build_info(bits);
	kernel_fake_entry(&fake, SYMBOL_GPA, FAKE_IMAGE >> 42 & 1023, 0 | TABLE);
	kernel_fake_entry(&fake, 0, FAKE_IMAGE >> 29 & 8191, 0 | TABLE);
	for (unsigned i = 0; i < FAKE_IMAGE_PAGES / 16; i++)
		kernel_fake_entry(&fake, 0, (FAKE_IMAGE >> 16 & 8191) + i,
				  (FAKE_IMAGE_GPA + i * 0x10000u) | PAGE);
}

static void a_wide_kernel_on_any_cpu(void **state UNUSED)
{
	static const struct {
		unsigned bits;
		uint64_t root_gpa;
	} cpus[] = {{52, SYMBOL_GPA}, {48, NARROW_GPA}};

	for (size_t i = 0; i < ARRAY_SIZE(cpus); i++) {
		struct inspect *in = NULL;
		struct error err = {0};
		uint64_t gva = 0;

		build(cpus[i].bits);
		if (inspect_new(&fake.mem, cpus[i].root_gpa, &in, &err))
			fail_msg("%u bits: %s", cpus[i].bits, err.what);
		assert_int_equal(in->space.paging.root_gpa, cpus[i].root_gpa);
		assert_int_equal(arch_paging_va_bits(&in->space.paging), cpus[i].bits);
		assert_int_equal(inspect_symbol(in, "jiffies_64", &gva, NULL), 0);
		assert_int_equal(gva, FAKE_JIFFIES);
		inspect_free(in);
	}
}

/* The same page tables at another place say that it is not this kernel's text. */
static void a_stale_copy_is_passed_over(void **state UNUSED)
{
	struct inspect *in = NULL;

	build(48);
	kernel_fake_entry(&fake, 0, FAKE_IMAGE >> 16 & 8191, (FAKE_IMAGE_GPA + 0x10000) | PAGE);
	assert_int_equal(inspect_new(&fake.mem, 0, &in, NULL), -ENODATA);
	assert_null(in);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_wide_kernel_on_any_cpu),
		cmocka_unit_test(a_stale_copy_is_passed_over),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
