/* Runs a small 64-bit guest at CPL 0 that does, step by step, what a stock kernel does early:
 * software back ends that emulate CPL 0 stop at the first instruction that they lack.
 * Any thread without vCPUs of its own. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "arch/arch.h"
#include "arch/probe_guest.h"
#include "base/util.h"

/* Guest memory: 64 KiB from 0.
 *   0x1000 PML4   0x2000 PDPT   0x3000 page directory (2 MiB pages)
 *   0x4000 GDT    0x5000 IDT    0x7000 save area   0x8000 stack, downwards   0x9000 code */
enum {
	PROBE_RAM = 0x10000,
	PML4_GPA = 0x1000,
	PDPT_GPA = 0x2000,
	PD_GPA = 0x3000,
	GDT_GPA = 0x4000,
	IDT_GPA = 0x5000,
	SAVE_GPA = 0x7000,
	STACK_GPA = 0x8000,
	CODE_GPA = 0x9000,
	PROBE_PORT = 0x99,
};

/* Each step announces itself on the port before it tries; the last one says that all held. */
__asm__(".pushsection .rodata\n"
	".globl probe_code, probe_bp, probe_ud, probe_code_end\n"
	"probe_code:\n"
	"	mov $1, %al\n	out %al, $0x99\n"
	"	int3\n"
	"	mov $2, %al\n	out %al, $0x99\n"
	"	ud2\n"
	"	mov $3, %al\n	out %al, $0x99\n"
	"	mov $0x7000, %edi\n"
	"	fxsave64 (%rdi)\n"
	"	mov $4, %al\n	out %al, $0x99\n"
	"	popcnt %rdi, %rcx\n"
	"	mov $5, %al\n	out %al, $0x99\n"
	"	xor %eax, %eax\n	xor %edx, %edx\n	xor %ebx, %ebx\n	xor %ecx, "
	"%ecx\n"
	"	lock cmpxchg16b (%rdi)\n"
	"	mov $6, %al\n	out %al, $0x99\n"
	"	swapgs\n	swapgs\n"
	"	mov $0, %al\n	out %al, $0x99\n"
	"1:	hlt\n	jmp 1b\n"
	"probe_bp:\n	iretq\n"
	"probe_ud:\n	addq $2, (%rsp)\n	iretq\n"
	"probe_code_end:\n"
	".popsection\n");
extern const uint8_t probe_code[], probe_bp[], probe_ud[], probe_code_end[];

static const char *const step_names[] = {
	NULL,
	"int3 with its handler",
	"ud2 with its handler",
	"fxsave64",
	"popcnt",
	"cmpxchg16b",
	"swapgs",
	"64-bit code at CPL 0", /* FIRST_STEP: it did not come to the first of its own */
};
#define FIRST_STEP (ARRAY_SIZE(step_names) - 1)

struct gate {
	uint16_t offset_low, selector;
	uint8_t ist, type;
	uint16_t offset_mid;
	uint32_t offset_high, reserved;
};

static void set_gate(uint8_t *ram, unsigned vector, const uint8_t *handler)
{
	uint64_t gva = CODE_GPA + ((uintptr_t)handler - (uintptr_t)probe_code);
	struct gate gate = {
		.offset_low = (uint16_t)gva,
		.selector = 8,
		.type = 0x8e, /* present, interrupt gate: SDM 3, figure 6-8 */
		.offset_mid = (uint16_t)(gva >> 16),
	};

	memcpy(ram + IDT_GPA + vector * sizeof(gate), &gate, sizeof(gate));
}

static void fill_ram(uint8_t *ram)
{
	static const uint64_t gdt[] = {0, 0x00af9b000000ffff, 0x00cf93000000ffff};
	uint64_t pml4 = PDPT_GPA | 3, pdpt = PD_GPA | 3, pd = 0x83;

	memcpy(ram + PML4_GPA, &pml4, sizeof(pml4));
	memcpy(ram + PDPT_GPA, &pdpt, sizeof(pdpt));
	memcpy(ram + PD_GPA, &pd, sizeof(pd));
	memcpy(ram + GDT_GPA, gdt, sizeof(gdt));
	memcpy(ram + CODE_GPA, probe_code, (uintptr_t)probe_code_end - (uintptr_t)probe_code);
	set_gate(ram, 3, probe_bp);
	set_gate(ram, 6, probe_ud);
}

