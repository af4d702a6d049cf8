/* Module parameters out of a kernel's command line. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "guest/init/modparam.h"

static void parameters_are_found(void **state)
{
	static const struct {
		const char *cmdline, *module, *want;
	} cases[] = {
		{"quiet kvm_amd.vgif=0 panic=-1 kvm-amd.npt=1\n", "kvm_amd", "vgif=0 npt=1"},
		{"quiet kvm_amd.vgif=0", "kvm", ""},
		{"kvm.halt_poll_ns=0 kvm_amd.vgif=0", "kvm", "halt_poll_ns=0"},
		{"a.text=\"two words\" b.x=1", "a", "text=\"two words\""},
		{"a.text=\"never ends b.x=1", "b", ""},
		{"a.flag", "a", "flag"},
		{"a. b", "a", ""},
		{"xa.y=1 a.z=2", "a", "z=2"},
		{"", "a", ""},
		{"   \n", "a", ""},
		{"a.b=1", "", ""},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		char *got = modparam_find(cases[i].cmdline, cases[i].module);

		assert_string_equal(got, cases[i].want);
		free(got);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(parameters_are_found)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
