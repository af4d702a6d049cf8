/* VM and vCPU set-up on this host's KVM, with several shapes. Exits 77 where there is none. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <cmocka.h>

#include "arch/x86_64/machine.h"
#include "base/util.h"

#define CPUID_ROOM 256

static void set_up_all(const char *spec, const char *vendor)
{
	struct kvm kvm = {.fd = -1, .vm_fd = -1};
	struct guest_memory mem = {0};
	struct guest_layout layout;
	struct topology t;
	struct arch_vm_config config = {.topology = &t, .cpu_vendor = vendor};
	struct arch_vm *vm = NULL;
	struct error err = {0};
	unsigned phys_bits = 0;
	int *fds;

	assert_int_equal(topology_parse(spec, &t, NULL), 0);
	assert_int_equal(topology_set_memory(&t, MIB(64), NULL), 0);
	fds = calloc(topology_vcpus(&t), sizeof(*fds));
	assert_non_null(fds);
	if (kvm_open(&kvm, "/dev/kvm", &err) < 0 || arch_host_check(&kvm, &phys_bits, &err) < 0 ||
	    arch_memory_layout(&t, phys_bits, &layout, &err) < 0 ||
	    guest_memory_init(&mem, &layout, &err) < 0 || kvm_create_vm(&kvm, 0, &err) < 0 ||
	    arch_vm_new(&kvm, &mem, &config, &vm, &err) < 0 || kvm_set_memory(&kvm, &mem, &err) < 0)
		fail_msg("%s: %s", spec, err.what);
	assert_in_range(phys_bits, 32, 52);
	for (unsigned i = 0; i < topology_vcpus(&t); i++) {
		struct kvm_cpuid2 *got =
			calloc(1, sizeof(*got) + CPUID_ROOM * sizeof(got->entries[0]));
		struct kvm_mp_state mp;
		unsigned levels = 0;

		fds[i] = ioctl(kvm.vm_fd, KVM_CREATE_VCPU, (long)arch_vcpu_id(&t, i));
		assert_true(fds[i] >= 0);
		if (arch_vcpu_setup(vm, i, fds[i], &err) < 0)
			fail_msg("%s, vCPU %u: %s", spec, i, err.what);
		/* The first runs at once; the others wait for INIT and SIPI. */
		assert_int_equal(kvm_ioctl(fds[i], KVM_GET_MP_STATE, &mp), 0);
		assert_int_equal(mp.mp_state,
				 i == 0 ? KVM_MP_STATE_RUNNABLE : KVM_MP_STATE_UNINITIALIZED);
		/* KVM kept the ids. */
		assert_non_null(got);
		got->nent = CPUID_ROOM;
		assert_int_equal(kvm_ioctl(fds[i], KVM_GET_CPUID2, got), 0);
		for (uint32_t k = 0; k < got->nent; k++) {
			if (got->entries[k].function != 0xB)
				continue;
			assert_int_equal(got->entries[k].edx, arch_vcpu_id(&t, i));
			levels++;
		}
		assert_int_equal(levels, 3);
		free(got);
	}
	assert_int_equal(arch_vm_vcpus_created(vm, &err), 0);
	for (unsigned i = 0; i < topology_vcpus(&t); i++)
		close(fds[i]);
	arch_vm_free(vm);
	kvm_close(&kvm);
	guest_memory_done(&mem);
	free(fds);
}

static void shapes_are_set_up(void **state)
{
	static const char *const specs[] = {"1n1l1c1t", "1n2l2c2t", "2n4l8c2t", "1n3l3c1t"};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(specs); i++) {
		set_up_all(specs[i], NULL);
		set_up_all(specs[i], "amd");
		set_up_all(specs[i], "intel");
	}
}

/* A VM of one vCPU, set up with an entry. */
static void set_up_entry(const struct cpu_entry *entry, struct kvm_regs *regs,
			 struct kvm_sregs *sregs, struct kvm_lapic_state *lapic)
{
	struct kvm kvm = {.fd = -1, .vm_fd = -1};
	struct guest_memory mem = {0};
	struct topology t;
	const struct arch_vm_config config = {.topology = &t};
	struct arch_vm *vm;
	int fd;

