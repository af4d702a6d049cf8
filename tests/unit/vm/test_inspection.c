/* The kernel of a machine, whose memory is the tiny kernel's: when it is searched for. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "kernel_fake.h"
#include "vm/machine.h"

static struct kernel_fake fake;
static struct machine machine;
static struct vm_config config;

static void *page(uint64_t gpa)
{
	void *at = guest_ptr(&machine.mem, gpa, 4096);

	assert_non_null(at);
	return at;
}

static void machine_with_kernel(void)
{
	struct guest_layout layout = {.count = 1, .range = {{.size = FAKE_RAM}}};

	machine = (struct machine){.config = &config};
	kernel_fake_build(&fake, 0);
	assert_int_equal(guest_memory_init(&machine.mem, &layout, NULL), 0);
	assert_int_equal(guest_write(&machine.mem, 0, fake.ram, FAKE_RAM), 0);
}

static void machine_gone(void)
{
	machine_inspect_done(&machine);
	guest_memory_done(&machine.mem);
}

static void a_failure_holds_for_its_freeze(void **state)
{
	const struct inspect *in = NULL;
	struct error err = {0}, again = {0};

	(void)state;
	machine_with_kernel();
	memset(page(FAKE_INFO), 0, 4096);
	machine.freeze.state = FREEZE_FREEZING;
	machine.freeze.freezes = 1;
	assert_int_equal(machine_inspect(&machine, &in, &err), -ENODATA);
	/* It is there now, which only the next freeze sees. */
	memcpy(page(FAKE_INFO), fake.ram + FAKE_INFO, 4096);
	assert_int_equal(machine_inspect(&machine, &in, &again), -ENODATA);
	assert_string_equal(again.what, err.what);
	assert_int_equal(machine_inspect(&machine, &in, NULL), -ENODATA);
	assert_null(in);
	machine.freeze.freezes = 2;
	assert_int_equal(machine_inspect(&machine, &in, &again), 0);
	assert_string_equal(in->release, FAKE_RELEASE);
	machine_gone();
}

static void a_running_guest_is_searched_each_time(void **state)
{
	const struct inspect *in = NULL;
	struct error err = {0};

	(void)state;
	machine_with_kernel();
	memset(page(FAKE_INFO), 0, 4096);
	assert_int_equal(machine_inspect(&machine, &in, &err), -ENODATA);
	memcpy(page(FAKE_INFO), fake.ram + FAKE_INFO, 4096);
	assert_int_equal(machine_inspect(&machine, &in, &err), 0);
	/* Found is found. */
	memset(page(FAKE_INFO), 0, 4096);
	assert_int_equal(machine_inspect(&machine, &in, &err), 0);
	machine_gone();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_failure_holds_for_its_freeze),
		cmocka_unit_test(a_running_guest_is_searched_each_time),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
