/* The table of architectures. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "arch/arch.h"
#include "arch/kinds.h"
#include "guest/elf_image.h"

static void found_by_both_names(void **state)
{
	static const char *const names[][2] = {{"x86_64", "amd64"}, {"aarch64", "arm64"}};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		const struct arch_kind *kind = arch_kind_find(names[i][0]);

		assert_non_null(kind);
		assert_ptr_equal(arch_kind_find(names[i][1]), kind);
		assert_string_equal(kind->name, names[i][0]);
		assert_string_equal(kind->debian, names[i][1]);
		/* What the lab and the choice of kernels go through. */
		assert_non_null(kind->kernel_in_tree[0]);
		assert_string_equal(kind->qemu_args[0], "-M");
		assert_string_equal(kind->qemu_args_old[0], "-M");
		assert_non_null(strstr(kind->lab_cmdline, "console="));
		assert_non_null(kind->lab_modules);
		assert_non_null(strstr(kind->qemu, kind->name));
		assert_false(kind->kernel_fits("/dev/null"));
		assert_null(kind->kernel_release("/dev/null"));
	}
	assert_null(arch_kind_find("riscv64"));
	assert_null(arch_kind_find(""));
}

static void own_is_what_this_program_is(void **state)
{
	(void)state;
	assert_string_equal(arch_kind_own()->name, arch_name);
	assert_int_equal(arch_kind_own()->elf_machine, elf_image_own_machine());
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(found_by_both_names),
		cmocka_unit_test(own_is_what_this_program_is),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