	assert_int_equal(topology_parse("1n1l1c1t", &t, NULL), 0);
	assert_int_equal(kvm_open(&kvm, "/dev/kvm", NULL), 0);
	assert_int_equal(kvm_create_vm(&kvm, 0, NULL), 0);
	assert_int_equal(arch_vm_new(&kvm, &mem, &config, &vm, NULL), 0);
	vm->entry = *entry;
	fd = ioctl(kvm.vm_fd, KVM_CREATE_VCPU, 0);
	assert_true(fd >= 0);
	assert_int_equal(arch_vcpu_setup(vm, 0, fd, NULL), 0);
	assert_int_equal(kvm_ioctl(fd, KVM_GET_REGS, regs), 0);
	assert_int_equal(kvm_ioctl(fd, KVM_GET_SREGS, sregs), 0);
	assert_int_equal(kvm_ioctl(fd, KVM_GET_LAPIC, lapic), 0);
	close(fd);
	arch_vm_free(vm);
	kvm_close(&kvm);
}

static void the_first_vcpu_is_at_its_entry(void **state)
{
	struct cpu_entry entry = {.long_mode = true, .rip = 0x100200, .params_gpa = 0x7000};
	struct kvm_lapic_state lapic = {0};
	struct kvm_sregs sregs = {0};
	struct kvm_regs regs = {0};
	uint32_t lint0;

	(void)state;
	/* The boot protocol's 64-bit entry: paging on, RSI at the parameters, interrupts off. */
	set_up_entry(&entry, &regs, &sregs, &lapic);
	assert_true(regs.rip == 0x100200 && regs.rsi == 0x7000 && !(regs.rflags & 0x200));
	assert_true(sregs.cs.selector == 0x10 && sregs.cs.l && !sregs.cs.db);
	assert_true(sregs.ds.selector == 0x18 && sregs.ss.selector == 0x18);
	assert_true(sregs.cr3 == PAGE_TABLES_GPA && (sregs.cr4 & 0x20));
	assert_true((sregs.cr0 & 0x80000001) == 0x80000001 && (sregs.efer & 0x500) == 0x500);
	/* As KVM's reset leaves it: open for the PIC. */
	memcpy(&lint0, lapic.regs + 0x350, 4);
	assert_int_equal(lint0 & 0x10700, 0x700);
	/* PVH: 32-bit, flat, paging off, EBX at the start info. */
	entry = (struct cpu_entry){.rip = 0x1000040, .params_gpa = 0x7000};
	set_up_entry(&entry, &regs, &sregs, &lapic);
	assert_true(regs.rip == 0x1000040 && regs.rbx == 0x7000);
	assert_true(sregs.cs.db && !sregs.cs.l && sregs.cs.limit == UINT32_MAX);
	assert_true((sregs.cr0 & 0x80000001) == 1 && sregs.efer == 0 && sregs.cr4 == 0);
	assert_int_equal(sregs.tr.type, 11);
}

/* Past id 254 KVM keeps the local APICs only, and takes routes that name ids of 15 bits. */
static void ids_past_xapic_split_the_irqchip(void **state)
{
	struct kvm kvm = {.fd = -1, .vm_fd = -1};
	struct kvm_pit_config pit = {0};
	struct topology t;
	const struct arch_vm_config config = {.topology = &t};
	const struct kvm_route route[2] = {{4, 0xFEE00000 | 0xB1 << 12, 0x100, 0x31},
					   {5, 0xFEE00000, 0, 0x32}};
	struct arch_vm *vm = NULL;
	struct error err = {0};

	(void)state;
	assert_int_equal(topology_parse("1n14l9c2t", &t, NULL), 0);
	if (kvm_open(&kvm, "/dev/kvm", &err) < 0 || kvm_create_vm(&kvm, 0, &err) < 0 ||
	    arch_vm_new(&kvm, NULL, &config, &vm, &err) < 0)
		fail_msg("%s", err.what);
	assert_int_equal(kvm_ioctl(kvm.vm_fd, KVM_CREATE_PIT2, &pit), -ENOENT);
	assert_int_equal(kvm_set_msi_routes(&kvm, route, 2), 0);
	assert_int_equal(kvm_set_msi_routes(&kvm, NULL, 0), 0); /* all masked */
	arch_vm_free(vm);
	kvm_close(&kvm);
}