static int set_registers(int vcpu)
{
	struct kvm_regs regs = {.rip = CODE_GPA, .rsp = STACK_GPA, .rflags = 2};
	struct kvm_segment code = {.limit = 0xffffffff,
				   .selector = 8,
				   .type = 11,
				   .present = 1,
				   .s = 1,
				   .l = 1,
				   .g = 1};
	struct kvm_segment data = {.limit = 0xffffffff,
				   .selector = 16,
				   .type = 3,
				   .present = 1,
				   .s = 1,
				   .db = 1,
				   .g = 1};
	struct kvm_sregs sregs;
	int r = kvm_ioctl(vcpu, KVM_GET_SREGS, &sregs);

	if (r < 0)
		return r;
	sregs.cs = code;
	sregs.ds = sregs.es = sregs.fs = sregs.gs = sregs.ss = data;
	sregs.gdt = (struct kvm_dtable){.base = GDT_GPA, .limit = 23};
	sregs.idt = (struct kvm_dtable){.base = IDT_GPA, .limit = 7 * 16 - 1};
	sregs.cr3 = PML4_GPA;
	sregs.cr4 = 0x220;	/* PAE, OSFXSR */
	sregs.cr0 = 0x80000033; /* PG, NE, ET, MP, PE */
	sregs.efer = 0x500;	/* LMA, LME */
	r = kvm_ioctl(vcpu, KVM_SET_SREGS, &sregs);
	return r < 0 ? r : kvm_ioctl(vcpu, KVM_SET_REGS, &regs);
}

static int copy_cpuid(const struct kvm *kvm, int vcpu)
{
	enum { ENTRIES = 256 };
	CLEANUP_FREE struct kvm_cpuid2 *cpuid =
		calloc(1, sizeof(*cpuid) + ENTRIES * sizeof(cpuid->entries[0]));
	int r;

	if (!cpuid)
		return -ENOMEM;
	cpuid->nent = ENTRIES;
	r = kvm_ioctl(kvm->fd, KVM_GET_SUPPORTED_CPUID, cpuid);
	return r < 0 ? r : kvm_ioctl(vcpu, KVM_SET_CPUID2, cpuid);
}

static int set_up(const struct kvm *vm, int vcpu, void *arg UNUSED)
{
	int r = copy_cpuid(vm, vcpu);

	return r < 0 ? r : set_registers(vcpu);
}

/* ---- what a stock kernel needs ----------------------------------------------------------------
 */

/* The step that the guest is at, in arg; it ends when it is through all, or in any other way. */
static bool on_probe_exit(const struct kvm_run *run, void *arg)
{
	unsigned *step = arg;

	if (run->exit_reason != KVM_EXIT_IO || run->io.port != PROBE_PORT)
		return false;
	*step = MIN(*((const uint8_t *)run + run->io.data_offset), FIRST_STEP);
	return *step != 0;
}

int arch_probe(const struct kvm *kvm, struct arch_probe *ret_probe, struct error *err)
{
	unsigned step = FIRST_STEP;
	const struct probe_guest guest = {
		.ram_size = PROBE_RAM,
		.fill = fill_ram,
		.set_up = set_up,
		.step = on_probe_exit,
		.arg = &step,
	};
	int r = probe_guest_run(kvm, &guest, err);

	if (r < 0)
		return r;
	ret_probe->runs_stock_kernel = step == 0;
	snprintf(ret_probe->lacks, sizeof(ret_probe->lacks), "%s", step ? step_names[step] : "");
	return 0;
}

/* ---- watchpoints --------------------------------------------------------------------------------
 */

/* One store; then it says that it is through. */
__asm__(".pushsection .rodata\n"
	".globl probe_store, probe_store_end\n"
	"probe_store:\n"
	"	movl $1, 0x7000\n"
	"	mov $0, %al\n	out %al, $0x99\n"
	"1:	hlt\n	jmp 1b\n"
	"probe_store_end:\n"
	".popsection\n");
extern const uint8_t probe_store[], probe_store_end[];

static void fill_store(uint8_t *ram)
{
	fill_ram(ram);
	memcpy(ram + CODE_GPA, probe_store, (uintptr_t)probe_store_end - (uintptr_t)probe_store);
}

static int set_up_watch(const struct kvm *vm, int vcpu, void *arg)
{
	const struct arch_watch watch[ARCH_WATCHES] = {{.gva = SAVE_GPA, .bytes = 4}};
	int r = set_up(vm, vcpu, arg);

	return r < 0 ? r : arch_vcpu_watch(vcpu, watch, ARCH_WATCH_RUN, NULL);
}

static bool on_watch_exit(const struct kvm_run *run, void *arg)
{
	const struct arch_watch watch[ARCH_WATCHES] = {{.gva = SAVE_GPA, .bytes = 4}};
	bool *fires = arg;
	uint32_t slots = 0, sure;

	if (run->exit_reason == KVM_EXIT_DEBUG)
		*fires = arch_exit_debug(run, watch, &slots, &sure) == ARCH_DEBUG_STORED &&
			 slots == 1;
	return false;
}

int arch_probe_watch(const struct kvm *kvm, bool *ret_fires, struct error *err)
{
	bool fires = false;
	const struct probe_guest guest = {
		.ram_size = PROBE_RAM,
		.fill = fill_store,
		.set_up = set_up_watch,
		.step = on_watch_exit,
		.arg = &fires,
	};
	int r = probe_guest_run(kvm, &guest, err);

	if (r == 0)
		*ret_fires = fires;
	return r;
}
