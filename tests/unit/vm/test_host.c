/* Names for what a host is and does. */
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "arch/arch.h"
#include "vm/host.h"

static void an_arm64_host_is_one_by_any_firmware(void **state UNUSED)
{
	const char *kind = host_kind();

	assert_int_equal(!strcmp(kind, "none"), access("/dev/kvm", F_OK) < 0);
	if (strcmp(kind, "none"))
		assert_int_equal(!strcmp(kind, "kvm-arm64"), !strcmp(arch_name, "aarch64"));
}

static void exits_have_names(void **state UNUSED)
{
	assert_string_equal(host_exit_name(KVM_EXIT_MMIO), "mmio");
	assert_string_equal(host_exit_name(KVM_EXIT_ARM_NISV), "arm_nisv");
	assert_string_equal(host_exit_name(4096), "other");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(an_arm64_host_is_one_by_any_firmware),
		cmocka_unit_test(exits_have_names),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
