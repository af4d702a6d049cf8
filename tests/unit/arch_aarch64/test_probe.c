/* What a probe says of hosts that are played: its guest tells of its steps, and KVM of a GICv3.
 * aarch64. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "arch/aarch64/machine.h"

#define KVM_FD 1000 /* no descriptor */

static struct {
	bool has_gic;
	const uint8_t *steps; /* that the guest comes to; 0: through all */
	unsigned runs;
	int run_fd; /* a vCPU's run page */
} kvm_of_ours;

static int memory(void)
{
	int fd = memfd_create("probe", MFD_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, sizeof(struct kvm_run)), 0);
	return fd;
}

static int run_guest(void)
{
	struct kvm_run run = {.exit_reason = KVM_EXIT_MMIO};

	run.mmio.is_write = 1;
	run.mmio.len = 1;
	run.mmio.phys_addr = UART_GPA;
	run.mmio.data[0] = kvm_of_ours.steps[kvm_of_ours.runs++];
	if (run.mmio.data[0] == 0xff)
		run.exit_reason = KVM_EXIT_INTERNAL_ERROR;
	assert_int_equal(pwrite(kvm_of_ours.run_fd, &run, sizeof(run), 0), sizeof(run));
	return 0;
}

int __wrap_ioctl(int fd, unsigned long request, void *arg);
int __wrap_ioctl(int fd UNUSED, unsigned long request, void *arg)
{
	const struct kvm_create_device *device = arg;

	switch (request) {
	case KVM_CREATE_VM:
		return memory();
	case KVM_CREATE_VCPU:
		kvm_of_ours.run_fd = memory();
		return kvm_of_ours.run_fd;
	case KVM_RUN:
		return run_guest();
	case KVM_CREATE_DEVICE:
		assert_int_equal(device->type, KVM_DEV_TYPE_ARM_VGIC_V3);
		assert_int_equal(device->flags, KVM_CREATE_DEVICE_TEST);
		errno = kvm_of_ours.has_gic ? 0 : ENODEV;
		return errno ? -1 : 0;
	}
	return 0;
}

static struct arch_probe probe_of(bool has_gic, const uint8_t *steps)
{
	const struct kvm kvm = {.fd = KVM_FD, .vm_fd = -1, .run_size = sizeof(struct kvm_run)};
	struct arch_probe probe = {.lacks = "?"};
	struct error err = {0};

	memset(&kvm_of_ours, 0, sizeof(kvm_of_ours));
	kvm_of_ours.has_gic = has_gic;
	kvm_of_ours.steps = steps;
	assert_int_equal(arch_probe(&kvm, &probe, &err), 0);
	assert_int_equal(probe.lacks[0] == '\0', probe.runs_stock_kernel);
	return probe;
}

static const uint8_t through[] = {1, 2, 3, 4, 0}, stops[] = {1, 2, 0xff};

static void a_host_that_has_all(void **state UNUSED)
{
	assert_true(probe_of(true, through).runs_stock_kernel);
}

static void a_host_with_a_gic_of_version_2(void **state UNUSED)
{
	struct arch_probe probe = probe_of(false, through);

	assert_false(probe.runs_stock_kernel);
	assert_non_null(strstr(probe.lacks, "GICv3"));
}

/* What it came to says more. */
static void a_guest_that_stops(void **state UNUSED)
{
	for (unsigned has_gic = 0; has_gic < 2; has_gic++)
		assert_string_equal(probe_of(has_gic, stops).lacks, "a floating-point register");
}

static void a_missing_device_has_no_module_to_load(void **state UNUSED)
{
	struct kvm kvm;
	struct error err = {0};

	assert_int_equal(kvm_open(&kvm, "/dev/no-such-kvm", &err), -ENOENT);
	assert_null(strstr(err.hint, "modprobe"));
	assert_non_null(strstr(err.hint, "EL2"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_host_that_has_all),
		cmocka_unit_test(a_host_with_a_gic_of_version_2),
		cmocka_unit_test(a_guest_that_stops),
		cmocka_unit_test(a_missing_device_has_no_module_to_load),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
