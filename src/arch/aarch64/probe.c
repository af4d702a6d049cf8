/* Runs a small guest at EL1 that does, step by step, what a stock kernel does early. Any thread
 * without vCPUs of its own. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include "arch/aarch64/machine.h"
#include "arch/aarch64/regs.h"
#include "arch/probe_limit.h"
#include "base/util.h"

/* Guest memory: 64 KiB from RAM_GPA: code, and its vectors 2 KiB after it. A byte stored at
 * UART_GPA is the step that comes. */
#define PROBE_RAM KIB(64)

__asm__(".pushsection .rodata\n"
	".balign 2048\n"
	".globl probe_code, probe_code_end\n"
	"probe_code:\n"
	"	mov	x10, #0x0D000000\n"
	"	mov	w0, #1\n	strb	w0, [x10]\n"
	"	adr	x1, probe_vectors\n	msr	vbar_el1, x1\n	isb\n"
	"	svc	#0\n"
	"	mov	w0, #2\n	strb	w0, [x10]\n"
	"	mov	x1, #0x300000\n	msr	cpacr_el1, x1\n	isb\n"
	"	fmov	d0, xzr\n"
	"	mov	w0, #3\n	strb	w0, [x10]\n"
	"	mrs	x1, cntvct_el0\n	mrs	x1, cntfrq_el0\n"
	"	mov	w0, #4\n	strb	w0, [x10]\n"
	"	mov	x0, #0x84000000\n	hvc	#0\n"
	"	cmp	w0, #2\n	b.lt	1f\n"
	"	strb	wzr, [x10]\n"
	"1:	wfi\n	b	1b\n"
	".balign 2048\n"
	"probe_vectors:\n"
	"	.skip	0x200\n"
	"	eret\n"
	"probe_code_end:\n"
	".popsection\n");
extern const uint8_t probe_code[], probe_code_end[];

static const char *const step_names[] = {
	NULL,
	"an exception with its handler",
	"a floating-point register",
	"the virtual counter",
	"PSCI 0.2",
	"code at EL1", /* FIRST_STEP: it did not come to the first of its own */
};
#define FIRST_STEP (ARRAY_SIZE(step_names) - 1)

/* The step that the guest is at, in arg; 0 when it is through all, or ends in any other way. */
static int on_probe_exit(const struct kvm_run *run, void *arg)
{
	unsigned *step = arg;

	if (run->exit_reason != KVM_EXIT_MMIO || !run->mmio.is_write ||
	    run->mmio.phys_addr != UART_GPA)
		return 0;
	*step = MIN((unsigned)run->mmio.data[0], (unsigned)FIRST_STEP);
	return *step == 0 ? 0 : -1;
}

static int set_up(const struct kvm *vm, int vcpu)
{
	struct kvm_vcpu_init init = {0};
	uint64_t pc = RAM_GPA, pstate = PSTATE_EL1H | PSTATE_MASKED;
	struct kvm_one_reg reg = {.id = REG_PC, .addr = (uintptr_t)&pc};
	int r = kvm_ioctl(vm->vm_fd, KVM_ARM_PREFERRED_TARGET, &init);

	init.features[0] = 1u << KVM_ARM_VCPU_PSCI_0_2;
	if (r == 0)
		r = kvm_ioctl(vcpu, KVM_ARM_VCPU_INIT, &init);
	if (r == 0)
		r = kvm_ioctl(vcpu, KVM_SET_ONE_REG, &reg);
	reg = (struct kvm_one_reg){.id = REG_PSTATE, .addr = (uintptr_t)&pstate};
	return r < 0 ? r : kvm_ioctl(vcpu, KVM_SET_ONE_REG, &reg);
}

static unsigned long probe_type(const struct kvm *kvm)
{
	const struct guest_layout layout = {.range = {{RAM_GPA, PROBE_RAM, 0}}, .count = 1};
	struct kvm own = *kvm;

	own.phys_bits = (unsigned)kvm_cap(kvm, KVM_CAP_ARM_VM_IPA_SIZE);
	return arch_vm_type(&own, &layout);
}

int arch_probe(const struct kvm *kvm, struct arch_probe *ret_probe, struct error *err)
{
	struct kvm_userspace_memory_region slot = {.guest_phys_addr = RAM_GPA,
						   .memory_size = PROBE_RAM};
	unsigned step = FIRST_STEP;
	struct kvm_run *run = MAP_FAILED;
	struct kvm own = *kvm;
	int vcpu = -1, r;
	uint8_t *ram =
		mmap(NULL, PROBE_RAM, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (ram == MAP_FAILED)
		return error_set_shortage(err, -errno, "mapping a probe guest's memory");
	memcpy(ram, probe_code, (uintptr_t)probe_code_end - (uintptr_t)probe_code);
	__builtin___clear_cache((char *)ram, (char *)ram + PROBE_RAM);
	slot.userspace_addr = (uintptr_t)ram;
	own.vm_fd = -1;
	r = kvm_create_vm(&own, probe_type(kvm), err);
	if (r < 0)
		goto unmap;
	r = kvm_ioctl(own.vm_fd, KVM_SET_USER_MEMORY_REGION, &slot);
	if (r == 0)
		r = vcpu = kvm_ioctl(own.vm_fd, KVM_CREATE_VCPU, NULL);
	if (r >= 0)
		r = set_up(&own, vcpu);
	if (r == 0) {
		run = mmap(NULL, kvm->run_size, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu, 0);
		if (run == MAP_FAILED)
			r = -errno;
		else
			(void)!probe_run(vcpu, run, on_probe_exit,
					 &step); /* step says where it hung */
	}
	if (r < 0) {
		error_set_shortage(err, r, "running a probe guest");
	} else {
		ret_probe->runs_stock_kernel = step == 0;
		snprintf(ret_probe->lacks, sizeof(ret_probe->lacks), "%s",
			 step ? step_names[step] : "");
	}
	if (run != MAP_FAILED)
		munmap(run, kvm->run_size);
	fd_close(&vcpu);
	kvm_close_vm(&own);
unmap:
	munmap(ram, PROBE_RAM);
	return r < 0 ? r : 0;
}
