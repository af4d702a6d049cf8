/* Runs a small guest at EL1 that does, step by step, what a stock kernel does early. Any thread
 * without vCPUs of its own. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "arch/aarch64/machine.h"
#include "arch/aarch64/regs.h"
#include "arch/probe_guest.h"
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

static int set_up(const struct kvm *vm, int vcpu, void *arg UNUSED)
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

static void fill(uint8_t *ram)
{
	memcpy(ram, probe_code, (uintptr_t)probe_code_end - (uintptr_t)probe_code);
	__builtin___clear_cache((char *)ram, (char *)ram + PROBE_RAM);
}

static struct probe_guest guest_of(const struct kvm *kvm)
{
	return (struct probe_guest){
		.type = probe_type(kvm),
		.ram_gpa = RAM_GPA,
		.ram_size = PROBE_RAM,
		.fill = fill,
		.set_up = set_up,
	};
}

/* ---- what a stock kernel needs ----------------------------------------------------------------
 */

struct stock {
	unsigned step;
	bool has_gic;
};

/* Some hosts' interrupt controller can serve GICv2 guests only. */
static int set_up_stock(const struct kvm *vm, int vcpu, void *arg)
{
	struct kvm_create_device gic = {.type = KVM_DEV_TYPE_ARM_VGIC_V3,
					.flags = KVM_CREATE_DEVICE_TEST};
	struct stock *stock = arg;

	stock->has_gic = kvm_ioctl(vm->vm_fd, KVM_CREATE_DEVICE, &gic) == 0;
	return set_up(vm, vcpu, arg);
}

/* The step that the guest is at, in arg; it ends when it is through all, or in any other way. */
static bool on_probe_exit(const struct kvm_run *run, void *arg)
{
	unsigned *step = &((struct stock *)arg)->step;

	if (run->exit_reason != KVM_EXIT_MMIO || !run->mmio.is_write ||
	    run->mmio.phys_addr != UART_GPA)
		return false;
	*step = MIN((unsigned)run->mmio.data[0], (unsigned)FIRST_STEP);
	return *step != 0;
}

int arch_probe(const struct kvm *kvm, struct arch_probe *ret_probe, struct error *err)
{
	struct stock stock = {.step = FIRST_STEP};
	struct probe_guest guest = guest_of(kvm);
	const char *lacks = "";
	int r;

	guest.set_up = set_up_stock;
	guest.step = on_probe_exit;
	guest.arg = &stock;
	r = probe_guest_run(kvm, &guest, err);
	if (r < 0)
		return r;
	if (stock.step)
		lacks = step_names[stock.step];
	else if (!stock.has_gic)
		lacks = "KVM's GICv3";
	ret_probe->runs_stock_kernel = !lacks[0];
	snprintf(ret_probe->lacks, sizeof(ret_probe->lacks), "%s", lacks);
	return 0;
}

/* ---- watchpoints --------------------------------------------------------------------------------
 */

#define STORE_GPA (RAM_GPA + KIB(32))

/* One store; then it says that it is through. */
__asm__(".pushsection .rodata\n"
	".balign 8\n"
	".globl probe_store, probe_store_end\n"
	"probe_store:\n"
	"	mov	x10, #0x40000000\n	add	x10, x10, #0x8000\n"
	"	mov	w0, #1\n	str	w0, [x10]\n"
	"	mov	x10, #0x0D000000\n	strb	wzr, [x10]\n"
	"1:	wfi\n	b	1b\n"
	"probe_store_end:\n"
	".popsection\n");
extern const uint8_t probe_store[], probe_store_end[];

static const struct arch_watch probe_watch[ARCH_WATCHES] = {{.gva = STORE_GPA, .bytes = 4}};

static void fill_store(uint8_t *ram)
{
	memcpy(ram, probe_store, (uintptr_t)probe_store_end - (uintptr_t)probe_store);
	__builtin___clear_cache((char *)ram, (char *)ram + PROBE_RAM);
}

static int set_up_watch(const struct kvm *vm, int vcpu, void *arg)
{
	int r = set_up(vm, vcpu, arg);

	return r < 0 ? r : arch_vcpu_watch(vcpu, probe_watch, ARCH_WATCH_RUN, NULL);
}

static bool on_watch_exit(const struct kvm_run *run, void *arg)
{
	bool *fires = arg;
	uint32_t slots = 0, sure;

	if (run->exit_reason == KVM_EXIT_DEBUG)
		*fires = arch_exit_debug(run, probe_watch, &slots, &sure) == ARCH_DEBUG_STORING &&
			 slots == 1;
	return false;
}

int arch_probe_watch(const struct kvm *kvm, bool *ret_fires, struct error *err)
{
	bool fires = false;
	struct probe_guest guest = guest_of(kvm);
	int r;

	guest.fill = fill_store;
	guest.set_up = set_up_watch;
	guest.step = on_watch_exit;
	guest.arg = &fires;
	r = probe_guest_run(kvm, &guest, err);
	if (r == 0)
		*ret_fires = fires;
	return r;
}