static void interrupts_and_doorbells_bind(void **state)
{
	struct kvm kvm = {.fd = -1, .vm_fd = -1};
	struct guest_memory mem = {0};
	struct topology t;
	const struct arch_vm_config config = {.topology = &t};
	struct arch_vm *vm;
	struct error err = {0};
	int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);

	(void)state;
	assert_int_equal(topology_parse("1n1l1c1t", &t, NULL), 0);
	assert_int_equal(kvm_open(&kvm, "/dev/kvm", &err), 0);
	assert_int_equal(kvm_create_vm(&kvm, 0, &err), 0);
	assert_int_equal(arch_vm_new(&kvm, &mem, &config, &vm, &err), 0);
	/* Not an eventfd: an error that says which. */
	assert_true(kvm_irqfd(&kvm, fd, 5, &err) < 0);
	assert_non_null(strstr(err.what, "interrupt 5"));
	err = (struct error){0};
	assert_true(kvm_ioeventfd_mmio(&kvm, fd, 0xC0000050, 1, &err) < 0);
	assert_non_null(strstr(err.what, "0xc0000050"));
	close(fd);
	arch_vm_free(vm);
	kvm_close(&kvm);
	assert_true(kvm.fd == -1 && kvm.vm_fd == -1);
	kvm_close(&kvm);
}

static void no_device_says_what_to_do(void **state)
{
	struct kvm kvm = {.fd = -1, .vm_fd = -1};
	struct error err = {0};

	(void)state;
	assert_int_equal(kvm_open(&kvm, "/dev/no-such-kvm", &err), -ENOENT);
	assert_int_equal(err.kind, ERROR_HOST);
	assert_non_null(strstr(err.what, "/dev/no-such-kvm"));
	assert_true(err.hint[0]);
	err = (struct error){0};
	assert_true(kvm_open(&kvm, "/dev/null", &err) < 0); /* no KVM behind it */
	assert_true(err.what[0] && kvm.fd == -1);
}

static void every_lacking_capability_is_named(void **state)
{
	static const struct kvm_need needs[] = {{KVM_CAP_USER_MEMORY, "USER_MEMORY"},
						{1000001, "FIRST"},
						{1000002, "SECOND"}};
	struct kvm kvm = {.fd = -1, .vm_fd = -1};
	struct error err = {0};

	(void)state;
	assert_int_equal(kvm_open(&kvm, "/dev/kvm", &err), 0);
	assert_int_equal(kvm_require(&kvm, needs, 1, &err), 0);
	assert_true(kvm_require(&kvm, needs, ARRAY_SIZE(needs), &err) < 0);
	assert_int_equal(err.kind, ERROR_CONTENTION);
	assert_non_null(strstr(err.what, "FIRST, SECOND"));
	assert_null(strstr(err.what, "USER_MEMORY"));
	kvm_close(&kvm);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(shapes_are_set_up),
		cmocka_unit_test(the_first_vcpu_is_at_its_entry),
		cmocka_unit_test(ids_past_xapic_split_the_irqchip),
		cmocka_unit_test(interrupts_and_doorbells_bind),
		cmocka_unit_test(no_device_says_what_to_do),
		cmocka_unit_test(every_lacking_capability_is_named),
	};

	if (access("/dev/kvm", R_OK | W_OK) < 0) {
		fprintf(stderr, "skipped: /dev/kvm: %s\n", strerror(errno));
		return 77;
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
